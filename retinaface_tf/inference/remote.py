"""Faces found by a model server: images go out as files, faces come back."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ImageError, ServingError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import describe_source
from retinaface_tf.protocol.client import Client

# The server decodes these itself; everything else is decoded here and sent as PNG.
_SERVER_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
_OUTPUTS = ("boxes", "scores", "landmarks", "num_faces", "status")


class EncodedImage(NamedTuple):
    """An image on its way to the server.

    Attributes:
        data: the file.
        image_size: (height, width) as it is to be seen, EXIF orientation applied.
        name: what messages call it.
    """

    data: bytes
    image_size: tuple[int, int]
    name: str


class RemoteBackend:
    """Finds faces through a server's model; a `DetectionBackend`.

    What was fixed when the model was exported cannot be changed from here: the size, and the
    suppression. A higher threshold and fewer faces can be asked for.

    Args:
        client: see `protocol.client.connect`.
        max_request_bytes: images are sent in smaller batches where they are larger together.
    """

    name = "server"
    config = None

    def __init__(self, client: Client, max_request_bytes: int = 32 << 20):
        self.client, self._max_request_bytes = client, max_request_bytes

    def prepare(self, source: Any, settings: DetectionSettings) -> EncodedImage | ImageError:
        """Reads an image's file as it is; decodes and packs only what the server could not.

        Raises:
            ConfigError: a setting is decided on the server.
        """
        if settings.size is not None:
            raise ConfigError(
                f"size={settings.size!r} cannot be asked of a server: the size is fixed when "
                "the model is exported (`export savedmodel --size`)."
            )
        try:
            return _encode(source)
        except ImageError as error:
            return error

    def detect(
        self, prepared: list, batch_size: int, settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        """The faces of prepared images, in order.

        Raises:
            ServingError: the server is away or refuses.
        """
        results: list = [entry if isinstance(entry, ImageError) else None for entry in prepared]
        waiting = [i for i, entry in enumerate(results) if entry is None]
        while waiting:
            batch, size = [], 0
            while waiting and len(batch) < batch_size:
                size += len(prepared[waiting[0]].data)
                if batch and size > self._max_request_bytes:
                    break
                batch.append(waiting.pop(0))
            answers = self._ask([prepared[i] for i in batch], settings)
            for i, answer in zip(batch, answers):
                results[i] = answer
        return results

    def close(self) -> None:
        """Hangs up."""
        self.client.close()

    def _ask(
        self, images: list[EncodedImage], settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        answer = self.client.predict({"image_bytes": [p.data for p in images]})
        missing = [name for name in _OUTPUTS if name not in answer]
        if missing or any(len(answer[name]) != len(images) for name in _OUTPUTS):
            raise ServingError(
                "The server's model does not answer as a RetinaFace export does; serve what "
                "`retinaface-tf export savedmodel` wrote."
            )
        return [_read(answer, i, image, settings) for i, image in enumerate(images)]


def _read(
    answer: dict, i: int, image: EncodedImage, settings: DetectionSettings
) -> Faces | ImageError:
    if answer["status"][i] == 2:
        return ImageError(f"Cannot read {image.name}: it has more pixels than the server takes.")
    if answer["status"][i] != 0:
        return ImageError(
            f"Cannot read {image.name}: the server cannot decode it; it is damaged or a rare "
            "kind, save it again as PNG or JPEG."
        )
    scores = np.asarray(answer["scores"][i][: answer["num_faces"][i]], np.float32)
    kept = np.flatnonzero(scores >= settings.threshold)[: settings.max_faces]
    vertices = answer["vertices"][i][kept] if "vertices" in answer else None
    return Faces(
        boxes=np.asarray(answer["boxes"][i][kept], np.float32),
        scores=scores[kept],
        landmarks=np.asarray(answer["landmarks"][i][kept], np.float32),
        image_size=image.image_size,
        vertices=vertices,
    )


def _encode(source: Any) -> EncodedImage:
    name = describe_source(source)
    data = None
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_file():
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ImageError(f"Cannot read {name}: {error.strerror}.") from error
    size = None if data is None else _upright_size(data)
    if size is not None:
        return EncodedImage(data, size, name)
    return _pack(source, name)


def _upright_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) from the header of a file that the server decodes; None for others."""
    from retinaface_tf.images import decode as decoding

    kind = decoding.sniff_format(data[: decoding.HEADER_BYTES])
    if kind not in _SERVER_FORMATS:
        return None
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            turned = decoding.orientation(image) >= 5
    except Exception:  # whatever is wrong with it, reading it here will say so
        return None
    return (width, height) if turned else (height, width)


def _pack(source: Any, name: str) -> EncodedImage:
    import cv2

    from retinaface_tf.images.read import read_image

    image = read_image(source)
    # Light compression: the loopback and data centres are faster than strong PNG packing.
    done, data = cv2.imencode(
        ".png", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise ImageError(f"Cannot send {name}: it cannot be packed as PNG.")
    return EncodedImage(data.tobytes(), image.shape[:2], name)
