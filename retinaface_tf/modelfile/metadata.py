"""What an exported file says about itself: one JSON block with a checksum of the whole file.

The same block stands in a .tflite (metadata entry `retinaface_tf`) and in an .onnx (metadata
property of that name). It is found and checked in the raw bytes, before any parser of the format
sees them: those parsers are C++ and trust what they read, and a damaged file can end the process.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import retinaface_tf
from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.util.bounds import read_whole

FORMAT = 1
ENTRY = "retinaface_tf"
_START = b'{"retinaface_tf_sha256": "'
_BLANK = b"0" * 64
# The block is about 2 kB.
_MAX_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Suppression:
    """Settings of the post-processing inside a graph.

    Attributes:
        threshold: least score of a face.
        iou: overlap above which the worse detection is dropped.
        max_faces: rows of the outputs, most faces of an image; None for as many as are found.

    Raises:
        ConfigError: a value is out of range.
    """

    threshold: float
    iou: float
    max_faces: int | None

    def __post_init__(self) -> None:
        DetectionSettings(threshold=self.threshold, iou=self.iou, max_faces=self.max_faces)


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Everything needed to feed an exported network and to read its answer.

    Attributes:
        config: the network; its levels are the anchor table, its variances decode the deltas.
        precision: "float32", "float16", "dynamic" or "int8".
        input_size: (height, width) the file was made for; None where any size goes.
        input_dtype: "float32" or "uint8".
        resizable: other sizes that are multiples of the coarsest stride may be fed after resizing
            the input.
        suppression: of a graph that ends in faces; None for raw heads.
        threshold, iou: settings to begin with when decoding raw heads; those of `suppression`
            where there is one.
        preset: the trained network's name, if it has one.
        version: of the package that wrote the file.

    Raises:
        ConfigError: threshold or IoU is out of range.
    """

    config: RetinaFaceConfig
    precision: str = "float32"
    input_size: tuple[int, int] | None = None
    input_dtype: str = "float32"
    resizable: bool = True
    suppression: Suppression | None = None
    threshold: float = DetectionSettings.threshold
    iou: float = DetectionSettings.iou
    preset: str | None = None
    version: str = retinaface_tf.__version__

    def __post_init__(self) -> None:
        if self.suppression:
            object.__setattr__(self, "threshold", self.suppression.threshold)
            object.__setattr__(self, "iou", self.suppression.iou)
        DetectionSettings(threshold=self.threshold, iou=self.iou)

    def to_dict(self) -> dict[str, Any]:
        """The block as plain numbers, strings, lists and dicts."""
        config = self.config
        height, width = self.input_size or (None, None)
        return {
            "format": FORMAT,
            "version": self.version,
            "preset": self.preset,
            "precision": self.precision,
            "network": config.to_dict(),
            "input": {
                "name": "image",
                "layout": "NHWC",
                "height": height,
                "width": width,
                "dtype": self.input_dtype,
                "color_order": "RGB",
                "range": [0, 255],
                "normalization": "in the graph",
                "padding": list(config.pixel_mean),
                "resizable": self.resizable,
                "size_multiple": config.max_stride,
            },
            "anchors": {
                "order": "level, row, column, size",
                "center": "(column + 0.5) * stride, (row + 0.5) * stride",
                "cells": "ceil(side / stride)",
                "levels": [
                    {"stride": level.stride, "sizes": list(level.anchor_sizes)}
                    for level in config.levels
                ],
            },
            "variances": {"center": config.center_variance, "size": config.size_variance},
            "decoding": {
                "box_center": "anchor_center + delta[0:2] * variance_center * anchor_size",
                "box_size": "anchor_size * exp(delta[2:4] * variance_size)",
                "landmark": "anchor_center + delta * variance_center * anchor_size",
                "landmark_order": "left eye, right eye, nose, left mouth corner, right mouth "
                "corner; left is the image's",
            },
            "outputs": self._outputs(),
            "suppression": vars(self.suppression) if self.suppression else None,
            "threshold": self.threshold,
            "iou": self.iou,
        }

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return list(self._outputs())

    def _outputs(self) -> dict[str, str]:
        return _faces_outputs(self.config) if self.suppression else _raw_outputs(self.config)

    def to_json(self) -> str:
        """The block with an open checksum, to be put in a file whose bytes `append_checksum` then closes."""
        text = json.dumps(self.to_dict())
        return (_START + _BLANK).decode() + '", ' + text[1:]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelMetadata:
        """The inverse of `to_dict`.

        Raises:
            WeightsError: format of another version, or a value that cannot be.
        """
        if values.get("format") != FORMAT:
            raise WeightsError(
                f"has format {values.get('format')!r} and this version reads {FORMAT}; "
                "upgrade retinaface-tf"
            )
        try:
            image, suppression = values["input"], values["suppression"]
            size = (image["height"], image["width"])
            return cls(
                config=RetinaFaceConfig.from_dict(values["network"]),
                precision=values["precision"],
                input_size=None if None in size else size,
                input_dtype=image["dtype"],
                resizable=image["resizable"],
                suppression=Suppression(**suppression) if suppression else None,
                threshold=values["threshold"],
                iou=values["iou"],
                preset=values["preset"],
                version=values["version"],
            )
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise WeightsError(
                f"describes a network this version does not know ({str(error).rstrip('.')}); "
                "use the version of retinaface-tf that wrote it"
            ) from None


