"""LabelMe's JSON, one file an image (https://github.com/wkentaro/labelme).

A face is a rectangle, or a polygon's bounding box. Its points are shapes of the kind "point", named
like "left_eye" or "mouth corner right", with the image's left and right; they have the face's
`group_id`, or belong to the face they lie in. The face's flags are attributes, "ignored" among them;
its "score", which LabelMe keeps though it does not show it, says how sure a detector was.
"""

import json
import os
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import (
    AnnotatedImage,
    LabelledImage,
    attribute_columns,
    decimals,
)
from retinaface_tf.data.readers.categories import face_categories
from retinaface_tf.errors import DataError
from retinaface_tf.faces.rows import LANDMARK_NAMES
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.text_lines import MALFORMED, read_text

_WORDS = [{"left", "eye"}, {"right", "eye"}, {"nose"}, {"left", "mouth"}, {"right", "mouth"}]


def read_labelme(
    labels: Path | str, images: Path | str, category: str | int | None = None
) -> list[AnnotatedImage]:
    """The images of LabelMe's files in the order of their names.

    Args:
        labels: folder of the files, with subfolders, or one file.
        images: folder for images that are not where their file says, relative to itself.
        category: label of the shapes that are faces. None: the only one, or "face".

    Raises:
        DataError: a file cannot be read or is not LabelMe's, has a point that belongs to no face, or
            there are several labels and none was chosen.
    """
    labels = Path(labels)
    files = sorted(labels.rglob("*.json")) if is_folder(labels) else [labels]
    root = labels if is_folder(labels) else labels.parent
    found, names = [], {}
    for file in files:
        try:
            document = json.loads(read_text(file))
            if file != labels and "shapes" not in document:  # such as a COCO file beside them
                continue
            shapes = [_shape(shape) for shape in document["shapes"]]
            path = _image_path(file, document["imagePath"], Path(images) / file.relative_to(root))
        except MALFORMED as error:
            raise DataError(f"Label file {file} is not LabelMe's JSON: {error!r}.") from None
        found.append((file, path, shapes))
        names |= {shape["label"]: shape["label"] for shape in shapes if shape["box"] is not None}
    wanted = face_categories(names, labels, category)
    return [_annotated(file, path, shapes, wanted) for file, path, shapes in found]


def write_labelme(entry: LabelledImage, file: Path) -> str:
    """One image's file, which will be `file`: LabelMe looks for the image from there."""
    image = entry.image
    shapes = []
    for group, (box, points, score, flags) in enumerate(
        zip(image.boxes, image.landmarks, decimals(image.scores), image.attribute_rows())
    ):
        common = {"group_id": group, "description": ""}
        flags |= {"ignored": True} if image.ignored[group] else {}
        corners = decimals(box.reshape(2, 2))
        shapes.append(
            {
                "label": "face",
                "points": corners,
                **common,
                "shape_type": "rectangle",
                "flags": flags,
            }
            | ({"score": score} if np.isfinite(score) else {})
        )
        for name, point in zip(LANDMARK_NAMES, points):
            if np.isfinite(point).all():
                place = {"points": [decimals(point)], **common}
                shapes.append({"label": name, **place, "shape_type": "point", "flags": {}})
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image.path, file.parent)).as_posix(),
        "imageData": None,
        "imageHeight": entry.size[0],
        "imageWidth": entry.size[1],
    }
    return json.dumps(document, indent=2) + "\n"


def _shape(shape: dict) -> dict:
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    kind = shape.get("shape_type", "polygon")
    corners = [*points.min(axis=0), *points.max(axis=0)]
    return {
        "label": str(shape["label"]),
        "group": shape.get("group_id"),
        "box": np.array(corners) if kind in ("rectangle", "polygon") else None,
        "point": points[0] if kind == "point" else None,
        "flags": dict(shape.get("flags") or {}),
        "score": np.nan if shape.get("score") is None else float(shape["score"]),
    }


def _image_path(file: Path, name: str, copy: Path) -> Path:
    """Where the file says, else of the same name in the folder of images."""
    name = name.replace("\\", "/")  # as LabelMe for Windows writes
    beside = Path(os.path.normpath(file.parent / name))
    return beside if is_file(beside) else copy.parent / Path(name).name


def _annotated(file: Path, path: Path, shapes: list[dict], wanted: set) -> AnnotatedImage:
    faces = [s for s in shapes if s["box"] is not None and s["label"] in wanted]
    landmarks = np.full((len(faces), 5, 2), np.nan)
    for shape in shapes:
        words = set(shape["label"].lower().replace("_", " ").replace("-", " ").split())
        words -= {"corner", "tip", "center", "centre"}
        if shape["point"] is None or words not in _WORDS:
            continue
        if not faces:
            raise DataError(f"{file}: the point {shape['label']!r} belongs to no face.")
        face = _owner(shape, faces)
        landmarks[face, _WORDS.index(words)] = shape["point"]
    attributes = attribute_columns([face["flags"] for face in faces])
    boxes, scores = ([face[key] for face in faces] for key in ("box", "score"))
    return AnnotatedImage(path, boxes, landmarks, scores=scores, attributes=attributes)


def _owner(point: dict, faces: list[dict]) -> int:
    """The face of the point's group, else the one whose box is nearest, the smallest of several."""

    def distance(number: int) -> tuple:
        box, group = faces[number]["box"], faces[number]["group"]
        outside = np.maximum(np.maximum(box[:2] - point["point"], point["point"] - box[2:]), 0)
        other = point["group"] is None or group != point["group"]
        return other, float(outside.max()), float(np.prod(box[2:] - box[:2]))

    return min(range(len(faces)), key=distance)
