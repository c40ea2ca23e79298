"""What detectors find in the sets: searched once, kept in files, gone on with."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from benchmarks.own.detectors import Detector
from benchmarks.peers.answers import Answers
from benchmarks.peers.images import FRAME, ImageSet, image_sets
from retinaface_tf.images.read import read_image
from retinaface_tf.util.files import write_whole

# Low enough for the whole precision-recall curve.
THRESHOLD = 0.02
# How a set is searched: the longer side scaled to 640 pixels, up or down; or not scaled.
SIZES = {"640": (FRAME, FRAME), "own": "original"}


def sets_of(data: Path, fddb_step: int = 1, limit: int | None = None) -> dict[str, ImageSet]:
    """The sets of the figures by key, of FDDB every n-th photo."""
    sets = {images.key: images for images in image_sets(data, limit)}
    fddb = sets["fddb"]
    every = {name: getattr(fddb, name)[::fddb_step] for name in ("photos", "boxes", "ignored")}
    sets["fddb"] = dataclasses.replace(fddb, **every, subset=np.arange(len(every["photos"])))
    return sets


def sizes_of(detector: Detector, images: ImageSet) -> list[str]:
    """How a detector searches a set; points are looked for at the images' own size alone."""
    if images.points is not None:
        return ["own"] if detector.points else []
    return ["640", "own"] if detector.any_size else ["640"]


def found_file(folder: Path, detector: Detector, images: ImageSet, size: str) -> Path:
    """Where results lie: other weights or photos make another file."""
    names = "\n".join(str(Path(*photo.parts[-3:])) for photo in images.photos)
    mark = hashlib.sha256(names.encode()).hexdigest()[:8]
    return folder / f"{detector.key}-{detector.mark}" / f"{images.key}-{size}-{mark}.npz"


def find_all(
    detector: Detector,
    images: ImageSet,
    size: str,
    folder: Path,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Answers:
    """What a detector finds in a set, from its file if that is there.

    Args:
        detector, images: who searches what.
        size: of `SIZES`.
        folder: of the files.
        progress: is given the photos and gives them back, one at a time.
    """
    file = found_file(folder, detector, images, size)
    if not file.is_file():
        found = [
            detector.find(read_image(photo), SIZES[size], THRESHOLD)
            for photo in progress(images.photos)
        ]
        write_whole(file, pack(found))
    return Answers(dict(enumerate(unpack(file.read_bytes()))), [])


def pack(found: list[tuple]) -> bytes:
    """Boxes [N, 4], scores [N] and points [N, 5, 2] or None of each image, as a .npz."""
    buffer = io.BytesIO()
    points = [np.full((len(scores), 5, 2), np.nan) if p is None else p for _, scores, p in found]
    np.savez_compressed(
        buffer,
        counts=np.array([len(scores) for _, scores, _ in found], np.int64),
        boxes=np.concatenate([np.zeros((0, 4)), *(boxes for boxes, _, _ in found)]),
        scores=np.concatenate([np.zeros(0), *(scores for _, scores, _ in found)]),
        points=np.concatenate([np.zeros((0, 5, 2)), *points]),
    )
    return buffer.getvalue()


def unpack(content: bytes) -> list[tuple]:
    """The inverse of `pack`; points that were None are NaN."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        ends = np.cumsum(arrays["counts"])[:-1]
        parts = [np.split(arrays[name], ends) for name in ("boxes", "scores", "points")]
    return list(zip(*parts))
