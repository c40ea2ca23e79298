"""Made-up weights and images for networks of other programs, the same in every program that asks."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[1] / "weights/convert/published"
SIZES = ((128, 160), (97, 131), (224, 96))
# Outputs that a fixture keeps of each image and kind.
SAMPLES = 60


def random_of(name: str) -> np.random.Generator:
    """A generator that follows a name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a state dict's tensor: such that deep networks neither vanish nor explode."""
    random, last = random_of(name), name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(0)
    if last == "running_var":
        return random.uniform(0.5, 2.0, shape).astype(np.float32)
    if len(shape) == 4:
        scale = (1.5 / np.prod(shape[1:])) ** 0.5
        if shape[1] == 3:  # the stem, whose image is 0..255
            scale /= 60
        return random.normal(0, scale, shape).astype(np.float32)
    if last == "weight":
        return random.uniform(0.6, 1.0, shape).astype(np.float32)
    return random.normal(0, 0.1, shape).astype(np.float32)


def image(number: int) -> np.ndarray:
    """RGB [H, W, 3] uint8 of `SIZES[number]`: noise in blocks, so that there is something at every scale."""
    height, width = SIZES[number]
    random = random_of(f"image {number}")
    picture = np.zeros((height, width, 3))
    for block in (1, 4, 16, 64):
        rows, columns = -(-height // block), -(-width // block)
        noise = random.uniform(-1, 1, (rows, columns, 3)).repeat(block, 0).repeat(block, 1)
        picture += noise[:height, :width]
    return np.clip(127.5 + 45 * picture, 0, 255).astype(np.uint8)


def places(count: int, preset: str, number: int) -> np.ndarray:
    """Which anchors of an image a fixture keeps."""
    return np.sort(random_of(f"{preset} {number}").choice(count, SAMPLES, replace=False))


def state_dict(preset: str) -> dict[str, np.ndarray]:
    """The made-up state dict, under the original program's names."""
    kept = np.load(FOLDER / f"{preset}.npz")
    shapes = map(ast.literal_eval, kept["shapes"])
    return {n: tensor(n, s) for n, s in zip(kept["names"].tolist(), shapes)}
