"""Every kind of bad label and image is found, named and left out."""

import os

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.data.check import check_images
from retinaface_tf.data.readers.annotation import AnnotatedImage
from retinaface_tf.data.records import RecordSource, pack_images, read_record_images
from retinaface_tf.data.sources import EpochSlice, LabelledSource
from retinaface_tf.errors import DataError
from retinaface_tf.images.save import encode_jpeg


@pytest.fixture
def folder(tmp_path, rng):
    pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    (tmp_path / "good.jpg").write_bytes(encode_jpeg(pixels))
    (tmp_path / "cut.jpg").write_bytes(encode_jpeg(pixels)[:3000])
    (tmp_path / "text.jpg").write_text("not an image")
    return tmp_path


def test_all_problems_are_named_and_skipped(folder):
    boxes = [
        [10, 10, 30, 30],  # good
        [10, 10, 10, 30],
        [30, 10, 10, 30],
        [np.nan, 10, 30, 30],
        [100, 10, 120, 30],
        [40, 40, 60, 58],  # a point far outside
        [70, 50, 95, 75],  # reaches over the edge: usual, not a problem
    ]
    landmarks = np.full((7, 5, 2), np.nan)
    landmarks[0] = [[15, 15], [25, 15], [20, 20], [16, 25], [31, 25]]
    landmarks[6] = [[75, 55], [90, 55], [82, 60], [75, 70], [90, 70]]
    landmarks[5] = [[45, 45], [55, 45], [50, 50], [46, 55], [5, 5]]
    images = [
        AnnotatedImage(folder / "good.jpg", boxes, landmarks),
        AnnotatedImage(folder / "cut.jpg", [[1, 1, 5, 5]]),
        AnnotatedImage(folder / "text.jpg", [[1, 1, 5, 5]]),
        AnnotatedImage(folder / "none.jpg", [[1, 1, 5, 5]]),
    ]
    result = check_images(images)
    assert [(p.kind, p.path.rpartition("/")[2], p.face) for p in result.problems] == [
        ("zero size", "good.jpg", 1),
        ("negative size", "good.jpg", 2),
        ("NaN in box", "good.jpg", 3),
        ("outside the image", "good.jpg", 4),
        ("landmarks outside the box", "good.jpg", 5),
        ("undecodable image", "cut.jpg", None),
        ("undecodable image", "text.jpg", None),
        ("missing file", "none.jpg", None),
    ]
    (kept,) = result.images
    np.testing.assert_array_equal(kept.boxes, np.float32(boxes)[[0, 5, 6]])
    assert np.isfinite(kept.landmarks[[0, 2]]).all() and np.isnan(kept.landmarks[1]).all()
    assert "2 undecodable image" in result.summary()
    assert "3 images and 4 faces are skipped" in result.summary()


def test_headers_alone_miss_a_cut_image(folder):
    images = [AnnotatedImage(folder / "cut.jpg", []), AnnotatedImage(folder / "good.jpg", [])]
    assert not check_images(images, decode=False).problems
    assert len(check_images(images).problems) == 1


FIVE = np.array([[14, 16], [26, 16], [20, 21], [15, 26], [25, 26]], float)


def turned(points, degrees, center=(20, 20)):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - center) @ turn.T + center


@pytest.mark.parametrize("degrees", [0, 50, 90, 180, 270])
def test_exchanged_points_are_found_however_the_face_is_turned(folder, degrees):
    right = turned(FIVE, degrees)
    orders = ([0, 1, 2, 3, 4], [1, 0, 2, 4, 3], [1, 0, 2, 3, 4], [0, 1, 2, 4, 3])
    image = AnnotatedImage(folder / "good.jpg", [[8, 8, 32, 32]] * 4, [right[o] for o in orders])
    result = check_images([image])
    kind = "left and right landmarks exchanged"
    assert [(p.kind, p.face) for p in result.problems] == [(kind, 1), (kind, 2), (kind, 3)]
    (kept,) = result.images
    assert np.isfinite(kept.landmarks).all(axis=(1, 2)).tolist() == [True, False, False, False]
    assert f"3 {kind}" in result.summary()
    assert f"{kind}: for example {folder / 'good.jpg'} face 1" in result.summary()


