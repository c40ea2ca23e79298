"""Detection backends: a network in this process; `remote` has one for a model server."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from itertools import chain
from typing import Any, Protocol, runtime_checkable

from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.errors import ImageError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.read import ImageSource
from retinaface_tf.inference.large_faces import join_large_faces, shrink_for_large_faces
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, read_and_prepare, stack_padded
from retinaface_tf.inference.runtimes.runtime import Runtime
from retinaface_tf.inference.zoom import CLOSEST, LEAST_SCORE, TILE, look_closer

# A batch never holds more pixels than this, whatever batch_size says: large images go in
# smaller batches, so memory stays bounded.
MAX_BATCH_PIXELS = 8_000_000
# Tiles are small: so many are searched at once, even of a single image.
_TILES = 16


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
        closer = (
            settings.zoom if isinstance(settings.zoom, int) else CLOSEST * (settings.zoom == "auto")
        )
        return read_and_prepare(source, settings.size, self.runtime.fixed_shape, closer)

    def detect(
        self, prepared: list[Any], batch_size: int, settings: DetectionSettings
    ) -> list[Faces | ImageError]:
        """Images of one input shape share a batch, as far as memory allows."""
        images = [entry for entry in prepared if not isinstance(entry, ImageError)]
        if settings.zoom == "off":
            found = iter(self._look(images, batch_size, settings))
        else:
            found = iter(self._look_and_zoom(images, batch_size, settings))
        return [entry if isinstance(entry, ImageError) else next(found) for entry in prepared]

    def _look_and_zoom(
        self, images: list[Prepared], batch_size: int, settings: DetectionSettings
    ) -> list[Faces]:
        """As `_look`, then closer where faces are small."""
        least = min(settings.threshold, LEAST_SCORE)
        looks = settings.replace(threshold=least, max_faces=None)
        begun = time.perf_counter()
        found = self._look(images, batch_size, looks)
        tile = self.runtime.input_shape(TILE, TILE)
        limit = settings.budget
        if settings.budget_seconds is not None:
            shapes = [self.runtime.input_shape(*image.pixels.shape[:2]) for image in images]
            pixels = sum(rows * columns for rows, columns in shapes)
            tiles = max(pixels, 1) / (tile[0] * tile[1])  # that take as long as these images
            limit = int(settings.budget_seconds * tiles / max(time.perf_counter() - begun, 1e-6))
        search = partial(self._search, batch_size=max(batch_size, _TILES), settings=looks)
        found = look_closer(found, images, search, tile, settings, int(limit))
        return [faces[faces.scores >= settings.threshold][: settings.max_faces] for faces in found]

    def _look(
        self, images: list[Prepared], batch_size: int, settings: DetectionSettings
    ) -> list[Faces]:
        """Searches each image itself, and smaller copies for what may be larger than the largest anchor."""
        copies: list[list[Prepared]] = [[] for _ in images]
        if settings.large_faces:
            shape = self.runtime.input_shape
            copies = [shrink_for_large_faces(image, self.config, shape) for image in images]
        found = iter(self._search([*images, *chain(*copies)], batch_size, settings))
        own = [next(found) for _ in images]
        return [
            join_large_faces(faces, [next(found) for _ in smaller], image, self.config, settings)
            for faces, image, smaller in zip(own, images, copies)
        ]

    def _search(
        self, views: list[Prepared], batch_size: int, settings: DetectionSettings
    ) -> list[Faces]:
        """The faces of each view; those of one input shape share a batch."""
        by_shape: dict[tuple[int, int], list[int]] = {}
        for place, view in enumerate(views):
            shape = self.runtime.input_shape(*view.pixels.shape[:2])
            by_shape.setdefault(shape, []).append(place)
        batches = []
        # The largest first: where several run at once, no core waits long for the last one.
        for shape, places in sorted(by_shape.items(), key=lambda item: -item[0][0] * item[0][1]):
            step = max(1, min(batch_size, MAX_BATCH_PIXELS // (shape[0] * shape[1])))
            starts = range(0, len(places), step)
            batches += [(shape, places[start : start + step]) for start in starts]
        mean, weights = self.config.pixel_mean, self.runtime.dense_weights
        stacked = (
            stack_padded([views[place].pixels for place in places], shape, mean)
            for shape, places in batches
        )
        found: dict[int, Faces] = {}
        for (shape, places), outputs in zip(batches, self.runtime.each(stacked)):
            for i, place in enumerate(places):
                found[place] = read_faces(
                    outputs, i, shape, views[place], self.config, settings, dense_weights=weights
                )
        return [found[place] for place in range(len(views))]
