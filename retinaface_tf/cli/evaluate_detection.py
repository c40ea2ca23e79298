"""`retinaface-tf evaluate widerface` and `fddb`."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.evaluation_run import (
    BenchmarkOptions,
    Images,
    OutputOptions,
    Partial,
    Pred,
    Save,
    detections,
    files_read,
    percent,
    show,
)
from retinaface_tf.cli.options import grouped
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.extras import require
from retinaface_tf.util.files import require_folder, require_free

_MISSES = "Hard subset: faces not found (red), largest first, then those found with least score."
_WRONG = "Hard subset: false positives (orange) of highest score; annotated faces in green."


@grouped
def widerface(
    gt: Annotated[Path, typer.Option(help="Folder of the official .mat files.")],
    detector: BenchmarkOptions,
    output: OutputOptions,
    pred: Pred = None,
    images: Images = None,
    partial: Partial = False,
    boxes: Annotated[
        Path | None,
        typer.Option(help="bbx_gt.txt with the same faces in images that were resized."),
    ] = None,
    save: Save = None,
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write detections in the official format.")
    ] = None,
) -> None:
    """Average precision on WIDER FACE, easy, medium and hard, by the official protocol.

    Give detections with --pred, or images with --images to run a detector now. With both, the
    images only serve the report's crops.
    """
    from retinaface_tf.evaluation.detections import text_files, write_text_folder
    from retinaface_tf.evaluation.report import Gallery
    from retinaface_tf.evaluation.results import provenance, widerface_json
    from retinaface_tf.evaluation.runner import find_images
    from retinaface_tf.evaluation.widerface import (
        SUBSETS,
        evaluate_widerface,
        read_box_list,
        read_ground_truth,
    )

    _require_one(pred, images)
    truth = read_ground_truth(gt)
    whole = len(truth.images)
    if boxes is not None:
        truth = truth.with_boxes(read_box_list(boxes, truth.images))
    files = find_images(images, truth.images) if images is not None else {}
    if pred is None:
        _require_all(files, truth.images, images, partial)
    searched = {key: files[key] for key in truth.images if key in files}
    output.require("widerface", [gt, pred, boxes, *files.values()])
    if submission is not None:
        require_folder(submission)
        for path in text_files(submission, truth.images):
            require_free(path, files_read([gt, pred]), overwrite=output.overwrite)
    found, settings = detections(detector, pred, truth.images, searched, save)
    if partial:
        truth = truth.restricted_to(found)
    if submission is not None:
        write_text_folder(submission, found)
    result = evaluate_widerface(truth, found)
    results = widerface_json(result, output.run_name(pred, settings), provenance(settings))
    show(
        f"WIDER FACE, {len(truth.images)} of {whole} images, AP % at IoU 0.5, mAP % over 0.5:0.95",
        ["", *SUBSETS],
        [
            ["AP", *(percent(results["ap"][s]) for s in SUBSETS)],
            ["mAP", *(percent(results["map"][s]) for s in SUBSETS)],
            ["faces", *(str(results["faces"][s]) for s in SUBSETS)],
        ],
    )
    if result.missing:
        print(
            f"{result.missing} images are missing from the detections: their faces count as missed.",
            file=sys.stderr,
        )
    galleries = []
    if output.report is not None and files:
        from retinaface_tf.evaluation.crops import worst_false_positives, worst_misses

        misses = worst_misses(result, files)
        wrong = worst_false_positives(result, found, files)
        galleries = [
            Gallery("Worst misses", "misses", misses, _MISSES),
            Gallery("Worst false positives", "false_positives", wrong, _WRONG),
        ]
    output.write(results, galleries)


@grouped
def fddb(
    gt: Annotated[Path, typer.Option(help="Folder of FDDB-fold-XX-ellipseList.txt, or one file.")],
    detector: BenchmarkOptions,
    output: OutputOptions,
    pred: Pred = None,
    images: Images = None,
    image_list: Annotated[
        Path | None, typer.Option("--list", help="Text file that names the images to evaluate.")
    ] = None,
    partial: Partial = False,
    save: Save = None,
) -> None:
    """ROC on FDDB, discrete and continuous score, boxes against the annotated ellipses."""
    require("evaluate", "scipy", for_="FDDB's protocol")
    from retinaface_tf.data.readers.fddb import read_ellipses
    from retinaface_tf.evaluation.detections import NOTHING
    from retinaface_tf.evaluation.fddb import evaluate_fddb, read_image_list
    from retinaface_tf.evaluation.results import FALSE_POSITIVES, fddb_json, provenance
    from retinaface_tf.evaluation.runner import find_images

    _require_one(pred, images)
    ellipses = read_ellipses(gt)
    chosen = list(ellipses) if image_list is None else read_image_list(image_list, ellipses)
    files = {}
    if pred is None:
        files = {k: v for k, v in find_images(images, ellipses).items() if k in set(chosen)}
        _require_all(files, chosen, images, partial)
    output.require("fddb", [gt, pred, image_list, *files.values()])
    found, settings = detections(detector, pred, ellipses, files, save)
    if partial:
        chosen = [key for key in chosen if key in found]
    found = {key: found[key] for key in chosen if key in found}
    curve = evaluate_fddb(ellipses, found, chosen)
    parts = {key: evaluate_fddb(ellipses, {key: found.get(key, NOTHING)}, [key]) for key in chosen}
    results = fddb_json(curve, parts, output.run_name(pred, settings), provenance(settings))
    end = results["end"]
    limits = [n for n in FALSE_POSITIVES if n <= end["false_positives"]]
    show(
        f"FDDB, {curve.num_images} images, {curve.num_faces} faces: true positive rate %",
        ["score", *(f"{n} FP" for n in limits), f"all ({end['false_positives']} FP)"],
        [
            [score, *(percent(results[score][str(n)]) for n in limits), percent(end[score])]
            for score in ("discrete", "continuous")
        ],
    )
    output.write(results)


def _require_one(pred: Path | None, images: Path | None) -> None:
    if pred is None and images is None:
        raise ConfigError("Give detections with --pred, or images to search with --images.")


def _require_all(files: dict, whole: Collection, folder: Path | None, partial: bool) -> None:
    if len(files) < len(whole) and not partial:
        raise ConfigError(
            f"{folder} holds {len(files)} of {len(whole)} images; add --partial to evaluate only those."
        )
