"""Scores moved so that the best threshold is 0.5."""

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from retinaface_tf import build_retinaface
from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.average_precision import Curve
from retinaface_tf.weights.hdf5 import save_weights
from training.center_scores import best_threshold, main, shift_scores


def test_the_best_threshold_has_the_highest_f1():
    # Four faces; right, right, wrong, right, wrong: F1 is 2/5, 4/6, 4/7, 6/8, 6/9.
    curve = Curve(
        np.array([0.9, 0.8, 0.7, 0.3, 0.2]),
        np.array([1, 2, 2, 3, 3]),
        np.arange(1, 6),
        4,
    )
    assert best_threshold(curve) == (0.3, 0.75)


@pytest.mark.parametrize("name", ["lite", "mobilenet0.25", "mobilenet0.25-paper"])
def test_all_scores_move_and_nothing_else_does(name, rng):
    keras.utils.set_random_seed(0)
    network = build_retinaface(name)
    images = rng.integers(0, 256, (1, 64, 64, 3)).astype(np.float32)

    def look():
        outputs = {k: np.float64(v) for k, v in network(images, training=False).items()}
        logits = outputs.pop("class_logits")
        return logits[..., 1] - logits[..., 0], outputs

    before, rest = look()
    shift_scores(network, 0.2)
    after, still = look()
    np.testing.assert_allclose(after, before + np.log(4), atol=1e-4)
    for key, value in rest.items():
        np.testing.assert_array_equal(value, still[key])


def test_the_command_says_when_there_is_nothing_to_go_by(tmp_path, monkeypatch):
    save_weights(build_retinaface("lite"), tmp_path / "a.weights.h5")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    line = {"image": "a.png", "width": 64, "height": 64, "faces": []}
    (tmp_path / "labels.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.chdir(tmp_path)
    files = map(Path, ("a.weights.h5", "b.weights.h5", "labels.jsonl", "."))
    with pytest.raises(DataError, match="no labelled face is found"):
        main(*files, size=64)
    assert not (tmp_path / "b.weights.h5").exists()
