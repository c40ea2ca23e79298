"""WIDER FACE's evaluation: easy, medium and hard average precision as the official code gives it.

Source: Yang et al., "WIDER FACE: A Face Detection Benchmark" (CVPR 2016) and the evaluation that
comes with its ground truth. Its rules, kept here:

- scores are brought to 0..1 by the least and the greatest score of the whole result set;
- boxes are whole pixels with both ends: x2 = x + w, and a side is x2 - x1 + 1 long;
- each detection, best first, belongs to the face it overlaps most among all faces of its image,
  and finds it at IoU >= 0.5; a later detection of the same face is a false positive;
- a detection on a face outside the subset's list is ignored;
- images without any annotated face are left out, detections and all;
- precision and recall are taken at the 1,000 thresholds 0.999, 0.998 .. 0;
- average precision is the area under the monotone envelope.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.data.readers.annotation import corners_from_xywh
from retinaface_tf.data.readers.face_lists import read_face_list
from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.average_precision import (
    FALSE_POSITIVE,
    IGNORED,
    TRUE_POSITIVE,
    Curve,
    Matches,
    match_detections,
    outcomes,
)
from retinaface_tf.evaluation.detections import NOTHING, ImageDetections, image_key
from retinaface_tf.evaluation.mat_files import read_mat
from retinaface_tf.util.files import is_file
from retinaface_tf.util.text_lines import MALFORMED

SUBSETS = ("easy", "medium", "hard")
NUM_THRESHOLDS = 1000
# Face heights in pixels that bound the rows of the size table.
HEIGHTS = (0, 16, 32, 64, 128, 256, float("inf"))
ATTRIBUTES = {
    "blur": ("clear", "normal", "heavy"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
}


@dataclass(frozen=True)
class WiderFaceTruth:
    """The annotated faces of a set of images.

    Attributes:
        images: keys `EVENT/IMAGE` without extension, grouped by event.
        boxes: float64 [M, 4] x1, y1, x2, y2 (x2 = x + w) of each image, all annotated faces.
        subsets: name -> bool [M] of each image: the faces the subset asks for.
        attributes: name -> int64 [M] of each image, values as in `ATTRIBUTES`.
    """

    images: tuple[str, ...]
    boxes: tuple[np.ndarray, ...]
    subsets: dict[str, tuple[np.ndarray, ...]]
    attributes: dict[str, tuple[np.ndarray, ...]]

    def restricted_to(self, keys: Iterable[str]) -> WiderFaceTruth:
        """The same for only those images, in this object's order."""
        keys = set(keys)
        chosen = [i for i, key in enumerate(self.images) if key in keys]

        def pick(values):
            return tuple(values[i] for i in chosen)

        return WiderFaceTruth(
            pick(self.images),
            pick(self.boxes),
            {name: pick(masks) for name, masks in self.subsets.items()},
            {name: pick(values) for name, values in self.attributes.items()},
        )

    def with_boxes(self, boxes: Mapping[str, np.ndarray]) -> WiderFaceTruth:
        """The same faces at other places, as for images that were resized.

        Args:
            boxes: image key -> float [M, 4] x1, y1, x2, y2, the image's faces in the same order.
                Images not in it are left out.

        Raises:
            DataError: an image is unknown or has another number of faces.
        """
        for key in boxes:
            if key not in self.images:
                raise DataError(f"The list of boxes names {key!r}, unknown to the truth.")
        truth = self.restricted_to(boxes)
        for key, old in zip(truth.images, truth.boxes):
            if len(boxes[key]) != len(old):
                raise DataError(
                    f"The list of boxes has {len(boxes[key])} faces for {key!r}, the truth {len(old)}."
                )
        return dataclasses.replace(
            truth, boxes=tuple(np.asarray(boxes[key], np.float64) for key in truth.images)
        )


