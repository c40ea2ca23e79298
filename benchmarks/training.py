"""Training speed: the input pipeline alone, the step alone, and the encoding of a crowded image.

    python benchmarks/training.py [--root FDDB] [--json FILE]

Images are drawn (or FDDB's), stored as JPEG. Pipeline and step are measured in turns in one run,
so that a busy machine slows both; compare their ratio. "VGA-size" is a square of 544 pixels, as many as 640 x 480 has, since
training crops are square.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from retinaface_tf.config import PyramidLevel

ROUNDS = 3


def papers_levels() -> tuple[PyramidLevel, ...]:
    """P2 to P6, three scales: 102,300 anchors at 640."""
    step = 2 ** (1 / 3)
    return tuple(
        PyramidLevel(stride=s, anchor_sizes=(4 * s, 4 * s * step, 4 * s * step**2))
        for s in (4, 8, 16, 32, 64)
    )


def make_source(root: str | None, count: int, side: int):
    from retinaface_tf.data.options import SyntheticConfig
    from retinaface_tf.data.readers.fddb import read_fddb_boxes
    from retinaface_tf.data.sources import LabelledSource
    from retinaface_tf.data.synthetic.scene import draw_images

    if root:
        folder = Path(root)
        images = read_fddb_boxes(folder / "boxes_verified.txt", folder / "originalPics")
        return LabelledSource(images[:count])
    config = SyntheticConfig(size=side, seed=1)
    pairs = list(draw_images(config, 0, count))
    return LabelledSource([p[1] for p in pairs], [p[0] for p in pairs])


def measure_network(name: str, size: int, batch: int, source, steps: int) -> dict:
    """Images a second of pipeline and step, in turns; medians of `ROUNDS`."""
    import tensorflow as tf

    from retinaface_tf.data.pipeline import TrainingPipeline
    from retinaface_tf.layers.batch_norm import training_batch_norm
    from retinaface_tf.losses.config import LossConfig
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.presets import get_preset
    from retinaface_tf.training.config import OptimizerConfig, ScheduleConfig
    from retinaface_tf.training.schedule import DetectorSchedule
    from retinaface_tf.training.step import DetectorTraining, make_optimizer

    config = get_preset(name).config
    pipeline = TrainingPipeline(source, config, size=size, batch=batch)
    options = OptimizerConfig()
    schedule = DetectorSchedule(ScheduleConfig(peak=1e-4, warmup_epochs=0), 100, 1)

    def make_step(fused: bool):
        with training_batch_norm() if fused else contextlib.nullcontext():
            network = build_retinaface(config)
        model = DetectorTraining(network, pipeline.anchors, LossConfig(), options)
        model.compile(optimizer=make_optimizer(options, schedule, 1), jit_compile=False)
        return tf.function(lambda data: tf.distribute.get_strategy().run(model.train_step, (data,)))

    data = next(iter(pipeline.epoch(0)))
    step, plain_step = make_step(fused=True), make_step(fused=False)
    step(data), plain_step(data)

    def run_pipeline() -> int:
        # The pipeline reads ahead: its buffers are emptied first, and it stops with its iterator,
        # so that its threads do not run beside the step.
        count = 4 * steps
        for number, _ in enumerate(pipeline.epoch(0).repeat()):
            if number == 2:
                started[:] = time.perf_counter(), time.process_time()
            if number == 2 + count:
                break
        return count

    def run_step(step) -> int:
        started[:] = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step(data)["loss"].numpy()
        return steps

    started = [0.0, 0.0]
    actions = {
        "pipeline": run_pipeline,
        "step": lambda: run_step(step),
        "plain step": lambda: run_step(plain_step),
    }
    rates: dict[str, list[float]] = {what: [] for what in actions}
    cpu: dict[str, list[float]] = {what: [] for what in actions}
    for _ in range(ROUNDS):
        for what, action in actions.items():
            count = action() * batch
            rates[what].append(count / (time.perf_counter() - started[0]))
            cpu[what].append(1000 * (time.process_time() - started[1]) / count)
    result = {
        "network": name,
        "size": size,
        "batch": batch,
        "pipeline_images_per_second": round(float(np.median(rates["pipeline"])), 1),
        "step_images_per_second": round(float(np.median(rates["step"])), 2),
        "pipeline_cpu_ms_per_image": round(float(np.median(cpu["pipeline"])), 2),
        "step_cpu_ms_per_image": round(float(np.median(cpu["step"])), 1),
        "cpu_of_a_step_with_keras_batch_norm": round(
            float(np.median(cpu["step"]) / np.median(cpu["plain step"])), 2
        ),
    }
    result["ratio"] = round(
        result["pipeline_images_per_second"] / result["step_images_per_second"], 2
    )
    return result


def profile_pipeline(source, size: int) -> dict:
    """Milliseconds an image of the pipeline's parts, one thread, one after the other."""
    import tensorflow as tf

    from retinaface_tf.config import RetinaFaceConfig
    from retinaface_tf.data import augment
    from retinaface_tf.data.options import AugmentConfig, MatchConfig
    from retinaface_tf.data.sources import EpochSlice
    from retinaface_tf.data.targets import encode_targets
    from retinaface_tf.geometry.anchors import generate_anchors

    config = RetinaFaceConfig()
    anchors = generate_anchors(config.levels, size, size)
    part = EpochSlice(seed=0, epoch=0, steps=8, batch=8, end=8)
    examples = list(source.examples(part))
    plain = AugmentConfig(photometric=0, flip=0)

    def run(function) -> float:
        arguments = [
            (e["encoded"], e["boxes"], e["landmarks"], e["ignored"], e["position"])
            for e in examples
        ]
        signature = [
            tf.TensorSpec([], tf.string),
            tf.TensorSpec([None, 4]),
            tf.TensorSpec([None, 5, 2]),
            tf.TensorSpec([None], tf.bool),
            tf.TensorSpec([], tf.int64),
        ]
        compiled = tf.function(function, input_signature=signature)
        compiled(*arguments[0])
        started = time.perf_counter()
        for values in arguments:
            compiled(*values)
        return 1000 * (time.perf_counter() - started) / len(arguments)

    def load(chosen):
        def function(encoded, boxes, landmarks, ignored, position):
            seed = tf.stack([tf.constant(0, tf.int64), position])
            return augment.load_and_augment(
                encoded, boxes, landmarks, ignored, seed, size, chosen
            ).image

        return function

    def encode(encoded, boxes, landmarks, ignored, position):
        return encode_targets(boxes, landmarks, ignored, anchors, config, MatchConfig())["labels"]

    decoded, all_of_it, encoding = run(load(plain)), run(load(AugmentConfig())), run(encode)
    return {
        "crop_decode_resize_ms": round(decoded, 2),
        "flip_and_photometric_ms": round(all_of_it - decoded, 2),
        "encode_targets_ms": round(encoding, 2),
    }


