"""Results as JSON: figures, curves, how they were made, and one record an image for resampling."""

import base64
import contextlib
import json
import shlex
import sys
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import retinaface_tf
from retinaface_tf.errors import DataError
from retinaface_tf.evaluation.average_precision import IGNORED, outcomes
from retinaface_tf.evaluation.fddb import FDDBCurve
from retinaface_tf.evaluation.landmarks import LandmarkErrors
from retinaface_tf.evaluation.verification import FAR_LEVELS, VerificationResult
from retinaface_tf.evaluation.widerface import NUM_THRESHOLDS, SUBSETS, WiderFaceResult
from retinaface_tf.faces.rows import LANDMARK_NAMES
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.text_lines import MALFORMED, read_text

FORMAT = 1
FALSE_POSITIVES = (0, 10, 100, 500, 1000, 2000)


def provenance(settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How figures came about: the exact command, the date, versions, and the settings given."""
    versions = {"python": sys.version.split()[0], "retinaface-tf": retinaface_tf.__version__}
    for package in ("numpy", "scipy", "keras", "tensorflow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    versions["opencv"] = cv2.__version__  # by whichever package it came
    name = Path(sys.argv[0]).name
    command = ["retinaface-tf" if name in ("-c", "__main__.py") else name, *sys.argv[1:]]
    return {
        "command": shlex.join(command),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        **(settings or {}),
    }


def widerface_json(result: WiderFaceResult, name: str, made: dict[str, Any]) -> dict[str, Any]:
    """Everything of a WIDER FACE evaluation that reports and comparisons need."""
    curves = {subset: result.curve(result.wanted(subset)) for subset in SUBSETS}
    return {
        **_head("widerface", name, made),
        "images": len(result.truth.images),
        "images_missing": result.missing,
        "faces": {subset: curve.num_faces for subset, curve in curves.items()},
        "ap": {subset: _number(curve.average_precision) for subset, curve in curves.items()},
        "map": {subset: _number(result.mean_average_precision(subset)) for subset in SUBSETS},
        "by_height": _table(result.by_height()),
        "by_attribute": {key: _table(table) for key, table in result.by_attribute().items()},
        "by_event": _table(result.by_event()),
        "curves": {
            subset: _rounded(recall=curve.recall, precision=curve.precision)
            for subset, curve in curves.items()
        },
        "samples": _widerface_samples(result),
    }


def _widerface_samples(result: WiderFaceResult) -> dict[str, Any]:
    """Per image: faces of each subset, and every detection's threshold bin and outcome."""
    states = np.stack([outcomes(result.matches, ~result.wanted(s)) for s in SUBSETS])
    used = (states != IGNORED).any(axis=0) & (result.bins < NUM_THRESHOLDS)
    table = np.concatenate(
        [result.matches.image[used][None], result.bins[used][None], states[:, used]]
    )
    faces = {s: [int(mask.sum()) for mask in result.truth.subsets[s]] for s in SUBSETS}
    return {"units": list(result.truth.images), "faces": faces, "detections": pack(table)}


def fddb_json(
    curve: FDDBCurve, parts: Mapping[str, FDDBCurve], name: str, made: dict[str, Any]
) -> dict[str, Any]:
    """FDDB's figures; `parts` are the curves of the single images."""
    rows = []
    for number, part in enumerate(parts.values()):
        discrete = np.diff(part.discrete * part.num_faces, prepend=0)
        continuous = np.diff(part.continuous * part.num_faces, prepend=0)
        false = np.diff(part.false_positives, prepend=0)
        rows += zip([number] * len(false), part.thresholds, discrete, continuous, false)
    step = max(1, len(curve.thresholds) // 2000)
    return {
        **_head("fddb", name, made),
        "images": curve.num_images,
        "faces": curve.num_faces,
        "discrete": {str(n): _number(curve.at(n)[0]) for n in FALSE_POSITIVES},
        "continuous": {str(n): _number(curve.at(n)[1]) for n in FALSE_POSITIVES},
        "end": {
            "false_positives": int(curve.false_positives.max(initial=0)),
            "discrete": _number(curve.at(np.inf)[0]),
            "continuous": _number(curve.at(np.inf)[1]),
        },
        "curves": _rounded(
            false_positives=curve.false_positives[::step],
            discrete=curve.discrete[::step],
            continuous=curve.continuous[::step],
        ),
        "samples": {
            "units": list(parts),
            "faces": [part.num_faces for part in parts.values()],
            "detections": pack(np.array(rows, np.float64).reshape(-1, 5).T),
        },
    }


def landmarks_json(
    errors: LandmarkErrors, units: list[str], mirrored: float, name: str, made: dict[str, Any]
) -> dict[str, Any]:
    """Landmark figures; `units` names each face, `mirrored` is the share of truth in mirrored order."""
    limits = np.linspace(0, 0.2, 201)
    return {
        **_head("landmarks", name, made),
        "faces": errors.num_faces,
        "found": errors.num_found,
        "truth_mirrored_share": _number(mirrored),
        "nme": _number(errors.mean),
        "failure_rate": _number(errors.failure_rate),
        "auc_10": _number(errors.area()),
        "nme_by_point": {
            point: _number(value) for point, value in zip(LANDMARK_NAMES, errors.point_means)
        },
        "curves": _rounded(error=limits, share=errors.cumulative(limits)),
        "samples": {"units": units, "errors": [_number(e) for e in errors.errors]},
    }


def verification_json(
    result: VerificationResult, units: list[str], name: str, made: dict[str, Any]
) -> dict[str, Any]:
    """Verification figures; `units` names each pair."""
    far, tar, _ = result.roc()
    return {
        **_head("verification", name, made),
        "pairs": len(result.scores),
        "pairs_same": int(result.same.sum()),
        "accuracy": _number(result.accuracy),
        "accuracy_deviation": _number(result.accuracy_deviation),
        "fold_accuracies": [_number(a) for a in result.fold_accuracies],
        "tar": {f"{level:g}": _number(result.true_accept_rate(level)) for level in FAR_LEVELS},
        "curves": _rounded(8, false_accept_rate=far, true_accept_rate=tar),
        "samples": {
            "units": units,
            "scores": [_number(s) for s in result.scores],
            "same": result.same.astype(int).tolist(),
            "right": result.right.astype(int).tolist(),
        },
    }


def write_json(path: Path | str, results: dict[str, Any]) -> None:
    """Write results, whole or not at all."""
    write_whole(path, json.dumps(results, indent=1, allow_nan=False) + "\n", error=DataError)


def read_json(path: Path | str) -> dict[str, Any]:
    """Results as `write_json` wrote them.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        results = json.loads(read_text(path))
        if results["format"] != FORMAT or "kind" not in results:
            raise KeyError("format")
    except MALFORMED as error:
        raise DataError(
            f"{path} holds no results of `retinaface-tf evaluate --json`: {error}."
        ) from None
    return results


@contextlib.contextmanager
def refuse_damaged(*paths: Path | str) -> Iterator[None]:
    """Turns what code raises that reads results with parts missing or changed into a sentence.

    Raises:
        DataError: the files `paths`, as `read_json` read them, are damaged.
    """
    try:
        yield
    except (*MALFORMED, zlib.error) as error:
        raise DataError(
            f"Results in {' or '.join(map(str, paths))} are incomplete or damaged ({error!r}); "
            "evaluate again."
        ) from error


def pack(table: np.ndarray) -> dict[str, Any]:
    """A number table [C, N] as text: zlib-compressed, base64, smallest type that holds it."""
    if np.array_equal(table, np.rint(table)):
        least, most = (table.min(), table.max()) if table.size else (0, 0)
        small = np.int16 if least >= -(2**15) and most < 2**15 else np.int32
        table = table.astype(small)
    little = table.astype(table.dtype.newbyteorder("<"))
    data = base64.b64encode(zlib.compress(little.tobytes(), 6)).decode()
    return {"type": little.dtype.str, "shape": list(table.shape), "zlib_base64": data}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """The inverse of `pack`."""
    data = zlib.decompress(base64.b64decode(packed["zlib_base64"]))
    return np.frombuffer(data, packed["type"]).reshape(packed["shape"])


def _head(kind: str, name: str, made: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "format": FORMAT, "name": name, "made": made}


def _rounded(digits: int = 6, **curves: np.ndarray) -> dict[str, list]:
    return {name: np.round(values, digits).tolist() for name, values in curves.items()}


def _number(value: float) -> float | None:
    """A JSON number, None for NaN; ten digits are more than any figure is worth."""
    return round(float(value), 10) if np.isfinite(value) else None


def _table(rows: Mapping[str, tuple[int, float]]) -> dict[str, dict[str, Any]]:
    return {key: {"faces": n, "ap": _number(ap)} for key, (n, ap) in rows.items()}
