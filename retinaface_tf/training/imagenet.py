"""A backbone that starts from keras.applications' ImageNet weights."""

from __future__ import annotations

import re

import keras
import numpy as np

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.layers.convolution import BATCH_NORM_EPSILON
from retinaface_tf.models import RetinaFaceNetwork

_RESNETS = {"resnet50-v1": "ResNet50", "resnet101-v1": "ResNet101", "resnet152-v1": "ResNet152"}
# Their convolutions of a block, in our words.
_BLOCK_PARTS = {"0": "shortcut", "1": "reduce", "2": "middle", "3": "expand"}


def fill_imagenet_backbone(network: RetinaFaceNetwork, weights: str | None = "imagenet") -> str:
    """Copies keras.applications' backbone into the network's.

    The function is theirs on the same pixels: they subtract the mean (103.939, 116.779, 123.68)
    from BGR, the network subtracts its own `pixel_mean` from RGB, so the first kernel's channels
    are turned round; biases of convolutions, which the network has none of, go into the batch
    norm's mean, and the difference of the two epsilons into its variance.

    Args:
        network: with one of the ResNet "-v1" backbones; changed in place.
        weights: "imagenet" (downloaded by Keras, cached in ~/.keras), the path of such a file, or
            None for the random start of keras.applications.

    Returns:
        One line that tells what was done.

    Raises:
        ConfigError: the network has another backbone.
        WeightsError: the weights can neither be found nor downloaded.
    """
    backbone = network.config.backbone
    if backbone not in _RESNETS:
        raise ConfigError(
            f"keras.applications has no weights for backbone {backbone!r}; there are "
            f"{', '.join(_RESNETS)}."
        )
    build = getattr(keras.applications, _RESNETS[backbone])
    try:
        source = build(include_top=False, weights=weights, input_shape=(None, None, 3))
    except Exception as error:
        raise WeightsError(
            f"The ImageNet weights of {_RESNETS[backbone]} cannot be had ({error}); download them "
            "where there is a network, or start from another init.source."
        ) from error
    copied = copy_resnet(source, network)
    return f"weights: {copied} layers (backbone) from keras.applications' {_RESNETS[backbone]}"


def copy_resnet(source: keras.Model, network: RetinaFaceNetwork) -> int:
    """Copies a keras.applications ResNet (v1) into a network's backbone; returns how many layers."""
    copied = 0
    for layer in source.layers:
        if not isinstance(layer, keras.layers.Conv2D):
            continue
        theirs = layer.name.removesuffix("_conv")
        ours = _our_name(theirs)
        kernel, bias = layer.get_weights()
        norm = source.get_layer(f"{theirs}_bn")
        gamma, beta, mean, variance = norm.get_weights()
        if ours == "stem":
            kernel = np.ascontiguousarray(kernel[:, :, ::-1])
        network.get_layer(f"{ours}_conv").set_weights([kernel])
        network.get_layer(f"{ours}_bn").set_weights(
            [gamma, beta, mean - bias, variance + (norm.epsilon - BATCH_NORM_EPSILON)]
        )
        copied += 2
    return copied


def _our_name(theirs: str) -> str:
    """Such as "conv3_block2_1" -> "stage2_block2_reduce"; "conv1" -> "stem"."""
    if theirs == "conv1":
        return "stem"
    stage, block, part = re.fullmatch(r"conv(\d)_block(\d+)_(\d)", theirs).groups()
    return f"stage{int(stage) - 1}_block{block}_{_BLOCK_PARTS[part]}"
