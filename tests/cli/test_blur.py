"""`retinaface-tf blur`: copies whose faces are blurred, whatever else is in the folder."""

import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.images.read import read_image
from retinaface_tf.images.video import open_video
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image
from tests.helpers.film import film
from tests.helpers.mean_colour import mean_colour_onnx

cli.with_commands()


@pytest.fixture
def av():
    """What reads and writes video; photos do without it."""
    return pytest.importorskip("av")


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command in a folder of its own, around a network whose answers are known."""
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()

    def call(*arguments, **options):
        arguments = ["blur", "--scales", "original", *map(str, arguments)]
        return CliRunner().invoke(cli.app, arguments, **options)

    return call


def photo(path, **options):
    # A white cell is a face of 32 pixels round it.
    Image.fromarray(black_image(128, 192, (8, 4))).save(path, **options)


def test_copies_are_blurred_and_originals_are_not_touched(run):
    photo("in/a.png")
    photo("in/b.jpg", quality=95)
    before = {path: path.read_bytes() for path in Path("in").iterdir()}
    done = run("in", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "2 copies written" in done.stdout and "wrote out/a.png: 1 face" in done.stderr
    assert {path: path.read_bytes() for path in Path("in").iterdir()} == before
    for name in ("a.png", "b.jpg"):
        image = read_image(Path("out") / name)
        assert 0 < image[64:72, 32:40].max() < 120 and image[60, 44].any()
        assert not image[:, 100:].max() > 6


@pytest.mark.parametrize("option, kept", [("--facts", True), ("--no-facts", False)])
def test_place_and_time_of_a_photo_stay_or_not(run, option, kept):
    exif = Image.Exif()
    exif[306] = "2026:01:02 03:04:05"
    photo("in/a.jpg", exif=exif)
    done = run("in/a.jpg", "--out", "out", option)
    assert done.exit_code == 0, done.output
    with Image.open("out/a.jpg") as image:
        assert (306 in image.getexif()) == kept


@pytest.mark.parametrize("option, kept", [("--facts", True), ("--no-facts", False)])
def test_the_title_of_a_video_stays_or_not(run, av, option, kept):
    film(Path("in/b.mp4"), title="a title")
    done = run("in/b.mp4", "--out", "out", option)
    assert done.exit_code == 0, done.output
    with av.open("out/b.mp4") as video:
        assert ("title" in video.metadata) == kept


def test_a_run_goes_on_and_replaces_only_its_own(run):
    for name in ("a.png", "b.png"):
        photo(Path("in") / name)
    Path("out").mkdir()
    stranger = b"not ours"
    Path("out/a.png").write_bytes(stranger)
    assert run("in", "--out", "out").exit_code == 0
    assert Path("out/a.png").read_bytes() == stranger and Path("out/a_2.png").exists()
    again = run("in", "--out", "out", "--resume")
    assert "0 copies written" in again.stdout
    assert "already there and left as they are: 2" in again.stderr
    Path("out/b.png").unlink()
    assert "1 copy written" in run("in", "--out", "out", "--resume").stdout
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.png", "a_2.png", "b.png"]
    # Into the folder of the photos: each copy has a name of its own.
    photos = {path: path.read_bytes() for path in Path("in").iterdir()}
    assert run("in", "--out", "in").exit_code == 0
    assert all(path.read_bytes() == content for path, content in photos.items())
    assert len(list(Path("in").iterdir())) == 4


def test_what_cannot_be_read_is_said_and_the_rest_is_written(run):
    photo("in/a.png")
    Path("in/b.jpg").write_bytes(b"\xff\xd8\xff nothing")
    done = run("in/b.jpg", "in/a.png", "in/none.jpg", "--out", "out")
    assert done.exit_code == 1 and done.stderr.count("error: Cannot read") == 2
    assert [p.name for p in Path("out").iterdir()] == ["a.png"]
    assert run("in/a.png", "--out", "o", "--method", "mosaic").exit_code == 1
    assert "threshold=7" in str(run("in/a.png", "--out", "o", "--threshold", "7").exception)
    assert not Path("o").exists()


def test_what_cannot_be_searched_is_named_and_nothing_counts_as_written(run, av):
    photo("in/a.png")
    film(Path("in/b.mp4"), count=2)
    done = run("in/a.png", "in/b.mp4", "--out", "out", "--scales", "99999999")
    assert done.exit_code == 1 and "0 copies" in done.stdout and "wrote" not in done.stderr
    for name in ("in/a.png", "in/b.mp4"):
        assert f"error: Cannot search {name}: an image of" in done.stderr
    assert ".results" not in done.stderr and not list(Path("out").glob("*"))


def test_frames_of_an_animation_and_standard_input_are_blurred(run):
    frames = [Image.fromarray(black_image(128, 192, (8, 4 + k))) for k in range(3)]
    frames[0].save("in/a.gif", save_all=True, append_images=frames[1:], duration=50)
    assert "wrote out/a.gif: 3 faces" in run("in", "--out", "out").stderr
    with Image.open("out/a.gif") as after:
        for number in range(3):
            after.seek(number)
            pixels = np.asarray(after.convert("RGB"))
            assert pixels[64:72, 32 + 8 * number : 40 + 8 * number].max() < 120
    photo("in/b.jpg")
    done = run("-", "--out", "out", input=Path("in/b.jpg").read_bytes())
    assert done.exit_code == 0 and "wrote out/stdin.jpg" in done.stderr


def test_an_address_in_the_own_network_is_read_with_the_option_its_error_names(run):
    photo("in/b.jpg")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/in/b.jpg"
        refused = run(address, "--out", "out")
        done = run(address, "--out", "out", "--allow-private")
        server.shutdown()
    assert refused.exit_code == 1 and "--allow-private" in refused.stderr
    assert done.exit_code == 0 and "wrote out/b.jpg: 1 face" in done.stderr, done.output


def test_a_video_keeps_its_sound_and_times_and_nobody_is_missed(run, av):
    film(Path("in/a.mp4"), lost=(6, 7, 8), weak=(0, 1))
    before = Path("in/a.mp4").read_bytes()
    done = run("in/a.mp4", "--out", "out")
    assert done.exit_code == 0, done.output
    assert "wrote out/a.mp4: 15 frames" in done.stderr and Path("in/a.mp4").read_bytes() == before
    with av.open("out/a.mp4") as new, av.open("in/a.mp4") as old:
        for number, (frame, was) in enumerate(zip(new.decode(video=0), old.decode(video=0))):
            assert frame.time == pytest.approx(was.time, abs=1e-3)
            # Where the face is, in the frames in which it is not found too.
            one, other = (f.to_ndarray(format="gray")[60:84, 26:46] for f in (frame, was))
            assert one.std() < 0.6 * other.std(), number
    with av.open("out/a.mp4") as new, av.open("in/a.mp4") as old:
        assert [bytes(p) for p in new.demux(audio=0)] == [bytes(p) for p in old.demux(audio=0)]
    assert "0 copies" in run("in/a.mp4", "--out", "out", "--resume").stdout
    part = run("in/a.mp4", "--out", "part", "--from", "0.2", "--to", "0.4")
    assert "wrote part/a.mp4: 5 frames" in part.stderr
    other = run("in/a.mp4", "--out", "part", "--from", "0.3", "--to", "0.4", "--resume")
    assert "wrote part/a_2.mp4" in other.stderr  # another part is no copy of this one


def test_a_damaged_video_is_blurred_as_far_as_it_can_be_read(run, av):
    film(Path("in/a.mkv"), count=60)
    content = Path("in/a.mkv").read_bytes()
    Path("in/a.mkv").write_bytes(content[: len(content) // 2])
    done = run("in/a.mkv", "--out", "out", "--method", "solid")
    assert done.exit_code == 1 and "error: Cannot read on from in/a.mkv" in done.stderr
    with open_video("out/a.mkv") as video:
        frames = list(video)
    assert 5 < len(frames) < 60
    assert all(frame.image[64:72, 32:40].max() < 40 for frame in frames)
    assert run("webcam", "--out", "out").exit_code == 1


def test_who_is_kept_stays_as_they_are(run):
    """Faces of two colours round white cells; the embedder tells colours apart."""
    pytest.importorskip("onnxruntime")
    mean_colour_onnx(Path("mean.onnx"), "nchw")
    red, blue = (np.full((128, 192, 3), colour, np.uint8) for colour in ((160, 0, 0), (0, 0, 160)))
    both = np.hstack([red, blue])
    for image, columns in ((red, [4]), (blue, [4]), (both, [4, 30])):
        for column in columns:
            image[64:72, 8 * column : 8 * column + 8] = 255
    for name, image in (("red", red), ("blue", blue), ("in/both", both)):
        Image.fromarray(image).save(f"{name}.png")
    chosen = ("--embedder", "mean.onnx", "--mean", "0", "--scale", "1", "--similarity", "0.99")
    done = run("in", "--out", "out", "--keep", "red.png", *chosen)
    assert done.exit_code == 0, (done.output, done.exception)
    copy = read_image("out/both.png")
    changed = (copy != both).any(axis=2)
    assert not changed[:, :100].any() and changed[68, 244]
    run("in", "--out", "all", "--keep", "red.png,blue.png", *chosen)
    assert (read_image("all/both.png") == both).all()
    assert "one" in str(run("in", "--out", "o", "--keep", "in/both.png", *chosen).exception)
    assert "--embedder" in str(run("in", "--out", "o", "--keep", "red.png").exception)
    wrong = run("in", "--out", "o", "--keep", "red.png", *chosen, "--similarity", "nan")
    assert "similarity=nan" in str(wrong.exception)
