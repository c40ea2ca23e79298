"""WIDER FACE's own lists, `wider_face_{train,val}_bbx_gt.txt` (Yang et al. 2016)."""

from __future__ import annotations

from pathlib import Path

from retinaface_tf.data.readers.annotation import AnnotatedImage, corners_from_xywh
from retinaface_tf.data.readers.face_lists import read_face_list

# Columns: x y w h blur expression illumination invalid occlusion pose.
_INVALID = 7


def read_widerface(labels: Path | str, images: Path | str) -> list[AnnotatedImage]:
    """Images of a WIDER FACE list in its order; faces marked invalid are `ignored`.

    Args:
        images: folder the names in the list are relative to.

    Raises:
        DataError: the file cannot be read, or a line is not what should stand there.
    """
    return [
        AnnotatedImage(
            Path(images) / image.name,
            corners_from_xywh(image.columns(0, 4)),
            ignored=[sum(row[_INVALID : _INVALID + 1]) > 0 for row in image.rows],
        )
        for image in read_face_list(labels, 4)
    ]
