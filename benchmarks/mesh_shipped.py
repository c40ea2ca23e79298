"""How the dense head of `mobilenet0.25-mesh` was trained: labels to examples to weights.

    for set in fddb wider unlabelled facepoint_crops_80px; do
        retinaface-tf data label-mesh ../shared/data/$set --preset mobilenet0.25 --out labels/$set
    done
    python benchmarks/mesh_shipped.py examples --labels labels --out runs/mesh    # again until done
    python benchmarks/mesh_shipped.py train --labels labels --out runs/mesh

`examples` stops after `--minutes` at the end of a part and continues when called again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
from retinaface_tf.mesh.pose import head_pose
from retinaface_tf.mesh.topology import load_topology
from retinaface_tf.presets import SHIPPED_DENSE
from retinaface_tf.training.dense_features import (
    DenseFeaturesConfig,
    join_examples,
    make_examples,
    read_examples,
)

# Set, times each face is shown at its own resolution, and times it is shown large.
SETS = (("fddb", 6, 3), ("wider", 3, 0), ("unlabelled", 5, 3), ("facepoint_crops_80px", 2, 1))
CROPS = "facepoint_crops_80px"
# In AFLW2000-3D's samples too, which are for measuring.
EXCLUDED = "image00514"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("examples", "train"))
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/mesh"))
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    if options.what == "examples":
        make(options)
    else:
        train(options)


def make(options) -> None:
    from retinaface_tf.inference.runtimes.open import open_runtime
    from retinaface_tf.models import add_dense_branch
    from retinaface_tf.weights.choose_file import load_preset
    from retinaface_tf.weights.hdf5 import save_weights

    frozen = options.out / "frozen.weights.h5"
    if not frozen.is_file():
        save_weights(add_dense_branch(load_preset("mobilenet0.25"), SHIPPED_DENSE), frozen)
    runtime, topology = open_runtime(frozen, "litert"), load_topology()
    begin = time.monotonic()
    for name, versions, large in SETS:
        labels = read_mesh_labels(options.labels / name, MeshLabelConfig())
        excluded = np.array([EXCLUDED in image for image in labels.images])
        labels = labels.keep(~excluded[labels.image])
        seed = len(name)
        jobs = [(labels, name, DenseFeaturesConfig(versions=versions, seed=seed))]
        if large:
            enlarge, chosen = 3.0, labels
            if name == CROPS:
                # Turned faces, and a third of the others.
                turn = np.abs(head_pose(labels.vertices, topology.mean))
                some = np.arange(len(labels)) % 3 == 0
                chosen = labels.keep((turn[:, 0] > 20) | (turn[:, 1] > 15) | some)
                enlarge = 3.5
            config = DenseFeaturesConfig(
                versions=large, seed=50 + seed, enlarge=enlarge, sizes=(64.0, 320.0), turn=18.0
            )
            jobs.append((chosen, f"{name}_large", config))
        for faces, folder, config in jobs:
            left = 60 * options.minutes - (time.monotonic() - begin)
            place = options.out / "examples" / folder
            done = make_examples(faces, place, runtime, topology, config, None, left)
            print(
                f"{folder}: {len(faces)} faces, {'done' if done else 'to be continued'}",
                flush=True,
            )
            if not done:
                return


def train(options) -> None:
    from retinaface_tf.models import add_dense_branch
    from retinaface_tf.training.train_dense_head import DenseHeadTraining, train_dense_head
    from retinaface_tf.weights.choose_file import load_preset
    from retinaface_tf.weights.dense_head_file import save_head
    from retinaface_tf.weights.hdf5 import save_weights

    folders = sorted((options.out / "examples").iterdir())
    examples = join_examples([read_examples(folder) for folder in folders])
    held_out = int(examples.held_out.sum())
    print(f"{len(examples)} examples, {held_out} of them held out", flush=True)
    network = add_dense_branch(load_preset("mobilenet0.25"), SHIPPED_DENSE)
    config = DenseHeadTraining(
        epochs=options.epochs, noise=0.15, point_noise=0.006, weight_decay=0.002
    )
    begin = time.monotonic()

    def report(epoch: int, figures: dict) -> None:
        text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"epoch {epoch + 1}: {text} ({time.monotonic() - begin:.0f} s)", flush=True)

    history = train_dense_head(network, examples, load_topology(), config, report)
    save_weights(network, options.out / "mesh.weights.h5")
    note = {"made_by": "benchmarks/mesh_shipped.py", "last": history[-1], "card": "docs/mesh.md"}
    save_head(network, options.out / "mobilenet0.25-mesh.npz", note)


if __name__ == "__main__":
    main()
