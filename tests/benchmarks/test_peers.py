"""The peer benchmark's protocol, scores, tables and plot, on canned answers: no peer is installed."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import asking, table, timing
from benchmarks.peers.answers import (
    Answers,
    answers_file,
    policies,
    read_answers,
    search,
    wanted,
)
from benchmarks.peers.asking import Asked, PeerError
from benchmarks.peers.environments import last_line, size_of
from benchmarks.peers.images import ImageSet, decoded, letterbox
from benchmarks.peers.listing import ENVIRONMENTS, Peer, peers
from benchmarks.peers.plot import accuracy_latency_plot, plot_points
from benchmarks.peers.scores import accuracy, fit_of_boxes, point_errors, precision

ADAPTER = """
import sys, time
from answer import as_it_is, serve

def open_detector(options):
    print("a library that prints to stdout")
    def detect(rgb, lowest):
        if options.get("fails") == int(rgb[0, 0, 0]):
            raise ValueError("cannot see")
        if options.get("crashes"):
            sys.exit(7)
        if options.get("hangs"):
            time.sleep(60)
        height, width = rgb.shape[:2]
        count = 2 if lowest else 1
        boxes = [(0, 0, width, height), (1, 1, 3, 3)][:count]
        return boxes, [0.9, 0.1][:count], [[(1, 1)] * 5] * count
    return as_it_is, detect

serve(open_detector, ["numpy"])
"""


@pytest.fixture
def peer(tmp_path, monkeypatch) -> Peer:
    """A peer of this test's own, in this Python."""
    script = tmp_path / "run_canned.py"
    script.write_text(ADAPTER)
    shutil.copy(asking.ADAPTERS / "answer.py", tmp_path)
    monkeypatch.setattr(asking, "ADAPTERS", tmp_path)
    return Peer("canned", "Canned", "none", script.name)


@pytest.fixture
def images(tmp_path) -> ImageSet:
    """Four images of 20x10 pixels, each one face that fills it."""
    from PIL import Image

    photos = []
    for index in range(4):
        photos.append(tmp_path / f"{index}.png")
        Image.fromarray(np.full((10, 20, 3), index, np.uint8)).save(photos[-1])
    box = np.array([[0.0, 0.0, 20.0, 10.0]])
    return ImageSet(
        "fddb",
        "Canned",
        photos,
        [box] * 4,
        [np.zeros(1, bool)] * 4,
        None,
        ("original", "letterbox"),
        np.array([1, 3]),
    )


def ask(peer: Peer, tmp_path: Path) -> Asked:
    return Asked(peer, sys.executable, tmp_path / "log", core=timing.last_core())


def test_what_a_library_prints_does_not_reach_the_answers(peer, images, tmp_path):
    path, _ = decoded(images, 0, "original", tmp_path / "pixels")
    with ask(peer, tmp_path) as asked:
        answer = asked.ask("detect", image=str(path), lowest=True)
        state = asked.ask("state")
    assert answer["boxes"] == [[0, 0, 20, 10], [1, 1, 3, 3]]
    assert answer["scores"] == [0.9, 0.1] and np.shape(answer["landmarks"]) == (2, 5, 2)
    assert "prints to stdout" in (tmp_path / "log").read_text()
    assert state["versions"] == {"numpy": np.__version__}
    assert state["cores"] == 1 and state["peak_bytes"] > 1e6


def test_answers_are_kept_and_come_back_in_the_original_images_pixels(peer, images, tmp_path):
    images = replace(images, subset=np.arange(4))
    file = answers_file(peer, images, "letterbox", tmp_path)
    stop_after = iter([True, True, False])
    with ask(peer, tmp_path) as asked:
        whole = search(asked, images, "letterbox", file, tmp_path / "px", lambda: next(stop_after))
        assert not whole and len(read_answers(file).found) == 2
        with file.open("a") as stream:
            stream.write('{"index": 2, "sca')  # A stop in the middle of a line.
        assert search(asked, images, "letterbox", file, tmp_path / "px", lambda: True)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    answers = read_answers(file)
    # 640 / 20: the box of the whole square is 20 pixels high in the image's own.
    np.testing.assert_allclose(answers.found[2][0][0], [0, 0, 20, 20])
    np.testing.assert_allclose(answers.found[2][2][0], 1 / 32, atol=1e-6)


def test_an_image_that_fails_is_without_detections_and_counted(peer, images, tmp_path):
    peer = replace(peer, options={"fails": 2})
    file = answers_file(peer, images, "original", tmp_path)
    with ask(peer, tmp_path) as asked:
        assert search(asked, images, "original", file, tmp_path / "px", lambda: True)
    answers = read_answers(file)
    assert answers.errors == ["ValueError: cannot see"] and len(answers.found[2][0]) == 0
    assert precision(answers, images, range(4)) == pytest.approx(0.75)


def test_a_peer_whose_first_image_fails_is_given_up(peer, images, tmp_path):
    peer = replace(peer, options={"fails": 1})
    with ask(peer, tmp_path) as asked, pytest.raises(PeerError, match="cannot see"):
        search(asked, images, "original", tmp_path / "a", tmp_path / "px", lambda: True)


