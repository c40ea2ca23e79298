"""The lists of photos that teach the network with a dense stem: `python training/dense_stem/lists.py --help`.

    python training/dense_stem/lists.py PHOTOS lists/ --wider wider_face_train_bbx_gt.txt --labels labels.jsonl

PHOTOS holds the folders `wider_train` (WIDER FACE training photos, with official boxes), `negatives` (photos
without people) and any others, whose faces `retinaface-tf data pseudo-label PHOTOS` labelled. Held out, and in lists of
their own, are a sixth of the first, a third of the second and a twelfth of the others, by a hash of the name, so that a photo
stays where it is when others are added.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import typer

from retinaface_tf.cli import run_script
from retinaface_tf.cli.options import Overwrite
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.errors import DataError
from retinaface_tf.images.listing import list_images
from retinaface_tf.util.files import is_folder, require_free, write_whole

# One photo of so many is held out.
HELD_OUT = {"wider_train": 6, "negatives": 3}
_OTHERS = 12


def make_lists(photos: Path, wider: Path, labels: Path) -> dict[str, list[dict]]:
    """Records of training and validation, as `data.kind = "json"` reads them.

    Raises:
        DataError: a list cannot be read, or there is no folder `negatives`.
    """
    records = [
        {
            "image": f"wider_train/{image.path.relative_to(photos / 'wider_train')}",
            "faces": [
                {"box": [float(v) for v in box], "ignored": bool(ignored)}
                for box, ignored in zip(image.boxes, image.ignored)
            ],
        }
        for image in read_widerface(wider, photos / "wider_train")
    ]
    if not is_folder(photos / "negatives"):
        raise DataError(f"{photos} has no folder negatives; put photos without people there.")
    for path, _ in list_images([str(photos / "negatives")]):
        records.append({"image": path.relative_to(photos).as_posix(), "faces": []})
    for number, line in enumerate(labels.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            name, faces = record["image"], record["faces"]
        except (ValueError, LookupError, TypeError):
            raise DataError(f"{labels}, line {number}, is no line of labels.jsonl.") from None
        if name.partition("/")[0] not in HELD_OUT:
            records.append({"image": name, "faces": faces})
    lists: dict[str, list[dict]] = {"train": []}
    for record in records:
        folder, _, name = record["image"].partition("/")
        share = HELD_OUT.get(folder, _OTHERS)
        held_out = f"held_out_{folder if folder in HELD_OUT else 'others'}"
        key = name if folder in HELD_OUT else record["image"]
        which = held_out if zlib.crc32(key.encode()) % share == 0 else "train"
        lists.setdefault(which, []).append(record)
    return lists


def main(
    photos: Annotated[Path, typer.Argument(help="folder of folders of photos", exists=True)],
    out: Annotated[Path, typer.Argument(help="folder for the lists")],
    wider: Annotated[Path, typer.Option(help="official boxes of wider_train", exists=True)],
    labels: Annotated[Path, typer.Option(help="labels.jsonl of the others", exists=True)],
    overwrite: Overwrite = False,
) -> None:
    """Writes train.jsonl and three lists of held-out photos."""
    lists = make_lists(photos, wider, labels)
    for name in lists:
        require_free(out / f"{name}.jsonl", [wider, labels], overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    for name, records in lists.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_whole(out / f"{name}.jsonl", text.encode())
        faces = sum(len(record["faces"]) for record in records)
        typer.echo(f"{out / name}.jsonl: {len(records)} photos, {faces} faces")


if __name__ == "__main__":
    run_script(main)
