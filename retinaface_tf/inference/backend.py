"""What `RetinaFace` asks for faces: a network in this process, or a model server."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from retinaface_tf.errors import ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.large_faces import join_large_faces, shrink_for_large_faces
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, prepare, stack_padded
from retinaface_tf.inference.runtimes.runtime import Runtime

# A batch never holds more pixels than this, whatever batch_size says: large images go in
# smaller batches, so memory stays bounded.
MAX_BATCH_PIXELS = 8_000_000


@runtime_checkable
class DetectionBackend(Protocol):
    """Turns images into faces, in two steps: the first runs in reader threads."""

    def load(self, source: Any, settings: dict) -> Any | ImageError:
        """An image made ready for `find`, or what is wrong with it."""
        ...

    def find(self, loaded: list, batch_size: int, settings: dict) -> list[Faces | ImageError]:
        """The faces of loaded images, in order; an `ImageError` stays in its place."""
        ...


class NetworkBackend:
    """Runs a network in this process: scales, pads and groups images, reads the outputs.

    Args:
        runtime: what runs the network.
    """

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self._frame = getattr(runtime, "fixed_shape", None)

    def load(self, source: Any, settings: dict) -> Prepared | ImageError:
        """The image's pixels at the size searched."""
        try:
            return prepare(read_image(source), settings["size"], self._frame)
        except ImageError as error:
            return error

    def find(self, loaded: list, batch_size: int, settings: dict) -> list[Faces | ImageError]:
        """Images of one input shape share a batch, as far as memory allows."""
        input_shape = self.runtime.input_shape
        # Each image is searched itself, and perhaps in a smaller copy.
        searches: list[list[Prepared]] = []
        for entry in loaded:
            searches.append([] if isinstance(entry, ImageError) else [entry])
            if settings["large_faces"] and searches[-1]:
                searches[-1] += shrink_for_large_faces(entry, self.runtime.config, input_shape)
        by_shape: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for i, search in enumerate(searches):
            for j, prepared in enumerate(search):
                by_shape.setdefault(input_shape(*prepared.pixels.shape[:2]), []).append((i, j))
        found: dict[tuple[int, int], Faces] = {}
        for shape, members in by_shape.items():
            step = max(1, min(batch_size, MAX_BATCH_PIXELS // (shape[0] * shape[1])))
            for start in range(0, len(members), step):
                batch = members[start : start + step]
                pictures = [searches[i][j] for i, j in batch]
                found.update(zip(batch, self._find_in_batch(pictures, shape, settings)))
        return [
            entry if isinstance(entry, ImageError) else self._join(i, searches[i], found, settings)
            for i, entry in enumerate(loaded)
        ]

    def _join(self, i: int, search: list[Prepared], found: dict, settings: dict) -> Faces:
        own, *copies = (found[i, j] for j in range(len(search)))
        return join_large_faces(
            own,
            copies,
            search[0],
            self.runtime.config,
            iou=settings["iou"],
            max_faces=settings["max_faces"],
        )

    def _find_in_batch(
        self, prepared: list[Prepared], shape: tuple[int, int], settings: dict
    ) -> list[Faces]:
        config = self.runtime.config
        images = stack_padded([p.pixels for p in prepared], shape, config.pixel_mean)
        outputs = self.runtime(images)
        return [
            read_faces(
                outputs,
                i,
                shape,
                image,
                config,
                threshold=settings["threshold"],
                iou=settings["iou"],
                max_faces=settings["max_faces"],
                dense_weights=getattr(self.runtime, "dense_weights", None),
            )
            for i, image in enumerate(prepared)
        ]
