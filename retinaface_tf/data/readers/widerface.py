"""WIDER FACE's own lists (Yang et al. 2016), and RetinaFace's with five landmarks (Deng et al. 2019)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import (
    AnnotatedImage,
    LabelledImage,
    corners_from_xywh,
    decimals,
    decimals_xywh,
)
from retinaface_tf.data.readers.face_lists import number_line, read_face_list
from retinaface_tf.util.text_lines import TextLines

# What follows the box of a face. Blur and occlusion: 0 none, 1 some, 2 heavy; the others 0 or 1.
WIDER_COLUMNS = ("blur", "expression", "illumination", "ignored", "occlusion", "pose")


def read_widerface(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a `wider_face_{train,val}_bbx_gt.txt` in its order; faces marked invalid are `ignored`.

    Its other columns, `WIDER_COLUMNS`, are the images' `attributes`.

    Args:
        images: folder the names in the list are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return [
        AnnotatedImage(
            Path(images) / image.name,
            corners_from_xywh(image.columns(0, 4)),
            attributes={
                name: [row[4 + number] if len(row) > 4 + number else np.nan for row in image.rows]
                for number, name in enumerate(WIDER_COLUMNS)
            },
        )
        for image in read_face_list(labels, 4)
    ]


def write_widerface(entries: Sequence[LabelledImage]) -> str:
    """A list that WIDER FACE's own programs read; attributes that are not known are 0."""
    text = []
    for name, _, image in entries:
        text += [f"{name}\n", f"{len(image.boxes)}\n"]
        known = {"ignored": image.ignored, **image.attributes}
        none = np.zeros(len(image.boxes))
        columns = np.transpose([np.nan_to_num(known.get(c, none)) for c in WIDER_COLUMNS])
        rows = zip(decimals_xywh(image.boxes), decimals(columns))
        text += [number_line([*box, *values]) for box, values in rows] or [number_line([0] * 10)]
    return "".join(text)


def read_retinaface_labels(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a `label.txt` in its order.

    An image is a line `# name`, a face a line `x y w h` with, in the training list, five times
    `x y flag` and a blur value after it. Flag 0 is a visible point, 1 an occluded one; both are
    labels. A point of -1 or with flag -1 is unlabelled, hence NaN. The value after the points is the
    attribute "blur".

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
        boxes, landmarks, blur = [], [], []
        while lines and not lines.peek().startswith("#"):
            numbers = lines.take_numbers(4)
            if 4 < len(numbers) < 19:
                raise lines.error(f"{len(numbers)} numbers; a face has 4 or at least 19")
            boxes.append(numbers[:4])
            landmarks.append(_points(numbers[4:19]))
            blur.append(numbers[19] if len(numbers) > 19 else np.nan)
        result.append(
            AnnotatedImage(
                images / header.removeprefix("#").strip(),
                corners_from_xywh(boxes),
                np.array(landmarks, np.float32).reshape(-1, 5, 2),
                attributes={"blur": blur},
            )
        )
    return result


def write_retinaface_labels(entries: Sequence[LabelledImage]) -> str:
    """A `label.txt`; a point that is not known is -1 -1 -1."""
    text = []
    for name, _, image in entries:
        text.append(f"# {name}\n")
        seen = np.isfinite(image.landmarks).all(axis=2, keepdims=True)
        triples = np.concatenate([np.where(seen, image.landmarks, -1), seen - 1.0], axis=2)
        blur = image.attributes.get("blur", np.full(len(image.boxes), np.nan))
        for box, points, value in zip(
            decimals_xywh(image.boxes), decimals(triples.reshape(-1, 15)), decimals(blur)
        ):
            text.append(number_line([*box, *points, *([] if np.isnan(value) else [value])]))
    return "".join(text)


def _points(numbers: list[float]) -> np.ndarray:
    if not numbers:
        return np.full((5, 2), np.nan, np.float32)
    triples = np.array(numbers, np.float32).reshape(5, 3)
    unlabelled = (triples[:, 2] == -1) | (triples[:, :2] == -1).all(axis=1)
    return np.where(unlabelled[:, None], np.nan, triples[:, :2])
