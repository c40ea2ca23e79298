"""Labels by a teacher: what several detectors at several scales agree on (Xie et al. 2020).

Every member searches all views of every photo (`Augmentation`) and joins what it found by box voting.
Then the members are compared: a face's score is the mean of their scores, 0 for one that does not
find it. Faces of a high mean become labels, those of a middling one, where members disagree, are
ignored in training, the others are dropped.

A folder of labels:
    members/NAME/FOLDER.jsonl   what a member found; kept, so that members can be added
    labels.jsonl                the result, see `faces.json_lines`
    excluded.tsv                photos left out: the photo they repeat, or why they cannot be read
    config.json                 settings
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retinaface_tf.errors import ConfigError, DataError
from retinaface_tf.faces.json_lines import FaceLine, face_line, read_face_lines
from retinaface_tf.geometry.box_voting import overlapping_groups
from retinaface_tf.util.files import require_folder, write_whole
from retinaface_tf.util.text_lines import MALFORMED, read_text

if TYPE_CHECKING:
    from retinaface_tf.evaluation.detections import ImageDetections
    from retinaface_tf.inference.detector import Detector


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """When members agree.

    Attributes:
        accept: least mean score of a label.
        ignore: least mean score of a face that is ignored; below, there is no face.
        iou: least overlap of two members' boxes for one face.
        point_distance: largest mean distance of two members' five points, in sqrt(W * H) of the box;
            a face on which they differ more has no points.
    """

    accept: float = 0.7
    ignore: float = 0.3
    iou: float = 0.4
    point_distance: float = 0.1

    def __post_init__(self):
        if not 0 < self.ignore <= self.accept < 1:
            raise ConfigError(
                f"ignore={self.ignore} and accept={self.accept} must rise within 0..1."
            )


class PseudoLabels(NamedTuple):
    """Labels of one photo, best first.

    Attributes:
        boxes: float64 [N, 4].
        scores: float64 [N], the members' mean.
        landmarks: float64 [N, 5, 2], NaN where the members disagree.
        ignored: bool [N].
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray
    ignored: np.ndarray


def agree(
    predictions: Sequence[ImageDetections | FaceLine], config: AgreementConfig
) -> PseudoLabels:
    """Joins what the members found in one photo.

    The best detection left makes a group with all that overlap it; a member's vote in it is its
    best one there. Box and points are the means of the votes with their scores as weights.

    Args:
        predictions: the detections of each member, perhaps none; the best first.
    """
    member = np.concatenate([np.full(len(p.scores), m) for m, p in enumerate(predictions)])
    boxes = np.concatenate([p.boxes for p in predictions])
    scores = np.concatenate([p.scores for p in predictions])
    points = np.concatenate([p.landmarks for p in predictions])
    rows = []
    for group in overlapping_groups(boxes, scores, config.iou):
        # In falling order of score, so the first of each member is its best.
        votes = group[np.unique(member[group], return_index=True)[1]]
        mean = scores[votes].sum() / len(predictions)
        if mean >= config.ignore:
            weights = scores[votes]
            box = np.average(boxes[votes], axis=0, weights=weights)
            five = np.average(points[votes], axis=0, weights=weights)
            size = np.sqrt(np.prod(box[2:] - box[:2]))
            apart = np.linalg.norm(points[votes] - five, axis=-1).mean(axis=-1).max()
            # Of two votes, twice the distance from their mean.
            if not 2 * apart <= config.point_distance * size:
                five = np.full((5, 2), np.nan)
            rows.append((box, mean, five, mean < config.accept))
    rows.sort(key=lambda row: -row[1])
    if not rows:
        return PseudoLabels(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)), np.zeros(0, bool))
    return PseudoLabels(*(np.array(column) for column in zip(*rows)))


@dataclass(frozen=True)
class Member:
    """One detector of the teacher.

    Attributes:
        settings: what its detections depend on, as JSON; a folder begun with others is refused.
    """

    name: str
    detector: Detector
    settings: dict


