"""A backbone filled from keras.applications computes what the classifier does."""

import keras
import numpy as np
import pytest

from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import WeightsError
from retinaface_tf.models import build_retinaface
from retinaface_tf.training import imagenet


def _randomize(model, rng):
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(0.5, 1.5, shape) for _ in range(4)])


@pytest.mark.parametrize(
    "backbone, last", [("mobilenet0.25", "conv1_bn"), ("resnet50", "conv2_block1_1_bn")]
)
def test_units_before_the_first_difference_are_equal(backbone, last, rng):
    classifier = imagenet._classifier(backbone, None)
    _randomize(classifier, rng)
    network = build_retinaface(RetinaFaceConfig(backbone=backbone, channels=16))
    assert imagenet.copy_backbone(classifier, network) >= 54
    image = rng.uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    if backbone == "resnet50":
        seen = image[..., ::-1] - [103.939, 116.779, 123.68]
        ours, cut = "stage1_block1_reduce_bn", 2
    else:
        seen, ours, cut = image / 127.5 - 1, "stem_bn", 2
    theirs = keras.Model(classifier.input, classifier.get_layer(last).output)(seen)
    found = keras.Model(network.input, network.get_layer(ours).output)(image)
    # MobileNet there pads its stem on the right and below only: one pixel to the side.
    theirs, found = (keras.ops.convert_to_numpy(v) for v in (theirs, found))
    inner = (slice(None), slice(cut, -cut), slice(cut, -cut))
    if backbone == "resnet50":
        np.testing.assert_allclose(found[inner], theirs[inner], rtol=1e-3, atol=1e-3)
    else:
        shifted = np.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")[:, 1:, 1:]
        found = keras.Model(network.input, network.get_layer(ours).output)(shifted)
        found = keras.ops.convert_to_numpy(found)
        np.testing.assert_allclose(found[inner], theirs[inner], rtol=1e-3, atol=1e-3)


def test_without_a_network_the_error_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise Exception("URL fetch failure on https://storage.googleapis.com/x.h5: None")

    monkeypatch.setattr(imagenet, "_classifier", refuse)
    network = build_retinaface(RetinaFaceConfig(channels=16))
    with pytest.raises(WeightsError, match=r"init\.source='random'"):
        imagenet.fill_imagenet_backbone(network)
