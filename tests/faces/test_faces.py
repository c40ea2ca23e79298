"""`Faces`: indexing, JSON, drawing and alignment."""

import dataclasses
import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.errors import ConfigError, DataError, ImageError, MissingPackage
from retinaface_tf.faces.faces import Face, Faces


@pytest.fixture
def faces():
    marks = np.array([[30, 40], [60, 40], [45, 55], [33, 70], [57, 70]], np.float32)
    return Faces(
        boxes=np.array([[20, 20, 70, 85], [100, 10, 130, 50]], np.float32),
        scores=np.array([0.99, 0.6], np.float32),
        landmarks=np.stack([marks, marks + np.array([70, -20])]).astype(np.float32),
        image_size=(120, 160),
    )


def test_indexing_gives_a_face_or_faces(faces):
    assert isinstance(faces[0], Face) and faces[0].score == pytest.approx(0.99)
    assert len(faces[:1]) == 1 and len(faces[faces.scores > 0.7]) == 1
    assert [face.score for face in faces] == pytest.approx([0.99, 0.6])
    assert len(Faces.empty((3, 4))) == 0 and not Faces.empty((3, 4))


def test_to_dict_is_the_line_of_the_contract(faces):
    line = json.loads(json.dumps(faces.to_dict()))
    assert line["width"] == 160 and line["height"] == 120
    assert line["faces"][0]["box"] == [20, 20, 70, 85]
    assert np.shape(line["faces"][1]["landmarks"]) == (5, 2)


def test_a_dictionary_of_faces_is_read_back(faces):
    again = Faces.from_dict(json.loads(json.dumps(faces.to_dict())))
    assert again == faces and Faces.from_dict(faces[:0].to_dict()) == faces[:0]
    for wrong in ({}, {"faces": []}, {"error": "x"}, {"faces": [{}], "width": 1, "height": 1}):
        with pytest.raises(DataError, match="The faces given"):
            Faces.from_dict(wrong)


def test_landmarks_have_names_whose_left_is_the_images(faces):
    assert faces[0].left_eye.tolist() == [30, 40] and faces[0].nose.tolist() == [45, 55]
    assert (faces.left_eye[:, 0] < faces.right_eye[:, 0]).all()
    assert (faces.left_mouth_corner[:, 0] < faces.right_mouth_corner[:, 0]).all()
    assert faces.nose.shape == (2, 2)


def test_faces_as_a_table(faces):
    pytest.importorskip("pandas")
    table = faces.to_pandas()
    assert table.shape == (2, 15) and table["right_eye_x"].tolist() == [60, 130]
    assert list(faces[:0].to_pandas().columns) == list(table.columns)


def test_what_a_conversion_lacks_is_said(faces, monkeypatch):
    monkeypatch.setattr("retinaface_tf.util.extras.is_installed", lambda module: False)
    for convert, name in ((faces.to_pandas, "pandas"), (faces.to_supervision, "supervision")):
        with pytest.raises(MissingPackage, match=f"not installed: pip install {name}"):
            convert()


def test_supervision_takes_the_faces(faces):
    supervision = pytest.importorskip("supervision")
    detections = faces.to_supervision()
    assert isinstance(detections, supervision.Detections) and len(detections) == 2
    assert detections[detections.confidence > 0.7].data["landmarks"].shape == (1, 5, 2)


def test_drawing_leaves_the_image_alone(faces):
    image = np.zeros((120, 160, 3), np.uint8)
    drawn = faces.draw(image)
    assert not image.any() and drawn[20, 40].any() and drawn.shape == image.shape


def test_unknown_points_are_not_drawn(faces):
    unknown = dataclasses.replace(faces, landmarks=np.full_like(faces.landmarks, np.nan))
    drawn = unknown.draw(np.zeros((120, 160, 3), np.uint8))
    assert drawn[20, 40].any()
    for x, y in faces.landmarks[0]:
        assert not drawn[round(float(y)), round(float(x))].any()


def test_aligned_crops_are_one_array(faces):
    # An image whose colour is its coordinate shows where each crop pixel came from.
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    crops = faces[:1].align(image)
    assert crops.shape == (1, 112, 112, 3)
    assert faces.align(image, size=64).shape == (2, 64, 64, 3)


def test_a_face_whose_points_fell_together_is_cut_out_by_its_box():
    image = np.zeros((50, 50, 3), np.uint8)
    image[10:30, 20:40] = 200
    faces = Faces(
        boxes=np.array([[20, 10, 40, 30]], np.float32),
        scores=np.array([0.9], np.float32),
        landmarks=np.full((1, 5, 2), 25, np.float32),
        image_size=(50, 50),
    )
    assert (faces.align(image, size=40)[0, 2:-2, 2:-2] == 200).all()