def test_a_peer_that_dies_is_told_by_its_exit_code(peer, images, tmp_path):
    path, _ = decoded(images, 0, "original", tmp_path / "pixels")
    peer = replace(peer, options={"crashes": True})
    with ask(peer, tmp_path) as asked, pytest.raises(PeerError, match="ended with 7"):
        asked.ask("detect", image=str(path), lowest=False)


def test_a_peer_that_does_not_answer_is_ended(peer, images, tmp_path, monkeypatch):
    monkeypatch.setattr(Asked, "patience", 0.5)
    path, _ = decoded(images, 0, "original", tmp_path / "pixels")
    peer = replace(peer, options={"hangs": True})
    with ask(peer, tmp_path) as asked, pytest.raises(PeerError, match=r"no answer in 0\.5"):
        asked.ask("detect", image=str(path), lowest=False)


def test_some_peers_search_a_subset_and_others_are_judged_on_it_too(images):
    some_only = Peer("some", "Some", "none", "x", subset=True)
    assert wanted(some_only, images, "original") == [1, 3]
    everybody = replace(some_only, subset=False)
    assert wanted(everybody, images, "letterbox") == [1, 3]
    assert wanted(everybody, images, "original") == [1, 3, 0, 2]
    assert policies(replace(some_only, slow=True), images) == ("original",)
    with_points = replace(images, points=[np.zeros((1, 5, 2))] * 4)
    assert policies(replace(some_only, points=False), with_points) == ()

    def once(_):
        return ("original",)

    right = (np.array([[0.0, 0, 20, 10]]), np.array([0.9]), None)
    nothing = (np.zeros((0, 4)), np.zeros(0), None)
    some = Answers({1: right, 3: nothing}, [])
    figures = accuracy(lambda *_: some, [images], once, 0.5)["fddb"]["original"]
    assert figures["ap"] is None and figures["subset"] == pytest.approx(0.5)
    everything = Answers({0: right, 1: right, 2: nothing, 3: right}, [])
    figures = accuracy(lambda *_: everything, [images], once, 0.5)["fddb"]["original"]
    assert figures["ap"] == pytest.approx(0.75) and figures["subset"] == pytest.approx(1.0)


def test_the_fit_of_boxes_tells_a_square_in_the_lower_part_of_a_tall_box(images):
    tall = replace(images, boxes=[np.array([[0.0, 0, 10, 15]])] * 4)
    square = (np.array([[0.0, 5, 10, 15]]), np.array([0.9]), None)
    fit = fit_of_boxes(Answers({i: square for i in range(4)}, []), tall, 0.5)
    assert fit == pytest.approx(
        {"iou": 2 / 3, "width": 1, "height": 2 / 3, "above": 1 / 3, "faces": 2}
    )
    assert fit_of_boxes(Answers({1: square}, []), tall, 0.95)["faces"] == 0


def test_points_are_judged_above_the_peers_own_threshold(images):
    truth = np.arange(10, dtype=float).reshape(1, 5, 2)
    faces = replace(images, points=[truth] * 4)
    box = np.array([[0.0, 0, 20, 10]])
    found = {i: (box, np.array([0.9 if i else 0.3]), truth + np.array([3, 4])) for i in range(4)}
    errors = point_errors(Answers(found, []), faces, 0.5)
    assert errors["faces"] == 4 and errors["found"] == 3
    assert errors["nme"] == pytest.approx(5 / np.sqrt(200))
    assert errors["failures"] == 1.0


def test_a_letterboxed_image_keeps_its_shape_and_lies_in_the_upper_left():
    square, scale = letterbox(np.full((30, 60, 3), 200, np.uint8), 40)
    assert square.shape == (40, 40, 3) and scale == pytest.approx(2 / 3)
    assert (square[:20] == 200).all() and (square[20:] == 128).all()


def test_rounds_go_in_turns_and_slow_peers_take_part_in_few(peer, images, tmp_path):
    path, _ = decoded(images, 0, "original", tmp_path / "pixels")
    slow = replace(peer, key="slow", slow=True)
    with ask(peer, tmp_path) as first, ask(slow, tmp_path) as second:
        measured = timing.rounds_in_turn(
            {"canned": first, "slow": second}, {"photos": [path] * 3}, rounds=7
        )
    assert len(measured["canned"]["scenes"]["photos"]["seconds"]) == 7
    assert len(measured["slow"]["scenes"]["photos"]["seconds"]) == 2
    assert len(measured["slow"]["scenes"]["photos"]["seconds"][0]) == timing.SLOW_PHOTOS
    assert measured["canned"]["scenes"]["photos"]["faces"] == [1, 1, 1]
    assert measured["canned"]["state"]["peak_bytes"] > 0


def test_a_summary_of_known_times():
    scene = {"seconds": [[0.010, 0.030], [0.020, 0.020], [0.010, 0.010]], "faces": [1, 2]}
    summary = timing.summary(scene)
    assert summary["median_ms"] == pytest.approx(15) and summary["p90_ms"] == pytest.approx(25)
    assert summary["images_per_s"] == pytest.approx(50) and summary["faces"] == 3


