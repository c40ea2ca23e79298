"""`Faces` shows itself in a notebook."""

from __future__ import annotations

import base64
import copy
import gc
import pickle
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.faces.drawing import BOX_COLOR
from retinaface_tf.faces.faces import Faces
from retinaface_tf.inference.detector import RetinaFace
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image


@pytest.fixture
def detector() -> RetinaFace:
    return RetinaFace(BrightPixelRuntime())


def shown(faces: Faces) -> np.ndarray | None:
    """The picture in the page's text."""
    found = re.search(r'src="data:image/jpeg;base64,([^"]+)"', faces._repr_html_())
    return None if found is None else np.asarray(Image.open(BytesIO(base64.b64decode(found[1]))))


def green(picture: np.ndarray) -> bool:
    return bool((np.abs(picture.astype(int) - BOX_COLOR).sum(axis=2) < 90).any())


def test_files_and_arrays_are_shown_with_their_faces(detector, tmp_path):
    array = black_image(64, 96, (2, 2), (5, 9))
    path = tmp_path / "<b> & 'c'.png"
    Image.fromarray(array).save(path)
    for source in (array, path, str(path), Image.fromarray(array)):
        faces = detector.detect(source)
        picture = shown(faces)
        assert picture.shape == (64, 96, 3) and green(picture)
        assert shown(faces[:1]) is not None and green(shown(detector.detect([source])[0]))
    text = detector.detect(path)._repr_html_()
    assert "<b>" not in text and "&lt;b&gt; &amp; &#x27;c&#x27;.png: Faces(2 in 96 x 64" in text


def test_a_large_picture_is_shown_small(rng):
    noise = rng.integers(0, 255, (1500, 3000, 3), np.uint8)
    face = Faces.from_dict({"width": 3000, "height": 1500, "faces": [{"box": [9, 9, 900, 900]}]})
    faces = face.of_image(noise)
    assert shown(faces).shape == (320, 640, 3) and green(shown(faces))
    assert len(faces._repr_html_()) < 250_000


def test_without_its_image_it_is_text(detector, tmp_path):
    array = black_image(64, 96, (2, 2))
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    of_file, of_bytes = detector.detect(path), detector.detect(path.read_bytes())
    assert of_bytes._repr_html_().startswith("<pre>Faces(1 in 96 x 64 pixels")
    Image.fromarray(array[:32]).save(path)
    assert shown(of_file) is None  # another image has its name
    path.unlink()
    assert shown(of_file) is None
    of_array = detector.detect(array)
    assert shown(of_array) is not None
    for other in (pickle.loads(pickle.dumps(of_array)), copy.deepcopy(of_array)):
        assert other == of_array and shown(other) is None
    del array
    gc.collect()
    assert shown(of_array) is None  # faces do not keep it in memory


def test_a_relative_name_is_found_from_another_folder(detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(black_image(64, 96, (2, 2))).save("a.png")
    faces = detector.detect(Path("a.png"))
    monkeypatch.chdir("/")
    assert shown(faces) is not None
