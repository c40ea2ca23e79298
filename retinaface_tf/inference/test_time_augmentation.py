"""Test-time augmentation: an image searched at several scales, mirrored, turned and in tiles.

The papers' test protocol is five short edges with flip and box voting (arXiv 1905.00641, section
4.3). What all passes found is joined by voting (`geometry.box_voting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.config import DetectionSettings, SettingsChanges, Size, check_size
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.faces.faces import MIRRORED_POINTS, Faces
from retinaface_tf.geometry.box_voting import vote
from retinaface_tf.geometry.boxes import clip_boxes
from retinaface_tf.geometry.nms import non_max_suppression
from retinaface_tf.geometry.tiles import grid, inner_edges, touches
from retinaface_tf.images.read import ImageSource, read_shrunk
from retinaface_tf.inference.detector import Detector, check_batch_size, several
from retinaface_tf.inference.preprocess import naming, target_size

PAPER_SCALES = (500, 800, 1100, 1400, 1700)
# Where passes have to agree, each gives detections down to this share of the threshold of the mean.
_CANDIDATES = 0.4
# Images are taken together until they have this many pixels.
MAX_WINDOW_PIXELS = 64_000_000


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The views of an image that are searched, and how their detections are joined.

    Attributes:
        scales: sizes as `preprocess.target_size` takes them: short edges in pixels, (short, longest)
            pairs, "original", or None for the default size.
        flip: search the mirror image too.
        rotations: quarter turns, anticlockwise, of 0, 1, 2, 3. Points of a face found upside down
            keep their names as seen with the face upright.
        tile: images with a side above this many pixels are also searched in square tiles of that
            side at their original size, for small faces; None for no tiles.
        tile_overlap: share of a tile that its neighbour sees too; a face wider than that is left to
            the passes over the whole image.
        vote: average what overlaps, instead of keeping only the best.
        vote_iou: least overlap with the best detection of a group for a vote in it.
        enlarged_limit: detections wider or higher than this many pixels of a pass are dropped,
            except at an image's smallest scale: in an enlarged close-up parts of faces, such as
            noses, are found as faces. None keeps everything.
        agree: the score of a face is the mean over all passes, 0 of one that has not found it; the
            threshold, then a low one, is of that mean. It tells faces from false alarms better than
            the best score does. Not with tiles.
    """

    scales: tuple[Size, ...] = (None,)
    flip: bool = False
    rotations: tuple[int, ...] = (0,)
    tile: int | None = None
    tile_overlap: float = 0.25
    vote: bool = True
    vote_iou: float = 0.4
    enlarged_limit: float | None = None
    agree: bool = False

    def __post_init__(self) -> None:
        if not self.scales:
            raise ConfigError(
                "scales is empty; give at least one, or (None,) for the default size."
            )
        for scale in self.scales:
            check_size(scale, f"The scale {scale!r}")
        if not self.rotations or any(r not in (0, 1, 2, 3) for r in self.rotations):
            raise ConfigError(
                f"rotations={self.rotations} must be quarter turns out of 0, 1, 2, 3."
            )
        if self.tile is not None and self.tile < 64:
            raise ConfigError(f"tile={self.tile} must be at least 64 pixels.")
        if not 0 <= self.tile_overlap < 1:
            raise ConfigError(f"tile_overlap={self.tile_overlap} must be in [0, 1).")
        if not 0 < self.vote_iou <= 1:
            raise ConfigError(f"vote_iou={self.vote_iou} must be in (0, 1].")
        if self.agree and (self.tile or not self.vote):
            raise ConfigError("agree=True needs vote=True and no tiles.")
        if self.enlarged_limit is not None and self.enlarged_limit <= 0:
            raise ConfigError(f"enlarged_limit={self.enlarged_limit} must be positive, or None.")


class View(NamedTuple):
    """One view of an image.

    Attributes:
        pixels: uint8 RGB [h, w, 3].
        matrix: float64 [2, 3], from pixels of the view to pixels of the image.
        flipped: left and right points change names.
        rotation: quarter turns.
        cut: bool [4], which edges (left, top, right, bottom) cut through the image.
    """

    pixels: np.ndarray
    matrix: np.ndarray
    flipped: bool = False
    rotation: int = 0
    cut: tuple[bool, bool, bool, bool] = (False, False, False, False)


