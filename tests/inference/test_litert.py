"""The LiteRT runtime under many shapes, in many threads, and as a copy of itself."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from retinaface_tf import RetinaFace, get_preset
from retinaface_tf.errors import WeightsError
from retinaface_tf.inference.runtimes import litert
from retinaface_tf.inference.runtimes.litert import LiteRTRuntime
from retinaface_tf.modelfile.shapes import with_shapes

SHAPES = [(64, 64), (64, 96), (96, 64), (128, 64), (64, 128), (96, 96), (128, 128), (160, 64)]


@pytest.fixture(scope="module")
def path():
    return get_preset("lite").source.file("tflite")


def blank(shape) -> np.ndarray:
    return np.full((1, *shape, 3), 128, np.uint8)


def test_shapes_are_replaced_and_nothing_else(path, rng):
    content = path.read_bytes()
    plain = Interpreter(model_content=content)
    (image,) = plain.get_input_details()
    smaller = with_shapes(content, {image["index"]: [1, 128, 160, 3]})
    changed = Interpreter(model_content=smaller)
    assert changed.get_input_details()[0]["shape"].tolist() == [1, 128, 160, 3]
    assert len(smaller) == len(content) and sum(map(int.__ne__, smaller, content)) <= 8
    # Another rank, and a tensor that is not there, change nothing.
    assert with_shapes(content, {image["index"]: [1, 2], 10**6: [1]}) == content


def test_answers_are_those_of_a_plain_interpreter(path, rng):
    images = rng.integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)
    plain = Interpreter(model_content=path.read_bytes(), num_threads=1)
    (image,) = plain.get_input_details()
    plain.resize_tensor_input(image["index"], [1, 96, 160, 3], strict=False)
    plain.allocate_tensors()
    outputs = LiteRTRuntime(path, threads=1)(images)
    for number, one in enumerate(images):
        plain.set_tensor(image["index"], one[None].astype(image["dtype"]))
        plain.invoke()
        for entry in plain.get_output_details():
            np.testing.assert_array_equal(
                getattr(outputs, entry["name"])[number], plain.get_tensor(entry["index"])[0]
            )


@pytest.mark.parametrize("kept", [0, 5 << 20, litert.MAX_KEPT_BYTES])
def test_many_threads_and_shapes_at_once(path, monkeypatch, kept):
    """A shape whose interpreters are all in use, while others are dropped, once ended in IndexError."""
    monkeypatch.setattr(litert, "MAX_KEPT_BYTES", kept)
    runtime = LiteRTRuntime(path, threads=1)
    wanted = {shape: runtime(blank(shape)).scores for shape in SHAPES}

    def one(number: int) -> bool:
        shape = SHAPES[number * 5 % len(SHAPES)]
        return np.array_equal(runtime(blank(shape)).scores, wanted[shape])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(400)))


def test_idle_interpreters_are_bounded_whatever_the_shapes(path, monkeypatch):
    monkeypatch.setattr(litert, "MAX_KEPT_BYTES", 12 << 20)
    runtime = LiteRTRuntime(path, threads=1)
    for shape in SHAPES * 2:
        runtime(blank(shape))
        assert sum(litert._memory(session.pixels) for session in runtime._idle) <= 12 << 20
    assert len(runtime._idle) > 1
    runtime(blank((1024, 1024)))
    # One that alone is beyond the limit is kept: the next image may have its shape.
    assert [key[:2] for key in runtime._idle.values()] == [(1024, 1024)]
    runtime(blank((64, 64)))
    assert [session.pixels for session in runtime._idle] == [64 * 64]


def test_an_interpreter_of_another_shape_answers_alike(path, monkeypatch, rng):
    images = [rng.integers(0, 256, (1, *shape, 3), dtype=np.uint8) for shape in SHAPES]
    wanted = [LiteRTRuntime(path, threads=1)(image).box_deltas for image in images]
    made, session = [], litert._Session
    monkeypatch.setattr(litert, "MAX_KEPT_BYTES", 5 << 20)
    monkeypatch.setattr(litert, "_Session", lambda *args: made.append(args) or session(*args))
    runtime = LiteRTRuntime(path, threads=1)
    for image, answer in zip(images * 2, wanted * 2):
        np.testing.assert_array_equal(runtime(image).box_deltas, answer)
    assert len(made) < len(SHAPES)


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_of_several_shapes_are_answered_in_order(path, rng, threads):
    batches = [rng.integers(0, 256, (n % 3 + 1, *s, 3), np.uint8) for n, s in enumerate(SHAPES)]
    runtime = LiteRTRuntime(path, threads=threads)
    for count in (0, 1, len(batches)):
        found = list(runtime.each(iter(batches[:count])))
        assert len(found) == count
        for images, outputs in zip(batches, found):
            for got, want in zip(outputs, runtime(images)):
                np.testing.assert_array_equal(got, want)


def test_work_that_has_not_begun_is_cancelled_when_one_image_fails(path):
    class Pool:
        def __init__(self):
            self.futures = []

        def submit(self, *_):
            self.futures.append(Future())
            if len(self.futures) == 1:
                self.futures[0].set_exception(WeightsError("It cannot be run."))
            return self.futures[-1]

    runtime = LiteRTRuntime(path, threads=2)
    runtime._pool = pool = Pool()
    with pytest.raises(WeightsError, match="cannot be run"):
        list(runtime.each(blank(shape) for shape in SHAPES))
    assert len(pool.futures) == 3 and all(future.cancelled() for future in pool.futures[1:])


def test_one_interpreter_serves_images_of_one_shape(path):
    runtime = LiteRTRuntime(path, threads=1)
    for _ in range(5):
        runtime(blank((64, 96)))
    assert len(runtime._idle) == 1


def test_copies_open_their_own_interpreters_and_answer_alike(astronaut):
    detector = RetinaFace.from_preset("lite", threads=1, threshold=0.6)
    wanted = detector.detect(astronaut)
    assert len(wanted) == 1
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert not other.runtime._idle
        np.testing.assert_array_equal(other.detect(astronaut).boxes, wanted.boxes)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        (faces,) = pool.map(detector.detect, [astronaut])
    np.testing.assert_array_equal(faces.boxes, wanted.boxes)
