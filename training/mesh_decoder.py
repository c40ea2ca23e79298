"""Pre-trains the mesh decoder: `python training/mesh_decoder.py --help`.

    python training/mesh_decoder.py --labels labels/ --out decoder/
    python training/mesh_decoder.py --synthetic --out decoder/     # synthetic faces, no data needed

`--labels` are folders that `retinaface-tf data label-mesh` wrote. Writes `decoder.npz`, `figures.json` and
`faces.png` (held-out faces above, what the decoder makes of their codes below) into the folder.
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite

CONFIG = Path(__file__).resolve().parent / "mesh_decoder.toml"


def main(
    out: Annotated[Path, typer.Option(help="folder for the results")],
    labels: Annotated[list[Path] | None, typer.Option(help="folder of mesh labels")] = None,
    config: Annotated[Path, typer.Option(help="a TOML file")] = CONFIG,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="synthetic faces only")] = False,
    steps: Annotated[int | None, typer.Option(help="instead of the configuration's")] = None,
    start: Annotated[Path | None, typer.Option(help="a decoder.npz to continue from")] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar")] = False,
) -> None:
    """Pre-train the mesh decoder on labelled faces."""
    import dataclasses

    import keras

    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.util.files import require_free
    from retinaface_tf.util.options import from_dict, read_options
    from retinaface_tf.util.progress import choose_track
    from training.decoder.results import RESULTS, read_labelled, write_results
    from training.decoder.train_decoder import MeshDecoderTraining, pretrain

    settings = from_dict(MeshDecoderTraining, read_options(config))
    if synthetic:
        settings = dataclasses.replace(settings, synthetic=1.0)
    if steps:
        settings = dataclasses.replace(settings, steps=steps)
    for name in RESULTS:
        require_free(out / name, filter(None, [start, config]), overwrite=overwrite)
    topology = load_topology()
    track = choose_track(quiet)
    faces = None if settings.synthetic == 1 else read_labelled(labels or [], topology, track)
    with track("training the decoder", settings.steps) as advance:
        progress = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: advance(1))
        result = pretrain(settings, topology, faces, [progress], start)
    write_results(out, settings, topology, result)
    print(result.figures.table())
    print(
        f"{result.figures.faces} held-out faces, {result.figures.trained} trained on, deviation of "
        f"the held-out codes {result.figures.code_deviation:.2f}"
    )
    print(f"{out / 'decoder.npz'}: {(out / 'decoder.npz').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
