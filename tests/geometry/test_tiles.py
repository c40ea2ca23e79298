"""Parts of an image: grids leave nothing out, covers are few, and cut boxes are known."""

import numpy as np
import pytest

from retinaface_tf.geometry.tiles import cover, grid, inner_edges, touches

SIZE, TILE = (700, 1000), (200, 200)


def boxes_at(*corners, side=16):
    return np.array([[x, y, x + side, y + side] for x, y in corners], float)


def inside(boxes, parts):
    """bool [T, N]"""
    low = (parts[:, None, :2] <= boxes[None, :, :2]).all(axis=2)
    return low & (parts[:, None, 2:] >= boxes[None, :, 2:]).all(axis=2)


@pytest.mark.parametrize("size", [(700, 1000), (150, 1000), (90, 60), (200, 201)])
def test_a_grid_covers_the_image_with_parts_of_one_size(size):
    seen = np.zeros(size, int)
    parts = grid(size, TILE, 0.25)
    for x1, y1, x2, y2 in parts:
        assert (y2 - y1, x2 - x1) == (min(size[0], 200), min(size[1], 200))
        seen[y1:y2, x1:x2] += 1
    assert seen.min() == 1


def test_boxes_that_fit_one_part_share_it():
    together = boxes_at((100, 100), (260, 100), (100, 260), (260, 260))
    (part,) = cover(together, SIZE, TILE, 0.0, 9)
    assert part.tolist() == [88, 88, 288, 288]  # they are in its middle
    apart = boxes_at((100, 100), (300, 100))
    assert len(cover(apart, SIZE, TILE, 0.0, 9)) == 2


def test_every_box_is_in_a_part_with_its_margin_and_parts_lie_in_the_image(rng):
    boxes = boxes_at(*rng.uniform([0, 0], [984, 684], (60, 2)))
    parts = cover(boxes, SIZE, TILE, 0.5, 99)
    wide = np.clip(boxes + np.array([-8, -8, 8, 8]), 0, [1000, 700, 1000, 700])
    assert inside(wide, parts).any(axis=0).all()
    assert parts.min() >= 0 and (parts[:, 2:] <= [1000, 700]).all()
    assert (parts[:, 2:] - parts[:, :2] == 200).all()
    assert len(parts) < 24  # a grid without overlap has 20, and needs as much again at its edges


def test_the_limit_keeps_the_parts_with_most_boxes():
    crowd = boxes_at((600, 400), (620, 420), (640, 440))
    (part,) = cover(np.concatenate([boxes_at((10, 10)), crowd]), SIZE, TILE, 0.5, 1)
    assert inside(crowd, part[None]).all()
    assert cover(crowd, SIZE, TILE, 0.5, 0).shape == (0, 4)


def test_small_images_are_one_part_and_large_boxes_in_none():
    (part,) = cover(boxes_at((5, 5)), (60, 90), TILE, 0.5, 9)
    assert part.tolist() == [0, 0, 90, 60]
    assert len(cover(boxes_at((100, 100), side=190), SIZE, TILE, 0.5, 9)) == 0
    assert cover(np.zeros((0, 4)), SIZE, TILE, 0.5, 9).shape == (0, 4)


def test_only_edges_inside_the_image_cut():
    part = np.array([0, 100, 200, 300])
    inner = inner_edges(part, SIZE)
    assert inner.tolist() == [False, True, True, True]
    boxes = np.array(
        [[0, 150, 40, 190], [50, 100, 90, 140], [161, 150, 199, 190], [50, 150, 90, 190]]
    )
    assert touches(boxes, part, inner).tolist() == [False, True, True, False]
