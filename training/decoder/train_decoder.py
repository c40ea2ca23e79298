"""Pre-training of the mesh decoder on faces whose meshes are known (1905.00641 takes Zhou et al.'s).

A face's code is its coordinates along the principal components of the training faces, in standard
deviations; the decoder is trained to give the mesh of a code. So codes have mean 0 and variance 1, and a
code means the same in every decoder trained on the same faces. (An encoder trained together with the
decoder left these units at once and was worse.) Works on every backend, by `keras.Model.fit`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from keras import ops

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.mesh.topology import MeshTopology
from retinaface_tf.reconstruction.decoder import (
    SPREAD,
    MeshDecoder,
    MeshDecoderConfig,
    build_mesh_decoder,
    load_mesh_decoder,
)
from retinaface_tf.util.options import check_range
from training.decoder.face_meshes import FaceMeshes, unposed
from training.decoder.linear_faces import LinearFaces
from training.decoder.synthetic_meshes import random_albedos, random_shapes


@dataclass(frozen=True, kw_only=True)
class MeshDecoderTraining:
    """How the decoder is pre-trained.

    Attributes:
        decoder: its architecture.
        steps: of the optimiser.
        batch: faces a step.
        learning_rate: Adam's, falling to zero along a cosine.
        synthetic: share of synthetic faces in the training set; 1 needs no labels.
        made_up: number of synthetic faces; 0 for the number that `synthetic` gives.
        held_out: share of the images whose faces are held out for the figures.
        seed: of the synthetic faces, the weights and the order.
    """

    decoder: MeshDecoderConfig = field(default_factory=MeshDecoderConfig)
    steps: int = 2000
    batch: int = 32
    learning_rate: float = 3e-3
    synthetic: float = 0.15
    made_up: int = 0
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self):
        check_range(self, "", "steps batch", 1)
        if not 0 <= self.synthetic <= 1 or not 0 < self.held_out < 1:
            raise ConfigError("synthetic must lie in 0..1 and held_out between 0 and 1.")


@dataclass(frozen=True)
class DecoderFigures:
    """Errors on held-out real faces (on synthetic ones where there are no others).

    Attributes:
        rows: (name, parameters, mean vertex distance in % of the face's size, mean colour difference
            in 0..255).
        faces, trained: number of held-out faces and of those trained on.
        code_deviation: of the held-out codes, about 1.
    """

    rows: tuple[tuple[str, int, float, float], ...]
    faces: int
    trained: int
    code_deviation: float

    def table(self) -> str:
        """As text."""
        lines = [f"{'':34s}{'parameters':>12s}{'shape, %':>10s}{'colour/255':>12s}"]
        for name, parameters, shape, color in self.rows:
            lines.append(f"{name:34s}{parameters:12,d}{shape:10.3f}{color:12.2f}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What `pretrain` returns.

    Attributes:
        decoder: the trained one.
        figures: on held-out faces.
        examples: float32 [2, N, V, 6], some held-out faces and what was decoded for them.
    """

    decoder: MeshDecoder
    figures: DecoderFigures
    examples: np.ndarray


def pretrain(
    config: MeshDecoderTraining,
    topology: MeshTopology,
    faces: FaceMeshes | None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    start: Path | None = None,
) -> Pretrained:
    """Trains a decoder and measures it beside principal components.

    Args:
        config: of the run.
        topology: of the meshes.
        faces: labelled ones; None where `config.synthetic` is 1.
        callbacks: of `keras.Model.fit`.
        start: a decoder trained before on the same faces, to continue from; None for a fresh one.

    Raises:
        DataError: there are no faces to train on, or `start` cannot be read.
    """
    keras.utils.set_random_seed(config.seed)
    train, held_out = _split(config, topology, faces)
    linear = LinearFaces.fit(_flat(train.joined()), config.decoder.code, config.seed)
    if start:
        decoder = load_mesh_decoder(start, topology)
    else:
        decoder = build_mesh_decoder(config.decoder, topology)
        decoder.get_layer("mean_face").mean.assign(_mesh(linear.mean[None])[0])
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate, config.steps, warmup_target=config.learning_rate, warmup_steps=50
    )
    decoder.compile(optimizer=keras.optimizers.Adam(schedule, clipnorm=1.0), loss=_difference)
    batches = _Batches(train, topology, linear, config)
    decoder.fit(batches, epochs=1, verbose=0, callbacks=list(callbacks), shuffle=False)
    return _measure(decoder, linear, train, held_out, config)


