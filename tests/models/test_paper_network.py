"""The papers' network: anchor table, backbones, cascade and cost."""

import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.config import PAPER_LEVELS, PyramidLevel, RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.geometry.anchors import generate_anchors, level_shapes
from retinaface_tf.geometry.box_coding import (
    compose_box_deltas,
    compose_point_deltas,
    decode_boxes,
    decode_points,
)
from retinaface_tf.models.backbones import build_backbone
from retinaface_tf.models.cost import network_cost
from retinaface_tf.presets import get_preset


def test_the_papers_anchor_table():
    config = get_preset("resnet152-paper").config
    sizes = [
        *((16, 20.16, 25.40), (32, 40.32, 50.80), (64, 80.63, 101.59)),
        *((128, 161.26, 203.19), (256, 322.54, 406.37)),
    ]
    for level, shape, expected, side in zip(
        config.levels, level_shapes(config.levels, 640, 640), sizes, (160, 80, 40, 20, 10)
    ):
        assert shape == (side, side)
        np.testing.assert_allclose(level.anchor_sizes, expected, atol=0.011)
    anchors = generate_anchors(config.levels, 640, 640)
    assert len(anchors) == 102_300
    assert 3 * 160 * 160 / len(anchors) == pytest.approx(0.75, abs=0.002)


TINY = dict(channels=8, negative_slope=0.0, shared_heads=True, levels=PAPER_LEVELS)
# The two coarsest levels: every kind of layer, a third of the time.
TWO_LEVELS = TINY | {"levels": PAPER_LEVELS[2:4]}


@pytest.fixture(scope="module")
def tiny():
    """Every part of the papers' network on a small backbone."""
    keras.utils.set_random_seed(1)
    options = TWO_LEVELS | {"deformable": True, "cascade": True}
    return build_retinaface(RetinaFaceConfig(backbone="mobilenet0.25", **options))


def test_every_anchor_has_both_stages_predictions(tiny, rng):
    image = rng.integers(0, 256, (1, 75, 131, 3), dtype=np.uint8)
    outputs = tiny(image, training=False)
    count = len(generate_anchors(tiny.config.levels, 75, 131))
    assert {name: tuple(v.shape) for name, v in outputs.items()} == {
        "class_logits": (1, count, 2),
        "box_deltas": (1, count, 4),
        "landmark_deltas": (1, count, 10),
        "first_class_logits": (1, count, 2),
        "first_box_deltas": (1, count, 4),
    }


def test_every_3x3_convolution_of_pyramid_and_context_is_deformable():
    network = build_retinaface(
        RetinaFaceConfig(backbone="mobilenet0.25", deformable=True, cascade=True, **TINY)
    )
    kinds = [type(layer).__name__ for layer in network.layers]
    # One merge on each of P2..P4, and five convolutions in each of two context modules a level.
    assert kinds.count("DeformableConv2D") == 3 + 2 * 5 * 5


def test_paper_network_survives_its_file(tiny, rng, tmp_path):
    image = rng.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    tiny.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, value in tiny(image, training=False).items():
        np.testing.assert_array_equal(loaded(image, training=False)[name], value)


def test_composed_codes_decode_to_what_the_second_stage_makes_of_the_first(rng):
    anchors = generate_anchors(PAPER_LEVELS, 64, 64)[::7]
    first, second = rng.normal(size=(2, len(anchors), 4)).astype(np.float32)
    points = rng.normal(size=(len(anchors), 5, 2)).astype(np.float32)
    corners = decode_boxes(first, anchors)
    refined = np.concatenate(
        [(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1
    )
    np.testing.assert_allclose(
        decode_boxes(compose_box_deltas(first, second), anchors),
        decode_boxes(second, refined),
        rtol=1e-4,
        atol=1e-2,
    )
    np.testing.assert_allclose(
        decode_points(
            compose_point_deltas(first, points.reshape(-1, 10)).reshape(-1, 5, 2), anchors
        ),
        decode_points(points, refined),
        rtol=1e-4,
        atol=1e-2,
    )


def test_the_second_stage_does_not_teach_the_first(tiny, rng):
    import tensorflow as tf

    image = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tiny(image, training=True)["box_deltas"] ** 2)
    weights = [w for w in tiny.trainable_weights if "first_head_box" in w.path]
    assert weights and all(g is None for g in tape.gradient(loss, [w.value for w in weights]))


@pytest.mark.parametrize("strides", [(2, 4), (64,), (32, 64, 128)])
def test_levels_without_features_are_refused(strides):
    levels = tuple(PyramidLevel(stride=s, anchor_sizes=(4 * s,)) for s in strides)
    with pytest.raises(ConfigError, match="from 4 to 64"):
        RetinaFaceConfig(levels=levels)


def test_light_stem_starts_at_stride_four():
    image = keras.Input((64, 96, 3))
    features = build_backbone("mobilenet0.25-paper", image, 0.1)
    assert {level: x.shape[1:3] for level, x in features.items()} == {
        2: (16, 24),
        3: (8, 12),
        4: (4, 6),
        5: (2, 3),
    }
    stem = keras.Model(image, features[2]).get_layer("stem_conv")
    assert stem.kernel_size == (7, 7) and stem.strides == (4, 4)


def random_statistics(model, seed: int):
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [
                    rng.uniform(0.5, 1, gamma.shape),
                    rng.normal(size=beta.shape) * 0.1,
                    rng.normal(size=mean.shape) * 0.1,
                    rng.uniform(0.5, 2, variance.shape),
                ]
            )
        elif isinstance(layer, keras.layers.Conv2D) and layer.use_bias:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(size=bias.shape) * 0.1])


@pytest.mark.slow
@pytest.mark.parametrize("depth", [50, 101, 152])
def test_imagenet_backbone_is_keras_applications_function(depth, rng):
    from retinaface_tf.training.imagenet import copy_backbone

    source = getattr(keras.applications, f"ResNet{depth}")(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    random_statistics(source, depth)
    config = RetinaFaceConfig(
        backbone=f"resnet{depth}-v1", **TINY, pixel_mean=(123.68, 116.779, 103.939)
    )
    network = build_retinaface(config)
    copy_backbone(source, network)
    image = rng.integers(0, 256, (1, 64, 96, 3)).astype(np.float32)
    theirs = keras.Model(
        source.input,
        [
            max(
                (l for l in source.layers if l.name.startswith(f"conv{n}_") and "_out" in l.name),
                key=lambda l: int(l.name.split("block")[1].split("_")[0]),
            ).output
            for n in (2, 3, 4, 5)
        ],
    )
    ours = keras.Model(
        network.input,
        [
            [l for l in network.layers if l.name.startswith(f"stage{n}_") and "_out" in l.name][
                -1
            ].output
            for n in (1, 2, 3, 4)
        ],
    )
    expected = theirs(keras.applications.resnet.preprocess_input(image.copy()), training=False)
    for found, wanted in zip(ours(image, training=False), expected):
        scale = float(np.abs(wanted).max())
        np.testing.assert_allclose(found, wanted, atol=2e-4 * scale)


def test_cost_counts_every_parameter_and_the_plain_convolutions_arithmetic():
    config = get_preset("mobilenet0.25").config
    costs = network_cost(config, 480, 640)
    assert (
        sum(cost.parameters for cost in costs.values()) == build_retinaface(config).count_params()
    )
    # 0.736 billion multiplications at VGA were counted from the public graph.
    assert sum(cost.flops for cost in costs.values()) == pytest.approx(2 * 0.736e9, rel=0.01)
