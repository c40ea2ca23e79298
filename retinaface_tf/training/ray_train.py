"""Training on the machines of a Ray cluster: Ray Train starts the workers, and all again after one is lost.

Checkpoints are the run's own: a run that was started again ends as one that was not disturbed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinaface_tf.errors import ConfigError, RetinaFaceError, WorkerError, first_line
from retinaface_tf.training.config import TrainingConfig
from retinaface_tf.util.extras import require
from retinaface_tf.util.process import to_stderr
from retinaface_tf.util.ray_cluster import ray_cluster

if TYPE_CHECKING:
    from retinaface_tf.training.trainer import TrainingResult

# What Ray notes of its workers, in the folder of the run while it lasts; and lines for the person.
_NOTES, _LINES = ".ray-train", "lines.txt"


def train_on_ray(
    config: TrainingConfig,
    folder: Path,
    *,
    workers: int,
    address: str | None = None,
    restarts: int = 3,
    strict: bool = False,
) -> TrainingResult:
    """As `trainer.train`, by several workers: a GPU each where the cluster has as many, else a core.

    Args:
        folder: of the run; the same path on all machines, as the data's.
        workers: how many; `config.data.batch` is shared by them.
        address: of the cluster, see `ray_cluster`.
        restarts: how often all are started again after one was lost.

    Raises:
        MissingPackage: Ray is not installed.
        ConfigError: there are fewer processors than workers.
        WorkerError: the cluster does not answer, or workers were lost more often.
        RetinaFaceError: as `trainer.train`.
    """
    require("ray", for_="--engine ray")
    from retinaface_tf.training.checkpoint import Checkpoints
    from retinaface_tf.training.trainer import CHECKPOINTS, TrainingResult

    folder = folder.absolute()
    shutil.rmtree(folder / _NOTES, ignore_errors=True)  # of a run that was killed
    with ray_cluster(address) as ray:
        places = ray.cluster_resources()
        if places.get("CPU", 0) < workers:
            raise ConfigError(
                f"--workers {workers} needs as many processors, and the Ray cluster has "
                f"{places.get('CPU', 0):.0f}."
            )
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer

        trainer = TensorflowTrainer(
            _work,
            train_loop_config={"config": config.to_dict(), "folder": str(folder), "strict": strict},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=places.get("GPU", 0) >= workers,
                placement_strategy="SPREAD",
            ),
            run_config=RunConfig(
                storage_path=str(folder / _NOTES), failure_config=FailureConfig(restarts)
            ),
        )
        try:
            with _shown(folder / _NOTES / _LINES):
                trainer.fit()
        except SystemExit:  # how Ray answers Ctrl-C
            raise KeyboardInterrupt from None
        except Exception as error:
            raise _reason(error) from error
        finally:
            shutil.rmtree(folder / _NOTES, ignore_errors=True)
    state = Checkpoints(folder / CHECKPOINTS).load_newest()[1]
    figures = (state[name] for name in ("step", "before", "after", "best"))
    return TrainingResult(folder, *figures)


def _work(values: dict[str, Any]) -> None:
    """What each worker does; Ray has set `TF_CONFIG`."""
    import ray.train

    os.environ.pop("TF_USE_LEGACY_KERAS", None)  # Ray sets it; this is Keras 3
    from retinaface_tf.training.trainer import train

    chief = ray.train.get_context().get_world_rank() == 0
    lines = Path(values["folder"], _NOTES, _LINES)
    lines.parent.mkdir(parents=True, exist_ok=True)

    def write(line: str) -> None:
        with lines.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    train(
        TrainingConfig.from_dict(values["config"]),
        values["folder"],
        notify=write if chief else lambda line: None,
        strict=values["strict"],
    )


@contextlib.contextmanager
def _shown(path: Path) -> Iterator[None]:
    """What worker 0 writes there is printed, without all that Ray and TensorFlow say."""
    done = threading.Event()

    def show() -> None:
        shown = 0
        while True:
            ended = done.wait(1)
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            whole = text.rfind("\n") + 1
            if shown < whole:
                to_stderr(text[shown : whole - 1])
            shown = max(shown, whole)
            if ended:
                return

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _reason(error: Exception) -> RetinaFaceError:
    """The sentence of the worker that refused, or what ended the workers."""
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        while failure is not None:
            if isinstance(failure, RetinaFaceError):
                return failure
            failure = getattr(failure, "cause", None) or failure.__cause__
    return WorkerError(
        f"Workers were lost more often than --restarts allows ({first_line(error)[:200]}); the same "
        "command goes on from the last checkpoint."
    )
