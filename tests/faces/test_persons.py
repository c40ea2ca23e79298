"""Embeddings of faces by a network that the user brings, and who is who by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.faces.embedder import EmbedderInput, open_embedder
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.json_lines import read_face_lines
from retinaface_tf.faces.persons import group_faces
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image
from tests.helpers.mean_colour import mean_colour_onnx

cli.with_commands()
COLOURS = {
    "red": (200, 10, 10),
    "green": (10, 200, 10),
    "blue": (10, 10, 200),
    "grey": (90, 90, 90),
}


@pytest.fixture
def embedder(tmp_path) -> Path:
    """The mean colour of a crop of 8 x 8."""
    mean_colour_onnx(tmp_path / "mean.onnx", "nchw")
    return tmp_path / "mean.onnx"


def test_embeddings_are_those_of_the_aligned_crops(embedder, rng):
    image = rng.integers(0, 256, (80, 120, 3), np.uint8)
    points = np.array([[20, 30], [50, 32], [36, 45], [24, 60], [48, 61]], np.float32)
    boxes = np.array([[10, 10, 60, 70], [50, 10, 100, 70]], np.float32)
    landmarks = np.stack([points, points + np.array([40, 0])]).astype(np.float32)
    faces = Faces(boxes, np.array([0.9, 0.8], np.float32), landmarks, (80, 120))
    opened = open_embedder(embedder, EmbedderInput(mean=0, scale=1))
    found = faces.embed(image, opened)
    means = faces.align(image, 8).reshape(2, -1, 3).mean(axis=1)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(faces.embed(image, opened, mirror=True), expected, rtol=1e-5)
    assert faces.embed(image, str(embedder)).shape == (2, 3)  # normalised as ArcFace's
    assert len(faces[:0].embed(image, embedder)) == 0


def test_faces_near_a_common_direction_are_one_person(rng):
    pytest.importorskip("scipy")
    centres = rng.normal(size=(4, 64))
    whose = rng.permutation(np.repeat(np.arange(4), [9, 5, 5, 1]))
    vectors = centres[whose] + 0.3 * rng.normal(size=(20, 64))
    found = group_faces(vectors * rng.uniform(0.1, 9, (20, 1)))
    for person in range(4):
        assert len(set(found[whose == person].tolist())) == 1
    assert np.bincount(found).tolist() == [9, 5, 5, 1]
    assert np.flatnonzero(found == 1)[0] < np.flatnonzero(found == 2)[0]
    assert group_faces(vectors, -1).tolist() == [0] * 20
    assert sorted(group_faces(vectors, 1).tolist()) == list(range(20))
    assert group_faces(np.ones((3, 8)), 1).tolist() == [0, 0, 0]
    assert len(group_faces(np.zeros((0, 0)))) == 0 and group_faces(np.ones((1, 4))).tolist() == [0]
    for wrong in (np.zeros((2, 4)), np.full((1, 4), np.nan)):
        with pytest.raises(DataError, match="no finite vector"):
            group_faces(wrong)
    with pytest.raises(ConfigError, match="similarity=2"):
        group_faces(vectors, 2)
    with pytest.raises(ConfigError, match="20001 faces are more"):
        group_faces(np.zeros((20_001, 1)))


@pytest.fixture
def run(monkeypatch, tmp_path, embedder):
    """The command over photos whose people are colours: a photo is red, green, blue or grey."""
    pytest.importorskip("scipy")
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)

    def photo(name, *colours):
        pixels = black_image(96, 96 * len(colours), *((5, 12 * i + 5) for i in range(len(colours))))
        for i, colour in enumerate(colours):
            part = pixels[:, 96 * i : 96 * (i + 1)]
            part[part.sum(axis=2) == 0] = COLOURS[colour]
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)

    for name, colours in {
        "a.png": ("red",),
        "b.png": ("red", "green"),
        "sub/a.png": ("red",),
        "c.png": ("green",),
        "d.png": ("blue",),
    }.items():
        photo(f"p/{name}", *colours)
    Image.fromarray(black_image(64, 64)).save("p/nobody.png")
    Path("p/broken.png").write_bytes(b"x")
    options = ("--mean", "0", "--scale", "1", "--min-quality", "0", "--similarity", "0.9")

    def call(*words, out="people"):
        words = ["group", *options, *words, "--embedder", "mean.onnx", "--out", out]
        return CliRunner().invoke(cli.app, words)

    return call


def tree(folder="people") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if not p.is_dir())


def test_photos_are_copied_into_a_folder_for_each_person(run):
    before = {path: path.read_bytes() for path in Path("p").rglob("*.png")}
    done = run("p")
    assert done.exit_code == 1 and "broken.png" in done.stderr  # the others are sorted
    assert "6 faces in 5 photos" not in done.stdout and "2 people in 2 or more" in done.stdout
    assert tree() == [
        "faces.jsonl",
        *("others/d.png", "person-001/a.png", "person-001/a_2.png", "person-001/b.png"),
        *("person-002/b.png", "person-002/c.png"),
    ]
    assert {path: path.read_bytes() for path in Path("p").rglob("*.png")} == before
    assert Path("people/person-001/a.png").read_bytes() == before[Path("p/a.png")]
    entries = [json.loads(line) for line in Path("people/faces.jsonl").read_text().splitlines()]
    persons = {entry["image"]: {face["person"] for face in entry["faces"]} for entry in entries}
    assert persons["p/b.png"] == {"person-001", "person-002"} and persons["p/nobody.png"] == set()
    assert len(list(read_face_lines("people/faces.jsonl"))) == 6
    assert not list(Path().glob(".people*"))


def test_links_lead_to_the_photos_and_an_empty_folder_is_taken(run):
    Path("people").mkdir()
    run("p", "--link")
    links = [Path("people", name) for name in tree() if name != "faces.jsonl"]
    assert all(link.is_symlink() and link.exists() for link in links) and len(links) == 6


def test_what_cannot_be_is_said_and_leaves_nothing(run, monkeypatch):
    Path("mine").mkdir()
    Path("mine/x").touch()
    assert "mine is there already" in str(run("p", out="mine").exception)
    assert "is not a photo in a file" in str(run("https://example.org/a.jpg").exception)
    assert "is not a photo in a file" in str(run("v.mp4").exception)
    for option in ("--similarity", "--min-quality"):
        wrong = run("p", option, "nan")  # before the search
        assert "nan must be" in str(wrong.exception) and "broken" not in wrong.stderr
    monkeypatch.setattr(
        "shutil.copy2", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    assert "Cannot write people: no space left" in str(run("p").exception)
    assert sorted(path.name for path in Path().iterdir()) == ["mean.onnx", "mine", "p"] and tree(
        "mine"
    ) == ["x"]
