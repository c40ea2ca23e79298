"""Figures from answers, all by the project's own evaluation, the same for everyone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks.peers.answers import Answers
from benchmarks.peers.images import ImageSet
from retinaface_tf.evaluation.average_precision import average_precision, best_overlap
from retinaface_tf.evaluation.landmarks import box_size, landmark_errors, match_landmarks


def precision(
    answers: Answers, images: ImageSet, indices: Iterable[int], iou: float = 0.5
) -> float | None:
    """AP over some of a set's images; None where the answers do not hold all of them."""
    indices = list(indices)
    if not set(indices) <= set(answers.found):
        return None
    return average_precision(
        [answers.found[i][:2] for i in indices],
        [(images.boxes[i], images.ignored[i]) for i in indices],
        iou,
    )


def fit_of_boxes(answers: Answers, images: ImageSet, threshold: float) -> dict:
    """How a detector's boxes lie on the annotated ones, of the faces it found (IoU >= 0.3) in
    the images that everybody searched.

    Returns:
        medians: iou; width and height over the annotated; above, how far the upper edge lies below
            the annotated one, over the annotated height; and faces, how many.
    """
    rows = []
    for index in sorted(set(answers.found) & set(images.subset.tolist())):
        boxes, scores, _ = answers.found[index]
        truth = images.boxes[index]
        boxes = boxes[scores >= threshold]
        if not len(boxes) or not len(truth):
            continue
        best, iou = best_overlap(truth, boxes)
        for face in np.flatnonzero(iou >= 0.3):
            sides, other = truth[face], boxes[best[face]]
            width, height = sides[2] - sides[0], sides[3] - sides[1]
            rows.append(
                (
                    iou[face],
                    (other[2] - other[0]) / width,
                    (other[3] - other[1]) / height,
                    (other[1] - sides[1]) / height,
                )
            )
    names = ("iou", "width", "height", "above")
    if not rows:
        return {**dict.fromkeys(names), "faces": 0}
    return {**dict(zip(names, np.median(rows, axis=0).tolist())), "faces": len(rows)}


def point_errors(answers: Answers, images: ImageSet, threshold: float) -> dict | None:
    """NME of the faces found and share of all faces that failed, as `evaluate landmarks` has it."""
    if set(answers.found) != set(range(len(images.photos))):
        return None
    predicted, truth, sizes = [], [], []
    for index, (boxes, scores, points) in answers.found.items():
        keep = scores >= threshold
        points = np.zeros((0, 5, 2)) if points is None else points[keep]
        predicted.append(match_landmarks(images.boxes[index], boxes[keep], points))
        truth.append(images.points[index])
        sizes.append(box_size(images.boxes[index]))
    errors = landmark_errors(*map(np.concatenate, (predicted, truth, sizes)))
    return {
        "faces": errors.num_faces,
        "found": errors.num_found,
        "nme": errors.mean if errors.num_found else None,
        "failures": errors.failure_rate,
    }


def accuracy(read, sets: list[ImageSet], policies, threshold: float) -> dict[str, dict]:
    """All figures of a peer.

    Args:
        read: (set, policy) -> its `Answers`.
        sets: of `image_sets`.
        policies: set -> how the peer searched it.
        threshold: score from which a detection is a face.

    Returns:
        set's key -> policy -> figures; "subset" ones are of the images that everybody searched.
    """
    figures: dict[str, dict] = {}
    for images in sets:
        for policy in policies(images):
            answers = read(images, policy)
            row: dict = {"errors": len(answers.errors), "images": len(answers.found)}
            if images.key == "animals":
                row["false"] = [
                    int((answers.found[i][1] >= threshold).sum()) for i in sorted(answers.found)
                ]
            elif images.points is None:
                everything = range(len(images.photos))
                row["ap"] = precision(answers, images, everything)
                row["subset"] = precision(answers, images, images.subset)
                row["ap30"] = precision(answers, images, images.subset, 0.3)
                if images.key == "fddb":
                    row["fit"] = fit_of_boxes(answers, images, threshold)
            else:
                row |= point_errors(answers, images, threshold) or {}
            figures.setdefault(images.key, {})[policy] = row
    return figures
