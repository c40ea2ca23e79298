"""Annotated points as the field's data sets keep them, read into the library's five.

Known: lists of "image five-x five-y" (Sun et al.'s facial point set), dlib's XML with 68 parts,
AFLW2000-3D's `.mat`, `.pts` files beside their images, and this project's JSON lines.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import DataError, ImageError
from retinaface_tf.evaluation.landmarks import points_box
from retinaface_tf.evaluation.mat_files import read_mat
from retinaface_tf.faces.json_lines import read_face_lines
from retinaface_tf.images.listing import IMAGE_SUFFIXES
from retinaface_tf.images.read import read_image
from retinaface_tf.mesh.topology import five_of_vertices
from retinaface_tf.util.files import is_file, is_folder
from retinaface_tf.util.text_lines import MALFORMED, TextLines, read_text


def read_landmark_truth(path: Path | str) -> list[AnnotatedImage]:
    """Read annotated points, whichever known kind `path` is.

    Raises:
        DataError: nothing of a known kind, with the file and, where there are lines, the line; or no
            face.
    """
    truth = _read_truth(Path(path))
    if not any(len(image.boxes) for image in truth):
        raise DataError(f"{path} holds no face with points.")
    return truth


def _read_truth(path: Path) -> list[AnnotatedImage]:
    if is_folder(path):
        for pattern, reader in (("*.mat", _read_mat), ("*.pts", _read_pts)):
            files = sorted(path.glob(pattern))
            if files:
                return [reader(file) for file in files]
        raise DataError(f"{path} holds neither .mat nor .pts files of points.")
    if not is_file(path):
        raise DataError(f"{path} does not exist; give a file or folder of annotated points.")
    readers = {".txt": read_point_list, ".xml": read_dlib_xml, ".jsonl": read_points_json}
    if path.suffix not in readers:
        raise DataError(
            f"{path}: points are read from {', '.join(readers)} or a folder of .mat or .pts."
        )
    return readers[path.suffix](path)


def read_point_list(file: Path) -> list[AnnotatedImage]:
    """Lines `IMAGE x1..x5 y1..y5`: crops of one face each, whose box is the crop itself."""
    images, lines = [], TextLines(file)
    while lines:
        name, *numbers = lines.take("an image").split()
        try:
            points = np.array(numbers, float).reshape(2, 5).T
            height, width, _ = read_image(file.parent / name).shape
        except ValueError:
            raise lines.error("not an image and ten numbers, five x then five y") from None
        except ImageError as error:
            raise lines.error(str(error).rstrip(".")) from None
        box = [[0, 0, width, height]]
        images.append(AnnotatedImage(file.parent / name, box, points[None]))
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
                points.append(five_of_vertices(np.array([parts[i] for i in range(68)])))
                sides = float(box.get("width")), float(box.get("height"))
                boxes.append([left, top, left + sides[0], top + sides[1]])
            if points:
                images.append(AnnotatedImage(file.parent / image.get("file"), boxes, points))
    except (ElementTree.ParseError, OSError, *MALFORMED) as error:
        raise DataError(f"{file} is not dlib's XML of boxes with parts: {error}.") from None
    return images


def read_points_json(file: Path) -> list[AnnotatedImage]:
    """Lines of `detect --json`, taken as truth; relative images lie beside the file."""
    images = []
    for line in read_face_lines(file):
        if not np.isfinite(line.landmarks).all():
            raise DataError(f"{line.where}: a face without landmarks cannot be the truth.")
        images.append(AnnotatedImage(file.parent / line.image, line.boxes, line.landmarks))
    return images


def _read_mat(file: Path) -> AnnotatedImage:
    """AFLW2000-3D: the box around the 68 projected points, as that set is always normalised."""
    try:
        points = np.asarray(read_mat(file)["pt3d_68"], float)[:2].T.reshape(68, 2)
        return AnnotatedImage(_image_of(file), points_box(points), five_of_vertices(points))
    except MALFORMED as error:
        raise DataError(f"{file} holds no pt3d_68 [3, 68]: {error}.") from None


def _read_pts(file: Path) -> AnnotatedImage:
    """iBUG's `.pts` with 68 points, counted from pixel 1; the box around them."""
    try:
        text = read_text(file)
        body = text[text.index("{") + 1 : text.index("}")].split()
        points = np.array(body, float).reshape(68, 2) - 1
        return AnnotatedImage(_image_of(file), points_box(points), five_of_vertices(points))
    except (ValueError, IndexError) as error:
        raise DataError(f"{file} is not a .pts file of 68 points: {error}.") from None


def _image_of(file: Path) -> Path:
    for extension in sorted(IMAGE_SUFFIXES):
        if file.with_suffix(extension).is_file():
            return file.with_suffix(extension)
    raise DataError(f"No image lies beside {file}.")
