"""Times: all on the same core, one thread each, in turns."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers.asking import Asked, PeerError
from benchmarks.peers.listing import Peer

# Slow peers take part in every sixth round, with two of the photos.
SLOW_EVERY = 6
SLOW_PHOTOS = 2


def last_core() -> int:
    """The core that is measured on; this process and the rest of the machine have the others."""
    return max(os.sched_getaffinity(0))


def cold_starts(
    open_peer: Callable[[Peer], Asked],
    peers: list[Peer],
    image: Path,
    rounds: int,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, dict]:
    """Processor time from the start of each peer's process to its first answer, in turns.

    The first round is not counted: it brings files into the system's cache. Slow peers start once more.
    `go_on` is asked before every round from the second measured one on; False ends it.

    Returns:
        key -> {"seconds": [...]} or {"error"}.
    """
    result: dict[str, dict] = {}
    for number in range(rounds + 1):
        if number > 1 and not go_on():
            break
        for peer in peers:
            entry = result.setdefault(peer.key, {"seconds": []})
            if "error" in entry or (peer.slow and number > 1):
                continue
            try:
                with open_peer(peer) as asked:
                    asked.ask("time", images=[str(image)])
                    seconds = asked.ask("state")["cpu_seconds"]
                    if number:
                        entry["seconds"].append(seconds)
            except PeerError as error:
                entry["error"] = str(error)
    return result


def rounds_in_turn(
    asked: dict[str, Asked],
    scenes: dict[str, list[Path]],
    rounds: int,
    tell: Callable[[str], None] = lambda text: None,
    go_on: Callable[[], bool] = lambda: True,
) -> dict[str, dict]:
    """Every scene once a round, one peer after the other, so that all meet the same minutes.

    Args:
        asked: key -> running peer.
        scenes: name -> images.
        rounds: how many; slow peers take part in every sixth. One more comes before, to
            warm up.
        tell: called with a line a round.
        go_on: asked before every round from the second measured one on; False ends it.

    Returns:
        key -> {"scenes": {name: {"seconds": [[of each image] a round], "faces": [...]}}, "state"}
        or {"error"}.
    """
    result: dict[str, dict] = {key: {"scenes": {}} for key in asked}
    for number in range(-1, rounds):
        if number > 0 and not go_on():
            break
        for name, images in scenes.items():
            for key, peer in asked.items():
                slow = peer.peer.slow
                if "error" in result[key] or (slow and number > 0 and number % SLOW_EVERY):
                    continue
                chosen = images[:SLOW_PHOTOS] if slow else images
                try:
                    answer = peer.ask("time", images=[str(path) for path in chosen])
                except PeerError as error:
                    result[key] = {"error": str(error)}
                    continue
                if number >= 0:
                    scene = result[key]["scenes"].setdefault(name, {"seconds": []})
                    scene["seconds"].append(answer["seconds"])
                    scene["faces"] = answer["faces"]
        tell(f"round {number + 1} of {rounds}")
    for key, peer in asked.items():
        if "error" not in result[key]:
            result[key]["state"] = peer.ask("state")
    return result


def summary(scene: dict) -> dict:
    """Median and 90th percentile in ms, images a second, and faces answered, of a scene."""
    seconds = np.concatenate([np.asarray(one) for one in scene["seconds"]])
    rates = [len(one) / sum(one) for one in scene["seconds"]]
    return {
        "median_ms": 1000 * float(np.median(seconds)),
        "p90_ms": 1000 * float(np.percentile(seconds, 90)),
        "images_per_s": statistics.median(rates),
        "faces": int(np.sum(scene["faces"])),
        "measured": len(seconds),
    }
