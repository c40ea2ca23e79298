"""A film of drawn people who walk over photos, with sound: read, searched, followed, blurred, compared.

    python benchmarks/video.py PHOTOS --out DIR [--seconds 30] [--preset lite]

The film has 1080 lines, H.264, an AAC tone and uneven frame times; PyAV makes it, nobody is filmed.
Where each face is in each frame is known. With motmetrics (pip install motmetrics) also MOTA, IDF1 and
switches of numbers are printed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import av
import cv2
import numpy as np
from blur import covered_share

from retinaface_tf import RetinaFace
from retinaface_tf.cli.blur import BlurOptions, likely_faces
from retinaface_tf.cli.video_options import search_frames
from retinaface_tf.data.synthetic.head_mesh import draw_person, draw_view, rotation
from retinaface_tf.faces.blurring import blur_boxes
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.tracks import boxes_to_hide, link
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import read_image
from retinaface_tf.images.video import open_video, read_ahead
from retinaface_tf.images.video_frames import WHOLE
from retinaface_tf.images.video_opencv import OpenCVReader

WIDTH, HEIGHT, RATE = 1920, 1080, 25
PEOPLE, TURNS, PILLAR = 7, 25, (900, 1010)  # a pillar hides who walks behind it


class Walker:
    """A drawn person: where the face is, and how it is turned, at each second."""

    def __init__(self, rng: np.random.Generator, number: int):
        self.head = draw_person(rng, 240)
        self.height = rng.uniform(60, 190)
        self.middle = np.array([rng.uniform(300, 1600), 180 + 110 * number])
        self.reach = np.array([rng.uniform(200, 800), rng.uniform(10, 60)])
        self.pace, self.phase = rng.uniform(0.15, 0.5, 2), rng.uniform(0, 6, 4)
        self.turning = rng.uniform(0.3, 0.9)
        light, tint = np.array([rng.normal(0, 0.6), -0.5, 0.9]), np.ones(3)
        self.angles = np.linspace(-1.5, 1.5, TURNS)
        self.views = [
            draw_view(self.head, rotation(yaw, 0, 0), light, 0.6, tint, 240) for yaw in self.angles
        ]

    def at(self, seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Colours times opacity, opacity, corner and box of the face."""
        middle = self.middle + self.reach * np.sin(self.pace * seconds + self.phase[:2])
        yaw = 1.35 * np.sin(self.turning * seconds + self.phase[2])
        height = self.height * (1 + 0.25 * np.sin(0.4 * seconds + self.phase[3]))
        view = self.views[int(np.argmin(np.abs(self.angles - yaw)))]
        scale = height / (view.box[3] - view.box[1])
        side = round(240 * scale)
        soft = cv2.GaussianBlur(view.alpha, (0, 0), 0.8)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(view.image * soft[..., None], (side, side), interpolation=method)
        alpha = np.clip(cv2.resize(soft, (side, side), interpolation=method), 0, 1)
        box = view.box * side / 240
        corner = np.round(middle - (box[:2] + box[2:]) / 2).astype(int)
        return image, alpha, corner, box + np.tile(corner, 2)


