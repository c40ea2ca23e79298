"""Puts a trained network into the package: `python training/release.py --help`.

    python training/release.py runs/last/best.weights.h5 --preset NAME --calibration PHOTOS \\
        --figure "AP, 106 FDDB images=0.996" --fact "hours=9 on two cores"

Writes NAME.weights.npz (float16), NAME.tflite, NAME-int8.tflite and NAME.json into
`retinaface_tf/sources/files`, once all of them find the same faces in an image.
"""

import sys
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.errors import ConfigError


def main(
    weights: Annotated[Path, typer.Argument(help="the trained network, .weights.h5")],
    preset: Annotated[str, typer.Option(help="whose network it is")],
    calibration: Annotated[
        Path, typer.Option(metavar="DIR", help="photos like those int8 will see, 100 are enough")
    ],
    stem: Annotated[
        str | None, typer.Option(help="what the files' names begin with; by default the preset's")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="for the check; by default a portrait by NASA")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder, instead of the package's")] = None,
    figure: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=VALUE", help="measured with these weights")
    ] = None,
    overwrite: Overwrite = False,
    fact: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=VALUE", help="data, command, hours, ...")
    ] = None,
) -> None:
    """Make a trained network's packaged files, check what they detect, then put them in place."""
    from retinaface_tf.export.release import release
    from retinaface_tf.images.listing import demo_photo
    from retinaface_tf.sources.packaged import FOLDER, file_names
    from retinaface_tf.util.files import require_free
    from retinaface_tf.util.process import to_stderr

    figures, facts = _pairs("--figure", figure), _pairs("--fact", fact)
    out = FOLDER if out is None else out
    for name in file_names(stem or preset).values():
        require_free(out / name, filter(None, [weights, image]), overwrite=overwrite)
    written = release(
        weights,
        preset,
        calibration,
        image or demo_photo(),
        stem=stem,
        out=out,
        figures=figures,
        facts=facts,
        notify=to_stderr,
    )
    for name, file in written["files"].items():
        print(f"{out / name}: {file['bytes']:,} bytes, sha256 {file['sha256']}")


def _pairs(option: str, entries: list[str] | None) -> dict[str, str]:
    pairs = {}
    for entry in entries or []:
        what, equals, value = entry.partition("=")
        if not (what and equals and value):
            raise ConfigError(f"{option} {entry!r} is not understood: give WHAT=VALUE.")
        pairs[what.strip()] = value.strip()
    return pairs


if __name__ == "__main__":
    run_script(main)
