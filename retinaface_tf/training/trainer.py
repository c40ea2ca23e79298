"""A whole training run: data, devices, epochs, checkpoints, evaluation, files.

The folder of a run:
    config.json                 everything the run depends on
    checkpoints/                what a restart goes on from
    metrics.csv, tensorboard/   numbers
    best.weights.h5             of the epoch with the highest average precision
    last.weights.h5             of the last epoch
    detections.png, learning.png, precision_recall.png
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from retinaface_tf.data.pipeline import TrainingPipeline
from retinaface_tf.data.sources import ImageSource
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.images.save import save_image
from retinaface_tf.layers.batch_norm import training_batch_norm
from retinaface_tf.losses.config import ENLARGED
from retinaface_tf.losses.distillation import Distillation, shrink
from retinaface_tf.mesh.topology import MeshTopology, load_topology
from retinaface_tf.models.batch_norm import batch_norms
from retinaface_tf.models.parts import freeze
from retinaface_tf.training.agreement import check_agreement, code_facts, configuration_facts
from retinaface_tf.training.averaging import MovingAverage
from retinaface_tf.training.callbacks import MeanOfLogs, OnStep, StopOnDivergence
from retinaface_tf.training.checkpoint import Checkpoints, read_variables, write_variables
from retinaface_tf.training.config import TrainingConfig, read_config
from retinaface_tf.training.datasets import DataSets, open_data_sets
from retinaface_tf.training.dense_start import begin_dense_head
from retinaface_tf.training.distributed import Devices, choose_devices
from retinaface_tf.training.evaluation import Evaluation, Evaluator
from retinaface_tf.training.initialize import initial_network, open_source
from retinaface_tf.training.log import RunLog, renamed_terms
from retinaface_tf.training.plots import detection_sheet, learning_plot, precision_recall_plot
from retinaface_tf.training.schedule import DetectorSchedule
from retinaface_tf.training.step import DetectorTraining, make_optimizer
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.progress import Track, no_progress
from retinaface_tf.weights.hdf5 import save_weights

# Steps between TensorBoard's scalars of single steps.
_SCALAR_STEPS = 20


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes:
        folder: where its files are.
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
) -> TrainingResult:
    """Trains as configured, going on from the newest checkpoint in the folder if there is one.

    Args:
        config: of the run.
        folder: for everything that is written.
        track: shows progress.
        notify: is told what happens, a line at a time.
        on_step: called after each step with the number of steps done and what the step returned.

    Raises:
        ConfigError: an option cannot be, or the folder belongs to another run.
        DataError: data cannot be read.
        TrainingDiverged: the loss is not a finite number any more.
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
        _claim_folder(folder, config)
    data = open_data_sets(config, track)
    for line in data.notes:
        notify(line)
    if devices.workers > 1:
        facts = {"training images": f"{data.train.count} (digest {data.train.digest()})"}
        check_agreement(devices, facts, "give every host the same labels and images")
        notify(f"{devices.workers} workers agree on code, configuration and data")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return _Run(config, folder, devices, data, track, notify, on_step).run()
    finally:
        keras.config.set_dtype_policy(policy)