def draw_film(
    photos: Path, seconds: float, seed: int = 0
) -> Iterator[tuple[np.ndarray, dict[int, np.ndarray]]]:
    """Frames, and the box of each face of which more than half is seen, by person."""
    rng = np.random.default_rng(seed)
    places = [read_image(path) for path, _ in list_images([photos])[:3]]
    places = [cv2.resize(place, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for place in places]
    walkers = [Walker(rng, number) for number in range(PEOPLE)]
    # Whoever is larger is nearer, and hides the others.
    order = sorted(range(PEOPLE), key=lambda number: walkers[number].height)
    grain = rng.normal(0, 3, (HEIGHT + 64, WIDTH + 64, 1)).astype(np.float32)
    count = round(seconds * RATE)
    for number in range(count):
        place = places[number * len(places) // count]
        canvas, owner = place.astype(np.float32), np.full((HEIGHT, WIDTH), -1)
        boxes = {}
        for person in order:
            image, alpha, (x, y), box = walkers[person].at(number / RATE)
            left, top, right, bottom = (
                *(max(x, 0), max(y, 0)),
                *(min(x + len(alpha), WIDTH), min(y + len(alpha), HEIGHT)),
            )
            if right <= left or bottom <= top:
                continue
            part, area = (
                np.s_[top - y : bottom - y, left - x : right - x],
                np.s_[top:bottom, left:right],
            )
            canvas[area] = canvas[area] * (1 - alpha[part][..., None]) + image[part]
            owner[area][alpha[part] > 0.5] = person
            boxes[person] = box
        canvas[:, PILLAR[0] : PILLAR[1]] = (96, 90, 82)
        owner[:, PILLAR[0] : PILLAR[1]] = -1
        shift = rng.integers(0, 64, 2)
        canvas += grain[shift[0] : shift[0] + HEIGHT, shift[1] : shift[1] + WIDTH]
        yield (
            np.clip(canvas, 0, 255).astype(np.uint8),
            {person: box for person, box in boxes.items() if seen_share(owner, person, box) > 0.5},
        )


def seen_share(owner: np.ndarray, person: int, box: np.ndarray) -> float:
    """How much of a face's box shows the person."""
    x1, y1, x2, y2 = np.round(box).astype(int)
    part = owner[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    return float((part == person).sum() / max((x2 - x1) * (y2 - y1), 1))


def write_film(path: Path, photos: Path, seconds: float) -> list[dict[int, np.ndarray]]:
    """The film with its sound; the true boxes of each frame."""
    truth, ticks = [], Fraction(1, 1000)
    with av.open(str(path), "w") as file:
        pictures = file.add_stream(
            "libx264", rate=RATE, options={"crf": "21", "preset": "veryfast"}
        )
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pictures.codec_context.time_base = ticks
        sound = file.add_stream("aac", rate=48000, layout="mono")
        for number, (image, boxes) in enumerate(draw_film(photos, seconds)):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = round(1000 * number / RATE) + number * 7 % 11, ticks
            file.mux(pictures.encode(frame))
            truth.append(boxes)
        file.mux(pictures.encode())
        for start in range(0, int(48000 * seconds), 1024):
            wave = 6000 * np.sin(np.arange(start, start + 1024) * 2 * np.pi * 440 / 48000)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            frame.rate, frame.pts = 48000, start
            file.mux(sound.encode(frame))
        file.mux(sound.encode())
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, help="a folder; its first three photos are the places")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--preset", default="lite")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    film = options.out / "film.mp4"
    truth = write_film(film, options.photos, options.seconds)
    faces = sum(map(len, truth))
    print(f"{len(truth)} frames of {WIDTH} x {HEIGHT}, {faces} faces of {PEOPLE} people")
    detector = RetinaFace.from_preset(options.preset)
    speed(film, detector)
    chosen = BlurOptions(preset=options.preset)
    weak = chosen.tracking.least
    with open_video(film) as video:
        rate = video.frame_rate
        found = [
            faces
            for _, faces in search_frames(
                detector, read_ahead(iter(video)), 8, film.name, threshold=weak
            )
        ]
    follow(found, truth, rate)
    missed(found, truth, rate, chosen)
    blurred(film, options.out / "blurred", options.preset)


def speed(film: Path, detector: RetinaFace) -> None:
    """Images a second of the old way, one after the other by OpenCV, and of the new one."""

    def old_reader():
        return OpenCVReader(str(film), None, WHOLE)

    for name, opened in (("OpenCV", old_reader), ("FFmpeg", lambda: open_video(film))):
        begun = time.perf_counter()
        with opened() as video:
            count = sum(1 for _ in video)
        print(f"read by {name}: {count / (time.perf_counter() - begun):.1f} images/s")
    begun = time.perf_counter()
    with old_reader() as video:
        for frame in video:
            detector.detect(frame.image)
    old = count / (time.perf_counter() - begun)
    begun = time.perf_counter()
    with open_video(film) as video:
        for _ in search_frames(detector, read_ahead(iter(video)), 8, film.name):
            pass
    new = count / (time.perf_counter() - begun)
    print(f"searched: {old:.1f} images/s one by one, {new:.1f} read ahead: {new / old:.2f} times")


def follow(found: list[Faces], truth: list[dict[int, np.ndarray]], rate: float) -> None:
    """MOTA, IDF1 and switches, of the detections as they are and of tracks with gaps filled."""
    try:
        import motmetrics
    except ImportError:
        print("tracks: motmetrics is not installed")
        return
    if not hasattr(np, "asfarray"):  # which motmetrics 1.4 calls and numpy 2 has not
        np.asfarray = lambda values: np.asarray(values, float)
    tracks = link(found, rate)
    accumulators, names = [], []
    for name, made in (
        ("as detected", tracks),
        ("gaps filled, smoothed", [track.smoothed() for track in tracks]),
    ):
        by_frame = [{} for _ in truth]
        for track in made:
            for position, box in zip(track.frames, track.boxes):
                by_frame[position][track.number] = box
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for true, own in zip(truth, by_frame):
            overlaps = pairwise_iou(
                np.array([*true.values()]).reshape(-1, 4), np.array([*own.values()]).reshape(-1, 4)
            )
            accumulator.update([*true], [*own], np.where(overlaps >= 0.4, 1 - overlaps, np.nan))
        accumulators.append(accumulator)
        names.append(name)
    host = motmetrics.metrics.create()
    wanted = ["mota", "idf1", "num_switches", "num_fragmentations", "num_false_positives"]
    wanted += ["num_misses", "num_unique_objects"]
    print(host.compute_many(accumulators, metrics=wanted, names=names).to_string())
    print(f"{len(tracks)} tracks")


def missed(
    found: list[Faces], truth: list[dict[int, np.ndarray]], rate: float, options: BlurOptions
) -> None:
    """Faces in frames whose eyes are not covered, with and without following them."""
    ways = {
        "each frame alone, 0.5": [f.boxes[f.scores >= 0.5] for f in found],
        "each frame alone, 0.2": [f.boxes[f.scores >= 0.2] for f in found],
        "followed": boxes_to_hide(
            [likely_faces(faces) for faces in found], rate, options.alone(rate), options.tracking
        ),
    }
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    total = sum(map(len, truth))
    for name, boxes in ways.items():
        lost, frames, area = 0, 0, 0.0
        for own, true in zip(boxes, truth):
            covered = blur_boxes(white, own, "solid")[..., 0] == 0
            seen = sum(covered_share(covered, box) < 0.5 for box in true.values())
            lost, frames, area = lost + seen, frames + (seen > 0), area + covered.mean()
        print(
            f"{name}: {lost} of {total} faces missed ({100 * lost / total:.2f} %), in {frames} of "
            f"{len(truth)} frames; {100 * area / len(truth):.1f} % of the picture is blurred"
        )


def blurred(film: Path, out: Path, preset: str) -> None:
    """`blur` as a person calls it; its sound and times against the film's."""
    command = [sys.executable, "-m", "retinaface_tf", "blur", str(film), "--out", str(out)]
    begun = time.perf_counter()
    subprocess.run([*command, "--preset", preset, "--overwrite"], check=True)
    spent = time.perf_counter() - begun
    copy = out / film.name
    times, sounds = zip(*(times_and_sound(path) for path in (film, copy)))
    apart = float(np.abs(np.subtract(*times)).max()) if len(times[0]) == len(times[1]) else np.nan
    sizes = [path.stat().st_size / 1e6 for path in (film, copy)]
    print(
        f"blurred: {spent:.1f} s, {len(times[0]) / spent:.1f} images/s; frame times differ by at most "
        f"{1000 * apart:.3f} ms; sound {'the same' if sounds[0] == sounds[1] else 'DIFFERENT'} in "
        f"{len(sounds[0])} packets; {sizes[0]:.1f} MB before, {sizes[1]:.1f} MB after"
    )


def times_and_sound(path: Path) -> tuple[list[float], list[bytes]]:
    with av.open(str(path)) as file:
        times = [frame.time for frame in file.decode(video=0)]
    with av.open(str(path)) as file:
        return times, [bytes(packet) for packet in file.demux(audio=0)]


if __name__ == "__main__":
    main()
