"""L_pixel: how far a rendered face is from its photo (1905.00641, equation 3)."""

from __future__ import annotations

from keras import ops


def pixel_loss(rendered, crop, coverage=None):
    """Mean absolute difference of pixels, for each face.

    The paper's mean is over all W x H pixels of the anchor's crop. A mesh of a face leaves part of
    a crop empty, and what an empty pixel is compared with decides whether faces want to grow or to
    shrink. With `coverage` the mean is over what the mesh covers, so neither pays.

    Args:
        rendered: [B, S, S, 3] RGB, 1 is white; over the crop itself where `coverage` is given.
        crop: [B, S, S, 3] the photo.
        coverage: [B, S, S, 1] of `MeshRenderer`, or None for the plain mean.

    Returns:
        [B].
    """
    difference = ops.mean(ops.abs(rendered - crop), axis=-1)
    if coverage is None:
        return ops.mean(difference, axis=(1, 2))
    covered = ops.sum(coverage[..., 0], axis=(1, 2))
    # A face outside its crop covers no pixel; its difference is 0.
    return ops.sum(difference, axis=(1, 2)) / ops.maximum(covered, 1)
