"""The detector of a bulk run, described so that each worker can open its own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector
    from retinaface_tf.inference.test_time_augmentation import Augmentation


@dataclass(frozen=True)
class NetworkSpec:
    """What a worker needs to know to search images as all others do.

    Attributes:
        path: of the file that the runtime reads.
        runtime: "litert", "keras" or "onnx".
        sha256: of the weights that were asked for, before any conversion for the runtime.
        settings: of the detector.
        augmentation: fields of `Augmentation`, or None.
        threads: cores each worker uses; None for all.
    """

    path: str
    runtime: str
    sha256: str
    settings: DetectionSettings
    augmentation: dict[str, Any] | None
    threads: int | None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkSpec:
        """The inverse of `dataclasses.asdict`, also after JSON has made lists of tuples."""
        settings = {name: _tuple(value) for name, value in values["settings"].items()}
        settings = DetectionSettings(**settings)
        augmentation = values["augmentation"]
        if augmentation is not None:
            augmentation = {name: _tuple(value) for name, value in augmentation.items()}
        return cls(**{**values, "settings": settings, "augmentation": augmentation})

    def open(self) -> Detector:
        """The detector."""
        from retinaface_tf.inference.detector import RetinaFace

        detector = RetinaFace.from_file(
            self.path, runtime=self.runtime, threads=self.threads, settings=self.settings
        )
        if self.augmentation is None:
            return detector
        from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector

        return AugmentedDetector(detector, Augmentation(**self.augmentation))


def describe_network(
    preset: str,
    model: str | Path | None,
    runtime: str | None,
    *,
    precision: str = "float32",
    threads: int | None,
    settings: DetectionSettings,
    augmentation: Augmentation | None = None,
    notify: Callable[[str], None] | None = None,
) -> NetworkSpec:
    """Fetches and converts what must be, once, before any worker starts.

    Args:
        preset: of `list_presets`; not looked at where there is a model.
        model: a file of the user's, or None.
        runtime, threads: as in `RetinaFace.from_file`.
        precision: of a preset, as in `RetinaFace.from_preset`.
        settings: of the detector.
        augmentation: also search each image in these forms.
        notify: is told of fetching and conversion.

    Raises:
        ConfigError: the runtime does not fit.
        WeightsError: there are no such weights.
    """
    from retinaface_tf.weights.files import preset_file, runnable_file

    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} must be at least 1.")
    if model is not None:
        weights = Path(model)
    else:
        weights = preset_file(preset, runtime, precision=precision, notify=notify)
    try:
        sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError:
        raise WeightsError(f"Cannot read {weights}: there is no such file.") from None
    path, runtime = runnable_file(weights, runtime, notify=notify)
    values = None if augmentation is None else dataclasses.asdict(augmentation)
    return NetworkSpec(str(path.absolute()), runtime, sha256, settings, values, threads)


def num_vertices(detector: Detector) -> int | None:
    """Vertices of each face that it finds; None where it gives no meshes."""
    return detector.num_vertices


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
