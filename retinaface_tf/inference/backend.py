"""Detection backends: a network in this process; `remote` has one for a model server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import ImageSource
from retinaface_tf.inference.large_faces import join_large_faces, shrink_for_large_faces
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, read_and_prepare, stack_padded
from retinaface_tf.inference.runtimes.runtime import Runtime

# A batch never holds more pixels than this, whatever batch_size says: large images go in
# smaller batches, so memory stays bounded.
MAX_BATCH_PIXELS = 8_000_000


@runtime_checkable
class DetectionBackend(Protocol):
    """Turns images into faces, in two steps: the first runs in reader threads.

    Attributes:
        name: "litert", "keras", "onnx", "server", ...: noted with results.
        config: the network's; None where it is not known here, as of a model server.
    """

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> RetinaFaceConfig | None: ...

    def prepare(self, source: ImageSource, settings: DetectionSettings) -> Any | ImageError:
        """An image made ready for `detect`, or what is wrong with it."""
        ...

    def detect(
        self, prepared: list[Any], batch_size: int, settings: DetectionSettings
    ) -> Iterable[Faces | ImageError]:
        """The faces of prepared images, in order; an `ImageError` stays in its place."""
        ...


class NetworkBackend:
    """Runs a network in this process: scales, pads and groups images, reads the outputs.

    Args:
        runtime: what runs the network.
    """

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.name, self.config = runtime.name, runtime.config

    def prepare(self, source: ImageSource, settings: DetectionSettings) -> Prepared | ImageError:
        """The image's pixels at the size searched."""
        return read_and_prepare(source, settings.size, self.runtime.fixed_shape)

    def detect(
        self, prepared: list[Any], batch_size: int, settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        """Images of one input shape share a batch, as far as memory allows."""
        input_shape = self.runtime.input_shape
        # Each image is searched itself, and perhaps in smaller copies.
        searches: list[list[Prepared]] = []
        for entry in prepared:
            searches.append([] if isinstance(entry, ImageError) else [entry])
            if settings.large_faces and searches[-1]:
                searches[-1] += shrink_for_large_faces(entry, self.config, input_shape)
        by_shape: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for i, search in enumerate(searches):
            for j, one in enumerate(search):
                by_shape.setdefault(input_shape(*one.pixels.shape[:2]), []).append((i, j))
        found: dict[tuple[int, int], Faces] = {}
        for shape, members in by_shape.items():
            step = max(1, min(batch_size, MAX_BATCH_PIXELS // (shape[0] * shape[1])))
            for start in range(0, len(members), step):
                places = members[start : start + step]
                batch = [searches[i][j] for i, j in places]
                found.update(zip(places, self._detect_batch(batch, shape, settings)))
        answers: list[Faces | ImageError] = []
        for i, (entry, search) in enumerate(zip(prepared, searches)):
            if search:
                own, *copies = (found[i, j] for j in range(len(search)))
                entry = join_large_faces(own, copies, entry, self.config, settings)
            answers.append(entry)
        return answers

    def _detect_batch(
        self, batch: list[Prepared], shape: tuple[int, int], settings: DetectionSettings
    ) -> list[Faces]:
        images = stack_padded([one.pixels for one in batch], shape, self.config.pixel_mean)
        outputs = self.runtime(images)
        weights = self.runtime.dense_weights
        return [
            read_faces(outputs, i, shape, one, self.config, settings, dense_weights=weights)
            for i, one in enumerate(batch)
        ]
