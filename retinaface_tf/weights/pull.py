"""Trained weights of a preset: in this package, or fetched once, converted and cached."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import get_preset, list_presets
from retinaface_tf.sources.source import WeightsSource
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.files import write_whole

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork


def weights_source(preset: str) -> WeightsSource:
    """Where a preset's trained weights come from.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no trained weights.
    """
    source = get_preset(preset).source
    if source is None:
        trained = [name for name in list_presets() if get_preset(name).source]
        raise WeightsError(
            f"Preset {preset!r} has no weights; {', '.join(trained)} have. Or convert a file of yours "
            "with `retinaface-tf weights convert`."
        )
    return source


def weights_path(preset: str) -> Path:
    """Where a preset's weights are, or will be once pulled; the name follows the trained data.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no trained weights, or lacks those of this package.
    """
    source = weights_source(preset)
    ready = source.file("weights")
    if ready is not None:
        return ready
    name = f"{preset}-{source.digest[:12]}"
    head = get_preset(preset).dense_head
    if head is not None:
        from retinaface_tf.weights.dense_head import head_digest

        name = f"{name}-{head_digest(head)}"
    return cache_folder() / f"{name}.weights.h5"


def pull(
    preset: str, *, force: bool = False, notify: Callable[[str], None] = lambda line: None
) -> Path:
    """A preset's weights, fetched and converted unless they are here.

    Args:
        preset: its name.
        force: fetch again, replacing what is cached.
        notify: is given origin and licence and what is being done, a line at a time.

    Returns:
        Path of a `.weights.h5` file, or of the `.weights.npz` in this package.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no weights, they cannot be fetched, their bytes are not the
            expected ones, or the cache cannot be written.
    """
    source, target = weights_source(preset), weights_path(preset)
    origin, *lines = source.describe()
    for line in (f"{preset}: {origin}", *lines):
        notify(line)
    if source.file("weights") is not None or (target.is_file() and not force):
        return target
    require_writable(target.parent)
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        original, licence = source.fetch(Path(folder), notify)
        notify(f"converting into {target}")
        _convert(preset, original, licence, target)
    return target


def load_preset(
    preset: str, *, notify: Callable[[str], None] = lambda line: None
) -> RetinaFaceNetwork:
    """A preset's network with its trained weights, pulled first if they are not here.

    Raises:
        WeightsError: as `pull`, or the file is damaged; the message says how to get it again.
    """
    from retinaface_tf.weights.load import load_weights

    path = weights_path(preset)
    if not path.is_file():
        pull(preset, notify=notify)
    try:
        return load_weights(path, get_preset(preset).config)
    except WeightsError:
        packaged = weights_source(preset).file("weights") is not None
        remedy = (
            "install retinaface-tf again"
            if packaged
            else f"run `retinaface-tf weights pull {preset} --force`"
        )
        raise WeightsError(
            f"The weights {path} are damaged or of another version; {remedy}."
        ) from None


def _convert(preset: str, original: Path, licence: str, target: Path) -> None:
    """Writes licence, original and converted weights, each whole; the last makes the pull count."""
    from retinaface_tf.weights.convert.convert import convert_weights
    from retinaface_tf.weights.hdf5 import save_weights

    network = convert_weights(original, get_preset(preset).config)
    head = get_preset(preset).dense_head
    if head is not None:
        from retinaface_tf.weights.dense_head import fill_head, packaged_head

        fill_head(network, packaged_head(head), head)
    stem = target.name.removesuffix(".weights.h5")
    write_whole(target.with_name(f"{stem}.LICENSE.txt"), licence.encode())
    write_whole(target.with_name(stem + original.suffix), original.read_bytes())
    save_weights(network, target)
