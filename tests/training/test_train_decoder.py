"""Labels become shapes without pose; pre-training lowers the error; a decoder's file is checked."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.geometry.similarity import fit_similarity
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.decoder import (
    MeshDecoderConfig,
    build_mesh_decoder,
    load_mesh_decoder,
    save_mesh_decoder,
)
from retinaface_tf.util.options import from_dict, read_options
from training.decoder.face_meshes import FaceMeshes, sample_colors, unposed
from training.decoder.linear_faces import LinearFaces
from training.decoder.synthetic_meshes import random_albedos, random_shapes
from training.decoder.train_decoder import MeshDecoderTraining, pretrain

TOPOLOGY = load_topology()
CONFIG = Path(__file__).parents[2] / "training" / "mesh_decoder.toml"


def test_posing_a_face_does_not_change_its_shape(rng):
    shapes = unposed(random_shapes(TOPOLOGY, 4, rng), TOPOLOGY)
    turns = Rotation.from_rotvec(rng.normal(0, 0.6, (4, 3))).as_matrix()
    photos = np.einsum("nij,nvj->nvi", turns, shapes) * 87.5 + rng.normal(0, 100, (4, 1, 3))
    np.testing.assert_allclose(unposed(photos, TOPOLOGY), shapes, atol=1e-4)
    np.testing.assert_allclose(fit_similarity(TOPOLOGY.mean, photos)[1], turns, atol=1e-2)


def test_made_up_faces_are_faces(rng):
    """Different, near the mean, mostly symmetric, of skin."""
    shapes, albedos = random_shapes(TOPOLOGY, 20, rng), random_albedos(TOPOLOGY, 20, rng)
    away = np.linalg.norm(shapes - TOPOLOGY.mean, axis=-1).mean()
    assert 0.01 < away < 0.06
    lopsided = shapes - shapes[:, TOPOLOGY.mirror] * (-1, 1, 1)
    assert np.abs(lopsided).mean() < 0.35 * np.abs(shapes - TOPOLOGY.mean).mean()
    assert albedos.min() >= 0 and albedos.max() <= 1
    assert (albedos.mean((0, 1))[0] > albedos.mean((0, 1))[1:]).all()


def test_colors_are_read_under_the_vertices():
    """An image whose colour is its own coordinates."""
    y, x = np.mgrid[0:60, 0:80]
    image = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    vertices = TOPOLOGY.mean * 30 + np.float32([40, 30, 0])
    colors = sample_colors(image, vertices) * 255
    np.testing.assert_allclose(colors[:, :2], vertices[:, :2] - 0.5, atol=0.02)


def test_components_against_a_full_decomposition(rng):
    samples = rng.normal(size=(200, 60)) * np.linspace(3, 0.1, 60) + rng.normal(size=60)
    samples = samples.astype(np.float32)
    linear = LinearFaces.fit(samples, 10)
    _, singular, basis = np.linalg.svd(samples - samples.mean(0), full_matrices=False)
    np.testing.assert_allclose(linear.deviation, singular[:10] / np.sqrt(199), rtol=1e-3)
    np.testing.assert_allclose(np.abs((linear.basis * basis[:10]).sum(1)), 1, atol=1e-3)
    assert linear.encode(samples).std(0) == pytest.approx(1, abs=0.01)
    whole = LinearFaces.fit(samples, 60)
    np.testing.assert_allclose(whole.decode(whole.encode(samples)), samples, atol=1e-3)


DECODER = MeshDecoderConfig(code=8, channels=(16, 16, 16), factor=6, order=2)


@pytest.mark.parametrize("synthetic", [0, 0.5])
def test_labelled_faces_are_split_by_image_and_mixed_with_synthetic_ones(rng, synthetic):
    shapes, albedos = random_shapes(TOPOLOGY, 60, rng), random_albedos(TOPOLOGY, 60, rng)
    faces = FaceMeshes(shapes, albedos, np.array([f"{i // 3}.jpg" for i in range(60)]))
    decoder = MeshDecoderConfig(code=4, channels=(4, 4), factor=16, order=1)
    config = MeshDecoderTraining(decoder=decoder, steps=1, synthetic=synthetic, held_out=0.3)
    figures = pretrain(config, TOPOLOGY, faces).figures
    assert figures.faces % 3 == 0 and 0 < figures.faces < 40
    assert figures.trained == (60 - figures.faces) * (1 if synthetic == 0 else 2)


@pytest.mark.slow
def test_training_beats_the_mean_face():
    config = MeshDecoderTraining(
        decoder=DECODER, steps=60, batch=16, synthetic=1, made_up=300, learning_rate=1e-2
    )
    trained = pretrain(config, TOPOLOGY, None)
    (_, _, mean_shape, mean_color), *_, (name, size, shape, color) = trained.figures.rows
    assert name == "mesh decoder, code of 8" and size == trained.decoder.count_params()
    assert shape < 0.85 * mean_shape and color < 0.6 * mean_color
    assert trained.figures.faces == 30 and trained.figures.trained == 270


def test_a_decoder_is_saved_and_loaded(tmp_path, rng):
    path, decoder = tmp_path / "decoder.npz", build_mesh_decoder(DECODER, TOPOLOGY)
    for weight in decoder.trainable_weights:
        weight.assign(rng.normal(0, 0.2, weight.shape))
    save_mesh_decoder(decoder, path)
    code = rng.normal(size=(4, 8)).astype("float32")
    wanted = np.asarray(decoder(code))
    assert wanted.std(0).mean() > 0.01  # each code has a mesh of its own
    difference = np.abs(load_mesh_decoder(path)(code) - wanted)
    assert difference[..., :3].max() < 1e-3 and difference[..., 3:].max() < 4e-3
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="damaged"):
        load_mesh_decoder(path)


def test_without_labels_it_says_what_to_do():
    with pytest.raises(DataError, match="synthetic = 1"):
        pretrain(MeshDecoderTraining(), TOPOLOGY, None)


def test_the_configuration_in_the_repository_is_read(tmp_path):
    config = from_dict(MeshDecoderTraining, read_options(CONFIG))
    assert config.decoder == MeshDecoderConfig()
    (tmp_path / "bad.toml").write_text("stepz = 3")
    with pytest.raises(ConfigError, match="stepz"):
        from_dict(MeshDecoderTraining, read_options(tmp_path / "bad.toml"))
    assert dataclasses.replace(config, steps=1).steps == 1