def _claim_folder(folder: Path, config: TrainingConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path, values = folder / "config.json", config.to_dict()
    if path.is_file():
        try:
            # Old names are read, and options that did not exist then have their defaults.
            old = read_config(path).to_dict()
            reason = ", ".join(name for name in values if old[name] != values[name])
        except ConfigError as error:
            reason = str(error).rstrip(".")
        if reason:
            raise ConfigError(
                f"{folder} holds a run with other settings ({reason}); choose another --out, or "
                "remove that folder to start again."
            )
    write_whole(path, (json.dumps(values, indent=1) + "\n").encode(), error=DataError)


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


class _Run:
    """The state of one run in one process."""

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        devices: Devices,
        data: DataSets,
        track: Track,
        notify: Callable[[str], None],
        on_step: Callable[[int, dict], None],
    ):
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
            enlarged=ENLARGED if config.distillation.source else 1,
        )
        steps = self.pipeline.steps_per_epoch
        with devices.strategy.scope():
            with training_batch_norm(fixed=config.init.fix_statistics):
                self.network, note = initial_network(
                    config.network, config.init, self._first_images
                )
            freeze(self.network, config.init.freeze)
            kept = config.init.source != "random" and "dense" in config.init.keep
            if self.pipeline.topology is not None and not kept:
                begin_dense_head(self.network, self.pipeline)
            if devices.replicas > 1:
                # The statistics of the global batch instead of each replica's.
                for norm in batch_norms(self.network):
                    norm.synchronized = True
            schedule = DetectorSchedule(config.schedule, steps, config.epochs)
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
            f"{data.train.count} training images, {steps} steps of {config.data.batch} an epoch, "
            f"{config.epochs} epochs on {devices.replicas} device(s)"
        )
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self.step = 0
        self.sums = MeanOfLogs()
        self.best: float | None = None
        self.before: float | None = None
        self.after: float | None = None

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
        steps = self.pipeline.steps_per_epoch
        total = steps * self.config.epochs
        epochs_done = self.step // steps
        if self.devices.chief:
            self.log = RunLog(self.folder, epochs_done)
            self.evaluator = Evaluator(
                self.network, self.data.validation, self.config.data.validation_size
            )
            if self.step == 0:
                self._finish_epoch(0, 0.0)
        with self.track("training", total) as advance:
            advance(self.step)
            for epoch in range(epochs_done, self.config.epochs):
                started = time.monotonic()
                self._train_epoch(epoch, self.step - epoch * steps, advance)
                if self.devices.chief:
                    self._finish_epoch(epoch + 1, time.monotonic() - started)
                self.sums.sums = {}
                self._save_checkpoint()
        if self.devices.chief:
            self._finish()
        return TrainingResult(self.folder, self.step, self.before, self.after, self.best)

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
        self.step, self.sums.sums = state["step"], renamed_terms(state["sums"])
        self.best, self.before, self.after = state["best"], state["before"], state["after"]
        self.notify(f"going on from step {self.step}")

    def _save_checkpoint(self) -> None:
        if self.devices.chief:
            state = {
                "step": self.step,
                "sums": self.sums.sums,
                "best": self.best,
                "before": self.before,
                "after": self.after,
            }
            values = read_variables(self.model.parts, self.optimizer, self.average)
            self.checkpoints.save(self.step, values, state)

    def _callbacks(self, advance) -> list[keras.callbacks.Callback]:
        def count(logs):
            self.step += 1

        def average(logs):
            if self.average:
                self.average.update(self.step)

        def report(logs):
            self.on_step(self.step, logs)
            advance(1, f"loss {float(logs['loss']):.3f}")
            if self.devices.chief and self.step % _SCALAR_STEPS == 0:
                values = {k: float(v) for k, v in logs.items() if k != "bad_images"}
                rate = float(self.optimizer.learning_rate)
                self.log.scalars(self.step, {**values, "learning_rate": rate})

        def save(logs):
            inside = self.step % self.pipeline.steps_per_epoch
            if inside and self.step % self.config.checkpoint_steps == 0:
                self._save_checkpoint()

        guard = StopOnDivergence(
            self.model.terms,
            self.data.train.name,
            lambda: self.step,
            f"the last good checkpoint is in {self.checkpoints.folder}. Lower schedule.peak, or set "
            "optimizer.clip_norm, or look at those files.",
        )
        return [OnStep(count), guard, OnStep(average), self.sums, OnStep(report), OnStep(save)]

    def _train_epoch(self, epoch: int, first_step: int, advance) -> None:
        callbacks = self._callbacks(advance)
        if self.devices.workers > 1:
            self._loop(epoch, first_step, callbacks)
            return
        # A dataset an epoch: it is a function of the epoch's number and the first step, which is
        # what makes a restart in the middle of an epoch exact.
        self.model.fit(
            self.pipeline.epoch(epoch, first_step=first_step),
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    def _loop(self, epoch: int, first_step: int, callbacks) -> None:
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

        if not hasattr(self, "_run_step"):

            @tf.function
            def run_step(iterator):
                return strategy.run(self.model.train_step, args=(next(iterator),))

            self._run_step = run_step
        iterator = iter(strategy.distribute_datasets_from_function(share))
        hooks = keras.callbacks.CallbackList(callbacks, model=self.model)
        for step in range(first_step, self.pipeline.steps_per_epoch):
            logs = self._run_step(iterator)
            local = {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}
            hooks.on_train_batch_end(step, local)

    def _finish_epoch(self, done: int, seconds: float) -> None:
        """Evaluates, writes the weights and the epoch's row."""
        row = {
            "epoch": done,
            "step": self.step,
            "learning_rate": float(self.optimizer.learning_rate),
            "seconds": round(seconds, 2),
            **self.sums.means(),
        }
        last = done == self.config.epochs
        wanted = done == 0 or last or done % self.config.evaluate_epochs == 0
        with self.average.in_place() if self.average else contextlib.nullcontext():
            if wanted and self.data.validation.images:
                precision = self._evaluate(done).average_precision
                row["average_precision"] = precision
                if done == 0:
                    self.before = precision
                self.after = precision
                if done and (self.best is None or precision > self.best):
                    self.best = precision
                    save_weights(self.network, self.folder / "best.weights.h5")
            if done:
                save_weights(self.network, self.folder / "last.weights.h5")
        self.log.add(row)

    def _evaluate(self, done: int) -> Evaluation:
        with self.track("evaluating", len(self.data.validation.images)) as advance:
            evaluation = self.evaluator(advance)
        self.notify(f"epoch {done}: average precision {evaluation.average_precision:.4f}")
        images = {
            "detections": detection_sheet(self.evaluator, evaluation),
            "precision_recall": precision_recall_plot(evaluation),
        }
        for name, image in images.items():
            save_image(self.folder / f"{name}.png", image)
            self.log.image(self.step, name, image)
        return evaluation

    def _finish(self) -> None:
        save_image(self.folder / "learning.png", learning_plot(self.log.rows))
        self.log.close()
