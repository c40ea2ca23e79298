"""Photos with an EXIF orientation: labels are of the upright image, and so is what training decodes."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from retinaface_tf import RetinaFace
from retinaface_tf.data import augment
from retinaface_tf.data.augment import AugmentConfig, load_and_augment
from retinaface_tf.data.check import check_images
from retinaface_tf.data.readers.json_labels import read_json_labels
from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
from retinaface_tf.data.records import RecordSource, pack_images
from retinaface_tf.data.sources import EpochSlice, LabelledSource
from retinaface_tf.images.read import read_image
from retinaface_tf.labelling.mesh_labels import label_images
from retinaface_tf.labelling.pseudo_labels import AgreementConfig, Member, label_photos
from retinaface_tf.mesh.topology import load_topology

# How a stored photo comes from the upright one, by EXIF orientation (Exif 2.3, tag 274).
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p),
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: np.rot90(p, -1),
}
PLAIN = AugmentConfig(flip=0, photometric=0, crop_scale=(1, 1))


def save(path, upright, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(
        path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {})
    )
    return path


@pytest.fixture(scope="module")
def upright(astronaut):
    """300 rows, 240 columns, the face at the left."""
    return np.ascontiguousarray(astronaut[20:320, 170:410])


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_window_shows_the_upright_image(tmp_path, upright, orientation, kind):
    path = save(tmp_path / f"photo.{kind}", upright, orientation)
    encoded = tf.constant(path.read_bytes())
    expected = read_image(path)
    assert np.abs(expected.astype(int) - upright).mean() < 3
    shape = tf.constant(upright.shape[:2])
    for left, top, side in ((0, 0, 300), (30, 50, 100), (100, 200, 99), (-20, 150, 400)):
        window = tf.constant([left, top, side], tf.float32)
        exif = augment.exif_orientation(encoded)
        crop = augment.decode_crop(encoded, shape, exif, window).numpy()
        part = expected[max(top, 0) : top + side, max(left, 0) : left + side]
        assert crop.shape == part.shape
        assert np.abs(crop.astype(int) - part).mean() < 2


def label_by_detect(path):
    entry = {"image": path.name, **RetinaFace.from_preset("lite").detect(path).to_dict()}
    (path.parent / "labels.jsonl").write_text(json.dumps(entry) + "\n")


def label_by_teacher(path):
    member = Member("one", RetinaFace.from_preset("lite"), {"threshold": 0.5})
    label_photos({path.name: path}, path.parent, [member], AgreementConfig())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("label", [label_by_detect, label_by_teacher])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_labels_of_a_detector_lie_on_the_face_that_training_decodes(
    tmp_path, upright, orientation, label, packed
):
    """From `detect --json` or `data pseudo-label` through the label reader, the check and, packed or
    not, the decoder."""
    path = save(tmp_path / "photo.jpg", upright, orientation)
    label(path)
    checked = check_images(read_json_labels(tmp_path / "labels.jsonl", tmp_path))
    assert not checked.problems
    source = LabelledSource(checked.images)
    if packed:
        pack_images(checked.images, tmp_path / "packed")
        source = RecordSource(tmp_path / "packed")
    part = EpochSlice(seed=0, epoch=0, steps=1, batch=1, end=1)
    (example,) = source.examples(part)
    faces = (example["boxes"], example["landmarks"], example["ignored"])
    scene = load_and_augment(example["encoded"], *faces, tf.constant([0, 1]), 240, PLAIN)
    (box,) = scene.boxes.numpy().round().astype(int)
    # The detector, shown the very pixels that training sees, finds the face where the label is.
    (found,) = RetinaFace.from_preset("lite").detect(scene.image.numpy())
    np.testing.assert_allclose(found.box, box, atol=8)
    np.testing.assert_allclose(found.landmarks, scene.landmarks[0], atol=8)


class MeanFace:
    """A landmark model that puts the mean face into the middle of what it is shown."""

    def __call__(self, image, rois):
        topology = load_topology()
        points = np.zeros((len(rois), 468, 3), np.float32)
        own = topology.source_weights[:, 0] == 1
        for row, roi in zip(points, rois):
            shape = topology.mean[own] * roi.side / 2
            row[topology.source_points[own, 0]] = shape + np.array([*roi.center, 0])
        return points, np.ones(len(rois), np.float32)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_meshes_lie_on_the_face_that_training_decodes(tmp_path, upright, orientation, packed):
    """From `data label-mesh` through its labels and, packed or not, the decoder."""
    path = save(tmp_path / "photo.jpg", upright, orientation)
    detector, topology = RetinaFace.from_preset("lite"), load_topology()
    config = MeshLabelConfig(threshold=0.5)
    label_images([path], tmp_path / "labels", detector, MeanFace(), topology, config)
    checked = check_images(read_mesh_labels(tmp_path / "labels").annotated())
    assert not checked.problems and len(checked.turned) == (orientation != 1)
    source = LabelledSource(checked.images)
    if packed:
        pack_images(checked.images, tmp_path / "packed")
        source = RecordSource(tmp_path / "packed")
    (example,) = source.examples(EpochSlice(seed=0, epoch=0, steps=1, batch=1, end=1))
    faces = (example["boxes"], example["landmarks"], example["ignored"])
    scene = load_and_augment(
        example["encoded"],
        *faces,
        tf.constant([0, 1]),
        240,
        PLAIN,
        vertices=example["vertices"],
        mirror=topology.mirror,
    )
    (found,) = detector.detect(scene.image.numpy())
    np.testing.assert_allclose(found.box, scene.boxes[0], atol=8)
    (mesh,) = scene.vertices.numpy()
    assert np.linalg.norm(mesh[:, :2].mean(axis=0) - found.landmarks.mean(axis=0)) < 20


def test_labels_are_checked_against_the_upright_size(tmp_path, upright):
    """A face in the lower part of a tall photo that is stored lying: outside the stored rows."""
    path = save(tmp_path / "photo.jpg", upright, 6)
    entry = {"image": path.name, "faces": [{"box": [100, 250, 150, 295]}]}
    (tmp_path / "labels.jsonl").write_text(json.dumps(entry) + "\n")
    images = read_json_labels(tmp_path / "labels.jsonl", tmp_path)
    for decode in (True, False):
        assert not check_images(images, decode=decode).problems
