"""`retinaface-tf data pseudo-label`: labels for photos without any, by a teacher of several detectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinaface_tf.cli.options import Overwrite
from retinaface_tf.presets import DEFAULT_PRESET

if TYPE_CHECKING:
    from retinaface_tf.inference.test_time_augmentation import Augmentation
    from retinaface_tf.labelling.pseudo_labels import Member


def pseudo_label(
    images: Annotated[Path, typer.Argument(help="folder of photos")],
    out: Annotated[Path, typer.Option(help="folder for the labels")],
    member: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE|yunet:FILE",
            help="a detector of the teacher: a preset, a file that `detect --model` takes, or YuNet "
            f"through OpenCV; several make it better. [default: {DEFAULT_PRESET}]",
        ),
    ] = None,
    sizes: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="sizes searched, each as --size of detect takes it: SHORT, SHORTxLONGEST or original",
        ),
    ] = "640x1000,1200x1600",
    flip: Annotated[bool, typer.Option(help="search mirror images too")] = True,
    enlarged_limit: Annotated[
        float,
        typer.Option(
            help="faces wider than this many pixels of a larger size are left to the smallest size"
        ),
    ] = 160.0,
    threshold: Annotated[float, typer.Option(help="least score of a member's detection")] = 0.1,
    accept: Annotated[float, typer.Option(help="least mean score of a label")] = 0.7,
    ignore: Annotated[
        float, typer.Option(help="least mean score of a face that is ignored, not background")
    ] = 0.3,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(help="folder of photos, such as those of an evaluation: repeats are left out"),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(metavar="KIND:FILE", help="real labels of the photos, to compare with"),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PNG", help="draw some labelled photos")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="photos at a time")] = 4,
    threads: Annotated[int | None, typer.Option(min=1, help="cores to use. [default: all]")] = None,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress bar")] = False,
) -> None:
    """Label photos with what several detectors at several scales agree on.

    What they agree on becomes a label, what only some find is neither learnt nor background. The
    same command resumes a run that was stopped; a member added later searches alone. Train on the
    result with `--data json --set data.labels=OUT/labels.jsonl --set data.images=IMAGES`.
    """
    from retinaface_tf.cli.output import require_sheet
    from retinaface_tf.data.readers.json_labels import read_json_labels
    from retinaface_tf.data.readers.registry import read_labels
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.inference.preprocess import parse_size
    from retinaface_tf.inference.test_time_augmentation import Augmentation
    from retinaface_tf.labelling.pseudo_labels import AgreementConfig, label_photos
    from retinaface_tf.util.files import require_folder, require_free
    from retinaface_tf.util.process import to_stderr
    from retinaface_tf.util.progress import choose_track

    track = choose_track(quiet)
    photos = {name.as_posix(): path for path, name in list_images([images])}
    require_folder(out)
    real = None
    if truth is not None:
        kind, _, file = truth.partition(":")
        real = read_labels(kind, Path(file), images)
        require_free(out / "labels.jsonl", [Path(file)], overwrite=True)
    mark = sheet and require_sheet(sheet, out, photos.values(), overwrite)
    scales = tuple(parse_size(text) for text in sizes.split(","))
    views = Augmentation(scales=scales, flip=flip, enlarged_limit=enlarged_limit)
    members = [open_member(text, views, threshold, threads) for text in member or [DEFAULT_PRESET]]
    repeated = _repeats(photos, exclude or [], track)
    total = (len(photos) - len(repeated)) * len(members)
    with track("labelling", total) as advance:
        done = label_photos(
            photos,
            out,
            members,
            AgreementConfig(accept=accept, ignore=ignore),
            batch_size=batch_size,
            excluded=repeated,
            overwrite=overwrite,
            advance=advance,
            report=to_stderr,
        )
    print(
        f"{done.photos} photos: {done.faces} faces ({done.with_points} with five points), "
        f"{done.ignored} ignored; left out: {len(repeated)} repeats, {done.errors} unreadable"
    )
    labels = read_json_labels(out / "labels.jsonl", images)
    if real is not None:
        from retinaface_tf.labelling.comparison import compare_labels

        print(compare_labels(labels, real).table())
    if sheet is not None:
        from retinaface_tf.labelling.sheets import draw_label_sheet

        draw_label_sheet(labels, sheet, mark=mark)


def open_member(text: str, views: Augmentation, threshold: float, threads: int | None) -> Member:
    """A detector as the command line names it, searching these views of each photo.

    Raises:
        WeightsError: it cannot be opened.
    """
    import dataclasses

    from retinaface_tf.inference.detector import RetinaFace
    from retinaface_tf.inference.test_time_augmentation import AugmentedDetector
    from retinaface_tf.inference.yunet import YuNetBackend
    from retinaface_tf.labelling.pseudo_labels import Member
    from retinaface_tf.presets import get_preset, list_presets
    from retinaface_tf.util.files import sha256_of
    from retinaface_tf.weights.choose_file import preset_file

    kind, colon, file = text.partition(":")
    if colon and kind == "yunet":
        detector, what = RetinaFace(YuNetBackend(file)), Path(file)
    elif text in list_presets():
        detector, what = RetinaFace.from_preset(text, threads=threads), None
        if get_preset(text).source.file("weights") is not None:
            what = preset_file(text)  # another release may have others
    else:
        detector, what = RetinaFace.from_file(text, threads=threads), Path(text)
    digest = sha256_of(what) if what else ""
    settings = {
        "member": text if what is None else what.name,
        "sha256": digest,
        "threshold": threshold,
        "forms": dataclasses.asdict(views),  # the key of folders begun by earlier versions
    }
    name = f"{what.name}-{digest[:8]}" if what else text
    return Member(name, AugmentedDetector(detector, views, threshold=threshold), settings)


def _repeats(photos: dict[str, Path], folders: list[Path], track) -> dict[str, str]:
    """Names of photos that are in one of the folders too, and where."""
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.labelling.near_duplicates import find_duplicates

    if not folders:
        return {}
    names, paths = list(photos), list(photos.values())
    others = [path for path, _ in list_images(folders)]
    with track("comparing photos", len(paths) + len(others)) as advance:
        found = find_duplicates(paths, others, advance=advance)
    return {names[d.index]: f"repeats {others[d.other]} ({d.distance} bits)" for d in found}
