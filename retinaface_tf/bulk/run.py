"""A bulk run: shards in, one file of results each, by one of the engines."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import retinaface_tf
from retinaface_tf.bulk.attempts import ATTEMPTS_FOLDER
from retinaface_tf.bulk.manifest import begin_or_resume, describe_run, finished_shards
from retinaface_tf.bulk.network import describe_network
from retinaface_tf.bulk.processes import run_in_processes
from retinaface_tf.bulk.ray_data import NETWORK_FOLDER, run_on_ray
from retinaface_tf.bulk.shards import list_shards
from retinaface_tf.bulk.worker import Job, detect_shard
from retinaface_tf.config import (
    DEFAULT_SETTINGS,
    DetectionSettings,
    Precision,
    RuntimeName,
    SettingsChanges,
)
from retinaface_tf.errors import ConfigError
from retinaface_tf.inference.test_time_augmentation import Augmentation
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import is_folder
from retinaface_tf.util.process import available_cores, to_stderr
from retinaface_tf.util.progress import progress_bar

ENGINES = ("processes", "ray", "loop")


@dataclass(frozen=True)
class BulkReport:
    """What is in the folder of a bulk run when it is done.

    Attributes:
        images, faces, errors: of all shards.
        shards: files of results.
        resumed: how many of these an earlier run had written.
    """

    images: int
    faces: int
    errors: int
    shards: int
    resumed: int


def detect_bulk(
    inputs: str | os.PathLike | Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    engine: str = "processes",
    preset: str = DEFAULT_PRESET,
    model: str | os.PathLike[str] | None = None,
    runtime: RuntimeName = "auto",
    precision: Precision = "float32",
    settings: DetectionSettings = DEFAULT_SETTINGS,
    augmentation: Augmentation | None = None,
    shard_size: int = 500,
    image_column: str | None = None,
    name_column: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    providers: str | Sequence[str] | None = None,
    batch_size: int = 8,
    retries: int = 3,
    ray_address: str | None = None,
    gpus_per_worker: float = 0,
    progress: bool | None = None,
    **changes: Unpack[SettingsChanges],
) -> BulkReport:
    """Detects the faces of any number of images and writes them to Parquet files.

    A shard's results are one file `faces-NNNNNN.parquet` in `out`, whole or not there, with the
    columns of `results.result_schema`. Called again with the same arguments after the run was
    stopped, it does only the missing shards. An image that fails has a row that says why.

    Args:
        inputs: images, tars, Parquet tables, folders of these, and patterns; see `list_shards`.
        out: folder of the results; new, empty, or that of the run to resume.
        engine: "processes" on this machine; "ray", here or on a cluster; "loop", in this process.
        preset, model, runtime, precision: the network, as in `RetinaFace.from_preset` and `from_file`.
        shard_size: images in a shard.
        image_column, name_column: of Parquet tables; None for the only column of bytes, and for the
            number of the row.
        workers: processes or actors; None for one a processor (with ray, of the cluster).
        threads: cores each worker uses; None for one, and for all in a loop.
        providers: of the runtime onnx, as in `RetinaFace.from_preset`.
        retries: how often a shard's workers may crash before the run stops; see `Attempts`.
        ray_address, gpus_per_worker: see `run_on_ray`.
        progress: show a bar on stderr; None: only if that is a terminal.
        changes: single settings by keyword, over `settings`: threshold, iou, size, max_faces,
            large_faces, zoom, budget.

    Raises:
        ConfigError: an option is out of range, or `out` is another run's.
        MissingPackage: pyarrow or Ray is not installed.
        ImageError: an input is missing, or holds no image.
        WeightsError: the network cannot be read or fetched.
        DataError: results cannot be written.
        WorkerError: workers do not start or crash too often, or the Ray cluster does not answer.
    """
    _check(engine, workers, batch_size, retries, ray_address, gpus_per_worker)
    inputs = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    out = Path(os.path.abspath(out))  # noqa: PTH100 - Path.resolve would follow links
    _require_outside(inputs, out)
    network = describe_network(
        preset,
        model,
        runtime,
        precision=precision,
        threads=threads or (None if engine == "loop" else 1),
        providers=providers,
        settings=settings.replace(**changes),
        augmentation=augmentation,
        notify=to_stderr,
    )
    shards = list_shards(
        inputs, rows=shard_size, image_column=image_column, name_column=name_column
    )
    version = retinaface_tf.__version__
    begin_or_resume(out, describe_run(network, shards, version))
    reports = finished_shards(out, shards)
    resumed = len(reports)
    todo = [shard for shard in shards if shard.number not in reports]
    job = Job(network, str(out), batch_size, retries, uuid.uuid4().hex, version)
    if todo:
        if engine == "ray":
            new = run_on_ray(
                job, todo, workers=workers, address=ray_address, gpus_per_worker=gpus_per_worker
            )
        elif engine == "processes":
            new = run_in_processes(job, todo, workers=workers or available_cores())
        else:
            detector = network.open()
            new = (detect_shard(detector, shard, job.out, batch_size) for shard in todo)
        hidden = not (sys.stderr.isatty() if progress is None else progress)
        with progress_bar(transient=True, disable=hidden) as bar:
            done = sum(report.images for report in reports.values())
            total = sum(shard.part.count for shard in shards)
            task = bar.add_task("images", total=total, completed=done)
            for report in new:
                reports[report.number] = report
                bar.advance(task, report.images)
    _clean(out)
    return BulkReport(
        images=sum(report.images for report in reports.values()),
        faces=sum(report.faces for report in reports.values()),
        errors=sum(report.errors for report in reports.values()),
        shards=len(reports),
        resumed=resumed,
    )


def _check(
    engine: str,
    workers: int | None,
    batch_size: int,
    retries: int,
    ray_address: str | None,
    gpus_per_worker: float,
) -> None:
    if engine not in ENGINES:
        raise ConfigError(f"There is no engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    for name, value, least in (
        ("workers", workers, 1),
        ("batch_size", batch_size, 1),
        ("retries", retries, 0),
    ):
        if value is not None and (not isinstance(value, int) or value < least):
            raise ConfigError(f"{name}={value!r} must be a whole number, at least {least}.")
    if gpus_per_worker < 0:
        raise ConfigError(f"gpus_per_worker={gpus_per_worker} must not be negative.")
    if engine == "loop" and workers is not None:
        raise ConfigError("The engine 'loop' has no workers; choose processes or ray.")
    if engine != "ray" and (ray_address is not None or gpus_per_worker):
        raise ConfigError(
            f"A Ray address and GPUs a worker are for the engine 'ray', not {engine!r}."
        )
    require("ray" if engine == "ray" else "bulk", for_=f"The engine {engine!r}")


def _require_outside(inputs: list[str | os.PathLike[str]], out: Path) -> None:
    for given in inputs:
        folder = Path(os.path.abspath(given))  # noqa: PTH100 - as for out
        if is_folder(folder) and out.is_relative_to(folder):
            raise ConfigError(
                f"The results would be in {out}, among the inputs in {given}; choose an --out "
                "outside of it."
            )


def _clean(out: Path) -> None:
    """Removes what is not needed any more, and what killed workers left behind."""
    for folder in (ATTEMPTS_FOLDER, NETWORK_FOLDER):
        shutil.rmtree(out / folder, ignore_errors=True)
    for partial in out.glob(".faces-*.parquet.*"):
        partial.unlink(missing_ok=True)
