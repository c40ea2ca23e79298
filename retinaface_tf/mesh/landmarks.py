"""The detector's five points out of a mesh or of iBUG's 68 points."""

from __future__ import annotations

from retinaface_tf.geometry.namespace import array_namespace


def five_of_vertices(vertices):
    """Eye centres, nose tip and mouth corners of points whose first 68 are iBUG's.

    iBUG numbers from the image's left: eyes are the means of points 37-42 and 43-48 (from 1), the
    nose tip is 31, the mouth corners 49 and 55.

    Args:
        vertices: [..., V, D], V at least 68; numpy, or tensors of the Keras backend.

    Returns:
        [..., 5, D].
    """
    xp = array_namespace(vertices)
    eyes = [xp.mean(vertices[..., first : first + 6, :], axis=-2) for first in (36, 42)]
    return xp.stack([*eyes, *(vertices[..., i, :] for i in (30, 48, 54))], axis=-2)
