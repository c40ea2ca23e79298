"""`retinaface-tf data`: look at, label, draw and pack training data."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.options import Overwrite
from retinaface_tf.cli.pseudo_label import pseudo_label
from retinaface_tf.presets import DEFAULT_PRESET
from retinaface_tf.util.files import is_folder

if TYPE_CHECKING:
    from retinaface_tf.data.check import CheckResult, Problem
    from retinaface_tf.data.readers.annotation import AnnotatedImage

app = typer.Typer(help="Check, label, draw and pack training data.", no_args_is_help=True)
app.command("pseudo-label")(pseudo_label)

Kind = Annotated[
    str,
    typer.Argument(
        help="format of the labels, such as wider or json; an unknown one lists them all"
    ),
]
Labels = Annotated[Path, typer.Argument(help="the label file; a folder for yolo, labelme and voc")]
Images = Annotated[Path, typer.Argument(help="folder of the images")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress bar")]
Category = Annotated[
    str | None,
    typer.Option(help="name or id of the category that is faces, where there are several"),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=LEAST]", help="ignore faces with this attribute, such as blur=2; repeatable"
    ),
]


def _read(
    kind: str, labels: Path, images: Path, category: str | None, ignore: list[str] | None
) -> list[AnnotatedImage]:
    from retinaface_tf.data.readers.annotation import ignore_faces
    from retinaface_tf.data.readers.registry import read_labels

    return ignore_faces(read_labels(kind, labels, images, category), ignore or ())


def _check(found: list[AnnotatedImage], headers: bool, quiet: bool) -> CheckResult:
    from retinaface_tf.data.check import check_images
    from retinaface_tf.util.extras import require
    from retinaface_tf.util.progress import choose_track

    if not headers:
        require("train", "tensorflow", for_="Decoding images as training does (without --headers)")
    with choose_track(quiet)("checking", len(found)) as advance:
        return check_images(found, decode=not headers, progress=advance)


def _twice(photos: list[Path], against: list[Path], quiet: bool) -> list[Problem]:
    """The photos that are also, or nearly, among others."""
    from retinaface_tf.data.check import Problem
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.labelling.near_duplicates import find_duplicates
    from retinaface_tf.util.progress import choose_track

    others = [path for path, _ in list_images([str(path) for path in against])]
    with choose_track(quiet)("comparing", len(photos) + len(others)) as advance:
        found = find_duplicates(photos, others, advance=advance)
    return [
        Problem("also kept for evaluation", str(photos[d.index]), None, str(others[d.other]))
        for d in found
    ]


@app.command()
def check(
    kind: Kind,
    labels: Labels,
    images: Images,
    headers: Annotated[
        bool, typer.Option("--headers", help="read sizes only, do not decode the images")
    ] = False,
    category: Category = None,
    ignore: Ignore = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PHOTOS",
            help="a photo or folder kept for evaluation: report images that are in it too; repeatable",
        ),
    ] = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="a JSON line for each problem")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Report every bad label and image; the exit code is 1 when there is one."""
    from retinaface_tf.cli.output import write_text
    from retinaface_tf.util.files import require_free

    found = _read(kind, labels, images, category, ignore)
    if json_ not in (None, "-"):
        files = labels.iterdir() if is_folder(labels) else [labels]
        read = [*files, *(image.path for image in found)]
        require_free(json_, read, overwrite=overwrite)
    result = _check(found, headers, quiet)
    if against:
        twice = _twice([image.path for image in result.images], against, quiet)
        result = dataclasses.replace(result, problems=[*result.problems, *twice])
    if json_ is not None:
        lines = [
            json.dumps({"image": p.path, "face": p.face, "problem": p.kind, "detail": p.detail})
            for p in result.problems
        ]
        write_text(json_, "".join(line + "\n" for line in lines))
    else:
        for problem in result.problems:
            print(f"{problem.kind}: {problem.place}: {problem.detail}")
    stream = sys.stderr if json_ == "-" else sys.stdout
    print(result.summary(), file=stream)
    if result.problems:
        raise typer.Exit(1)


