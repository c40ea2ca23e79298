"""Images with drawn faces: a training set that needs no data, with exact boxes and landmarks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from retinaface_tf.data.options import SyntheticConfig
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.synthetic.backdrop import degrade, draw_backdrop
from retinaface_tf.data.synthetic.head_mesh import GRID_SIDES, draw_person, draw_view, rotation
from retinaface_tf.geometry.boxes import share_inside
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.util.process import out_of_reach_of_ctrl_c


@dataclass(frozen=True, eq=False)
class SyntheticImage:
    """A drawn image.

    Attributes:
        pixels: uint8 RGB [H, W, 3].
        boxes: float32 [N, 4] corners in pixels.
        landmarks: float32 [N, 5, 2] in pixels.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray


def draw_image(config: SyntheticConfig, index: int) -> SyntheticImage:
    """Image number `index` of an endless sequence; the same for the same seed, size and index."""
    rng = np.random.default_rng((config.seed, index))
    size = config.size
    canvas = draw_backdrop(rng, size)
    people: list[_Person] = []
    for face_size in _face_sizes(rng, config):
        person = _draw_head(rng, size, face_size, people)
        if person is not None:
            people.append(person)
    # All bodies before all heads, so that nobody's shoulders hide a labelled face.
    for person in reversed(people):
        _draw_body(rng, canvas, person.box, person.skin)
    for person in reversed(people):
        _paste(canvas, person.image, person.alpha, person.corner)
        if rng.random() < 0.12:
            _draw_obstacle(rng, canvas, person.box)
    return SyntheticImage(
        degrade(rng, canvas),
        np.clip(np.array([p.box for p in people], np.float32).reshape(-1, 4), 0, size),
        np.array([p.landmarks for p in people], np.float32).reshape(-1, 5, 2),
    )


def _face_sizes(rng, config: SyntheticConfig) -> np.ndarray:
    """Heights of the faces to draw in pixels, largest first: none, one, a few or a crowd."""
    mode = rng.random()
    largest = 0.85 * config.size
    if mode < 0.06:
        return np.zeros(0)
    if mode < 0.35:
        count, low, high = 1, 0.15 * config.size, largest
    elif mode < 0.85:
        count, low, high = int(rng.integers(2, 7)), config.min_face, 0.4 * config.size
    else:
        count, low, high = int(rng.integers(6, 25)), config.min_face, 0.12 * config.size
    low = max(config.min_face, min(low, high))
    high = max(high, low + 1)
    sizes = np.exp(rng.uniform(np.log(low), np.log(high), min(count, config.max_faces)))
    return np.sort(sizes)[::-1]


@dataclass(frozen=True, eq=False)
class _Person:
    """A head drawn in its final size, and where it goes."""

    image: np.ndarray
    alpha: np.ndarray
    corner: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray
    skin: np.ndarray


def _draw_head(rng, size: int, face_size: float, others: list[_Person]) -> _Person | None:
    """A person whose face is `face_size` pixels high, None where there was no room."""
    import cv2

    yaw = float(np.clip(rng.normal(0, 0.5), -1.35, 1.35))
    pitch, roll = np.clip(rng.normal(0, (0.2, 0.2)), -0.6, 0.6)
    # A head's square is about 2.3 times its face; large ones are drawn smaller and enlarged.
    side = int(np.clip(min(2.4 * face_size, 90 + 0.7 * face_size), 40, GRID_SIDES[-1]))
    light = np.array([rng.normal(0, 0.8), rng.normal(-0.5, 0.5), rng.uniform(0.3, 1.2)])
    tint = np.clip(rng.normal(1, 0.08, 3), 0.75, 1.2) * rng.uniform(0.6, 1.25)
    head = draw_person(rng, side)
    view = draw_view(head, rotation(yaw, pitch, roll), light, rng.uniform(0.25, 0.8), tint, side)
    drawn = max(8, round(side * face_size / max(float(view.box[3] - view.box[1]), 1.0)))
    scale = drawn / side
    box = view.box * scale
    for _ in range(12):
        center = rng.uniform(0.02, 0.98, 2) * size
        corner = np.round(center - (box[:2] + box[2:]) / 2).astype(int)
        moved = box + np.tile(corner, 2)
        visible = share_inside(moved, np.array([0, 0, size, size]))
        hidden = [max(share_inside(moved, o.box), share_inside(o.box, moved)) for o in others]
        if visible > 0.6 and max(hidden, default=0) <= 0.15:
            break
    else:
        return None
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    soft = cv2.GaussianBlur(view.alpha, (0, 0), 0.6)
    # Premultiplied, so that the transparent black outside does not darken the edge.
    image = cv2.resize(view.image * soft[..., None], (drawn, drawn), interpolation=method)
    alpha = np.clip(cv2.resize(soft, (drawn, drawn), interpolation=method), 0, 1)
    points = view.landmarks * scale + corner
    return _Person(image, alpha, corner, moved, points, head.colors[head.face].mean(0) * tint)


