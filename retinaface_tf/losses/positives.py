"""Which positive anchors a dense branch looks at: a few of each image, gathered."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Positives(NamedTuple):
    """K chosen anchors of a batch.

    Attributes:
        image: int32 [K], in rising order.
        anchor: int32 [K].
        weight: float32 [K], how many of its image's each stands for.
        images: number of images in the batch.
    """

    image: tf.Tensor
    anchor: tf.Tensor
    weight: tf.Tensor
    images: tf.Tensor

    def take(self, values):
        """The chosen anchors' entries [K, ...] of values [B, A, ...]."""
        return tf.gather_nd(values, tf.stack([self.image, self.anchor], axis=1))

    def sum_by_image(self, losses):
        """What losses [K] sum up to in each image, [B], as if all its anchors had been looked at."""
        weighted = losses * tf.cast(self.weight, losses.dtype)
        return tf.math.unsorted_segment_sum(weighted, self.image, self.images)


def choose_positives(candidates, most: int) -> Positives:
    """At most so many anchors of each image, evenly spread over its candidates.

    The choice depends on the image alone, so it is the same on any number of devices.

    Args:
        candidates: bool [B, A].
        most: of one image.
    """
    places = tf.cast(tf.where(candidates), tf.int32)
    counts = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
    taken = tf.minimum(counts, most)
    first = tf.cumsum(counts, exclusive=True)
    number = tf.range(most)[None]
    # The middles of so many equal parts of the candidates; all of them where they are few.
    rank = (2 * number + 1) * counts[:, None] // (2 * tf.maximum(taken, 1)[:, None])
    chosen = tf.boolean_mask(first[:, None] + rank, number < taken[:, None])
    image, anchor = tf.unstack(tf.gather(places, chosen), axis=1)
    weight = tf.gather(counts / tf.maximum(taken, 1), image)
    return Positives(image, anchor, tf.cast(weight, tf.float32), tf.shape(candidates)[0])
