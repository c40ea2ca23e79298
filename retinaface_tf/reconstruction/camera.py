"""The camera of the dense branch: seven numbers that place a mesh in an anchor's crop.

1905.00641, section 3.2: camera location, camera pose and focal length. A face is small beside its
distance, so what is written here is the same camera seen from the face: the mesh turns about its own
origin and is then moved, x_c = R(pose) x + position. The camera's location in the mesh's frame is
-R^T position. Written so, a wrong angle does not throw the face out of the image.

Frames: x to the image's right, y down, z away from the viewer, for the mesh as for the camera. The
crop is the square [-1, 1] x [-1, 1]: u = focal x_c / z_c, v = focal y_c / z_c.
"""

from __future__ import annotations

from typing import NamedTuple

from keras import ops

# Nearer than this the projection is held, so that no depth divides by zero; such triangles are not drawn.
NEAREST = 1e-2


class Camera(NamedTuple):
    """Of each of B faces.

    Attributes:
        position: [B, 3] the mesh's origin in the camera's frame; z is the distance, positive.
        pose: [B, 3] rotation vector: axis times angle in radians.
        focal: [B, 1] focal length in halves of the crop's side.
    """

    position: object
    pose: object
    focal: object


def split_camera(parameters) -> Camera:
    """[B, 7] position, pose, focal -> `Camera`."""
    return Camera(parameters[:, :3], parameters[:, 3:6], parameters[:, 6:7])


def rotation_matrix(pose):
    """Rotation vectors [B, 3] -> matrices [B, 3, 3] (Rodrigues), smooth at zero too."""
    # Series at zero in effect: the small number keeps the root's derivative finite.
    half = ops.sqrt(ops.sum(pose * pose, axis=-1) / 4 + 1e-12)
    sinc_half = ops.sin(half) / half
    first = (sinc_half * ops.cos(half))[:, None, None]
    second = (sinc_half * sinc_half / 2)[:, None, None]
    x, y, z = pose[:, 0], pose[:, 1], pose[:, 2]
    zero = ops.zeros_like(x)
    cross = ops.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1)
    cross = ops.reshape(cross, (-1, 3, 3))
    squared = ops.matmul(cross, cross)
    return ops.eye(3, dtype=pose.dtype) + first * cross + second * squared


def posed(vertices, camera: Camera):
    """Vertices [B, V, 3] of the mesh -> [B, V, 3] in the camera's frame."""
    turned = ops.matmul(vertices, ops.swapaxes(rotation_matrix(camera.pose), 1, 2))
    return turned + camera.position[:, None]


def project(vertices, focal, size: int):
    """Camera-frame vertices to the pixels of a square crop.

    Args:
        vertices: [B, V, 3] from `posed`.
        focal: [B, 1].
        size: side of the crop in pixels.

    Returns:
        [B, V, 3]: x and y in pixels (the first pixel's centre is at 0.5), and 1 / z, which is linear
        over a triangle's image and larger for what is nearer; 0 behind the camera.
    """
    depth = vertices[..., 2:]
    inverse = 1 / ops.maximum(depth, NEAREST)
    place = (focal[:, None] * vertices[..., :2] * inverse + 1) * (size / 2)
    seen = ops.cast(depth > NEAREST, inverse.dtype)
    return ops.concatenate([place, inverse * seen], axis=-1)


def camera_location(camera: Camera):
    """[B, 3]: where the camera is, in the mesh's frame (the papers' parameter)."""
    turn = rotation_matrix(camera.pose)
    return -ops.matmul(ops.swapaxes(turn, 1, 2), camera.position[..., None])[..., 0]
