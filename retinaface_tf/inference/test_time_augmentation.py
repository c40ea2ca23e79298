"""Test-time augmentation: an image searched at several scales, mirrored, turned and in tiles.

The papers' test protocol is five short edges with flip and box voting (arXiv 1905.00641, section
4.3). What all passes found is joined by voting: of every group that overlaps the best one, boxes
and points are averaged with the scores as weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.faces.faces import MIRRORED_POINTS, Faces
from retinaface_tf.geometry.boxes import clip_boxes, iou
from retinaface_tf.geometry.nms import non_max_suppression
from retinaface_tf.inference.preprocess import Size, target_size

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import RetinaFace

PAPER_SCALES = (500, 800, 1100, 1400, 1700)
# A detection this near to a tile's inner edge, in shares of its size, is taken for a cut face.
CUT_MARGIN = 0.05


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What an image is searched as.

    Attributes:
        scales: sizes as `preprocess.target_size` takes them: short edges in pixels, (short, longest)
            pairs, "original", or None for the detector's default.
        flip: search the mirror image too.
        rotations: quarter turns, anticlockwise, of 0, 1, 2, 3. Points of a face found upside down
            keep their names as seen with the face upright.
        tile: images with a side above so many pixels are also searched in square tiles of that
            side at their original size, for small faces; None for no tiles.
        tile_overlap: share of a tile that its neighbour sees too; a face wider than that is left to
            the passes over the whole image.
        vote: average what overlaps, instead of keeping the best alone.
        vote_iou: least overlap with the best detection of a group for a vote in it.
        enlarged_limit: what a pass other than an image's smallest finds wider or higher than so many
            of its own pixels is left to the smaller passes; enlarged close-ups are found in parts,
            noses as faces. None keeps everything.
    """

    scales: tuple[Size, ...] = (None,)
    flip: bool = False
    rotations: tuple[int, ...] = (0,)
    tile: int | None = None
    tile_overlap: float = 0.25
    vote: bool = True
    vote_iou: float = 0.4
    enlarged_limit: float | None = None

    def __post_init__(self):
        if not self.scales:
            raise ConfigError(
                "scales is empty; give at least one, or (None,) for the default size."
            )
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
        if self.enlarged_limit is not None and self.enlarged_limit <= 0:
            raise ConfigError(f"enlarged_limit={self.enlarged_limit} must be positive, or None.")


PAPER_AUGMENTATION = Augmentation(scales=PAPER_SCALES, flip=True)


class View(NamedTuple):
    """One form of an image.

    Attributes:
        pixels: uint8 RGB [h, w, 3].
        matrix: float64 [2, 3], from pixels of the view to pixels of the image.
        flipped: left and right points change names.
        rotation: quarter turns.
        cut: bool [4], which edges (left, top, right, bottom) cut through the image.
    """

    pixels: np.ndarray
    matrix: np.ndarray
    flipped: bool
    rotation: int
    cut: tuple[bool, bool, bool, bool] = (False, False, False, False)


def stream_augmented(
    detector: RetinaFace,
    images: Iterable[Any],
    augmentation: Augmentation,
    *,
    batch_size: int = 8,
    threshold: float = 0.5,
    iou: float = 0.4,
    max_faces: int | None = None,
) -> Iterator[Faces | ImageError]:
    """Faces of any number of images, each searched in every form.

    Images are taken `batch_size` at a time; at each scale all their forms go to the detector
    together, in batches of `batch_size`.

    Args:
        detector: what searches.
        images: as for `RetinaFace.stream`.
        augmentation: the forms.
        batch_size, threshold, max_faces: as for `RetinaFace.stream`.
        iou: of the suppression that takes voting's place when `augmentation.vote` is off.

    Yields:
        `Faces` in pixels of the original image, or the `ImageError` of one that cannot be used.
    """
    from retinaface_tf.images.read import read_image

    sources = iter(images)
    while window := list(islice(sources, batch_size)):
        pictures: list[np.ndarray | ImageError] = []
        for source in window:
            try:
                pictures.append(read_image(source))
            except ImageError as error:
                pictures.append(error)
        yield from _search(detector, pictures, augmentation, batch_size, threshold, iou, max_faces)


def detect_augmented(
    detector: RetinaFace, image: Any, augmentation: Augmentation, **settings
) -> Faces:
    """`stream_augmented` of one image.

    Raises:
        ImageError: it cannot be read or searched.
    """
    (result,) = stream_augmented(detector, [image], augmentation, **settings)
    if isinstance(result, ImageError):
        raise result
    return result