@pytest.fixture
def turned(faces, tmp_path):
    """An image of 160 x 120 as all that users have it as; the file is stored on its side."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[:60, :80] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.rot90(image))
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    return image, [
        image,
        path,
        str(path),
        path.read_bytes(),
        BytesIO(path.read_bytes()),
        Image.open(path),
        np.dstack([image, np.full((120, 160), 255, np.uint8)]),
    ]


def test_drawing_and_aligning_take_whatever_detect_takes(faces, turned):
    image, sources = turned
    drawn, crops = faces.draw(image), faces.align(image)
    for source in sources:
        np.testing.assert_array_equal(faces.draw(source), drawn)
        np.testing.assert_array_equal(faces.align(source), crops)
    with open(sources[1], "rb") as file:  # noqa: PTH123 - as users open files
        np.testing.assert_array_equal(faces.draw(file), drawn)
        np.testing.assert_array_equal(faces.align(file), crops)  # it is rewound


@pytest.mark.parametrize("method", ["draw", "align"])
def test_another_image_is_refused_by_its_size(faces, method):
    call = getattr(faces, method)
    with pytest.raises(ImageError, match="of 160 x 120 pixels, but the array given has 80 x 60"):
        call(np.zeros((60, 80, 3), np.uint8))
    with pytest.raises(ImageError, match=r"has 120 x 160; .*load_image\(path\)"):
        call(np.zeros((160, 120, 3), np.uint8))
    with pytest.raises(ImageError, match="float64"):
        call(np.zeros((120, 160, 3)))
    with pytest.raises(ImageError, match=r"none\.jpg: there is no such file"):
        call("none.jpg")
    with pytest.raises(ImageError):
        getattr(Faces.empty((4, 5)), method)(np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize("size", [0, -1, 1.5, None, True, "112"])
def test_crops_have_a_side_of_whole_pixels(faces, size):
    with pytest.raises(ConfigError, match="size="):
        faces.align(np.zeros((120, 160, 3), np.uint8), size=size)


def test_they_are_shown_in_one_short_line(faces):
    assert repr(faces) == "Faces(2 in 160 x 120 pixels, best score 0.990)"
    assert repr(Faces.empty((3, 4))) == "Faces(0 in 4 x 3 pixels)"
    assert repr(faces[1]) == "Face(score=0.600, box=[100.0, 10.0, 130.0, 50.0])"
    many = dataclasses.replace(faces, vertices=np.zeros((2, 1103, 3), np.float32))
    assert max(map(len, (repr(many), repr(many[0])))) < 80


def test_equal_values_are_equal_and_have_one_hash(faces):
    copied = Faces(*(a.copy() for a in (faces.boxes, faces.scores, faces.landmarks)), (120, 160))
    assert faces == copied and hash(faces) == hash(copied)
    assert faces[0] == copied[0] and hash(faces[0]) == hash(copied[0])
    assert faces[0] != faces[1] and len({faces[0], copied[0], faces[1]}) == 2
    assert faces[0] in list(copied) and list(copied).index(faces[1]) == 1
    assert faces != faces[:1] and faces != faces[::-1] and faces != 2 and faces[0] != "face"
    assert faces != dataclasses.replace(faces, image_size=(120, 161))
    assert faces != dataclasses.replace(faces, landmarks=faces.landmarks + 1)


def test_vertices_and_unknown_points_count_too(faces):
    unknown = dataclasses.replace(faces, landmarks=np.full_like(faces.landmarks, np.nan))
    again = dataclasses.replace(faces, landmarks=np.full_like(faces.landmarks, np.nan))
    assert unknown == again and unknown[0] == again[0] and unknown != faces
    meshed = dataclasses.replace(faces, vertices=np.zeros((2, 5, 3), np.float32))
    other = dataclasses.replace(faces, vertices=np.ones((2, 5, 3), np.float32))
    assert meshed != faces and meshed[0] != faces[0] and meshed != other and meshed[0] != other[0]
    assert meshed == dataclasses.replace(faces, vertices=np.zeros((2, 5, 3), np.float32))
    zero = dataclasses.replace(faces, boxes=faces.boxes * 0)
    assert hash(zero) == hash(dataclasses.replace(zero, boxes=-zero.boxes))


@pytest.mark.parametrize("place", [(0, 40_000), (40_000, 0), (0, 0)])
def test_crops_of_very_wide_and_high_images_are_those_of_the_part(faces, rng, place):
    y, x = place
    part = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    image = np.zeros((120 + y, 160 + x, 3), np.uint8)
    image[y:, x:] = part
    shift = np.array([x, y], np.float32)
    moved = Faces(
        faces.boxes + np.tile(shift, 2), faces.scores, faces.landmarks + shift, image.shape[:2]
    )
    difference = moved.align(image).astype(int) - faces.align(part)
    assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize("shape", ["ellipse", "box"])
@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
def test_blur_leaves_few_colours_of_a_face_and_all_around_it(faces, method, shape):
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    before = image.copy()
    blurred = faces.blur(image, method=method, shape=shape)
    assert (image == before).all()
    # Of noise only the mean is left: its deviation falls from 74 to that of a cell's mean.
    for x1, y1, x2, y2 in faces.boxes.astype(int):
        assert blurred[y1:y2, x1:x2].std() < 15
    changed = (blurred != image).any(axis=2)
    assert changed[85:103, 40:50].any() and not changed[106:].any() and not changed[:, :3].any()
    assert changed[2, 6] == (shape == "box")  # a corner of the first face's margin


def test_blur_is_the_same_for_each_size_of_a_face():
    small = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    boxes = np.array([[-10, 4, 30, 36]], np.float32)  # reaches outside
    large = np.kron(small, np.ones((8, 8, 1), np.uint8))
    one, other = (
        Faces(boxes * k, np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32), image.shape[:2])
        .blur(image, shape="box", margin=0)
        .astype(int)
        for k, image in ((1, small), (8, large))
    )
    assert abs(one - other[4::8, 4::8]).mean() < 6


def test_blur_refuses_what_it_does_not_know(faces):
    image = np.zeros((120, 160, 3), np.uint8)
    for wrong in ({"method": "mosaic"}, {"shape": "round"}, {"margin": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            faces.blur(image, **wrong)
    assert (Faces.empty((120, 160)).blur(image) == image).all()
