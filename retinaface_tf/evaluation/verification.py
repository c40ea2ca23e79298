"""Face verification on top of detection: does a pair of faces show one person?

Source: the LFW protocol (Huang et al. 2007: accuracy over ten folds, the threshold chosen on the
other nine) and IJB-C's (Maze et al. 2018: true accept rate at fixed false accept rates between
templates). Scores are cosine similarities of embeddings, higher is more alike.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.errors import DataError
from retinaface_tf.util.text_lines import MALFORMED, read_text

FAR_LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class VerificationResult:
    """Scores of pairs and what follows from them.

    Attributes:
        scores: float64 [P], higher is more alike.
        same: bool [P].
        folds: int64 [P] fold of each pair.
        fold_accuracies: float64 [K] of each fold at the threshold best on the others.
        right: bool [P], whether that threshold judged the pair rightly.
    """

    scores: np.ndarray
    same: np.ndarray
    folds: np.ndarray
    fold_accuracies: np.ndarray
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_accuracies))

    @property
    def accuracy_deviation(self) -> float:
        """Standard deviation over the folds."""
        return float(np.std(self.fold_accuracies))

    def roc(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(false accept rate, true accept rate, threshold), each [T], from the strictest on."""
        order = np.argsort(-self.scores, kind="stable")
        scores, same = self.scores[order], self.same[order]
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        accepted, right = last + 1, np.cumsum(same)[last]
        far = (accepted - right) / max(np.sum(~self.same), 1)
        return far, right / max(np.sum(self.same), 1), scores[last]

    def true_accept_rate(self, false_accept_rate: float) -> float:
        """TAR at the loosest threshold whose FAR does not exceed the given one.

        NaN when there are fewer than 1 / FAR pairs of different people: such a rate cannot be seen.
        """
        if np.sum(~self.same) * false_accept_rate < 1 - 1e-9:
            return float("nan")
        far, tar, _ = self.roc()
        inside = np.flatnonzero(far <= false_accept_rate)
        return float(tar[inside[-1]]) if len(inside) else 0.0


def verify(
    scores: np.ndarray, same: np.ndarray, folds: np.ndarray | int = 10
) -> VerificationResult:
    """Accuracy over folds of scored pairs.

    Args:
        scores: [P], higher is more alike.
        same: bool [P].
        folds: [P] fold of each pair, or a number: the same and the different pairs are each cut into
            that many consecutive parts, as LFW's list is.

    Raises:
        ValueError: lengths differ.
        DataError: a score is not finite, or there is only one fold.
    """
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if isinstance(folds, int | np.integer):
        count, folds = int(folds), np.zeros(len(scores), np.int64)
        for kind in (same, ~same):
            folds[kind] = np.arange(kind.sum()) * count // max(kind.sum(), 1)
    folds = np.asarray(folds, np.int64)
    if not len(scores) == len(same) == len(folds):
        raise ValueError(f"{len(scores)} scores, {len(same)} labels, {len(folds)} folds.")
    if not np.isfinite(scores).all():
        raise DataError(f"The score of pair {np.argmin(np.isfinite(scores))} is not finite.")
    names = np.unique(folds)
    if len(names) < 2:
        raise DataError("Accuracy over folds needs pairs in at least two folds.")
    right = np.zeros(len(scores), bool)
    for fold in names:
        inside = folds == fold
        threshold = best_threshold(scores[~inside], same[~inside])
        right[inside] = (scores[inside] >= threshold) == same[inside]
    accuracies = np.array([np.mean(right[folds == fold]) for fold in names])
    return VerificationResult(scores, same, folds, accuracies, right)


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold (pairs at or above it are accepted) with most right answers.

    Of equally good ones the middle of the widest gap's first: halfway between two seen scores.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Right answers when the first k pairs are accepted, for every k that splits no equal scores.
    right = np.concatenate([[0], np.cumsum(same[order])]) + (
        np.sum(~same) - np.concatenate([[0], np.cumsum(~same[order])])
    )
    cuts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1], [True]]))
    best = cuts[np.argmax(right[cuts])]
    if best == 0:
        return float(ranked[0]) + 1.0
    if best == len(ranked):
        return float(ranked[-1])
    return float(ranked[best - 1] + ranked[best]) / 2


