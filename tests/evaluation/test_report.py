"""Results as JSON, reports as one page that asks for nothing, comparisons by resampling."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.evaluation.compare import compare
from retinaface_tf.evaluation.crops import Crop, worst_false_positives, worst_misses
from retinaface_tf.evaluation.detections import ImageDetections
from retinaface_tf.evaluation.fddb import evaluate_fddb
from retinaface_tf.evaluation.landmarks import landmark_errors
from retinaface_tf.evaluation.report import Gallery, write_report
from retinaface_tf.evaluation.results import (
    fddb_json,
    landmarks_json,
    pack,
    provenance,
    read_json,
    unpack,
    verification_json,
    widerface_json,
    write_json,
)
from retinaface_tf.evaluation.verification import verify
from retinaface_tf.evaluation.widerface import SUBSETS, WiderFaceTruth, evaluate_widerface


@pytest.fixture(scope="module")
def widerface():
    """Truth of 30 images, a good and a poor run's detections."""
    rng = np.random.default_rng(3)
    boxes = []
    for _ in range(30):
        corner = rng.uniform(0, 150, (4, 2))
        boxes.append(np.hstack([corner, corner + rng.uniform(15, 80, corner.shape)]))
    every = tuple(np.ones(4, bool) for _ in boxes)
    labels = tuple(rng.integers(0, 2, 4) for _ in boxes)
    truth = WiderFaceTruth(
        tuple(f"{i % 3}--e/{i}" for i in range(30)),
        tuple(boxes),
        {s: every for s in SUBSETS},
        {a: labels for a in ("blur", "occlusion", "pose")},
    )

    def found(noise):
        return {
            key: ImageDetections(
                np.vstack([b + rng.normal(0, noise, b.shape), [[200, 200, 240, 240]]]),
                np.linspace(0.9, 0.3, 5),
            )
            for key, b in zip(truth.images, truth.boxes)
        }

    return truth, found(1.0), found(9.0)


@pytest.fixture(scope="module")
def runs(widerface):
    truth, good, poor = widerface
    made = provenance({"weights": "<none> & co", "scales": ["original"]})
    return [
        widerface_json(evaluate_widerface(truth, found), name, made)
        for name, found in (("good", good), ("poor <run>", poor))
    ]


def all_kinds(rng):
    made = provenance({})
    ellipses = {k: np.array([[5.0, 5, 0, 20, 20], [6, 6, 0, 60, 60]]) for k in "abcd"}
    table = np.array([[15.0, 15, 25, 25], [53, 53, 67, 67], [80, 80, 90, 90]])
    found = {
        k: ImageDetections(table + rng.normal(0, 1, table.shape), np.array([0.9, 0.6, 0.3]))
        for k in "abc"
    }
    curve = evaluate_fddb(ellipses, found)
    parts = {k: evaluate_fddb(ellipses, {k: found[k]} if k in found else {}, [k]) for k in ellipses}
    face = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]])
    truth = np.stack([face] * 20)
    errors = landmark_errors(truth + rng.normal(0, 5, truth.shape), truth, np.full(20, 100.0))
    same = np.arange(60) < 30
    pairs = verify(rng.normal(0, 1, 60) + same, same)
    return [
        fddb_json(curve, parts, "f", made),
        landmarks_json(errors, [str(i) for i in range(20)], 0.0, "l", made),
        verification_json(pairs, [str(i) for i in range(60)], "v", made),
    ]


def no_requests(html):
    """Nothing in the page is fetched: no scheme but data:, no script, no import."""
    without_images = re.sub(r'"data:image/png;base64,[A-Za-z0-9+/=]+"', '""', html)
    assert re.findall(r"(?:https?:)?//[a-z]", without_images, re.IGNORECASE) == []
    assert not re.search(r"<script|<link|<iframe|@import|url\(|srcset", without_images)
    assert set(re.findall(r'src="([^"]{0,22})', html)) <= {"data:image/png;base64,"}
    assert "default-src 'none'" in html


