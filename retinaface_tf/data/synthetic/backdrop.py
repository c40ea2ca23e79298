"""What lies behind drawn faces, and what a camera does to the image."""

import numpy as np


def draw_backdrop(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clutter: clouds of colour, shapes, stripes, and skin-coloured ovals without a face.

    Returns:
        float32 RGB [size, size, 3] in 0..255.
    """
    import cv2

    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = rng.uniform(20, 235) + rng.normal(0, rng.uniform(5, 50), 3)
    vivid = rng.uniform(0.1, 0.8)
    for cells in (2, 5, 12, 40):
        strength = rng.uniform(2, 120 / cells**0.5)
        grey = rng.normal(0, strength, (cells, cells, 1))
        clouds = grey + rng.normal(0, vivid * strength, (cells, cells, 3))
        canvas += cv2.resize(np.float32(clouds), (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 26))):
        _draw_shape(rng, canvas)
    if rng.random() < 0.25:
        _draw_stripes(rng, canvas)
    for _ in range(int(rng.integers(0, 5))):
        _draw_blank_oval(rng, canvas)
    if rng.random() < 0.4:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 5))
    return np.clip(canvas, 0, 255)


def _color(rng) -> tuple[float, ...]:
    grey, spread = rng.uniform(0, 255), rng.uniform(0, 110)
    return tuple(float(v) for v in np.clip(grey + rng.uniform(-spread, spread, 3), 0, 255))


def _draw_shape(rng, canvas: np.ndarray) -> None:
    import cv2

    size = canvas.shape[0]
    kind = rng.integers(5)
    a = tuple(int(v) for v in rng.uniform(-0.1, 1.1, 2) * size)
    b = tuple(int(v) for v in rng.uniform(-0.1, 1.1, 2) * size)
    reach = np.exp(rng.uniform(np.log(0.02), np.log(0.4), 2)) * size
    line = int(rng.integers(1, 6))
    if kind == 0:
        end = (int(a[0] + reach[0]), int(a[1] + reach[1]))
        cv2.rectangle(canvas, a, end, _color(rng), -1 if rng.random() < 0.7 else line)
    elif kind == 1:
        axes = tuple(int(v) + 1 for v in reach)
        fill = -1 if rng.random() < 0.7 else line
        cv2.ellipse(canvas, a, axes, float(rng.uniform(0, 180)), 0, 360, _color(rng), fill)
    elif kind == 2:
        cv2.line(canvas, a, b, _color(rng), line, cv2.LINE_AA)
    elif kind == 3:
        corners = np.int32(np.array(a) + rng.normal(0, 1, (int(rng.integers(3, 7)), 2)) * reach)
        cv2.fillPoly(canvas, [corners], _color(rng), cv2.LINE_AA)
    else:
        scale = max(0.3, float(reach[0]) / 40)
        text = "".join(chr(c) for c in rng.integers(48, 91, 5))
        mask = np.zeros(canvas.shape[:2], np.uint8)  # letters need 8 bits
        cv2.putText(mask, text, a, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, line, cv2.LINE_AA)
        canvas += np.float32(mask / 255)[..., None] * (np.float32(_color(rng)) - canvas)


def _draw_stripes(rng, canvas: np.ndarray) -> None:
    size = canvas.shape[0]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
    left, top = (rng.uniform(0, 0.6, 2) * size).astype(int)
    part = (slice(top, top + size // 2), slice(left, left + size // 2))
    canvas[part] += rng.uniform(10, 60) * np.sign(wave[part])[..., None]


def _draw_blank_oval(rng, canvas: np.ndarray) -> None:
    """A skin-coloured, shaded oval without features: not a face."""
    import cv2

    from retinaface_tf.data.synthetic.head_mesh import SKIN_TONES

    size = canvas.shape[0]
    reach = np.exp(rng.uniform(np.log(0.02), np.log(0.2))) * size
    axes = (int(reach) + 2, int(reach * rng.uniform(0.6, 1.6)) + 2)
    center = tuple(int(v) for v in rng.uniform(0, 1, 2) * size)
    skin = SKIN_TONES[rng.integers(len(SKIN_TONES))] * rng.uniform(0.6, 1.1)
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    ramp = np.linspace(rng.uniform(0.6, 1.2), rng.uniform(0.6, 1.2), size, dtype=np.float32)
    canvas += np.float32(mask / 255)[..., None] * (skin * ramp[None, :, None] - canvas)


def degrade(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Blur, noise, exposure and colour cast, as cameras do; float32 in 0..255 -> uint8."""
    import cv2

    if rng.random() < 0.35:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.1:
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        canvas = cv2.filter2D(canvas, -1, kernel.T if rng.random() < 0.5 else kernel)
    if rng.random() < 0.12:
        canvas = canvas.mean(-1, keepdims=True) * np.clip(rng.normal(1, 0.04, 3), 0.8, 1.2)
    canvas = 255 * np.clip(canvas / 255, 0, 1) ** rng.uniform(0.7, 1.4)
    canvas = canvas * rng.uniform(0.7, 1.15) + rng.uniform(-10, 20)
    canvas = canvas + rng.normal(0, rng.uniform(0, 8), canvas.shape)
    return np.uint8(np.clip(np.rint(canvas), 0, 255))
