"""Labels as JSON lines (`faces.json_lines`): what `detect --json` and `data pseudo-label` write."""

import json
from collections.abc import Sequence
from pathlib import Path

from retinaface_tf.data.readers.annotation import (
    AnnotatedImage,
    LabelledImage,
    attribute_columns,
    decimals,
)
from retinaface_tf.errors import DataError
from retinaface_tf.faces.json_lines import Digits, face_entry, read_face_lines


def read_json_labels(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a file in its order; those without a face are kept, unreadable ones left out.

    The faces' scores are what `loss.score_targets` learns from.

    Args:
        images: folder the names in it are relative to.

    Raises:
        DataError: the file cannot be read, a line is not such an object, or a score is not in 0..1.
    """
    found = []
    for line in read_face_lines(labels):
        if line.error is not None:
            continue
        if ((line.scores < 0) | (line.scores > 1)).any():
            raise DataError(f"{line.where}: a score is not in 0..1.")
        path = Path(images) / line.image
        found.append(
            AnnotatedImage(
                path,
                line.boxes,
                line.landmarks,
                line.ignored,
                scores=line.scores,
                attributes=attribute_columns(line.attributes),
            )
        )
    return found


def write_json_labels(entries: Sequence[LabelledImage]) -> str:
    """The lines of images in their order; they hold all that labels say but meshes."""
    lines = []
    for name, (height, width), image in entries:
        faces = []
        for box, score, points, ignored, attributes in zip(
            *(decimals(values) for values in (image.boxes, image.scores, image.landmarks)),
            image.ignored,
            image.attribute_rows(),
        ):
            face = face_entry(box, score, points, ignored, Digits(12, 12))
            faces.append(face | ({"attributes": attributes} if attributes else {}))
        lines.append({"image": name, "width": width, "height": height, "faces": faces})
    return "".join(json.dumps(line) + "\n" for line in lines)