def _draw_body(rng, canvas: np.ndarray, box: np.ndarray, skin: np.ndarray) -> None:
    """Neck and shoulders below the face."""
    import cv2

    x1, y1, x2, y2 = box
    width, height, x = x2 - x1, y2 - y1, (x1 + x2) / 2
    if rng.random() < 0.15:
        return
    neck = np.array([[x - 0.3 * width, y2 - 0.3 * height], [x + 0.3 * width, y2 - 0.3 * height]])
    below = np.array([[x + 0.4 * width, y2 + 0.4 * height], [x - 0.4 * width, y2 + 0.4 * height]])
    cv2.fillPoly(canvas, [np.int32(np.concatenate([neck, below]))], tuple(0.7 * skin))
    reach, drop = rng.uniform(0.9, 1.5) * width, rng.uniform(0.15, 0.4) * height
    t = np.linspace(0, np.pi, 15)
    shoulders = np.stack([x - reach * np.cos(t), y2 + drop + height * (0.5 - 0.5 * np.sin(t))], 1)
    bottom = np.array([[x + reach, y2 + 4 * height], [x - reach, y2 + 4 * height]])
    cloth = tuple(float(v) for v in rng.uniform(5, 250, 3))
    cv2.fillPoly(canvas, [np.int32(np.concatenate([shoulders, bottom]))], cloth)


def _draw_obstacle(rng, canvas: np.ndarray, box: np.ndarray) -> None:
    """Something in front of a part of the face."""
    import cv2

    side = float(box[2] - box[0])
    angle = rng.uniform(0, 2 * np.pi)
    center = (box[:2] + box[2:]) / 2 + 0.62 * side * np.array([np.cos(angle), np.sin(angle)])
    axes = (max(1, int(rng.uniform(0.15, 0.4) * side)), max(1, int(rng.uniform(0.1, 0.35) * side)))
    color = tuple(float(v) for v in rng.uniform(5, 250, 3))
    middle = (int(center[0]), int(center[1]))
    cv2.ellipse(canvas, middle, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)


def _paste(canvas: np.ndarray, image: np.ndarray, alpha: np.ndarray, corner: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    x, y = int(corner[0]), int(corner[1])
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + image.shape[1], width), min(y + image.shape[0], height)
    if right <= left or bottom <= top:
        return
    part = (slice(top - y, bottom - y), slice(left - x, right - x))
    area = canvas[top:bottom, left:right]
    area *= 1 - alpha[part][..., None]
    area += image[part]


def _draw_encoded(config: SyntheticConfig, index: int):
    image = draw_image(config, index)
    return encode_jpeg(image.pixels), image.boxes, image.landmarks


def _start_worker() -> None:
    import cv2

    cv2.setNumThreads(1)


def draw_images(
    config: SyntheticConfig,
    first: int,
    count: int,
    *,
    processes: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Iterator[tuple[bytes, AnnotatedImage]]:
    """Images `first` to `first + count` as JPEG bytes and labels, in order.

    Args:
        first, count: which numbers of the sequence.
        processes: that draw side by side; the result does not depend on it.

    Yields:
        Bytes and labels; the label's path is "synthetic-NUMBER.jpg".
    """
    draw = partial(_draw_encoded, config)
    indices = range(first, first + count)

    def label(index, drawn):
        if progress:
            progress(1)
        return drawn[0], AnnotatedImage(Path(f"synthetic-{index:06d}.jpg"), *drawn[1:])

    # Few images are not worth starting processes for.
    if processes <= 1 or count < 64:
        for index in indices:
            yield label(index, draw(index))
        return
    # Fresh interpreters: a copy of one that has started TensorFlow's threads could hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), _start_worker) as pool:
        with out_of_reach_of_ctrl_c():
            results = pool.map(draw, indices, chunksize=8)
        try:
            for index, drawn in zip(indices, results):
                yield label(index, drawn)
        finally:  # whoever stops early does not wait for the rest
            pool.shutdown(cancel_futures=True)
