"""Channels brought to one range before int8, without changing what the network computes.

An int8 activation has one scale for all its channels, and after batch norm is folded some channels
are a hundred times wider than others: the narrow ones keep two or three of 256 steps, and a
depthwise convolution then amplifies what was lost. ReLU and LeakyReLU let a positive factor through
(f(s x) = s f(x)), so a channel may be divided by s where it is made and the kernels that read it
multiplied by s; so does having no activation (cross-layer equalisation, Nagel et al. 2019, arXiv
1906.04721, section 4.1; the balance with the kernels' own ranges as in SmoothQuant, Xiao et al. 2023, arXiv 2211.10438, eq. 4).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

# A channel narrower than this part of the widest is scaled no further: it is dead, or nearly.
NARROWEST = 1e-3
# 1 gives all the freedom to the activations, 0 to the kernels that read them.
BALANCE = 0.7


def equalize(network: RetinaFaceNetwork, images: Iterable[np.ndarray]) -> RetinaFaceNetwork:
    """A copy of the network, the same function, whose activations waste fewer int8 steps.

    Args:
        network: unchanged.
        images: images like those it will see, uint8 RGB [H, W, 3] of one size.
    """
    from retinaface_tf.models import build_retinaface

    copy = build_retinaface(network.config)
    copy.set_weights(network.get_weights())
    groups = _Groups(copy)
    ranges = _channel_ranges(copy, groups.makers, images)
    factors = {
        root: _factors(
            np.max([ranges[layer.name] for layer in makers], axis=0), groups.readers.get(root, [])
        )
        for root, makers in groups.free()
    }
    for root, makers in groups.free():
        for layer in makers:
            # Scale and offset of a batch norm, kernel and bias of a convolution: channels come last.
            slope, offset = (
                (layer.gamma, layer.beta) if hasattr(layer, "gamma") else (layer.kernel, layer.bias)
            )
            slope.assign(np.asarray(slope) / factors[root])
            offset.assign(np.asarray(offset) / factors[root])
    for layer, parts in groups.kernels.items():
        scale = np.concatenate(
            [factors.get(root, np.ones(width, np.float32)) for root, width in parts]
        )
        layer.kernel.assign(np.asarray(layer.kernel) * scale[:, None])
    return copy


def _factors(ranges: np.ndarray, kernels: list[np.ndarray]) -> np.ndarray:
    """float32 [C] that each channel is divided by.

    Args:
        ranges: [C] largest magnitude of the channel.
        kernels: [C] largest magnitude of the weights that read the channel, one entry a reading
            convolution; None where it is depthwise and has a scale for each channel anyway.
    """
    ranges = np.maximum(ranges, NARROWEST * ranges.max())
    full = [kernel for kernel in kernels if kernel is not None]
    if not full:
        factors = ranges
    else:
        weights = np.max([kernel / kernel.max() for kernel in full], axis=0)
        weights = np.maximum(weights, NARROWEST)
        factors = ranges**BALANCE / weights ** (1 - BALANCE)
    return (factors / np.exp(np.mean(np.log(factors)))).astype(np.float32)


class _Groups:
    """Tensors whose channels must share one factor, who makes them and who reads them.

    Attributes:
        makers: every batch normalisation, and every convolution with a bias and none behind it.
        readers: by group, the input channels' largest weights of each convolution that reads it.
        kernels: by convolution, the (group, channels) its input is made of, in order.
    """

    def __init__(self, network: Any):
        from keras import layers

        from retinaface_tf.layers.feature_pyramid import UpsampleLike

        passing = (
            *(layers.ReLU, layers.LeakyReLU, layers.ZeroPadding2D, layers.MaxPooling2D),
            UpsampleLike,
        )
        self._parents: dict[int, int] = {}
        self._bound: set[int] = set()
        self._parts: dict[int, list[int]] = {}
        self._widths: dict[int, int] = {}
        self.makers = []
        convolutions = []
        for layer in network.layers:
            for node in layer._inbound_nodes:
                inputs, outputs = node.input_tensors, node.output_tensors
                for tensor in (*inputs, *outputs):
                    self._widths[id(tensor)] = tensor.shape[-1]
                if isinstance(layer, layers.BatchNormalization):
                    self.makers.append(layer)
                elif isinstance(layer, passing):
                    self._join(inputs[0], outputs[0])
                elif isinstance(layer, layers.Add):
                    for tensor in inputs:
                        self._join(tensor, outputs[0])
                elif isinstance(layer, layers.Concatenate) and len(outputs[0].shape) == 4:
                    self._parts[id(outputs[0])] = [id(tensor) for tensor in inputs]
                elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
                    convolutions.append((layer, inputs[0], outputs[0]))
                else:
                    # Whatever else reads or makes a tensor needs it as it is.
                    self._bound.update(id(tensor) for tensor in (*inputs, *outputs))
        normed = {self._input(norm) for norm in self.makers}
        self._bound.update(id(tensor) for tensor in network.inputs)
        for layer, _, output in convolutions:
            if id(output) in normed:
                continue
            if type(layer) is layers.Conv2D and layer.use_bias and len(layer._inbound_nodes) == 1:
                self.makers.append(layer)
            else:
                self._bound.add(id(output))
        self._bound_roots = {self._root(key) for key in self._bound}
        self.readers = defaultdict(list)
        self.kernels = {}
        for layer, source, _ in convolutions:
            self._read(layer, source)

    def free(self) -> list[tuple[int, list[Any]]]:
        """(group, layers that make it) of every group that may be scaled."""
        makers = defaultdict(list)
        for layer in self.makers:
            makers[self._root(id(layer.output))].append(layer)
        return [(root, made) for root, made in makers.items() if root not in self._bound_roots]

    def _read(self, layer: Any, source: Any) -> None:
        from keras import layers

        parts = [(self._root(key), self._widths[key]) for key in self._leaves(id(source))]
        depthwise = isinstance(layer, layers.DepthwiseConv2D)
        # [kh, kw, in, out]; a shared head reads several maps with one kernel and must not be
        # scaled for either.
        if len(layer._inbound_nodes) > 1:
            self._bound_roots.update(root for root, _ in parts)
            return
        self.kernels[layer] = parts
        weights = np.abs(np.asarray(layer.kernel)).max(axis=(0, 1, 3))
        start = 0
        for root, width in parts:
            part = None if depthwise else weights[start : start + width]
            self.readers[root].append(part)
            start += width

    def _leaves(self, key: int) -> list[int]:
        if key not in self._parts:
            return [key]
        return [leaf for part in self._parts[key] for leaf in self._leaves(part)]

    @staticmethod
    def _input(layer: Any) -> int:
        return id(layer._inbound_nodes[0].input_tensors[0])

    def _join(self, a: Any, b: Any) -> None:
        self._parents[self._root(id(a))] = self._root(id(b))

    def _root(self, key: int) -> int:
        while key in self._parents and self._parents[key] != key:
            key = self._parents[key]
        return key


def _channel_ranges(network: Any, made_by: list, images: Iterable[np.ndarray]) -> dict:
    """By name of a layer, the largest magnitude [C] of its output on the images."""
    import keras
    from keras import ops

    outputs = {layer.name: ops.max(ops.abs(layer.output), axis=(0, 1, 2)) for layer in made_by}
    measure = keras.Model(network.inputs, outputs)
    found: dict[str, np.ndarray] = {}
    for image in images:
        values = measure.predict_on_batch(image[None].astype(np.float32))
        for name, value in values.items():
            value = np.asarray(value)
            found[name] = np.maximum(found.get(name, 0), value)
    return found
