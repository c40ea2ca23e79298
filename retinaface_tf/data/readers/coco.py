"""COCO's JSON with boxes and, where given, five keypoints a face."""

import json
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.errors import DataError
from retinaface_tf.util.text_lines import MALFORMED, read_text


def read_coco(
    labels: Path | str, images: Path | str, category: str | int | None = None
) -> list[AnnotatedImage]:
    """Images of a COCO annotation file, in the order of its "images".

    "keypoints" of exactly five points are taken in their order, which has to be the image's left
    eye, right eye, nose, left and right mouth corner; a point with visibility 0 is NaN. Faces
    with other keypoints have none. Crowds ("iscrowd") are `ignored`.

    Args:
        images: folder the file names are relative to.
        category: name or id of the category that is faces. None: the only one, or the one named
            "face".

    Raises:
        DataError: the file cannot be read, is not COCO's layout, has no such category, or has
            several and none was chosen.
    """
    try:
        document = json.loads(read_text(labels))
        return _annotated(document, Path(images), labels, category)
    except MALFORMED as error:
        raise DataError(f"Label file {labels} is not COCO JSON: {error!r}.") from error


def _annotated(document, images: Path, labels, category) -> list[AnnotatedImage]:
    entries, annotations = document["images"], document["annotations"]
    wanted = _category_ids(document, labels, category)
    faces: dict = {image["id"]: [] for image in entries}
    for number, annotation in enumerate(annotations):
        if annotation.get("image_id") not in faces or len(annotation.get("bbox", ())) != 4:
            raise DataError(
                f"Annotation {number} of {labels} needs a 'bbox' of 4 numbers and the 'image_id' "
                "of a listed image."
            )
        if annotation.get("category_id") in wanted:
            faces[annotation["image_id"]].append(annotation)
    return [
        AnnotatedImage(
            images / image["file_name"],
            corners_from_xywh([face["bbox"] for face in faces[image["id"]]]),
            np.array([_points(face) for face in faces[image["id"]]], np.float32),
            np.array([bool(face.get("iscrowd", 0)) for face in faces[image["id"]]], bool),
        )
        for image in entries
    ]


def _category_ids(document: dict, labels, category: str | int | None) -> set:
    """Ids of the annotations that are faces; None for those without an id."""
    names = {entry["id"]: str(entry["name"]) for entry in document.get("categories", ())}
    for annotation in document["annotations"]:
        if annotation.get("category_id") is not None:
            names.setdefault(annotation["category_id"], "")
    known = ", ".join(f"{name!r} ({id})" if name else f"{id}" for id, name in names.items())
    if category is not None:
        ids = {id for id, name in names.items() if str(category) in (name, str(id))}
        if not ids:
            raise DataError(
                f"Label file {labels} has no category {category!r}; it has {known or 'none'}."
            )
        return ids
    if len(names) < 2:
        return {*names, None}
    ids = {id for id, name in names.items() if name.lower() == "face"}
    if not ids:
        raise DataError(
            f"Label file {labels} has several categories ({known}) and none named 'face'; choose one "
            "with --category, in training with --set data.category=NAME."
        )
    return ids | {None}


def _points(face: dict) -> np.ndarray:
    numbers = face.get("keypoints", ())
    if len(numbers) != 15:
        return np.full((5, 2), np.nan, np.float32)
    triples = np.array(numbers, np.float32).reshape(5, 3)
    return np.where(triples[:, 2:] == 0, np.nan, triples[:, :2])