@app.command()
def convert(
    kind: Kind,
    labels: Labels,
    images: Images,
    out: Annotated[Path, typer.Argument(help="the label file; a folder for yolo, labelme and voc")],
    to: Annotated[str, typer.Option(help="format to write; an unknown one lists them all")],
    category: Category = None,
    ignore: Ignore = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the labels of a file in another format; the images stay as they are."""
    from retinaface_tf.data.convert import convert_labels
    from retinaface_tf.errors import DataError
    from retinaface_tf.util.files import require_free, write_whole

    found = _read(kind, labels, images, category, ignore)
    result = convert_labels(found, images, to, out)
    read = [*(labels.rglob("*") if is_folder(labels) else [labels]), *(i.path for i in found)]
    for file in result.texts:
        require_free(file, read, overwrite=overwrite)
    for file, text in result.texts.items():
        write_whole(file, text, error=DataError)
    for what, count in result.lost.items():
        left_out = "left out" if what == "ignored" else "written without"
        print(f"{to} has no place for {what}: {count} faces {left_out}", file=sys.stderr)
    print(f"{len(found)} images with {result.faces} faces in {out}")


@app.command()
def pack(
    kind: Kind,
    labels: Labels,
    images: Images,
    out: Annotated[Path, typer.Argument(help="folder for the shards")],
    category: Category = None,
    ignore: Ignore = None,
    per_shard: Annotated[int, typer.Option(min=1, help="images in a shard")] = 500,
    threads: Annotated[int, typer.Option(min=1, help="shards written side by side")] = 4,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write images and labels into TFRecord shards; bad ones are left out.

    The same command resumes one that was interrupted.
    """
    from retinaface_tf.data.records import pack_images, require_pack_folder
    from retinaface_tf.util.progress import choose_track

    found = _read(kind, labels, images, category, ignore)
    require_pack_folder(out, overwrite)
    result = _check(found, False, quiet)
    print(result.summary(), file=sys.stderr)
    with choose_track(quiet)("packing", len(result.images)) as advance:
        packed = pack_images(
            result.images,
            out,
            per_shard=per_shard,
            threads=threads,
            overwrite=overwrite,
            progress=advance,
        )
    print(
        f"{packed.images} images with {packed.faces} faces in {packed.shards} shards "
        f"({packed.written} written, {packed.reused} were there)"
    )


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="what `data pack` wrote")]) -> None:
    """Compare packed shards with their checksums; the exit code is 1 when one is damaged."""
    from retinaface_tf.data.records import verify_shards

    problems = verify_shards(folder)
    for problem in problems:
        print(problem)
    print(f"{folder}: {len(problems)} damaged" if problems else f"{folder}: all shards are good")
    if problems:
        raise typer.Exit(1)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="folder for images and label.txt")],
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="number of images")] = 100,
    size: Annotated[int, typer.Option(min=64, help="side of the square images")] = 256,
    max_faces: Annotated[int, typer.Option(min=1, help="most faces in an image")] = 24,
    min_face: Annotated[float, typer.Option(help="smallest face in pixels")] = 10.0,
    seed: Annotated[int, typer.Option(help="the same seed draws the same images")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draw images with faces, exact boxes and five landmarks, labelled as RetinaFace's label.txt."""
    from retinaface_tf.data.options import SyntheticConfig
    from retinaface_tf.data.readers.annotation import LabelledImage
    from retinaface_tf.data.readers.widerface import write_retinaface_labels
    from retinaface_tf.data.synthetic.scene import draw_images
    from retinaface_tf.errors import DataError
    from retinaface_tf.util.files import require_folder, require_free, write_whole
    from retinaface_tf.util.process import available_cores
    from retinaface_tf.util.progress import choose_track

    config = SyntheticConfig(size=size, max_faces=max_faces, min_face=min_face, seed=seed)
    folder = require_folder(out / "images")
    for path in (out / "label.txt", *sorted(folder.glob("synthetic-*.jpg"))):
        require_free(path, overwrite=overwrite)
    entries, faces = [], 0
    with choose_track(quiet)("drawing faces", count) as advance:
        for encoded, image in draw_images(
            config, 0, count, processes=available_cores(), progress=advance
        ):
            write_whole(folder / image.path.name, encoded, error=DataError)
            entries.append(LabelledImage(image.path.name, (size, size), image))
            faces += len(image.boxes)
    write_whole(out / "label.txt", write_retinaface_labels(entries), error=DataError)
    print(f"{count} images with {faces} faces in {out}")


@app.command("label-mesh")
def label_mesh(
    images: Annotated[list[str], typer.Argument(help="photos and folders", metavar="IMAGES...")],
    out: Annotated[Path, typer.Option(help="folder for the labels")],
    model: Annotated[
        Path | None,
        typer.Option(help="MediaPipe's face_landmark.tflite; without it, it is fetched once"),
    ] = None,
    preset: Annotated[str, typer.Option(help="the detector")] = DEFAULT_PRESET,
    threshold: Annotated[float, typer.Option(help="least score of a face")] = 0.8,
    min_side: Annotated[float, typer.Option(help="shorter side of the smallest face")] = 30.0,
    min_presence: Annotated[float, typer.Option(help="how sure the landmark model must be")] = 0.9,
    max_disagreement: Annotated[
        float,
        typer.Option(help="mean distance of its five points from the detector's, in face sizes"),
    ] = 0.08,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="draw some labelled and some refused faces")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(metavar="DIR", help="also write TFRecord shards")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Label photos' faces with dense meshes, by a face landmark model; the same command resumes.

    What is kept: faces that the landmark model is sure of and in which its points agree with the
    detector's five.
    """
    from retinaface_tf.cli.output import require_sheet
    from retinaface_tf.data.readers.mesh_labels import MeshLabelConfig, read_mesh_labels
    from retinaface_tf.data.records import require_pack_folder
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.inference.detector import RetinaFace
    from retinaface_tf.labelling.mesh_labels import label_images
    from retinaface_tf.mesh.landmark_model import FaceLandmarkModel
    from retinaface_tf.mesh.topology import load_topology
    from retinaface_tf.util.process import to_stderr
    from retinaface_tf.util.progress import choose_track
    from retinaface_tf.weights.landmark_model import pull_landmark_model

    config = MeshLabelConfig(
        threshold=threshold,
        min_side=min_side,
        min_presence=min_presence,
        max_disagreement=max_disagreement,
    )
    paths = [path for path, _ in list_images(images)]
    mark = sheet and require_sheet(sheet, out, paths, overwrite)
    if records is not None:
        require_pack_folder(records, overwrite)
    if model is None:
        model = pull_landmark_model(notify=to_stderr)
    landmarks = FaceLandmarkModel(model)
    detector = RetinaFace.from_preset(preset)
    with choose_track(quiet)("labelling", len(paths)) as advance:
        label_images(paths, out, detector, landmarks, load_topology(), config, advance, overwrite)
    every = read_mesh_labels(out)
    good = every.good(config)
    kept = every.keep(good)
    if sheet is not None:
        from retinaface_tf.labelling.sheets import draw_mesh_sheet

        draw_mesh_sheet(every, good, sheet, mark=mark)
    print(f"{len(paths)} photos, {len(every)} faces, {len(kept)} labelled; in {out}")
    if records is not None:
        from retinaface_tf.data.records import pack_images

        packed = pack_images(every.annotated(good), records, overwrite=overwrite)
        print(f"{packed.images} images with {packed.faces} faces in {packed.shards} shards")
