"""No output of `detect` replaces an input or a stranger's file, and a stopped run goes on."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.cli.output_names import OutputNames, own_stems
from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.save import mark_in, mark_of, save_image
from retinaface_tf.images.video import open_video
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image
from tests.helpers.waiting import PATIENCE

cli.with_commands()
NOISE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in a folder of its own, around a network whose answers are known."""
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)

    def call(*arguments, **options):
        return CliRunner().invoke(cli.app, ["detect", *map(str, arguments)], **options)

    return call


def photo(path, *spots, **options) -> bytes:
    """A JPEG or PNG with a face at each spot, (2, 2) without any; its bytes."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(black_image(64, 96, *(spots or [(2, 2)]))).save(path, **options)
    return Path(path).read_bytes()


def video(path, frames=5, size=(96, 64)):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, size)
    for _ in range(frames):
        writer.write(black_image(64, 96, (2, 2)))
    writer.release()


def lines(path="o.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_originals_and_strangers_are_never_replaced(run, suffix):
    before = photo(f"a.{suffix}")
    Path("d").mkdir()
    Path(f"d/a.{suffix}").write_bytes(b"mine")
    for _ in range(2):  # the second time over the outputs of the first
        assert run(f"a.{suffix}", "--draw", ".", "--crops", ".").exit_code == 0
        assert run(f"a.{suffix}", "--draw", "d").exit_code == 0
    assert Path(f"a.{suffix}").read_bytes() == before
    assert Path(f"d/a.{suffix}").read_bytes() == b"mine"
    names = sorted(path.name for path in Path().rglob("*.*"))
    assert names == sorted(
        [f"a.{suffix}", f"a_2.{suffix}", "a_000.png", f"a.{suffix}", f"a_2.{suffix}"]
    )
    assert run(f"a.{suffix}", "--draw", "d", "--overwrite").exit_code == 0
    assert mark_in(f"d/a.{suffix}") == mark_of(f"a.{suffix}")
    assert run(f"a.{suffix}", "--draw", ".", "--overwrite").exit_code == 0
    assert Path(f"a.{suffix}").read_bytes() == before


def test_a_drawing_of_another_photo_is_not_replaced(run):
    photo("x/a.png")
    photo("y/a.png", (5, 5))
    run("x/a.png", "--draw", "d")
    first = Path("d/a.png").read_bytes()
    run("y/a.png", "--draw", "d", "--json", "o.jsonl")
    assert Path("d/a.png").read_bytes() == first and lines()[0]["drawn"] == "d/a_2.png"


def test_inputs_of_one_stem_or_name_have_outputs_of_their_own(run):
    photo("p/a.png")
    photo("p/a.jpg", (1, 1), (1, 8), quality=100)
    photo("q/a.png", (3, 3))
    video("p/a.avi")
    video("q/a.avi")
    words = ("p/a.png", "p/a.jpg", "q/a.png", "p/a.avi", "q/a.avi", "--json", "o.jsonl")
    result = run(*words, "--draw", "d", "--crops", "c")
    assert result.exit_code == 0, result.stderr
    entries = lines()
    crops = [face["crop"] for entry in entries for face in entry["faces"]]
    assert len(crops) == len(set(crops)) == len(list(Path("c").rglob("*"))) == 14
    drawn = {entry["image"]: entry["drawn"] for entry in entries}
    assert len(set(drawn.values())) == 5 and all(Path(path).is_file() for path in drawn.values())
    # The same from run to run, and whatever the order of the photos is.
    again = run(*words, "--draw", "d", "--crops", "c", "--overwrite")
    assert again.exit_code == 0 and lines() == entries
    assert len(list(Path("c").rglob("*"))) == 14


def test_stems_follow_from_the_set_of_names():
    names = [Path("a.jpg"), Path("x/b.png"), Path("a.png"), Path("a_png.gif")]
    assert own_stems(names) == [Path("a_jpg"), Path("x/b"), Path("a_png_2"), Path("a_png")]


def test_names_longer_than_the_file_system_takes_are_shortened(tmp_path):
    claim = OutputNames().claim
    long = ["\u7167" * 82 + f"{end}_000.png" for end in ("a", "b")]
    short = [claim(tmp_path / name) for name in long]
    assert short[0] != short[1] and all(len(os.fsencode(path.name)) <= 255 for path in short)
    for path in short:
        save_image(path, black_image(8, 8))


def test_own_outputs_in_a_folder_are_not_searched_again(run):
    photo("hol/a.png")
    photo("hol/b.jpg")
    for number in range(2):
        result = run("hol", "--draw", "hol/drawn", "--crops", "hol", "--json", f"{number}.jsonl")
        assert result.exit_code == 0
        assert [entry["image"] for entry in lines(f"{number}.jsonl")] == ["hol/a.png", "hol/b.jpg"]
    assert "4 files left out: 4 own output" in result.stderr


def test_what_a_folder_has_besides_is_said(run):
    photo("p/a.png")
    Path("p/c.mov").write_bytes(b"x")
    Path("p/b.PSD").write_bytes(b"x")
    Path("p/notes.txt").write_bytes(b"x")
    said = run("p").stderr
    assert "2 files left out: 1 MOV (videos are named one by one), 1 PSD." in said
    assert "TXT" not in said


def test_pipes_and_linked_folders_in_a_folder_are_passed_over(run):
    """A pipe would be waited for without end, a link may lead back."""
    photo("p/a.png")
    os.mkfifo("p/pipe.jpg")
    Path("p/loop").symlink_to(".")
    Path("p/c.png").symlink_to("a.png")
    result = run("p", "--draw", "p/pipe.jpg/x")
    assert "file has this name" in str(result.exception) or "cannot be made" in str(
        result.exception
    )
    result = run("p", "--json", "o.jsonl")
    assert [entry["image"] for entry in lines()] == ["p/a.png", "p/c.png"]
    assert "1 linked folder (give it by its name), 1 pipe or device." in result.stderr
    Path("p/pipe.jpg").unlink()
    assert run("p/**/*.png", "--json", "q.jsonl").exit_code == 0
    assert [entry["image"] for entry in lines("q.jsonl")] == ["p/a.png", "p/c.png"]
    photo("far/b.png")
    Path("p/far").symlink_to("../far")
    assert run("p/*/b.png", "--json", "r.jsonl").exit_code == 0  # no **: a link is followed


def test_a_folder_that_cannot_be_read_costs_only_itself(run, monkeypatch):
    photo("p/a.png")
    photo("p/locked/b.png")
    real, denied = os.scandir, PermissionError(errno.EACCES, "Permission denied", "p/locked")

    def scandir(path):
        if str(path).endswith("locked"):
            raise denied
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked"))
    result = run("p", "--json", "o.jsonl")
    assert result.exit_code == 1
    assert "Cannot read p/locked: you may not read this folder" in result.stderr
    assert [entry["image"] for entry in lines()] == ["p/a.png", "p/locked"]
    assert "Cannot read p/locked: permission denied." in str(run("p/locked").exception)


def test_pipes_devices_and_links_are_written_into(run, tmp_path):
    photo("a.png")
    os.mkfifo("pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()), daemon=True)
    reader.start()
    assert run("a.png", "--json", "pipe").exit_code == 0
    reader.join(PATIENCE)
    assert json.loads(read[0])["image"] == "a.png" and stat.S_ISFIFO(os.lstat("pipe").st_mode)
    Path("target.jsonl").touch()
    Path("link.jsonl").symlink_to("target.jsonl")
    assert run("a.png", "--json", "link.jsonl").exit_code == 0
    assert Path("link.jsonl").is_symlink() and len(lines("target.jsonl")) == 1
    if os.geteuid() == 0:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert run("a.png", "--json", "null").exit_code == 0
        assert stat.S_ISCHR(os.lstat("null").st_mode)


def test_json_lines_that_are_there_are_kept(run):
    before = photo("a.png")
    photo("b.png")
    assert run("a.png", "--json", "o.jsonl").exit_code == 0
    kept = Path("o.jsonl").read_text()
    refused = run("b.png", "--json", "o.jsonl")
    assert refused.exit_code == 1 and "--resume" in str(refused.exception)
    assert Path("o.jsonl").read_text() == kept
    assert "one of the inputs" in str(run("a.png", "--json", "a.png", "--overwrite").exception)
    assert Path("a.png").read_bytes() == before
    Path("notes.txt").write_text("my notes\n")
    assert "line 1 is not one of" in str(run("a.png", "--json", "notes.txt", "--resume").exception)
    assert Path("notes.txt").read_text() == "my notes\n"
    for line in ('{"image": "x", "faces": 7}', '{"image": "x", "faces": null}', "[" * 9999, "[]"):
        Path("odd.jsonl").write_text(line + "\n")
        refused = run("a.png", "--json", "odd.jsonl", "--resume")
        assert "odd.jsonl line 1 is not one of" in str(refused.exception)
    assert run("b.png", "--json", "o.jsonl", "--overwrite").exit_code == 0
    assert [entry["image"] for entry in lines()] == ["b.png"]


@pytest.fixture
def small_files():
    """Files are cut at 12 KiB, as on a disk that becomes full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12288, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "gif"])
