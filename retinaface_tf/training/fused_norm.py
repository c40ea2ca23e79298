"""Batch norm by TensorFlow's fused kernel while training.

Keras 3 composes batch norm of elementwise operations, each a pass over the map, forward and backward. The
fused kernel is one: a step of `configs/lite.toml` takes about a quarter less time on a CPU.
"""

from __future__ import annotations

import functools

import keras
import tensorflow as tf

from retinaface_tf.models import RetinaFaceNetwork


def use_fused_norm(network: RetinaFaceNetwork) -> int:
    """Makes every batch norm of a network compute by the fused kernel, where that is the same.

    Results differ from Keras' by rounding. Left as they are: layers in other precisions than float32,
    and synchronized ones, whose statistics are those of several devices.

    Args:
        network: changed in place; files and weights stay what they are.

    Returns:
        Number of layers changed.
    """
    chosen = [
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and not layer.synchronized
        and layer.dtype_policy.name == "float32"
        and layer.axis in (-1, 3)
    ]
    for layer in chosen:
        layer.call = functools.partial(_normalize, layer)
    return len(chosen)


def _normalize(layer, inputs, training=None, mask=None):
    """What `keras.layers.BatchNormalization.call` computes, for [B, H, W, C]."""
    learning = bool(training) and layer.trainable
    norm = functools.partial(
        tf.raw_ops.FusedBatchNormV3,
        x=inputs,
        scale=layer.gamma.value,
        offset=layer.beta.value,
        epsilon=layer.epsilon,
    )
    if not learning:
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        return norm(mean=mean, variance=variance, is_training=False)[0]
    empty = tf.zeros([0])
    outputs, mean, variance, *_ = norm(mean=empty, variance=empty, is_training=True)
    # The kernel gives the unbiased variance; Keras keeps the biased one.
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
    variance *= (count - 1) / count
    keep = layer.momentum
    layer.moving_mean.assign(layer.moving_mean * keep + mean * (1 - keep))
    layer.moving_variance.assign(layer.moving_variance * keep + variance * (1 - keep))
    return outputs
