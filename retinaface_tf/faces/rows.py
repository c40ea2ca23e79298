"""Faces as rows of a table: what CSV files and pandas hold."""

from __future__ import annotations

from typing import Any

LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "left_mouth_corner", "right_mouth_corner")
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
POINT_COLUMNS = tuple(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy")
COLUMNS = (*BOX_COLUMNS, "score", *POINT_COLUMNS)


def face_row(face: dict[str, Any]) -> dict[str, Any]:
    """A face of a JSON line, `Face.to_dict`, as the cells of a row.

    Returns:
        the box, score and points by the names in `COLUMNS`, None where unknown; yaw, pitch and roll in
        degrees of a face with a pose; then what else is said of it, but its vertices.
    """
    points = face.get("landmarks") or [None] * 5
    places = [axis for point in points for axis in (point or (None, None))]
    row = dict(zip(COLUMNS, (*face["box"], face.get("score"), *places)))
    row |= dict(zip(("yaw", "pitch", "roll"), face.get("pose") or ()))
    done = ("box", "score", "landmarks", "pose", "vertices")
    return row | {name: value for name, value in face.items() if name not in done}