@dataclass(frozen=True)
class LabelledFolder:
    """What `label_photos` did.

    Attributes:
        photos: labelled, those without a face too.
    """

    photos: int
    faces: int
    ignored: int
    with_points: int
    errors: int


def label_photos(
    photos: dict[str, Path],
    out: Path,
    members: Sequence[Member],
    config: AgreementConfig,
    *,
    batch_size: int = 4,
    excluded: dict[str, str] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda done: None,
    report: Callable[[str], None] = lambda line: None,
) -> LabelledFolder:
    """Labels photos folder by folder; a run that was stopped is resumed.

    After each folder `labels.jsonl` is written anew, whole, with all folders that are done.

    Args:
        photos: name relative to the folder of photos, with `/`, to file.
        excluded: names left out, and why.
        overwrite: replace files in the way that no earlier run wrote.
        advance: called with the number of (photo, member) pairs done.
        report: called with a sentence for each photo that cannot be read.

    Raises:
        ConfigError: the folder was begun with other settings of a member, has files in the way, or
            cannot be written.
        DataError: there is no photo or no member, or two photos differ in their ending only.
    """
    excluded = excluded or {}
    left = {name: path for name, path in photos.items() if name not in excluded}
    if not left or not members:
        raise DataError("There is no photo to label, or no detector to label with.")
    out = require_folder(out)
    if not overwrite:
        _refuse_others(out)
    note = {"agreement": dataclasses.asdict(config), "members": [m.settings for m in members]}
    write_whole(out / "config.json", json.dumps(note, indent=1) + "\n", error=DataError)
    lines, total, bad = [], np.zeros(3, int), {}
    for folder, names in _by_folder(left).items():
        found = []
        for member in members:
            file = out / "members" / member.name / f"{folder}.jsonl"
            found.append(_search(member, names, left, file, batch_size, advance, report))
        for name in names:
            predictions = [of_member[_key(name)] for of_member in found]
            failure = next((p.error for p in predictions if p.error is not None), None)
            if failure is not None:
                bad[name] = failure
                continue
            labels = agree(predictions, config)
            lines.append(face_line(name, predictions[0].size, *labels))
            learnt = ~labels.ignored
            pointed = np.isfinite(labels.landmarks).all(axis=(1, 2)) & learnt
            total += (learnt.sum(), labels.ignored.sum(), pointed.sum())
        write_whole(out / "labels.jsonl", "\n".join(lines) + "\n", error=DataError)
    rows = [f"{name}\t{why}\n" for name, why in {**excluded, **bad}.items()]
    write_whole(out / "excluded.tsv", "".join(rows), error=DataError)
    return LabelledFolder(len(lines), *total.tolist(), len(bad))


def _refuse_others(out: Path) -> None:
    """Raises ConfigError where files of a run's names are there that no run wrote."""
    try:
        if {"agreement", "members"} <= json.loads(read_text(out / "config.json")).keys():
            return
    except (DataError, *MALFORMED):
        pass
    for name in ("config.json", "labels.jsonl", "excluded.tsv"):
        if (out / name).exists():
            raise ConfigError(
                f"{out / name} is there already and is not of `data pseudo-label`: choose another "
                "folder, or --overwrite."
            )


def _by_folder(photos: dict[str, Path]) -> dict[str, list[str]]:
    """Names by first folder; names that differ in their ending only are refused."""
    folders: dict[str, list[str]] = {}
    taken: dict[str, str] = {}
    for name in photos:
        other = taken.setdefault(_key(name), name)
        if other != name:
            raise DataError(f"{name} and {other} differ in their ending only; rename one.")
        first, slash, _ = name.partition("/")
        folders.setdefault(first if slash else "_", []).append(name)
    return folders


def _key(name: str) -> str:
    return Path(name).with_suffix("").as_posix()


def _search(member, names, photos, file, batch_size, advance, report) -> dict[str, FaceLine]:
    from retinaface_tf.evaluation.runner import run_detector

    run_detector(
        member.detector,
        {_key(name): photos[name] for name in names},
        settings=member.settings,
        batch_size=batch_size,
        save=file,
        advance=advance,
        report=report,
    )
    return {line.image: line for line in read_face_lines(file)}
