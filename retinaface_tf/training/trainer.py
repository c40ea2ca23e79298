"""A whole training run: data, devices, epochs, checkpoints, evaluation, files.

The folder of a run:
    config.json                 everything the run depends on
    checkpoints/                what a restart goes on from
    metrics.csv, tensorboard/   numbers
    train.log                   a line an epoch
    best.weights.h5             of the highest average precision, that of the start included
    last.weights.h5             of the last epoch
    detections.png              before and after; learning.png, precision_recall.png
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.sources import ImageSource
from retinaface_tf.errors import ConfigError, TrainingDiverged
from retinaface_tf.images.read import read_image
from retinaface_tf.images.save import save_image
from retinaface_tf.layers.batch_norm import training_batch_norm
from retinaface_tf.losses.distillation import Distillation, shrink
from retinaface_tf.mesh.topology import MeshTopology, load_topology
from retinaface_tf.models.batch_norm import batch_norms
from retinaface_tf.training.agreement import check_agreement, code_facts, configuration_facts
from retinaface_tf.training.averaging import MovingAverage
from retinaface_tf.training.checkpoint import Checkpoints, read_variables, write_variables
from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.training.datasets import DataSets, open_data_sets
from retinaface_tf.training.distributed import Devices, choose_devices
from retinaface_tf.training.evaluation import Evaluation, Evaluator
from retinaface_tf.training.initialize import initial_network, open_source
from retinaface_tf.training.log import RunLog, epoch_line, renamed_terms
from retinaface_tf.training.plots import (
    detection_sheet,
    learning_plot,
    precision_recall_plot,
    side_by_side,
)
from retinaface_tf.training.run_folder import BEFORE, claim_folder
from retinaface_tf.training.schedule import DetectorSchedule
from retinaface_tf.training.step import DetectorTraining, make_optimizer, require_finite
from retinaface_tf.training.train_dense_head import begin_dense_head
from retinaface_tf.util.files import is_file
from retinaface_tf.util.progress import Track, no_progress
from retinaface_tf.weights.hdf5 import save_weights

# Steps between TensorBoard's scalars of single steps.
_SCALAR_STEPS = 20
# Folder of them, in that of the run.
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        steps: done in all.
        before, after: average precision at the start and at the end; None where not evaluated.
        best: the highest of all epochs.
    """

    folder: Path
    steps: int
    before: float | None
    after: float | None
    best: float | None


def train(
    config: TrainingConfig,
    folder: Path | str,
    *,
    track: Track = no_progress,
    notify: Callable[[str], None] = lambda line: None,
    on_step: Callable[[int, dict], None] = lambda step, logs: None,
    strict: bool = False,
) -> TrainingResult:
    """Trains as configured, going on from the newest checkpoint in the folder if there is one.

    Args:
        on_step: called after each step with the number of steps done and what the step returned.

    Raises:
        ConfigError: an option cannot be, or the folder belongs to another run.
        DataError: data cannot be read.
        TrainingDiverged: the loss is not a finite number any more; with `strict` also where the
            average precision fell by 0.05 or the loss grew tenfold, which is else a warning.
    """
    if keras.backend.backend() != "tensorflow":
        raise ConfigError("Training needs Keras on TensorFlow; unset KERAS_BACKEND.")
    devices = choose_devices(config.devices)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    if config.data.batch % devices.replicas:
        raise ConfigError(
            f"data.batch={config.data.batch} cannot be shared by {devices.replicas} devices; "
            "choose a multiple."
        )
    check_agreement(devices, code_facts(), "install the same on every host")
    check_agreement(devices, configuration_facts(config), "give every worker the same options")
    folder = Path(folder)
    if devices.chief:
        claim_folder(folder, config)
    data = open_data_sets(config, track)
    for line in data.notes:
        notify(line)
    if devices.workers > 1:
        facts = {"training images": f"{data.train.count} (digest {data.train.digest()})"}
        if data.crops is not None:
            facts["faces to paste"] = f"{len(data.crops)} (digest {data.crops.digest()})"
        check_agreement(devices, facts, "give every host the same labels and images")
        notify(f"{devices.workers} workers agree on code, configuration and data")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _Run(config, folder, devices, data, track, notify, on_step, strict).run()
    finally:
        keras.config.set_dtype_policy(policy)


