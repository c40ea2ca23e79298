"""The published PyTorch network written out plainly, to check conversions against.

Written from the published forward pass (channels first, names of its state dict), independent of
the package. `Arithmetic` evaluates it in float64; `OnnxWriter` writes it as an ONNX graph.
"""

from __future__ import annotations

import numpy as np

MOBILENET = {"mobilenet0.25": 8, "mobilenet0.5": 16, "mobilenet1.0": 32}


class RandomTensors(dict):
    """A state dict that makes up each tensor when it is first asked for."""

    def __init__(self, rng):
        self.rng = rng

    def get_tensor(self, name, shape):
        if name not in self:
            if name.endswith("running_var"):
                value = self.rng.uniform(0.5, 2.0, shape)
            elif len(shape) == 4:
                value = self.rng.normal(0, (1.5 / np.prod(shape[1:])) ** 0.5, shape)
            elif name.endswith("weight"):
                value = self.rng.uniform(0.7, 1.1, shape)
            else:
                value = self.rng.normal(0, 0.1, shape)
            if ".bn3." in name and name.endswith("weight"):
                value = value * 0.3  # else sixteen residual sums grow without bound
            self[name] = value.astype(np.float32)
        return self[name]


class KnownTensors(dict):
    def get_tensor(self, name, shape):
        assert self[name].shape == tuple(shape), name
        return self[name]


