"""A drawn face, labelled and read back, has the shape and the skin it was drawn with."""

import numpy as np
import pytest
from PIL import Image

from retinaface_tf.data.readers.mesh_labels import MeshLabels
from retinaface_tf.errors import DataError
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.camera import Camera, posed, project
from retinaface_tf.reconstruction.lighting import Lighting
from retinaface_tf.reconstruction.renderer import MeshRenderer
from training.decoder.face_meshes import FaceMeshes, read_face_meshes
from training.decoder.synthetic_meshes import random_albedos, random_shapes

TOPOLOGY = load_topology()
SIZE = 160


def labels_of(folder, vertices):
    count = len(vertices)
    return MeshLabels(
        images=[str(folder / f"{i}.png") for i in range(count)],
        image=np.arange(count),
        boxes=np.zeros((count, 4)),
        landmarks=np.zeros((count, 5, 2)),
        vertices=vertices,
        presence=np.ones(count),
        disagreement=np.zeros(count),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Sixteen faces far away, turned and lit from all sides."""
    rng = np.random.default_rng(7)
    count = 16
    shapes, albedos = random_shapes(TOPOLOGY, count, rng), random_albedos(TOPOLOGY, count, rng)
    turns = rng.normal(0, (0.1, 0.35, 0.1), (count, 3))
    places = np.tile([0.0, 0, 50], (count, 1))
    camera = (places, turns, np.full((count, 1), 75.0))
    camera = Camera(*(np.float32(part) for part in camera))
    light = (
        rng.normal(0, 40, (count, 3)) * (1, 1, 0),
        np.full((count, 3), 0.7),
        np.full((count, 3), 0.4),
    )
    light = Lighting(*(np.float32(part) for part in light))
    renderer = MeshRenderer(TOPOLOGY.triangles, TOPOLOGY.num_vertices, SIZE)
    images = renderer(shapes, albedos, camera, light).image.numpy()
    screen = project(posed(shapes, camera), camera.focal, SIZE).numpy()
    depth = posed(shapes, camera).numpy()[..., 2] - 50
    folder = tmp_path_factory.mktemp("faces")
    for i, image in enumerate(images):
        Image.fromarray(np.uint8(np.clip(image, 0, 1) * 255)).save(folder / f"{i}.png")
    vertices = np.concatenate([screen[..., :2], depth[..., None] * 1.5 * SIZE / 2], axis=-1)
    lit = np.stack(
        [
            image[tuple(np.clip(place[:, :2].astype(int), 0, SIZE - 1).T[::-1])]
            for image, place in zip(images, screen)
        ]
    )
    return labels_of(folder, vertices.astype(np.float32)), shapes, albedos, lit


def test_shape_and_skin_come_back(drawn):
    labels, shapes, albedos, lit = drawn
    found = read_face_meshes(labels, TOPOLOGY)
    assert found.joined().shape == (16, 1103, 6)
    # Up to the similarity that lays a face onto the mean face.
    sides = [
        np.linalg.norm(s - s.mean(1, keepdims=True), axis=-1).mean(1)
        for s in (found.shapes, shapes)
    ]
    np.testing.assert_allclose(sides[0] / sides[1], 1, atol=0.15)

    def unevenness(colors):
        """Spread of the ratio to the true skin: 0 for skin times a constant."""
        ratio = (colors.mean(-1) + 0.02) / (albedos.mean(-1) + 0.02)
        return np.quantile(ratio, 0.75, axis=1) / np.quantile(ratio, 0.25, axis=1) - 1

    assert unevenness(found.albedos).mean() < 0.5 * unevenness(lit).mean()


def test_images_that_are_gone_leave_no_face(drawn, tmp_path):
    labels = drawn[0]
    with pytest.raises(DataError, match="could be read"):
        read_face_meshes(labels_of(tmp_path, labels.vertices), TOPOLOGY)


def test_sets_are_joined_and_chosen_from(rng):
    shapes = rng.normal(size=(5, 7, 3)).astype(np.float32)
    whole = FaceMeshes(shapes, shapes + 1, np.array(list("abcde")))
    joined = FaceMeshes.concatenate([whole[3:], whole[:2]])
    assert joined.images.tolist() == ["d", "e", "a", "b"]
    np.testing.assert_array_equal(joined.joined()[..., 3:], shapes[[3, 4, 0, 1]] + 1)
