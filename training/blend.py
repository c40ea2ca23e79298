"""Weights between two of the same network: `python training/blend.py --help`.

    python training/blend.py START.weights.h5 TRAINED.weights.h5 runs/blended.weights.h5 --share 0.5

A network that learns on from other data than it was first trained on gains there and forgets a little
elsewhere; weights between the two often keep most of both (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models").
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.errors import WeightsError

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


def blend(first: RetinaFaceNetwork, second: RetinaFaceNetwork, share: float) -> RetinaFaceNetwork:
    """A network whose weights are (1 - share) of the first's plus share of the second's.

    Batch norm, which scales by its statistics, is first written with the same statistics in both: those of
    the identity, mean 0 and variance 1.

    Args:
        first, second: of the same configuration; both are changed so, not in what they compute.
        share: 0 for the first, 1 for the second.

    Returns:
        The first, with the new weights.

    Raises:
        WeightsError: the configurations differ.
    """
    from retinaface_tf.models.batch_norm import batch_norms, restate

    if first.config != second.config:
        raise WeightsError(
            "Only weights of the same network can be blended; these two have different "
            "configurations."
        )
    for network in (first, second):
        for norm in batch_norms(network):
            restate(norm)
    pairs = zip(first.get_weights(), second.get_weights())
    first.set_weights([a + share * (b - a) for a, b in pairs])
    return first


def main(
    first: Annotated[Path, typer.Argument(help="such as the weights a training began with")],
    second: Annotated[Path, typer.Argument(help="such as those it came to")],
    out: Annotated[Path, typer.Argument(help="file to write, .weights.h5")],
    share: Annotated[float, typer.Option(min=0, max=1, help="of the second")] = 0.5,
    overwrite: Overwrite = False,
) -> None:
    """Write weights between two files'."""
    from retinaface_tf.util.files import require_free
    from retinaface_tf.weights.hdf5 import save_weights
    from retinaface_tf.weights.load import load_weights, require_file

    require_free(out, [first, second], overwrite=overwrite)
    networks = [load_weights(require_file(path)) for path in (first, second)]
    save_weights(blend(*networks, share), out)
    print(f"{out}: {1 - share:g} of {first}, {share:g} of {second}")


if __name__ == "__main__":
    run_script(main)
