"""Weights that are one file in public: downloaded over HTTP, checked by their sha256."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from retinaface_tf.errors import WeightsError
from retinaface_tf.sources.source import Fetched, require_known
from retinaface_tf.util.cache import cache_folder, require_writable
from retinaface_tf.util.files import cannot_write, reason_of, sha256_of
from retinaface_tf.util.progress import byte_progress

MIRROR_VARIABLE = "RETINAFACE_TF_MIRROR"
# Where the size is not known, a server cannot fill the disk.
_LARGEST = 2**30
_SILENT_SECONDS = 30.0
_SLOWEST = 1024  # bytes a second, below which an address is given up
_WAITS = (0.0, 1.0, 2.0, 4.0, 8.0)
_WORTH_IT = 2**20  # bytes, after which the waits begin anew
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _GivenUp(Exception):
    """An address did not give the file; the text says why, as a part of a sentence.

    Attributes:
        again: the same address may give the rest.
        keep: what came so far is good.
    """

    def __init__(self, reason: str, *, again: bool = False, keep: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.keep = keep or again


@dataclass(frozen=True, kw_only=True)
class UrlSource:
    """Weights that are a file on public servers; a `WeightsSource`.

    Attributes:
        urls: addresses of the same bytes, tried in this order. `$RETINAFACE_TF_MIRROR`, an address or
            a folder that has a file of the same name, is tried first.
        digest: sha256 of the file, or what is known of its beginning.
        licence: of the weights, as an SPDX identifier, with what else must be said.
        homepage: of those who trained them.
        size: of the file in bytes; None where it is not known.
        megabytes: about its size, where `size` is not known.
        about: lines to show before anything is fetched.
    """

    urls: tuple[str, ...]
    digest: str
    licence: str
    homepage: str
    size: int | None = None
    megabytes: float | None = None
    about: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the file."""
        return _last_part(self.urls[0])

    @property
    def origin(self) -> str:
        """Who trained them, in a few words."""
        return "/".join(self.homepage.split("/")[-2:])

    @property
    def how_large(self) -> str:
        """The file's size, see `WeightsSource`."""
        if self.size is not None:
            return f"{self.size / 1e6:.1f}"
        return "" if self.megabytes is None else f"~{self.megabytes:.0f}"

    def describe(self) -> list[str]:
        """The file, its size, who trained it and the licence."""
        size = f", {self.how_large} MB" if self.how_large else ""
        return [
            f"{self.name}{size}, from {self.homepage}",
            f"licence: {self.licence}",
            *self.about,
        ]

    def file(self, kind: str, precision: str = "float32") -> Path | None:
        """None: what is downloaded is converted first."""
        return None

    def figures(self) -> dict[str, str]:
        """None beside the weights."""
        return {}

    def fetch(
        self, folder: Path, notify: Callable[[str], None], given: Path | None = None
    ) -> Fetched:
        """Downloads the file, or takes the given one.

        A download that breaks goes on where it stopped, in this run and in a later one.

        Raises:
            WeightsError: no address gave the known bytes, or the disk is full. What was broken off is
                kept for the next run; anything else is removed.
        """
        if given is not None:
            require_known(given, {self.name: self.digest})
            return Fetched(given, self._terms)
        target = folder / f"original{PurePosixPath(self.name).suffix}"
        with _partial_file(self.name, self.digest, folder) as partial:
            self._download(partial, notify)
            try:
                shutil.move(partial, target)
            except OSError as failure:
                raise WeightsError(cannot_write(target, failure)) from None
        return Fetched(target, self._terms)

    @property
    def _terms(self) -> str:
        return "\n".join((self.name, self.homepage, f"licence: {self.licence}", *self.about, ""))

    def _download(self, partial: Path, notify: Callable[[str], None]) -> None:
        """Fills a file from the first address that gives the known bytes."""
        reasons = []
        for address in (*_mirror_addresses(self.name), *self.urls):
            notify(f"fetching {address}")
            reason = self._try_address(address, partial)
            if reason is None:
                return
            reasons.append(f"{urlsplit(address).netloc or address}: {reason}")
        raise WeightsError(
            f"{self.name} could not be fetched ({'; '.join(dict.fromkeys(reasons))}); try again later, set "
            f"{MIRROR_VARIABLE} to an address or folder that has it, or download it elsewhere and "
            "give it to `retinaface-tf weights pull NAME --from FILE`."
        )

    def _try_address(self, address: str, partial: Path) -> _GivenUp | None:
        """Fills the file; why that failed, where it did. A beginning that was wrong is given up once."""
        while True:
            begun = partial.stat().st_size > 0
            try:
                self._fill(address, partial)
                found = sha256_of(partial)
                if found.startswith(self.digest):
                    return None
                raise _GivenUp(f"its sha256 is {found}, not the expected {self.digest}")
            except _GivenUp as failure:
                if failure.keep:
                    return failure
                partial.write_bytes(b"")
                if not begun:
                    return failure

    def _fill(self, address: str, partial: Path) -> None:
        """Appends what is missing; addresses that break are tried again, later each time."""
        if "://" not in address:
            _copy(Path(address), partial)
            return
        waits = list(_WAITS)
        while True:
            time.sleep(waits.pop(0))
            before = partial.stat().st_size
            try:
                _append(address, partial, self.size)
                return
            except _GivenUp as failure:
                if partial.stat().st_size >= before + _WORTH_IT:
                    waits = list(_WAITS[1:])
                if not (failure.again and waits):
                    raise


