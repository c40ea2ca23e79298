"""ImageNet classifiers of keras.applications as the start of a backbone.

Their input scaling, biases and batch norm epsilon differ from this package's layers; all three are
folded into kernels and batch norm statistics, so a unit computes the same before its activation
(away from the image's edge). The ResNets "-v1" are theirs to the last layer. MobileNet's
activations differ (ReLU6 there, LeakyReLU here), and in "resnet50" the stride of a stage is on
another convolution, so there this is a start to train from, not a classifier.
"""

import keras
import numpy as np

from retinaface_tf.errors import ConfigError, WeightsError
from retinaface_tf.layers.batch_norm import EPSILON
from retinaface_tf.models import RetinaFaceNetwork
from retinaface_tf.models.backbones import resnet_depths

# keras.applications' MobileNet sees x / 127.5 - 1; its ResNet50 sees BGR minus this mean.
_CAFFE_MEAN_RGB = np.array([123.68, 116.779, 103.939])


def fill_imagenet_backbone(network: RetinaFaceNetwork) -> str:
    """Downloads the classifier that fits the network's backbone and copies it in.

    Args:
        network: changed in place.

    Raises:
        ConfigError: keras.applications has no such backbone.
        WeightsError: the weights cannot be downloaded.
    """
    name = network.config.backbone
    try:
        classifier = _classifier(name, "imagenet")
    except Exception as error:
        # Keras raises a bare Exception where a host cannot be reached.
        if not isinstance(error, OSError | ValueError) and "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            f"ImageNet weights of {name} cannot be downloaded by keras.applications ({error}); put "
            "the file into ~/.keras/models, or start from init.source='random' or from a weights "
            "file."
        ) from None
    count = copy_backbone(classifier, network)
    return f"weights: {count} backbone layers from keras.applications, trained on ImageNet"


def _classifier(name: str, weights: str | None) -> keras.Model:
    if name in ("mobilenet0.25", "mobilenet0.5", "mobilenet1.0"):
        alpha = float(name.removeprefix("mobilenet"))
        return keras.applications.MobileNet(
            input_shape=(224, 224, 3), alpha=alpha, include_top=False, weights=weights
        )
    family, _, variant = name.partition("-")
    if family.startswith("resnet") and (variant == "v1" or name == "resnet50"):
        build = getattr(keras.applications, f"ResNet{family.removeprefix('resnet')}")
        return build(include_top=False, weights=weights, input_shape=(None, None, 3))
    raise ConfigError(f"keras.applications has no ImageNet weights for the backbone {name!r}.")


def copy_backbone(classifier: keras.Model, network: RetinaFaceNetwork) -> int:
    """Copies a keras.applications MobileNet or ResNet into a backbone; returns the layers filled.

    Args:
        classifier: without its top.
        network: changed in place.
    """
    mean = np.array(network.config.pixel_mean)
    mobilenet = network.config.backbone.startswith("mobilenet")
    units = _mobilenet_units() if mobilenet else _resnet_units(network.config.backbone)
    for ours, convolution, norm in units:
        source = classifier.get_layer(convolution)
        kernel, *bias = source.get_weights()
        gamma, beta, moving_mean, moving_variance = classifier.get_layer(norm).get_weights()
        if bias:
            moving_mean = moving_mean - bias[0]
        if ours == "stem":
            kernel, shift = _rescale_stem(kernel, mean, mobilenet)
            moving_mean = moving_mean - shift
        # gamma / sqrt(v + e) stays what it is when v + e does.
        moving_variance = moving_variance + classifier.get_layer(norm).epsilon - EPSILON
        network.get_layer(f"{ours}_conv").set_weights([kernel])
        network.get_layer(f"{ours}_bn").set_weights([gamma, beta, moving_mean, moving_variance])
    return 2 * len(units)


def _rescale_stem(kernel: np.ndarray, mean: np.ndarray, mobilenet: bool):
    """The stem's kernel for pixels minus `mean`, and what the classifier's offset adds to it."""
    if mobilenet:
        offset = (mean - 127.5) / 127.5
        return kernel / 127.5, np.tensordot(kernel.sum((0, 1)), offset, (0, 0))
    kernel = kernel[:, :, ::-1]
    return kernel, np.tensordot(kernel.sum((0, 1)), mean - _CAFFE_MEAN_RGB, (0, 0))


def _mobilenet_units() -> list[tuple[str, str, str]]:
    units = [("stem", "conv1", "conv1_bn")]
    for block in range(1, 14):
        units.append((f"block{block}_depthwise", f"conv_dw_{block}", f"conv_dw_{block}_bn"))
        units.append((f"block{block}_pointwise", f"conv_pw_{block}", f"conv_pw_{block}_bn"))
    return units


def _resnet_units(backbone: str) -> list[tuple[str, str, str]]:
    units = [("stem", "conv1_conv", "conv1_bn")]
    parts = {"shortcut": 0, "reduce": 1, "middle": 2, "expand": 3}
    for stage, depth in enumerate(resnet_depths(backbone), start=1):
        for block in range(1, depth + 1):
            theirs = f"conv{stage + 1}_block{block}"
            for part, number in parts.items():
                if part != "shortcut" or block == 1:
                    ours = f"stage{stage}_block{block}_{part}"
                    units.append((ours, f"{theirs}_{number}_conv", f"{theirs}_{number}_bn"))
    return units
