"""Images given as open files, network connections and other binary streams."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import zipfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import retinaface_tf
from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.images import read
from retinaface_tf.images.read import describe_source, read_image
from retinaface_tf.inference.test_time_augmentation import Augmentation, AugmentedDetector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image


@pytest.fixture(scope="module")
def data() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(black_image(64, 96, (2, 2))).save(stream, "PNG")
    return stream.getvalue()


class Trickle:
    """Gives a few bytes a time, as sockets do, and cannot be rewound."""

    def __init__(self, content):
        self._rest = io.BytesIO(content)

    def read(self, size=-1):
        return self._rest.read(min(7, size))


def refusal(source) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(source)
    message = str(caught.value)
    assert message.startswith(f"Cannot read {describe_source(source)}: ") and message.endswith(".")
    assert "\n" not in message and ". " not in message
    return message


def test_every_kind_of_binary_stream_is_read(data, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", data)
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - what web frameworks hand over
    spooled.write(data)
    expected = read_image(data)
    with (
        path.open("rb") as file,
        path.open("rb", buffering=0) as raw,
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("a.png") as member,
    ):
        for source in (file, raw, member, spooled, io.BytesIO(data), Trickle(data)):
            np.testing.assert_array_equal(read_image(source), expected)


def test_a_stream_is_read_from_its_beginning_again_and_again(data):
    stream = io.BytesIO(data)
    stream.seek(20)
    detector = RetinaFace(BrightPixelRuntime())
    (faces, again) = detector.detect([stream, stream])
    assert len(faces) == 1 and faces == again
    assert faces.draw(stream).shape == (64, 96, 3)
    with ThreadPoolExecutor(4) as pool:
        assert all(p.shape == (64, 96, 3) for p in pool.map(read_image, [stream] * 100))


def test_a_pipe_is_read_to_its_end(data):
    receive, send = os.pipe()
    threading.Thread(target=lambda: os.fdopen(send, "wb").write(data)).start()
    with os.fdopen(receive, "rb") as pipe:
        assert read_image(pipe).shape == (64, 96, 3)


def test_what_is_wrong_with_a_stream_is_one_sentence(data, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with path.open(encoding="latin-1") as text:
        assert "binary mode" in refusal(text) and "a.png" in refusal(text)
    assert "closed" in refusal(text)
    with path.open("wb") as unreadable:
        assert "reading it failed" in refusal(unreadable)
    path.write_bytes(data)

    class Away:
        def read(self, size):
            raise ConnectionResetError("connection reset by peer.")

    class Numbers(Away):
        def read(self, size):
            return 7

    assert "connection reset by peer" in refusal(Away())
    assert "gives int, not bytes" in refusal(Numbers())
    assert "empty" in refusal(io.BytesIO())
    monkeypatch.setattr(read, "MAX_BYTES", 1000)
    with open("/dev/zero", "rb", buffering=0) as endless:  # noqa: PTH123
        assert "more than" in refusal(endless)


def test_one_bad_stream_costs_only_itself(data):
    answers = RetinaFace(BrightPixelRuntime()).detect(
        [io.BytesIO(data), io.StringIO("text"), io.BytesIO(data[:50]), io.BytesIO(data)],
        on_error="return",
    )
    assert [isinstance(answer, ImageError) for answer in answers] == [False, True, True, False]


def test_other_iterables_are_pointed_to_a_list_or_stream(data):
    detector = RetinaFace(BrightPixelRuntime())
    for thing in ((d for d in [data]), {data}, {"image": data}, map(bytes, [data])):
        with pytest.raises(ImageError, match=r"in a list, .* into stream\(\)"):
            detector.detect(thing)
    assert [len(faces) for faces in detector.stream(d for d in [data, data])] == [1, 1]
    assert detector.detect([]) == [] and detector.detect(()) == []
    assert [len(faces) for faces in detector.detect(deque([data]))] == [1]


def test_load_image_is_public(data):
    assert "load_image" in retinaface_tf.__all__
    assert retinaface_tf.load_image is read_image
    with pytest.raises(ImageError, match="96 x 64"):
        retinaface_tf.load_image(data, max_pixels=100)


def test_paths_of_bytes_are_paths(data, tmp_path):
    class Entry:
        def __fspath__(self):
            return os.fsencode(tmp_path / "a.png")

    (tmp_path / "a.png").write_bytes(data)
    assert read_image(Entry()).shape == (64, 96, 3)
    assert read.file_content(Entry()) == data and read.colour_profile(Entry()) is None
    assert read.describe_source(Entry()) == str(tmp_path / "a.png")


@pytest.mark.parametrize("augmented", [False, True])
def test_one_image_is_not_many(data, tmp_path, augmented):
    detector = RetinaFace(BrightPixelRuntime())
    if augmented:
        detector = AugmentedDetector(detector, Augmentation())
    for one in ("a.png", tmp_path, data, io.BytesIO(data), Image.new("RGB", (9, 9)), None, 3):
        with pytest.raises(ConfigError, match=r"many images .* see detect\(\)"):
            list(detector.stream(one))
    batch = np.stack([black_image(64, 96, (2, 2))] * 2)
    assert [len(faces) for faces in detector.stream(batch)] == [1, 1]
