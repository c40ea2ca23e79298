"""Rotations, and similarity transforms between point sets (Umeyama 1991): rotate, scale, move."""

import numpy as np

from retinaface_tf.geometry.namespace import array_namespace


def fit_similarity(
    source: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least-squares similarity that takes source points to target points, never mirroring.

    Args:
        source, target: [..., P, D], broadcast against each other.

    Returns:
        float64 scale [...], rotation [..., D, D] and shift [..., D]:
        target ~ scale * source @ rotation^T + shift. The scale is 0 where all source points coincide.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(axis=-2), target.mean(axis=-2)
    source, target = source - source_mean[..., None, :], target - target_mean[..., None, :]
    u, singular, vt = np.linalg.svd(np.swapaxes(target, -1, -2) @ source)
    # A mirror image is no rotation: the least direction is turned around instead.
    mirrored = np.linalg.det(u @ vt) < 0
    u[..., -1] = np.where(mirrored[..., None], -u[..., -1], u[..., -1])
    singular[..., -1] = np.where(mirrored, -singular[..., -1], singular[..., -1])
    rotation = u @ vt
    scale = singular.sum(axis=-1) / np.maximum((source**2).sum(axis=(-1, -2)), 1e-300)
    turned = (rotation @ source_mean[..., None])[..., 0]
    return scale, rotation, target_mean - scale[..., None] * turned


def estimate_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`fit_similarity` of one set of points in an image, as a matrix.

    Args:
        source, target: float [P, 2] x, y, at least two different points.

    Returns:
        float64 [2, 3] matrix M with target ~ M[:, :2] @ source + M[:, 2].

    Raises:
        ValueError: all source points coincide.
    """
    if not np.ptp(source, axis=0).any():
        raise ValueError("cannot fit a similarity to points that all coincide")
    scale, rotation, shift = fit_similarity(source, target)
    return np.column_stack([scale * rotation, shift])


def rotation_matrix(vectors):
    """Rotation vectors [N, 3] -> matrices [N, 3, 3] (Rodrigues), smooth at zero too.

    A vector is the axis times the angle in radians; numpy, or a tensor of the Keras backend.
    """
    xp = array_namespace(vectors)
    # Series at zero in effect: the small number keeps the root's derivative finite.
    half = xp.sqrt(xp.sum(vectors * vectors, axis=-1) / 4 + 1e-12)
    sinc_half = xp.sin(half) / half
    first = (sinc_half * xp.cos(half))[:, None, None]
    second = (sinc_half * sinc_half / 2)[:, None, None]
    x, y, z = vectors[:, 0], vectors[:, 1], vectors[:, 2]
    zero = xp.zeros_like(x)
    cross = xp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    cross = xp.reshape(cross, (-1, 3, 3))
    squared = xp.matmul(cross, cross)
    return xp.eye(3, dtype=vectors.dtype) + first * cross + second * squared


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
