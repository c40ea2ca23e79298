"""Video: what OpenCV's own writer wrote is read back; what we write, OpenCV's own reader reads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retinaface_tf.errors import ConfigError, ImageError
from retinaface_tf.images import video as video_module
from retinaface_tf.images.video import VideoWriter, is_video, open_video, read_ahead
from retinaface_tf.images.video_frames import Cut
from retinaface_tf.util.extras import is_installed

COUNT, RATE = 20, 10.0


def colour(index: int) -> tuple[int, int, int]:
    """RGB of a frame, each its own."""
    return (240 - 10 * index, 30, 20 + 10 * index)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (64, 48))
    for index in range(COUNT):
        writer.write(np.full((48, 64, 3), colour(index)[::-1], np.uint8))
    writer.release()
    return path


@pytest.fixture(params=["opencv", "ffmpeg"], autouse=True)
def by(request, monkeypatch):
    """What reads and writes."""
    if request.param == "ffmpeg" and not is_installed("av"):
        pytest.skip("needs the extra video")
    monkeypatch.setattr(video_module, "reads_by_ffmpeg", lambda: request.param == "ffmpeg")
    return request.param


def read_frames(source, *cut):
    with open_video(source, Cut(*cut)) as video:
        yield from video


def test_frames_come_in_order_as_rgb_with_their_times(clip):
    frames = list(read_frames(clip))
    assert [frame.index for frame in frames] == list(range(COUNT))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(COUNT) / RATE, atol=1e-6)
    for index, _, image in frames:
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        np.testing.assert_allclose(image[24, 32], colour(index), atol=6)


def test_what_is_known_before_reading(clip):
    with open_video(clip) as video:
        assert (video.frame_rate, video.frame_count) == (RATE, COUNT)


@pytest.mark.parametrize(
    "cut, wanted",
    [
        ((0.55, 1.15), range(6, 12)),
        ((0.0, None, 7), range(0, 20, 7)),
        ((1.0, 1.5, 2), range(10, 15, 2)),
    ],
)
def test_a_cut_gives_its_frames_with_their_own_numbers(clip, cut, wanted):
    frames = list(read_frames(clip, *cut))
    assert [frame.index for frame in frames] == list(wanted)
    for index, time, image in frames:
        assert time == pytest.approx(index / RATE)
        np.testing.assert_allclose(image[24, 32], colour(index), atol=6)


def test_a_cut_behind_the_end_is_refused(clip):
    with pytest.raises(ImageError, match="no frame from 9 s on"):
        list(read_frames(clip, 9.0))
    with pytest.raises(ConfigError, match="has no frames"):
        Cut(2.0, 1.0)


def test_reading_ahead_gives_the_same_frames_and_the_same_error(clip):
    with open_video(clip) as video:
        assert [frame.index for frame in read_ahead(iter(video))] == list(range(COUNT))

    def failing():
        yield from read_frames(clip, 0.0, 0.5)
        raise ImageError("broken")

    seen = []
    with pytest.raises(ImageError, match="broken"):
        for frame in read_ahead(failing()):
            seen.append(frame.index)
    assert seen == [0, 1, 2, 3, 4]
    frames = read_ahead(read_frames(clip))
    next(frames)
    frames.close()  # and its thread ends: the fixture's file can be closed


def test_what_is_a_video(tmp_path):
    for name in (
        "a.mp4",
        "b.MOV",
        "c.webm",
        "webcam",
        "webcam:2",
        "rtsp://a/b",
        "https://a/b.m3u8",
    ):
        assert is_video(name)
    (tmp_path / "folder.mp4").mkdir()
    for name in ("a.jpg", "webcam.jpg", "a", "https://a/b.jpg", tmp_path / "folder.mp4"):
        assert not is_video(name)
    with pytest.raises(ImageError, match="webcam:N"):
        is_video("webcam:front")


def test_videos_that_cannot_be_read(tmp_path, clip):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"no film\n" * 100)
    (tmp_path / "cut.avi").write_bytes(clip.read_bytes()[:300])
    for name, words in (
        ("absent.mp4", "no such file"),
        ("empty.mp4", "it is empty"),
        ("text.mp4", "not a video"),
        ("cut.avi", "cut.avi: "),
        (".", "folder"),
    ):
        with pytest.raises(ImageError, match=words) as caught:
            next(read_frames(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="webcam 97: there is no such camera"):
        next(read_frames("webcam:97"))


def test_video_that_breaks_off_says_so_after_its_frames(tmp_path, rng):
    path = tmp_path / "broken.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), RATE, (64, 48))
    for _ in range(COUNT):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = []
    with pytest.raises(ImageError, match=r"broken\.avi: it breaks off after \d+ of 20 frames"):
        for frame in read_frames(path):
            seen.append(frame.index)
    assert 0 < len(seen) < COUNT


@pytest.mark.parametrize("size", [(48, 64), (47, 65)])
def test_written_video_is_read_by_opencv(tmp_path, size):
    path = tmp_path / "new" / "out.mp4"
    with VideoWriter(path, RATE) as writer:
        for index in range(COUNT):
            writer.write(np.full((*size, 3), colour(index), np.uint8))
            assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["out.mp4"]
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == RATE
    for index in range(COUNT):
        good, image = capture.read()
        assert good and image.shape == (48, (size[1] + 1) // 2 * 2, 3)
        np.testing.assert_allclose(image[24, 32, ::-1], colour(index), atol=10)
    assert not capture.read()[0]
    capture.release()


def test_failed_video_leaves_nothing_behind(tmp_path):
    frame = np.zeros((48, 64, 3), np.uint8)
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), VideoWriter(path) as writer:
        writer.write(frame)
        raise KeyError("stop")
    with pytest.raises(ImageError, match="32 x 48"), VideoWriter(path) as writer:
        writer.write(frame)
        writer.write(frame[:, :32])
    with pytest.raises(ImageError, match="uint8"), VideoWriter(path) as writer:
        writer.write(frame / 255)
    with VideoWriter(path):
        pass
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="Cannot write"), VideoWriter(tmp_path / "file/o.mp4") as w:
        w.write(frame)
