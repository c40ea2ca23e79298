"""Time and peak memory of a whole network: an answer with all outputs, and a training step.

    python benchmarks/paper_network.py forward|step [--preset resnet152-paper] [--plain] [--side 640]
        [--batch 2] [--rounds 2] [--limit 16]

`forward` gives all outputs for one image, `step` learns from a batch of made-up images with two
faces each; `--plain` is the same network without deformable convolutions. Printed for each round: seconds
(the first one traces), those of the processor, and the most resident memory of the process so far, everything included.
Above --limit GiB it stops: no machine is driven into swap.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mode", choices=("forward", "step"))
    parser.add_argument("--preset", default="resnet152-paper")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=2, help="of a training step")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=16.0, help="GiB")
    options = parser.parse_args()
    memory = ResidentMemory(options.limit)

    import keras

    from retinaface_tf import build_retinaface, get_preset

    keras.utils.set_random_seed(0)
    config = get_preset(options.preset).config
    network = build_retinaface(replace(config, deformable=config.deformable and not options.plain))
    displace_taps(network)
    print(f"built: {memory.peak:.2f} GiB", flush=True)
    prepare = {"forward": forward, "step": training_step}[options.mode]
    run = prepare(network, options)
    for _ in range(options.rounds):
        start, cpu = time.perf_counter(), time.process_time()
        print(run())
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"{options.mode}: {seconds:.1f} s, {cpu:.1f} of the processor, peak {memory.peak:.2f} GiB",
            flush=True,
        )


def displace_taps(network) -> None:
    """Offsets of about a cell instead of none."""
    import numpy as np

    random = np.random.default_rng(0)
    for weight in network.weights:
        if weight.path.endswith("offset_bias"):
            weight.assign(random.normal(size=weight.shape))


def forward(network, options):
    import numpy as np
    import tensorflow as tf

    function = tf.function(lambda image: network(image, training=False))
    noise = np.random.default_rng(0).integers(0, 256, (1, options.side, options.side, 3))
    images = tf.constant(noise, tf.float32)
    return lambda: {name: tuple(value.shape) for name, value in function(images).items()}


def training_step(network, options):
    import keras
    import numpy as np
    import tensorflow as tf

    from retinaface_tf.data.options import MatchConfig
    from retinaface_tf.data.targets import encode_targets
    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.losses.config import LossConfig
    from retinaface_tf.training.config import OptimizerConfig
    from retinaface_tf.training.step import DetectorTraining

    side, batch = options.side, options.batch
    anchors = generate_anchors(network.config.levels, side, side)
    training = DetectorTraining(network, anchors, LossConfig(), OptimizerConfig(clip_norm=10.0))
    training.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9), jit_compile=False)
    faces = np.float32([[100, 100, 300, 300], [20, 30, 50, 60]]) * side / 640
    points, ignored = np.full((2, 5, 2), np.nan, np.float32), np.zeros(2, bool)
    targets = encode_targets(faces, points, ignored, anchors, network.config, MatchConfig())
    images = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3)).astype(np.uint8)
    entries = {name: tf.stack([value] * batch) for name, value in targets.items()}
    entries |= {
        "boxes": tf.stack([faces] * batch),
        "landmarks": tf.stack([points] * batch),
        "ignored": tf.stack([ignored] * batch),
        "image": tf.constant(images),
        "image_id": tf.range(batch, dtype=tf.int64),
    }
    step = tf.function(training.train_step)

    def run():
        answer = step(entries)
        return {name: round(float(v), 4) for name, v in answer.items() if name != "bad_images"}

    return run


class ResidentMemory:
    """The most resident memory since it was made, in GiB; ends the process above a limit."""

    def __init__(self, limit: float):
        self.peak, self._limit = 0.0, limit
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.peak = max(self.peak, pages * os.sysconf("SC_PAGE_SIZE") / 2**30)
            if self.peak > self._limit:
                print(f"stopped above {self._limit} GiB", flush=True)
                os._exit(1)
            time.sleep(0.02)


if __name__ == "__main__":
    main()
