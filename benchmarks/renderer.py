"""The renderer against all pixels times all triangles: time and peak memory, with gradients.

    python benchmarks/renderer.py [--faces 1 8 32] [--sizes 64 128] [--rounds 7] [--threads 2]
    KERAS_BACKEND=jax python benchmarks/renderer.py

1,103 vertices, 2,110 triangles, turned heads. `naive` computes every triangle's barycentric coordinates
at every pixel and takes the nearest; what follows (interpolation, shading, gradients) is the same, but
without silhouettes. Both run in turn, medians are printed. Peak memory is that of a process of its own,
less what it took before its first image. Naive is skipped where one of its arrays alone would take
more than --limit MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.deformable import ResidentPeak, limit_threads

KINDS = ("ours", "naive")
MODES = ("forward", "gradients")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=400)
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        kind, mode, faces, size = options.memory
        print(peak_memory(kind, mode, int(faces), int(size), options.threads))
        return
    limit_threads(options.threads)
    print(
        f"{'faces':>5s} {'side':>5s} {'':10s}{'ours ms':>9s}{'naive ms':>9s}{'ours MB':>9s}{'naive MB':>9s}"
    )
    for size in options.sizes:
        for faces in options.faces:
            array = faces * size**2 * 2110 * 4 / 1e6
            kinds = KINDS if array <= options.limit else KINDS[:1]
            for mode in MODES:
                report(kinds, mode, faces, size, options)


def report(kinds, mode: str, faces: int, size: int, options) -> None:
    values = scene(faces)
    functions = {kind: compiled(kind, mode, size) for kind in kinds}
    clock = defaultdict(list)
    for number in range(options.rounds + 2):
        for kind, function in functions.items():
            start = time.perf_counter()
            function(values)
            if number >= 2:
                clock[kind].append(time.perf_counter() - start)
    cells = [
        f"{1000 * statistics.median(clock[k]):9.1f}" if k in clock else "        -" for k in KINDS
    ]
    for kind in KINDS:
        cells.append(
            f"{memory_apart(kind, mode, faces, size, options.threads):9.0f}"
            if kind in kinds
            else "        -"
        )
    print(f"{faces:5d} {size:5d} {mode:10s}{''.join(cells)}", flush=True)


def memory_apart(kind, mode, faces, size, threads) -> float:
    command = [sys.executable, __file__, "--threads", str(threads), "--memory"]
    output = subprocess.run(
        [*command, kind, mode, str(faces), str(size)], capture_output=True, text=True, check=True
    )
    return float(output.stdout.split()[-1])


def peak_memory(kind: str, mode: str, faces: int, size: int, threads: int) -> float:
    limit_threads(threads)
    values = scene(faces)
    function = compiled(kind, mode, size)
    # The compiler's memory is not the images'.
    function.prepare(values)
    with ResidentPeak() as resident:
        for _ in range(3):
            function(values)
    return resident.megabytes


def scene(faces: int):
    """Vertices, albedos, camera and light of synthetic faces, turned up to profile."""
    import numpy as np
    from keras import ops

    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.reconstruction.head import FACE_CENTER
    from training.decoder.synthetic_meshes import random_albedos, random_shapes

    rng, topology = np.random.default_rng(0), load_topology()
    numbers = rng.normal(0, 0.5, (faces, 16)).astype(np.float32)
    numbers[:, 4] = rng.uniform(-2.5, 2.5, faces)
    shapes = random_shapes(topology, faces, rng) - np.float32(FACE_CENTER)
    values = (shapes, random_albedos(topology, faces, rng), numbers)
    return [ops.convert_to_tensor(value) for value in values]


def compiled(kind: str, mode: str, size: int):
    """The image's mean square, or it with the gradients of all three inputs."""
    import keras
    from keras import ops

    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.reconstruction import renderer as module
    from retinaface_tf.reconstruction.head import interpret

    topology = load_topology()
    renderer = module.MeshRenderer(topology.triangles, topology.num_vertices, size)
    draw = renderer.draw if kind == "ours" else lambda *given: naive_draw(renderer, *given)
    renderer.draw = draw

    def function(vertices, albedo, numbers):
        _, camera, light = interpret(numbers)
        return ops.mean(renderer(vertices, albedo, camera, light)[0] ** 2)

    if keras.backend.backend() == "jax":
        import jax

        traced = jax.jit(
            jax.value_and_grad(function, argnums=(0, 1, 2)) if mode == "gradients" else function
        )
        return Compiled(
            lambda values: traced.lower(*values).compile(),
            lambda values: jax.block_until_ready(traced(*values)),
        )
    import tensorflow as tf

    def with_gradients(*values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            value = function(*values)
        return [tf.convert_to_tensor(g) for g in tape.gradient(value, values)]

    traced = tf.function(function if mode == "forward" else with_gradients, reduce_retracing=True)
    return Compiled(
        lambda values: traced.get_concrete_function(*values),
        lambda values: tf.nest.map_structure(lambda t: t.numpy(), traced(*values)),
    )


class Compiled(NamedTuple):
    """A function, and what compiles it without running it."""

    prepare: Callable
    run: Callable

    def __call__(self, values):
        return self.run(values)


def naive_draw(renderer, screen, colors, background=None):
    """A z-buffer over pixels x triangles, without gradients, and our interpolation."""
    from keras import ops

    from retinaface_tf.reconstruction.rasterize import Visibility
    from retinaface_tf.reconstruction.renderer import Rendering, interpolate

    size, still = renderer.size, ops.stop_gradient(screen)
    corners = [
        ops.take(still, ops.convert_to_tensor(c), axis=1)[:, None] for c in renderer.triangles.T
    ]
    center = ops.arange(size, dtype=screen.dtype) + 0.5
    x = ops.reshape(ops.tile(center[None], (size, 1)), (1, -1, 1))
    y = ops.reshape(ops.tile(center[:, None], (1, size)), (1, -1, 1))

    def cross(a, b):
        return (a[..., 0] - x) * (b[..., 1] - y) - (a[..., 1] - y) * (b[..., 0] - x)

    a, b, c = corners
    first, second, third = cross(b, c), cross(c, a), cross(a, b)
    area = first + second + third
    inside = (first <= 0) & (second <= 0) & (third <= 0) & (area < -1e-9)
    depth = (first * a[..., 2] + second * b[..., 2] + third * c[..., 2]) / area
    depth = ops.where(inside, depth, -1.0)
    triangle = ops.cast(ops.argmax(depth, axis=-1), "int32")
    triangle = ops.where(ops.max(depth, axis=-1) > 0, triangle, -1)
    triangle = ops.reshape(triangle, (-1, size, size))
    covered = ops.cast(triangle >= 0, colors.dtype)[..., None]
    image = interpolate(screen, colors, triangle, renderer.triangles) * covered
    return Rendering(image, covered, Visibility(triangle, None, None))


if __name__ == "__main__":
    main()