def _mirror_addresses(name: str) -> list[str]:
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    return [f"{mirror.rstrip('/')}/{name}"] if mirror else []


def _last_part(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


@contextlib.contextmanager
def _partial_file(name: str, digest: str, folder: Path) -> Iterator[Path]:
    """What is there of a download, in the cache; in `folder` while another process fills that one."""
    kept = cache_folder() / "partial" / f"{digest[:12]}-{name}"
    require_writable(kept.parent)
    with contextlib.ExitStack() as stack:
        mine = _claim(kept, stack)
        path = kept if mine else folder / "download"
        path.touch()
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                if mine and kept.is_file() and not kept.stat().st_size:
                    kept.unlink()
                kept.parent.rmdir()  # unless another download is kept there


def _claim(path: Path, stack: contextlib.ExitStack) -> bool:
    """Locks a file for this process until the stack ends; Windows has no such locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    file = stack.enter_context(path.open("ab"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _copy(source: Path, partial: Path) -> None:
    try:
        file = source.open("rb")
    except OSError as failure:
        raise _GivenUp(reason_of(failure)) from None
    with file:
        _write(iter(lambda: file.read(1 << 20), b""), partial, "wb")


def _append(address: str, partial: Path, size: int | None) -> None:
    """One request for what is missing of a file."""
    begun = partial.stat().st_size
    if begun and begun == size:
        return
    if urlsplit(address).scheme not in ("http", "https"):
        raise _GivenUp("only http:// and https:// are fetched")
    request = urllib.request.Request(address, headers={"User-Agent": "retinaface-tf"})
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    try:
        response = urllib.request.urlopen(request, timeout=_SILENT_SECONDS)
    except (OSError, HTTPException, ValueError) as failure:
        raise _network_failure(failure) from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise _GivenUp("it answered with a web page, not with a file")
        answers_rest = response.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        if response.status != 206 or not answers_rest:
            begun = 0
        length = response.headers.get("Content-Length", "")
        total = begun + int(length) if length.isdecimal() else size
        allowed = size or _LARGEST
        if total is not None and total > allowed:
            raise _GivenUp(f"it offers {total} bytes, more than the expected {allowed}")
        with byte_progress(_last_part(address), total, begun) as advance:
            _write(_chunks(response, allowed - begun, advance), partial, "ab" if begun else "wb")
    found = partial.stat().st_size
    if total is not None and found < total:
        raise _GivenUp(f"it broke off after {found} of {total} bytes", again=True)


def _network_failure(failure: Exception) -> _GivenUp:
    if isinstance(failure, urllib.error.HTTPError):
        if failure.code == 416:  # it has no byte beyond what is here
            return _GivenUp("it is shorter than what came before")
        return _GivenUp(f"HTTP {failure.code} {failure.reason}", again=failure.code in _TRY_AGAIN)
    cause = failure.reason if isinstance(failure, urllib.error.URLError) else failure
    if isinstance(cause, TimeoutError):
        return _GivenUp(f"nothing came for {_SILENT_SECONDS:.0f} s", again=True)
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    lasting = (socket.gaierror, ConnectionRefusedError, ssl.SSLError, ValueError, str)
    return _GivenUp(text, again=not isinstance(cause, lasting))


def _chunks(
    response: HTTPResponse, allowed: int, advance: Callable[[int], None]
) -> Iterator[bytes]:
    """The body as it comes; gives up where it is too long, or too slow for half a minute."""
    since, got = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(1 << 16)
        except (OSError, HTTPException) as failure:
            raise _network_failure(failure) from None
        if not chunk:
            return
        allowed -= len(chunk)
        if allowed < 0:
            raise _GivenUp("it sends more bytes than the file has")
        yield chunk
        advance(len(chunk))
        got += len(chunk)
        passed = time.monotonic() - since
        if passed > _SILENT_SECONDS:
            if got < _SLOWEST * passed:
                raise _GivenUp(f"it is slower than {_SLOWEST} bytes a second", keep=True)
            since, got = time.monotonic(), 0


def _write(chunks: Iterator[bytes], path: Path, mode: str) -> None:
    """Writes what comes; a full disk ends the download, and what came leaves it."""
    try:
        with path.open(mode) as file:
            for chunk in chunks:
                file.write(chunk)
                file.flush()
    except OSError as failure:
        with contextlib.suppress(OSError):
            path.write_bytes(b"")
        raise WeightsError(cannot_write(path, failure)) from None
