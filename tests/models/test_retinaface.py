"""The network: shapes for any size, serialisation, and agreement of anchors with outputs."""

import dataclasses

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface, list_presets
from retinaface_tf.config import PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import count_anchors


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "resnet152-paper" else ())
        for name in list_presets()
    ],
)
def test_one_prediction_an_anchor_at_any_size(preset):
    model = build_retinaface(preset)
    for height, width in ((64, 96), (75, 131)):
        outputs = model(np.zeros((2, height, width, 3), np.uint8), training=False)
        anchors = count_anchors(model.config.levels, height, width)
        shapes = {name: tuple(value.shape) for name, value in outputs.items()}
        assert shapes["class_logits"] == (2, anchors, 2)
        assert shapes["box_deltas"] == (2, anchors, 4)
        assert shapes["landmark_deltas"] == (2, anchors, 10)


def test_mobilenet_quarter_has_the_public_network_size():
    # 427k trainable weights of the public .pth (426,608) and batch norm's moving statistics.
    model = build_retinaface("mobilenet0.25")
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 426_608


def test_shared_heads_have_one_set_of_weights():
    levels = tuple(PyramidLevel(stride=s, anchor_sizes=(2 * s, 4 * s)) for s in (8, 16, 32))
    model = build_retinaface(RetinaFaceConfig(levels=levels, shared_heads=True))
    assert sum("head_" in w.path and w.path.endswith("kernel") for w in model.weights) == 3


def test_keras_file_round_trip_without_custom_objects(tmp_path, rng):
    model = build_retinaface("mobilenet0.25")
    image = rng.integers(0, 256, (1, 70, 90, 3), dtype=np.uint8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.config == model.config
    for name, value in model(image, training=False).items():
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(loaded(image, training=False)[name]),
            keras.ops.convert_to_numpy(value),
        )


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": "vgg"},
        {"channels": 30},
        {"levels": (PyramidLevel(stride=8, anchor_sizes=(16,)),) * 2},
        {"size_variance": 0.0},
    ],
)
def test_impossible_configurations_are_refused(options):
    with pytest.raises(ConfigError):
        RetinaFaceConfig(**options)


def test_config_survives_json():
    config = RetinaFaceConfig(backbone="resnet50", channels=256, negative_slope=0.0)
    assert RetinaFaceConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="colour"):
        RetinaFaceConfig.from_dict({"colour": "red"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cascade": True}, "cascade"),
        ({"channels": 32}, "has \\[64\\]"),
        ({"backbone": "mobilenet0.25"}, "has \\[64, 128, 256\\]"),
        (
            {
                "levels": (
                    PyramidLevel(stride=32, anchor_sizes=(64,)),
                    PyramidLevel(stride=64, anchor_sizes=(128,)),
                )
            },
            "at most stride 32",
        ),
    ],
)
def test_separable_networks_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        build_retinaface(RetinaFaceConfig(**{"backbone": "yunet", "separable": True, **changes}))


def test_a_dense_stem_stands_in_the_place_of_yunets():
    """Maps of equal shapes at any size, all layers above of equal names and shapes, so that weights move."""
    config = RetinaFaceConfig(backbone="yunet", separable=True)
    dense = build_retinaface(dataclasses.replace(config, backbone="yunet-dense"))
    image = np.zeros((1, 97, 130, 3), np.float32)
    for ours, theirs in zip(dense(image).values(), build_retinaface(config)(image).values()):
        assert ours.shape == theirs.shape
    shapes = {w.path: w.shape for w in build_retinaface(config).weights if "block4" in w.path}
    assert shapes and shapes.items() <= {w.path: w.shape for w in dense.weights}.items()


def test_a_network_without_separable_units_is_described_as_before():
    assert "separable" not in RetinaFaceConfig().to_dict()
    config = RetinaFaceConfig(backbone="yunet", separable=True)
    assert RetinaFaceConfig.from_dict(config.to_dict()) == config
