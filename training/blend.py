"""Weights between two of the same network: `python training/blend.py --help`.

python training/blend.py START.weights.h5 TRAINED.weights.h5 runs/blended.weights.h5 --share 0.5
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite


def main(
    first: Annotated[Path, typer.Argument(help="such as the weights a training began with")],
    second: Annotated[Path, typer.Argument(help="such as those it came to")],
    out: Annotated[Path, typer.Argument(help="file to write, .weights.h5")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of the second")] = 0.5,
    overwrite: Overwrite = False,
) -> None:
    """Write weights between two files'."""
    from retinaface_tf.training.blending import blend
    from retinaface_tf.util.files import require_free
    from retinaface_tf.weights.hdf5 import save_weights
    from retinaface_tf.weights.load import load_weights, require_file

    require_free(out, [first, second], overwrite=overwrite)
    networks = [load_weights(require_file(path)) for path in (first, second)]
    save_weights(blend(*networks, share), out)
    print(f"{out}: {1 - share:g} of {first}, {share:g} of {second}")


if __name__ == "__main__":
    run_script(main)