def test_a_face_from_the_side_is_not_called_exchanged(folder):
    """Eyes and mouth corners lie on one another, a little the wrong way round."""
    side = np.array([[20.5, 16], [20, 16], [12, 21], [19.5, 26], [19, 26]])
    assert not check_images(
        [AnnotatedImage(folder / "good.jpg", [[8, 8, 32, 32]], [side])]
    ).problems


def test_boxes_in_parts_of_the_image_are_found(folder):
    boxes = [[0.1, 0.2, 0.5, 0.9], [0, 0, 1, 1], [0.5, 0.5, 5, 5], [0, 0, 2, 1.5]]
    result = check_images([AnnotatedImage(folder / "good.jpg", boxes)])
    kind = "box in 0..1, not in pixels"
    assert [(p.kind, p.face) for p in result.problems] == [(kind, 0), (kind, 1)]
    assert len(result.images[0].boxes) == 2 and "2 faces are skipped" in result.summary()


def test_images_that_exif_turns_are_counted_and_no_problem(folder):
    for number, orientation in enumerate((1, 6, 3)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (60, 40)).save(folder / f"{number}.jpg", exif=exif)
    names = [folder / f"{number}.jpg" for number in range(3)]
    result = check_images([AnnotatedImage(name, [[5, 5, 30, 30]]) for name in names])
    assert not result.problems and result.turned == (str(names[1]), str(names[2]))
    assert "no problem" in result.summary()
    assert f"2 images are turned by their EXIF orientation, for example {names[1]}" in (
        result.summary()
    )


def test_names_that_no_file_can_have_are_missing_files(folder):
    images = [AnnotatedImage(folder / name, [[1, 1, 5, 5]]) for name in ("x" * 300, "a\0b", "")]
    assert [p.kind for p in check_images(images).problems] == ["missing file"] * 3


def test_names_that_are_no_utf8_are_checked_and_packed(folder):
    path = folder / os.fsdecode(b"\xff\xe9.jpg")
    (folder / "good.jpg").rename(path)
    result = check_images([AnnotatedImage(path, [[1, 1, 5, 5]])])
    assert not result.problems
    pack_images(result.images, folder / os.fsdecode(b"packed\xff"))
    (image,), _ = read_record_images(folder / os.fsdecode(b"packed\xff"))
    assert image.path == path
    packed = RecordSource(folder / os.fsdecode(b"packed\xff"))
    part = EpochSlice(seed=0, epoch=0, steps=1, batch=1, end=1)
    for source in (packed, LabelledSource(result.images)):
        (example,) = source.examples(part)
        assert example["encoded"].numpy() == path.read_bytes() and len(source.digest()) == 12


def test_a_sparse_file_costs_only_itself(folder):
    os.truncate(folder / "cut.jpg", 30 << 30)
    images = [AnnotatedImage(folder / name, [[1, 1, 5, 5]]) for name in ("cut.jpg", "good.jpg")]
    result = check_images(images)
    assert [(p.kind, p.detail) for p in result.problems] == [
        ("undecodable image", "it has more than 1 GiB")
    ]
    assert [image.path.name for image in result.images] == ["good.jpg"]
    with pytest.raises(DataError, match=r"cut\.jpg: it has more than"):
        pack_images(images, folder / "packed")


def test_a_record_that_claims_more_than_its_file_is_refused(folder):
    pack_images([AnnotatedImage(folder / "good.jpg", [[1, 1, 5, 5]])], folder / "packed")
    (shard,) = (folder / "packed").glob("*.tfrecord*")
    content = shard.read_bytes()
    lying = (1 << 40).to_bytes(8, "little") + content[8:]
    for changed in (lying, content[:-1]):
        shard.write_bytes(changed)
        for read in (RecordSource, read_record_images):
            with pytest.raises(DataError, match="is cut off or damaged"):
                read(folder / "packed")