def test_a_report_is_one_page_that_asks_for_nothing(tmp_path, runs):
    gallery = Gallery("Misses", "misses", [Crop(np.zeros((168, 168, 3), np.uint8), "a<b>.jpg")])
    page = write_report(tmp_path, runs, [gallery])
    html = page.read_text()
    no_requests(html)
    assert (
        "poor &lt;run&gt;" in html and "a&lt;b&gt;.jpg" in html and "&lt;none&gt; &amp; co" in html
    )
    assert f"{100 * runs[0]['ap']['hard']:.2f}" in html
    for name in ("precision_recall.png", "by_height.png", "misses/00.png"):
        assert Image.open(tmp_path / name).size[0] >= 168
    assert json.loads((tmp_path / "results.json").read_text()) == runs[0]


def test_reports_of_every_kind_ask_for_nothing(tmp_path, rng):
    for results in all_kinds(rng):
        no_requests(write_report(tmp_path / results["kind"], [results, results]).read_text())


def test_runs_of_different_kinds_do_not_share_a_report(tmp_path, runs, rng):
    with pytest.raises(ConfigError, match="one kind"):
        write_report(tmp_path, [runs[0], *all_kinds(rng)])


def test_results_are_read_back_and_others_refused(tmp_path, runs):
    write_json(tmp_path / "a.json", runs[0])
    assert read_json(tmp_path / "a.json") == runs[0]
    for text in ("{}", "no json", '{"format": 99, "kind": "widerface"}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DataError, match=r"b\.json"):
            read_json(tmp_path / "b.json")


def test_packed_tables_come_back(rng):
    for table in (rng.random((3, 7)), rng.integers(-5, 40000, (2, 9)), np.zeros((5, 0))):
        np.testing.assert_array_equal(unpack(json.loads(json.dumps(pack(table)))), table)


def test_a_comparison_gives_the_figures_of_the_runs(runs):
    rows = {row.figure: row for row in compare(*runs, rounds=200)}
    for subset in SUBSETS:
        row = rows[f"AP {subset}"]
        assert row.a == pytest.approx(runs[0]["ap"][subset], abs=1e-9)
        assert row.b == pytest.approx(runs[1]["ap"][subset], abs=1e-9)
        assert row.low < row.difference < row.high < 0
        assert row.certain


def test_a_run_does_not_differ_from_itself(runs, rng):
    for results in (runs[0], *all_kinds(rng)):
        for row in compare(results, results, rounds=20):
            assert (row.difference, row.low, row.high) == (0, 0, 0)
            assert not row.certain


def fddb_run(false_positives, name):
    """40 images of one face, found in each; `false_positives` in as many of them."""
    ellipses = {str(i): np.array([[10.0, 10, 0, 20, 20]]) for i in range(40)}
    boxes, scores = np.array([[10.0, 10, 30, 30], [80, 80, 90, 90]]), np.array([0.9, 0.6])
    found = {
        key: ImageDetections(
            boxes[: 1 + (i < false_positives)], scores[: 1 + (i < false_positives)]
        )
        for i, key in enumerate(ellipses)
    }
    parts = {key: evaluate_fddb(ellipses, found, [key]) for key in ellipses}
    return fddb_json(evaluate_fddb(ellipses, found), parts, name, provenance({}))


def test_draws_with_fewer_false_positives_than_a_limit_have_the_same_figures():
    """11 false positives: about half of the draws have fewer than 10, so parts of them differ."""
    many, few = fddb_run(11, "many"), fddb_run(3, "few")
    figures = [row.figure for row in compare(many, many, rounds=300)]
    assert [f for f in figures if f.startswith("discrete")] == [
        "discrete at 0 FP",
        "discrete at 10 FP",
        "discrete, all detections",
    ]
    shared = [row.figure for row in compare(many, few, rounds=300)]
    assert "discrete at 10 FP" not in shared
    assert "discrete at 0 FP" in shared


def drawn(truth, found, counts):
    """A truth that holds each image as often as it was drawn, and its detections."""
    keys, boxes, detections = [], [], {}
    for image, count in enumerate(counts):
        for copy in range(count):
            keys.append(f"{truth.images[image]}_{copy}")
            boxes.append(truth.boxes[image])
            detections[keys[-1]] = found[truth.images[image]]
    repeated = dataclasses.replace(
        truth,
        images=tuple(keys),
        boxes=tuple(boxes),
        subsets={s: tuple(np.ones(4, bool) for _ in keys) for s in SUBSETS},
        attributes={a: tuple(np.zeros(4, int) for _ in keys) for a in truth.attributes},
    )
    return evaluate_widerface(repeated, detections)


def test_the_interval_is_that_of_every_draw_of_four_images(widerface):
    """All 35 ways to draw four images of four, each with its probability and its AP by repetition."""
    truth, *both = widerface
    truth = truth.restricted_to(truth.images[:4])
    both = [{key: found[key] for key in truth.images} for found in both]
    made = provenance({})
    rows = compare(
        *(widerface_json(evaluate_widerface(truth, found), "r", made) for found in both),
        rounds=20_000,
    )
    differences, chances = [], []
    for draw in itertools.combinations_with_replacement(range(4), 4):
        counts = np.bincount(draw, minlength=4)
        good, poor = (drawn(truth, found, counts).average_precision("hard") for found in both)
        differences.append(poor - good)
        chances.append(math.factorial(4) / math.prod(map(math.factorial, counts)) / 4**4)
    order = np.argsort(differences)
    below = np.cumsum(np.array(chances)[order])
    assert below[-1] == pytest.approx(1)

    def quantile(share):
        return np.array(differences)[order][np.searchsorted(below, share)]

    (hard,) = (row for row in rows if row.figure == "AP hard")
    # 20,000 rounds put a share of 2.5 % right to about 0.1 %.
    assert quantile(0.020) <= hard.low <= quantile(0.030) < quantile(0.1)
    assert quantile(0.9) < quantile(0.970) <= hard.high <= quantile(0.980)
    assert hard.difference == pytest.approx(
        differences[list(itertools.combinations_with_replacement(range(4), 4)).index((0, 1, 2, 3))]
    )


def test_resampled_figures_equal_those_of_repeated_images(widerface, runs):
    from retinaface_tf.evaluation.compare import _widerface

    truth, good, _ = widerface
    weights = np.zeros(30, int)
    weights[[2, 5, 9]] = 1, 2, 3
    expected = drawn(truth, good, weights).average_precision("hard")
    figures = _widerface(runs[0])(weights[None])
    assert figures["AP hard"][0] == pytest.approx(expected, abs=1e-12)


def test_only_the_same_images_compare(runs, rng):
    other = {**runs[0], "samples": {**runs[0]["samples"], "units": ["x"]}}
    with pytest.raises(ConfigError, match="same images"):
        compare(runs[0], other)
    with pytest.raises(ConfigError, match="kinds"):
        compare(runs[0], all_kinds(rng)[0])


def test_crops_show_the_largest_miss_and_the_surest_false_positive(tmp_path):
    boxes = np.array([[10.0, 10, 30, 30], [50, 20, 110, 90], [120, 10, 140, 30]])
    mask, labels = (np.ones(3, bool),), (np.zeros(3, int),)
    truth = WiderFaceTruth(
        ("e/a",),
        (boxes,),
        {s: mask for s in SUBSETS},
        {a: labels for a in ("blur", "occlusion", "pose")},
    )
    rows = np.array([[120.0, 10, 140, 30], [0, 60, 20, 90], [121, 10, 141, 30], [70, 95, 80, 99]])
    found = {"e/a": ImageDetections(rows, np.array([0.9, 0.8, 0.7, 0.6]))}
    path = tmp_path / "e" / "a.png"
    path.parent.mkdir()
    Image.new("RGB", (160, 100), (90, 90, 90)).save(path)
    result = evaluate_widerface(truth, found)
    misses = worst_misses(result, {"e/a": path})
    assert [c.caption.split(": ")[1] for c in misses] == [
        "60×70 px, not found",
        "20×20 px, not found",
        "20×20 px, found late, 1.000",
    ]
    wrong = worst_false_positives(result, found, {"e/a": path})
    assert "0.800, no annotated face" in wrong[0].caption
    assert "0.700, second on a face" in wrong[1].caption
    assert all(c.pixels.shape == (168, 168, 3) for c in misses + wrong)
    # The red box of the first miss lies where three times its side says.
    red = np.argwhere((misses[0].pixels[..., 0] > 200) & (misses[0].pixels[..., 1] < 120))
    assert abs(np.ptp(red[:, 0]) - 168 / 3) < 5