def append_checksum(content: bytes) -> bytes:
    """The file's bytes with the checksum of its block filled in: the sha256 of all its other bytes.

    Raises:
        ValueError: there is not exactly one open checksum.
    """
    start = _checksum_position(content)
    if start is None or content[start : start + 64] != _BLANK:
        raise ValueError("The content holds no open checksum.")
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:start] + digest + content[start + 64 :]


def read_checked(path: str | os.PathLike[str]) -> tuple[bytes, ModelMetadata]:
    """A file of this package, whole and unchanged since it was written, and what it says.

    Args:
        path: .tflite or .onnx.

    Raises:
        WeightsError: the file is missing, cut off, damaged or another program's.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"There is no file {path}; check the path.")
    content = read_whole(path)
    metadata = open_checked(content, str(path))
    return content, metadata


def open_checked(content: bytes, name: str) -> ModelMetadata:
    """`read_checked` for bytes; `name` is what messages call them."""
    if not content:
        raise WeightsError(f"{name} is empty; export or copy it again.")
    start = _checksum_position(content)
    if start is None:
        raise WeightsError(
            f"{name} does not describe itself as a file of `retinaface-tf export` does: it is "
            "another program's, or damaged; export it again."
        )
    blank = content[:start] + _BLANK + content[start + 64 :]
    if hashlib.sha256(blank).hexdigest().encode() != content[start : start + 64]:
        raise WeightsError(
            f"{name} is truncated or damaged: its bytes are not those that were exported; "
            "copy or export it again."
        )
    block = content[start - len(_START) : start + _MAX_BLOCK].decode("utf-8", "replace")
    try:
        values, _ = json.JSONDecoder().raw_decode(block)
        return ModelMetadata.from_dict(values)
    except (ValueError, RecursionError):
        raise WeightsError(f"{name} has a note that is not JSON; export it again.") from None
    except WeightsError as error:
        raise WeightsError(f"{name} {error}.") from None


def _checksum_position(content: bytes) -> int | None:
    start = content.find(_START)
    if start < 0 or content.find(_START, start + 1) >= 0:
        return None
    return start + len(_START)


def _raw_outputs(config: RetinaFaceConfig) -> dict[str, str]:
    maps = {
        name: f"[batch, height / {level.stride}, width / {level.stride}, channels], what the dense "
        "head samples"
        for name, level in zip(config.dense_outputs, config.dense_levels)
    }
    return {
        "scores": "[batch, anchors], 0..1",
        "box_deltas": "[batch, anchors, 4], x y w h",
        "landmark_deltas": "[batch, anchors, 10], five x y pairs",
        **maps,
    }


def _faces_outputs(config: RetinaFaceConfig) -> dict[str, str]:
    vertices = "[batch, max_faces, vertices, 3], x y z in input pixels, z away from the viewer"
    return {
        "boxes": "[batch, max_faces, 4], x1 y1 x2 y2 in input pixels",
        "scores": "[batch, max_faces], falling, 0 behind the last face",
        "landmarks": "[batch, max_faces, 5, 2], x y in input pixels",
        "num_faces": "[batch], int32",
        **({"vertices": vertices} if config.dense else {}),
    }
