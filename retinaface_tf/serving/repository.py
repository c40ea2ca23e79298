"""The versions of a model on disk: new ones are loaded while the old answer, then take over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retinaface_tf.errors import ConfigError
from retinaface_tf.protocol.messages import GetModelStatusResponse, ModelSpec
from retinaface_tf.serving.loaded_model import LoadedModel
from retinaface_tf.serving.request_error import RequestError

logger = logging.getLogger("retinaface_tf.serving")
# A version that did not load is tried again this many times: it may still be arriving.
LOAD_ATTEMPTS = 3


@dataclass
class VersionStatus:
    """What GetModelStatus tells of a version.

    Attributes:
        version: its number.
        state: "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error: why it is not available; empty if nothing went wrong.
        attempts: how often loading failed.
    """

    version: int
    state: str
    error: str = ""
    attempts: int = 0


class Repository:
    """Watches a model's folder.

    Args:
        folder: holds version folders with numbers for names.
        name: of the model.
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
        self._users: dict[int, int] = {}
        self._idle = asyncio.Condition()
        self._retiring: set[asyncio.Task] = set()
        self.statuses: dict[int, VersionStatus] = {}

    def versions_on_disk(self) -> list[int]:
        """Numbers of the version folders that hold a SavedModel, ascending."""
        try:
            entries = [p for p in self.folder.iterdir() if p.name.isdigit()]
        except OSError:
            return []
        return sorted(int(p.name) for p in entries if (p / "saved_model.pb").is_file())

    @property
    def available(self) -> list[int]:
        """Versions that answer, ascending."""
        return sorted(self._models)

    async def refresh(self) -> None:
        """Loads what is new on disk, then lets go of what is not wanted any more.

        A version that cannot be loaded changes nothing for those that can; versions whose folder
        is gone go on answering until another takes over.
        """
        found = self.versions_on_disk()
        for version in reversed(found):
            if version not in self._models:
                await self._bring_up(version)
            if self.policy == "latest" and version in self._models:
                break
        wanted = found if self.policy == "all" else self.available[-1:]
        if self.policy == "latest":
            on_disk = [version for version in self.available if version in found]
            wanted = on_disk[-1:] or wanted
        if any(version in self._models for version in wanted):
            for version in self.available:
                if version not in wanted:
                    self._retire(version)

    async def watch(self, seconds: float) -> None:
        """Refreshes for ever."""
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
            RequestError: NOT_FOUND for another model, version or label.
        """
        version = self._choose(spec)
        self._users[version] = self._users.get(version, 0) + 1
        try:
            yield self._models[version]
        finally:
            self._users[version] -= 1
            async with self._idle:
                self._idle.notify_all()

    def status(self, spec: ModelSpec) -> GetModelStatusResponse:
        """The state of the asked version, or of all.

        Raises:
            RequestError: NOT_FOUND.
        """
        self._check_name(spec)
        if spec.HasField("version"):
            wanted = [spec.version.value]
        elif spec.version_label:
            wanted = [self._labelled(spec.version_label)]
        else:
            wanted = sorted(self.statuses, reverse=True)
        response = GetModelStatusResponse()
        for version in wanted:
            if version not in self.statuses:
                raise RequestError("NOT_FOUND", self._absent(version))
            status = self.statuses[version]
            entry = response.model_version_status.add(version=version)
            entry.state = type(entry).State.Value(status.state)
            if status.error:
                entry.status.error_code = 2
                entry.status.error_message = status.error
        return response

    async def close(self) -> None:
        """Lets go of every version once its requests are answered."""
        for version in self.available:
            self._retire(version)
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _choose(self, spec: ModelSpec) -> int:
        self._check_name(spec)
        if spec.HasField("version"):
            version = spec.version.value
        elif spec.version_label:
            version = self._labelled(spec.version_label)
        elif self._models:
            return self.available[-1]
        else:
            raise RequestError("UNAVAILABLE", f"No version of model {self.name!r} is loaded.")
        if version not in self._models:
            raise RequestError("NOT_FOUND", self._absent(version))
        return version

    def _check_name(self, spec: ModelSpec) -> None:
        if spec.name != self.name:
            raise RequestError(
                "NOT_FOUND", f"There is no model {spec.name!r} here; this server has {self.name!r}."
            )

    def _labelled(self, label: str) -> int:
        if label not in self.labels:
            known = ", ".join(sorted(self.labels)) or "none"
            raise RequestError(
                "NOT_FOUND", f"No version is labelled {label!r}; labels are: {known}."
            )
        return self.labels[label]

    def _absent(self, version: int) -> str:
        available = ", ".join(map(str, self.available)) or "none"
        return f"Model {self.name!r} has no version {version}; available: {available}."

    async def _bring_up(self, version: int) -> None:
        status = self.statuses.get(version)
        if status is None or status.state != "LOADING":
            attempts = status.attempts if status and status.error else 0
            if attempts >= LOAD_ATTEMPTS:
                return
            status = self.statuses[version] = VersionStatus(version, "LOADING", "", attempts)
        try:
            model = await asyncio.to_thread(self._load_and_warm, self.folder / str(version))
        except Exception as error:
            status.state, status.attempts = "END", status.attempts + 1
            status.error = (str(error).strip() or type(error).__name__).splitlines()[0][:500]
            logger.error("version %d of %s did not load: %s", version, self.name, status.error)
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
        """No new request gets this version; it is freed when its last one is answered."""
        model = self._models.pop(version)
        self.statuses[version].state = "UNLOADING"

        async def free():
            async with self._idle:
                await self._idle.wait_for(lambda: not self._users.get(version))
            await asyncio.to_thread(model.close)
            self.statuses[version].state = "END"
            logger.info("version %d of %s is unloaded", version, self.name)

        task = asyncio.ensure_future(free())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def check_folder(folder: Path) -> None:
    """Raises ConfigError where a model folder is no use."""
    if not folder.is_dir():
        raise ConfigError(f"There is no model folder {folder}; `retinaface-tf export savedmodel`.")
    if (folder / "saved_model.pb").is_file():
        raise ConfigError(
            f"{folder} is a single version; give its parent folder {folder.resolve().parent}, "
            "whose entries are numbers."
        )
