"""Readers of label files, against the files' published counts and hand-written oddities."""

import json

import numpy as np
import pytest

from retinaface_tf.data.readers.coco import read_coco
from retinaface_tf.data.readers.fddb import (
    ellipse_boxes,
    read_fddb_boxes,
    read_fddb_ellipses,
    read_fold_names,
)
from retinaface_tf.data.readers.registry import read_labels
from retinaface_tf.data.readers.widerface import read_retinaface_labels, read_widerface
from retinaface_tf.errors import ConfigError, DataError


def test_wider_counts_are_the_published_ones(data):
    """12,880 images and 159,424 faces for training, 3,226 and 39,708 for validation."""
    for part, count, faces in (("train", 12880, 159424), ("val", 3226, 39708)):
        labels = data / "wider" / "annotations" / f"wider_face_{part}_bbx_gt.txt"
        images = read_widerface(labels, "images")
        assert len(images) == count
        assert sum(len(image.boxes) for image in images) == faces


@pytest.mark.parametrize("filling", ["", "0 0 0 0 0 0 0 0 0 0\n"])
def test_wider_image_without_faces(tmp_path, filling):
    """The official list writes one line of zeros below a count of 0; others leave it out."""
    text = f"a/none.jpg\n0\n{filling}b/two.jpg\n2\n1 2 3 4 0 0 0 0 0 0 \n5 6 7 8 0 0 0 1 0 0 \n"
    (tmp_path / "list.txt").write_text(text)
    none, two = read_widerface(tmp_path / "list.txt", tmp_path)
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 5, 2)
    assert two.path == tmp_path / "b/two.jpg"
    np.testing.assert_array_equal(two.boxes, [[1, 2, 4, 6], [5, 6, 12, 14]])
    assert two.ignored.tolist() == [False, True]
    assert np.isnan(two.landmarks).all()


@pytest.mark.parametrize(
    "text, place",
    [("a.jpg\nmany\n", "line 2"), ("a.jpg\n2\n1 2 3 4\nb.jpg\n", "line 4"), ("a.jpg\n", "ends")],
)
def test_a_broken_list_is_named_with_its_line(tmp_path, text, place):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=place):
        read_widerface(tmp_path / "list.txt", tmp_path)
    with pytest.raises(DataError, match=r"missing\.txt"):
        read_widerface(tmp_path / "missing.txt", tmp_path)


def test_retinaface_labels_have_flags_and_gaps(tmp_path):
    points = "12 13 0.0 18 13 1.0 15 16 0.0 13 19 0.0 -1 -1 -1.0 0.82"
    text = f"# 0--Parade/a.jpg\n10 10 10 12 {points}\n40 40 5 5 {'-1 ' * 15}0.3\n# b.jpg\n# c.jpg\n1 2 3 4\n"
    (tmp_path / "label.txt").write_text(text)
    a, b, c = read_retinaface_labels(tmp_path / "label.txt", tmp_path)
    assert a.path == tmp_path / "0--Parade/a.jpg"
    np.testing.assert_array_equal(a.boxes, [[10, 10, 20, 22], [40, 40, 45, 45]])
    np.testing.assert_array_equal(a.landmarks[0, :4], [[12, 13], [18, 13], [15, 16], [13, 19]])
    assert np.isnan(a.landmarks[0, 4]).all() and np.isnan(a.landmarks[1]).all()
    assert len(b.boxes) == 0
    np.testing.assert_array_equal(c.boxes, [[1, 2, 4, 6]])


