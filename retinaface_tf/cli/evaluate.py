"""`retinaface-tf evaluate`: figures as the field measures them, reports and comparisons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.augmentation import Flip, Rotations, Scales, Tiles, Vote
from retinaface_tf.cli.detect import DEFAULT_PRESET, Iou, Model, Preset, Runtime, Size
from retinaface_tf.cli.evaluation_run import DetectorOptions, leave, percent, search, show
from retinaface_tf.errors import ConfigError

app = typer.Typer(
    help="Measure a detector: WIDER FACE, FDDB, landmarks, verification; compare results.",
    no_args_is_help=True,
)

Threshold = Annotated[float, typer.Option(help="Least score of a detection.")]
BatchSize = Annotated[int, typer.Option(help="Pictures given to the network at once.")]
Pred = Annotated[
    Path | None,
    typer.Option(help="Detections: a folder of EVENT/IMAGE.txt, or JSON lines of `detect --json`."),
]
Images = Annotated[Path | None, typer.Option(help="Folder of the pictures.")]
Json = Annotated[Path | None, typer.Option(help="Write figures, curves and samples as JSON.")]
Report = Annotated[Path | None, typer.Option(metavar="DIR", help="Write an HTML report and PNGs.")]
With = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="JSON", help="Other results to draw into the report."),
]
Name = Annotated[str | None, typer.Option(help="What tables call this run.")]
Save = Annotated[
    Path | None,
    typer.Option(
        metavar="JSONL", help="Keep detections here as they come; a stopped run goes on from it."
    ),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="Judge only the images that are there, not the whole set."),
]


@app.command("widerface")
def widerface(
    gt: Annotated[Path, typer.Option(help="Folder of the official .mat files.")],
    pred: Pred = None,
    images: Images = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    runtime: Runtime = None,
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
        typer.Option(help="bbx_gt.txt with the same faces in pictures that were resized."),
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

    Give detections with --pred, or pictures with --images to run a detector now. With both, the
    pictures only serve the report's crops.
    """
    from retinaface_tf.evaluation.detections import read_detections, write_text_folder
    from retinaface_tf.evaluation.report import Gallery
    from retinaface_tf.evaluation.results import provenance, widerface_json
    from retinaface_tf.evaluation.runner import find_pictures
    from retinaface_tf.evaluation.widerface import (
        SUBSETS,
        evaluate_widerface,
        read_box_list,
        read_ground_truth,
    )

    _need_one(pred, images)
    truth = read_ground_truth(gt)
    whole = len(truth.images)
    if boxes is not None:
        truth = truth.with_boxes(read_box_list(boxes, truth.images))
    pictures = find_pictures(images, truth.images) if images is not None else {}
    if pred is not None:
        found, settings = read_detections(pred, truth.images), {"detections": str(pred)}
        there = set(found)
    else:
        _need_all(len(pictures), whole, images, partial)
        there = set(pictures)
        found, settings = search(
            _detector_options(locals()), {k: pictures[k] for k in truth.images if k in there}, save
        )
    if partial:
        truth = truth.restricted_to(there)
    if submission is not None:
        write_text_folder(submission, found)
    result = evaluate_widerface(truth, found)
    results = widerface_json(result, _name(name, pred, settings), provenance(settings))
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


@app.command("fddb")
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
    from retinaface_tf.evaluation.detections import NOTHING, read_detections
    from retinaface_tf.evaluation.fddb import evaluate_fddb, read_ellipses, read_image_list
    from retinaface_tf.evaluation.results import FALSE_POSITIVES, fddb_json, provenance
    from retinaface_tf.evaluation.runner import find_pictures

    _need_one(pred, images)
    ellipses = read_ellipses(gt)
    chosen = list(ellipses) if image_list is None else read_image_list(image_list, ellipses)
    if pred is not None:
        found, settings = read_detections(pred, ellipses), {"detections": str(pred)}
        there = set(found)
    else:
        pictures = {k: v for k, v in find_pictures(images, ellipses).items() if k in set(chosen)}
        _need_all(len(pictures), len(chosen), images, partial)
        there = set(pictures)
        found, settings = search(_detector_options(locals()), pictures, save)
    if partial:
        chosen = [key for key in chosen if key in there]
    found = {key: found[key] for key in chosen if key in found}
    curve = evaluate_fddb(ellipses, found, chosen)
    parts = {key: evaluate_fddb(ellipses, {key: found.get(key, NOTHING)}, [key]) for key in chosen}
    results = fddb_json(curve, parts, _name(name, pred, settings), provenance(settings))
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