def _split(config, topology, faces) -> tuple[FaceMeshes, FaceMeshes]:
    """Faces to train on and held-out ones; an image's faces are on one side."""
    rng = np.random.default_rng(config.seed)
    if config.synthetic == 1:
        faces = _synthetic(topology, config.made_up or 2000, rng)
        first = max(round(len(faces) * config.held_out), 1)
        return faces[first:], faces[:first]
    if faces is None or len(faces) < 20:
        raise DataError(
            "There are fewer than 20 labelled faces to train on; give a folder of mesh labels or set "
            "synthetic = 1."
        )
    part = np.array([zlib.crc32(name.encode()) % 1000 for name in faces.images])
    aside = part < 1000 * config.held_out
    real, held_out = faces[~aside], faces[aside]
    count = config.made_up or round(len(real) * config.synthetic / (1 - config.synthetic))
    return FaceMeshes.concatenate([real, _synthetic(topology, count, rng)]), held_out


def _synthetic(topology, count: int, rng) -> FaceMeshes:
    shapes, albedos = random_shapes(topology, count, rng), random_albedos(topology, count, rng)
    # On the mean face, as labelled faces are.
    return FaceMeshes(unposed(shapes, topology), albedos, np.full(count, ""))


def _flat(meshes: np.ndarray) -> np.ndarray:
    """Meshes float32 [N, V, 6] -> [N, V * 6] in units of `SPREAD`."""
    return (meshes / np.float32(SPREAD)).reshape(len(meshes), -1)


def _mesh(flat: np.ndarray) -> np.ndarray:
    """The inverse of `_flat`."""
    return flat.reshape(len(flat), -1, 6) * np.float32(SPREAD)


class _Batches(keras.utils.PyDataset):
    """Codes and meshes of faces, half of them mirrored."""

    def __init__(self, faces, topology, linear: LinearFaces, config: MeshDecoderTraining):
        super().__init__()
        self.faces, self.topology, self.linear, self.config = faces, topology, linear, config

    def __len__(self):
        return self.config.steps

    def __getitem__(self, step):
        rng = np.random.default_rng((self.config.seed, step))
        chosen = self.faces[rng.integers(0, len(self.faces), self.config.batch)]
        batch = chosen.joined()
        if self.topology.mirror is not None:
            half = rng.random(len(batch)) < 0.5
            batch[half] = batch[half][:, self.topology.mirror] * np.float32((-1, 1, 1, 1, 1, 1))
        return self.linear.encode(_flat(batch)), batch


def _difference(truth, decoded):
    """Mean absolute difference in units of `SPREAD`, for `keras.Model.fit`."""
    spread = ops.convert_to_tensor(SPREAD, decoded.dtype)
    return ops.mean(ops.abs(decoded - truth) / spread)


def _measure(decoder, linear: LinearFaces, train, held_out, config) -> Pretrained:
    truth = held_out.joined()
    codes = linear.encode(_flat(truth))
    parts = [decoder(codes[i : i + 64]) for i in range(0, len(codes), 64)]
    decoded = np.concatenate([ops.convert_to_numpy(part) for part in parts])
    parameters = decoder.count_params()
    # A component costs as many numbers as a mesh has.
    affordable = max(min(parameters // linear.mean.size - 1, codes.shape[1]), 1)
    rows = [("mean face", linear.mean.size, _mesh(linear.decode(codes[:, :0])))]
    for count in sorted({affordable, codes.shape[1]}):
        name = f"principal components, {count}"
        rows.append((name, (count + 1) * linear.mean.size, _mesh(linear.decode(codes[:, :count]))))
    rows.append((f"mesh decoder, code of {config.decoder.code}", parameters, decoded))
    table = tuple(
        (
            name,
            int(size),
            100 * float(np.linalg.norm((mesh - truth)[..., :3], axis=-1).mean()),
            255 * float(np.abs(mesh - truth)[..., 3:].mean()),
        )
        for name, size, mesh in rows
    )
    deviation = float(codes.std(0).mean())
    figures = DecoderFigures(table, len(held_out), len(train), deviation)
    shown = np.linspace(0, len(truth) - 1, min(8, len(truth))).astype(int)
    return Pretrained(decoder, figures, np.stack([truth[shown], rows[-1][2][shown]]))
