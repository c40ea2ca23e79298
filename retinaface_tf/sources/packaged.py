"""Trained networks that come with this package, ready to run without TensorFlow.

For each there are, with a common beginning STEM of their names:

    STEM.weights.npz   float16 weights, for training, exports and the Keras runtime
    STEM.tflite        float32, what the LiteRT runtime runs, at any size of images
    STEM-int8.tflite   the same with int8 weights and maps
    STEM.onnx          float32, for onnxruntime where there is no LiteRT
    STEM.json          what they are, their checksums, and figures

`training/release.py` makes them of a trained network. All hold the same numbers: those of the float16
weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinaface_tf.errors import WeightsError
from retinaface_tf.sources.source import Fetched
from retinaface_tf.util.files import sha256_of

FOLDER = Path(__file__).resolve().parent / "files"


def file_names(stem: str) -> dict[str, str]:
    """The names of a network's files, by what they are: weights, float32, int8, onnx, facts."""
    return {
        "weights": f"{stem}.weights.npz",
        "float32": f"{stem}.tflite",
        "int8": f"{stem}-int8.tflite",
        "onnx": f"{stem}.onnx",
        "facts": f"{stem}.json",
    }


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """Weights that lie in this package; a `WeightsSource`.

    Attributes:
        stem: what the names of their files begin with.
        licence: of the weights, as an SPDX identifier, with what is to be said of it.
        folder: of the files.
    """

    stem: str
    licence: str
    folder: Path = FOLDER
    origin: str = "in this package"
    how_large: str = ""

    @property
    def digest(self) -> str:
        """Of the packaged weights: the next release's are others."""
        return sha256_of(self._path("weights"))

    def describe(self) -> list[str]:
        """Where they are, and their licence."""
        return [f"{self.origin}, nothing to fetch", f"licence: {self.licence}"]

    def file(self, kind: str, precision: str = "float32") -> Path | None:
        """Weights, an .onnx, or a .tflite of either precision.

        Raises:
            WeightsError: it is missing from this installation.
        """
        if kind != "tflite" and precision != "float32":
            return None
        return self._path(precision if kind == "tflite" else kind)

    def _path(self, kind: str) -> Path:
        path = self.folder / file_names(self.stem)[kind]
        if not path.is_file():
            raise WeightsError(
                f"{path} is missing from this installation; install retinaface-tf again."
            )
        return path

    def fetch(
        self, folder: Path, notify: Callable[[str], None], given: Path | None = None
    ) -> Fetched:
        """The packaged weights; nothing is fetched."""
        return Fetched(self._path("weights"), "")

    def figures(self) -> dict[str, str]:
        """What `STEM.json` says was measured."""
        figures: dict[str, str] = self.facts().get("figures", {})
        return figures

    def facts(self) -> dict[str, Any]:
        """What `STEM.json` says; empty where there is none.

        Raises:
            WeightsError: it is damaged.
        """
        path = self.folder / file_names(self.stem)["facts"]
        try:
            facts: dict[str, Any] = json.loads(path.read_bytes())
            return facts
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            raise WeightsError(f"{path} is damaged; install retinaface-tf again.") from None
