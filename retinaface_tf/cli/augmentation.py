"""Options of test-time augmentation, shared by `detect` and `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from retinaface_tf.inference.test_time_augmentation import Augmentation

Scales = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Search at several sizes, each as --size takes it: 500,800,1100,1400,1700; "
        "`paper` stands for these.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Search the mirror image too.")]
Vote = Annotated[
    bool, typer.Option("--vote", help="Average overlapping detections of all passes by score.")
]
Rotations = Annotated[
    bool, typer.Option("--rotations", help="Search the image turned by right angles too.")
]
Tiles = Annotated[
    int | None,
    typer.Option(
        metavar="SIDE", help="Search larger images in overlapping tiles of this many pixels too."
    ),
]


def read_augmentation(
    scales: str | None, flip: bool, vote: bool, rotations: bool, tiles: int | None, size
) -> Augmentation | None:
    """The options as an `Augmentation`; None when none is given.

    Args:
        scales, flip, vote, rotations, tiles: the options.
        size: of `--size`, parsed; the one scale when `--scales` is not given.

    Raises:
        ConfigError: an option cannot be.
    """
    from retinaface_tf.errors import ConfigError
    from retinaface_tf.inference.preprocess import parse_size
    from retinaface_tf.inference.test_time_augmentation import PAPER_SCALES, Augmentation

    if scales is None and not (flip or vote or rotations or tiles):
        return None
    if scales is not None and size is not None:
        raise ConfigError("--size and --scales exclude each other; put the size into --scales.")
    sizes = (size,)
    if scales == "paper":
        sizes = PAPER_SCALES
    elif scales is not None:
        sizes = tuple(parse_size(part.strip()) for part in scales.split(","))
    return Augmentation(
        scales=sizes,
        flip=flip,
        rotations=(0, 1, 2, 3) if rotations else (0,),
        tile=tiles,
        vote=vote,
    )
