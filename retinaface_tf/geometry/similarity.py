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
