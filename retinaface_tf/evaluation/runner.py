"""A detector run over a data set, its detections kept as JSON lines so that a stopped run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retinaface_tf.errors import ConfigError, DataError, ImageError
from retinaface_tf.evaluation.detections import (
    NOTHING,
    ImageDetections,
    image_key,
    read_json_lines,
)
from retinaface_tf.faces.json_lines import EXACT, face_line
from retinaface_tf.util.files import require_folder, require_free, write_whole
from retinaface_tf.util.text_lines import read_text

if TYPE_CHECKING:
    from retinaface_tf.inference.detector import Detector


def find_images(folder: Path | str, known: Iterable[str]) -> dict[str, Path]:
    """Images under a folder that belong to a data set: image key -> file.

    Raises:
        ConfigError: the folder holds none of them, or the set has no image.
    """
    from retinaface_tf.images.listing import list_images

    known = set(known)
    if not known:
        raise ConfigError("The ground truth names no image.")
    found: dict[str, Path] = {}
    for path, name in list_images([folder]):
        key = image_key(name.as_posix(), known) or image_key(path.as_posix(), known)
        if key is not None:
            found.setdefault(key, path)
    if not found:
        raise ConfigError(
            f"No image under {folder} is one of the data set's, such as {min(known)}.jpg; give the "
            "folder above those names."
        )
    return found


def run_detector(
    detector: Detector,
    images: dict[str, Path],
    *,
    settings: dict[str, Any],
    batch_size: int = 8,
    save: Path | None = None,
    advance: Callable[[int], None] = lambda done: None,
    report: Callable[[str], None] = lambda message: None,
) -> dict[str, ImageDetections]:
    """Detections in every image.
    Args:
        settings: what the detections depend on; kept beside `save`, and compared when a run is resumed.
        images: image key -> file.
        save: JSON lines, one an image, written as they come. If the file exists, images in it
            are not searched again.
        advance: called with the number of images done.
        report: called with a sentence for each image that cannot be read; it has no detections.

    Raises:
        ConfigError: `save` was begun with other settings, is no file of detections, or cannot be
            written.
        DataError: `save` holds lines that are not ours.
    """
    found = {} if save is None else _resume(save, settings, images)
    advance(len(found))
    left = [key for key in images if key not in found]
    results = detector.stream([images[key] for key in left], batch_size=batch_size)
    with nullcontext() if save is None else save.open("a", encoding="utf-8") as stream:
        for key, result in zip(left, results):
            if isinstance(result, ImageError):
                report(str(result))
                found[key] = NOTHING
                line = json.dumps({"image": key, "error": str(result)})
            else:
                arrays = result.boxes, result.scores, result.landmarks
                found[key] = ImageDetections(*(values.astype(np.float64) for values in arrays))
                line = face_line(key, result.image_size, *arrays, digits=EXACT)
            if stream is not None:
                stream.write(line + "\n")
                stream.flush()
            advance(1)
    return found


def _resume(save: Path, settings: dict, images: dict[str, Path]) -> dict[str, ImageDetections]:
    require_free(save, overwrite=True)
    note = save.with_name(save.name + ".settings.json")
    settings = json.loads(json.dumps(settings))
    before = _settings_in(note)
    require_free(note, overwrite=True)
    for path in (save, note):
        if before is None and path.is_file() and path.stat().st_size:
            raise ConfigError(
                f"{path} is there already and is not of a run that was stopped; give another name."
            )
    require_folder(save.parent)
    if not save.is_file() or not save.stat().st_size:
        write_whole(note, json.dumps(settings, indent=1) + "\n", error=DataError)
        return {}
    if before != settings:
        changed = sorted(name for name in settings if before.get(name) != settings[name])
        raise ConfigError(
            f"{save} was begun with other settings ({', '.join(changed)}); "
            "remove it or write to another file."
        )
    content = save.read_bytes()
    if not content.endswith(b"\n"):  # Stopped in the middle of a line.
        write_whole(save, content[: content.rfind(b"\n") + 1], error=DataError)
    return read_json_lines(save, images)


def _settings_in(note: Path) -> dict | None:
    """The settings that an earlier run noted; None where the file is missing or holds others' JSON."""
    try:
        settings = json.loads(read_text(note))
    except (DataError, ValueError, RecursionError):
        return None
    ours = isinstance(settings, dict) and (not settings or "threshold" in settings)
    return settings if ours else None
