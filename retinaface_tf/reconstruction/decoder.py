"""The mesh decoder: from a latent code to the shape and the colours of a face (1905.00641, 3.2).

Graph convolutions (Chebyshev polynomials) and mesh up-sampling, from a mesh of 17 vertices to the
whole one, joint for shape and texture as in Zhou et al. 2019: six numbers a vertex.
"""

import dataclasses
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import keras
import numpy as np
from keras import layers

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.reconstruction.graph_conv import ChebyshevConvolution, MeshResampling
from retinaface_tf.reconstruction.hierarchy import build_hierarchy
from retinaface_tf.reconstruction.sparse_rows import rescaled_laplacian
from retinaface_tf.util.npz import read_npz, to_float16, write_npz

# How far vertices (in face sizes) and colours (0..1) of faces are from the mean face's, roughly.
# The network's outputs are multiples of it, so that all six have a similar range.
SPREAD = (0.04, 0.04, 0.04, 0.15, 0.15, 0.15)


@dataclass(frozen=True, kw_only=True)
class MeshDecoderConfig:
    """The decoder's architecture.

    Attributes:
        code: length of the latent code (128 in the paper).
        channels: of the features on each level, from the coarsest mesh to the finest.
        factor: how many times more vertices a mesh has than the next coarser one.
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

    Vertices are in the template's coordinates (`mesh.topology`: face sizes, x right, y down, z away
    from the viewer); colours are albedo, 0..1 but not clipped. A fresh decoder gives
    the template in grey for every code.

    Args:
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


def save_mesh_decoder(decoder: MeshDecoder, path: Path) -> None:
    """Writes the weights in float16, with the architecture, as one `.npz`, whole or not at all."""
    arrays = {w.path: keras.ops.convert_to_numpy(w) for w in decoder.weights}
    # Vertices need more than float16's three digits.
    mean = decoder.get_layer("mean_face").mean.path
    arrays = {**to_float16(arrays), mean: arrays[mean].astype(np.float32)}
    write_npz(path, arrays, dataclasses.asdict(decoder.config), key="config")


def load_mesh_decoder(path: Path | None = None, topology=None) -> MeshDecoder:
    """The decoder that `save_mesh_decoder` wrote.

    Args:
        path: of the file; None for the one that comes with the package, pre-trained on real faces
            of our own topology (docs/mesh-decoder.md).
        topology: of its mesh; None for our own.

    Raises:
        DataError: the file is missing, damaged or of another mesh.
    """
    name = path or "decoder.npz"
    source = path or (resources.files("retinaface_tf.reconstruction") / name).read_bytes()
    remedy = "give one that training/mesh_decoder.py wrote"
    arrays, config = read_npz(source, key="config", name=name, remedy=remedy, error=DataError)
    try:
        decoder = build_mesh_decoder(MeshDecoderConfig(**config), topology)
        for weight in decoder.weights:
            weight.assign(arrays[weight.path].astype(np.float32))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name} is not a mesh decoder of this topology ({type(error).__name__}); {remedy}."
        ) from None
    return decoder


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
    """Adds differences, in units of `SPREAD`, to a mean face that is a weight too.

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