class AugmentedDetector(Detector):
    """A detector that searches every image in the views of an `Augmentation`.

    Images are taken `batch_size` at a time, fewer of large ones; at each scale all their views go to
    the detector together, in batches of `batch_size`.

    Args:
        detector: what searches each view.
        augmentation: the views. Its scales take the place of the setting `size`; without `vote`,
            the setting `iou` is of the suppression between all views.
        settings: over those of `detector`.

    Attributes:
        detector, augmentation: as given.
        num_vertices: None: meshes of several views are not joined.

    Raises:
        ConfigError: a setting is unknown or out of range, or is `size`.
    """

    num_vertices = None

    def __init__(
        self, detector: Detector, augmentation: Augmentation, **settings: Unpack[SettingsChanges]
    ):
        self.detector, self.augmentation = detector, augmentation
        self.backend, self.settings = detector.backend, detector.settings
        self.settings = self._replace(settings)

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 8,
        **settings: Unpack[SettingsChanges],
    ) -> Iterator[Faces | ImageError]:
        """See `Detector.stream`."""
        chosen = self._replace(settings)
        check_batch_size(batch_size)
        sources = several(images)
        while window := _read_window(islice(sources, batch_size), self.augmentation):
            yield from self._search(window, batch_size, chosen)

    def _replace(self, changes: SettingsChanges) -> DetectionSettings:
        if "size" in changes:
            raise ConfigError("size needs one search per image; choose Augmentation(scales=...).")
        settings = self.settings.replace(**changes)
        if settings.zoom not in ("auto", "off"):
            raise ConfigError(f"zoom={settings.zoom} needs one search per image, not several.")
        return settings

    def _search(
        self, images: list[_Image | ImageError], batch_size: int, settings: DetectionSettings
    ) -> Iterator[Faces | ImageError]:
        passes: list[list[_Pass]] = [[] for _ in images]
        errors = [image if isinstance(image, ImageError) else None for image in images]
        for scale, owners, views in _rounds(images, self.augmentation):
            # Views compete and vote with all their candidates: nothing is suppressed within one.
            answers = self.detector.stream(
                [view.pixels for view in views],
                batch_size=batch_size,
                threshold=settings.threshold * (_CANDIDATES if self.augmentation.agree else 1),
                iou=1.0,
                size=scale,
                max_faces=None,
                # Close-ups are found at the smallest of several scales.
                large_faces=settings.large_faces and len(self.augmentation.scales) == 1,
                zoom="off",
            )
            for owner, view, answer in zip(owners, views, answers):
                if isinstance(answer, ImageError):
                    errors[owner] = errors[owner] or answer
                else:
                    answer = _without_enlarged(answer, view, scale, self.augmentation)
                    passes[owner].append(_to_image(answer, view))
        for image, error, found in zip(images, errors, passes):
            if isinstance(image, ImageError):
                yield image
            elif error is not None:
                yield error
            else:
                yield _join(found, image.size, self.augmentation, settings)


class _Image(NamedTuple):
    """Pixels as large as the views need them, and the (height, width) of the image as it is."""

    pixels: np.ndarray
    size: tuple[int, int]


def _read_window(
    sources: Iterable[ImageSource], augmentation: Augmentation
) -> list[_Image | ImageError]:
    """The first images, until they have `MAX_WINDOW_PIXELS`."""
    window: list[_Image | ImageError] = []
    held = 0
    for source in sources:
        try:
            wanted = naming(source, lambda h, w: _largest_size(h, w, augmentation))
            image = _Image(*read_shrunk(source, wanted))
            window.append(image)
            held += image.pixels.size // 3
        except ImageError as error:
            window.append(error)
        if held >= MAX_WINDOW_PIXELS:
            break
    return window


def _largest_size(height: int, width: int, augmentation: Augmentation) -> tuple[int, int]:
    """(height, width) of an image in its largest view."""
    if augmentation.tile and max(height, width) > augmentation.tile:
        return height, width
    return max(target_size(height, width, scale) for scale in augmentation.scales)


def _without_enlarged(faces: Faces, view: View, scale: Size, augmentation: Augmentation) -> Faces:
    """Without what is too large for a pass that is not the image's smallest."""
    if augmentation.enlarged_limit is None:
        return faces
    height, width = view.pixels.shape[:2]
    factor, *factors = (
        target_size(height, width, size)[0] / height for size in (scale, *augmentation.scales)
    )
    if factor <= min(factors):
        return faces
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    small: NDArray[np.bool_] = sides * factor <= augmentation.enlarged_limit
    return faces[small]


def _rounds(
    images: list[_Image | ImageError], augmentation: Augmentation
) -> Iterator[tuple[Size, list[int], list[View]]]:
    """(scale, index of each view's image, views) for each scale, and for the tiles."""
    whole = {
        i: View(image.pixels, _scaling(image.pixels.shape[:2], image.size))
        for i, image in enumerate(images)
        if not isinstance(image, ImageError)
    }
    bases: list[tuple[Size, Iterable[tuple[int, View]]]]
    bases = [(scale, whole.items()) for scale in augmentation.scales]
    side = augmentation.tile or 0
    parts = (
        (i, part)
        for i, view in whole.items()
        if side and max(view.pixels.shape[:2]) > side
        for part in tiles(view.pixels, side, augmentation.tile_overlap)
    )
    for scale, members in (*bases, ("original", parts)):
        found = [(i, view) for i, base in members for view in _views(base, augmentation)]
        if found:
            yield scale, [i for i, _ in found], [view for _, view in found]


