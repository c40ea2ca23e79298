"""Finds bad labels and images before training meets them."""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.images.decode import orientation
from retinaface_tf.images.read import require_photo_size
from retinaface_tf.util.files import is_file

# Eyes or mouth corners are called exchanged when they stand the wrong way round by more than this, in
# sqrt(W * H) of the box: seen from the side, they lie close together and may be either way round.
EXCHANGED = 0.1
# A labelled point may stand this far outside its box, in box sizes, before it is called wrong:
# annotators' boxes are tight and mouth corners of turned heads reach over their edge.
LANDMARK_MARGIN = 0.2

IMAGE_PROBLEMS = ("missing file", "undecodable image")
FACE_PROBLEMS = (
    *("NaN in box", "negative size", "zero size", "box in 0..1, not in pixels"),
    "outside the image",
)
LANDMARK_PROBLEMS = ("landmarks outside the box", "left and right landmarks exchanged")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an image or a face.

    Attributes:
        kind: one of `IMAGE_PROBLEMS`, `FACE_PROBLEMS`, `LANDMARK_PROBLEMS`.
        face: index of the face in its image, None for the image.
    """

    kind: str
    path: str
    face: int | None
    detail: str

    @property
    def place(self) -> str:
        """The image and, where it is one, the face."""
        return self.path if self.face is None else f"{self.path} face {self.face}"


@dataclass(frozen=True)
class CheckResult:
    """What `check_images` found.

    Attributes:
        images: the images that can be used, without their unusable faces and landmarks.
        problems: everything found, in the images' order.
        turned: paths of the images that their EXIF orientation turns; no problem where labels are of
            the upright image.
    """

    images: list[AnnotatedImage]
    problems: list[Problem]
    checked: int
    turned: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Problems by kind, only those that occur."""
        return dict(Counter(problem.kind for problem in self.problems))

    def summary(self) -> str:
        """How much was checked, what is left out of training, with an example of each kind."""
        lines = [f"checked {self.checked} images: no problem"]
        if self.problems:
            counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
            unlabelled = sum(p.kind in LANDMARK_PROBLEMS for p in self.problems)
            lines = [
                f"checked {self.checked} images: {counts}; {self.checked - len(self.images)} images "
                f"and {sum(p.kind in FACE_PROBLEMS for p in self.problems)} faces are skipped, "
                f"landmarks of {unlabelled} faces are left out"
            ]
        first = {problem.kind: problem for problem in reversed(self.problems)}
        lines += [f"  {kind}: for example {first[kind].place}" for kind in self.counts()]
        if self.turned:
            lines.append(
                f"note: {len(self.turned)} images are turned by their EXIF orientation, for example "
                f"{self.turned[0]}: their labels have to be of the upright image"
            )
        return "\n".join(lines)


def check_faces(image: AnnotatedImage, width: int, height: int) -> list[Problem]:
    """Problems of the labels of one image of `width` x `height` pixels."""
    problems = []
    for number, (box, points) in enumerate(zip(image.boxes, image.landmarks)):
        kind = _box_problem(box, width, height)
        if kind is None and _points_outside(box, points, width, height):
            kind = LANDMARK_PROBLEMS[0]
        elif kind is None and _exchanged(box, points):
            kind = LANDMARK_PROBLEMS[1]
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
    if (box >= 0).all() and (box <= 1).all() and min(width, height) > 1:
        return "box in 0..1, not in pixels"
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


def _exchanged(box: np.ndarray, points: np.ndarray) -> bool:
    """Whether eyes or mouth corners are the person's left first, however the face is turned."""
    eyes, mouth = points[:2], points[3:]
    down = mouth.mean(axis=0) - eyes.mean(axis=0)
    length = np.linalg.norm(down)
    if not length > 0:  # NaN too
        return False
    least = EXCHANGED * np.sqrt(np.prod(box[2:] - box[:2]))
    # Across the face, to the right of who looks at it upright: "down" turned by a quarter.
    across = np.array([down[1], -down[0]]) / length
    return any(float((pair[1] - pair[0]) @ across) < -least for pair in (eyes, mouth))


def check_images(
    images: Iterable[AnnotatedImage],
    *,
    decode: bool = True,
    progress: Callable[[int], object] | None = None,
) -> CheckResult:
    """Looks at every label and, with TensorFlow's own decoder, at every image.

    Args:
        decode: decode each image as training does; False reads only the size in its header and
            so misses damage further on.
    """
    images = list(images)

    def check(image: AnnotatedImage) -> tuple[AnnotatedImage | None, list[Problem], bool]:
        path = str(image.path)
        try:
            if not is_file(image.path):
                return None, [Problem("missing file", path, None, "no such file")], False
            try:
                width, height, turned = _upright_size(image.path, decode)
            except Exception as error:
                message = str(error).split("\n")[0][:120]
                return None, [Problem("undecodable image", path, None, message)], False
            problems = check_faces(image, width, height)
            return _without(image, problems), problems, turned
        finally:
            if progress:
                progress(1)

    if decode:  # here: Ctrl-C waits for what threads do
        import tensorflow  # noqa: F401
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(check, images))
    return CheckResult(
        [image for image, _, _ in answers if image is not None],
        [problem for _, problems, _ in answers for problem in problems],
        len(images),
        tuple(str(image.path) for image, (_, _, turned) in zip(images, answers) if turned),
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


def _upright_size(path: Path, decode: bool) -> tuple[int, int, bool]:
    """Width and height of an image as it is seen, and whether its EXIF orientation turns it.

    `decode` raises where training could not read it.
    """
    from PIL import Image

    require_photo_size(path)
    with Image.open(path) as image:
        exif = orientation(image)
        size = image.size[:: -1 if exif >= 5 else 1]
    if decode:
        import tensorflow as tf

        # On the CPU whatever the machine has: hundreds of images of different sizes.
        with tf.device("CPU"):
            tf.io.decode_image(
                tf.io.read_file(os.fsencode(path)), channels=3, expand_animations=False
            )
    return *size, exif != 1
