"""Finds bad labels and images before training meets them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.images.decode import orientation

# A labelled point may stand this far outside its box, in box sizes, before it is called wrong:
# annotators' boxes are tight and mouth corners of turned heads reach over their edge.
LANDMARK_MARGIN = 0.2

IMAGE_PROBLEMS = ("missing file", "undecodable image")
FACE_PROBLEMS = ("NaN in box", "negative size", "zero size", "outside the image")
LANDMARK_PROBLEMS = ("landmarks outside the box",)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an image or a face.

    Attributes:
        kind: one of `IMAGE_PROBLEMS`, `FACE_PROBLEMS`, `LANDMARK_PROBLEMS`.
        path: of the image, as text.
        face: index of the face in its image, None for the image.
        detail: numbers or message.
    """

    kind: str
    path: str
    face: int | None
    detail: str


@dataclass(frozen=True)
class CheckResult:
    """What `check_images` found.

    Attributes:
        images: the images that can be used, without their unusable faces and landmarks.
        problems: everything found, in the images' order.
        checked: number of images looked at.
    """

    images: list[AnnotatedImage]
    problems: list[Problem]
    checked: int

    def counts(self) -> dict[str, int]:
        """Problems by kind, only those that occur."""
        return dict(Counter(problem.kind for problem in self.problems))

    def summary(self) -> str:
        """One line: how much was checked, what is left out of training."""
        if not self.problems:
            return f"checked {self.checked} images: no problem"
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        return (
            f"checked {self.checked} images: {counts}; {self.checked - len(self.images)} images "
            f"and {sum(p.kind in FACE_PROBLEMS for p in self.problems)} faces are skipped"
        )


def check_faces(image: AnnotatedImage, width: int, height: int) -> list[Problem]:
    """Problems of the labels of one image of `width` x `height` pixels."""
    problems = []
    for number, (box, points) in enumerate(zip(image.boxes, image.landmarks)):
        kind = _box_problem(box, width, height)
        if kind is None and _points_outside(box, points, width, height):
            kind = LANDMARK_PROBLEMS[0]
        if kind:
            text = "box " + " ".join(f"{value:g}" for value in box) + f" in {width}x{height}"
            if kind in LANDMARK_PROBLEMS:
                text += ", points " + " ".join(f"{value:g}" for value in points.ravel())
            problems.append(Problem(kind, str(image.path), number, text))
    return problems


def _box_problem(box: np.ndarray, width: int, height: int) -> str | None:
    if not np.isfinite(box).all():
        return "NaN in box"
    sides = box[2:] - box[:2]
    if (sides < 0).any():
        return "negative size"
    if (sides == 0).any():
        return "zero size"
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        return "outside the image"
    return None


def _points_outside(box: np.ndarray, points: np.ndarray, width: int, height: int) -> bool:
    margin = LANDMARK_MARGIN * (box[2:] - box[:2])
    # A box at the image's edge may have been cut off there; its points were not.
    low = np.where(box[:2] <= 0, -np.inf, box[:2] - margin)
    high = np.where(box[2:] >= (width, height), np.inf, box[2:] + margin)
    # Comparisons with NaN are false, so unlabelled points never count.
    return bool(((points < low) | (points > high)).any())


def check_images(
    images: Iterable[AnnotatedImage],
    *,
    decode: bool = True,
    threads: int = 8,
    progress: Callable[[int], object] | None = None,
) -> CheckResult:
    """Looks at every label and, with TensorFlow's own decoder, at every image.

    Args:
        images: what a reader returned.
        decode: decode each image as training does; False reads only the size in its header and
            so misses damage further on.
        threads: images looked at side by side.
        progress: called with 1 after each image.
    """
    images = list(images)

    def check(image: AnnotatedImage) -> tuple[AnnotatedImage | None, list[Problem]]:
        try:
            if not image.path.is_file():
                return None, [Problem("missing file", str(image.path), None, "no such file")]
            try:
                width, height = _upright_size(image.path, decode)
            except Exception as error:
                message = str(error).split("\n")[0][:120]
                return None, [Problem("undecodable image", str(image.path), None, message)]
            problems = check_faces(image, width, height)
            return _without(image, problems), problems
        finally:
            if progress:
                progress(1)

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(check, images))
    return CheckResult(
        [image for image, _ in answers if image is not None],
        [problem for _, problems in answers for problem in problems],
        len(images),
    )


def _without(image: AnnotatedImage, problems: list[Problem]) -> AnnotatedImage:
    """The image without its bad faces, and with bad landmarks as unlabelled."""
    if not problems:
        return image
    landmarks = image.landmarks.copy()
    landmarks[[p.face for p in problems if p.kind in LANDMARK_PROBLEMS]] = np.nan
    kept = np.ones(len(image.boxes), bool)
    kept[[p.face for p in problems if p.kind in FACE_PROBLEMS]] = False
    return dataclasses.replace(image, landmarks=landmarks).keep(kept)


def _upright_size(path: Path, decode: bool) -> tuple[int, int]:
    """Width and height of an image as it is seen; `decode` raises where training could not read it."""
    from PIL import Image

    with Image.open(path) as image:
        size = image.size[:: -1 if orientation(image) >= 5 else 1]
    if decode:
        import tensorflow as tf

        # On the CPU whatever the machine has: hundreds of images of different sizes.
        with tf.device("CPU"):
            tf.io.decode_image(tf.io.read_file(str(path)), channels=3, expand_animations=False)
    return size
