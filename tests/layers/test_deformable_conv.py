"""Deformable convolution: against ONNX' reference, finite differences and the plain convolution."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from onnx import helper
from onnx.reference import ReferenceEvaluator

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.deformable_conv import DeformableConv2D
from retinaface_tf.layers.deformable_sampling import deformable_conv2d

# What the running backend has.
SAMPLINGS = ("gather", "sparse") if keras.backend.backend() == "tensorflow" else ("gather",)
EXPLICIT_PADDINGS = (0, 1, 2, ((1, 0), (2, 1)))


def random_case(seed: int, dtype=np.float32):
    """Tensors and options of a random deformable convolution; offsets reach far outside."""
    rng = np.random.default_rng(seed)
    groups, deformable_groups = rng.choice([1, 2], 2)
    kernel_size = tuple(rng.integers(1, 4, 2).tolist())
    strides = tuple(rng.integers(1, 3, 2).tolist())
    dilation = tuple(rng.integers(1, 3, 2).tolist())
    padding = EXPLICIT_PADDINGS[rng.integers(len(EXPLICIT_PADDINGS))]
    sides = ((padding,) * 2,) * 2 if isinstance(padding, int) else padding
    batch, height, width = 1 + seed % 2, *rng.integers(5, 8, 2).tolist()
    out = [
        (side + sum(border) - (k - 1) * d - 1) // s + 1
        for side, border, k, s, d in zip((height, width), sides, kernel_size, strides, dilation)
    ]
    taps = deformable_groups * kernel_size[0] * kernel_size[1]
    spread = rng.choice([0.3, 2.0, 30.0])
    tensors = {
        "x": rng.normal(size=(batch, height, width, 4)),
        "kernel": rng.normal(size=(*kernel_size, 4 // groups, 2)),
        "offsets": rng.normal(size=(batch, *out, 2 * taps)) * spread,
    }
    if rng.integers(2):
        tensors["mask"] = rng.uniform(0, 2, size=(batch, *out, taps))
    options = {
        "strides": strides,
        "padding": padding,
        "dilation_rate": dilation,
        "groups": int(groups),
    }
    return {name: value.astype(dtype) for name, value in tensors.items()}, options, sides


def onnx_model(options, sides, kernel, deformable_groups: int, masked: bool):
    names = ["x", "kernel", "offsets", "", "mask"] if masked else ["x", "kernel", "offsets"]
    (top, bottom), (left, right) = sides
    node = helper.make_node(
        "DeformConv",
        names,
        ["y"],
        strides=options["strides"],
        dilations=options["dilation_rate"],
        pads=(top, left, bottom, right),
        group=options["groups"],
        offset_group=deformable_groups,
        kernel_shape=kernel.shape[:2],
    )
    value = functools.partial(helper.make_tensor_value_info, elem_type=1, shape=None)
    graph = helper.make_graph([node], "g", [value(n) for n in names if n], [value("y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def channels_first(tensors):
    order = {"kernel": (3, 2, 0, 1)}
    return {n: v.transpose(order.get(n, (0, 3, 1, 2))) for n, v in tensors.items()}


@pytest.mark.parametrize("seed", range(48))
def test_equals_the_onnx_reference(seed):
    tensors, options, sides = random_case(seed)
    kernel = tensors["kernel"]
    groups = tensors["offsets"].shape[-1] // (2 * kernel.shape[0] * kernel.shape[1])
    model = onnx_model(options, sides, kernel, groups, "mask" in tensors)
    (expected,) = ReferenceEvaluator(model).run(None, channels_first(tensors))
    for sampling in SAMPLINGS:
        found = deformable_conv2d(**tensors, **options, sampling=sampling)
        found = ops.convert_to_numpy(found)
        np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_operator_of_onnxruntime(seed):
    onnxruntime = pytest.importorskip("onnxruntime")
    tensors, options, sides = random_case(seed)
    kernel = tensors["kernel"]
    groups = tensors["offsets"].shape[-1] // (2 * kernel.shape[0] * kernel.shape[1])
    model = onnx_model(options, sides, kernel, groups, "mask" in tensors)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, channels_first(tensors))
    found = ops.convert_to_numpy(deformable_conv2d(**tensors, **options))
    np.testing.assert_allclose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)


def gradients(tensors, options, weights):
    """Of sum(weights * convolution), by the running backend's differentiation."""
    names = list(tensors)

    def loss(*values):
        y = deformable_conv2d(**dict(zip(names, values)), **options)
        return ops.sum(y * weights)

    values = [ops.convert_to_tensor(v) for v in tensors.values()]
    if keras.backend.backend() == "jax":
        import jax

        found = jax.jit(jax.grad(loss, argnums=tuple(range(len(values)))))(*values)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            result = loss(*values)
        found = tape.gradient(result, values)
    return {name: ops.convert_to_numpy(value) for name, value in zip(names, found)}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("seed", range(6))