def _mesh_topology(config: TrainingConfig, source: ImageSource) -> MeshTopology | None:
    """The topology of the meshes L_mesh is for; None where there is no such loss."""
    if not config.loss.mesh_weight:
        return None
    topology = load_topology()
    if source.vertices != topology.num_vertices:
        found = f"theirs have {source.vertices} vertices" if source.vertices else "none has one"
        raise ConfigError(
            f"loss.mesh_weight needs faces with meshes of {topology.num_vertices} vertices, and "
            f"{found}; set data.meshes to a folder that `retinaface-tf data label-mesh` wrote."
        )
    return topology


@dataclass
class _State:
    """What a checkpoint keeps of a run beside its variables.

    Attributes:
        step: number of steps done.
        sums: of what the steps of the current epoch returned; "steps" is their number.
        before, after, best: average precisions, see `TrainingResult`.
        best_epoch: the number of epochs done at the best.
        first_loss, recent_loss: moving averages of the loss, after the first ten steps and now.
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    before: float | None = None
    after: float | None = None
    best: float | None = None
    best_epoch: int = 0
    first_loss: float | None = None
    recent_loss: float = 0.0

    def add(self, logs: dict) -> None:
        """Counts a step."""
        self.step += 1
        loss = float(logs["loss"])
        self.recent_loss = loss if self.step == 1 else 0.9 * self.recent_loss + 0.1 * loss
        if self.step == 10:
            self.first_loss = self.recent_loss
        for name, value in {**logs, "steps": 1.0}.items():
            if name != "bad_images":
                self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def means(self) -> dict[str, float]:
        """The mean of each name over the epoch's steps so far."""
        steps = self.sums.get("steps", 0.0)
        return {k: v / steps for k, v in self.sums.items() if k != "steps"} if steps else {}


