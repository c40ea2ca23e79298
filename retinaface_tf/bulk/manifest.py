"""The manifest of a run: what it was begun with, so that it is only resumed with the same."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from retinaface_tf.bulk.network import NetworkSpec
from retinaface_tf.bulk.results import read_report, shard_name
from retinaface_tf.bulk.shards import Shard, digest_shards
from retinaface_tf.errors import ConfigError
from retinaface_tf.util.files import is_file, require_folder, write_whole

# The underscore keeps readers of Parquet folders (Arrow, Spark) away.
MANIFEST = "_manifest.json"
_FORMAT = 1


def describe_run(network: NetworkSpec, shards: list[Shard], version: str) -> dict[str, Any]:
    """Everything the results depend on; batch size, threads and engine are not part of it."""
    values = {
        "format": _FORMAT,
        "version": version,
        "weights": network.sha256,
        "runtime": network.runtime,
        **dataclasses.asdict(network.settings),
        "augmentation": network.augmentation,
        "images": sum(shard.part.count for shard in shards),
        "shards": len(shards),
        "inputs": digest_shards(shards),
    }
    return json.loads(json.dumps(values, default=dataclasses.asdict))


def begin_or_resume(out: Path, run: dict[str, Any]) -> None:
    """Writes the manifest of a new run, or compares this run with the one that was begun here.

    Raises:
        ConfigError: the folder is another run's, or holds something else; the message says what
            differs.
    """
    path = out / MANIFEST
    require_folder(out)
    if is_file(path) and any(out.glob("faces-*.parquet")):
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            begun = None
        if not isinstance(begun, dict):
            raise ConfigError(f"{path} is damaged; give another --out.")
        if "pictures" in begun:  # the key's name in the first version
            begun["images"] = begun.pop("pictures")
        # What earlier versions did, and did not write.
        begun = {"zoom": "off", "budget": run["budget"]} | begun
        if isinstance(begun.get("augmentation"), dict):
            begun["augmentation"] = {"agree": False} | begun["augmentation"]
        for name in run:
            if begun.get(name) != run[name]:
                raise ConfigError(_difference(out, name, begun.get(name), run))
        return
    if not is_file(path) and any(out.iterdir()):
        raise ConfigError(
            f"{out} holds files of something else; give --out a new folder, or that of the run to "
            "resume."
        )
    write_whole(path, json.dumps(run, indent=2) + "\n", error=ConfigError)


def _difference(out: Path, name: str, old: Any, run: dict[str, Any]) -> str:
    remedy = "resume with the same, or give another --out."
    if name in ("images", "shards", "inputs"):
        counts = f"{old} then, {run[name]} now" if name != "inputs" else "as many, but not the same"
        return (
            f"{out} was begun with other inputs or another --shard-size ("
            f"{'images' if name == 'inputs' else name}: {counts}); {remedy}"
        )
    if name == "weights":
        return f"{out} was begun with other weights (SHA-256 {str(old)[:12]}...); {remedy}"
    return f"{out} was begun with {name}={old!r}, not {run[name]!r}; {remedy}"


def finished_shards(out: Path, shards: list[Shard]) -> dict[int, Any]:
    """Reports of the shards whose results are there and whole, by number."""
    there = {path.name for path in out.glob("faces-*.parquet")}
    reports = {}
    for shard in shards:
        if shard_name(shard.number) in there:
            report = read_report(out / shard_name(shard.number))
            if report is not None and report.images == shard.part.count:
                reports[shard.number] = report
    return reports
