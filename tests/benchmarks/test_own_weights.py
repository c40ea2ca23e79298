"""Our weights' figures, failures, sheet and ablation: the parts that need neither weights nor photos."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.own import table
from benchmarks.own.detectors import Detector
from benchmarks.own.failures import judge, worst_failures
from benchmarks.own.found import find_all, found_file, pack, sizes_of, unpack
from benchmarks.own.sheet import choose_photos, draw_sheet, write_sheet
from benchmarks.peers.answers import Answers
from benchmarks.peers.images import POLICIES, ImageSet
from benchmarks.peers.table import put_between_marks

FACE = np.array([[2.0, 2.0, 12.0, 12.0]])
NOTHING = (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


def answer(*boxes, scores=None):
    boxes = np.array(boxes, float)
    scores = np.linspace(0.9, 0.8, len(boxes)) if scores is None else np.array(scores)
    points = np.tile(np.arange(10.0).reshape(1, 5, 2), (len(boxes), 1, 1))
    return boxes, scores, points


@pytest.fixture
def images(tmp_path) -> ImageSet:
    """Four images of 40x20 pixels, a face in each, ignored in the last."""
    from PIL import Image

    photos = []
    for index in range(4):
        photos.append(tmp_path / f"photo{index}.png")
        Image.fromarray(np.full((20, 40, 3), 60 * index, np.uint8)).save(photos[-1])
    ignored = [np.zeros(1, bool)] * 3 + [np.ones(1, bool)]
    return ImageSet("wider", "Canned", photos, [FACE] * 4, ignored, None, POLICIES, np.arange(4))


def test_what_was_found_comes_back_from_its_file_and_is_not_searched_again(images, tmp_path):
    searched = []

    def find(image, size, threshold):
        searched.append(int(image[0, 0, 0]))
        if searched[-1] == 60:
            return (*NOTHING[:2], None)
        return answer(FACE[0], FACE[0] + 1)

    detector = Detector("x", "X", "abc", find, None, True, False, 1)
    assert sizes_of(detector, images) == ["640"]
    first = find_all(detector, images, "640", tmp_path / "found")
    again = find_all(detector, images, "640", tmp_path / "found")
    assert searched == [0, 60, 120, 180]
    assert len(again.found[1][0]) == 0
    for index in range(4):
        for one, other in zip(first.found[index], again.found[index]):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.found[2][0][1], FACE[0] + 1)
    # Other weights are looked up elsewhere.
    other = Detector("x", "X", "def", find, None, True, False, 1)
    assert not found_file(tmp_path / "found", other, images, "640").is_file()


def test_nothing_at_all_is_kept_too():
    boxes, scores, points = unpack(pack([NOTHING]))[0]
    assert boxes.shape == (0, 4) and scores.shape == (0,) and points.shape == (0, 5, 2)


def test_a_face_is_missed_a_detection_wrong_and_ignored_faces_count_for_neither():
    found = answer(FACE[0] + 20, FACE[0], scores=[0.6, 0.9])
    weak = answer(FACE[0], scores=[0.4])
    seen = judge(found, FACE, np.zeros(1, bool))
    assert seen.kept.tolist() == [1, 0] and seen.wrong.tolist() == [False, True]
    assert not seen.missed.any() and seen.valid.all()
    assert judge(weak, FACE, np.zeros(1, bool)).missed.all()
    ignored = judge(answer(FACE[0]), FACE, np.ones(1, bool))
    assert not ignored.wrong.any() and not ignored.missed.any() and not ignored.valid.any()


def test_the_worst_failures_name_photos(images):
    off = answer(FACE[0], FACE[0] + [25, 0, 25, 0], scores=[0.9, 0.95])
    near = answer(FACE[0] + 4, scores=[0.7])
    answers = Answers({0: off, 1: NOTHING, 2: near, 3: NOTHING}, [])
    lines = worst_failures({"wider": answers}, {"wider": images}, count=3)
    assert [line.split(":")[0] for line in lines[:2]] == [
        "Canned, photo1.png",
        "Canned, photo2.png",
    ]
    assert lines[0].endswith("1 of 1 faces missed, half of these below 10 of the photo's pixels")
    assert lines[2] == "Canned, photo0.png: false with 0.95, 10x10 pixels at (27, 2)"
    assert lines[3] == "2 false detections in all: 1 badly placed on a face"
    # What the rival finds at the same place is not named, being most likely a face.
    lines = worst_failures({"wider": answers}, {"wider": images}, {"wider": answers}, count=3)
    assert lines[2] == (
        "2 false detections in all: 1 badly placed on a face, 1 that YuNet makes too, 0 others"
    )


def test_photos_for_the_sheet_are_drawn_from_every_set_and_none_twice():
    names = {"a": [f"{i}" for i in range(20)], "b": [f"{i}" for i in range(15, 40)], "c": ["x"]}
    chosen = choose_photos(names, 12)
    assert chosen == choose_photos(names, 12) != choose_photos(names, 12, seed=1)
    keys = [photo.key for photo in chosen]
    assert len(chosen) == 12 and keys.count("c") == 1 and abs(keys.count("a") - keys.count("b")) < 2
    drawn = [names[photo.key][photo.index] for photo in chosen]
    assert len(set(drawn)) == 12 and keys == sorted(keys)


def test_the_sheet_shows_missed_faces_red_and_keeps_to_its_size(images, tmp_path):
    blind = Answers(dict.fromkeys(range(4), NOTHING), [])
    seeing = Answers({i: answer(FACE[0]) for i in range(4)}, [])
    sheet = draw_sheet(
        [("blind", {"wider": blind}), ("seeing", {"wider": seeing})], {"wider": images}, 4
    )
    red = (sheet == np.array([255, 40, 40])).all(axis=2)
    # Three faces count, in the left image of each pair.
    assert sheet.shape == (2 * (222 + 12), 3 * 820, 3) and red.any()
    assert not red[:, 404:808].any()
    assert write_sheet(tmp_path / "sheet.jpg", sheet) == 88
    size = (tmp_path / "sheet.jpg").stat().st_size
    assert write_sheet(tmp_path / "small.jpg", sheet, size - 1) < 88


def canned_run() -> dict:
    def row(key, ap, nme, ms):
        return {
            "key": key,
            "name": key.upper(),
            "bytes": 1_500_000,
            "ap": {name: {"640": ap, "own": ap / 2} for name in table.DETECTION},
            "points": {
                name: {"faces": 9, "found": 8, "nme": nme, "failures": 1 / 9}
                for name in table.POINTS
            },
            "network_ms": ms,
            "end_to_end_ms": ms + 5,
        }

    rival = {**row("yunet", 0.99, 0.05, 25.0), "network_ms": None}
    box_only = {**rival, "key": "ultra-light", "name": "BOXES", "points": {}}
    box_only["ap"] = {name: {"640": 0.5} for name in table.DETECTION}
    return {
        "date": "2026-01-02",
        "machine": "a machine",
        "command": "a command",
        "sets": {
            key: {"title": key, "images": 4, "faces": 9}
            for key in (*table.DETECTION, *table.POINTS)
        },
        "rows": [
            row("public", 0.5, 0.04, 20.0),
            rival,
            box_only,
            row("float32", 0.992, 0.04, 12.0),
            row("int8", 0.985, 0.05, 8.0),
        ],
        "failures": ["a photo: missed"],
    }


def test_the_tables_show_every_figure_and_say_which_goals_were_met():
    text = table.figures(canned_run())
    assert "| FLOAT32 | 0.992 | 0.496 | 0.992 | 0.496 | 0.992 | 0.496 |" in text
    assert "| BOXES | 0.500 | – | 0.500 | – | 0.500 | – |" in text
    assert "| INT8 | 8 of 9 | 5.00 | 11.1 | 8 of 9 | 5.00 | 11.1 |" in text
    assert "| FLOAT32 | 12.0 | 0.60 | 17.0 | 0.68 | 1.50 |" in text
    assert "| YUNET | – | – | 30.0 | 1.20 | 1.50 |" in text
    assert "- Met: AP on WIDER at 640, at least YuNet's: 0.992, 0.990." in text
    assert "- **Not met**: what int8 loses on FDDB at 640, at most: 0.007, 0.005." in text
    assert "- Met: network's time over the public one's, at most: 0.60, 0.60." in text
    assert "- Met: NME on the crops, at most the public weights': 4.00 %, 4.00 %." in text
    assert "- a photo: missed" in text
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_a_run_without_ours_and_without_times_has_tables_and_no_goals():
    run = canned_run()
    run["rows"] = run["rows"][:3]
    for row in run["rows"]:
        del row["network_ms"], row["end_to_end_ms"]
    text = table.figures(run)
    assert "| PUBLIC | – | – | – | – | 1.50 |" in text and "et: " not in text


def test_figures_and_ablation_have_their_own_places_in_one_page():
    page = "# Title\n\nWords.\n"
    for begin, end, word in (
        ("<!-- a -->", "<!-- e -->", "one"),
        ("<!-- b -->", "<!-- f -->", "2"),
    ):
        page = put_between_marks(page, word, begin, end)
    again = put_between_marks(page, "three", "<!-- a -->", "<!-- e -->")
    assert "one" not in again and "<!-- b -->\n2\n<!-- f -->" in again and "Words." in again
