"""A procedural 3D head: a grid of vertices on a deformed ellipsoid, coloured, posed, lit and drawn.

Axes: x to the image's right, y down, z towards the viewer; about one unit is half a head's height.
All shapes and colours are drawn at random for each head; nothing comes from a photo or a scan.
"""

import functools
from dataclasses import dataclass

import numpy as np

# Vertices along longitude and latitude, from coarse to fine.
GRIDS = ((88, 76), (176, 150), (264, 226))
# Up to this many pixels a side, a head of that grid has no gaps when drawn.
GRID_SIDES = (72, 160, 240)

# From light to dark, between which a head's skin lies; RGB in 0..255.
SKIN_TONES = np.array(
    [(243, 206, 180), (226, 174, 136), (199, 138, 98), (150, 95, 62), (101, 62, 42), (64, 40, 30)],
    np.float32,
)
HAIR_TONES = np.array(
    [(22, 18, 17), (52, 36, 27), (96, 66, 40), (178, 140, 84), (150, 60, 30), (160, 158, 156)],
    np.float32,
)


@dataclass(frozen=True)
class Head:
    """One person's head, upright and facing the viewer.

    Attributes:
        vertices: float32 [V, 3].
        normals: float32 [V, 3] outward, of length 1.
        colors: float32 [V, 3] RGB in 0..255, before light.
        landmarks: float32 [5, 3] the image's left eye, right eye, nose, mouth corners.
        face: bool [V], vertices of the face proper: brow to chin, ear to ear.
        shine: float32 [V], how much a vertex mirrors light.
    """

    vertices: np.ndarray
    normals: np.ndarray
    colors: np.ndarray
    landmarks: np.ndarray
    face: np.ndarray
    shine: np.ndarray


@dataclass(frozen=True)
class View:
    """A drawn head.

    Attributes:
        image: float32 [S, S, 3] RGB in 0..255.
        alpha: float32 [S, S] in 0..1.
        box: float32 [4] corners of the visible face in the image's pixels.
        landmarks: float32 [5, 2] in the image's pixels.
    """

    image: np.ndarray
    alpha: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


