"""Projection and shading against plain float64 loops."""

import numpy as np
import tensorflow as tf
from scipy.spatial.transform import Rotation

from retinaface_tf.reconstruction.camera import (
    Camera,
    posed,
    project,
    split_camera,
)
from retinaface_tf.reconstruction.lighting import (
    incident_triangles,
    shade,
    split_lighting,
    vertex_normals,
)
from tests.helpers.shapes import icosphere, open_bowl


def random_camera(rng, batch):
    position = rng.normal((0, 0, 4), 0.3, (batch, 3))
    pose = rng.normal(0, 0.8, (batch, 3))
    return Camera(*map(tf.constant, (position, pose, rng.uniform(2, 5, (batch, 1)))))


def test_projection_against_a_loop(rng):
    vertices, _ = icosphere(1)
    camera = random_camera(rng, 3)
    batch = np.stack([vertices] * 3)
    found = project(posed(tf.constant(batch), camera), camera.focal, 96).numpy()
    for i in range(3):
        turn = Rotation.from_rotvec(camera.pose[i].numpy())
        for vertex, (x, y, inverse) in zip(vertices, found[i]):
            cx, cy, cz = turn.apply(vertex) + camera.position[i].numpy()
            focal = float(camera.focal[i, 0]) * 48
            np.testing.assert_allclose((x, y), (48 + focal * cx / cz, 48 + focal * cy / cz))
            np.testing.assert_allclose(inverse, 1 / cz)


def test_what_lies_behind_the_camera_is_marked(rng):
    vertices = tf.constant([[[0.1, 0.2, -1.0], [0.1, 0.2, 1.0]]], "float64")
    inverse = project(vertices, tf.constant([[2.0]], "float64"), 64)[0, :, 2]
    np.testing.assert_array_equal(inverse, (0, 1))


def test_parameters_are_split_in_the_papers_order():
    numbers = np.arange(16.0)[None]
    camera, light = split_camera(numbers[:, :7]), split_lighting(numbers[:, 7:])
    assert camera.position.tolist() == [[0, 1, 2]] and camera.focal.tolist() == [[6]]
    assert light.position.tolist() == [[7, 8, 9]] and light.ambient.tolist() == [[13, 14, 15]]


def test_normals_against_a_loop():
    vertices, triangles = open_bowl(2)
    expected = np.zeros_like(vertices)
    for a, b, c in triangles:
        normal = np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        for corner in (a, b, c):
            expected[corner] += normal
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    incident = incident_triangles(triangles, len(vertices))
    found = vertex_normals(tf.constant(vertices[None]), triangles, incident)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # Outward: away from the bowl's centre.
    assert ((expected * vertices).sum(1) > 0).all()


def test_shading_against_a_loop(rng):
    vertices, _ = icosphere(1)
    albedo, numbers = rng.uniform(0, 1, vertices.shape), rng.normal(0, 2, (1, 9))
    light = split_lighting(tf.constant(numbers))
    normals = vertices
    found = shade(*(tf.constant(v[None]) for v in (albedo, vertices, normals)), light)[0].numpy()
    dark = 0
    for color, vertex, normal, result in zip(albedo, vertices, normals, found):
        direction = numbers[0, :3] - vertex
        facing = normal @ direction / np.linalg.norm(direction)
        dark += facing < 0
        lit = numbers[0, 6:] + numbers[0, 3:6] * max(facing, 0)
        np.testing.assert_allclose(result, color * lit, atol=1e-12)
    assert 0 < dark < len(vertices)