def read_ground_truth(folder: Path | str) -> WiderFaceTruth:
    """Read the official `wider_{face,easy,medium,hard}_val.mat`.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    folder = Path(folder)
    face = _load_mat(folder / "wider_face_val.mat")
    try:
        events = [str(event[0]) for event in face["event_list"].ravel()]
        images = [
            f"{event}/{name[0]}"
            for event, names in zip(events, face["file_list"].ravel())
            for name in names.ravel().tolist()
        ]
        boxes = tuple(corners_from_xywh(b) for b in _cells(face, "face_bbx_list"))
        attributes = {
            name: tuple(np.asarray(v, np.int64).ravel() for v in _cells(face, f"{name}_label_list"))
            for name in ATTRIBUTES
        }
        subsets = {}
        for subset in SUBSETS:
            table = _load_mat(folder / f"wider_{subset}_val.mat")
            masks = []
            for listed, image_boxes in zip(_cells(table, "gt_list"), boxes):
                mask = np.zeros(len(image_boxes), bool)
                mask[np.asarray(listed, np.int64).ravel() - 1] = True  # MATLAB counts from 1.
                masks.append(mask)
            subsets[subset] = tuple(masks)
    except MALFORMED as error:
        raise DataError(
            f"The .mat files in {folder} do not have the layout of WIDER FACE's ground truth: {error}."
        ) from None
    return WiderFaceTruth(tuple(images), boxes, subsets, attributes)


def read_box_list(file: Path | str, known: Iterable[str]) -> dict[str, np.ndarray]:
    """The boxes of a `wider_face_*_bbx_gt.txt`: image key -> float64 [M, 4] x1, y1, x2, y2.

    Raises:
        DataError: an image is not one of `known`, or a line is not what should stand there.
    """
    known = set(known)
    boxes = {}
    for image in read_face_list(file, 4):
        key = image_key(image.name, known)
        if key is None:
            raise DataError(f"{file} line {image.lines[0]}: unknown image {image.name!r}.")
        boxes[key] = corners_from_xywh(image.columns(0, 4))
    return boxes


@dataclass(frozen=True)
class WiderFaceResult:
    """A detector's answers matched to the truth: every figure is computed from here.

    Attributes:
        truth: the faces.
        matches: with scores normalised to 0..1.
        heights: float64 [D] of the detections' boxes in pixels.
        missing: images of the truth without an entry in the results.
    """

    truth: WiderFaceTruth
    matches: Matches
    heights: np.ndarray
    missing: int

    @functools.cached_property
    def bins(self) -> np.ndarray:
        """int64 [D] the first of the falling thresholds at which a detection counts."""
        rising = np.sort(_thresholds())
        return NUM_THRESHOLDS - np.searchsorted(rising, self.matches.scores, side="right")

    def wanted(self, subset: str) -> np.ndarray:
        """bool [F] over all faces: those the subset asks for."""
        return np.concatenate([np.zeros(0, bool), *self.truth.subsets[subset]])

    def curve(
        self,
        wanted: np.ndarray,
        iou_threshold: float = 0.5,
        counted: np.ndarray | None = None,
    ) -> Curve:
        """Precision and recall at the 1,000 thresholds.

        Args:
            wanted: bool [F] faces to find; detections on others are ignored.
            iou_threshold: least IoU of a true positive.
            counted: bool [D]: false positives outside it are ignored too; None counts all.
        """
        result = outcomes(self.matches, ~wanted, iou_threshold)
        if counted is not None:
            result[~counted & (result == FALSE_POSITIVE)] = IGNORED
        true, false = (
            np.cumsum(np.bincount(self.bins[result == kind], minlength=NUM_THRESHOLDS + 1)[:-1])
            for kind in (TRUE_POSITIVE, FALSE_POSITIVE)
        )
        return Curve(_thresholds(), true, true + false, int(wanted.sum()))

    def average_precision(self, subset: str, iou_threshold: float = 0.5) -> float:
        """Of a subset, 0..1; NaN when it asks for no face."""
        return self.curve(self.wanted(subset), iou_threshold).average_precision

    def mean_average_precision(self, subset: str) -> float:
        """Over IoU 0.5:0.05:0.95, as the first RetinaFace paper gives it for hard."""
        thresholds = [round(0.5 + 0.05 * step, 2) for step in range(10)]
        return float(np.mean([self.average_precision(subset, t) for t in thresholds]))

    def by_height(self, subset: str = "hard") -> dict[str, tuple[int, float]]:
        """Height range in pixels -> (faces, AP).

        As in COCO's size ranges, a false positive counts in the range of its own height.
        """
        boxes = np.concatenate([np.zeros((0, 4)), *self.truth.boxes])
        faces, wanted = boxes[:, 3] - boxes[:, 1], self.wanted(subset)
        table = {}
        for low, high in zip(HEIGHTS, HEIGHTS[1:]):
            chosen = wanted & (faces >= low) & (faces < high)
            near = (self.heights >= low) & (self.heights < high)
            name = f"{low}-{high}" if np.isfinite(high) else f"{low}+"
            curve = self.curve(chosen, counted=near)
            table[name] = (curve.num_faces, curve.average_precision)
        return table

    def by_attribute(self, subset: str = "hard") -> dict[str, dict[str, tuple[int, float]]]:
        """Attribute -> value -> (faces, AP); false positives count in every row."""
        wanted = self.wanted(subset)
        table: dict[str, dict[str, tuple[int, float]]] = {}
        for name, values in ATTRIBUTES.items():
            labels = np.concatenate([np.zeros(0, np.int64), *self.truth.attributes[name]])
            curves = {v: self.curve(wanted & (labels == i)) for i, v in enumerate(values)}
            table[name] = {v: (c.num_faces, c.average_precision) for v, c in curves.items()}
        return table

    def by_event(self, subset: str = "hard") -> dict[str, tuple[int, float]]:
        """Event -> (faces, AP) over the event's images alone."""
        wanted = self.wanted(subset)
        event = np.array([key.split("/")[0] for key in self.truth.images], dtype=str)
        of_detection = event[self.matches.image]
        of_face = np.repeat(event, self.matches.faces_per_image)
        table = {}
        for name in sorted(set(event.tolist()), key=_event_number):
            curve = self.curve(wanted & (of_face == name), counted=of_detection == name)
            table[name] = (curve.num_faces, curve.average_precision)
        return table


