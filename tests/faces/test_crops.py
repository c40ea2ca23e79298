"""Faces cut out of their image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from retinaface_tf.errors import ConfigError
from retinaface_tf.faces.faces import Faces
from retinaface_tf.images.warp import warp

# insightface's `arcface_dst` for 112 x 112, and its 96 x 112 (SphereFace), which is 8 pixels narrower a side.
ARCFACE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]  # fmt: skip
SPHEREFACE = [[30.2946, 51.6963], [65.5318, 51.5014], [48.0252, 71.7366], [33.5493, 92.3655], [62.7299, 92.2041]]  # fmt: skip
FFHQ = [[192.98138, 239.94708], [318.90277, 240.1936], [256.63416, 314.01935], [201.26117, 371.41043], [313.08905, 371.15118]]  # fmt: skip


def faces_at(points, box=(40, 30, 100, 110), size=(160, 200)) -> Faces:
    points = np.asarray(points, np.float32)[None]
    return Faces(np.array([box], np.float32), np.array([0.9], np.float32), points, size)


def coordinates(height=160, width=200) -> np.ndarray:
    """An image whose red is x and green is y."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "kind, size, template",
    [
        ("aligned", None, ARCFACE),
        ("aligned", (112, 96), SPHEREFACE),
        ("aligned", 224, 2 * np.array(ARCFACE)),
        ("ffhq", None, FFHQ),
    ],
)
def test_points_meet_the_templates_of_others(kind, size, template):
    turn = np.array([[0.35, 0.2], [-0.2, 0.35]]) * (100 / np.ptp(template, axis=0).max())
    points = np.array(template) @ turn.T
    points += [100, 80] - points.mean(axis=0)
    (crop,) = faces_at(points).crops(coordinates(), kind, size)
    assert crop.shape[:2] == {None: (112, 112) if kind == "aligned" else (512, 512)}.get(
        size, size if isinstance(size, tuple) else (size, size)
    )
    for place, point in zip(template, points):
        x, y = np.rint(place).astype(int)
        assert np.abs(crop[y, x, :2] - point).max() < 2


def test_a_margin_shows_so_much_more_around_the_same_middle():
    points = np.array(ARCFACE) / 2 + [60, 40]
    (plain,), (wide,) = (faces_at(points).crops(coordinates(), "aligned", 112, m) for m in (0, 0.5))
    assert np.abs(plain[56, 56].astype(int) - wide[56, 56]).max() <= 1
    span = [np.ptp(crop[56, 20:92, 0].astype(int)) for crop in (plain, wide)]
    assert abs(span[1] - 2 * span[0]) <= 3


def test_square_and_box_are_the_images_own_pixels():
    faces, image = faces_at(np.array(ARCFACE), (40, 30, 100, 110)), coordinates()
    (box,) = faces.crops(image, "box")
    np.testing.assert_array_equal(box, image[30:110, 40:100])
    (wide,) = faces.crops(image, "box", margin=0.5)  # cut at the upper edge
    np.testing.assert_array_equal(wide, image[0:150, 10:130])
    assert faces.crops(image, "box", 64, 0.5)[0].shape == (64, 51, 3)
    (square,) = faces.crops(image, "square")
    np.testing.assert_array_equal(square, image[30:110, 30:110])
    (square,) = faces.crops(image, "square", 40, 0.5)
    assert square.shape == (40, 40, 3) and not square[0].any()  # above the image
    assert not np.shares_memory(box, image)


def test_empty_faces_and_unknown_points():
    image = coordinates()
    for kind in ("aligned", "ffhq", "square", "box"):
        assert Faces.empty((160, 200)).crops(image, kind) == []
    unknown = faces_at(np.full((5, 2), np.nan), (40, 40, 80, 80))
    (crop,) = unknown.crops(image, "aligned", 40)
    assert np.abs(crop[20, 20, :2].astype(int) - 60).max() <= 1


@pytest.mark.parametrize(
    "options, said",
    [
        ({"kind": "round"}, "'round' must be one of aligned, ffhq"),
        ({"size": 0}, "size=0 must be a whole number of pixels"),
        ({"size": True}, "size=True"),
        ({"size": 10**9}, "at most 8192"),
        ({"kind": "box", "size": (9, 9)}, "kind box have one number"),
        ({"size": (1, 2, 3)}, "one number"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"margin": -1}, "margin=-1"),
    ],
)
def test_options_that_cannot_be_are_said(options, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        faces_at(np.array(ARCFACE)).crops(coordinates(), **options)


def test_a_large_face_is_averaged_and_stays_in_place(rng):
    """Noise shrinks to grey, an edge stays within a third of a pixel, the first pixel is inside."""
    noise = rng.integers(0, 256, (800, 800, 3), np.uint8)
    matrix = np.array([[0.1, 0.02, 3.0], [-0.02, 0.1, 20.0]])
    assert warp(noise, matrix, (100, 100))[40:60, 40:60].std() < 20
    step = np.zeros((800, 800, 3), np.uint8)
    step[:, 400:] = 255
    rows = []
    for found in (warp(step, matrix, (100, 100)), cv2.warpAffine(step, matrix, (100, 100))):
        rows.append(found[30:80, 20:80, 0].mean() / 255)
    assert abs(rows[0] - rows[1]) * 60 < 1 / 3
    assert (
        warp(np.full_like(step, 255), np.array([[0.25, 0, 0], [0, 0.25, 0]]), (200, 200))[
            :, :90
        ].min()
        == 255
    )
