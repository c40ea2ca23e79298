"""The camera of the dense branch: seven numbers that place a mesh in an anchor's crop.

1905.00641, section 3.2: camera location, camera pose and focal length. A face is small beside its
distance, so what is written here is the same camera seen from the face: the mesh turns about its own
origin and is then moved, x_c = R(pose) x + position. The camera's location in the mesh's own
coordinates is -R^T position. Written so, a wrong angle does not throw the face out of the image.

Axes: x to the image's right, y down, z away from the viewer, for the mesh as for the camera. The
crop is the square [-1, 1] x [-1, 1]: u = focal x_c / z_c, v = focal y_c / z_c.
"""

from typing import NamedTuple

from keras import ops

from retinaface_tf.geometry.similarity import rotation_matrix

# Nearer than this the projection is held, so that no depth divides by zero; such triangles are not drawn.
NEAREST = 1e-2


class Camera(NamedTuple):
    """Of each of B faces.

    Attributes:
        position: [B, 3] the mesh's origin in the camera's coordinates; z is the distance, positive.
        pose: [B, 3] rotation vector: axis times angle in radians.
        focal: [B, 1] focal length in halves of the crop's side.
    """

    position: object
    pose: object
    focal: object


def split_camera(parameters) -> Camera:
    """[B, 7] position, pose, focal -> `Camera`."""
    return Camera(parameters[:, :3], parameters[:, 3:6], parameters[:, 6:7])


def posed(vertices, camera: Camera):
    """Vertices [B, V, 3] of the mesh -> [B, V, 3] in the camera's coordinates."""
    turned = ops.matmul(vertices, ops.swapaxes(rotation_matrix(camera.pose), 1, 2))
    return turned + camera.position[:, None]


def project(vertices, focal, size: int):
    """Vertices in the camera's coordinates -> pixels of a square crop.

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