def evaluate_widerface(
    truth: WiderFaceTruth, detections: Mapping[str, ImageDetections]
) -> WiderFaceResult:
    """Match a detector's answers to the truth.

    Args:
        detections: image key -> detections (boxes x1, y1, x2, y2; x2 = x + w); an image that is
            missing has none, so its faces are missed.

    Raises:
        DataError: detections for an image the truth does not have.
    """
    unknown = set(detections) - set(truth.images)
    if unknown:
        raise DataError(
            f"Detections for {min(unknown)!r}, which is not an image of the ground truth."
        )
    scores = np.concatenate([np.zeros(0), *(found.scores for found in detections.values())])
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 1.0)
    span = high - low
    per_image, heights = [], [np.zeros(0)]
    for key, faces in zip(truth.images, truth.boxes):
        boxes, scores = detections.get(key, NOTHING) if len(faces) else NOTHING
        # A set with one score for all has no order to lose: everything counts from the start.
        scores = (scores - low) / span if span > 0 else np.ones(len(scores))
        per_image.append((boxes, scores))
        heights.append((boxes[:, 3] - boxes[:, 1])[np.argsort(-scores, kind="stable")])
    return WiderFaceResult(
        truth=truth,
        matches=match_detections(per_image, truth.boxes, inclusive=True),
        heights=np.concatenate(heights),
        missing=sum(key not in detections for key in truth.images),
    )


@functools.cache
def _thresholds() -> np.ndarray:
    return 1 - np.arange(1, NUM_THRESHOLDS + 1) / NUM_THRESHOLDS


def _event_number(name: str) -> tuple[int, str]:
    number = name.split("--")[0]
    return (int(number) if number.isdigit() else 1 << 30, name)


def _cells(table: dict, name: str) -> list[np.ndarray]:
    return [cell for event in table[name].ravel() for cell in event.ravel()]


def _load_mat(file: Path) -> dict:
    if not is_file(file):
        raise DataError(
            f"{file} is missing; --gt takes the folder with WIDER FACE's four .mat files "
            "(wider_face_val, wider_easy_val, wider_medium_val, wider_hard_val)."
        )
    return read_mat(file)
