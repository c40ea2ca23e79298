"""Similarity transforms between point sets (Umeyama 1991): rotation, uniform scale, translation."""

from __future__ import annotations

import numpy as np


def estimate_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity that takes `source` points to `target` points, never mirroring.

    Args:
        source, target: float [P, 2] x, y, at least two different points.

    Returns:
        float64 [2, 3] matrix M with target ~ M[:, :2] @ source + M[:, 2].

    Raises:
        ValueError: all source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centered, wanted = source - source_mean, target - target_mean
    variance = (centered**2).sum() / len(source)
    if variance == 0:
        raise ValueError("cannot fit a similarity to points that all coincide")
    u, singular_values, vt = np.linalg.svd(wanted.T @ centered / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    scaled_rotation = (u * signs) @ vt * ((singular_values * signs).sum() / variance)
    return np.column_stack([scaled_rotation, target_mean - scaled_rotation @ source_mean])


def square_around(box: np.ndarray, size: int, context: float = 1.0) -> np.ndarray:
    """The matrix that maps an image's pixels to a square crop around a box.

    Args:
        box: [4] x1, y1, x2, y2.
        size: side of the crop in pixels.
        context: side of the square in longer sides of the box.

    Returns:
        float64 [2, 3], scale and shift; a square is at least one pixel of the image.
    """
    low, high = np.asarray(box, float).reshape(2, 2)
    scale = size / max(context * float((high - low).max()), 1.0)
    shift = size / 2 - scale * (low + high) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