class _Run:
    """One run in one process."""

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        devices: Devices,
        data: DataSets,
        track: Track,
        notify: Callable[[str], None],
        on_step: Callable[[int, dict], None],
        strict: bool,
    ):
        if config.patience and devices.workers > 1:
            raise ConfigError(
                "patience is for one host, as the chief alone evaluates; set it to 0."
            )
        self.strict, self.alarms = strict, set()
        self.config, self.folder, self.devices = config, folder, devices
        self.track, self.notify, self.on_step = track, notify, on_step
        self.data = data
        self.pipeline = TrainingPipeline(
            data.train,
            config.network,
            size=config.data.size,
            batch=config.data.batch,
            augment=config.augment,
            match=config.match,
            seed=config.seed,
            topology=_mesh_topology(config, data.train),
            score_targets=config.loss.score_targets,
            enlarged=config.distillation.enlarged if config.distillation.source else 1,
            crops=data.crops,
        )
        with devices.strategy.scope():
            with training_batch_norm():
                self.network, note = initial_network(
                    config.network, config.init, self._first_images
                )
            kept = config.init.source != "random" and "dense" in config.init.keep
            if self.pipeline.topology is not None and not kept:
                begin_dense_head(self.network, self.pipeline)
            if devices.replicas > 1:
                # The statistics of the global batch instead of each replica's.
                for norm in batch_norms(self.network):
                    norm.synchronized = True
            schedule = DetectorSchedule(
                config.schedule, self.pipeline.steps_per_epoch, config.epochs
            )
            self.optimizer = make_optimizer(config.optimizer, schedule, devices.replicas)
            self.model = DetectorTraining(
                self.network,
                self.pipeline.anchors,
                config.loss,
                config.optimizer,
                config.match,
                self._distillation(),
            )
            self.model.compile(optimizer=self.optimizer, jit_compile=False)
            self.optimizer.build(self.model.learned)
        momentum = config.optimizer.ema
        self.average = None if momentum is None else MovingAverage(self.network.variables, momentum)
        notify(note)
        notify(
            f"{data.train.count} training images, {self.pipeline.steps_per_epoch} steps of {config.data.batch} an epoch, "
            f"{config.epochs} epochs on {devices.replicas} device(s)"
        )
        self.checkpoints = Checkpoints(folder / CHECKPOINTS)
        self.state = _State()

    def _first_images(self) -> Iterator[np.ndarray]:
        for batch in self.pipeline.epoch(0):
            images = batch["image"]
            yield np.asarray(shrink(images) if self.pipeline.enlarged > 1 else images)

    def _distillation(self) -> Distillation | None:
        config = self.config.distillation
        if config.source is None:
            return None
        with training_batch_norm():
            teacher = open_source(self.config.network, config.source)
        return Distillation(teacher, self.config.data.size, config)

    def run(self) -> TrainingResult:
        self._restore()
        state, steps, epochs = self.state, self.pipeline.steps_per_epoch, self.config.epochs
        epochs_done = state.step // steps
        if self.devices.chief:
            self.log = RunLog(self.folder, epochs_done)
            self.evaluator = Evaluator(
                self.network, self.data.validation, self.config.data.validation_size
            )
            if state.step == 0:
                self._finish_epoch(0, 0.0, 0.0, 0.0)
        with self.track("training", steps * epochs) as advance:
            advance(state.step)
            begun = time.monotonic()
            for epoch in range(epochs_done, epochs):
                if self.config.patience and epoch - state.best_epoch >= self.config.patience:
                    self.notify(
                        f"stopped after {epoch} epochs, {self.config.patience} of them without a "
                        "better average precision (patience)"
                    )
                    break
                started, first = time.monotonic(), state.step
                self._train_epoch(epoch, state.step - epoch * steps, advance)
                if self.devices.chief:
                    seconds = time.monotonic() - started
                    speed = (state.step - first) * self.config.data.batch / max(seconds, 1e-9)
                    left = (time.monotonic() - begun) / (epoch + 1 - epochs_done)
                    self._finish_epoch(epoch + 1, seconds, speed, left * (epochs - epoch - 1))
                state.sums = {}
                self._save_checkpoint()
        if self.devices.chief:
            self.log.close()
        return TrainingResult(self.folder, state.step, state.before, state.after, state.best)

    def _restore(self) -> None:
        newest = self.checkpoints.load_newest()
        facts = {"as its last step": str(newest[1]["step"]) if newest else "none"}
        remedy = "--out must be one folder that all hosts share"
        check_agreement(self.devices, facts, f"{remedy}, here {self.folder.resolve()}")
        if newest is None:
            return
        values, state, damaged = newest
        for path in damaged:
            self.notify(f"{path} is damaged; going on from an older checkpoint")
        write_variables(self.model.parts, self.optimizer, self.average, values)
        self.state = _State(**{**state, "sums": renamed_terms(state["sums"])})
        self.notify(f"going on from step {self.state.step}")

    def _save_checkpoint(self) -> None:
        if self.devices.chief:
            values = read_variables(self.model.parts, self.optimizer, self.average)
            self.checkpoints.save(self.state.step, values, asdict(self.state))

    def _alarm(self, what: str) -> None:
        """Warns once of something, or stops the run.

        Raises:
            TrainingDiverged: with `strict`.
        """
        line = (
            f"{what}. Look at learning.png and detections.png in {self.folder}, lower "
            "schedule.peak, or check the labels; best.weights.h5 is the best so far"
        )
        if self.strict:
            raise TrainingDiverged(f"{line}.")
        if what.split()[0] not in self.alarms:
            self.notify(f"warning: {line}")
        self.alarms.add(what.split()[0])

    def _after_step(self, logs: dict, advance) -> None:
        state = self.state
        state.add(logs)
        advice = (
            f"the last good checkpoint is in {self.checkpoints.folder}. Lower schedule.peak, or set "
            "optimizer.clip_norm, or look at those files."
        )
        require_finite(logs, self.model.terms, self.data.train.name, state.step, advice)
        if self.average:
            self.average.update(state.step)
        self.on_step(state.step, logs)
        advance(1, f"loss {float(logs['loss']):.3f}")
        if self.devices.chief and state.step % _SCALAR_STEPS == 0:
            values = {k: float(v) for k, v in logs.items() if k != "bad_images"}
            rate = float(self.optimizer.learning_rate)
            self.log.scalars(state.step, {**values, "learning_rate": rate})
        if state.first_loss and state.recent_loss > 10 * state.first_loss:
            self._alarm(
                f"loss {state.recent_loss:.3g} at step {state.step} is ten times that of the start, "
                f"{state.first_loss:.3g}"
            )
        inside = state.step % self.pipeline.steps_per_epoch
        if inside and state.step % self.config.checkpoint_steps == 0:
            self._save_checkpoint()

    def _train_epoch(self, epoch: int, first_step: int, advance) -> None:
        if self.devices.workers > 1:
            self._loop(epoch, first_step, advance)
            return
        # A dataset an epoch: it is a function of the epoch's number and the first step, which is
        # what makes a restart in the middle of an epoch exact.
        after_step = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self._after_step(logs, advance)
        )
        self.model.fit(
            self.pipeline.epoch(epoch, first_step=first_step),
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[after_step],
            shuffle=False,
            verbose=0,
        )

    def _loop(self, epoch: int, first_step: int, advance) -> None:
        """The same step in a loop of our own: Keras' fit does not run over several workers."""
        strategy = self.devices.strategy

        def share(context):
            return self.pipeline.epoch(
                epoch,
                first_step=first_step,
                worker=self.devices.worker,
                workers=self.devices.workers,
                batch=context.get_per_replica_batch_size(self.config.data.batch),
            )

        iterator = iter(strategy.distribute_datasets_from_function(share))
        for _ in range(first_step, self.pipeline.steps_per_epoch):
            logs = self._run_step(iterator)
            local = {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}
            self._after_step(local, advance)

    @functools.cached_property
    def _run_step(self) -> Callable:
        """A step of all of this worker's devices on an iterator's next batches."""

        @tf.function
        def run_step(iterator):
            return self.devices.strategy.run(self.model.train_step, args=(next(iterator),))

        return run_step

    def _finish_epoch(self, done: int, seconds: float, speed: float, left: float) -> None:
        """Evaluates, writes the weights and the epoch's row and line; see `epoch_line`."""
        state = self.state
        row = {
            "epoch": done,
            "step": state.step,
            "learning_rate": float(self.optimizer.learning_rate),
            "seconds": round(seconds, 2),
            **state.means(),
        }
        wanted = done in (0, self.config.epochs) or done % self.config.evaluate_epochs == 0
        with self.average.in_place() if self.average else contextlib.nullcontext():
            if wanted and self.data.validation.images:
                precision = self._evaluate(done).average_precision
                row["average_precision"] = state.after = precision
                if done == 0:
                    state.before = precision
                if state.best is None or precision > state.best:
                    state.best, state.best_epoch = precision, done
                    save_weights(self.network, self.folder / "best.weights.h5")
            if done:
                save_weights(self.network, self.folder / "last.weights.h5")
        self.log.add(row)
        line = epoch_line(self.log.rows, self.config.epochs, speed, left)
        self.log.note(line)
        self.notify(line)
        if done and wanted:
            save_image(self.folder / "learning.png", learning_plot(self.log.rows))
        if row.get("average_precision", 1.0) <= (state.before or 0.0) - 0.05:
            self._alarm(
                f"average precision fell from {state.before:.4f} to {state.after:.4f} in epoch {done}"
            )

    def _evaluate(self, done: int) -> Evaluation:
        with self.track("evaluating", len(self.data.validation.images)) as advance:
            evaluation = self.evaluator(advance)
        sheet = detection_sheet(self.evaluator, evaluation)
        if done == 0:
            save_image(self.folder / BEFORE, sheet)
        elif is_file(self.folder / BEFORE):
            captions = (
                f"before: average precision {self.state.before:.3f}",
                f"after epoch {done}: {evaluation.average_precision:.3f}",
            )
            sheet = side_by_side((read_image(self.folder / BEFORE), sheet), captions)
        images = {
            "detections": sheet,
            "precision_recall": precision_recall_plot(evaluation),
        }
        for name, image in images.items():
            save_image(self.folder / f"{name}.png", image)
            self.log.image(self.state.step, name, image)
        return evaluation
