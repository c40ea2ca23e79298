"""Draws the pictures of README.md and of the pages on detecting, blurring and videos, by their commands.

    python docs/tools/what_you_can_do.py             # or some of them: overview found crops ...

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


def titled(picture: np.ndarray, text: str, height: int = HEIGHT) -> np.ndarray:
    """The picture at one height, with a line of text below."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    tile = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    tile = cv2.copyMakeBorder(tile, 0, BAR, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    place = (8, height + 18)
    return cv2.putText(
        tile, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (20, 20, 20), 1, cv2.LINE_AA
    )


def write(name: str, tiles: list[np.ndarray]) -> None:
    """Tiles side by side."""
    (DOCS / name).write_bytes(encode_jpeg(np.hstack(tiles), quality=85))


def drawn_crowd(folder: Path) -> Path:
    """A scene of `data synth` with many faces."""
    run("data", "synth", folder / "scenes", "--count", "40", "--size", "768", "--max-faces", "60",
        "--min-face", "18", "--seed", "11", "--quiet")  # fmt: skip
    return folder / "scenes/images/synthetic-000039.jpg"


def overview(photo: Path, folder: Path) -> None:
    """A drawn crowd and a portrait: what the package makes of them."""
    crowd = drawn_crowd(folder)
    head = cv2.resize(load_image(photo)[:280, 84:364], None, fx=2, fy=2)
    photo = folder / "portrait.png"
    cv2.imwrite(str(photo), head[..., ::-1])
    run("detect", photo, crowd, "--draw", folder / "found")
    run("detect", photo, "--preset", "mobilenet0.25-mesh", "--draw", folder / "mesh")
    run("blur", photo, "--out", folder / "hidden")
    run("detect", photo, "--crops", folder / "cut", "--crop-kind", "square", "--crop-margin", "0.2")
    tiles = [
        titled(load_image(folder / name), text)
        for name, text in (
            (f"found/{photo.name}", "boxes, scores, points"),
            (f"mesh/{photo.name}", "mesh and head pose"),
            (f"hidden/{photo.name}", "blur"),
            (next((folder / "cut").iterdir()), "crops"),
        )
    ]
    portrait = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
    found = titled(load_image(folder / "found" / crowd.name), "crowds", 2 * HEIGHT + BAR)
    write("overview.jpg", [found, portrait])


def found(photo: Path, folder: Path) -> None:
    """A crowd searched at its own size and at twice that."""
    crowd = drawn_crowd(folder)
    tiles = []
    for size in ("original", "1500"):
        lines, drawn = folder / f"{size}.jsonl", folder / size
        run("detect", crowd, "--size", size, "--json", lines, "--draw", drawn)
        text = f"--size {size}: {len(json.loads(lines.read_text())['faces'])} faces"
        tiles.append(titled(load_image(drawn / crowd.name), text, 2 * HEIGHT))
    write("detect.jpg", tiles)


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
    (folder / "q").mkdir()
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


def meshes(photo: Path, folder: Path) -> None:
    """A face with its mesh, and the mesh alone."""
    head = cv2.resize(load_image(photo)[40:200, 130:310], None, fx=4, fy=4)
    faces = RetinaFace.from_preset("mobilenet0.25-mesh").detect(head)
    alone = faces.draw(np.full_like(head, 30))
    write("mesh.jpg", [cv2.resize(im, (405, 360)) for im in (faces.draw(head), alone)])


def training(photo: Path, folder: Path) -> None:
    """What fine-tuning on dark drawn scenes brings (four minutes)."""
    run("data", "synth", folder / "dark", "--count", "150", "--size", "320", "--max-faces", "8",
        "--min-face", "24", "--seed", "5", "--quiet")  # fmt: skip
    for path in (folder / "dark/images").iterdir():
        cv2.imwrite(str(path), cv2.convertScaleAbs(cv2.imread(str(path)), alpha=0.08))
    run("train", "--finetune", "lite", "--data", folder / "dark", "--out", folder / "run", "--epochs", "8")  # fmt: skip
    sheet = load_image(folder / "run/detections.png")
    write("train.jpg", [cv2.resize(sheet[: len(sheet) * 52 // 100], None, fx=0.5, fy=0.5)])


def notebook(photo: Path, folder: Path) -> None:
    """What a notebook shows of faces."""
    page = RetinaFace.from_preset().detect(photo)._repr_html_()
    (DOCS / "notebook.jpg").write_bytes(base64.b64decode(re.search(r"base64,([^\"]+)", page)[1]))


PICTURES = {
    f.__name__: f
    for f in (overview, found, crops, quality, blurred, film, meshes, training, notebook)
}


def main() -> None:
    """Draws those that the command line names, or all."""
    photo = Path(demo_photo(print))
    for picture in sys.argv[1:] or PICTURES:
        with tempfile.TemporaryDirectory() as folder:
            PICTURES[picture](photo, Path(folder))


if __name__ == "__main__":
    main()
