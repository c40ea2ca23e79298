"""What the dense branch costs: time for 1 and 50 faces at VGA, and memory at 102,300 anchors.

python benchmarks/dense_branch.py time            # network and branch in one run, interleaved
python benchmarks/dense_branch.py memory          # peak of each case in a process of its own
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

CASES = ("network", "inference", "training without", "training with")
SIDE, POSITIVES, FACES = 640, 64, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("time", "memory", "case"))
    parser.add_argument("case", nargs="?", choices=CASES)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--preset", default="mobilenet0.25-mesh")
    options = parser.parse_args()
    if options.what == "time":
        measure_time(options)
    elif options.what == "memory":
        measure_memory()
    else:
        run_case(options.case)


def measure_time(options) -> None:
    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.inference.runtimes.open import open_runtime
    from retinaface_tf.layers.dense_frames import vertices_of_faces
    from retinaface_tf.weights.choose_file import preset_file

    runtime = open_runtime(preset_file(options.preset), "litert", threads=options.threads)
    config, size = runtime.config, (480, 640)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, *size, 3), np.uint8)
    outputs = runtime(image)
    anchors = generate_anchors(config.levels, *size)
    times: dict[str, list[float]] = {"network": [], "1 face": [], "50 faces": []}
    for _ in range(options.rounds):
        start = time.perf_counter()
        runtime(image)
        times["network"].append(time.perf_counter() - start)
        for count in (1, 50):
            numbers = rng.integers(0, len(anchors), count)
            center, side = anchors[numbers, :2], anchors[numbers, 2:]
            boxes = np.concatenate([center - side / 2, center + side / 2], axis=1)
            points = center[:, None] + side[:, None] * rng.uniform(-0.3, 0.3, (count, 5, 2))
            start = time.perf_counter()
            vertices_of_faces(
                outputs.features,
                np.zeros(count, int),
                numbers,
                anchors,
                boxes,
                points.astype(np.float32),
                size,
                runtime.dense_weights,
                config,
            )
            key = "1 face" if count == 1 else "50 faces"
            times[key].append(time.perf_counter() - start)
    best = {name: float(np.median(values)) for name, values in times.items()}
    for name, value in best.items():
        share = (
            "" if name == "network" else f", {100 * value / best['network']:.1f} % of the network"
        )
        print(f"{name:>8}: median {1000 * value:.2f} ms{share}")


def measure_memory() -> None:
    plain = 102_300 * 1103 * 3 * 4
    print(f"a plain convolution's output at {SIDE}x{SIDE}: {plain / 1e9:.2f} GB an image")
    for case in CASES:
        output = subprocess.run(
            [sys.executable, __file__, "case", case], capture_output=True, text=True, check=True
        ).stdout
        answer = json.loads(output.splitlines()[-1])
        print(
            f"{case:>17}: {answer['anchors']} anchors, peak {answer['peak'] / 1e9:.2f} GB, "
            f"{answer['above'] / 1e9:.2f} GB above the loaded network"
        )


def run_case(case: str) -> None:
    """The papers' five levels on a light backbone, the papers' own form of the dense head."""
    import tensorflow as tf
    from keras import ops

    from retinaface_tf.config import PAPER_LEVELS, DenseConfig, RetinaFaceConfig
    from retinaface_tf.geometry.anchors import generate_anchors
    from retinaface_tf.layers.dense_frames import vertices_of_faces
    from retinaface_tf.losses.config import LossConfig
    from retinaface_tf.losses.mesh_term import MeshTerm
    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.models import build_retinaface

    config = RetinaFaceConfig(levels=PAPER_LEVELS, shared_heads=True, dense=DenseConfig())
    network, topology = build_retinaface(config), load_topology()
    anchors = generate_anchors(config.levels, SIDE, SIDE)
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (1, SIDE, SIDE, 3), np.uint8))
    # The trainer's own term; one face, which all positives are for.
    term = MeshTerm(
        network, anchors, LossConfig(mesh_weight=0.01, mesh_positives=POSITIVES), topology
    )
    mesh = tf.constant(topology.mean * 100 + np.float32([320, 320, 0]))
    batch = {"image": image, "meshes": tf.zeros((1, 1), tf.int32), "vertices": mesh[None, None]}

    def vertices_of(outputs, numbers):
        weights = {n: ops.convert_to_tensor(w) for n, w in network.dense_head.named_weights.items()}
        return vertices_of_faces(
            [outputs[name] for name in config.dense_outputs],
            tf.zeros_like(numbers),
            numbers,
            anchors,
            tf.zeros((numbers.shape[0], 4)),
            tf.zeros((numbers.shape[0], 5, 2)),
            (SIDE, SIDE),
            weights,
            config,
        )

    def search(dense):
        outputs = network(image, training=False)
        numbers = tf.constant(rng.integers(0, len(anchors), FACES), tf.int32)
        return [outputs["box_deltas"], *([vertices_of(outputs, numbers)] if dense else [])]

    def learn(dense):
        numbers = tf.constant(rng.integers(0, len(anchors), POSITIVES), tf.int32)
        with tf.GradientTape() as tape:
            outputs = network(image, training=True)
            loss = sum(
                tf.reduce_mean(tf.square(outputs[n]))
                for n in ("class_logits", "box_deltas", "landmark_deltas")
            )
            if dense:
                faces = tf.tensor_scatter_nd_update(
                    tf.fill([1, len(anchors)], -1), tf.stack([0 * numbers, numbers], 1), 0 * numbers
                )
                loss += 0.01 * tf.reduce_sum(term(batch, outputs, {"faces": faces}))
        return tape.gradient(loss, [v.value for v in network.trainable_variables])

    step = tf.function(search if case in ("network", "inference") else learn)
    dense = case in ("inference", "training with")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    step(dense)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"anchors": len(anchors), "peak": peak, "above": peak - before}))


if __name__ == "__main__":
    main()
