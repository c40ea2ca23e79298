"""Draws the pictures of docs/what-you-can-do.md, blur.md and video.md, by the commands of these pages.

    python docs/tools/what_you_can_do.py

The portrait is NASA's (public domain), which the extra [demo] fetches; the other faces are drawn.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf import RetinaFace, load_image
from retinaface_tf.images.save import encode_jpeg
from retinaface_tf.images.video import open_video
from retinaface_tf.images.video_frames import Cut
from retinaface_tf.sources.demo_photo import demo_photo

DOCS = Path(__file__).resolve().parents[1]
HEIGHT, BAR = 200, 26


def run(*words: str | Path) -> None:
    """A command of the package."""
    subprocess.run([sys.executable, "-m", "retinaface_tf", *map(str, words)], check=True)


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture at one height, with a line of text below."""
    width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
    tile = cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)
    tile = cv2.copyMakeBorder(tile, 0, BAR, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    place = (8, HEIGHT + 18)
    return cv2.putText(
        tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA
    )


def write(name: str, tiles: list[np.ndarray]) -> None:
    """Tiles side by side."""
    (DOCS / name).write_bytes(encode_jpeg(np.hstack(tiles), quality=85))


def crops(photo: Path, folder: Path) -> None:
    """The kinds of crops."""
    tiles = []
    for kind, margin in (("aligned", 0), ("ffhq", 0), ("square", 0.4), ("box", 0)):
        out = folder / kind
        run("detect", photo, "--crops", out, "--crop-kind", kind, "--crop-margin", margin)
        text = f"{kind}, margin {margin}" if margin else kind
        tiles.append(titled(load_image(next(out.iterdir())), text))
    write("crops.jpg", tiles)


def quality(photo: Path, folder: Path) -> None:
    """Blurred copies of a portrait, and drawn faces, with their figures."""
    image = load_image(photo)
    copies = [image, *(cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (2, 4, 8))]
    for number, copy in enumerate(copies):
        cv2.imwrite(str(folder / f"q/{number}.png"), copy[..., ::-1])
    run("data", "synth", folder / "drawn", "--count", "6", "--size", "192", "--max-faces", "1",
        "--min-face", "70", "--seed", "7", "--quiet")  # fmt: skip
    places = [folder / "q", folder / "drawn/images"]
    lines = folder / "quality.jsonl"
    run(
        "detect",
        *places,
        "--quality",
        "--largest",
        "1",
        "--crops",
        folder / "best",
        "--json",
        lines,
    )
    found = [face for line in lines.read_text().splitlines() for face in json.loads(line)["faces"]]
    found.sort(key=lambda face: -face["quality"])
    write("quality.jpg", [titled(load_image(f["crop"]), f"{f['quality']:.2f}") for f in found[:8]])


def blurred(photo: Path, folder: Path) -> None:
    """The ways to hide a face."""
    tiles = [titled(load_image(photo), "the photo")]
    for method, shape in (("gaussian", "ellipse"), ("pixelate", "box"), ("solid", "ellipse")):
        out = folder / method
        run("blur", photo, "--out", out, "--method", method, "--shape", shape)
        tiles.append(titled(load_image(out / photo.name), f"{method}, {shape}"))
    write("blur.jpg", tiles)


def film(photo: Path, folder: Path) -> None:
    """A frame of a drawn film before a blurred photo, with its faces followed, and blurred."""
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from video import write_film

    (folder / "places").mkdir()
    backdrop = cv2.GaussianBlur(load_image(photo), (0, 0), 15)
    cv2.imwrite(str(folder / "places/0.png"), backdrop[..., ::-1])
    write_film(folder / "film.mp4", folder / "places", 3)
    run("detect", folder / "film.mp4", "--track", "--draw", folder / "followed")
    run("blur", folder / "film.mp4", "--out", folder / "hidden")
    tiles = []
    for name, text in (
        ("film.mp4", "a drawn film"),
        ("followed/film.mp4", "detect --track --draw"),
        ("hidden/film.mp4", "blur"),
    ):
        with open_video(folder / name, Cut(start=1.6)) as video:
            tiles.append(titled(next(iter(video)).image, text))
    write("video.jpg", tiles)


def main() -> None:
    """Draws all."""
    photo = Path(demo_photo(print))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "q").mkdir()
        crops(photo, folder)
        quality(photo, folder)
        blurred(photo, folder)
        film(photo, folder)
    page = RetinaFace.from_preset().detect(photo)._repr_html_()
    (DOCS / "notebook.jpg").write_bytes(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]))


if __name__ == "__main__":
    main()
