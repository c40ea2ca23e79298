"""Deformable against plain convolution: time and peak memory, forward and with gradients.

    python benchmarks/deformable.py [--rounds 15] [--shapes 80x64 160x256] [--threads 2] [--operators]
    KERAS_BACKEND=jax python benchmarks/deformable.py      # also on a GPU

3x3, modulated, given offsets of about a cell (the convolution that predicts them is a plain one
and is not counted). `naive` gathers each of the four corners of all nine taps, weighs, sums and
multiplies once, and leaves gradients to autodiff. Every round runs all three in turn, so that a
change of the machine's speed meets all of them; medians and ratios are printed. `cpu` is the
processor time of all threads, which other programs disturb less than they do the clock. Peak
memory is that of a process of its own for each, less what the process took before its first call.
`--operators` prints instead the time of TensorFlow's operators in each, by kind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

KINDS = ("plain", "naive", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shapes", nargs="+", default=["80x64", "160x256"], help="SIDExCHANNELS")
    parser.add_argument("--operators", action="store_true")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(*options.memory, options.threads)
        return
    limit_threads(options.threads)
    for shape in options.shapes:
        print(f"\n{shape} ({description(shape)})")
        for mode in ("forward", "gradients"):
            if options.operators:
                report_operators(shape, mode, options.rounds, options.threads)
                continue
            report_times(shape, mode, options.rounds)
            report_memory(shape, mode, options.threads)


def limit_threads(threads: int) -> None:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def description(shape: str) -> str:
    import keras

    side, channels = map(int, shape.split("x"))
    cells = side * side
    # What cannot be avoided: four neighbours read for each sample, operands and result once.
    floor = 4 * channels * cells * (4 * 9 + 2) + 4 * cells * 27
    return (
        f"{keras.backend.backend()}, {2 * 9 * cells * channels**2 / 1e9:.2f} GFLOP, "
        f"neighbours read once: {floor / 1e6:.0f} MB"
    )


def tensors(shape: str):
    import numpy as np
    from keras import ops

    side, channels = map(int, shape.split("x"))
    rng = np.random.default_rng(0)
    values = (
        rng.normal(size=(1, side, side, channels)),
        rng.normal(size=(3, 3, channels, channels)) / (3 * channels**0.5),
        rng.normal(size=(1, side, side, 18)),
        rng.uniform(0, 2, size=(1, side, side, 9)),
    )
    return [ops.convert_to_tensor(value, "float32") for value in values]


def plain(x, kernel, offsets, mask):
    from keras import ops

    return ops.conv(x, kernel, padding="same")


def naive(x, kernel, offsets, mask):
    from keras import ops

    _, height, width, channels = x.shape
    cells = height * width
    offsets = ops.reshape(offsets, (cells, 9, 2))
    cell, tap = ops.arange(cells), ops.arange(9)
    y = ops.cast((cell // width)[:, None] + (tap // 3 - 1)[None], "float32") + offsets[..., 0]
    x_ = ops.cast((cell % width)[:, None] + (tap % 3 - 1)[None], "float32") + offsets[..., 1]
    rows = ops.reshape(x, (cells, channels))
    total = 0
    for down in (0, 1):
        for right in (0, 1):
            corner_y, corner_x = ops.floor(y) + down, ops.floor(x_) + right
            weight = (1 - ops.abs(y - corner_y)) * (1 - ops.abs(x_ - corner_x))
            inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            weight = weight * ops.cast(inside, "float32") * ops.reshape(mask, (cells, 9))
            row = ops.clip(corner_y, 0, height - 1) * width + ops.clip(corner_x, 0, width - 1)
            total = total + ops.take(rows, ops.cast(row, "int32"), axis=0) * weight[..., None]
    columns = ops.reshape(total, (cells, 9 * channels))
    y = ops.matmul(columns, ops.reshape(kernel, (9 * channels, -1)))
    return ops.reshape(y, (1, height, width, -1))


def ours(x, kernel, offsets, mask):
    from retinaface_tf.layers.deformable_sampling import deformable_conv2d

    return deformable_conv2d(x, kernel, offsets, mask)


def compiled(kind: str, mode: str):
    """The function, or it with the gradients of everything it takes (plain: of map and kernel)."""
    import keras
    from keras import ops

    function = {"plain": plain, "naive": naive, "ours": ours}[kind]
    count = 2 if kind == "plain" else 4
    if keras.backend.backend() == "jax":
        import jax

        if mode == "gradients":
            loss = lambda *values: ops.sum(function(*values) ** 2)  # noqa: E731
            function = jax.value_and_grad(loss, argnums=tuple(range(count)))
        function = jax.jit(function)
        return lambda values: jax.block_until_ready(function(*values))
    import tensorflow as tf

    def with_gradients(*values):
        with tf.GradientTape() as tape:
            tape.watch(values[:count])
            loss = tf.reduce_sum(function(*values) ** 2)
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, values[:count])]

    traced = tf.function(function if mode == "forward" else with_gradients)
    run = lambda values: tf.nest.map_structure(lambda t: t.numpy(), traced(*values))  # noqa: E731
    run.traced = traced
    return run


def report_operators(shape: str, mode: str, rounds: int, threads: int) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from benchmarks.tf_operators import by_kind

    values = tensors(shape)
    for kind in ("plain", "ours"):
        function = compiled(kind, mode).traced.get_concrete_function(*values)
        taken = [values[number] for number in range(len(function.inputs))]
        kinds = by_kind(function, [value.numpy() for value in taken], rounds, threads)
        print(f"  {mode} {kind}: {sum(kinds.values()):.1f} ms")
        for operator, took in kinds.most_common(9):
            print(f"    {operator:32s} {took:6.2f} ms")


def report_times(shape: str, mode: str, rounds: int) -> None:
    values = tensors(shape)
    functions = {kind: compiled(kind, mode) for kind in KINDS}
    clock, cpu = defaultdict(list), defaultdict(list)
    for number in range(rounds + 2):
        for kind, function in functions.items():
            start = time.perf_counter(), time.process_time()
            function(values)
            if number >= 2:
                clock[kind].append(time.perf_counter() - start[0])
                cpu[kind].append(time.process_time() - start[1])
    base = {name: statistics.median(t["plain"]) for name, t in (("clock", clock), ("cpu", cpu))}
    for kind in KINDS:
        wall, processor = statistics.median(clock[kind]), statistics.median(cpu[kind])
        print(
            f"  {mode:9s} {kind:6s} {1000 * wall:8.1f} ms x{wall / base['clock']:.2f}   "
            f"cpu {1000 * processor:8.1f} ms x{processor / base['cpu']:.2f}"
        )


def report_memory(shape: str, mode: str, threads: int) -> None:
    peaks = {}
    for kind in KINDS:
        command = [sys.executable, __file__, "--threads", str(threads), "--memory"]
        output = subprocess.run(
            [*command, kind, mode, shape],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        peaks[kind] = float(output.stdout)
    for kind in KINDS:
        print(
            f"  {mode:9s} {kind:6s} peak {peaks[kind]:7.0f} MB  x{peaks[kind] / peaks['naive']:.2f}"
        )


def measure_memory(kind: str, mode: str, shape: str, threads: int) -> None:
    import keras

    import retinaface_tf.layers.deformable_sampling  # noqa: F401  Its modules are not the call's memory.

    limit_threads(threads)
    values = tensors(shape)
    on_gpu = False
    if keras.backend.backend() == "jax":
        import jax

        on_gpu = jax.default_backend() == "gpu"
    function = compiled(kind, mode)
    with ResidentPeak() as resident:
        for _ in range(3):
            function(values)
    if on_gpu:
        print(jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6)
    else:
        print(resident.megabytes)


class ResidentPeak:
    """The most resident memory while a block runs, above that at its start; sampled each ms."""

    def __enter__(self):
        self.before = self.peak = self._now()
        self.running = True
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()
        self.megabytes = (self.peak - self.before) / 1e6

    def _watch(self):
        while self.running:
            self.peak = max(self.peak, self._now())
            time.sleep(0.001)

    @staticmethod
    def _now() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
