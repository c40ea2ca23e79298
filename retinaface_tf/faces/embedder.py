"""Face embedders from a file: ONNX, TFLite or Keras, all called as crops -> vectors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.errors import ConfigError, RetinaFaceError, WeightsError, first_line
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import is_file

Pixels = NDArray[Any]
# The input's shape, of which a free side is no positive number; and what runs the network.
_Opened = tuple[Sequence[Any], Callable[[Pixels], Pixels]]


@dataclass(frozen=True, kw_only=True)
class EmbedderInput:
    """How an embedder's input is made of pixels: (pixel - mean) / scale.

    The defaults are those of the ArcFace family. Exports that normalise inside the graph want
    mean 0, scale 1.

    Attributes:
        mean, scale: in 0..255.
        color: "rgb" or "bgr".
        size: side of the crops where the file does not say.
    """

    mean: float = 127.5
    scale: float = 127.5
    color: str = "rgb"
    size: int = 112

    def __post_init__(self) -> None:
        if self.color not in ("rgb", "bgr"):
            raise ConfigError(f"color={self.color!r} must be 'rgb' or 'bgr'.")
        if not math.isfinite(self.mean) or not math.isfinite(self.scale) or self.scale == 0:
            raise ConfigError(
                f"mean={self.mean} and scale={self.scale} must be numbers, scale not 0; give mean 0 "
                "and scale 1 for none."
            )


@dataclass(frozen=True)
class Embedder:
    """Turns crops into vectors.

    Attributes:
        size: (height, width) of the crops.
        run: float32 [N, H, W, 3] normalised crops -> [N, D].
        input: how pixels are normalised.
    """

    size: tuple[int, int]
    run: Callable[[Pixels], Pixels]
    input: EmbedderInput

    def __call__(self, crops: Pixels, flip: bool = False, batch_size: int = 32) -> Pixels:
        """Embed crops.

        Args:
            crops: uint8 RGB [N, H, W, 3], scaled to `size` if they are not.
            flip: add the embedding of the mirrored crop, as LFW figures usually do.

        Returns:
            float32 [N, D].
        """
        import cv2

        parts = []
        for start in range(0, len(crops), batch_size):
            batch = crops[start : start + batch_size]
            if batch.shape[1:3] != self.size:
                size, method = self.size[::-1], cv2.INTER_AREA
                batch = np.stack([cv2.resize(c, size, interpolation=method) for c in batch])
            pixels = (batch.astype(np.float32) - self.input.mean) / self.input.scale
            if self.input.color == "bgr":
                pixels = pixels[..., ::-1]
            views = (pixels, pixels[:, :, ::-1]) if flip else (pixels,)
            try:
                vectors = [np.asarray(self.run(np.ascontiguousarray(v)), np.float32) for v in views]
                parts.append(np.sum(vectors, axis=0).reshape(len(batch), -1))
            except Exception as error:  # its runtime's own classes
                raise WeightsError(
                    f"The embedder cannot embed {len(batch)} crops: {first_line(error)}."
                ) from error
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)


def open_embedder(path: Path | str, input: EmbedderInput | None = None) -> Embedder:
    """An embedder from `.onnx`, `.tflite` or `.keras`; its input shape tells NCHW from NHWC.

    Raises:
        WeightsError: the file is missing, of another kind, or its input is not a batch of colour
            images.
    """
    path = Path(path)
    openers = {".onnx": _open_onnx, ".tflite": _open_tflite, ".keras": _open_keras}
    if path.suffix not in openers:
        raise WeightsError(f"{path}: an embedder is read from {', '.join(openers)}.")
    if not is_file(path):
        raise WeightsError(f"{path} does not exist; give an embedder's file.")
    input = input or EmbedderInput()
    try:
        shape, run = openers[path.suffix](path)
    except RetinaFaceError:
        raise
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as an embedder: {error}.") from None
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise WeightsError(f"{path}: its input {list(shape)} is not a batch of colour images.")
    channels_first = shape[3] != 3
    sides = shape[2:4] if channels_first else shape[1:3]
    height, width = (s if isinstance(s, int) and s > 0 else input.size for s in sides)
    if channels_first:
        return Embedder(
            (height, width), lambda x: run(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), input
        )
    return Embedder((height, width), run, input)


def _open_onnx(path: Path) -> _Opened:
    require("onnx", for_=f"The embedder {path}")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    fixed_batch = entry.shape[0] == 1

    def run(batch: Pixels) -> Pixels:
        if fixed_batch:
            return np.concatenate([session.run(None, {entry.name: b[None]})[0] for b in batch])
        return np.asarray(session.run(None, {entry.name: batch})[0])

    return entry.shape, run


def _open_tflite(path: Path) -> _Opened:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    entry, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if entry["dtype"] != np.float32:
        raise WeightsError(
            f"{path}: its input is {entry['dtype'].__name__}, only float32 is supported."
        )

    shape = [1, *(int(s) for s in entry["shape"][1:])]

    def run(batch: Pixels) -> Pixels:
        nonlocal shape
        vectors = []
        for crop in batch:
            if shape != [1, *crop.shape]:
                shape = [1, *crop.shape]
                interpreter.resize_tensor_input(entry["index"], shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(entry["index"], crop[None])
            interpreter.invoke()
            vectors.append(interpreter.get_tensor(output["index"]).copy())
        return np.concatenate(vectors)

    # The signature keeps -1 where a side is free.
    return [int(s) for s in entry.get("shape_signature", entry["shape"])], run


def _open_keras(path: Path) -> _Opened:
    require("train", "keras", for_=f"The embedder {path}")
    import keras

    model = keras.models.load_model(path, compile=False)
    return model.input_shape, lambda batch: keras.ops.convert_to_numpy(model(batch, training=False))
