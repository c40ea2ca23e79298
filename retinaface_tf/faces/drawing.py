"""Drawing detections on an image, and images into frames of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces

BOX_COLOR = (0, 230, 118)
MESH_COLOR = (120, 220, 255)
TEXT_COLOR = (0, 40, 20)
# Image's left eye, right eye, nose, left and right mouth corner: left is warm, right is cool.
POINT_COLORS = ((255, 82, 82), (64, 156, 255), (255, 235, 59), (255, 145, 0), (24, 255, 255))


def draw_faces(image: np.ndarray, faces: Faces) -> np.ndarray:
    """See `Faces.draw`. Lines and letters scale with each face and with the image."""
    canvas = np.ascontiguousarray(image).copy()
    base = max(1.0, min(canvas.shape[:2]) / 500)
    # Weakest first, so that the best faces lie on top.
    for i in reversed(range(len(faces))):
        x1, y1, x2, y2 = (round(float(v)) for v in faces.boxes[i])
        side = max(1, min(x2 - x1, y2 - y1))
        line = max(1, min(round(1.5 * base), side // 12))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), BOX_COLOR, line, cv2.LINE_AA)
        if faces.vertices is not None:
            _draw_mesh(canvas, faces.vertices[i])
        for (x, y), color in zip(faces.landmarks[i], POINT_COLORS):
            if not np.isfinite((x, y)).all():
                continue  # unknown
            center = (round(float(x)), round(float(y)))
            radius = max(1, min(round(2.2 * base), side // 20))
            cv2.circle(canvas, center, radius, color, cv2.FILLED, cv2.LINE_AA)
        if side >= 24 * base:
            track = 0 if faces.tracks is None else faces.tracks[i]
            text = f"#{track}" if track else f"{faces.scores[i]:.2f}"
            _draw_label(canvas, text, (x1, y1), 0.42 * base)
    return canvas


def _draw_mesh(canvas: np.ndarray, vertices: np.ndarray) -> None:
    """The triangles that face the viewer, as a net that lets the face be seen."""
    from retinaface_tf.mesh.topology import load_topology

    topology = load_topology()
    if len(vertices) != topology.num_vertices:
        return
    a, b, c = (vertices[topology.triangles[:, k]] for k in range(3))
    front = np.cross(b - a, c - a)[:, 2] < 0
    low = np.maximum(np.floor(vertices[:, :2].min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(vertices[:, :2].max(axis=0)).astype(int) + 2, canvas.shape[1::-1])
    if (high <= low).any():
        return
    part = canvas[low[1] : high[1], low[0] : high[0]]
    net = part.copy()
    # Coordinates count from pixel edges, OpenCV's from pixel middles; in sixteenths.
    points = np.rint((vertices[:, :2] - low - 0.5) * 16).astype(np.int32)
    cv2.polylines(net, list(points[topology.triangles[front]]), True, MESH_COLOR, 1, cv2.LINE_AA, 4)
    # On a small face the net is nearly solid: fainter there, so that the face is still seen.
    opacity = min(0.5, 0.15 + float((high - low).max()) / 1200)
    part[:] = cv2.addWeighted(part, 1 - opacity, net, opacity, 0)


def _draw_label(canvas: np.ndarray, text: str, corner: tuple[int, int], scale: float) -> None:
    weight = max(1, round(scale * 1.6))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    x, y = corner
    margin = max(2, height // 4)
    # Above the box where there is room, else inside its upper edge.
    top = y - height - 2 * margin if y >= height + 2 * margin else y
    bottom = top + height + 2 * margin
    cv2.rectangle(canvas, (x, top), (x + width + 2 * margin, bottom), BOX_COLOR, cv2.FILLED)
    cv2.putText(
        canvas,
        text,
        (x + margin, bottom - margin),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        TEXT_COLOR,
        weight,
        cv2.LINE_AA,
    )


def fit_into(image: np.ndarray, height: int, width: int, fill: int) -> np.ndarray:
    """The image scaled into the left upper corner of a frame of that size, the rest grey, 0..255."""
    scale = min(width / image.shape[1], height / image.shape[0])
    sides = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = np.full((height, width, 3), fill, np.uint8)
    frame[: sides[1], : sides[0]] = cv2.resize(image, sides, interpolation=method)
    return frame
