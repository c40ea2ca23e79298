"""Two results side by side: differences, and how sure they are by resampling the same images.

The bootstrap is paired: in each round images (faces, pairs of faces) are drawn with replacement, the
same for both runs, and every figure is computed anew. The interval holds the middle 95 % of the
differences.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retinaface_tf.errors import ConfigError
from retinaface_tf.evaluation.average_precision import IGNORED, TRUE_POSITIVE, area_under_envelope
from retinaface_tf.evaluation.landmarks import FAILURE_ERROR
from retinaface_tf.evaluation.results import FALSE_POSITIVES, unpack
from retinaface_tf.evaluation.widerface import NUM_THRESHOLDS, SUBSETS

# Rounds computed together: bounds the memory of the resampled curves.
CHUNK = 100


@dataclass(frozen=True)
class Difference:
    """One figure of two runs a and b; `difference` is b - a, `low` to `high` its 95 % interval."""

    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def compare(
    a: dict[str, Any], b: dict[str, Any], rounds: int = 1000, seed: int = 0
) -> list[Difference]:
    """Differences of two results of the same kind on the same images, as `results.read_json` gives.

    Raises:
        ConfigError: the kinds or the images differ.
    """
    if a["kind"] != b["kind"]:
        raise ConfigError(f"Cannot compare {a['kind']} with {b['kind']}: the kinds differ.")
    units = a["samples"]["units"]
    if units != b["samples"]["units"]:
        raise ConfigError(
            f"{a['name']!r} has {len(units)} {a['kind']} units and {b['name']!r} "
            f"{len(b['samples']['units'])} others: only results on the same images compare."
        )
    if rounds < 2:
        raise ConfigError(f"rounds={rounds} must be at least 2.")
    measure = {
        "widerface": _widerface,
        "fddb": _fddb,
        "landmarks": _landmarks,
        "verification": _verification,
    }[a["kind"]]
    of_a, of_b = measure(a), measure(b)
    once = np.ones((1, len(units)))
    whole_a, whole_b = of_a(once), of_b(once)
    names = [name for name in whole_a if name in whole_b]
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, rounds, CHUNK):
        weights = rng.multinomial(
            len(units), np.full(len(units), 1 / len(units)), min(CHUNK, rounds - start)
        )
        figures_a, figures_b = of_a(weights), of_b(weights)
        parts.append({name: figures_b[name] - figures_a[name] for name in names})
    rows = []
    for name in names:
        spread = np.concatenate([part[name] for part in parts])
        spread = spread[np.isfinite(spread)]
        low, high = np.percentile(spread, [2.5, 97.5]) if len(spread) else (np.nan, np.nan)
        first, second = float(whole_a[name][0]), float(whole_b[name][0])
        rows.append(Difference(name, first, second, second - first, float(low), float(high)))
    return rows


Measure = Callable[[np.ndarray], dict[str, np.ndarray]]


def _widerface(results: dict[str, Any]) -> Measure:
    """Figures for weights [R, I]: how often each image counts."""
    from scipy.sparse import csr_array

    samples = results["samples"]
    image, threshold_bin, *states = unpack(samples["detections"]).astype(np.int64)
    shape = (len(samples["units"]), NUM_THRESHOLDS)
    counts = {}
    for subset, state in zip(SUBSETS, states):
        counts[subset] = tuple(
            csr_array((np.ones(chosen.sum()), (image[chosen], threshold_bin[chosen])), shape)
            for chosen in (state == TRUE_POSITIVE, state != IGNORED)
        )
    faces = {subset: np.array(samples["faces"][subset]) for subset in SUBSETS}

    def figures(weights):
        result = {}
        for subset, (true, counted) in counts.items():
            true_sum = np.cumsum(weights @ true, axis=1)
            counted_sum = np.cumsum(weights @ counted, axis=1)
            total = (weights @ faces[subset])[:, None]
            recall = true_sum / np.where(total > 0, total, np.nan)
            precision = true_sum / np.maximum(counted_sum, 1)
            result[f"AP {subset}"] = area_under_envelope(recall, precision)
        return result

    return figures


def _fddb(results: dict[str, Any]) -> Measure:
    samples = results["samples"]
    image, score, discrete, continuous, false = unpack(samples["detections"])
    order = np.argsort(-score, kind="stable")
    image = image[order].astype(np.int64)
    columns = [column[order] for column in (discrete, continuous, false)]
    faces = np.array(samples["faces"])
    # A draw with fewer false positives than a limit has the rate of all its detections there.
    limits = [limit for limit in FALSE_POSITIVES if limit <= false.sum()]

    def figures(weights):
        total = np.maximum(weights @ faces, 1)[:, None]
        each = weights[:, image]
        discrete, continuous, false = (np.cumsum(each * column, axis=1) for column in columns)
        result = {}
        for limit in limits:
            # The last place at which false positives are still within the limit.
            last = np.sum(false <= limit, axis=1, keepdims=True) - 1
            for name, rates in (("discrete", discrete), ("continuous", continuous)):
                rate = np.take_along_axis(rates, np.maximum(last, 0), axis=1) / total
                result[f"{name} at {limit} FP"] = np.where(last >= 0, rate, 0)[:, 0]
        for name, rates in (("discrete", discrete), ("continuous", continuous)):
            result[f"{name}, all detections"] = rates[:, -1] / total[:, 0]
        return result

    return figures


def _landmarks(results: dict[str, Any]) -> Measure:
    errors = np.array([np.nan if e is None else e for e in results["samples"]["errors"]], float)
    found = np.isfinite(errors)
    filled = np.where(found, errors, 0)

    def figures(weights):
        number = weights.sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = (weights @ filled) / (weights @ found.astype(float))
        return {
            "NME": mean,
            "failure rate": weights @ (~(errors <= FAILURE_ERROR)).astype(float) / number,
            "found": weights @ found.astype(float) / number,
        }

    return figures


def _verification(results: dict[str, Any]) -> Measure:
    right = np.array(results["samples"]["right"], float)
    scores = np.array(results["samples"]["scores"], float)
    same = np.array(results["samples"]["same"], bool)
    order = np.argsort(-scores, kind="stable")

    def figures(weights):
        each = weights[:, order].astype(float)
        true = np.cumsum(each * same[order], axis=1)
        false = np.cumsum(each * ~same[order], axis=1)
        # The thresholds of the folds are kept: a round judges the same answers on other pairs.
        result = {"accuracy": weights @ right / weights.sum(axis=1)}
        for rate in (1e-1, 1e-2):
            last = np.sum(false <= rate * false[:, -1:], axis=1, keepdims=True) - 1
            tar = np.take_along_axis(true, np.maximum(last, 0), axis=1) / true[:, -1:]
            result[f"TAR at FAR {rate:g}"] = np.where(last >= 0, tar, 0)[:, 0]
        return result

    return figures
