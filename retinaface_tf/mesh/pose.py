"""Head pose from vertices; a mean face placed by a box or by five points."""

import numpy as np

from retinaface_tf.geometry.similarity import estimate_similarity, fit_similarity, rotation_matrix


def head_pose(vertices: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll in degrees, float64 [N, 3], of faces with vertices [N, V, 3].

    The angles of 300W-LP and AFLW2000-3D: the face is turned by pitch about x, after yaw about y,
    after roll about z. Positive yaw looks to the image's left, positive pitch up, positive roll is
    tilted clockwise in the image. All are 0 for the mean face [V, 3] as it stands.
    """
    if not len(vertices):
        return np.zeros((0, 3))
    return np.degrees(euler_angles(fit_similarity(mean, vertices)[1]))


def euler_angles(rotation: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] in image axes (x right, y down, z away) -> yaw, pitch, roll in radians."""
    yaw = np.arcsin(np.clip(rotation[:, 0, 2], -1, 1))
    pitch = np.arctan2(rotation[:, 1, 2], rotation[:, 2, 2])
    roll = np.arctan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    return np.stack([yaw, pitch, roll], axis=1)


def mean_face_in_box(mean: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A mean face [V, 3] scaled into a box [4], looking ahead: [V, 3] in pixels."""
    low, high = mean[:, :2].min(axis=0), mean[:, :2].max(axis=0)
    sides = (box[2:] - box[:2]) / (high - low)
    xy = box[:2] + (mean[:, :2] - low) * sides
    return np.concatenate([xy, mean[:, 2:] * np.sqrt(np.prod(sides))], axis=1)


def mean_face_by_similarity(
    mean: np.ndarray, five: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """A mean face [V, 3] moved, scaled and turned in the image so that its five points [5, 2]
    meet detected ones [5, 2] best: [V, 3]."""
    if np.ptp(landmarks, axis=0).max() < 1e-3:
        landmarks = landmarks + five / 100
    matrix = estimate_similarity(five, landmarks)
    scale = np.sqrt(np.linalg.det(matrix[:, :2]))
    xy = mean[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([xy, mean[:, 2:] * scale], axis=1)


def mean_face_by_pose(mean: np.ndarray, five: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The same with a rotation in space, `pose_of_points` of its five points [5, 3]."""
    rotation, scale = pose_of_points(five, landmarks)
    turned = scale * (mean - five.mean(axis=0)) @ rotation.T
    return turned + np.append(landmarks.mean(axis=0), 0)


def pose_of_points(five: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """The rotation [3, 3] and scale with which points in space [P, 3] are seen at [P, 2].

    Scaled orthographic: starts at the linear solution (DeMenthon and Davis 1995), then Gauss-Newton
    on rotation and scale.
    """
    offset = landmarks.mean(axis=0)
    points = five - five.mean(axis=0)
    wanted = landmarks - offset
    linear = np.linalg.lstsq(points, wanted, rcond=1e-3)[0].T
    u, values, vt = np.linalg.svd(linear, full_matrices=False)
    scale = float(values.mean())
    rows = u @ vt
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    for _ in range(20):
        turned = points @ rotation.T
        error = (wanted - scale * turned[:, :2]).ravel()
        # Derivatives by three small rotations and the scale.
        columns = []
        for axis in np.eye(3):
            columns.append((scale * np.cross(axis, turned)[:, :2]).ravel())
        columns.append(turned[:, :2].ravel())
        jacobian = np.stack(columns, axis=1)
        # A little damping: five points in nearly one plane leave a rotation undetermined.
        damping = 1e-3 * np.trace(jacobian.T @ jacobian) / 4 * np.eye(4)
        step = np.linalg.solve(jacobian.T @ jacobian + damping, jacobian.T @ error)
        rotation = rotation_matrix(step[None, :3])[0] @ rotation
        scale = max(scale + step[3], 1e-6)
    return rotation, scale
