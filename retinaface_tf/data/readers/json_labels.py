"""Labels as JSON lines (`faces.json_lines`): what `detect --json` and `data pseudo-label` write."""

from pathlib import Path

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import DataError
from retinaface_tf.faces.json_lines import read_face_lines


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
            AnnotatedImage(path, line.boxes, line.landmarks, line.ignored, scores=line.scores)
        )
    return found
