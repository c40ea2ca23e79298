"""The detector of a bulk run, described so that each worker can open its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retinaface_tf.config import DetectionSettings, Precision, RuntimeName
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.inference.detector import Detector, RetinaFace
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from retinaface_tf.util.files import sha256_of
from retinaface_tf.weights.choose_file import preset_file, runnable_file


@dataclass(frozen=True)
class NetworkSpec:
    """What a worker needs to open the same detector as all others.

    Attributes:
        path: of the file that the runtime reads.
        runtime: "litert", "keras", "onnx", "openvino" or "openvino-bf16".
        sha256: of the weights that were asked for, before any conversion for the runtime.
        threads: cores each worker uses; None for all.
        providers: of the runtime onnx, or None.
    """

    path: str
    runtime: str
    sha256: str
    settings: DetectionSettings
    augmentation: Augmentation | None
    threads: int | None
    providers: str | None = None

    def open(self) -> Detector:
        """The detector."""
        detector = RetinaFace.from_file(
            self.path,
            runtime=self.runtime,
            threads=self.threads,
            providers=self.providers,
            settings=self.settings,
        )
        return AugmentedDetector(detector, self.augmentation) if self.augmentation else detector


def describe_network(
    preset: str,
    model: str | Path | None,
    runtime: RuntimeName,
    *,
    precision: Precision = "float32",
    threads: int | None,
    providers: str | Sequence[str] | None = None,
    settings: DetectionSettings,
    augmentation: Augmentation | None = None,
    notify: Callable[[str], None] | None = None,
) -> NetworkSpec:
    """Fetches and converts the weights where needed, once, before any worker starts.

    Args:
        preset: of `list_presets`; ignored where `model` is given.
        model: a file of weights, or None.
        runtime, threads, providers: as in `RetinaFace.from_file`.
        precision: of a preset, as in `RetinaFace.from_preset`.
        notify: called with a line of text before fetching and conversion.

    Raises:
        ConfigError: the runtime does not fit.
        WeightsError: there are no such weights.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads={threads} must be at least 1.")
    if model is not None:
        weights = Path(model)
    else:
        weights = preset_file(preset, runtime, precision=precision, notify=notify)
    try:
        sha256 = sha256_of(weights)
    except OSError:
        raise WeightsError(f"Cannot read {weights}: there is no such file.") from None
    path, runtime = runnable_file(weights, runtime, notify=notify)
    if providers is not None and not isinstance(providers, str):
        providers = ",".join(providers)
    return NetworkSpec(
        str(path.absolute()), runtime, sha256, settings, augmentation, threads, providers
    )
