"""Files of detections: read back as written, refused by file and line where they cannot be right."""

import json

import numpy as np
import pytest

from retinaface_tf.evaluation.detections import (
    DataError,
    ImageDetections,
    image_key,
    read_detections,
    read_json_lines,
    read_text_folder,
    read_text_list,
    write_text_folder,
)
from retinaface_tf.faces.json_lines import face_line

KNOWN = ("0--Parade/first", "0--Parade/second.part", "1--Sport/third")


def example(n=3):
    corner = np.arange(2.0 * n).reshape(n, 2)
    return ImageDetections(
        np.hstack([corner, corner + np.array([10, 12])]),
        np.linspace(0.9, 0.1, n),
        np.ones((n, 5, 2)),
    )


def write(tmp_path, text, name="0--Parade/first.txt"):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_the_official_format_reads_back_as_written(tmp_path):
    found = {KNOWN[0]: example(), KNOWN[1]: example(1), KNOWN[2]: ImageDetections(*_nothing())}
    write_text_folder(tmp_path, found)
    assert (tmp_path / "0--Parade/first.txt").read_text().splitlines()[:3] == [
        "first.jpg",
        "3",
        "0.000 1.000 10.000 12.000 0.90000000",
    ]
    again = read_detections(tmp_path, KNOWN)
    assert set(again) == set(found)
    for key in found:
        np.testing.assert_allclose(again[key].boxes, found[key].boxes, atol=1e-3)
        np.testing.assert_allclose(again[key].scores, found[key].scores, atol=1e-8)


def _nothing():
    return np.zeros((0, 4)), np.zeros(0)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("first\n1\n0 0 5 5 nan\n", 3, "not finite"),
        ("first\n2\n0 0 5 5 0.9\n0 inf 5 5 0.8\n", 4, "not finite"),
        ("first\n1\n0 0 -5 5 0.9\n", 3, "before it begins"),
        ("first\n3\n0 0 5 5 0.9\n", 3, "ends where"),
        ("first\n1\n0 0 5 5 0.9\n0 0 5 5 0.8\n", 4, "not a file name"),
        ("first\n2\n0 0 5 5 0.9\n0 0 5 0.8\n", 4, "face of 5 numbers"),
        ("first\n1\n0 0 5 five 0.9\n", 3, "face of 5 numbers"),
        ("first\n1\n0 0 5 5 0.9 7\n", 3, "not five"),
        ("first\nmany\n", 2, "number of faces"),
        ("second\n0\n", 1, "names image 'second'"),
    ],
)
def test_what_cannot_be_is_refused_by_file_and_line(tmp_path, text, line, says):
    file = write(tmp_path, text)
    with pytest.raises(DataError) as error:
        read_text_folder(tmp_path, KNOWN)
    assert str(file) in str(error.value)
    assert f"line {line}" in str(error.value)
    assert says in str(error.value)