def cosine_similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[P, D], [P, D] -> float64 [P]; 0 where a vector is zero."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.where(norms > 0, norms, 1)


def pool_templates(
    embeddings: np.ndarray, templates: np.ndarray, media: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """IJB-C's templates: the faces of one medium (a video) are averaged, then the media summed.

    Args:
        embeddings: [N, D].
        templates, media: int [N] ids of each face.

    Returns:
        template ids int [T], ascending; unit vectors float64 [T, D].
    """
    embeddings = np.asarray(embeddings, np.float64)
    keys, group = np.unique(np.stack([templates, media], axis=1), axis=0, return_inverse=True)
    group = group.ravel()
    sums = np.zeros((len(keys), embeddings.shape[1]))
    np.add.at(sums, group, embeddings)
    means = sums / np.bincount(group)[:, None]
    ids, template_of = np.unique(keys[:, 0], return_inverse=True)
    vectors = np.zeros((len(ids), embeddings.shape[1]))
    np.add.at(vectors, template_of, means)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return ids, vectors / np.where(norms > 0, norms, 1)


@dataclass(frozen=True)
class Pairs:
    """Which images to compare.

    Attributes:
        first, second: relative paths, P each.
        same: bool [P].
        folds: int64 [P], or None where the list has none.
    """

    first: Sequence[str]
    second: Sequence[str]
    same: np.ndarray
    folds: np.ndarray | None


def read_pairs(file: Path | str) -> Pairs:
    """Read LFW's `pairs.txt`, or a CSV of `first,second,same[,fold]` with or without a header.

    LFW's lines are `NAME i j` for NAME/NAME_000i.jpg and _000j, or `NAME i OTHER j`; its first line
    gives folds and pairs of each kind a fold.

    Raises:
        DataError: with file and line.
    """
    file = Path(file)
    lines = read_text(file).splitlines()
    reader = _read_csv_pairs if any("," in line for line in lines[:2]) else _read_lfw_pairs
    try:
        rows, folds = reader(file, lines)
    except (csv.Error, *MALFORMED) as error:
        raise DataError(f"{file} is not a list of pairs: {error}.") from None
    if not rows:
        raise DataError(f"{file} names no pair.")
    first, second, same = zip(*rows)
    return Pairs(first, second, np.array(same, bool), folds)


def _read_lfw_pairs(file: Path, lines: list[str]):
    header = lines[0].split() if lines else []
    if not header or not all(word.isdigit() for word in header):
        raise DataError(
            f"{file} line 1: LFW's list begins with the number of folds and of pairs in each."
        )
    folds, size = (int(header[0]), int(header[1])) if len(header) > 1 else (0, int(header[0]))
    rows = []
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if not words:
            continue
        try:
            if len(words) == 3:
                name, i, j = words
                rows.append((_lfw_path(name, i), _lfw_path(name, j), True))
            else:
                name, i, other, j = words
                rows.append((_lfw_path(name, i), _lfw_path(other, j), False))
        except ValueError:
            raise DataError(
                f"{file} line {number}: {line!r} is neither `NAME i j` nor `NAME i OTHER j`."
            ) from None
    if not folds:
        return rows, None
    return rows, np.minimum(np.arange(len(rows)) // (2 * size), folds - 1)


def _lfw_path(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


def _read_csv_pairs(file: Path, lines: list[str]):
    rows, folds = [], []
    for number, row in enumerate(csv.reader(lines), 1):
        if not row or (number == 1 and row[2:3] and row[2].strip() not in ("0", "1")):
            continue
        if len(row) not in (3, 4) or row[2].strip() not in ("0", "1"):
            raise DataError(
                f"{file} line {number}: expected `first,second,0 or 1[,fold]`, got {','.join(row)!r}."
            )
        rows.append((row[0].strip(), row[1].strip(), row[2].strip() == "1"))
        if len(row) == 4:
            try:
                folds.append(int(row[3]))
            except ValueError:
                raise DataError(
                    f"{file} line {number}: the fold {row[3]!r} is not a whole number."
                ) from None
    return rows, np.array(folds) if rows and len(folds) == len(rows) else None