def test_ellipses_just_fit_their_boxes(rng):
    """No point of the ellipse is outside its box, and each side is touched."""
    ellipses = np.stack(
        [*rng.uniform(5, 50, (2, 20)), rng.uniform(-3, 3, 20), *rng.uniform(0, 99, (2, 20))], 1
    )
    turn = np.linspace(0, 2 * np.pi, 20001)
    for (a, b, angle, x, y), box in zip(ellipses, ellipse_boxes(ellipses)):
        u, v = a * np.cos(turn), b * np.sin(turn)
        px, py = (
            x + u * np.cos(angle) - v * np.sin(angle),
            y + u * np.sin(angle) + v * np.cos(angle),
        )
        np.testing.assert_allclose(box, [px.min(), py.min(), px.max(), py.max()], atol=1e-3)


def test_fddb_boxes_are_those_of_its_ellipses(data):
    """The verified boxes come from another program's reading of the same ellipses."""
    root = data / "fddb"
    photos = root / "originalPics"
    by_path = {
        image.path: image
        for path in (root / "FDDB-folds").glob("*ellipseList.txt")
        for image in read_fddb_ellipses(path, photos)
    }
    verified = read_fddb_boxes(root / "boxes_verified.txt", photos)
    assert len(by_path) == 2845 and sum(len(i.boxes) for i in by_path.values()) == 5171
    assert len(verified) == 846
    for image in verified:
        np.testing.assert_allclose(image.boxes, by_path[image.path].boxes, atol=0.02)
    assert set(read_fold_names(root / "FDDB-folds").values()) == set(range(1, 11))


def test_coco_keypoints(tmp_path):
    points = [1, 2, 2, 3, 4, 1, 0, 0, 0, 5, 6, 2, 7, 8, 2]
    document = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 8, "bbox": [1, 2, 10, 20], "keypoints": points, "category_id": 1},
            {"image_id": 8, "bbox": [0, 0, 5, 5], "iscrowd": 1, "category_id": 1},
            {"image_id": 8, "bbox": [9, 9, 5, 5], "category_id": 2},
        ],
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    a, b = read_coco(tmp_path / "c.json", tmp_path, "face")
    assert len(a.boxes) == 0 and b.ignored.tolist() == [False, True]
    np.testing.assert_array_equal(b.boxes, [[1, 2, 11, 22], [0, 0, 5, 5]])
    np.testing.assert_array_equal(b.landmarks[0], [[1, 2], [3, 4], [np.nan] * 2, [5, 6], [7, 8]])
    with pytest.raises(DataError, match="cat"):
        read_coco(tmp_path / "c.json", tmp_path, "cat")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(DataError, match="not COCO"):
        read_coco(tmp_path / "c.json", tmp_path)


def coco(tmp_path, *names, used=(1, 2)):
    document = {
        "images": [{"id": 7, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 7, "bbox": [0, 0, n, n], "category_id": n} for n in used],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
    }
    (tmp_path / "c.json").write_text(json.dumps(document))

    def sides(category=None):
        (image,) = read_coco(tmp_path / "c.json", tmp_path, category)
        return image.boxes[:, 2].tolist()

    return sides


def test_a_coco_category_is_chosen_by_name_or_id(tmp_path):
    sides = coco(tmp_path, "head", "car")
    assert (sides("head"), sides("2"), sides(2)) == ([1], [2], [2])
    with pytest.raises(DataError, match=r"no category 'face'; it has 'head' \(1\), 'car' \(2\)"):
        sides("face")
    with pytest.raises(DataError, match=r"'head' \(1\), 'car' \(2\).* --category"):
        sides()


def test_without_a_choice_faces_or_the_only_category_are_taken(tmp_path):
    assert coco(tmp_path, "car", "Face")() == [2]
    assert coco(tmp_path, "anything", used=(1, 1))() == [1, 1]
    assert coco(tmp_path, used=(3,))() == [3]
    assert coco(tmp_path, "face", "car", used=(2,))() == []
    with pytest.raises(DataError, match=r"\(1, 2\)"):
        coco(tmp_path)()


def test_other_formats_have_no_categories(tmp_path):
    with pytest.raises(ConfigError, match="goes with coco, yolo"):
        read_labels("wider", tmp_path / "x.txt", tmp_path, "face")
