"""Which positive anchors a dense branch is computed on: a few of each image, gathered."""

from typing import NamedTuple

from keras import ops


class Positives(NamedTuple):
    """K chosen anchors of a batch.

    Attributes:
        image: int32 [K], in rising order.
        anchor: int32 [K].
        weight: float32 [K], how many of its image's each stands for.
    """

    image: object
    anchor: object
    weight: object
    images: object

    def take(self, values, place=None):
        """Entries [K, ...] of values [B, N, ...]: of the chosen anchors, or at other places [K]."""
        shape = ops.shape(values)
        rows = self.image * shape[1] + (self.anchor if place is None else place)
        return ops.take(ops.reshape(values, (-1, *shape[2:])), rows, axis=0)

    def sum_by_image(self, losses):
        """Sums of losses [K] over each image, [B], as if all its anchors had been chosen."""
        weighted = losses * ops.cast(self.weight, losses.dtype)
        return ops.segment_sum(weighted, self.image, self.images)


def choose_positives(candidates, most: int) -> Positives:
    """At most `most` anchors of each image, evenly spread over its candidates.

    The choice depends on the image alone, so it is the same on any number of devices. How many are
    chosen depends on the values: under a compiler that needs fixed shapes this has to run outside.

    Args:
        candidates: bool [B, A].
        most: of one image.
    """
    images, anchors = ops.nonzero(candidates)
    counts = ops.sum(ops.cast(candidates, "int32"), axis=1)
    taken = ops.minimum(counts, most)
    first = ops.cumsum(counts) - counts
    number = ops.arange(most, dtype="int32")[None]
    # The middles of equal parts of the candidates; all of them where they are few.
    rank = (2 * number + 1) * counts[:, None] // (2 * ops.maximum(taken, 1)[:, None])
    (kept,) = ops.nonzero(ops.reshape(number < taken[:, None], (-1,)))
    chosen = ops.take(ops.reshape(first[:, None] + rank, (-1,)), kept)
    image = ops.take(images, chosen)
    weight = ops.cast(counts, "float32") / ops.cast(ops.maximum(taken, 1), "float32")
    return Positives(
        image, ops.take(anchors, chosen), ops.take(weight, image), ops.shape(candidates)[0]
    )


def rows_of_anchors(faces, meshes):
    """int32 [B, A]: the row of each positive anchor's mesh, -1 where there is none.

    Args:
        faces: int32 [B, A], which face an anchor is for, or -1.
        meshes: int32 [B, F], each face's row, or -1.
    """
    # Anchors without a face take the column behind the last face, which has no mesh.
    meshes = ops.pad(meshes, [[0, 0], [0, 1]], constant_values=-1)
    nobody = ops.shape(meshes)[1] - 1
    return ops.take_along_axis(meshes, ops.where(faces < 0, nobody, faces), axis=1)
