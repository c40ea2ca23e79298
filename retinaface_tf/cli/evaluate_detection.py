"""`retinaface-tf evaluate widerface` and `fddb`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.augmentation import Flip, Rotations, Scales, Tiles, Vote
from retinaface_tf.cli.evaluation_options import (
    BatchSize,
    Images,
    Json,
    Name,
    Partial,
    Pred,
    Report,
    Save,
    Threshold,
    With,
)
from retinaface_tf.cli.evaluation_run import (
    DetectorOptions,
    leave,
    need_all,
    need_one,
    percent,
    run_name,
    search,
    show,
)
from retinaface_tf.cli.options import Iou, Model, Precision, Preset, Runtime, Size
from retinaface_tf.presets import DEFAULT_PRESET


def widerface(
    gt: Annotated[Path, typer.Option(help="Folder of the official .mat files.")],
    pred: Pred = None,
    images: Images = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    runtime: Runtime = None,
    precision: Precision = "float32",
    threshold: Threshold = 0.02,
    iou: Iou = 0.4,
    size: Size = None,
    scales: Scales = None,
    flip: Flip = False,
    vote: Vote = False,
    rotations: Rotations = False,
    tiles: Tiles = None,
    batch_size: BatchSize = 8,
    partial: Partial = False,
    boxes: Annotated[
        Path | None,
        typer.Option(help="bbx_gt.txt with the same faces in images that were resized."),
    ] = None,
    save: Save = None,
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write detections in the official format.")
    ] = None,
    name: Name = None,
    json: Json = None,
    report: Report = None,
    others: With = None,
) -> None:
    """Average precision on WIDER FACE, easy, medium and hard, by the official protocol.

    Give detections with --pred, or images with --images to run a detector now. With both, the
    images only serve the report's crops.
    """
    from retinaface_tf.evaluation.detections import read_detections, write_text_folder
    from retinaface_tf.evaluation.report import Gallery
    from retinaface_tf.evaluation.results import provenance, widerface_json
    from retinaface_tf.evaluation.runner import find_images
    from retinaface_tf.evaluation.widerface import (
        SUBSETS,
        evaluate_widerface,
        read_box_list,
        read_ground_truth,
    )

    need_one(pred, images)
    truth = read_ground_truth(gt)
    whole = len(truth.images)
    if boxes is not None:
        truth = truth.with_boxes(read_box_list(boxes, truth.images))
    pictures = find_images(images, truth.images) if images is not None else {}
    if pred is not None:
        found, settings = read_detections(pred, truth.images), {"detections": str(pred)}
        there = set(found)
    else:
        need_all(len(pictures), whole, images, partial)
        there = set(pictures)
        found, settings = search(
            DetectorOptions.of(locals()), {k: pictures[k] for k in truth.images if k in there}, save
        )
    if partial:
        truth = truth.restricted_to(there)
    if submission is not None:
        write_text_folder(submission, found)
    result = evaluate_widerface(truth, found)
    results = widerface_json(result, run_name(name, pred, settings), provenance(settings))
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
    if report is not None and pictures:
        from retinaface_tf.evaluation.crops import worst_false_alarms, worst_misses

        galleries = [
            Gallery("Worst misses", "misses", worst_misses(result, pictures), _MISSES),
            Gallery(
                "Worst false alarms",
                "false_alarms",
                worst_false_alarms(result, found, pictures),
                _ALARMS,
            ),
        ]
    leave(results, json, report, others, galleries)


_MISSES = "Hard subset: faces not found (red), largest first, then those found with least score."
_ALARMS = "Hard subset: wrong detections (orange) of highest score; annotated faces in green."


def fddb(
    gt: Annotated[Path, typer.Option(help="Folder of FDDB-fold-XX-ellipseList.txt, or one file.")],
    pred: Pred = None,
    images: Images = None,
    image_list: Annotated[
        Path | None, typer.Option("--list", help="Text file that names the images to judge.")
    ] = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    runtime: Runtime = None,
    precision: Precision = "float32",
    threshold: Threshold = 0.02,
    iou: Iou = 0.4,
    size: Size = None,
    scales: Scales = None,
    flip: Flip = False,
    vote: Vote = False,
    rotations: Rotations = False,
    tiles: Tiles = None,
    batch_size: BatchSize = 8,
    partial: Partial = False,
    save: Save = None,
    name: Name = None,
    json: Json = None,
    report: Report = None,
    others: With = None,
) -> None:
    """ROC on FDDB, discrete and continuous score, boxes against the annotated ellipses."""
    from retinaface_tf.data.readers.fddb import read_ellipses
    from retinaface_tf.evaluation.detections import NOTHING, read_detections
    from retinaface_tf.evaluation.fddb import evaluate_fddb, read_image_list
    from retinaface_tf.evaluation.results import FALSE_POSITIVES, fddb_json, provenance
    from retinaface_tf.evaluation.runner import find_images

    need_one(pred, images)
    ellipses = read_ellipses(gt)
    chosen = list(ellipses) if image_list is None else read_image_list(image_list, ellipses)
    if pred is not None:
        found, settings = read_detections(pred, ellipses), {"detections": str(pred)}
        there = set(found)
    else:
        pictures = {k: v for k, v in find_images(images, ellipses).items() if k in set(chosen)}
        need_all(len(pictures), len(chosen), images, partial)
        there = set(pictures)
        found, settings = search(DetectorOptions.of(locals()), pictures, save)
    if partial:
        chosen = [key for key in chosen if key in there]
    found = {key: found[key] for key in chosen if key in found}
    curve = evaluate_fddb(ellipses, found, chosen)
    parts = {key: evaluate_fddb(ellipses, {key: found.get(key, NOTHING)}, [key]) for key in chosen}
    results = fddb_json(curve, parts, run_name(name, pred, settings), provenance(settings))
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
    leave(results, json, report, others)
