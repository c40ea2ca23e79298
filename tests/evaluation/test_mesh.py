"""Mesh errors, with a detector that knows the answer."""

from __future__ import annotations

import numpy as np
import pytest

from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.mesh import (
    DENSE,
    MEAN_BY_POSE,
    MEAN_BY_SIMILARITY,
    MEAN_IN_BOX,
    PosedFace,
    measure_aflw2000,
    measure_labels,
    read_aflw2000,
)
from retinaface_tf.faces.faces import Faces
from retinaface_tf.mesh.topology import five_of_vertices, load_topology
from tests.helpers.shapes import rotation_of_angles

ANGLES = np.array([25.0, -10.0, 5.0])


def _truth():
    mean = load_topology().mean.astype(np.float64)
    mesh = mean @ rotation_of_angles(*np.radians(ANGLES)).T * 80 + [100, 100, 0]
    low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
    return mesh, np.concatenate([low, high])


class Detector:
    def __init__(self, shift=0.0):
        mesh, box = _truth()
        mesh = mesh + np.array([shift, 0, 7])
        self.faces = Faces(
            box[None].astype(np.float32),
            np.array([0.9], np.float32),
            five_of_vertices(mesh)[None, :, :2].astype(np.float32),
            (200, 200),
            mesh[None].astype(np.float32),
        )

    def detect(self, image):
        return self.faces


def _labels():
    mesh, box = _truth()
    zero = np.zeros(2, np.float32)
    # The second face is elsewhere, where nothing is found.
    return MeshLabels(
        ["a.png"],
        np.array([0, 0]),
        np.stack([box, box + 300]),
        np.zeros((2, 5, 2)),
        np.stack([mesh, mesh + np.array([300, 300, 0])]),
        zero,
        zero,
    )


def test_a_known_shift_is_measured_and_depth_has_no_origin():
    _, box = _truth()
    size = np.sqrt(np.prod(box[2:] - box[:2]))
    errors = measure_labels(_labels(), Detector(shift=4.0), load_topology())
    assert errors.faces == 2 and errors.found() == 1
    assert errors.vertex[DENSE][0] == pytest.approx(4 / size, rel=1e-4)
    assert errors.points_2d[DENSE][0] == pytest.approx(4 / size, rel=1e-4)
    assert np.isnan(errors.vertex[DENSE][1])
    np.testing.assert_allclose(errors.angles[DENSE][0], 0, atol=1e-3)
    # Who knows less is further off.
    order = [errors.vertex[m][0] for m in (MEAN_BY_POSE, MEAN_BY_SIMILARITY, MEAN_IN_BOX)]
    assert order == sorted(order)
    np.testing.assert_allclose(errors.angles[MEAN_IN_BOX][0], np.abs(ANGLES), atol=1)


def test_aflw2000_is_measured_on_68_points_and_three_angles(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((200, 200, 3), np.uint8))
    mesh, _ = _truth()
    face = PosedFace(tmp_path / "a.png", mesh[:68], ANGLES)
    errors = measure_aflw2000([face], Detector(), load_topology())
    assert errors.points_3d[DENSE][0] < 1e-4 and DENSE not in errors.vertex
    np.testing.assert_allclose(errors.angles[DENSE][0], 0, atol=1e-3)
    assert errors.methods[0] == MEAN_IN_BOX


def test_the_samples_depth_and_pose_agree(data):
    """68 points of the set, fitted by our mean face's, have about the pose its files tell."""
    from retinaface_tf.geometry.similarity import fit_similarity
    from retinaface_tf.mesh.pose import euler_angles

    faces = read_aflw2000(data / "aflw2000_samples")
    assert len(faces) == 16
    points = np.stack([face.points for face in faces])
    fitted = np.degrees(euler_angles(fit_similarity(load_topology().mean[:68], points)[1]))
    told = np.stack([face.angles for face in faces])
    assert np.abs(fitted - told).mean() < 6


def test_a_folder_without_mat_files_is_said(tmp_path):
    with pytest.raises(DataError, match="holds no"):
        read_aflw2000(tmp_path)
