"""What finding the faces adds to the network in a SavedModel, at VGA.

    python benchmarks/savedmodel.py [--preset mobilenet0.25] [--faces FOLDER_OF_FACE_CROPS] [--rounds 40]

The SavedModel's signature `image_tensor` and the same network's raw heads, both as frozen graphs, take turns on one
thread: a photo with one face, and a mosaic of 500 faces with the threshold at which 500 are answered. CPU time. Then what an image of a
batch takes, and of that the network's operators by kind: a server that waits for a batch wins no more than that on a processor.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from benchmarks.detect import FACES, astronaut, crops, face_of, fit, mosaic, threshold_of
from benchmarks.tf_operators import by_kind
from retinaface_tf import RetinaFace
from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
from retinaface_tf.inference.runtimes.keras import trace_heads
from retinaface_tf.weights.choose_file import load_preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="mobilenet0.25")
    parser.add_argument("--faces", help="folder of face crops for the scene of 500 faces")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    detector = RetinaFace.from_preset(options.preset, large_faces=False, zoom="off")
    network = load_preset(options.preset)
    heads = trace_heads(network)
    tiles = crops(options.faces) if options.faces else [face_of(astronaut(), detector)]
    scenes = {
        "1 face": (fit(astronaut(), 640, 480), 0.5),
        f"{FACES} faces": (scene := mosaic(tiles, 640, 480), threshold_of(detector, scene, FACES)),
    }
    for name, (image, threshold) in scenes.items():
        signature, images = served(network, threshold), tf.constant(image[None])
        found = int(signature(images=images)["num_faces"][0])
        runs = {"network": partial(heads, images), "faces": partial(signature, images=images)}
        plain, whole = times(runs, options.rounds).values()
        print(
            f"{name}: {found} found above {threshold:.3f}; network {plain:.2f} ms, with faces {whole:.2f} ms, "
            f"{whole / plain - 1:.1%} more"
        )
    signature = served(network, 0.5)
    for side in (320, 640):
        image = fit(astronaut(), side, side)[None]
        batches = {n: tf.constant(np.repeat(image, n, axis=0)) for n in (1, 8)}
        runs = {n: partial(signature, images=images) for n, images in batches.items()}
        one, eight = (ms / n for n, ms in times(runs, options.rounds).items())
        print(f"{side}x{side}: {one:.2f} ms an image alone, {eight:.2f} in a batch of 8")
        kinds = {n: by_kind(heads, [np.repeat(image, n, axis=0)], options.rounds) for n in (1, 8)}
        for kind, ms in kinds[1].most_common(8):
            print(f"  {kind}: {ms:.2f} ms alone, {kinds[8][kind] / 8:.2f} in the batch")


def served(network, threshold: float):
    """The signature of its SavedModel that takes pixels."""
    with tempfile.TemporaryDirectory() as folder:
        export_savedmodel(network, Path(folder) / "m", SavedModelOptions(threshold=threshold))
        model = tf.saved_model.load(str(next((Path(folder) / "m").iterdir())))
    signature = model.signatures["image_tensor"]
    signature.model = model  # lives as long
    return signature


def times(runs: dict, rounds: int) -> dict:
    """Median milliseconds of CPU time, the functions taking turns."""
    seconds: dict = {name: [] for name in runs}
    for number in range(rounds + 5):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            seconds[name] += [time.process_time() - begin] * (number >= 5)
    return {name: 1000 * float(np.median(values)) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
