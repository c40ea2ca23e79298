"""WIDER FACE's own lists (Yang et al. 2016), and RetinaFace's with five landmarks (Deng et al. 2019)."""

from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.data.readers.face_lists import read_face_list
from retinaface_tf.util.text_lines import TextLines

# Columns: x y w h blur expression illumination invalid occlusion pose.
_INVALID = 7


def read_widerface(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a `wider_face_{train,val}_bbx_gt.txt` in its order; faces marked invalid are `ignored`.

    Args:
        images: folder the names in the list are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return [
        AnnotatedImage(
            Path(images) / image.name,
            corners_from_xywh(image.columns(0, 4)),
            ignored=[sum(row[_INVALID : _INVALID + 1]) > 0 for row in image.rows],
        )
        for image in read_face_list(labels, 4)
    ]


def read_retinaface_labels(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a `label.txt` in its order.

    An image is a line `# name`, a face a line `x y w h` with, in the training list, five times
    `x y flag` and a blur value after it. Flag 0 is a visible point, 1 an occluded one; both are
    labels. A point of -1 or with flag -1 is unlabelled, hence NaN.

    Args:
        images: folder the names in the list are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    lines, images, result = TextLines(labels), Path(images), []
    while lines:
        header = lines.take("a line '# file name'")
        if not header.startswith("#"):
            raise lines.error(f"{header[:60]!r} is not '# file name'")
        boxes, landmarks = [], []
        while lines and not lines.peek().startswith("#"):
            numbers = lines.take_numbers(4)
            if 4 < len(numbers) < 19:
                raise lines.error(f"{len(numbers)} numbers; a face has 4 or at least 19")
            boxes.append(numbers[:4])
            landmarks.append(_points(numbers[4:19]))
        result.append(
            AnnotatedImage(
                images / header.removeprefix("#").strip(),
                corners_from_xywh(boxes),
                np.array(landmarks, np.float32).reshape(-1, 5, 2),
            )
        )
    return result


def _points(numbers: list[float]) -> np.ndarray:
    if not numbers:
        return np.full((5, 2), np.nan, np.float32)
    triples = np.array(numbers, np.float32).reshape(5, 3)
    unlabelled = (triples[:, 2] == -1) | (triples[:, :2] == -1).all(axis=1)
    return np.where(unlabelled[:, None], np.nan, triples[:, :2])
