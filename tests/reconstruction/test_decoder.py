"""The decoder's shapes, what it starts from, its symmetry, and that it comes back from a file."""

import keras
import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.decoder import (
    MeshDecoderConfig,
    build_mesh_decoder,
    load_mesh_decoder,
)


@pytest.fixture(scope="module")
def decoder():
    return build_mesh_decoder()


def test_a_fresh_decoder_says_the_template_in_grey(decoder, rng):
    mesh = decoder(rng.normal(size=(2, 128)).astype("float32")).numpy()
    assert mesh.shape == (2, 1103, 6)
    np.testing.assert_allclose(mesh[0, :, :3], load_topology().mean, atol=1e-6)
    np.testing.assert_array_equal(mesh[1, :, 3:], 0.5)


def test_the_paper_sized_decoder_is_small(decoder):
    """A third of the numbers of 128 principal components."""
    assert decoder.count_params() == 261_066
    assert decoder.count_params() < 0.32 * 129 * 1103 * 6
    sizes = [decoder.get_layer(f"up{i}").compute_output_shape((1, 1, 1))[1] for i in (1, 2, 3)]
    assert sizes == [68, 276, 1103]


def test_it_comes_back_from_a_file(tmp_path, rng):
    small = build_mesh_decoder(MeshDecoderConfig(code=4, channels=(8, 8), order=2))
    small.get_layer("difference").kernel.assign(rng.normal(size=(16, 6)))
    small.save(tmp_path / "decoder.keras")
    again = keras.saving.load_model(tmp_path / "decoder.keras")
    code = rng.normal(size=(3, 4)).astype("float32")
    assert small(code).numpy().std(0).max() > 1e-3
    np.testing.assert_array_equal(small(code), again(code))


def test_an_empty_decoder_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        MeshDecoderConfig(channels=())


def test_the_decoder_of_the_package_makes_faces(rng):
    """Codes of unit variance give different faces near the mean, of skin colour."""
    decoder = load_mesh_decoder()
    mean = decoder(np.zeros((1, 128), "float32")).numpy()[0]
    faces = decoder(rng.normal(size=(16, 128)).astype("float32")).numpy()
    distance = np.linalg.norm(mean[:, :3] - load_topology().mean, axis=-1).mean()
    assert distance < 0.05
    assert 0.01 < np.linalg.norm(faces[..., :3] - mean[:, :3], axis=-1).mean() < 0.06
    red, green, blue = mean[:, 3:].mean(0)
    assert 0.3 < blue < green < red < 0.8
    assert 0.05 < faces[..., 3:].std(0).mean() < 0.3