def test_the_size_of_an_environment_leaves_out_what_every_one_has(tmp_path):
    packages = tmp_path / "lib/python3.11/site-packages"
    for name, size in (("pip/a", 10), ("pip-23.dist-info/b", 10), ("net/__pycache__/c", 10)):
        (packages / name).parent.mkdir(parents=True)
        (packages / name).write_bytes(bytes(size))
    (packages / "net/pip").mkdir()
    (packages / "net/pip/d").write_bytes(bytes(7))
    assert size_of(tmp_path) == 7


def test_pips_error_is_the_line_that_says_it():
    text = "Collecting x\nERROR: No matching distribution found for x\n\nnotice: new pip\n"
    assert last_line(text) == "ERROR: No matching distribution found for x"


def test_every_peer_has_an_environment_and_an_adapter_that_imports_nothing_of_ours(tmp_path):
    names = {environment.name: environment for environment in ENVIRONMENTS}
    listed = peers(tmp_path, tmp_path)
    assert len({p.key for p in listed}) == len(listed)
    for p in listed:
        assert p.step <= len(names[p.environment].steps)
        code = (asking.ADAPTERS / p.adapter).read_text()
        assert p.ours or "retinaface_tf" not in code
        assert "benchmarks" not in code


def canned_run() -> dict:
    """Two rows with figures and one without."""

    def row(key, name, ours, ap, time):
        scene = {"median_ms": time, "p90_ms": time * 1.1, "images_per_s": 1000 / time, "faces": 1}
        fit = {"iou": 0.8, "width": 1.0, "height": 0.8, "above": 0.1, "faces": 3}
        figures = {"errors": 0, "images": 4, "ap": ap, "subset": ap, "ap30": ap, "fit": fit}
        nme = {"faces": 4, "found": 4, "nme": 0.03, "failures": 0.0}
        return {
            "key": key,
            "name": name,
            "ours": ours,
            "weights": "somewhere",
            "accuracy": {
                **{s: dict.fromkeys(("original", "letterbox"), figures) for s in DETECTION},
                "crops": {"original": nme},
                "dlib": {"original": nme, "letterbox": nme},
                "animals": {"original": {"false": [0, 2, 0, 1] if ours else [0, 0, 0, 1]}},
            },
            "times": {"one face": scene, "100 faces": {**scene, "faces": 100}, "photos": scene},
            "cold_s": time / 10,
            "peak_bytes": 2**27,
            "bytes": 2**30,
            "versions": {"numpy": "2"},
        }

    return {
        "date": "2026-01-02",
        "machine": "a machine",
        "command": "a command",
        "subset": 2,
        "sets": {
            key: {"title": key.upper(), "images": 4, "faces": 4}
            for key in (*DETECTION, "crops", "dlib", "animals")
        },
        "rows": [
            row("o", "**ours** A", True, 0.95, 20.0),
            row("p", "peer B", False, 0.9, 10.0),
            {"key": "q", "name": "peer C", "ours": False, "weights": "away", "error": "no network"},
        ],
    }


DETECTION = ("fddb", "wider", "wider416")


def test_the_tables_say_who_wins_and_who_could_not_be_measured():
    text = table.figures(canned_run())
    assert "| **ours** A | 95.0 | 95.0 |" in text
    assert "| peer B | 10.0 | 11.0 | 10.0 | 11.0 | 100 | 100.0 | 1.00 | 128 | 1,024 |" in text
    assert "- AP, FDDB as they are: **ours** A 95.0 %; the best peer is peer B 90.0 %." in text
    assert "Cold start: **a peer wins**, peer B 1.00 s; ours at best: **ours** A 2.00 s." in text
    assert (
        "with one face: **a peer wins**, peer B 10.0 ms; ours at best: **ours** A 20.0 ms." in text
    )
    assert "Peak memory: level," in text
    assert "- peer C (weights away): no network" in text
    assert "| **ours** A | 2 | 3 |" in text and "| peer B | 1 | 1 |" in text
    assert "False alarms, photos of 4 of animals: **a peer wins**, peer B 1; ours" in text
    # Nobody here has an AP of 98 %: no sentence about the sharp ones.
    assert "of those with an AP" not in text and "of those that find 90 or more" in text
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_page_around_the_figures_stays():
    page = table.put_between_marks("# Title\n\nWords.\n", "one")
    page += "\nMore words.\n"
    again = table.put_between_marks(page, "two")
    assert "Words." in again and "More words." in again
    assert "two" in again and "one" not in again


def test_the_plot_has_a_point_for_each_that_has_both_figures():
    run = canned_run()
    assert [(p[0]["key"], p[1], round(p[2])) for p in plot_points(run, "fddb")] == [
        ("o", 20.0, 95),
        ("p", 10.0, 90),
    ]
    assert accuracy_latency_plot(run).startswith(b"\x89PNG")
