"""Detection by a model server: images are sent as files, faces come back."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ConfigError, ImageError, ServingError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images import decode as decoding
from retinaface_tf.images.decode import UnreadableError
from retinaface_tf.images.read import (
    ImageSource,
    NamedBytes,
    describe_source,
    file_content,
    read_image,
)
from retinaface_tf.inference.preprocess import read_and_prepare
from retinaface_tf.protocol.client import Client, RefusedError

# The server decodes these itself; everything else is decoded here and sent as PNG.
_SERVER_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
_TOO_LARGE = 2  # the output `status` of an image with more pixels than the export takes


class EncodedImage(NamedTuple):
    """An image on its way to the server.

    Attributes:
        data: the file.
        image_size: (height, width), EXIF orientation applied.
        name: what messages call it.
        scale: (x, y) factors from the image's pixels to those sent.
    """

    data: bytes
    image_size: tuple[int, int]
    name: str
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def nbytes(self) -> int:
        """The bytes of the file."""
        return len(self.data)


class RemoteBackend:
    """Asks TF-Serving or `retinaface-tf serve`; a `DetectionBackend`.

    Size and suppression were fixed when the model was exported. A higher threshold and fewer faces
    can be asked for.

    Args:
        client: see `protocol.client.connect`.
        max_request_bytes: images are sent in smaller batches where they are larger together.
    """

    name = "server"
    config = None

    def __init__(self, client: Client, max_request_bytes: int = 32 << 20):
        self.client, self._max_request_bytes = client, max_request_bytes

    def prepare(
        self, source: ImageSource, settings: DetectionSettings
    ) -> EncodedImage | ImageError:
        """Reads an image's file as it is; decodes and encodes only what the server cannot decode.

        Raises:
            ConfigError: a setting is decided on the server.
        """
        if settings.size is not None:
            raise ConfigError(
                f"size={settings.size!r} cannot be asked of a server: the size is fixed when "
                "the model is exported (`export savedmodel --input-size`)."
            )
        try:
            return _encode(source)
        except ImageError as error:
            return error

    def detect(
        self, prepared: list[Any], batch_size: int, settings: DetectionSettings
    ) -> Iterator[Faces | ImageError]:
        """The faces of prepared images, in order, as the server gives them.

        Raises:
            ServingError: the server is away or its model is another.
        """
        batch: list[EncodedImage | ImageError] = []
        size = 0
        for entry in prepared:
            held = 0 if isinstance(entry, ImageError) else len(entry.data)
            if batch and (len(batch) == batch_size or size + held > self._max_request_bytes):
                yield from self._answer(batch, settings)
                batch, size = [], 0
            batch.append(entry)
            size += held
        yield from self._answer(batch, settings)

    def _answer(
        self, batch: list[EncodedImage | ImageError], settings: DetectionSettings
    ) -> Iterator[Faces | ImageError]:
        """Answers in order; `ImageError`s of the batch stay where they are."""
        answers = self._ask([one for one in batch if not isinstance(one, ImageError)], settings)
        for entry in batch:
            yield entry if isinstance(entry, ImageError) else next(answers)

    def _ask(
        self, images: list[EncodedImage], settings: DetectionSettings
    ) -> Iterator[Faces | ImageError]:
        """Asks for all at once, and where the server refuses that for less, down to each image."""
        if not images:
            return
        try:
            answer = self.client.predict({"image_bytes": [image.data for image in images]})
        except RefusedError as error:
            if len(images) > 1:
                middle = len(images) // 2
                yield from self._ask(images[:middle], settings)
                yield from self._ask(images[middle:], settings)
            else:
                yield self._ask_smaller(images[0], str(error), settings)
            return
        _check(answer, len(images))
        for i, image in enumerate(images):
            if answer["status"][i] == _TOO_LARGE:
                reason = "It has more pixels than the server takes; make it smaller."
                yield self._ask_smaller(image, reason, settings)
            else:
                yield _read(answer, i, image, settings)

    def _ask_smaller(
        self, image: EncodedImage, reason: str, settings: DetectionSettings
    ) -> Faces | ImageError:
        """Of an image that the server refuses by itself, a copy as `detect` searches it here."""
        if image.scale == (1.0, 1.0):
            shrunk = read_and_prepare(NamedBytes(image.data, image.name))
            if isinstance(shrunk, ImageError):
                return shrunk
            if shrunk.scale != image.scale:
                data = _to_png(shrunk.pixels, image.name)
                return next(self._ask([image._replace(data=data, scale=shrunk.scale)], settings))
        return ImageError(f"Cannot search {image.name}: {reason[0].lower()}{reason[1:]}")


def _check(answer: dict[str, np.ndarray], count: int) -> None:
    """ServingError unless this is the answer of an export for so many images."""
    shapes = {"boxes": (4,), "scores": (), "landmarks": (5, 2)}
    faces = np.shape(answer.get("scores", ()))[1:]
    expected = {name: (count, *faces, *tail) for name, tail in shapes.items()}
    expected |= dict.fromkeys(("num_faces", "status"), (count,))
    if "vertices" in answer:
        expected["vertices"] = (count, *faces, *np.shape(answer["vertices"])[2:])
    if len(faces) != 1 or any(
        np.shape(answer.get(n, ())) != shape for n, shape in expected.items()
    ):
        raise ServingError(
            f"The server's model does not answer {count} images as a RetinaFace export does; serve "
            "what `retinaface-tf export savedmodel` wrote."
        )


def _read(
    answer: dict[str, np.ndarray], i: int, image: EncodedImage, settings: DetectionSettings
) -> Faces | ImageError:
    if answer["status"][i] != 0:
        return ImageError(
            f"Cannot read {image.name}: the server cannot decode it; it is damaged or a rare "
            "kind, save it again as PNG or JPEG."
        )
    count = int(answer["num_faces"][i])
    scores = np.asarray(answer["scores"][i][:count], np.float32)
    # Exports of before have no such output, and rows for `max_faces` always.
    truncated = (
        answer["truncated"][i] if "truncated" in answer else count == len(answer["scores"][i])
    )
    kept = np.flatnonzero(scores >= settings.threshold)[: settings.max_faces]
    boxes = np.asarray(answer["boxes"][i][kept], np.float32)
    landmarks = np.asarray(answer["landmarks"][i][kept], np.float32)
    scale = np.asarray(image.scale, np.float32)
    corners: NDArray[np.float32] = np.tile(scale, 2)
    vertices = answer["vertices"][i][kept] if "vertices" in answer else None
    if vertices is not None:
        vertices = vertices / np.append(scale, scale.mean())
    return Faces(
        boxes=boxes / corners,
        scores=scores[kept],
        landmarks=landmarks / scale,
        image_size=image.image_size,
        vertices=vertices,
        # A threshold or number of faces that was asked for left out the missing ones anyway.
        truncated=bool(truncated) and len(kept) == count and count != settings.max_faces,
    )


def _encode(source: ImageSource) -> EncodedImage:
    name, data = describe_source(source), file_content(source)
    if data is None:
        return _as_png(source, name)
    size = _upright_size(data)
    return _as_png(NamedBytes(data, name), name) if size is None else EncodedImage(data, size, name)


def _upright_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) from the header of a file that the server decodes; None for others."""
    if decoding.sniff_format(data[: decoding.HEADER_BYTES]) not in _SERVER_FORMATS:
        return None
    try:
        return decoding.upright_size(decoding.open_header(BytesIO(data))[0])
    except UnreadableError:  # reading it here will say so
        return None


def _as_png(source: ImageSource, name: str) -> EncodedImage:
    image = read_image(source)
    return EncodedImage(_to_png(image, name), image.shape[:2], name)


def _to_png(pixels: np.ndarray, name: str) -> bytes:
    import cv2

    # Light compression: most networks are faster than strong PNG compression.
    done, data = cv2.imencode(
        ".png", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise ImageError(f"Cannot send {name}: it cannot be encoded as PNG.")
    return data.tobytes()