@app.command("landmarks")
def landmarks(
    gt: Annotated[
        Path,
        typer.Option(
            help="Annotated points: a list of crops (.txt), dlib's .xml, .jsonl, or a folder of .mat "
            "or .pts files beside their pictures."
        ),
    ],
    pred: Pred = None,
    preset: Preset = DEFAULT_PRESET,
    model: Model = None,
    runtime: Runtime = None,
    threshold: Threshold = 0.5,
    iou: Iou = 0.4,
    size: Size = None,
    scales: Scales = None,
    flip: Flip = False,
    vote: Vote = False,
    rotations: Rotations = False,
    tiles: Tiles = None,
    batch_size: BatchSize = 8,
    save: Save = None,
    name: Name = None,
    json: Json = None,
    report: Report = None,
    others: With = None,
) -> None:
    """Error of the five points by sqrt(W*H) of the face, failure rate, cumulative error curve."""
    import numpy as np

    from retinaface_tf.evaluation.detections import NOTHING, read_detections
    from retinaface_tf.evaluation.landmark_files import read_landmark_truth
    from retinaface_tf.evaluation.landmarks import (
        box_size,
        landmark_errors,
        match_landmarks,
        mirrored_share,
    )
    from retinaface_tf.evaluation.results import landmarks_json, provenance

    truth = read_landmark_truth(gt)
    root = gt if gt.is_dir() else gt.parent
    keys = [entry.image.relative_to(root).with_suffix("").as_posix() for entry in truth]
    if pred is not None:
        found, settings = read_detections(pred, keys), {"detections": str(pred)}
    else:
        pictures = {key: entry.image for key, entry in zip(keys, truth)}
        found, settings = search(_detector_options(locals()), pictures, save)
    predicted = []
    for key, entry in zip(keys, truth):
        answer = found.get(key, NOTHING)
        points = np.zeros((0, 5, 2)) if answer.landmarks is None else answer.landmarks
        if len(points) != len(answer.boxes):
            raise ConfigError(f"{pred} has boxes without landmarks for {key}.")
        predicted.append(match_landmarks(entry.boxes, answer.boxes, points))
    points = np.concatenate([entry.points for entry in truth])
    sizes = box_size(np.concatenate([entry.boxes for entry in truth]))
    errors = landmark_errors(np.concatenate(predicted), points, sizes)
    units = [f"{key}#{i}" for key, entry in zip(keys, truth) for i in range(len(entry.boxes))]
    mirrored = mirrored_share(points)
    settings = {"ground_truth": str(gt), **settings}
    results = landmarks_json(
        errors, units, mirrored, _name(name, pred, settings), provenance(settings)
    )
    show(
        f"Landmarks, {errors.num_faces} faces, {errors.num_found} found",
        ["", "%"],
        [
            ["NME by sqrt(W*H), of the faces found", percent(results["nme"])],
            ["failure rate (above 10 %, or not found)", percent(results["failure_rate"])],
            ["area under the CED up to 10 %", percent(results["auc_10"])],
            *(
                [f"NME {p.replace('_', ' ')}", percent(v)]
                for p, v in results["nme_by_point"].items()
            ),
        ],
    )
    if mirrored > 0.5:
        print(
            f"The truth runs right to left on {100 * mirrored:.0f} % of the faces: it seems to name "
            "the person's left first, not the image's.",
            file=sys.stderr,
        )
    leave(results, json, report, others)


@app.command("compare")
def compare_results(
    a: Annotated[Path, typer.Argument(help="Results of `evaluate ... --json`.")],
    b: Annotated[Path, typer.Argument(help="Others of the same kind on the same images.")],
    rounds: Annotated[int, typer.Option(help="Of resampling.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the resampling.")] = 0,
) -> None:
    """Difference of two results, B less A, with 95 % intervals by paired bootstrap over the images."""
    from retinaface_tf.evaluation.compare import compare
    from retinaface_tf.evaluation.results import read_json

    first, second = read_json(a), read_json(b)
    rows = compare(first, second, rounds, seed)
    show(
        f"A = {first['name']}, B = {second['name']}; %, 95 % interval of {rounds} rounds",
        ["", "A", "B", "B - A", "from", "to", ""],
        [
            [
                row.figure,
                percent(row.a),
                percent(row.b),
                f"{100 * row.difference:+.2f}",
                f"{100 * row.low:+.2f}",
                f"{100 * row.high:+.2f}",
                "differs" if row.certain else "",
            ]
            for row in rows
        ],
    )


@app.command("report")
def report_results(
    results: Annotated[list[Path], typer.Argument(help="Results of `evaluate ... --json`.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
) -> None:
    """One report of several results of the same kind, without crops."""
    from retinaface_tf.evaluation.report import write_report
    from retinaface_tf.evaluation.results import read_json

    print(f"wrote {write_report(out, [read_json(path) for path in results])}", file=sys.stderr)


def _detector_options(values: dict) -> DetectorOptions:
    return DetectorOptions(**{name: values[name] for name in DetectorOptions.__dataclass_fields__})


def _need_one(pred: Path | None, images: Path | None) -> None:
    if pred is None and images is None:
        raise ConfigError("Give detections with --pred, or pictures to search with --images.")


def _need_all(there: int, whole: int, folder: Path, partial: bool) -> None:
    if there < whole and not partial:
        raise ConfigError(
            f"{folder} holds {there} of {whole} images; add --partial to judge those alone."
        )


def _name(name: str | None, pred: Path | None, settings: dict) -> str:
    if name is not None:
        return name
    if pred is not None:
        return pred.stem
    parts = [Path(settings["weights"]).name, ",".join(map(str, settings["scales"]))]
    parts += [option for option in ("flip", "vote", "rotations") if settings[option]]
    return " ".join(parts)