def test_gradients_equal_finite_differences(seed, sampling):
    tensors, options, _ = random_case(seed, np.float64)
    options["sampling"] = sampling
    # Away from whole offsets, where the interpolation has a kink.
    offsets = tensors["offsets"]
    tensors["offsets"] = np.floor(offsets) + 0.1 + 0.8 * (offsets - np.floor(offsets))
    y = ops.convert_to_numpy(deformable_conv2d(**tensors, **options))
    weights = np.random.default_rng(seed).normal(size=y.shape)
    found = gradients(tensors, options, weights)
    step = 1e-5
    for name, value in tensors.items():
        flat = value.reshape(-1)
        for i in np.random.default_rng(seed).permutation(flat.size)[:25]:
            kept, results = flat[i], []
            for sign in (1, -1):
                flat[i] = kept + sign * step
                shifted = ops.convert_to_numpy(deformable_conv2d(**tensors, **options))
                results.append((shifted * weights).sum())
            flat[i] = kept
            expected = (results[0] - results[1]) / (2 * step)
            np.testing.assert_allclose(found[name].reshape(-1)[i], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides, dilation, size", [(1, 1, 9), (2, 1, 9), (2, 1, 8), (1, 2, 10)])
def test_zero_offsets_and_unit_mask_are_the_plain_convolution(
    rng, padding, strides, dilation, size
):
    options = {"padding": padding, "dilation_rate": dilation}
    plain = keras.layers.Conv2D(6, 3, strides, **options)
    x = rng.normal(size=(2, size, size + 3, 4)).astype(np.float32)
    expected = ops.convert_to_numpy(plain(x))
    layer = DeformableConv2D(6, 3, strides, **options)
    layer.build(x.shape)
    layer.kernel.assign(plain.kernel)
    assert layer.compute_output_shape(x.shape) == expected.shape
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


def test_whole_offsets_shift_the_map(rng):
    x = rng.normal(size=(1, 6, 6, 3)).astype(np.float32)
    offsets = np.tile(np.float32([1, -2]), (1, 6, 6, 1))
    y = ops.convert_to_numpy(deformable_conv2d(x, np.eye(3, dtype="f")[None, None], offsets))
    np.testing.assert_array_equal(y[:, :5, 2:], x[:, 1:, :4])
    assert not y[:, 5].any() and not y[:, :, :2].any()


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("offset", [1e30, -1e30, np.inf, -np.inf, np.nan])
def test_wild_offsets_read_nothing_outside_the_map(rng, offset, sampling):
    x = rng.normal(size=(1, 4, 4, 2)).astype(np.float32)
    kernel = np.ones((1, 1, 2, 1), np.float32)
    y = deformable_conv2d(x, kernel, np.full((1, 4, 4, 2), offset, "f"), sampling=sampling)
    y = ops.convert_to_numpy(y)
    assert np.isnan(y).all() if np.isnan(offset) else not y.any()


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("dtype, tolerance", [("float16", 4e-3), ("bfloat16", 3e-2)])
def test_half_precision_keeps_float32_coordinates(rng, dtype, tolerance, sampling):
    # In float16 cell 3000 has neighbours two cells apart: coordinates there must not be rounded.
    x = np.zeros((1, 2, 3000, 1), np.float32)
    x[0, 0, 2995:2998, 0] = (1, 2, 3)
    offsets = np.zeros((1, 2, 3000, 2), np.float32)
    offsets[..., 1] = 0.25
    values = (ops.cast(x, dtype), ops.ones((1, 1, 1, 1), dtype), ops.cast(offsets, dtype))
    y = deformable_conv2d(*values, sampling=sampling)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    y = ops.convert_to_numpy(ops.cast(y, "float32"))
    np.testing.assert_allclose(y[0, 0, 2994:2998, 0], [0.25, 1.25, 2.25, 2.25], rtol=tolerance)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_layer_runs_in_mixed_precision(rng, policy):
    layer = DeformableConv2D(4, 3, dtype=policy)
    y = layer(rng.normal(size=(1, 8, 8, 4)).astype(np.float32))
    assert keras.backend.standardize_dtype(y.dtype) == policy.removeprefix("mixed_")
    assert np.isfinite(ops.convert_to_numpy(ops.cast(y, "float32"))).all()


def test_offset_convolution_learns_at_its_own_rate(rng):
    import tensorflow as tf

    x = rng.normal(size=(1, 8, 8, 4)).astype(np.float32)
    found = {}
    for scale in (1.0, 0.1):
        layer = DeformableConv2D(4, 3, offset_gradient_scale=scale)
        layer.build(x.shape)
        layer.kernel.assign(np.random.default_rng(1).normal(size=layer.kernel.shape))
        with tf.GradientTape() as tape:
            loss = ops.sum(ops.square(layer(x, training=True)))
        found[scale] = tape.gradient(loss, [w.value for w in layer.trainable_weights])
    for weight, full, scaled in zip(layer.trainable_weights, found[1.0], found[0.1]):
        factor = 0.1 if "offset" in weight.name else 1.0
        assert np.abs(full).max() > 0, weight.name
        np.testing.assert_allclose(scaled, factor * full, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask_scale, modulated", [(2.0, True), (1.0, True), (2.0, False)])
def test_fresh_layer_starts_as_a_multiple_of_the_plain_convolution(rng, mask_scale, modulated):
    x = rng.normal(size=(1, 7, 7, 4)).astype(np.float32)
    layer = DeformableConv2D(5, 3, mask_scale=mask_scale, modulated=modulated)
    y = ops.convert_to_numpy(layer(x))
    expected = ops.convert_to_numpy(ops.conv(x, layer.kernel, padding="same"))
    factor = mask_scale / 2 if modulated else 1
    np.testing.assert_allclose(y, factor * expected, atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="groups=3"):
        DeformableConv2D(4, 3, groups=3)
    with pytest.raises(ConfigError, match="sampling='tap'"):
        DeformableConv2D(4, 3, sampling="tap")(np.zeros((1, 4, 4, 2), "f"))
    with pytest.raises(ConfigError, match="deformable_groups=3"):
        DeformableConv2D(4, 3, deformable_groups=3).build((None, None, None, 4))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_sides_known_at_run_time_only_change_nothing(rng, sampling):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("JAX knows every side when it traces")
    import tensorflow as tf

    tensors, options, _ = random_case(3)
    names = list(tensors)

    def loss(*values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            y = deformable_conv2d(**dict(zip(names, values)), **options, sampling=sampling)
            total = tf.reduce_sum(y**2)
        return y, *tape.gradient(total, values)

    values = [tf.constant(value) for value in tensors.values()]
    open_shapes = [
        tf.TensorSpec(v.shape if n == "kernel" else (None, None, None, v.shape[-1]), v.dtype)
        for n, v in zip(names, values)
    ]
    for found, expected in zip(tf.function(loss, open_shapes)(*values), loss(*values)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
