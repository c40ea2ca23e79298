"""Our weights' figures, failures, sheet and ablation: the parts that need neither weights nor photos."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.own import ingredients, table
from benchmarks.own.detectors import Detector
from benchmarks.own.failures import judge, worst_failures
from benchmarks.own.found import find_all, found_file, pack, sizes_of, unpack
from benchmarks.own.sheet import choose_photos, draw_sheet, write_sheet
from benchmarks.own_ablation import report
from benchmarks.peers.answers import Answers
from benchmarks.peers.pictures import POLICIES, PictureSet
from benchmarks.peers.table import put_between_marks
from retinaface_tf.data.json_labels import read_json_labels
from retinaface_tf.errors import ConfigError

FACE = np.array([[2.0, 2.0, 12.0, 12.0]])
NOTHING = (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


def answer(*boxes, scores=None):
    boxes = np.array(boxes, float)
    scores = np.linspace(0.9, 0.8, len(boxes)) if scores is None else np.array(scores)
    points = np.tile(np.arange(10.0).reshape(1, 5, 2), (len(boxes), 1, 1))
    return boxes, scores, points


@pytest.fixture
def pictures(tmp_path) -> PictureSet:
    """Four pictures of 40x20 pixels, a face in each, ignored in the last."""
    from PIL import Image

    photos = []
    for index in range(4):
        photos.append(tmp_path / f"photo{index}.png")
        Image.fromarray(np.full((20, 40, 3), 60 * index, np.uint8)).save(photos[-1])
    ignored = [np.zeros(1, bool)] * 3 + [np.ones(1, bool)]
    return PictureSet("wider", "Canned", photos, [FACE] * 4, ignored, None, POLICIES, np.arange(4))


def test_what_was_found_comes_back_from_its_file_and_is_not_searched_again(pictures, tmp_path):
    searched = []

    def find(picture, size, threshold):
        searched.append(int(picture[0, 0, 0]))
        if searched[-1] == 60:
            return (*NOTHING[:2], None)
        return answer(FACE[0], FACE[0] + 1)

    detector = Detector("x", "X", "abc", find, None, True, False, 1)
    assert sizes_of(detector, pictures) == ["640"]
    first = find_all(detector, pictures, "640", tmp_path / "found")
    again = find_all(detector, pictures, "640", tmp_path / "found")
    assert searched == [0, 60, 120, 180]
    assert len(again.found[1][0]) == 0
    for index in range(4):
        for one, other in zip(first.found[index], again.found[index]):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.found[2][0][1], FACE[0] + 1)
    # Other weights are looked up elsewhere.
    other = Detector("x", "X", "def", find, None, True, False, 1)
    assert not found_file(tmp_path / "found", other, pictures, "640").is_file()


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


def test_the_worst_failures_name_photos(pictures):
    off = answer(FACE[0], FACE[0] + [25, 0, 25, 0], scores=[0.9, 0.95])
    near = answer(FACE[0] + 4, scores=[0.7])
    answers = Answers({0: off, 1: NOTHING, 2: near, 3: NOTHING}, [])
    lines = worst_failures({"wider": answers}, {"wider": pictures}, count=3)
    assert [line.split(":")[0] for line in lines[:2]] == [
        "Canned, photo1.png",
        "Canned, photo2.png",
    ]
    assert lines[0].endswith("1 of 1 faces missed, half of these below 10 of the photo's pixels")
    assert lines[2] == "Canned, photo0.png: false with 0.95, 10x10 pixels at (27, 2)"
    assert lines[3] == "2 false detections in all: 1 badly placed on a face"
    # What the rival finds at the same place is not named, being most likely a face.
    lines = worst_failures({"wider": answers}, {"wider": pictures}, {"wider": answers}, count=3)
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


def test_the_sheet_shows_missed_faces_red_and_keeps_to_its_size(pictures, tmp_path):
    blind = Answers(dict.fromkeys(range(4), NOTHING), [])
    seeing = Answers({i: answer(FACE[0]) for i in range(4)}, [])
    sheet = draw_sheet(
        [("blind", {"wider": blind}), ("seeing", {"wider": seeing})], {"wider": pictures}, 4
    )
    red = (sheet == np.array([255, 40, 40])).all(axis=2)
    # Three faces count, in the left picture of each pair.
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
            key: {"title": key, "pictures": 4, "faces": 9}
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


def test_a_budget_is_whole_epochs_of_whole_batches():
    assert ingredients.budget_of(20, 16, 1137) == ingredients.Budget(1, 320, 20)
    whole = ingredients.budget_of(400, 16, 1137)
    assert whole == ingredients.Budget(6, 66 * 16, 396) and whole.photos <= 1137
    assert ingredients.budget_of(7, 16, 16) == ingredients.Budget(7, 16, 7)
    with pytest.raises(ConfigError, match="no training"):
        ingredients.budget_of(5, 16, 12)


def test_lists_of_a_budget_have_its_length_whether_there_are_more_photos_or_fewer():
    lines = [str(i) for i in range(12)]
    few = ingredients.thinned(lines, 5)
    assert len(set(few)) == 5 and few == ingredients.thinned(lines, 5)
    many = ingredients.thinned(lines, 32)
    assert len(many) == 32 and {many.count(line) for line in lines} == {2, 3}


def test_labelled_photos_are_read_back_as_they_were(tmp_path):
    folder = tmp_path / "wider/train"
    folder.mkdir(parents=True)
    (folder / "wider_face_train_bbx_gt.txt").write_text(
        "a/b.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n5 6 7 8 0 0 0 1 0 0\n"
    )
    (tmp_path / "labels.jsonl").write_text("\n".join(ingredients.labelled_lines(tmp_path)) + "\n")
    (image,) = read_json_labels(tmp_path / "labels.jsonl", "/elsewhere")
    assert image.path == folder.resolve() / "images/a/b.jpg"
    np.testing.assert_allclose(image.boxes, [[1, 2, 4, 6], [5, 6, 12, 14]])
    assert image.ignored.tolist() == [False, True]


RECIPE = """
network = "mobilenet0.25-relu"
[data]
kind = "json"
labels = "x.jsonl"
[augment]
crop_scale = [0.3, 2.0]
[init]
narrow = true
freeze = ["stem"]
"""


@pytest.mark.parametrize("name", ingredients.ROWS)
def test_a_row_changes_what_it_says_and_nothing_else(name, tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = ingredients.read_recipe(str(tmp_path / "recipe.toml"), ["init.source=wide.h5"])
    files = {name: tmp_path / name for name in ("labels", "labelled", "start")}
    budget = ingredients.Budget(2, 320, 40)
    plain = ingredients.row_config(recipe, {}, budget, files)
    assert plain.network.negative_slope == 0 and plain.data.labels == str(files["labels"])
    assert plain.epochs == 2 and plain.schedule.warmup_epochs == pytest.approx(0.2)
    try:
        row = ingredients.row_config(recipe, ingredients.ROWS[name], budget, files)
    except ConfigError as error:
        pytest.skip(f"this training has no such option: {error}")

    def flat(values, prefix=""):
        for key, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", json.dumps(value)

    before = dict(flat(plain.to_dict()))
    changed = {key for key, value in flat(row.to_dict()) if before[key] != value}
    assert changed <= set(ingredients.ROWS[name])
    if name == "without pseudo-labels":
        assert row.data.labels == str(files["labelled"])
    # This recipe has no distillation and no fixed statistics, so they cannot be left out.
    already = ("the recipe", "without distillation", "with batch norm by each batch")
    assert bool(changed) == (name not in already)


def test_a_row_that_needs_a_file_says_so(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = ingredients.read_recipe(str(tmp_path / "recipe.toml"), [])
    row, budget = ingredients.ROWS["ReLU, from the start file"], ingredients.Budget(1, 16, 1)
    with pytest.raises(ConfigError, match="--start FILE"):
        ingredients.row_config(recipe, row, budget, {"labels": tmp_path})


def test_the_ablation_tells_each_row_beside_the_recipe():
    results = {"the recipe": {"ap": {"A (4)": 0.4}}, "without": {"ap": {"A (4)": 0.35}}}
    text = report(results, ingredients.Budget(1, 320, 20), "own-slim")
    assert "| the recipe | 0.400 |" in text and "| without | 0.350 (-0.050) |" in text
    assert "after 20 steps" in text
