"""Annotated points as the field's data sets keep them, read into the library's five.

Known: lists of "image five-x five-y" (Sun et al.'s facial point set), dlib's XML with 68 parts,
AFLW2000-3D's `.mat`, `.pts` files beside their images, and this project's JSON lines.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.evaluation.detections import IMAGE_EXTENSIONS, DetectionsError
from retinaface_tf.evaluation.landmarks import points_box
from retinaface_tf.mesh.landmarks import five_of_vertices


@dataclass(frozen=True)
class AnnotatedImage:
    """One image's faces.

    Attributes:
        image: path of the image.
        points: float64 [M, 5, 2] pixels in the library's order, NaN where not annotated.
        boxes: float64 [M, 4] x1, y1, x2, y2; errors are normalised by sqrt(W * H) of these.
    """

    image: Path
    points: np.ndarray
    boxes: np.ndarray


def read_landmark_truth(path: Path | str) -> list[AnnotatedImage]:
    """Read annotated points, whichever known kind `path` is.

    Args:
        path: a `.txt` list, dlib's `.xml`, a `.jsonl`, or a folder of `.mat` or `.pts` files with
            their images.

    Raises:
        DetectionsError: nothing of a known kind, with the file and, where there are lines, the line.
    """
    path = Path(path)
    if path.is_dir():
        for pattern, reader in (("*.mat", _read_mat), ("*.pts", _read_pts)):
            files = sorted(path.glob(pattern))
            if files:
                return [reader(file) for file in files]
        raise DetectionsError(f"{path} holds neither .mat nor .pts files of points.")
    if not path.is_file():
        raise DetectionsError(f"{path} does not exist; give a file or folder of annotated points.")
    readers = {".txt": read_point_list, ".xml": read_dlib_xml, ".jsonl": read_points_json}
    if path.suffix not in readers:
        raise DetectionsError(
            f"{path}: points are read from {', '.join(readers)} or a folder of .mat or .pts."
        )
    return readers[path.suffix](path)


def read_point_list(file: Path) -> list[AnnotatedImage]:
    """Lines `IMAGE x1..x5 y1..y5`: crops of one face each, whose box is the crop itself."""
    import cv2

    images = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            x_then_y = np.array(words[1:], np.float64).reshape(2, 5)
        except ValueError:
            raise DetectionsError(
                f"{file} line {number}: expected an image and ten numbers, five x then five y."
            ) from None
        image = file.parent / words[0]
        pixels = cv2.imread(str(image))
        if pixels is None:
            raise DetectionsError(f"{file} line {number}: {image} cannot be read as an image.")
        box = [[0.0, 0.0, pixels.shape[1], pixels.shape[0]]]
        images.append(AnnotatedImage(image, x_then_y.T[None], np.array(box)))
    return images


def read_dlib_xml(file: Path) -> list[AnnotatedImage]:
    """dlib's `*_with_face_landmarks.xml`: boxes with 68 parts; `ignore` boxes are left out."""
    try:
        root = ElementTree.parse(file).getroot()
        images = []
        for image in root.iter("image"):
            points, boxes = [], []
            for box in image.iter("box"):
                parts = {
                    int(p.get("name")): (float(p.get("x")), float(p.get("y")))
                    for p in box.iter("part")
                }
                if len(parts) != 68 or box.get("ignore") == "1":
                    continue
                left, top = float(box.get("left")), float(box.get("top"))
                points.append(five_of_vertices(np.array([parts[i] for i in range(68)], float)))
                sides = float(box.get("width")), float(box.get("height"))
                boxes.append([left, top, left + sides[0], top + sides[1]])
            if points:
                picture = file.parent / image.get("file")
                images.append(AnnotatedImage(picture, np.array(points), np.array(boxes)))
    except (ElementTree.ParseError, TypeError, ValueError, KeyError) as error:
        raise DetectionsError(f"{file} is not dlib's XML of boxes with parts: {error}.") from None
    return images


def read_points_json(file: Path) -> list[AnnotatedImage]:
    """Lines of `detect --json`, taken as truth; relative images lie beside the file."""
    images = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            points = np.array([f["landmarks"] for f in entry["faces"]], float).reshape(-1, 5, 2)
            boxes = np.array([f["box"] for f in entry["faces"]], float).reshape(-1, 4)
            images.append(AnnotatedImage(file.parent / entry["image"], points, boxes))
        except (ValueError, KeyError, TypeError) as error:
            raise DetectionsError(
                f"{file} line {number}: not an object with image and faces (box, landmarks): {error}."
            ) from None
    return images


def _read_mat(file: Path) -> AnnotatedImage:
    """AFLW2000-3D: the box around the 68 projected points, as that set is always normalised."""
    from scipy.io import loadmat

    try:
        points = np.asarray(loadmat(file)["pt3d_68"], float)[:2].T
        return AnnotatedImage(
            _image_of(file), five_of_vertices(points)[None], points_box(points)[None]
        )
    except (KeyError, ValueError, IndexError, OSError) as error:
        raise DetectionsError(f"{file} holds no pt3d_68 [3, 68]: {error}.") from None


def _read_pts(file: Path) -> AnnotatedImage:
    """iBUG's `.pts` with 68 points, counted from pixel 1; the box around them."""
    try:
        text = file.read_text(encoding="utf-8")
        body = text[text.index("{") + 1 : text.index("}")].split()
        points = np.array(body, float).reshape(68, 2) - 1
        return AnnotatedImage(
            _image_of(file), five_of_vertices(points)[None], points_box(points)[None]
        )
    except (ValueError, IndexError) as error:
        raise DetectionsError(f"{file} is not a .pts file of 68 points: {error}.") from None


def _image_of(file: Path) -> Path:
    for extension in IMAGE_EXTENSIONS:
        if file.with_suffix(extension).is_file():
            return file.with_suffix(extension)
    raise DetectionsError(f"No image lies beside {file}.")
