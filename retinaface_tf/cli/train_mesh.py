"""`retinaface-tf train-mesh`."""

from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.options import Overwrite


def train_mesh(
    labels: Annotated[
        list[Path], typer.Argument(help="folders that `data label-mesh` wrote", metavar="LABELS...")
    ],
    out: Annotated[Path, typer.Option(help="folder for examples and weights")] = Path("runs/mesh"),
    preset: Annotated[
        str, typer.Option(help="the detector; it is frozen, only the dense head learns")
    ] = "mobilenet0.25",
    versions: Annotated[int, typer.Option(min=1, help="times each face is shown")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="passes through the examples")] = 30,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="options of the head (DenseConfig) or its training"
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="leave out photos with this in their name"),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bars")] = False,
) -> None:
    """Train the dense head of a frozen detector on labelled photos.

    First the detector's features of every face are written to OUT/examples (an interrupted run goes
    on), then the head learns from those, which takes no images.
    """
    import dataclasses

    from retinaface_tf.util.extras import require

    require("train", for_="Training")
    import numpy as np

    from retinaface_tf.config import DenseConfig
    from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
    from retinaface_tf.inference.runtimes.open import open_runtime
    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.models import add_dense_branch
    from retinaface_tf.presets import SHIPPED_DENSE
    from retinaface_tf.training.dense_features import (
        DenseFeaturesConfig,
        examples_name,
        join_examples,
        make_examples,
        read_examples,
    )
    from retinaface_tf.training.train_dense_head import DenseHeadTraining, train_dense_head
    from retinaface_tf.util.files import require_folder, require_free
    from retinaface_tf.util.options import apply_overrides, from_dict
    from retinaface_tf.util.process import to_stderr
    from retinaface_tf.util.progress import choose_track
    from retinaface_tf.weights.choose_file import load_preset
    from retinaface_tf.weights.dense_head_file import save_head
    from retinaface_tf.weights.hdf5 import save_weights

    values = apply_overrides({}, set_ or [])
    head = {name: values.pop(name) for name in list(values) if name in vars(SHIPPED_DENSE)}
    dense = from_dict(DenseConfig, {**vars(SHIPPED_DENSE), **head})
    training = from_dict(DenseHeadTraining, {"epochs": epochs, **values})
    folder = require_folder(out)
    for name in ("mesh.weights.h5", "head.npz"):
        require_free(folder / name, overwrite=overwrite)
    # Written at the start of every run; beside examples it is of one that was stopped.
    stopped = (folder / "examples").is_dir()
    require_free(folder / "frozen.weights.h5", overwrite=overwrite or stopped)
    sources = [read_mesh_labels(source, MeshLabelConfig()) for source in labels]
    topology, track = load_topology(), choose_track(quiet)
    network = add_dense_branch(load_preset(preset), dense)
    frozen = save_weights(network, out / "frozen.weights.h5")
    runtime = open_runtime(frozen, "litert", notify=to_stderr)
    parts = []
    for number, (source, faces) in enumerate(zip(labels, sources)):
        left_out = [any(text in name for text in exclude or []) for name in faces.images]
        faces = faces.keep(~np.array(left_out, bool)[faces.image])
        config = DenseFeaturesConfig(versions=versions, seed=number)
        place = out / "examples" / examples_name(faces, config, dense, preset)
        with track(f"features of {source.name}", len(faces)) as advance:
            make_examples(faces, place, runtime, topology, config, advance)
        parts.append(read_examples(place))
    examples = join_examples(parts)
    to_stderr(f"{len(examples)} examples, {int(examples.held_out.sum())} held out")
    with track("training", training.epochs) as advance:

        def report(epoch: int, figures: dict) -> None:
            text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            advance(1, text)
            if quiet:
                to_stderr(f"epoch {epoch + 1}: {text}")

        history = train_dense_head(network, examples, topology, training, report)
    path = save_weights(network, out / "mesh.weights.h5")
    note = {"training": dataclasses.asdict(training), "last": history[-1]}
    save_head(network, out / "head.npz", note)
    print(f"{path} and {out / 'head.npz'}: {history[-1]}")