def test_an_image_that_the_disk_cannot_take_is_not_there_at_all(tmp_path, small_files, suffix):
    with pytest.raises(RetinaFaceError, match=rf"Cannot write .*a\.{suffix}: file too large"):
        save_image(tmp_path / f"a.{suffix}", NOISE, mark=mark_of("a"))
    assert not list(tmp_path.iterdir())


def test_a_video_that_the_disk_cannot_take_costs_only_itself(run, small_files):
    Path("d").mkdir()
    video("v.avi", 2)
    photo("a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Faces, "draw", lambda *_: NOISE)
        result = run("a.png", "v.avi", "w.avi", "--draw", "d")
    assert result.exit_code == 1 and "Cannot write d/v.mp4: file too large" in result.stderr
    assert "w.avi: there is no such file" in result.stderr and not Path("d/v.mp4").exists()


@pytest.mark.parametrize("options", [(), ("--draw", "d", "--crops", "c")])
def test_a_stopped_run_goes_on_wherever_it_was_stopped(run, options):
    for number in range(4):
        photo(f"p/{number}.png")
    Path("p/broken.png").write_bytes(b"x")
    for name in ("v.avi", "w.avi"):
        video(name, 3)
    words = ("p", "p/0.png", "v.avi", "w.avi", "--json", "o.jsonl", *options)
    assert run(*words).exit_code == 1
    whole = Path("o.jsonl").read_bytes()
    files = {path: path.read_bytes() for path in Path().rglob("*.png")}
    assert len(whole.splitlines()) == 12
    for length in range(0, len(whole), 97):
        Path("o.jsonl").write_bytes(whole[:length])
        assert run(*words, "--resume").exit_code == 1
        assert Path("o.jsonl").read_bytes() == whole, length
    assert {path: path.read_bytes() for path in Path().rglob("*.png")} == files


def test_an_output_that_cannot_be_written_costs_only_itself(run):
    Image.new("L", (70_000, 8)).save("p.png")
    Path("p.png").rename("wide.jpg")  # JPEG takes no more than 65,500 pixels
    photo("a.png")
    result = run("wide.jpg", "a.png", "--draw", "d", "--json", "o.jsonl")
    assert result.exit_code == 1 and "Cannot write d/wide.jpg" in result.stderr
    wide, other = lines()
    assert "Cannot write" in wide["error"] and other["drawn"] == "d/a.png"
    assert [path.name for path in Path("d").iterdir()] == ["a.png"]


@pytest.mark.parametrize("option", ["--draw", "--crops", "--mesh"])
def test_folders_that_cannot_be_are_refused_before_the_work(run, option):
    photo("a.png")
    Path("file").write_text("x")
    for place in ("file", "file/deep"):
        refused = run("a.png", option, place)
        assert refused.exit_code == 1 and "cannot be made" in str(refused.exception)


@pytest.mark.parametrize(
    "words, said",
    [
        (["a.png", "--json", "p"], "Cannot write p: is a directory"),
        (["a.png", "--json", "a.png/x"], "Cannot write a.png/x: "),
        (["v.avi", "--frames", "-1"], "--frames -1 must be at least 1"),
        ([""], "empty name"),
        (["ftp://example.org/a.jpg"], "ftp://example.org/a.jpg: of addresses, only http and https"),
        (["a.png", "--resume"], "--resume needs --json FILE"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, words, said):
    photo("a.png")
    Path("p").mkdir()
    result = run(*words)
    assert result.exit_code == 1 and said in str(result.exception)


def test_any_number_of_frames_is_the_whole_video(run):
    video("v.avi", 3)
    assert run("v.avi", "--json", "o.jsonl", "--frames", 10**20).exit_code == 0
    assert len(lines()) == 3


def test_a_drawn_video_that_is_continued_has_all_frames(run):
    video("v.avi", 5)
    photo("a.png")
    words = ("a.png", "v.avi", "b.avi", "--json", "o.jsonl", "--draw", "d")
    run(*words, "--frames", 2)  # the line on b.avi, which is not there, is the last
    whole = lines()
    again = run(*words, "--resume", "--all")
    assert len(lines()) == len(whole) + 3 and "4 lines were there already" in again.stderr
    assert "not listed" not in again.stdout
    with open_video("d/v.mp4") as drawn:
        assert drawn.frame_count == len(list(drawn)) == 5


def test_a_pipe_is_no_video(run):
    os.mkfifo("v.avi")
    assert "it is a pipe or device; write it to a file first" in run("v.avi").stderr


def test_standard_input_is_an_image(run):
    content = photo("a.png")
    result = run("-", "--json", "-", input=content)
    assert json.loads(result.stdout)["image"] == "-" and result.exit_code == 0
    run("-", "--draw", "d", "--crops", "c", input=content)
    assert sorted(map(str, Path().rglob("stdin*"))) == ["c/stdin_000.png", "d/stdin.png"]


def test_the_colour_profile_is_kept(run):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo("a.jpg", icc_profile=profile, quality=100)
    photo("b.png", icc_profile=profile)
    run("a.jpg", "b.png", "--draw", "d")
    for name in ("a.jpg", "b.png"):
        assert Image.open(f"d/{name}").info["icc_profile"] == profile


def test_names_are_shown_whole_and_as_they_are(run):
    names = ["IMG [bold].png", "a :smile: b.png", f"{'long' * 40}.png", "x/a.png", "y/a.png"]
    for name in names:
        photo(name)
    video("v.avi", 2)
    shown = run(*names, "v.avi").stdout
    assert all(name in shown for name in [*names, "frame", "seconds"])
    assert "0.10" in shown  # the second frame of ten a second


def test_all_faces_are_listed_when_asked(run):
    spots = [(row, column) for row in range(1, 32, 5) for column in range(1, 60, 5)]
    Image.fromarray(black_image(256, 480, *spots)).save("a.png")
    first, every = run("a.png").stdout, run("a.png", "--all").stdout
    count = int(first.splitlines()[-1].split()[0])
    assert count > 40 and f"({count - 40} not listed: --all)" in first
    assert every.count("a.png") == count


def test_large_images_shrunk_by_default_are_said_once(run):
    Image.fromarray(np.zeros((64, 2100, 3), np.uint8)).save("a.png")
    photo("b.png")
    assert run("a.png", "b.png").stderr.count("--size original finds smaller faces") == 1
    assert "original" not in run("a.png", "--size", "original").stderr


def test_marks_are_found_in_every_format_and_nowhere_else(tmp_path):
    mark = mark_of("source.png")
    for suffix in ("png", "jpg", "webp", "tif", "gif", "bmp"):
        path = tmp_path / f"x.{suffix}"
        save_image(path, black_image(16, 16), mark=mark)
        assert mark_in(path) == mark
        with Image.open(path) as image:
            image.load()
        save_image(path, black_image(16, 16))
        assert mark_in(path) is None
    assert mark_in(tmp_path / "missing") is None and mark_in(tmp_path) is None
    assert mark_of("x.png") != mark_of("y.png") and mark_of("x.png") == mark_of("./x.png")


def test_crops_are_cut_as_asked(run):
    photo("a.png", (2, 2), (5, 9))
    words = ("--crop-kind", "square", "--crop-size", "24", "--crop-margin", "0.4")
    assert run("a.png", "--crops", "c", *words, "--json", "o.jsonl").exit_code == 0
    crops = [face["crop"] for face in lines()[0]["faces"]]
    assert crops == ["c/a_000.png", "c/a_001.png"]
    assert [Image.open(path).size for path in crops] == [(24, 24)] * 2
    run("a.png", "--crops", "d", "--crop-size", "96X112")
    assert Image.open("d/a_000.png").size == (96, 112)
    for words in (("--crop-size", "big"), ("--crop-kind", "x"), ("--crop-margin", "nan")):
        refused = run("a.png", "--crops", "e", *words)
        assert words[1] in str(refused.exception) and not Path("e").exists()


def test_quality_is_said_where_it_is_asked_for(run):
    photo("a.png", (2, 2), (5, 9))
    run("a.png", "--json", "plain.jsonl")
    assert {*lines("plain.jsonl")[0]["faces"][0]} == {"box", "score", "landmarks"}
    words = ("--sort", "position", "--largest", "1", "--crops", "c", "--csv", "f.csv")
    assert run("a.png", "--json", "o.jsonl", "--quality", *words).exit_code == 0
    (face,) = lines()[0]["faces"]
    assert 0 <= face["quality"] <= 1 and face["size"] > 0 and face["crop"] == "c/a_000.png"
    header, _ = Path("f.csv").read_text().splitlines()
    assert header.split(",")[20:] == ["quality", "sharpness", "size", "exposure", "cut_off", "crop"]
    assert run("a.png", "--min-quality", "1", "--draw", "d").stdout.startswith("0 faces in 1 image")