def test_unknown_images_are_refused(tmp_path):
    file = write(tmp_path, "x\n0\n", "9--Nowhere/x.txt")
    with pytest.raises(DataError, match="9--Nowhere/x") as error:
        read_text_folder(tmp_path, KNOWN)
    assert f"{file} line 1" in str(error.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no EVENT/IMAGE"):
        read_detections(tmp_path, KNOWN)
    with pytest.raises(DataError, match="does not exist"):
        read_detections(tmp_path / "missing", KNOWN)


def test_json_lines_read_back_with_landmarks(tmp_path):
    lines = [
        face_line("/photos/0--Parade/first.jpg", (480, 640), *example(), example().landmarks),
        json.dumps({"image": "1--Sport/third.jpg", "error": "cannot be read"}),
    ]
    file = write(tmp_path, "\n".join(lines) + "\n", "run.jsonl")
    found = read_detections(file, KNOWN)
    np.testing.assert_allclose(found[KNOWN[0]].boxes, example().boxes)
    assert found[KNOWN[0]].landmarks.shape == (3, 5, 2)
    assert len(found[KNOWN[2]].scores) == 0


@pytest.mark.parametrize(
    ("face", "says"),
    [
        ({"box": [0, 0, 5, 5], "score": float("nan")}, "not finite"),
        ({"box": [5, 0, 0, 5], "score": 0.5}, "before it begins"),
        ({"box": [0, 0, 5], "score": 0.5}, "four numbers"),
        ({"score": 0.5}, "four numbers"),
    ],
)
def test_json_that_cannot_be_is_refused_by_file_and_line(tmp_path, face, says):
    good = {"box": [0, 0, 5, 5], "score": 0.9}
    lines = [{"image": KNOWN[2], "faces": []}, {"image": KNOWN[0], "faces": [good, face]}]
    file = write(tmp_path, "\n".join(map(json.dumps, lines)), "run.jsonl")
    with pytest.raises(DataError, match=says) as error:
        read_json_lines(file, KNOWN)
    assert f"{file} line 2" in str(error.value)


def test_json_of_unknown_or_repeated_images_is_refused(tmp_path):
    line = json.dumps({"image": KNOWN[0], "faces": []})
    with pytest.raises(DataError, match=r"line 2: image .* occurs twice"):
        read_json_lines(write(tmp_path, f"{line}\n{line}\n", "a.jsonl"), KNOWN)
    with pytest.raises(DataError, match=r"line 1: .*elsewhere"):
        read_json_lines(
            write(tmp_path, '{"image": "elsewhere.jpg", "faces": []}', "b.jsonl"), KNOWN
        )
    with pytest.raises(DataError, match=r"line 2: not whole JSON.* resume that command"):
        read_json_lines(write(tmp_path, f"{line}\n{line[:9]}", "c.jsonl"), KNOWN)


def test_lists_of_many_images_are_read(tmp_path):
    text = "0--Parade/first\n1\n0 0 5 5 0.9\n1--Sport/third\n0\n"
    found = read_text_list(write(tmp_path, text, "all.txt"), KNOWN)
    assert [len(found[k].scores) for k in (KNOWN[0], KNOWN[2])] == [1, 0]
    with pytest.raises(DataError, match="line 4: the box"):
        bad = "0--Parade/first\n2\n0 0 5 5 0.9\n0 0 5 -5 0.8\n"
        read_text_list(write(tmp_path, bad, "bad.txt"), KNOWN)


def test_keys_are_found_in_longer_paths():
    assert image_key("C:\\data\\0--Parade\\first.jpg", KNOWN) == KNOWN[0]
    assert image_key("/a/0--Parade/second.part.jpg", KNOWN) == KNOWN[1]
    assert image_key("0--Parade/second.part", KNOWN) == KNOWN[1]
    assert image_key("first.jpg", KNOWN) is None


def test_the_order_of_rows_changes_nothing(tmp_path, rng):
    corner = rng.uniform(0, 50, (9, 2))
    boxes = np.hstack([corner, corner + rng.uniform(1, 9, (9, 2))]).round(2)
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.7, 0.1, 0.9, 0.3, 0.2])
    points = rng.uniform(0, 50, (9, 5, 2)).round(2)
    of_lines, of_lists = [], []
    for number in range(4):
        order = rng.permutation(9)
        line = face_line(KNOWN[0], (99, 99), boxes[order], scores[order], points[order])
        rows = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2], scores[:, None]])[order]
        text = "\n".join([KNOWN[0], "9", *(" ".join(f"{v:.2f}" for v in row) for row in rows)])
        for found, name, content in (
            (of_lines, f"{number}.jsonl", line),
            (of_lists, f"{number}.txt", text),
        ):
            found.append(read_detections(write(tmp_path, content, name), KNOWN)[KNOWN[0]])
    for one in (*of_lines, *of_lists):
        assert (np.diff(one.scores) <= 0).all()
        np.testing.assert_allclose(one.boxes, of_lines[0].boxes, atol=1e-6)
    for one in of_lines:
        np.testing.assert_array_equal(one.landmarks, of_lines[0].landmarks)
