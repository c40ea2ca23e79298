"""The versions of a model on disk: a new one is loaded while the old one answers, then takes over."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retinaface_tf.errors import ConfigError, first_line
from retinaface_tf.protocol.messages import GetModelStatusResponse, ModelSpec
from retinaface_tf.serving.loaded_model import LoadedModel
from retinaface_tf.serving.request_error import RequestError
from retinaface_tf.util.files import is_file, is_folder

logger = logging.getLogger("retinaface_tf.serving")
# A version that failed is tried again when its files have changed, or after a pause that doubles
# from the first to the second of these seconds: its files may still be arriving, or memory short.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0


@dataclass
class VersionStatus:
    """What GetModelStatus says of a version.

    Attributes:
        state: "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error: why it is not available; empty if nothing went wrong.
        failures: how often loading failed.
        again: when it is tried again, by `time.monotonic`.
        files: what was tried, see `_files`.
    """

    state: str
    error: str = ""
    failures: int = 0
    again: float = 0.0
    files: frozenset = frozenset()


class Repository:
    """Watches a model's folder.

    Args:
        folder: holds version folders with numbers for names.
        policy: "latest" serves the highest version, "all" every one.
        labels: names of versions for clients, such as {"canary": 2}.
        threads: cores TensorFlow may use; 0 for all.
        load: makes a model of a version's folder; replaced in tests.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        *,
        policy: Literal["latest", "all"] = "latest",
        labels: dict[str, int] | None = None,
        threads: int = 0,
        load: Callable[[Path, int], LoadedModel] = LoadedModel,
    ):
        self.folder, self.name, self.policy = Path(folder), name, policy
        self.labels = dict(labels or {})
        self._threads, self._load = threads, load
        self._models: dict[int, LoadedModel] = {}
        self._users: Counter[LoadedModel] = Counter()
        self._idle = asyncio.Condition()
        self._retiring: set[asyncio.Task] = set()
        self.statuses: dict[int, VersionStatus] = {}

    def versions_on_disk(self) -> list[int]:
        """Numbers of the version folders that hold a SavedModel, ascending."""
        try:
            entries = [p for p in self.folder.iterdir() if p.name.isdigit()]
        except OSError:
            return []
        return sorted(int(p.name) for p in entries if is_file(p / "saved_model.pb"))

    @property
    def available(self) -> list[int]:
        """Versions that answer, ascending."""
        return sorted(self._models)

    async def refresh(self) -> None:
        """Loads what is new on disk, then unloads what is not served any more.

        A version that cannot be loaded changes nothing for the others; a version whose folder is
        gone goes on answering until another takes over.
        """
        found = self.versions_on_disk()
        for version in reversed(found):
            if version not in self._models:
                await self._bring_up(version)
            if self.policy == "latest" and version in self._models:
                break
        kept = [version for version in self.available if version in found]
        if self.policy == "latest":
            kept = kept[-1:]
        if kept:
            for version in set(self.available) - set(kept):
                self._retire(version)

    async def watch(self, seconds: float) -> None:
        """Refreshes again and again, with this pause."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except Exception:
                logger.exception("looking for new versions in %s failed", self.folder)

    @asynccontextmanager
    async def use(self, spec: ModelSpec):
        """The model that a request asks for, kept in memory until the block ends.

        Raises:
            RequestError: NOT_FOUND for another model, version or label; UNAVAILABLE where no
                version is loaded.
        """
        version = self._named_version(spec)
        if version is None:
            if not self._models:
                raise RequestError(f"No version of model {self.name!r} is loaded.", "UNAVAILABLE")
            version = self.available[-1]
        if version not in self._models:
            raise self._no_version(version)
        model = self._models[version]
        self._users[model] += 1
        try:
            yield model
        finally:
            self._users[model] -= 1
            async with self._idle:
                self._idle.notify_all()

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The state of the named version, or of all.

        Raises:
            RequestError: NOT_FOUND.
        """
        named = self._named_version(spec)
        if named is not None and named not in self.statuses:
            raise self._no_version(named)
        response = GetModelStatusResponse()
        for version in sorted(self.statuses, reverse=True) if named is None else [named]:
            status = self.statuses[version]
            entry = response.model_version_status.add(version=version)
            entry.state = type(entry).State.Value(status.state)
            if status.error:
                entry.status.error_code = 2
                entry.status.error_message = status.error
        return response

    async def close(self) -> None:
        """Unloads every version once its requests are answered."""
        for version in self.available:
            self._retire(version)
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _named_version(self, spec: ModelSpec) -> int | None:
        """The version that a request names by number or label; None where it names none."""
        if spec.name != self.name:
            raise RequestError(
                f"There is no model {spec.name!r} here; this server has {self.name!r}.", "NOT_FOUND"
            )
        if spec.HasField("version"):
            return spec.version.value
        label = spec.version_label
        if label and label not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none"
            raise RequestError(
                f"No version is labelled {label!r}; labels are: {known}.", "NOT_FOUND"
            )
        return self.labels[label] if label else None

    def _no_version(self, version: int) -> RequestError:
        available = ", ".join(map(str, self.available)) or "none"
        return RequestError(
            f"Model {self.name!r} has no version {version}; available: {available}.", "NOT_FOUND"
        )

    async def _bring_up(self, version: int) -> None:
        before = self.statuses.get(version)
        files = await asyncio.to_thread(_files, self.folder / str(version))
        if before and before.failures and before.files == files and time.monotonic() < before.again:
            return
        status = self.statuses[version] = VersionStatus("LOADING", files=files)
        try:
            model = await asyncio.to_thread(self._load_and_warm, self.folder / str(version))
        except Exception as error:
            same = before is not None and before.files == files
            status.state, status.failures = "END", before.failures + 1 if before and same else 1
            pause = min(FIRST_PAUSE * 2 ** (status.failures - 1), LONGEST_PAUSE)
            status.again = time.monotonic() + pause
            status.error = first_line(error)[:500]
            logger.error(
                "version %d of %s did not load: %s; the next try is in %.0f s, or when its files "
                "change", version, self.name, status.error, pause,
            )  # fmt: skip
            return
        self._models[version] = model
        status.state = "AVAILABLE"
        logger.info("version %d of %s is available", version, self.name)

    def _load_and_warm(self, folder: Path) -> LoadedModel:
        model = self._load(folder, self._threads)
        try:
            model.warm_up()
        except Exception:
            model.close()
            raise
        return model

    def _retire(self, version: int) -> None:
        """No new request gets this version; it is unloaded when its last one is answered."""
        model, status = self._models.pop(version), self.statuses[version]
        status.state = "UNLOADING"

        async def free():
            async with self._idle:
                await self._idle.wait_for(lambda: not self._users[model])
            del self._users[model]
            await asyncio.to_thread(model.close)
            status.state = "END"
            logger.info("version %d of %s is unloaded", version, self.name)

        task = asyncio.ensure_future(free())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _files(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Path, size and time of change of each file of a version."""
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # gone since
            state = path.stat()
            found.add((str(path), state.st_size, state.st_mtime_ns))
    return frozenset(found)


def check_folder(folder: Path) -> None:
    """Raises ConfigError unless a folder may hold versions."""
    if not is_folder(folder):
        raise ConfigError(
            f"There is no model folder {folder}; `retinaface-tf export savedmodel` writes one."
        )
    if is_file(folder / "saved_model.pb"):
        raise ConfigError(
            f"{folder} is a single version; give its parent folder {folder.resolve().parent}, "
            "whose entries are numbers."
        )