ENCODE = """
import resource, sys, time
sys.path.insert(0, {root!r})
import numpy as np, tensorflow as tf
from benchmarks.training import papers_levels
from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.data.options import MatchConfig
from retinaface_tf.data.targets import encode_targets
from retinaface_tf.geometry.anchors import generate_anchors
config = RetinaFaceConfig(levels=papers_levels())
anchors = generate_anchors(config.levels, 640, 640)
rng = np.random.default_rng(0)
def scene(count):
    side = np.exp(rng.uniform(np.log(8), np.log(100), (count, 1)))
    corner = rng.uniform(0, 600, (count, 2))
    return np.float32(np.concatenate([corner, corner + side], 1))
@tf.function(input_signature=[tf.TensorSpec([None, 4])])
def encode(boxes):
    faces = tf.shape(boxes)[0]
    return encode_targets(boxes, tf.zeros((faces, 5, 2)), tf.zeros(faces, tf.bool), anchors, config, MatchConfig())
encode(scene(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times = []
for _ in range(3):
    boxes = scene({faces})
    started = time.perf_counter()
    labels = encode(boxes)["labels"].numpy()
    times.append(time.perf_counter() - started)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(labels), round(1000 * sorted(times)[1]), round((after - before) / 1024))
"""


def measure_encoding(faces: int) -> dict:
    """Time and extra peak memory, in a fresh process so that the peak is its own."""
    root = str(Path(__file__).resolve().parent.parent)
    text = ENCODE.format(root=root, faces=faces)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    anchors, milliseconds, megabytes = done.stdout.split()
    return {
        "anchors": int(anchors),
        "faces": faces,
        "milliseconds": int(milliseconds),
        "extra_peak_megabytes": int(megabytes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="FDDB's folder: real photos instead of drawn ones")
    parser.add_argument("--steps", type=int, default=3, help="steps in each round")
    parser.add_argument("--skip-resnet", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict = {"cores": os.cpu_count(), "encoding": [measure_encoding(n) for n in (20, 500)]}
    for row in result["encoding"]:
        print(row, flush=True)
    source = make_source(options.root, 96, 640)
    result["pipeline_parts"] = profile_pipeline(source, 544)
    print(result["pipeline_parts"], flush=True)
    result["networks"] = []
    for name, size, batch in (("lite", 320, 16), ("mobilenet0.25", 544, 8), ("resnet50", 640, 2)):
        if name == "resnet50" and options.skip_resnet:
            continue
        result["networks"].append(measure_network(name, size, batch, source, options.steps))
        print(result["networks"][-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
