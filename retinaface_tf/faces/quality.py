"""How good a face is to look at or to recognise: sharp, large, well lit, frontal, whole; no network needed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retinaface_tf.faces.crops import cut_faces
from retinaface_tf.mesh.pose import euler_angles, pose_of_points
from retinaface_tf.mesh.topology import five_of_vertices, load_topology

if TYPE_CHECKING:
    from retinaface_tf.faces.faces import Faces

_SIDE = 112


@dataclass(frozen=True, eq=False)
class Quality:
    """Of N faces.

    Attributes:
        figure: float64 [N], 0..1, the product of

                min(1, sharpness / 0.7) * min(1, size / 112) * exposure
                * max(0, cos yaw) * max(0, cos pitch) * (0.5 if cut off else 1)

            in which an unknown pose counts as frontal.
        sharpness: float64 [N], 0..1: 1 less the blur effect (Crete et al. 2007) of the grey 112x112
            aligned crop, the share of its changes from pixel to pixel that a blur of 11 pixels
            leaves; about 0.6 for a sharp face, 0.2 for a blurred one. A face smaller than the crop is
            less sharp for it.
        size: float64 [N], the root of the box's area, in pixels.
        exposure: float64 [N], 0..1: 1 where the crop's mean is within 20..80 % of white, falling to 0
            at black and at white, times the share of pixels that are neither.
        pose: float64 [N, 3] yaw, pitch and roll in degrees, as `Faces.pose`; without vertices from
            the five points, NaN where they are unknown. Detectors place the points of a face that
            looks up or down too near to a frontal face's: pitch is then rough.
        cut_off: bool [N], whether the box reaches the image's edge or a point lies outside.
    """

    figure: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    size: NDArray[np.float64]
    exposure: NDArray[np.float64]
    pose: NDArray[np.float64]
    cut_off: NDArray[np.bool_]

    def of(self, faces: NDArray[np.integer[Any]]) -> Quality:
        """Of some of the faces, in their order."""
        return Quality(*(getattr(self, field.name)[faces] for field in fields(self)))

    def entry(self, face: int) -> dict[str, Any]:
        """What a JSON line says of a face; without "pose" where it is unknown."""
        pose = [round(float(angle), 2) for angle in self.pose[face]]
        return {
            "quality": round(float(self.figure[face]), 4),
            "sharpness": round(float(self.sharpness[face]), 4),
            "size": round(float(self.size[face]), 2),
            "exposure": round(float(self.exposure[face]), 4),
            **({"pose": pose} if np.isfinite(pose).all() else {}),
            "cut_off": bool(self.cut_off[face]),
        }


def face_quality(pixels: NDArray[np.uint8], faces: Faces) -> Quality:
    """See `Faces.quality`; uint8 RGB pixels [H, W, 3] of the faces' image."""
    import cv2

    crops = cut_faces(pixels, faces, "aligned", _SIDE, 0.0)
    grey = [np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8) for crop in crops]
    sharpness = np.array([1 - blur_effect(crop) for crop in grey], np.float64)
    exposure = np.array([_exposure(crop) for crop in grey], np.float64)
    boxes = faces.boxes.astype(np.float64)
    size = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
    limit = np.array(faces.image_size[::-1], np.float64)
    outside = (faces.landmarks < 0) | (faces.landmarks > limit)
    at_edge = (boxes[:, :2] <= 1).any(axis=1) | (boxes[:, 2:] >= limit - 1).any(axis=1)
    cut_off = np.asarray(at_edge | outside.any(axis=(1, 2)), bool)
    pose = _pose_of_landmarks(faces.landmarks) if faces.pose is None else faces.pose
    frontal = np.maximum(np.cos(np.radians(np.nan_to_num(pose[:, :2]))), 0).prod(axis=1)
    figure = np.minimum(sharpness / 0.7, 1) * np.minimum(size / _SIDE, 1) * exposure * frontal
    return Quality(figure * np.where(cut_off, 0.5, 1), sharpness, size, exposure, pose, cut_off)


def blur_effect(grey: NDArray[np.uint8]) -> float:
    """The blur effect of an image uint8 [H, W], 0 sharp to 1 blurred (Crete et al. 2007), the worse
    of its two directions; 1 for an even image."""
    import cv2

    values = grey.astype(np.float32)
    effects = []
    for size, slope in (((11, 1), (1, 0)), ((1, 11), (0, 1))):
        blurred = cv2.blur(values, size, borderType=cv2.BORDER_REFLECT)
        before, after = (
            np.abs(cv2.Sobel(v, cv2.CV_32F, *slope))[2:-2, 2:-2] for v in (values, blurred)
        )
        total = float(before.sum())
        effects.append(1 - float(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return max(effects)


def _exposure(grey: NDArray[np.uint8]) -> float:
    mean = float(grey.mean()) / 255
    clipped = float(((grey <= 2) | (grey >= 253)).mean())
    return min(1.0, mean / 0.2, (1 - mean) / 0.2) * (1 - clipped)


def _pose_of_landmarks(landmarks: NDArray[np.float32]) -> NDArray[np.float64]:
    """float64 [N, 3] yaw, pitch and roll in degrees; NaN where points are unknown or coincide."""
    five = five_of_vertices(load_topology().mean).astype(np.float64)
    pose = np.full((len(landmarks), 3), np.nan)
    for face, points in enumerate(landmarks.astype(np.float64)):
        if np.isfinite(points).all() and np.ptp(points, axis=0).max() >= 1:
            rotation, _ = pose_of_points(five, points)
            pose[face] = np.degrees(euler_angles(rotation[None]))[0]
    return pose
