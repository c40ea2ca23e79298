"""Detection by a model server: images are sent as files, faces come back."""

from __future__ import annotations

from io import BytesIO
from typing import NamedTuple

import numpy as np

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
from retinaface_tf.protocol.client import Client

# The server decodes these itself; everything else is decoded here and sent as PNG.
_SERVER_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
_OUTPUTS = ("boxes", "scores", "landmarks", "num_faces", "status")


class EncodedImage(NamedTuple):
    """An image on its way to the server.

    Attributes:
        data: the file.
        image_size: (height, width), EXIF orientation applied.
        name: what messages call it.
    """

    data: bytes
    image_size: tuple[int, int]
    name: str


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
        self, prepared: list, batch_size: int, settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        """The faces of prepared images, in order.

        Raises:
            ServingError: the server is away or refuses.
        """
        results = list(prepared)
        waiting = [i for i, entry in enumerate(prepared) if not isinstance(entry, ImageError)]
        while waiting:
            batch, size = [], 0
            while waiting and len(batch) < batch_size:
                size += len(prepared[waiting[0]].data)
                if batch and size > self._max_request_bytes:
                    break
                batch.append(waiting.pop(0))
            for i, answer in zip(batch, self._ask([prepared[i] for i in batch], settings)):
                results[i] = answer
        return results

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
    return Faces(
        boxes=np.asarray(answer["boxes"][i][kept], np.float32),
        scores=scores[kept],
        landmarks=np.asarray(answer["landmarks"][i][kept], np.float32),
        image_size=image.image_size,
        vertices=answer["vertices"][i][kept] if "vertices" in answer else None,
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
    import cv2

    image = read_image(source)
    # Light compression: most networks are faster than strong PNG compression.
    done, data = cv2.imencode(
        ".png", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not done:
        raise ImageError(f"Cannot send {name}: it cannot be encoded as PNG.")
    return EncodedImage(data.tobytes(), image.shape[:2], name)
