"""The renderer against ray casting in plain float64, and its gradients against differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.transform import Rotation

from retinaface_tf.errors import DataError
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.reconstruction.camera import project, split_camera
from retinaface_tf.reconstruction.lighting import split_lighting
from retinaface_tf.reconstruction.rasterize import MeshEdges
from retinaface_tf.reconstruction.renderer import MeshRenderer
from tests.helpers.shapes import icosphere, open_bowl

CAMERA = np.array([[0.05, -0.1, 5.0, 0.15, 0.5, -0.1, 3.4]])
LIGHT = np.array([[-2.0, -3.0, 1.0, 0.6, 0.5, 0.4, 0.35, 0.3, 0.4]])


def face():
    topology = load_topology()
    return (topology.mean - topology.mean.mean(0)).astype(np.float64) * 1.6, topology.triangles


def two_spheres():
    """A small sphere before a large one: occlusion, and a silhouette over a surface."""
    vertices, triangles = icosphere(2)
    small = vertices * 0.35 + (0.5, 0.3, -1.5)
    return np.concatenate([vertices, small]), np.concatenate([triangles, triangles + 162])


SHAPES = {"face": face(), "spheres": two_spheres(), "bowl": open_bowl(2)}


def cast_rays(vertices, triangles, colors, camera, size, samples=1):
    """Colours [n, n, 4] with coverage, n = size * samples, by Moeller and Trumbore's ray test.

    No projection, z-buffer or screen-space barycentrics: rays against triangles in space.
    """
    turn = Rotation.from_rotvec(camera[3:6])
    corners = (turn.apply(vertices) + camera[:3])[triangles]
    a, u, v = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(u, v)
    facing = (normal * a).sum(1) < 0
    image = np.zeros((size * samples, size * samples, 4))
    for row in range(size * samples):
        for column in range(size * samples):
            x = 2 * (column + 0.5) / (size * samples) - 1
            y = 2 * (row + 0.5) / (size * samples) - 1
            ray = np.array([x / camera[6], y / camera[6], 1])
            cross = np.cross(ray, v)
            scale = (u * cross).sum(1)
            with np.errstate(divide="ignore", invalid="ignore"):
                s = -(a * cross).sum(1) / scale
                across = np.cross(-a, u)
                t = (across @ ray) / scale
                depth = (v * across).sum(1) / scale
            hit = facing & (s >= 0) & (t >= 0) & (s + t <= 1) & (depth > 0)
            if hit.any():
                i = np.where(hit, depth, np.inf).argmin()
                weights = np.array([1 - s[i] - t[i], s[i], t[i]])
                image[row, column] = (*(weights @ colors[triangles[i]]), 1)
    return image


def hard_pixels(visibility):
    """Pixels no silhouette edge touches."""
    soft = np.zeros(visibility.triangle.shape, bool)
    horizontal, vertical = visibility.horizontal.numpy() >= 0, visibility.vertical.numpy() >= 0
    soft[:, :, :-1] |= horizontal
    soft[:, :, 1:] |= horizontal
    soft[:, :-1] |= vertical
    soft[:, 1:] |= vertical
    return ~soft


def camera_space(vertices, camera):
    return Rotation.from_rotvec(camera[3:6]).apply(vertices) + camera[:3]


def drawn(shape, colors, size, **options):
    vertices, triangles = shape
    renderer = MeshRenderer(triangles, len(vertices), size, **options)
    screen = project(tf.constant(camera_space(vertices, CAMERA[0])[None]), CAMERA[:, 6:], size)
    return renderer.draw(screen, tf.constant(colors[None]))


@pytest.mark.parametrize("name", SHAPES)
def test_image_against_ray_casting(rng, name):
    vertices, triangles = SHAPES[name]
    colors = rng.uniform(0, 1, vertices.shape)
    rendering = drawn(SHAPES[name], colors, 40)
    expected = cast_rays(vertices, triangles, colors, CAMERA[0], 40)
    found = np.concatenate([rendering.image[0], rendering.coverage[0]], axis=-1)
    hard = hard_pixels(rendering.visibility)[0]
    assert 0.5 < hard.mean() < 1 and expected[..., 3].mean() > 0.2
    # A centre within 1e-5 of an edge may go to either triangle.
    np.testing.assert_allclose(found[hard], expected[hard], atol=2e-5)
    np.testing.assert_array_equal(rendering.visibility.triangle[0] >= 0, expected[..., 3] > 0)


@pytest.mark.parametrize("name", SHAPES)
def test_silhouettes_are_nearer_to_supersampling_than_hard_pixels_are(name):
    vertices, triangles = SHAPES[name]
    # A colour that is flat on screen but different for each sphere.
    colors = np.where(np.arange(len(vertices))[:, None] < 162, (1.0, 0.2, 0.1), (0.1, 0.9, 0.3))
    size, samples = 24, 5
    rendering = drawn(SHAPES[name], colors, size)
    fine = cast_rays(vertices, triangles, colors, CAMERA[0], size, samples)
    fine = fine.reshape(size, samples, size, samples, 4).mean((1, 3))
    hard = fine[..., 3] * 0 + (rendering.visibility.triangle[0].numpy() >= 0)
    soft = ~hard_pixels(rendering.visibility)[0]
    error = np.abs(rendering.coverage[0, ..., 0] - fine[..., 3])
    assert error.max() < 0.3
    assert error[soft].mean() < 0.35 * np.abs(hard - fine[..., 3])[soft].mean()
    assert np.abs(rendering.image[0] - fine[..., :3])[soft].mean() < 0.06


def test_pieces_do_not_change_the_image(rng):
    vertices, _ = SHAPES["spheres"]
    colors = rng.uniform(0, 1, vertices.shape)
    whole = drawn(SHAPES["spheres"], colors, 32)
    pieces = drawn(SHAPES["spheres"], colors, 32, piece=97)
    np.testing.assert_array_equal(whole.image, pieces.image)


def test_faces_of_a_batch_do_not_meet(rng):
    """Each image of a batch equals the image alone; an empty one is the background."""
    vertices, triangles = SHAPES["face"]
    renderer = MeshRenderer(triangles, len(vertices), 32)
    cameras = np.repeat(CAMERA, 3, 0)
    cameras[1, 3:6] = (-0.4, -0.6, 0.3)
    cameras[2, 2] = -3  # behind the camera
    albedo = rng.uniform(0, 1, (3, *vertices.shape))
    background = rng.uniform(0, 1, (3, 32, 32, 3))
    light = np.repeat(LIGHT, 3, 0)
    batch = np.repeat(vertices[None], 3, 0)

    def render(part):
        camera, lighting = split_camera(tf.constant(cameras[part])), split_lighting(light[part])
        return renderer(tf.constant(batch[part]), albedo[part], camera, lighting, background[part])

    whole = render(slice(None))
    for i in range(2):
        alone = render(slice(i, i + 1))
        np.testing.assert_allclose(whole.image[i], alone.image[0], atol=1e-12)
        assert 0.2 < float(np.mean(alone.coverage)) < 0.9
    np.testing.assert_array_equal(whole.image[2], background[2])
    assert not np.any(whole.coverage[2])


@pytest.fixture(scope="module")
def scene():
    """A shaded image's weighted sum as a function of all its inputs, in float64."""
    rng = np.random.default_rng(3)
    vertices, triangles = SHAPES["face"]
    size = 24
    renderer = MeshRenderer(triangles, len(vertices), size)
    weights = rng.normal(size=(1, size, size, 3))
    inputs = {
        "vertices": vertices[None] + 0,
        "albedo": rng.uniform(0.2, 1, (1, *vertices.shape)),
        "camera": CAMERA + 0,
        "light": LIGHT + 0,
    }

    @tf.function
    def draw(vertices, albedo, camera, light):
        background = tf.fill((1, size, size, 3), tf.constant(0.7, tf.float64))
        rendering = renderer(
            vertices, albedo, split_camera(camera), split_lighting(light), background
        )
        return tf.reduce_sum(rendering.image * weights), rendering.visibility

    @tf.function
    def gradients(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value, _ = draw(*tensors)
        return tape.gradient(value, tensors)

    return inputs, draw, gradients


def same_choices(one, other):
    return all(bool(tf.reduce_all(a == b)) for a, b in zip(one, other))


@pytest.mark.parametrize("name", ["vertices", "albedo", "camera", "light"])
def test_gradients_against_finite_differences(scene, name):
    """Central differences, leaving out steps on which another triangle or edge is chosen."""
    inputs, draw, gradients = scene
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    analytic = dict(zip(inputs, gradients(*tensors.values())))[name]
    analytic = tf.convert_to_tensor(analytic).numpy().ravel()
    rng = np.random.default_rng(4)
    used = np.flatnonzero(analytic)
    chosen = used if len(used) < 20 else rng.choice(used, 24, replace=False)
    assert len(used) > 0.25 * analytic.size
    compared, step = 0, 1e-6
    for index in chosen:
        values = []
        for sign in (1, -1):
            moved = inputs[name].copy()
            moved.ravel()[index] += sign * step
            values.append(draw(**{**tensors, name: tf.constant(moved)}))
        if same_choices(values[0][1], values[1][1]):
            numeric = float(values[0][0] - values[1][0]) / (2 * step)
            assert analytic[index] == pytest.approx(numeric, rel=2e-5, abs=1e-6)
            compared += 1
    assert compared >= 0.8 * len(chosen)


def test_silhouette_gradient_is_the_areas(rng):
    """Coverage adds up to the disc's area, so its derivative by the focal length is 2 area / f.

    A hard z-buffer's would be zero.
    """
    vertices, triangles = icosphere(3)
    renderer = MeshRenderer(triangles, len(vertices), 64)
    focal = tf.Variable([[3.0]], dtype=tf.float64)
    center = tf.constant(vertices[None] + (0.013, 0.021, 5))
    white = tf.ones_like(center)
    with tf.GradientTape() as tape:
        rendering = renderer.draw(project(center, focal, 64), white)
        area = tf.reduce_sum(rendering.coverage)
    # A sphere of radius 1 at distance 5 is seen under asin(1 / 5).
    exact = np.pi * (3 * 32 * np.tan(np.arcsin(1 / 5))) ** 2
    assert float(area) == pytest.approx(exact, rel=0.01)
    slope = float(tape.gradient(area, focal)[0, 0])
    assert slope == pytest.approx(2 * float(area) / 3, rel=0.03)


@pytest.mark.parametrize("shift", [(1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5)])
def test_silhouette_gradient_points_to_the_target(shift):
    """A white disc that should lie a little aside is drawn there by its outline alone."""
    vertices, triangles = icosphere(2)
    renderer = MeshRenderer(triangles, len(vertices), 32)
    place = tf.constant(vertices[None] + (0, 0, 5))
    focal = tf.constant([[3.0]], tf.float64)
    white = tf.ones_like(place)

    def draw(pixels):
        screen = project(place, focal, 32)
        return renderer.draw(screen + tf.pad(pixels, [[0, 1]]), white).image

    target = draw(tf.constant(shift, tf.float64))
    pixels = tf.Variable(tf.zeros(2, tf.float64))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(draw(pixels) - target))
    gradient = tape.gradient(loss, pixels).numpy()
    direction = -gradient / np.linalg.norm(gradient)
    assert direction @ np.array(shift) / 1.5 > 0.98


def test_an_edge_with_three_triangles_is_refused():
    with pytest.raises(DataError, match="has 3 triangles"):
        MeshEdges.of(np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]))
