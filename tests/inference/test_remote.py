"""One image that a server refuses costs only itself; a server that ends costs only what is left."""

import io

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.config import DetectionSettings
from retinaface_tf.errors import ImageError, ServingError
from retinaface_tf.inference.detector import RetinaFace
from retinaface_tf.inference.remote import RemoteBackend
from retinaface_tf.protocol.client import RefusedError


class Server:
    """A client whose server finds in each image one face, the image's whole frame.

    Attributes:
        asked: how many images each request had.
    """

    def __init__(self, max_bytes=10**9, max_pixels=10**9, alive_for=10**9, change=None):
        self.max_bytes, self.max_pixels, self.alive_for = max_bytes, max_pixels, alive_for
        self.asked, self.change = [], change or (lambda answer: answer)

    def predict(self, inputs):
        files = inputs["image_bytes"]
        self.asked.append(len(files))
        if sum(self.asked) > self.alive_for:
            raise ServingError("No server answers.")
        if sum(map(len, files)) > self.max_bytes:
            raise RefusedError("The message is too large.")
        sizes = [Image.open(io.BytesIO(file)).size for file in files]
        boxes = np.array([[[0, 0, width, height]] for width, height in sizes], np.float32)
        status = [2 * (width * height > self.max_pixels) for width, height in sizes]
        return self.change(
            {
                "boxes": boxes,
                "scores": np.full((len(files), 1), 0.9, np.float32),
                "landmarks": boxes[:, :, [0, 1, 2, 3] * 2 + [0, 1]].reshape(-1, 1, 5, 2),
                "num_faces": np.ones(len(files), np.int32),
                "status": np.array(status, np.int32),
            }
        )


def files(rng, *sizes):
    noise = [rng.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
    streams = [io.BytesIO() for _ in noise]
    for stream, pixels in zip(streams, noise):
        Image.fromarray(pixels).save(stream, "PNG")
    return [stream.getvalue() for stream in streams]


def test_an_image_too_large_to_send_costs_only_itself(rng):
    server = Server(max_bytes=50_000)
    images = files(rng, (40, 40), (300, 300), (40, 30), (30, 40), (40, 40))
    answers = RetinaFace(RemoteBackend(server)).detect(images, batch_size=8, on_error="return")
    assert [isinstance(answer, ImageError) for answer in answers] == [
        False,
        True,
        False,
        False,
        False,
    ]
    assert "too large" in str(answers[1])
    assert [answer.image_size for answer in (answers[2], answers[3])] == [(30, 40), (40, 30)]
    assert len(server.asked) <= 7  # halves, not one by one


def test_images_with_too_many_pixels_are_shrunk_as_they_are_here(rng):
    server = Server(max_pixels=2048 * 1024)
    large, small = files(rng, (4096, 1024), (2048, 1000))
    whole, other = RetinaFace(RemoteBackend(server)).detect([large, small])
    np.testing.assert_allclose(whole.boxes, [[0, 0, 4096, 1024]])
    np.testing.assert_allclose(whole.landmarks[0, 1], [4096, 1024])
    assert whole.image_size == (1024, 4096) and server.asked == [2, 1]
    np.testing.assert_allclose(other.boxes, [[0, 0, 2048, 1000]])


def test_an_image_that_cannot_be_shrunk_is_an_error_of_its_own(rng):
    server = Server(max_pixels=1000)
    large, small = files(rng, (50, 40), (20, 20))
    refused, answered = RetinaFace(RemoteBackend(server)).detect([large, small], on_error="return")
    assert "more pixels than the server takes" in str(refused) and len(answered) == 1


def test_what_was_answered_before_a_server_went_away_is_given(rng):
    server = Server(alive_for=4)
    answers = RetinaFace(RemoteBackend(server)).stream(files(rng, *[(20, 20)] * 8), batch_size=2)
    found = []
    with pytest.raises(ServingError, match="No server answers"):
        found.extend(answers)  # takes one after the other
    assert len(found) == 4


def test_a_crowd_that_the_model_cut_says_so(rng):
    (image,) = files(rng, (20, 20))
    cut = Server(change=lambda answer: answer | {"truncated": np.array([1], np.int32)})
    detector = RetinaFace(RemoteBackend(cut))
    faces = detector.detect(image)
    assert faces.truncated and faces[:1].truncated and faces.to_dict()["truncated"]
    # What the caller asked for is no loss.
    assert not detector.detect(image, max_faces=1).truncated
    assert not detector.detect(image, threshold=0.95).truncated
    whole = Server(change=lambda answer: answer | {"truncated": np.array([0], np.int32)})
    faces = RetinaFace(RemoteBackend(whole)).detect(image)
    assert not faces.truncated and "truncated" not in faces.to_dict()


def test_models_exported_before_tell_it_by_their_rows(rng):
    (image,) = files(rng, (20, 20))
    assert RetinaFace(RemoteBackend(Server())).detect(image).truncated

    def with_free_row(answer):
        wider = {
            n: np.pad(v, [(0, 0), (0, 1)] + [(0, 0)] * (v.ndim - 2))
            for n, v in answer.items()
            if v.ndim > 1
        }
        return answer | wider

    assert not RetinaFace(RemoteBackend(Server(change=with_free_row))).detect(image).truncated


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: {name: values[:1] for name, values in answer.items()},
        lambda answer: answer | {"boxes": answer["boxes"][:1]},
        lambda answer: answer | {"scores": answer["scores"][:, 0]},
        lambda answer: answer | {"landmarks": answer["boxes"]},
        lambda answer: answer | {"vertices": np.zeros((1, 1, 9, 3))},
        lambda answer: {name: values for name, values in answer.items() if name != "status"},
        lambda answer: {},
    ],
)
def test_answers_of_another_model_are_told_apart(rng, change):
    backend = RemoteBackend(Server(change=change))
    images = [backend.prepare(one, DetectionSettings()) for one in files(rng, (20, 20), (20, 20))]
    with pytest.raises(ServingError, match="export savedmodel"):
        list(backend.detect(images, 2, DetectionSettings()))
