"""Verification on scores with known answers, pooled templates, lists, and embedders from files."""

import numpy as np
import pytest

from retinaface_tf.errors import ConfigError, DataError, WeightsError
from retinaface_tf.evaluation.faces_of_pairs import read_templates
from retinaface_tf.evaluation.verification import (
    best_threshold,
    cosine_similarity,
    pool_templates,
    read_pairs,
    verify,
)
from retinaface_tf.faces.embedder import EmbedderInput, open_embedder
from tests.helpers.mean_colour import mean_colour_onnx


def test_separable_pairs_are_all_right():
    scores = np.concatenate([np.linspace(0.6, 1, 50), np.linspace(0, 0.4, 50)])
    result = verify(scores, np.arange(100) < 50)
    assert result.accuracy == 1
    assert len(result.fold_accuracies) == 10
    assert result.true_accept_rate(0.1) == 1


def test_known_errors_give_the_known_accuracy():
    # In every fold nine same pairs score high and one low, nine different low and one high.
    fold = np.repeat(np.arange(10), 20)
    same = np.tile(np.arange(20) < 10, 10)
    scores = np.where(same, 0.8, 0.2)
    scores[np.arange(200) % 20 == 0] = 0.1
    scores[np.arange(200) % 20 == 10] = 0.9
    result = verify(scores, same, fold)
    assert result.accuracy == pytest.approx(0.9)
    assert result.accuracy_deviation == pytest.approx(0)


def test_true_accept_rates_at_false_accept_rates_by_counting(rng):
    same = np.arange(3000) < 1000
    scores = rng.normal(0, 1, 3000) + 1.5 * same
    result = verify(scores, same)
    different = np.sort(scores[~same])[::-1]
    for far in (1e-1, 1e-2, 1e-3):
        allowed = int(far * 2000 + 1e-9)
        # The loosest threshold that lets no more through lies just above the next impostor.
        expected = np.mean(scores[same] > different[allowed])
        assert result.true_accept_rate(far) == pytest.approx(expected)
    assert np.isnan(result.true_accept_rate(1e-4))


def test_the_threshold_is_the_best_of_all(rng):
    for _ in range(50):
        scores = np.round(rng.random(12), 1)
        same = rng.random(12) < 0.5
        candidates = [*(np.unique(scores)), 2.0]
        best = max(np.sum((scores >= t) == same) for t in candidates)
        assert np.sum((scores >= best_threshold(scores, same)) == same) == best


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(DataError, match="pair 1"):
        verify([0.5, np.nan], [True, False], [0, 1])
    with pytest.raises(DataError, match="two folds"):
        verify([0.5, 0.6], [True, False], [0, 0])


def test_templates_average_a_medium_before_they_sum():
    embeddings = [[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 5]]
    ids, vectors = pool_templates(np.array(embeddings), [7, 7, 7, 7, 9], [1, 1, 1, 2, 3])
    assert ids.tolist() == [7, 9]
    np.testing.assert_allclose(vectors, [[np.sqrt(0.5)] * 2, [0, 1]])


def test_cosine_of_a_zero_vector_is_zero():
    assert cosine_similarity(np.zeros((1, 3)), np.ones((1, 3)))[0] == 0
    assert cosine_similarity(np.ones((1, 3)), np.full((1, 3), 7))[0] == pytest.approx(1)


def test_lfw_lists_and_csv_are_read(tmp_path):
    file = tmp_path / "pairs.txt"
    file.write_text("2\t1\nA_B\t1\t4\nA_B\t1\tC\t12\nD\t2\t3\nE\t1\tF\t1\n")
    pairs = read_pairs(file)
    assert pairs.first[0] == "A_B/A_B_0001.jpg"
    assert pairs.second[1] == "C/C_0012.jpg"
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    table = tmp_path / "pairs.csv"
    table.write_text("first,second,same,fold\na.jpg,b.jpg,1,0\na.jpg,c.jpg,0,1\n")
    pairs = read_pairs(table)
    assert (pairs.same.tolist(), pairs.folds.tolist()) == ([True, False], [0, 1])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("2\t1\nA\n", 2),
        ("names\n", 1),
        ("a,b,1\na,b,yes\n", 2),
        ("a,b,1,x\n", 1),
        ("1\t1\nA x y\n", 2),
    ],
)
def test_broken_lists_are_refused_by_line(tmp_path, text, line):
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=f"line {line}"):
        read_pairs(file)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_an_onnx_embedder_sees_the_crop_as_told(tmp_path, layout, rng):
    path = tmp_path / "mean.onnx"
    mean_colour_onnx(path, layout)
    crops = rng.integers(0, 255, (5, 8, 8, 3), np.uint8)
    means = crops.reshape(5, -1, 3).mean(axis=1)
    plain = open_embedder(path, EmbedderInput(mean=0, scale=1))
    assert plain.size == (8, 8)
    np.testing.assert_allclose(plain(crops, batch_size=2), means, rtol=1e-5)
    np.testing.assert_allclose(plain(crops, flip=True), 2 * means, rtol=1e-5)
    turned = open_embedder(path, EmbedderInput(mean=100, scale=2, color="bgr"))
    np.testing.assert_allclose(turned(crops), (means[:, ::-1] - 100) / 2, rtol=1e-4, atol=1e-4)
    assert plain(np.full((2, 16, 16, 3), 9, np.uint8)).tolist() == [[9, 9, 9]] * 2


def test_what_is_not_an_embedder_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        open_embedder(tmp_path / "none.onnx")
    with pytest.raises(WeightsError, match=r"read from \.onnx"):
        open_embedder(tmp_path / "model.pkl")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"bad\.onnx"):
        open_embedder(tmp_path / "bad.onnx")


@pytest.mark.slow
def test_keras_and_tflite_embedders_see_the_same_crop(tmp_path, rng):
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("ai_edge_litert")
    keras.utils.set_random_seed(1)
    pixels = keras.Input((16, 16, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(pixels)
    vector = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(pixels, vector)
    model.save(tmp_path / "model.keras")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, [tf.TensorSpec((1, 16, 16, 3), tf.float32)])
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    crops = rng.integers(0, 255, (3, 16, 16, 3), np.uint8)
    expected = model((crops.astype(np.float32) - 127.5) / 127.5).numpy()
    for name in ("model.keras", "model.tflite"):
        embedder = open_embedder(tmp_path / name)
        assert embedder.size == (16, 16)
        np.testing.assert_allclose(embedder(crops), expected, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["1" * 5000 + "\nA 1 2\n", "²\nA 1 2\n", "0 0\n", '"' + "x" * 200_000 + ",b,1"],
)
def test_damaged_lists_of_pairs_are_a_sentence(tmp_path, text):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(DataError, match=r"pairs\.txt"):
        read_pairs(tmp_path / "pairs.txt")


def test_ids_beyond_64_bits_are_a_sentence(tmp_path):
    (tmp_path / "t.txt").write_text(f"a.jpg {10**30} 1\n")
    with pytest.raises(DataError, match=r"t\.txt.*64 bits"):
        read_templates(tmp_path / "t.txt")


@pytest.mark.parametrize("numbers", [{"mean": np.nan}, {"scale": np.inf}, {"scale": 0.0}])
def test_pixels_are_normalised_by_numbers(numbers):
    with pytest.raises(ConfigError, match="must be numbers"):
        EmbedderInput(**numbers)
