"""The mesh decoder: a short code becomes the shape and the colours of a face (1905.00641, 3.2).

Graph convolutions (Chebyshev polynomials) and mesh up-sampling, from a mesh of some 17 vertices to the
whole one, joint for shape and texture as in Zhou et al. 2019: six numbers a vertex.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from retinaface_tf.errors import ConfigError
from retinaface_tf.layers.graph_conv import ChebyshevConvolution, MeshResampling
from retinaface_tf.mesh.hierarchy import build_hierarchy
from retinaface_tf.mesh.laplacian import rescaled_laplacian

# How far vertices (in face sizes) and colours (0..1) of faces are from the mean face's, about.
# The network's outputs are multiples of it, so that all six are of like size.
SPREAD = (0.04, 0.04, 0.04, 0.15, 0.15, 0.15)


@dataclass(frozen=True, kw_only=True)
class MeshDecoderConfig:
    """The decoder's architecture.

    Attributes:
        code: numbers in a code (128 in the paper).
        channels: of the features, from the coarsest mesh to the finest; so many levels.
        factor: each mesh has so many times fewer vertices than the next finer one.
        order: K, the Chebyshev terms of a convolution.
    """

    code: int = 128
    channels: tuple[int, ...] = (96, 64, 48, 32)
    factor: float = 4.0
    order: int = 4

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.code < 1 or not self.channels or min(self.channels) < 1 or self.order < 1:
            raise ConfigError("A mesh decoder's code, channels and order must be at least 1.")


@keras.saving.register_keras_serializable(package="retinaface_tf")
class MeshDecoder(keras.Model):
    """Functional model: code [B, 128] -> [B, V, 6], x, y, z, r, g, b of each vertex.

    Vertices are in the frame of the template (`mesh.topology`: face sizes, x right, y down, z away
    from the viewer); colours are albedo, 0..1 but not clipped. A fresh decoder answers every code
    with the template in grey.

    Args:
        config: the architecture.
        template: [V, 3] mean face.
        triangles: int [T, 3].
        mirror: int [V] or None; coarse meshes are then symmetric too.
    """

    def __init__(
        self,
        config: MeshDecoderConfig | dict,
        template,
        triangles,
        mirror=None,
        name: str = "mesh_decoder",
        **kwargs,
    ):
        if not isinstance(config, MeshDecoderConfig):
            config = MeshDecoderConfig(**config)
        template, triangles = np.asarray(template, np.float64), np.asarray(triangles, np.int32)
        mirror = None if mirror is None else np.asarray(mirror, np.int32)
        code = keras.Input((config.code,), name="code")
        output = _connect(config, code, template, triangles, mirror)
        super().__init__(inputs=code, outputs=output, name=name, **kwargs)
        self.config = config
        self.template, self.triangles, self.mirror = template, triangles, mirror

    def get_config(self):
        return {
            "config": dataclasses.asdict(self.config),
            "template": self.template.tolist(),
            "triangles": self.triangles.tolist(),
            "mirror": None if self.mirror is None else self.mirror.tolist(),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def build_mesh_decoder(config: MeshDecoderConfig | None = None, topology=None) -> MeshDecoder:
    """A freshly initialised decoder.

    Args:
        config: the architecture; None for the default one.
        topology: a `mesh.topology.MeshTopology`; None for our own.
    """
    if topology is None:
        from retinaface_tf.mesh.topology import load_topology

        topology = load_topology()
    return MeshDecoder(
        config or MeshDecoderConfig(), topology.mean, topology.triangles, topology.mirror
    )


def _connect(config: MeshDecoderConfig, code, template, triangles, mirror):
    chain = build_hierarchy(template, triangles, len(config.channels), config.factor, mirror)
    coarse = chain[-1]
    x = layers.Dense(len(coarse.vertices) * config.channels[0], name="unfold")(code)
    x = layers.Reshape((len(coarse.vertices), config.channels[0]), name="coarsest")(x)
    x = layers.ELU(name="coarsest_act")(x)
    for step in range(1, len(chain)):
        level, finer = chain[-step], chain[-step - 1]
        x = MeshResampling(level.up, name=f"up{step}")(x)
        laplacian = rescaled_laplacian(finer.triangles, len(finer.vertices))
        x = ChebyshevConvolution(
            config.channels[step],
            laplacian,
            config.order,
            kernel_initializer="he_normal",
            name=f"conv{step}",
        )(x)
        x = layers.ELU(name=f"act{step}")(x)
    laplacian = rescaled_laplacian(triangles, len(template))
    x = ChebyshevConvolution(
        6, laplacian, config.order, kernel_initializer="zeros", use_bias=False, name="difference"
    )(x)
    return MeanFace(template, name="mean_face")(x)


@keras.saving.register_keras_serializable(package="retinaface_tf")
class MeanFace(layers.Layer):
    """Adds differences, in units of `SPREAD`, to a mean face that is learnt too.

    Args:
        template: [V, 3] where the mean starts; its colours start at 0.5.

    Input and output [B, V, 6].
    """

    def __init__(self, template, **kwargs):
        super().__init__(**kwargs)
        self.template = np.asarray(template, np.float64)

    def build(self, input_shape):
        start = np.concatenate([self.template, np.full((len(self.template), 3), 0.5)], axis=1)
        self.mean = self.add_weight(
            shape=start.shape, initializer=lambda shape, dtype=None: start, name="mean"
        )

    def call(self, x):
        spread = keras.ops.convert_to_tensor(SPREAD, x.dtype)
        return keras.ops.cast(self.mean, x.dtype) + x * spread

    def get_config(self):
        return {**super().get_config(), "template": self.template.tolist()}
