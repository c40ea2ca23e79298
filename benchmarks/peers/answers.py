"""Searching the sets: a file of answers for each peer, set and way of searching, kept and gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.asking import Asked, PeerError
from benchmarks.peers.images import ImageSet, decoded
from benchmarks.peers.listing import Peer


@dataclass(frozen=True, eq=False)
class Answers:
    """What a peer found in a set.

    Attributes:
        found: image's index -> (boxes [N, 4], scores [N], points [N, 5, 2] or None), in the
            original image's pixels.
        errors: what went wrong, a sentence an image; those count as without detections.
    """

    found: dict[int, tuple]
    errors: list[str]


def answers_file(
    peer: Peer, images: ImageSet, policy: str, folder: Path, installed: str = ""
) -> Path:
    """Where answers lie: another adapter, options, installation or set make another file."""
    from benchmarks.peers.asking import ADAPTERS

    code = (ADAPTERS / peer.adapter).read_bytes() + (json.dumps(peer.options) + installed).encode()
    code += "".join(photo.name for photo in images.photos).encode()
    mark = hashlib.sha256(code).hexdigest()[:8]
    return folder / peer.key / f"{images.key}-{policy}-{mark}.jsonl"


def wanted(peer: Peer, images: ImageSet, policy: str) -> list[int]:
    """Indices of the images a peer searches, those that everybody searches first."""
    first = [int(i) for i in images.subset]
    if peer.subset or policy == "letterbox":
        return first
    return first + sorted(set(range(len(images.photos))) - set(first))


def policies(peer: Peer, images: ImageSet) -> tuple[str, ...]:
    """How a peer searches a set."""
    if images.points is not None and not peer.points:
        return ()
    return ("original",) if peer.slow else images.policies


def read_answers(file: Path) -> Answers:
    """The answers so far; a line cut short by a stop is left out."""
    found, errors = {}, []
    text = file.read_text() if file.is_file() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        entry = json.loads(line)
        if "error" in entry:
            found[entry["index"]] = (np.zeros((0, 4)), np.zeros(0), None)
            errors.append(entry["error"])
            continue
        scale = entry["scale"]
        boxes = np.array(entry["boxes"], float).reshape(-1, 4) / scale
        points = entry["landmarks"]
        if points is not None:
            points = np.array(points, float).reshape(-1, 5, 2) / scale
        found[entry["index"]] = (boxes, np.array(entry["scores"], float), points)
    return Answers(found, errors)


def search(
    asked: Asked,
    images: ImageSet,
    policy: str,
    file: Path,
    pixels: Path,
    go_on: Callable[[], bool],
) -> bool:
    """Asks for every image of a set that has no answer yet.

    Args:
        asked: the running peer.
        images: what to search.
        policy: as they are or letterboxed.
        file: of answers, appended to.
        pixels: folder of decoded images.
        go_on: asked before each image; False stops.

    Returns:
        whether all are answered.

    Raises:
        PeerError: the very first image failed, so nothing can be hoped for.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    before = read_answers(file)
    if file.is_file():
        text = file.read_text()
        file.write_text(text[: text.rfind("\n") + 1])
    with file.open("a") as stream:
        for index in wanted(asked.peer, images, policy):
            if index in before.found:
                continue
            if not go_on():
                return False
            path, scale = decoded(images, index, policy, pixels)
            entry = {"index": index, "scale": scale}
            try:
                entry |= asked.ask("detect", image=str(path), lowest=True)
            except PeerError as error:
                if not before.found and index == wanted(asked.peer, images, policy)[0]:
                    raise
                entry["error"] = str(error)
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
    return True