def _scaling(size: tuple[int, int], original: tuple[int, int]) -> np.ndarray:
    """[2, 3] from pixels of an image of one (height, width) to those of the other."""
    return np.diag([original[1] / size[1], original[0] / size[0], 0])[:2]


def _views(base: View, augmentation: Augmentation) -> Iterator[View]:
    for turns in augmentation.rotations:
        turned = rotate(base, turns)
        yield turned
        if augmentation.flip:
            yield flip(turned)


def flip(view: View) -> View:
    """The mirror image of a view."""
    width = view.pixels.shape[1]
    step = np.array([[-1.0, 0, width], [0, 1, 0]])
    left, top, right, bottom = view.cut
    pixels = np.ascontiguousarray(view.pixels[:, ::-1])
    matrix = _after(view.matrix, step)
    return View(pixels, matrix, not view.flipped, view.rotation, (right, top, left, bottom))


def rotate(view: View, turns: int) -> View:
    """A view turned anticlockwise by quarter turns."""
    height, width = view.pixels.shape[:2]
    steps = {
        0: [[1.0, 0, 0], [0, 1, 0]],
        1: [[0.0, -1, width], [1, 0, 0]],
        2: [[-1.0, 0, width], [0, -1, height]],
        3: [[0.0, 1, 0], [-1, 0, height]],
    }
    left, top, right, bottom = view.cut[turns:] + view.cut[:turns]
    pixels = np.ascontiguousarray(np.rot90(view.pixels, turns)) if turns else view.pixels
    matrix = _after(view.matrix, np.array(steps[turns]))
    cut = (left, top, right, bottom)
    return View(pixels, matrix, view.flipped, (view.rotation + turns) % 4, cut)


def tiles(image: np.ndarray, side: int, overlap: float) -> Iterator[View]:
    """Square parts of an image that overlap and together cover it; the last ones end at its edge.

    Args:
        image: uint8 RGB [H, W, 3].
        side: of a tile in pixels.
        overlap: least share of a tile that its neighbour sees too.
    """
    size = image.shape[0], image.shape[1]
    for part in grid(size, (side, side), overlap):
        x1, y1, x2, y2 = part.tolist()
        left, top, right, bottom = inner_edges(part, size).tolist()
        pixels = np.ascontiguousarray(image[y1:y2, x1:x2])
        matrix = np.array([[1.0, 0, x1], [0, 1, y1]])
        yield View(pixels, matrix, False, 0, (left, top, right, bottom))


def _after(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map that does `inner`, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


class _Pass(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    rotation: np.ndarray


def _to_image(faces: Faces, view: View) -> _Pass:
    if any(view.cut):
        height, width = view.pixels.shape[:2]
        part = np.array([0, 0, width, height])
        faces = faces[~touches(faces.boxes, part, np.array(view.cut))]
    matrix, shift = view.matrix[:, :2], view.matrix[:, 2]
    corners = faces.boxes.reshape(-1, 2, 2) @ matrix.T + shift
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    landmarks = faces.landmarks @ matrix.T + shift
    if view.flipped:
        landmarks = landmarks[:, MIRRORED_POINTS]
    return _Pass(boxes, faces.scores, landmarks, np.full(len(faces), view.rotation))


def _join(
    passes: list[_Pass],
    image_size: tuple[int, int],
    augmentation: Augmentation,
    settings: DetectionSettings,
) -> Faces:
    boxes, scores, landmarks, rotation = (np.concatenate(parts) for parts in zip(*passes))
    source = np.repeat(np.arange(len(passes)), [len(one.scores) for one in passes])
    if augmentation.vote:
        boxes, scores, landmarks = vote(
            boxes,
            scores,
            landmarks,
            rotation,
            iou_threshold=augmentation.vote_iou,
            max_outputs=None if augmentation.agree else settings.max_faces,
            source=source if augmentation.agree else None,
            sources=len(passes),
        )
        if augmentation.agree:
            order = np.argsort(-scores, kind="stable")
            order = order[scores[order] >= settings.threshold][: settings.max_faces]
            boxes, scores, landmarks = boxes[order], scores[order], landmarks[order]
    else:
        kept = non_max_suppression(boxes, scores, settings.iou, settings.max_faces)
        boxes, scores, landmarks = boxes[kept], scores[kept], landmarks[kept]
    return Faces(
        boxes=clip_boxes(boxes, *image_size).astype(np.float32),
        scores=scores.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        image_size=image_size,
    )
