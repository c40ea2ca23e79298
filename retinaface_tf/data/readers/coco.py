"""COCO's JSON with boxes and, where given, five keypoints a face."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.errors import DataError


def read_coco(
    labels: Path | str, images: Path | str, category: str | None = None
) -> list[AnnotatedImage]:
    """Images of a COCO annotation file, in the order of its "images".

    "keypoints" of exactly five points are taken in their order, which has to be the image's left
    eye, right eye, nose, left and right mouth corner; a point with visibility 0 is NaN. Faces
    with other keypoints have none. Crowds ("iscrowd") are `ignored`.

    Args:
        labels: the JSON file.
        images: folder the file names are relative to.
        category: only faces of the category of that name; None takes every annotation.

    Raises:
        DataError: the file cannot be read, is not COCO's layout, or has no such category.
    """
    try:
        document = json.loads(Path(labels).read_text(encoding="utf-8"))
        entries, annotations = document["images"], document["annotations"]
        wanted = None
        if category is not None:
            wanted = {c["id"] for c in document["categories"] if c["name"] == category}
    except OSError as error:
        raise DataError(f"Cannot read label file {labels}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"Label file {labels} is not COCO JSON: {error!r}.") from error
    if wanted is not None and not wanted:
        raise DataError(f"Label file {labels} has no category named {category!r}.")
    faces: dict = {image["id"]: [] for image in entries}
    for number, annotation in enumerate(annotations):
        if annotation.get("image_id") not in faces or len(annotation.get("bbox", ())) != 4:
            raise DataError(
                f"Annotation {number} of {labels} needs a 'bbox' of 4 numbers and the 'image_id' "
                "of a listed image."
            )
        if wanted is None or annotation.get("category_id") in wanted:
            faces[annotation["image_id"]].append(annotation)
    return [
        AnnotatedImage(
            Path(images) / image["file_name"],
            corners_from_xywh([face["bbox"] for face in faces[image["id"]]]),
            np.array([_points(face) for face in faces[image["id"]]], np.float32),
            np.array([bool(face.get("iscrowd", 0)) for face in faces[image["id"]]], bool),
        )
        for image in entries
    ]


def _points(face: dict) -> np.ndarray:
    numbers = face.get("keypoints", ())
    if len(numbers) != 15:
        return np.full((5, 2), np.nan, np.float32)
    triples = np.array(numbers, np.float32).reshape(5, 3)
    return np.where(triples[:, 2:] == 0, np.nan, triples[:, :2])
