"""`Faces`: indexing, JSON, drawing and alignment."""

import dataclasses
import json

import numpy as np
import pytest

from retinaface_tf.faces.faces import ALIGNED_POINTS_112, Face, Faces


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


def test_aligned_crops_put_the_points_on_the_template(faces):
    # An image whose colour is its coordinate shows where each crop pixel came from.
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    crops = faces[:1].align(image)
    assert crops.shape == (1, 112, 112, 3)
    for (u, v), (px, py) in zip(ALIGNED_POINTS_112, faces.landmarks[0]):
        at = crops[0, round(v), round(u), :2].astype(float)
        assert np.hypot(*(at - [px, py])) < 4
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
