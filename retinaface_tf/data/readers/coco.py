"""COCO's JSON with boxes and, where given, five keypoints a face."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import (
    AnnotatedImage,
    LabelledImage,
    attribute_columns,
    corners_from_xywh,
    decimals,
    decimals_xywh,
)
from retinaface_tf.data.readers.categories import face_categories
from retinaface_tf.errors import DataError
from retinaface_tf.faces.rows import LANDMARK_NAMES
from retinaface_tf.util.text_lines import MALFORMED, read_text


def read_coco(
    labels: Path | str, images: Path | str, category: str | int | None = None
) -> list[AnnotatedImage]:
    """Images of a COCO annotation file, in the order of its "images".

    "keypoints" of exactly five points are taken in their order, which has to be the image's left
    eye, right eye, nose, left and right mouth corner; a point with visibility 0 is NaN. Faces
    with other keypoints have none. Crowds ("iscrowd") are `ignored`, and what "ignore" or an entry of
    "attributes" (as CVAT writes) marks so; other entries are `AnnotatedImage.attributes`. "score", as in
    COCO's files of results, is the face's.

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
            scores=np.array([face.get("score", np.nan) for face in faces[image["id"]]], float),
            attributes=attribute_columns([_attributes(face) for face in faces[image["id"]]]),
        )
        for image in entries
    ]


def _category_ids(document: dict, labels, category: str | int | None) -> set:
    """Ids of the annotations that are faces; None for those without an id."""
    names = {entry["id"]: str(entry["name"]) for entry in document.get("categories", ())}
    for annotation in document["annotations"]:
        if annotation.get("category_id") is not None:
            names.setdefault(annotation["category_id"], "")
    return face_categories(names, labels, category) | ({None} if category is None else set())


def _attributes(face: dict) -> dict:
    return {"ignored": face.get("ignore", 0), **(face.get("attributes") or {})}


def _points(face: dict) -> np.ndarray:
    numbers = face.get("keypoints", ())
    if len(numbers) != 15:
        return np.full((5, 2), np.nan, np.float32)
    triples = np.array(numbers, np.float32).reshape(5, 3)
    return np.where(triples[:, 2:] == 0, np.nan, triples[:, :2])


def write_coco(entries: Sequence[LabelledImage]) -> str:
    """A COCO annotation file; `ignored` faces are crowds, which its evaluation does not count."""
    images, annotations = [], []
    for number, (name, (height, width), image) in enumerate(entries, start=1):
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        rows = zip(
            decimals_xywh(image.boxes),
            image.landmarks,
            image.ignored,
            decimals(image.scores),
            image.attribute_rows(),
        )
        for box, points, ignored, score, attributes in rows:
            seen = np.isfinite(points).all(axis=1)
            places = decimals(np.where(seen[:, None], points, 0))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(ignored),
                    "num_keypoints": int(seen.sum()),
                    "keypoints": [
                        value for place, s in zip(places, seen) for value in (*place, 2 * int(s))
                    ],
                }
                | ({"score": score} if np.isfinite(score) else {})
                | ({"attributes": attributes} if attributes else {})
            )
    category = {"id": 1, "name": "face", "supercategory": "person", "skeleton": []}
    categories = [{**category, "keypoints": list(LANDMARK_NAMES)}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})
