"""The detector's five points out of a mesh or of iBUG's 68 points."""

from __future__ import annotations

import numpy as np

# Vertices of the 68 that make the five points; eyes are the middle of their rim.
_EYES = (slice(36, 42), slice(42, 48))

_OTHERS = (30, 48, 54)


def five_of_vertices(vertices: np.ndarray) -> np.ndarray:
    """The detector's five points on a mesh whose first 68 vertices are iBUG's: [..., 5, D]."""
    eyes = [vertices[..., rim, :].mean(axis=-2) for rim in _EYES]
    return np.stack([*eyes, *(vertices[..., i, :] for i in _OTHERS)], axis=-2)
