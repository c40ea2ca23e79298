"""Fixtures: where images and public weights come from, and when a test has to do without them."""

from __future__ import annotations

import os
import random
import sys
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Each test has its own random numbers, the same in every run, whatever ran before: Keras's
    initializers take theirs from Python's."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real photos, annotations and public weights beside the checkout, if any."""
    folder = Path(os.environ.get("RETINAFACE_TF_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the photo collection at {folder}")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """NASA portrait (public domain), 512x512 RGB uint8, one face."""
    skimage_data = pytest.importorskip("skimage.data")
    return skimage_data.astronaut()


@pytest.fixture(scope="session")
def ops():
    """`keras.ops`; tests of the core alone run without Keras."""
    return pytest.importorskip("keras.ops", reason="needs Keras")


@pytest.fixture(scope="session")
def tf():
    """TensorFlow; tests of the core alone run without it."""
    return pytest.importorskip("tensorflow", reason="needs TensorFlow")


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded random numbers, the same in every run."""
    return np.random.default_rng(20200619)


@pytest.fixture(scope="session")
def public_weights() -> Path:
    """The pulled weights of preset mobilenet0.25 in our own format."""
    from retinaface_tf.weights.choose_file import weights_path

    path = weights_path("mobilenet0.25")
    if not path.is_file():
        pytest.skip("needs `retinaface-tf weights pull mobilenet0.25`")
    return path


@pytest.fixture(scope="session")
def public_onnx() -> Path:
    """The ONNX file the pulled weights were converted from."""
    from retinaface_tf.weights.choose_file import weights_path

    path = weights_path("mobilenet0.25")
    path = path.with_name(path.name.replace(".weights.h5", ".onnx"))
    if not path.is_file():
        pytest.skip("needs `retinaface-tf weights pull mobilenet0.25`")
    return path


@pytest.fixture(scope="session")
def decoder_vectors(public_weights, tmp_path_factory) -> Path:
    """What `tflite/write_vectors.py` writes, for the decoders in other languages; do not add to it."""
    import importlib.util

    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("decoder-vectors")
    path = REPOSITORY / "tflite" / "write_vectors.py"
    spec = importlib.util.spec_from_file_location("write_vectors_for_decoders", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_drawn(folder)
    module.write_zoom(folder)
    module.export_models(folder / "models")
    module.write_photos(folder, module.sample_images())
    return folder