def _search(detector, pictures, augmentation, batch_size, threshold, iou, max_faces):
    passes: list[list[_Pass]] = [[] for _ in pictures]
    errors = [p if isinstance(p, ImageError) else None for p in pictures]
    for scale, owners, views in _rounds(pictures, augmentation):
        # Forms compete and vote with all their candidates, so nothing is suppressed within one.
        answers = detector.stream(
            [view.pixels for view in views],
            batch_size=batch_size,
            threshold=threshold,
            iou=1.0,
            size=scale,
            max_faces=None,
            # Several scales are what close-ups are found at; at one the detector's setting holds.
            **({"large_faces": False} if len(augmentation.scales) > 1 else {}),
        )
        for owner, view, answer in zip(owners, views, answers):
            if isinstance(answer, ImageError):
                errors[owner] = errors[owner] or answer
            else:
                answer = _left_to_smaller(answer, view, scale, augmentation)
                passes[owner].append(_to_image(answer, view))
    for picture, error, found in zip(pictures, errors, passes):
        if error is not None:
            yield error
        else:
            yield _join(found, picture.shape[:2], augmentation, iou, max_faces)


def _left_to_smaller(faces: Faces, view: View, scale: Size, augmentation: Augmentation) -> Faces:
    """Without what is too large for a pass that is not the image's smallest."""
    if augmentation.enlarged_limit is None:
        return faces
    height = view.pixels.shape[0]
    factors = [target_size(*view.pixels.shape[:2], s)[0] / height for s in augmentation.scales]
    factor = target_size(*view.pixels.shape[:2], scale)[0] / height
    if factor <= min(factors):
        return faces
    sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    return faces[sides * factor <= augmentation.enlarged_limit]


def _rounds(pictures, augmentation) -> Iterator[tuple[Size, list[int], list[View]]]:
    """(scale, index of each view's image, views) for each scale, and for the tiles."""
    usable = [i for i, picture in enumerate(pictures) if not isinstance(picture, ImageError)]
    for number, scale in enumerate((*augmentation.scales, "tiles")):
        owners, views = [], []
        for i in usable:
            if number < len(augmentation.scales):
                bases = [_whole(pictures[i])]
            elif augmentation.tile and max(pictures[i].shape[:2]) > augmentation.tile:
                bases = list(tiles(pictures[i], augmentation.tile, augmentation.tile_overlap))
            else:
                bases = []
            for base in bases:
                for view in _forms(base, augmentation):
                    owners.append(i)
                    views.append(view)
        if views:
            yield ("original" if scale == "tiles" else scale), owners, views


def _whole(picture: np.ndarray) -> View:
    return View(picture, np.eye(2, 3), False, 0)


def _forms(base: View, augmentation: Augmentation) -> Iterator[View]:
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
    return View(
        pixels,
        _after(view.matrix, step),
        not view.flipped,
        view.rotation,
        (right, top, left, bottom),
    )


def rotate(view: View, turns: int) -> View:
    """A view turned anticlockwise by quarter turns."""
    height, width = view.pixels.shape[:2]
    steps = {
        0: [[1.0, 0, 0], [0, 1, 0]],
        1: [[0.0, -1, width], [1, 0, 0]],
        2: [[-1.0, 0, width], [0, -1, height]],
        3: [[0.0, 1, 0], [-1, 0, height]],
    }
    cut = view.cut[turns:] + view.cut[:turns]
    pixels = np.ascontiguousarray(np.rot90(view.pixels, turns)) if turns else view.pixels
    matrix = _after(view.matrix, np.array(steps[turns]))
    return View(pixels, matrix, view.flipped, (view.rotation + turns) % 4, cut)


def tiles(picture: np.ndarray, side: int, overlap: float) -> Iterator[View]:
    """Square parts of an image that overlap and together cover it; the last ones end at its edge.

    Args:
        image: uint8 RGB [H, W, 3].
        side: of a tile in pixels.
        overlap: least share of a tile that its neighbour sees too.
    """
    height, width = picture.shape[:2]
    for y in _starts(height, side, overlap):
        for x in _starts(width, side, overlap):
            part = picture[y : y + side, x : x + side]
            cut = (x > 0, y > 0, x + side < width, y + side < height)
            matrix = np.array([[1.0, 0, x], [0, 1, y]])
            yield View(np.ascontiguousarray(part), matrix, False, 0, cut)


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + int(np.ceil((length - side) / max(side * (1 - overlap), 1)))
    return np.rint(np.linspace(0, length - side, count)).astype(int).tolist()


