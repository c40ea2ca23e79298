"""`retinaface-tf evaluate landmarks` and `verification`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.evaluation_run import (
    DetectorOptions,
    OutputOptions,
    Pred,
    Save,
    detections,
    percent,
    progress,
    show,
)
from retinaface_tf.cli.group import EmbedderOptions
from retinaface_tf.cli.options import grouped
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.files import is_folder


@grouped
def landmarks(
    gt: Annotated[
        Path,
        typer.Option(
            help="Annotated points: a list of crops (.txt), dlib's .xml, .jsonl, or a folder of .mat "
            "or .pts files beside their images."
        ),
    ],
    detector: DetectorOptions,
    output: OutputOptions,
    pred: Pred = None,
    save: Save = None,
) -> None:
    """Error of the five points by sqrt(W*H) of the face, failure rate, cumulative error curve."""
    import numpy as np

    from retinaface_tf.evaluation.detections import NOTHING
    from retinaface_tf.evaluation.landmark_files import read_landmark_truth
    from retinaface_tf.evaluation.landmarks import (
        box_size,
        landmark_errors,
        match_landmarks,
        mirrored_share,
    )
    from retinaface_tf.evaluation.results import landmarks_json, provenance

    truth = read_landmark_truth(gt)
    root = gt if is_folder(gt) else gt.parent
    keys = [entry.path.relative_to(root).with_suffix("").as_posix() for entry in truth]
    files = {key: entry.path for key, entry in zip(keys, truth)}
    output.require("landmarks", [gt, pred, *files.values()])
    found, settings = detections(detector, pred, keys, files, save)
    predicted = []
    for key, entry in zip(keys, truth):
        answer = found.get(key, NOTHING)
        points = np.zeros((0, 5, 2)) if answer.landmarks is None else answer.landmarks
        if len(points) != len(answer.boxes):
            raise ConfigError(f"{pred} has boxes without landmarks for {key}.")
        predicted.append(match_landmarks(entry.boxes, answer.boxes, points))
    points = np.concatenate([entry.landmarks for entry in truth])
    sizes = box_size(np.concatenate([entry.boxes for entry in truth]))
    errors = landmark_errors(np.concatenate(predicted), points, sizes)
    units = [f"{key}#{i}" for key, entry in zip(keys, truth) for i in range(len(entry.boxes))]
    mirrored = mirrored_share(points)
    settings = {"ground_truth": str(gt), **settings}
    results = landmarks_json(
        errors, units, mirrored, output.run_name(pred, settings), provenance(settings)
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
    output.write(results)


@grouped
def verification(
    pairs: Annotated[
        Path,
        typer.Option(help="LFW's pairs.txt, a CSV `first,second,0|1[,fold]`, or template pairs."),
    ],
    images: Annotated[Path, typer.Option(help="Folder the pairs' images are named in.")],
    embedder: Annotated[Path, typer.Option(help="Embedder: .onnx, .tflite or .keras.")],
    detector: DetectorOptions,
    output: OutputOptions,
    pixels: EmbedderOptions,
    templates: Annotated[
        Path | None,
        typer.Option(help="IJB-C's list `IMAGE TEMPLATE MEDIUM`; --pairs are then of templates."),
    ] = None,
    align: Annotated[
        str, typer.Option(help="points: align by the five points; box: cut out; none: as it is.")
    ] = "points",
) -> None:
    """Accuracy over ten folds and TAR at FAR of an embedder fed with the faces found."""
    import numpy as np

    from retinaface_tf.evaluation.faces_of_pairs import ALIGNMENTS, face_crops
    from retinaface_tf.evaluation.results import provenance, verification_json
    from retinaface_tf.evaluation.verification import verify
    from retinaface_tf.faces.embedder import open_embedder
    from retinaface_tf.util.files import sha256_of

    if align not in ALIGNMENTS:
        raise ConfigError(f"--align {align!r} is unknown; choose {', '.join(ALIGNMENTS)}.")
    names, score = _pair_scorer(pairs, templates)
    paths = [images / name for name in names]
    output.require("verification", [pairs, templates, embedder, *paths])
    network = open_embedder(embedder, pixels.input)
    searcher, settings = (None, {}) if align == "none" else detector.open()
    crops, found = [], 0
    with progress("images", len(paths)) as (advance, _):
        for crop, seen in face_crops(searcher, paths, align, network.size[0], detector.batch_size):
            crops.append(crop)
            found += seen
            advance(1)
    scores, same, folds, units = score(network(np.stack(crops), flip=pixels.mirror))
    result = verify(scores, same, 10 if folds is None else folds)
    settings = {
        "embedder": str(embedder),
        "embedder_sha256": sha256_of(embedder),
        "alignment": align,
        "images": len(paths),
        "faces_found": found,
        **settings,
    }
    results = verification_json(
        result, units, output.name or f"{embedder.stem} align={align}", provenance(settings)
    )
    if align != "none" and found < len(paths):
        print(
            f"No face was found in {len(paths) - found} of {len(paths)} images: "
            "their central square was taken.",
            file=sys.stderr,
        )
    show(
        f"Verification, {results['pairs']} pairs, {results['pairs_same']} of one person, %",
        ["accuracy", "±", *(f"TAR at {level}" for level in results["tar"])],
        [
            [
                percent(results["accuracy"]),
                percent(results["accuracy_deviation"]),
                *(percent(rate) for rate in results["tar"].values()),
            ]
        ],
    )
    output.write(results)


def _pair_scorer(pairs: Path, templates: Path | None):
    """Images to embed, and a function from their embeddings to (scores, same, folds, units)."""
    import numpy as np

    from retinaface_tf.evaluation.faces_of_pairs import read_template_pairs, read_templates
    from retinaface_tf.evaluation.verification import cosine_similarity, pool_templates, read_pairs

    if templates is None:
        listed = read_pairs(pairs)
        names = sorted({*listed.first, *listed.second})
        place = {name: i for i, name in enumerate(names)}

        def score(embeddings):
            first, second = ([place[p] for p in side] for side in (listed.first, listed.second))
            units = [f"{a} {b}" for a, b in zip(listed.first, listed.second)]
            scores = cosine_similarity(embeddings[first], embeddings[second])
            return scores, listed.same, listed.folds, units

        return names, score
    names, template_ids, media = read_templates(templates)
    first, second, same = read_template_pairs(pairs)
    unknown = np.setdiff1d(np.concatenate([first, second]), template_ids)
    if len(unknown):
        raise ConfigError(f"{pairs} names template {unknown[0]}, which {templates} does not hold.")

    def score(embeddings):
        ids, vectors = pool_templates(embeddings, template_ids, media)
        scores = cosine_similarity(
            vectors[np.searchsorted(ids, first)], vectors[np.searchsorted(ids, second)]
        )
        return scores, same, None, [f"{a} {b}" for a, b in zip(first, second)]

    return names, score
