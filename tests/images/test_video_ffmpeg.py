"""What the extra `video` adds: sound, times, rotation, damage, codecs. PyAV itself makes the films."""

import threading
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from retinaface_tf.errors import ImageError
from retinaface_tf.images.save import mark_in
from retinaface_tf.images.video import VideoWriter, open_video
from retinaface_tf.images.video_frames import Cut

av = pytest.importorskip("av")

MARK = "retinaface-tf output 0123456789abcdef"
TIMES = [0, 33, 70, 100, 170, 333, 340, 360, 400, 500]  # ms


def film(path, video="libx264", audio="aac", turn=0, shape=None, seconds=0.0):
    """64 x 48, its frames at `TIMES`, each of another grey; then noise up to `seconds`; a tone."""
    noise = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        pictures = file.add_stream(video, rate=25, options={"g": "5"})
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 1000)
        if shape:
            pictures.codec_context.sample_aspect_ratio = shape
        if turn:
            pictures.set_display_rotation(turn)
        sound = file.add_stream(audio, rate=48000, layout="mono") if audio else None
        for number, time in enumerate([*TIMES, *range(540, int(1000 * seconds), 40)]):
            image = np.full((48, 64, 3), 20 + 20 * number % 200, np.uint8)
            image[:16, :16] = (255, 0, 0)
            if number >= len(TIMES):
                image = noise.integers(0, 256, (48, 64, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode())
        for start in range(0, 24000 if sound else 0, 1024):
            wave = 8000 * np.sin(np.arange(start, start + 1024) / 20)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            frame.rate, frame.pts = 48000, start
            file.mux(sound.encode(frame))
        if sound:
            file.mux(sound.encode())
    return path


def packets(path):
    """Time and bytes of each packet of sound."""
    with av.open(str(path)) as file:
        return [
            (round(float(packet.pts * packet.time_base), 2), bytes(packet))
            for packet in file.demux(audio=0)
            if packet.pts is not None
        ]


def times(path):
    with av.open(str(path)) as file:
        return [frame.time for frame in file.decode(video=0)]


def copied(source, path, cut=Cut()):  # noqa: B008
    with (
        open_video(source, cut) as video,
        VideoWriter(path, video.frame_rate, MARK, like=video) as writer,
    ):
        for frame in video:
            writer.write(frame.image, frame.time)
    return path


@pytest.mark.parametrize(
    "name, codecs",
    [
        ("a.mp4", ("libx264", "aac")),
        ("a.mov", ("libx264", "aac")),
        ("a.mkv", ("libx264", "libopus")),
        ("a.webm", ("libvpx-vp9", "libopus")),
        ("a265.mp4", ("libx265", "aac")),
    ],
)
def test_times_sound_and_codec_are_kept(tmp_path, name, codecs):
    source = film(tmp_path / name, *codecs)
    path = copied(source, tmp_path / f"new{source.suffix}")
    np.testing.assert_allclose(times(path), np.array(TIMES) / 1000, atol=6e-4)
    assert packets(path) == packets(source)
    with av.open(str(path)) as new, av.open(str(source)) as old:
        for kind in ("video", "audio"):
            one, other = (getattr(file.streams, kind)[0] for file in (new, old))
            assert one.codec.canonical_name == other.codec.canonical_name
        assert [f.to_ndarray(format="rgb24")[30, 40, 0] for f in new.decode(video=0)] == (
            pytest.approx([20 + 20 * k % 200 for k in range(len(TIMES))], abs=4)
        )
    assert mark_in(path) == MARK


def test_a_cut_takes_its_sound_with_it(tmp_path):
    source = film(tmp_path / "a.mp4")
    path = copied(source, tmp_path / "b.mp4", Cut(0.15, 0.38))
    np.testing.assert_allclose(times(path), np.array([0, 163, 170, 190]) / 1000, atol=6e-4)
    sound = {content for _, content in packets(path)}
    assert sound and sound < {content for _, content in packets(source)}
    assert 0 <= packets(path)[0][0] < 0.03 and packets(path)[-1][0] < 0.25


def test_a_turned_video_is_upright_and_its_pixels_keep_their_shape(tmp_path):
    source = film(tmp_path / "a.mp4", turn=90, shape=Fraction(4, 3))
    with open_video(source) as video:
        frame = next(iter(video))
    assert frame.image.shape == (64, 48, 3)
    assert frame.image[-8, 8, 0] > 200 > frame.image[8, 8, 0]  # anticlockwise: the corner is below
    with av.open(str(copied(source, tmp_path / "b.mp4"))) as file:
        (stream,) = file.streams.video
        assert (stream.width, stream.height) == (48, 64)
        assert stream.codec_context.sample_aspect_ratio == Fraction(3, 4)


def test_a_damaged_stretch_is_skipped_and_said(tmp_path):
    source = film(tmp_path / "a.mkv", audio=None, seconds=4.0)
    content = bytearray(source.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    source.write_bytes(content)
    seen = []
    with open_video(source) as video, pytest.raises(ImageError, match=r"damaged|breaks off"):
        for frame in video:
            seen.append(frame.time)
    assert seen[0] == 0 and seen[-1] > 3.5 and 20 < len(seen) < 97


def test_a_playlist_in_a_file_reaches_no_address_and_an_address_no_file(tmp_path):
    film(tmp_path / "a.mp4")
    for suffix in (".m3u8", ".mp4"):
        playlist = tmp_path / f"list{suffix}"
        playlist.write_text(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(ImageError, match="not a video"):
            open_video(playlist)


def test_sound_without_a_picture_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        sound = file.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        frame.rate = 48000
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(ImageError, match="has no video"):
        open_video(tmp_path / "a.mp4")


def test_a_film_is_read_from_its_address(tmp_path):
    film(tmp_path / "a.mp4")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/a.mp4"
    try:
        path = copied(address, tmp_path / "b.mp4")
        with pytest.raises(ImageError, match=r"none\.mp4: .*not found"):
            open_video(address.replace("a.mp4", "none.mp4"))
    finally:
        server.shutdown()
    assert packets(path) == packets(tmp_path / "a.mp4")
    np.testing.assert_allclose(times(path), np.array(TIMES) / 1000, atol=6e-4)
