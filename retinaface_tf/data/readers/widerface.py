"""WIDER FACE's own lists, `wider_face_{train,val}_bbx_gt.txt` (Yang et al. 2016)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.data.readers.label_lines import LabelLines, parse_numbers

# Columns: x y w h blur expression illumination invalid occlusion pose.
_INVALID = 7


def read_widerface(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a WIDER FACE list in its order; faces marked invalid are `ignored`.

    An image without faces carries one line of zeros all the same; it is read as no face.

    Args:
        labels: the list.
        images: folder the names in the list are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    lines, images, result = LabelLines(labels), Path(images), []
    while lines:
        name = lines.take("a file name")
        if parse_numbers(name) is not None:
            raise lines.complaint(f"says {name[:60]!r} instead of a file name")
        count = lines.take_count()
        faces = [lines.take_numbers(4) for _ in range(count)]
        if not count:
            filling = parse_numbers(lines.peek())
            if filling is not None and len(filling) >= 4:
                lines.take("zeros")
        result.append(
            AnnotatedImage(
                images / name,
                corners_from_xywh([face[:4] for face in faces]),
                ignored=np.array([len(f) > _INVALID and f[_INVALID] > 0 for f in faces], bool),
            )
        )
    return result