@functools.cache
def _sphere(columns: int, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Denser in front: longitude is stretched away from the viewer.
    u = np.linspace(-1, 1, columns, dtype=np.float32)
    longitude = np.pi * (0.72 * u + 0.28 * u**3)
    latitude = np.linspace(-np.pi / 2, np.pi / 2, rows, dtype=np.float32)
    longitude, latitude = np.meshgrid(longitude, latitude)
    return (
        np.sin(longitude) * np.cos(latitude),
        np.sin(latitude),
        np.cos(longitude) * np.cos(latitude),
    )


def _bump(x, y, cx, cy, sx, sy):
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def _step(value, softness):
    """0 below zero, 1 above, soft between."""
    return 1 / (1 + np.exp(-np.clip(value / softness, -30, 30)))


def draw_person(rng: np.random.Generator, side: int = GRID_SIDES[-1]) -> Head:
    """A head with random proportions, skin, hair, features and things worn.

    Args:
        side: of the square it will be drawn into, in pixels; decides the mesh's fineness.
    """
    grid = next((g for g, limit in zip(GRIDS, GRID_SIDES) if side <= limit), GRIDS[-1])
    sphere_x, sphere_y, sphere_z = _sphere(*grid)

    def vary(value, spread=0.12):
        return value * (1 + spread * float(np.clip(rng.standard_normal(), -2, 2)))

    width, depth = vary(0.74, 0.06), vary(0.88, 0.05)
    x, y, z = sphere_x * width, sphere_y.copy(), sphere_z * depth
    front = _step(z - 0.1, 0.06)
    # Jaw: narrower and flatter below the cheeks.
    jaw = np.maximum(y - 0.15, 0)
    x = x * (1 - vary(0.38, 0.25) * jaw**1.5)
    z = z * (1 - 0.1 * jaw) + 0.12 * jaw * front
    eye_x, eye_y = vary(0.3, 0.06), vary(-0.1, 0.3)
    nose_y, mouth_y = eye_y + vary(0.42, 0.08), eye_y + vary(0.68, 0.06)
    mouth_x, mouth_open = vary(0.24, 0.12), max(0.0, float(rng.normal(0.0, 0.06)))
    plane_x, plane_y = x.copy(), y.copy()

    # Relief of the face.
    bridge = np.clip((y - eye_y + 0.08) / (nose_y - eye_y + 0.08), 0, 1) * _step(
        nose_y + 0.05 - y, 0.025
    )
    relief = vary(0.26, 0.2) * bridge * np.exp(-((x / vary(0.11, 0.15)) ** 2))
    relief += 0.05 * sum(_bump(x, y, s * 0.1, nose_y, 0.07, 0.06) for s in (-1, 1))
    for side in (-1, 1):
        relief -= vary(0.08) * _bump(x, y, side * eye_x, eye_y, 0.16, 0.09)
        relief += vary(0.05) * _bump(x, y, side * eye_x, eye_y - 0.17, 0.2, 0.06)
        relief += vary(0.05) * _bump(x, y, side * 0.4, eye_y + 0.33, 0.17, 0.14)
    relief += 0.05 * _bump(x, y, 0, mouth_y, 0.2, 0.09) + vary(0.08) * _bump(
        x, y, 0, 0.85, 0.17, 0.12
    )
    z = z + relief * front
    ears = np.exp(-((sphere_z / 0.16) ** 2) - ((y - eye_y - 0.1) / 0.16) ** 2)
    x = x + np.sign(x) * vary(0.12, 0.3) * ears

    colors, shine = _paint_skin(
        rng, plane_x, plane_y, front, eye_x, eye_y, nose_y, mouth_x, mouth_y, mouth_open
    )
    swell = _dress(rng, colors, shine, plane_x, plane_y, z, front, eye_x, eye_y, mouth_y)
    grown = np.stack([x, y, z], -1) * (1 + swell[..., None])

    normals = np.cross(np.gradient(grown, axis=1), np.gradient(grown, axis=0))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    surface = np.stack([x, y, z], -1)

    def point(px, py):
        place = np.argmin((plane_x - px) ** 2 + (plane_y - py) ** 2 + 10.0 * (front < 0.5))
        return surface.reshape(-1, 3)[place]

    landmarks = np.stack(
        [
            point(-eye_x, eye_y),
            point(eye_x, eye_y),
            point(0.0, nose_y),
            point(-mouth_x, mouth_y),
            point(mouth_x, mouth_y),
        ]
    )
    # The box of annotators: from the middle of the forehead to the chin, without ears and hair.
    face = (front > 0.5) & (plane_y > eye_y - 0.46) & (ears < 0.3)
    return Head(
        np.float32(grown.reshape(-1, 3)),
        np.float32(normals.reshape(-1, 3)),
        np.float32(np.clip(colors, 0, 255).reshape(-1, 3)),
        np.float32(landmarks),
        face.ravel(),
        np.float32(shine.ravel()),
    )


def _blend(colors, mask, color):
    # Most features are small: only the vertices they touch are computed.
    place = mask > 0.004
    share = np.clip(mask[place], 0, 1, dtype=np.float32)[:, None]
    color = np.asarray(color, np.float32)
    part = colors[place]
    colors[place] = part + share * (color - part)


def _mix(rng, palette):
    place = rng.uniform(0, len(palette) - 1)
    low = int(place)
    return palette[low] + (place - low) * (palette[min(low + 1, len(palette) - 1)] - palette[low])


def _paint_skin(rng, x, y, front, eye_x, eye_y, nose_y, mouth_x, mouth_y, mouth_open):
    """Colours [rows, columns, 3] of a bare head with eyes, brows, nostrils and mouth."""
    skin = np.clip(_mix(rng, SKIN_TONES) + rng.normal(0, 7, 3), 8, 255)
    colors = np.empty((*x.shape, 3), np.float32)
    colors[:] = skin
    shine = np.full(x.shape, rng.uniform(0.0, 0.25), np.float32)
    # Blotches, redder cheeks and nose.
    blotches = rng.standard_normal((16, 16))
    rows, columns = (np.arange(n) * 16 // n for n in x.shape)
    colors += 2.5 * blotches[rows][:, columns, None]
    red = sum(_bump(x, y, s * 0.4, eye_y + 0.35, 0.18, 0.14) for s in (-1, 1))
    _blend(colors, front * rng.uniform(0, 0.3) * red, skin * (1.05, 0.78, 0.76))
    shadow = rng.uniform(0.2, 0.5)
    lid, wide = max(0.012, rng.normal(0.05, 0.014)), rng.uniform(0.1, 0.14)
    closed = rng.random() < 0.08
    iris = np.array(((60, 38, 22), (36, 24, 16), (70, 96, 120), (70, 90, 60))[rng.integers(4)])
    look = rng.normal(0, 0.02)
    for side in (-1, 1):
        cx = side * eye_x
        _blend(colors, front * shadow * _bump(x, y, cx, eye_y - 0.02, 0.17, 0.1), skin * 0.55)
        shape = 1 - ((x - cx) / wide) ** 2 - ((y - eye_y) / lid) ** 2
        lash = _step(1 - ((x - cx) / (wide * 1.15)) ** 2 - ((y - eye_y) / (lid + 0.025)) ** 2, 0.12)
        _blend(colors, 0.75 * front * lash, skin * 0.3)
        if not closed:
            open_eye = front * _step(shape, 0.12)
            _blend(colors, open_eye, (225, 218, 212))
            ball = 1 - ((x - cx - look) / 0.05) ** 2 - ((y - eye_y) / 0.055) ** 2
            _blend(colors, open_eye * _step(ball, 0.15), iris)
            _blend(colors, open_eye * _step(ball - 0.7, 0.1), (10, 8, 8))
    brow, tilt = rng.uniform(0.35, 0.95), rng.normal(0, 0.12)
    hair = np.clip(_mix(rng, HAIR_TONES), 0, 200)
    for side in (-1, 1):
        along = (x - side * eye_x) * side
        line = eye_y - rng.uniform(0.13, 0.19) - tilt * along + 1.2 * along**2
        mask = np.exp(-(((y - line) / rng.uniform(0.022, 0.04)) ** 2)) * _step(
            0.17 - abs(along), 0.02
        )
        _blend(colors, brow * front * mask, hair * 0.7)
        _blend(
            colors, 0.8 * front * _bump(x, y, side * 0.06, nose_y + 0.06, 0.035, 0.022), skin * 0.25
        )
        crease = np.exp(-(((abs(x) - 0.14 - 0.45 * (y - nose_y)) / 0.02) ** 2))
        fold = crease * (y > nose_y) * (y < mouth_y)
        _blend(colors, rng.uniform(0, 0.2) * front * fold, skin * 0.5)
    _blend(colors, 0.35 * front * _bump(x, y, 0, nose_y + 0.1, 0.13, 0.035), skin * 0.5)
    # Mouth: lips, the line between them, and teeth or dark when open.
    smile = rng.normal(0.5, 0.8)
    curve = mouth_y - smile * ((x / 0.24) ** 2 - 0.3) * 0.05
    inside = np.clip(1 - (x / mouth_x) ** 2, 0, None) ** 0.6
    thick = rng.uniform(0.04, 0.075) + mouth_open
    lips = _step(inside * thick - abs(y - curve), 0.008) * (abs(x) < mouth_x)
    tone = np.clip(
        skin * (rng.uniform(0.7, 1.0), rng.uniform(0.45, 0.62), rng.uniform(0.45, 0.65)), 0, 255
    )
    _blend(colors, 0.9 * front * lips, tone)
    gap = _step(inside * (0.008 + mouth_open) - abs(y - curve), 0.006) * (abs(x) < mouth_x)
    teeth = mouth_open > 0.015 and rng.random() < 0.7
    _blend(colors, 0.9 * front * gap, (222, 212, 200) if teeth else skin * 0.22)
    return colors, shine


def _dress(rng, colors, shine, x, y, z, front, eye_x, eye_y, mouth_y):
    """Paints hair, beard, glasses, mask or hat; returns how far each vertex swells outwards."""
    swell = np.zeros_like(x)
    hair = np.clip(_mix(rng, HAIR_TONES) + rng.normal(0, 8, 3), 0, 235)
    strands = 1 + 0.25 * rng.standard_normal(x.shape[1])[None] + 0.1 * rng.standard_normal(x.shape)
    bald = rng.random() < 0.12
    if rng.random() < 0.22:
        beard = _step(y - (mouth_y - 0.17), 0.04) * _step(y - mouth_y + 0.33 - 0.9 * abs(x), 0.05)
        lips = _bump(x, y, 0, mouth_y, 0.2, 0.045)
        cover = front * beard * (1 - lips) * rng.uniform(0.25, 0.9)
        _blend(colors, cover * np.clip(strands, 0.5, 1.3), hair * 0.8)
    if not bald:
        line = (
            eye_y - rng.uniform(0.42, 0.6) + rng.uniform(0.2, 1.2) * x**2 + rng.normal(0, 0.15) * x
        )
        length = rng.choice([0.05, 0.35, 1.3], p=[0.45, 0.3, 0.25])
        top = _step(line - y, 0.02)
        sides = _step(-z - rng.uniform(-0.25, 0.05), 0.03) * _step(length - y, 0.05)
        cover = np.clip(np.maximum(top, sides), 0, 1)
        before = colors.copy()
        _blend(colors, cover, hair)
        colors[:] = (
            before + (colors * np.clip(strands, 0.4, 1.7)[..., None] - before) * cover[..., None]
        )
        swell += rng.uniform(0.03, 0.2) * cover * (0.4 + 0.6 * _step(-y, 0.3))
        shine[:] = np.where(cover > 0.5, rng.uniform(0, 0.3), shine)
    if rng.random() < 0.12:
        edge = eye_y - rng.uniform(0.32, 0.5)
        cap = _step(edge - y - 0.15 * z, 0.015)
        _blend(colors, cap, rng.uniform(10, 245, 3))
        swell = np.maximum(swell, 0.14 * cap)
        brim = np.exp(-(((y - edge + 0.12 * z) / 0.05) ** 2)) * front
        swell += rng.uniform(0, 0.3) * brim
    worn = rng.random()
    if worn < 0.2:
        dark = rng.random() < 0.4
        frame = np.minimum(((x - eye_x) / 0.2) ** 2, ((x + eye_x) / 0.2) ** 2) ** 1.5
        frame = frame + (abs(y - eye_y) / rng.uniform(0.11, 0.16)) ** 3
        ring = np.exp(-(((frame - 1) / 0.22) ** 2))
        bar = (
            np.exp(-(((y - eye_y) / 0.02) ** 2))
            * ((abs(x) < 0.14) | (abs(x) > eye_x + 0.18))
            * (z > -0.2)
        )
        color = rng.uniform(0, 90, 3) if rng.random() < 0.8 else rng.uniform(90, 220, 3)
        if dark:
            _blend(colors, 0.93 * front * _step(1 - frame, 0.05), rng.uniform(0, 50, 3))
            shine[:] = np.where((frame < 1) & (front > 0.5), 0.8, shine)
        _blend(colors, np.clip(front * ring + bar, 0, 1), color)
    elif worn < 0.25:
        cloth = front * _step(y - (mouth_y - 0.34 + 0.5 * x**2), 0.015)
        folds = 1 + 0.05 * np.sin(40 * y + rng.uniform(0, 6))
        _blend(colors, cloth, rng.uniform(60, 250, 3))
        colors *= np.where(cloth[..., None] > 0.5, folds[..., None], 1)
        swell = np.maximum(swell, 0.04 * cloth)
    return swell


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3] that turns about the y, x and z axes, in that order; radians."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.float32(turn_z @ turn_x @ turn_y)


def draw_view(
    head: Head, turn: np.ndarray, light: np.ndarray, ambient: float, tint: np.ndarray, side: int
) -> View:
    """Draws a head into a square of `side` pixels, seen from a little way off.

    Args:
        turn: [3, 3] of `rotation`.
        light: [3] direction the light comes from.
        ambient: share of the light that comes from everywhere, 0..1.
        tint: [3] colour of the light, about 1.
        side: of the result, see `GRID_SIDES`.
    """
    vertices, normals = head.vertices @ turn.T, head.normals @ turn.T
    scale = side / 3.1

    def project(points):
        nearer = 1 / (1 - 0.12 * points[:, 2:])
        return points[:, :2] * nearer * scale + side / 2

    seen = normals[:, 2] > -0.05
    vertices, normals, colors = vertices[seen], normals[seen], head.colors[seen]
    light = light / np.linalg.norm(light)
    lit = normals @ light
    half = light + np.array([0, 0, 1])
    gloss = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 24 * head.shine[seen]
    shade = ambient + (1 - ambient) * np.clip(0.25 + 0.75 * lit, 0, None)
    colors = colors * shade[:, None] * tint + 255 * gloss[:, None] * (1 - ambient) * tint
    pixels = project(vertices)
    # The nearest vertex is written last and stays.
    order = np.argsort(vertices[:, 2], kind="stable")
    place, colors, depth = pixels[order], np.float32(colors[order]), vertices[order, 2]
    image = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side), np.float32)
    nearest = np.full((side, side), -9, np.float32)
    base = np.floor(place - 0.5).astype(np.int64)
    for dx, dy in ((1, 1), (0, 1), (1, 0), (0, 0)):
        # Four pixels around each vertex close the gaps between neighbours.
        column, row = base[:, 0] + dx, base[:, 1] + dy
        good = (column >= 0) & (row >= 0) & (column < side) & (row < side)
        good[good] = depth[good] >= nearest[row[good], column[good]] - 0.08
        column, row = column[good], row[good]
        image[row, column] = colors[good]
        nearest[row, column] = depth[good]
        alpha[row, column] = 1
    face = head.face[seen] & (normals[:, 2] > 0.05)
    outline = pixels[face] if face.any() else pixels
    box = np.concatenate([outline.min(0), outline.max(0)])
    landmarks = project(head.landmarks @ turn.T)
    return View(image, alpha, np.float32(box), np.float32(landmarks))