class Arithmetic:
    """float64, one image, [C, H, W]."""

    def __init__(self, tensors):
        self.tensors = tensors

    def image(self, rgb):
        bgr = rgb[..., ::-1].astype(np.float64) - (104, 117, 123)
        return bgr.transpose(2, 0, 1)

    def channels(self, x):
        return len(x)

    def conv(self, x, name, filters, size, stride=1, groups=1, bias=False):
        w = self.tensors.get_tensor(f"{name}.weight", (filters, len(x) // groups, size, size))
        p = size // 2
        x = np.pad(x, ((0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        windows = windows[:, ::stride, ::stride]
        w = w.astype(np.float64)
        if groups > 1:
            y = np.einsum("chwij,cij->chw", windows, w[:, 0])
        else:
            y = np.tensordot(w, windows, ((1, 2, 3), (0, 3, 4)))
        if bias:
            y = y + self.tensors.get_tensor(f"{name}.bias", (filters,))[:, None, None]
        return y

    def conv_bn(self, x, conv, norm, filters, size, stride=1, groups=1, slope=None):
        x = self.conv(x, conv, filters, size, stride, groups)
        gamma, beta, mean, var = (
            self.tensors.get_tensor(f"{norm}.{part}", (filters,)).astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return self.activate((x - mean) / np.sqrt(var + 1e-5) * gamma + beta, slope)

    def activate(self, x, slope):
        return x if slope is None else np.where(x > 0, x, slope * x)

    def pool(self, x):
        x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((3, 4))

    def add(self, a, b):
        return a + b

    def concat(self, parts):
        return np.concatenate(parts)

    def upsample(self, x, like):
        rows, columns = (np.arange(n) * m // n for n, m in zip(like.shape[1:], x.shape[1:]))
        return x[:, rows][:, :, columns]

    def head(self, maps, width):
        return np.concatenate([x.transpose(1, 2, 0).reshape(-1, width) for x in maps])


class OnnxWriter:
    """The same calls, written as nodes; batch norm folded, tensors under meaningless names."""

    def __init__(self, tensors, copy_shared=False):
        self.tensors, self.copy_shared = tensors, copy_shared
        self.nodes, self.weights, self.widths = [], [], {"input": 3}

    def _node(self, kind, inputs, width, **options):
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **options))
        self.widths[name] = width
        return name

    def _tensor(self, value):
        from onnx import numpy_helper

        name = f"onnx::Any_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def image(self, _):
        return "input"

    def channels(self, x):
        return self.widths[x]

    def _conv(self, x, w, b, size, stride, groups):
        names = [self._tensor(w.astype(np.float32)), self._tensor(b.astype(np.float32))]
        return self._node(
            "Conv",
            [x, *names],
            len(w),
            kernel_shape=[size] * 2,
            strides=[stride] * 2,
            pads=[size // 2] * 4,
            group=groups,
        )

    def conv(self, x, name, filters, size, stride=1, groups=1, bias=False):
        w = self.tensors.get_tensor(f"{name}.weight", (filters, self.widths[x], size, size))
        b = self.tensors.get_tensor(f"{name}.bias", (filters,))
        return self._conv(x, w, b, size, stride, groups)

    def conv_bn(self, x, conv, norm, filters, size, stride=1, groups=1, slope=None):
        shape = (filters, self.widths[x] // groups, size, size)
        w = self.tensors.get_tensor(f"{conv}.weight", shape).astype(np.float64)
        gamma, beta, mean, var = (
            self.tensors.get_tensor(f"{norm}.{part}", (filters,)).astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(var + 1e-5)
        w, b = w * scale[:, None, None, None], beta - mean * scale
        return self.activate(self._conv(x, w, b, size, stride, groups), slope)

    def activate(self, x, slope):
        if slope is None:
            return x
        if slope == 0:
            return self._node("Relu", [x], self.widths[x])
        return self._node("LeakyRelu", [x], self.widths[x], alpha=slope)

    def pool(self, x):
        return self._node(
            "MaxPool",
            [x],
            self.widths[x],
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=[1] * 4,
        )

    def add(self, a, b):
        return self._node("Add", [a, b], self.widths[a])

    def concat(self, parts):
        return self._node("Concat", parts, sum(self.widths[p] for p in parts), axis=1)

    def upsample(self, x, like):
        # For images whose sides are multiples of 32, where the scale is just two.
        scales = self._scalar_free(np.array([1, 1, 2, 2], np.float32))
        return self._node(
            "Resize",
            [x, "", scales],
            self.widths[x],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _scalar_free(self, value):
        from onnx import helper, numpy_helper

        name = f"c{len(self.nodes)}"
        self.nodes.append(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        )
        return name

    def head(self, maps, width):
        parts = []
        for x in maps:
            x = self._node("Transpose", [x], 0, perm=[0, 2, 3, 1])
            shape = self._scalar_free(np.array([1, -1, width]))
            parts.append(self._node("Reshape", [x, shape], 0))
        return self._node("Concat", parts, 0, axis=1)

    def save(self, outputs) -> bytes:
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self.nodes,
            "detector",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs.values()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        return model.SerializeToString()


def forward(net, rgb, backbone):
    """class [N, 2], box [N, 4] and landmark [N, 10] of the published network."""
    x = net.image(rgb)
    features = _mobilenet(net, x, MOBILENET[backbone]) if backbone in MOBILENET else _resnet(net, x)
    channels = {"mobilenet0.25": 64, "resnet50": 256}.get(backbone, 128)
    slope = 0.1 if backbone == "mobilenet0.25" else 0.0
    laterals = [
        net.conv_bn(f, f"fpn.output{i}.0", f"fpn.output{i}.1", channels, 1, slope=slope)
        for i, f in enumerate(features, start=1)
    ]
    for i in (2, 1):
        x = net.add(laterals[i - 1], net.upsample(laterals[i], laterals[i - 1]))
        laterals[i - 1] = net.conv_bn(
            x, f"fpn.merge{i}.0", f"fpn.merge{i}.1", channels, 3, slope=slope
        )
    contexts = []
    for i, x in enumerate(laterals, start=1):

        def unit(x, name, filters, slope=None, i=i):
            return net.conv_bn(x, f"ssh{i}.{name}.0", f"ssh{i}.{name}.1", filters, 3, slope=slope)

        three = unit(x, "conv3X3", channels // 2)
        shared = unit(x, "conv5X5_1", channels // 4, slope)
        five = unit(shared, "conv5X5_2", channels // 4)
        if getattr(net, "copy_shared", False):
            shared = unit(x, "conv5X5_1", channels // 4, slope)
        seven = unit(unit(shared, "conv7X7_2", channels // 4, slope), "conv7x7_3", channels // 4)
        contexts.append(net.activate(net.concat([three, five, seven]), 0))
    return {
        kind: net.head(
            [
                net.conv(x, f"{name}.{i}.conv1x1", 2 * width, 1, bias=True)
                for i, x in enumerate(contexts)
            ],
            width,
        )
        for kind, name, width in (
            ("box_deltas", "BboxHead", 4),
            ("class_logits", "ClassHead", 2),
            ("landmark_deltas", "LandmarkHead", 10),
        )
    }


def _mobilenet(net, x, stem):
    x = net.conv_bn(x, "body.stage1.0.0", "body.stage1.0.1", stem, 3, 2, slope=0.1)
    plan = [
        [(2, 1), (4, 2), (4, 1), (8, 2), (8, 1)],
        [(16, 2)] + [(16, 1)] * 5,
        [(32, 2), (32, 1)],
    ]
    features = []
    for stage, blocks in enumerate(plan, start=1):
        for item, (times, stride) in enumerate(blocks, start=stage == 1):
            name, width = f"body.stage{stage}.{item}", net.channels(x)
            x = net.conv_bn(x, f"{name}.0", f"{name}.1", width, 3, stride, width, slope=0.1)
            x = net.conv_bn(x, f"{name}.3", f"{name}.4", stem * times, 1, slope=0.1)
        features.append(x)
    return features


def _resnet(net, x):
    x = net.pool(net.conv_bn(x, "body.conv1", "body.bn1", 64, 7, 2, slope=0))
    features = []
    for layer, depth in enumerate((3, 4, 6, 3), start=1):
        width = 32 << layer
        for block in range(depth):
            name = f"body.layer{layer}.{block}"
            stride = 2 if block == 0 and layer > 1 else 1
            y = net.conv_bn(x, f"{name}.conv1", f"{name}.bn1", width, 1, slope=0)
            y = net.conv_bn(y, f"{name}.conv2", f"{name}.bn2", width, 3, stride, slope=0)
            y = net.conv_bn(y, f"{name}.conv3", f"{name}.bn3", 4 * width, 1)
            if block == 0:
                down = f"{name}.downsample"
                x = net.conv_bn(x, f"{down}.0", f"{down}.1", 4 * width, 1, stride)
            x = net.activate(net.add(y, x), 0)
        features.append(x)
    return features[1:]
