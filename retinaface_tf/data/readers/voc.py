"""Pascal VOC's XML, one file an image, with boxes alone.

Its corners are counted from 1 and name pixels, the last one included: a box over a whole image of W pixels
has xmin 1 and xmax W (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html). Faces that
are "difficult" count neither in training nor in evaluation.
"""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, LabelledImage, decimals
from retinaface_tf.data.readers.categories import face_categories
from retinaface_tf.errors import DataError
from retinaface_tf.util.files import is_folder
from retinaface_tf.util.text_lines import MALFORMED, read_text

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NOT_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]")
_FROM_ONE = np.array([1.0, 1.0, 0.0, 0.0])


def read_voc(
    labels: Path | str, images: Path | str, category: str | int | None = None
) -> list[AnnotatedImage]:
    """The images of VOC's files in the order of their names.

    Args:
        labels: folder of the files, with subfolders, or one file.
        images: folder of the images, which has the subfolders that `labels` has.
        category: name of the objects that are faces. None: the only one, or "face".

    Raises:
        DataError: a file cannot be read or is not VOC's, or there are several names and none was
            chosen.
    """
    labels = Path(labels)
    files = sorted(labels.rglob("*.xml")) if is_folder(labels) else [labels]
    root = labels if is_folder(labels) else labels.parent
    found = []
    for file in files:
        try:
            document = ElementTree.fromstring(read_text(file))
            rows = [_row(entry) for entry in document.iter("object")]
            name = document.findtext("filename").replace("\\", "/").rpartition("/")[2]
        except (ElementTree.ParseError, *MALFORMED) as error:
            raise DataError(f"Label file {file} is not Pascal VOC's XML: {error!r}.") from None
        found.append((Path(images) / file.relative_to(root).parent / name, rows))
    names = {name: name for _, rows in found for name, _, _ in rows}
    wanted = face_categories(names, labels, category)
    faces = [(path, [row for row in rows if row[0] in wanted]) for path, rows in found]
    return [
        AnnotatedImage(path, [box for _, box, _ in rows], ignored=[hard for _, _, hard in rows])
        for path, rows in faces
    ]


def _row(entry: ElementTree.Element) -> tuple[str, np.ndarray, bool]:
    corners = [float(entry.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
    # Rounded, or 0 would be 1e-13 after adding and taking away 1.
    box = (np.array(corners) - _FROM_ONE).round(10)
    return entry.findtext("name", ""), box, entry.findtext("difficult", "0").strip() == "1"


def write_voc(entry: LabelledImage) -> str:
    """The XML of one image; corners keep their decimals.

    Raises:
        DataError: the name has a character that XML cannot hold.
    """
    if _NOT_XML.search(entry.name):
        raise DataError(f"XML cannot hold the name {entry.name!r}; rename the image.")
    document, path = ElementTree.Element("annotation"), Path(entry.name)
    _add(document, folder=path.parent.name, filename=path.name)
    height, width = entry.size
    _add(ElementTree.SubElement(document, "size"), width=width, height=height, depth=3)
    _add(document, segmented=0)
    for box, ignored in zip(entry.image.boxes, entry.image.ignored):
        face = ElementTree.SubElement(document, "object")
        _add(face, name="face", pose="Unspecified", truncated=0, difficult=int(ignored))
        corners = (np.array(decimals(box)) + _FROM_ONE).round(10).tolist()
        _add(ElementTree.SubElement(face, "bndbox"), **dict(zip(_CORNERS, corners)))
    ElementTree.indent(document)
    return ElementTree.tostring(document, "unicode") + "\n"


def _add(element: ElementTree.Element, **texts: object) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = str(text)