def _after(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The map that does `inner`, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


class _Pass(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    rotation: np.ndarray


def _to_image(faces: Faces, view: View) -> _Pass:
    boxes, scores, landmarks = faces.boxes, faces.scores, faces.landmarks
    if any(view.cut) and len(scores):
        height, width = view.pixels.shape[:2]
        margin = CUT_MARGIN * (boxes[:, 2:] - boxes[:, :2])
        near = np.stack(
            [
                boxes[:, 0] < margin[:, 0],
                boxes[:, 1] < margin[:, 1],
                boxes[:, 2] > width - margin[:, 0],
                boxes[:, 3] > height - margin[:, 1],
            ],
            axis=1,
        )
        whole = ~(near & np.array(view.cut)).any(axis=1)
        boxes, scores, landmarks = boxes[whole], scores[whole], landmarks[whole]
    matrix, shift = view.matrix[:, :2], view.matrix[:, 2]
    corners = boxes.reshape(-1, 2, 2) @ matrix.T + shift
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    landmarks = landmarks @ matrix.T + shift
    if view.flipped:
        landmarks = landmarks[:, MIRRORED_POINTS]
    return _Pass(boxes, scores, landmarks, np.full(len(scores), view.rotation))


def _join(passes: list[_Pass], image_size, augmentation, iou, max_faces) -> Faces:
    boxes, scores, landmarks, rotation = (np.concatenate(parts) for parts in zip(*passes))
    if augmentation.vote:
        boxes, scores, landmarks = vote(
            boxes, scores, landmarks, rotation, augmentation.vote_iou, max_faces
        )
    else:
        kept = non_max_suppression(boxes, scores, iou, max_faces)
        boxes, scores, landmarks = boxes[kept], scores[kept], landmarks[kept]
    return Faces(
        boxes=clip_boxes(boxes, *image_size).astype(np.float32),
        scores=scores.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        image_size=image_size,
    )


def vote(
    boxes: np.ndarray,
    scores: np.ndarray,
    landmarks: np.ndarray,
    rotation: np.ndarray | None = None,
    iou_threshold: float = 0.4,
    max_outputs: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join detections of many passes by box voting (Gidaris and Komodakis 2015; arXiv 1905.00641).

    The best detection left and all that overlap it become one: box and points are their means with
    the scores as weights, the score is the best one's.

    Args:
        boxes: float [N, 4] x1, y1, x2, y2.
        scores: float [N], above 0.
        landmarks: float [N, P, 2].
        rotation: int [N], the turn a detection was found at. Points are averaged only over those
            found as the best one was: a face that is found upside down too is named the other way
            round there. None when all are alike.
        iou_threshold: least IoU with the best one for a vote.
        max_outputs: stop after so many; None for all.

    Returns:
        boxes float64 [K, 4], scores float64 [K] falling, landmarks float64 [K, P, 2].
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    boxes, scores, landmarks = (
        np.asarray(v, np.float64)[order] for v in (boxes, scores, landmarks)
    )
    rotation = np.zeros(len(order), np.int64) if rotation is None else np.asarray(rotation)[order]
    alive = np.arange(len(order))
    joined: list[tuple[np.ndarray, float, np.ndarray]] = []
    while len(alive) and (max_outputs is None or len(joined) < max_outputs):
        best = alive[0]
        voters = iou(boxes[best], boxes[alive]) >= iou_threshold
        voters[0] = True
        group, alive = alive[voters], alive[~voters]
        alike = group[rotation[group] == rotation[best]]
        joined.append(
            (
                np.average(boxes[group], axis=0, weights=scores[group]),
                scores[best],
                np.average(landmarks[alike], axis=0, weights=scores[alike]),
            )
        )
    if not joined:
        return boxes[:0], scores[:0], landmarks[:0]
    return tuple(np.stack(column) for column in zip(*joined))


class AugmentedDetector:
    """A detector that searches every image in the forms of an `Augmentation`.

    Args:
        detector: a `RetinaFace`.
        augmentation: the forms.
        threshold, iou, max_faces: as in `RetinaFace`.
    """

    def __init__(
        self,
        detector: RetinaFace,
        augmentation: Augmentation,
        *,
        threshold: float = 0.5,
        iou: float = 0.4,
        max_faces: int | None = None,
    ):
        self.detector = detector
        self.augmentation = augmentation
        self._settings = {"threshold": threshold, "iou": iou, "max_faces": max_faces}

    def stream(self, images: Iterable[Any], *, batch_size: int = 8) -> Iterator[Faces | ImageError]:
        """See `stream_augmented`."""
        return stream_augmented(
            self.detector, images, self.augmentation, batch_size=batch_size, **self._settings
        )

    def detect(self, image: Any, *, batch_size: int = 8) -> Faces:
        """See `detect_augmented`."""
        return detect_augmented(
            self.detector, image, self.augmentation, batch_size=batch_size, **self._settings
        )
