"""Models beside each other, each in a process of its own."""

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.evaluation.plots import speed_plot
from retinaface_tf.evaluation.speed import Candidate, measure
from retinaface_tf.faces.drawing import fit_into


@pytest.fixture
def photo(tmp_path, astronaut):
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_every_candidate_gets_times_memory_and_accuracy(photo):
    labelled = [AnnotatedImage(photo, [[175, 60, 275, 185]])]
    candidates = [Candidate("litert", threads) for threads in (1, 2)]
    results = measure(candidates, photo, [(960, 1280), (64, 64)], rounds=4, labelled=labelled)
    assert [result.name for result in results] == ["litert, 1 thread", "litert, 2 threads"]
    for result in results:
        assert {size: len(times) for size, times in result.seconds.items()} == {
            "1280x960": 4,
            "64x64": 4,
        }
        assert min(result.seconds["64x64"]) < min(result.seconds["1280x960"])
        assert 0 < result.load_seconds < result.start_seconds
        assert result.file_bytes > 100_000 and result.peak_bytes > 30_000_000
        assert result.average_precision == 1
        figures = result.to_dict()["latency"]["1280x960"]
        assert figures["p50_ms"] == pytest.approx(1000 * np.median(result.seconds["1280x960"]))
    assert speed_plot(results, "1280x960").startswith(b"\x89PNG")


def test_a_model_that_cannot_be_opened_is_named(photo, tmp_path):
    with pytest.raises(RetinaFaceError, match=r"gone\.tflite, 1 thread: .*gone\.tflite"):
        measure([Candidate(str(tmp_path / "gone.tflite"), 1)], photo, [(64, 64)])
    (tmp_path / "folder").mkdir()
    with pytest.raises(RetinaFaceError, match="not a SavedModel"):
        measure([Candidate(str(tmp_path / "folder"), 1)], photo, [(64, 64)])


def test_the_photo_keeps_its_proportions_in_a_frame():
    frame = fit_into(np.full((100, 50, 3), 255, np.uint8), 40, 60, fill=128)
    assert frame.shape == (40, 60, 3)
    assert (frame[:, :20] == 255).all() and (frame[:, 20:] == 128).all()
