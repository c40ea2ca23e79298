"""What is searched: photos decoded once into files of pixels, as they are and letterboxed, with truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.landmark_files import read_landmark_truth
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import read_image

FRAME = 640
GREY = 128
SEED = 20261122
SUBSET = 150
# Photos that are timed.
PHOTOS = 8
CROPS = 500
POLICIES = ("original", "letterbox")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their faces.

    Attributes:
        key: name of files.
        title: in tables.
        photos: files of the images.
        boxes: float [M, 4] of each image, x1, y1, x2, y2.
        ignored: bool [M] of each.
        points: float [M, 5, 2] of each where the set has points, else None.
        policies: how its images are searched: "original" size, "letterbox"ed into 640x640.
        subset: indices that everybody searches: 150 of FDDB, of the other sets all.
    """

    key: str
    title: str
    photos: list[Path]
    boxes: list[np.ndarray]
    ignored: list[np.ndarray]
    points: list[np.ndarray] | None
    policies: tuple[str, ...]
    subset: np.ndarray


def image_sets(data: Path, limit: int | None = None) -> list[ImageSet]:
    """The sets of the benchmark.

    Args:
        data: folder of `fddb`, `wider`, `wider_416`, `facepoint_crops_80px`, `dlib_faces` and `negatives`,
            photos of animals without a face of a person.
        limit: images of each set, for a quick run.
    """
    fddb = read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")
    sets = [detection_set("fddb", "FDDB", fddb[:limit])]
    for key, folder, title in (
        ("wider", "wider/val", "WIDER"),
        ("wider416", "wider_416/val", "WIDER 416"),
    ):
        folder = data / folder
        images = read_widerface(folder / "wider_face_val_bbx_gt.txt", folder / "images")
        sets.append(detection_set(key, title, images[:limit]))
    crops = read_landmark_truth(data / "facepoint_crops_80px/new_testing.txt")
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(crops))[:CROPS])
    sets.append(landmark_set("crops", "80-px crops", [crops[i] for i in chosen][:limit]))
    dlib = [
        image
        for part in ("testing", "training")
        for image in read_landmark_truth(data / f"dlib_faces/{part}_with_face_landmarks.xml")
    ]
    sets.append(landmark_set("dlib", "dlib photos", dlib[:limit]))
    animals = [
        AnnotatedImage(path, np.zeros((0, 4))) for path, _ in list_images([data / "negatives"])
    ]
    sets.append(
        replace(detection_set("animals", "animals", animals[:limit]), policies=("original",))
    )
    return sets


def detection_set(key: str, title: str, images: list) -> ImageSet:
    """A set of `AnnotatedImage`s with boxes."""
    chosen = np.random.default_rng(SEED).permutation(len(images))[:SUBSET]
    return ImageSet(
        key,
        title,
        [image.path for image in images],
        [image.boxes.astype(float) for image in images],
        [image.ignored for image in images],
        None,
        POLICIES,
        np.sort(chosen),
    )


def landmark_set(key: str, title: str, images: list) -> ImageSet:
    """A set of `AnnotatedImage`s with five points a face."""
    return ImageSet(
        key,
        title,
        [image.path for image in images],
        [image.boxes.astype(float) for image in images],
        [image.ignored for image in images],
        [image.landmarks.astype(float) for image in images],
        ("original",),
        np.arange(len(images)),
    )


def decoded(images: ImageSet, index: int, policy: str, folder: Path) -> tuple[Path, float]:
    """The file of an image's pixels, written if it is not there, and its scale.

    Returns:
        (.npy of uint8 RGB [H, W, 3], factor from original pixels to those).
    """
    path = folder / images.key / policy / f"{index}.npy"
    scale_path = path.with_suffix(".scale")
    if path.is_file() and scale_path.is_file():
        return path, float(scale_path.read_text())
    pixels, scale = read_image(images.photos[index]), 1.0
    if policy == "letterbox":
        pixels, scale = letterbox(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(pixels))
    scale_path.write_text(repr(scale))
    return path, scale


def letterbox(pixels: np.ndarray, side: int = FRAME) -> tuple[np.ndarray, float]:
    """An image scaled so that its longer side is `side`, in the upper left of a grey square.

    Returns:
        (uint8 [side, side, 3], the scale).
    """
    import cv2

    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.full((side, side, 3), GREY, np.uint8)
    square[:height, :width] = cv2.resize(pixels, (width, height), interpolation=method)
    return square, scale


def scenes(data: Path, folder: Path, fddb: ImageSet) -> dict[str, list[Path]]:
    """The images that are timed: name -> files of pixels.

    One VGA image with one face, one with a hundred, and photos as they come.
    """
    from benchmarks.detect import astronaut, crops, fit

    tiles = crops(str(data / "facepoint_crops_80px/lfw_5590"))
    named = {"one face": fit(astronaut(), 640, 480), "100 faces": crowd(tiles)}
    paths = {}
    for name, pixels in named.items():
        paths[name] = [folder / "scenes" / f"{name.replace(' ', '-')}.npy"]
        paths[name][0].parent.mkdir(parents=True, exist_ok=True)
        np.save(paths[name][0], np.ascontiguousarray(pixels))
    chosen = fddb.subset[:PHOTOS]
    paths["photos"] = [decoded(fddb, int(i), "original", folder)[0] for i in chosen]
    return paths


def crowd(tiles: list[np.ndarray], columns: int = 12) -> np.ndarray:
    """Face crops side by side in a VGA image, 53 pixels each, a hundred of them."""
    import cv2

    size = 53
    canvas = np.full((480, 640, 3), GREY, np.uint8)
    for place in range(100):
        row, column = divmod(place, columns)
        tile = cv2.resize(tiles[place % len(tiles)], (size, size), interpolation=cv2.INTER_AREA)
        canvas[row * size : (row + 1) * size, column * size : (column + 1) * size] = tile
    return canvas
