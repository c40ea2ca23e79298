"""Weights that are downloaded: what is printed and what the cache holds after every kind of fault."""

import hashlib
import http.server
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.sources import download
from retinaface_tf.sources.download import MIRROR_VARIABLE, UrlSource
from retinaface_tf.util.cache import CACHE_VARIABLE
from tests.helpers.waiting import PATIENCE, until

CONTENT = np.random.default_rng(4).bytes(300_000)
STOPS = (70_000, 140_000, 300_000)  # where a server hangs, and the end


class Server(http.server.ThreadingHTTPServer):
    """Answers each path as `faults` says, a list of one entry for each request to it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.requests, self.seconds = {}, [], 0
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path, *faults):
        self.faults[f"/{path}"] = itertools.chain(faults, itertools.repeat(None))
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        fault = next(self.server.faults.get(self.path.split("?")[0], iter([404])))
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        if isinstance(fault, int):
            return self.send_error(fault)
        body, begin = CONTENT, 0
        if fault == "html":
            body = b"<html>Please log in</html>"
        elif fault == "other bytes":
            body = CONTENT[::-1]
        elif fault == "longer":
            body = CONTENT + b"x"
        elif asked and fault != "no ranges":
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        kind = "text/html; charset=utf-8" if fault == "html" else "application/octet-stream"
        self.send_header("Content-Type", kind)
        if fault != "no length":
            self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        body = body[begin:]
        if fault == "breaks":
            body = body[:100_000]
        if fault == "drips":
            body = body[:70_000]
        if fault == "hangs":
            body = body[: next(place for place in STOPS if place > begin) - begin]
        self.wfile.write(body)
        if fault == "hangs" and begin < STOPS[1]:
            self.connection.recv(1)  # until the client hangs up
        for _ in range(1000 if fault == "drips" else 0):
            self.wfile.write(b"x")
            self.server.seconds += 100
            time.sleep(0.01)


@pytest.fixture
def server():
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr(download, "_WAITS", (0.0, 0.01, 0.02))
    monkeypatch.setattr(download, "_SILENT_SECONDS", PATIENCE)
    (tmp_path / "work").mkdir()


def source(*urls, size=300_000):
    digest = hashlib.sha256(CONTENT).hexdigest()
    return UrlSource(
        urls=urls, digest=digest, size=size, licence="MIT", homepage="https://example.org"
    )


def fetch(source, tmp_path, **options):
    said = []
    fetched = source.fetch(tmp_path / "work", said.append, **options)
    return fetched, said


def cached(tmp_path):
    return {p.name: p.stat().st_size for p in (tmp_path / "cache").rglob("*") if p.is_file()}


def test_the_file_is_fetched_and_nothing_else_is_left(server, tmp_path, capfd):
    url = server.url("net.onnx")
    fetched, said = fetch(source(url), tmp_path)
    assert fetched.path.read_bytes() == CONTENT and fetched.path.name == "original.onnx"
    assert "MIT" in fetched.licence and said == [f"fetching {url}"]
    assert cached(tmp_path) == {} and not (tmp_path / "cache" / "partial").exists()
    assert "net.onnx" in capfd.readouterr().err  # the bar
    fetch(source(server.url("b.onnx", "no length"), size=None), tmp_path)


def begins(server):
    """The first byte of each request."""
    return [int(asked[6:-1]) if asked else 0 for _, asked in server.requests]


def test_a_break_is_resumed_where_it_was(server, tmp_path):
    fetched, _ = fetch(source(server.url("net.pth", "breaks", "breaks")), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert begins(server) == [0, 100_000, 200_000]


def test_a_server_that_falls_silent_is_asked_for_the_rest(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_SILENT_SECONDS", 0.5)
    # Many, since on a busy machine all servers fall silent.
    monkeypatch.setattr(download, "_WAITS", (0.0,) * 100)
    fetched, _ = fetch(source(server.url("net.pth", *["hangs"] * 100)), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert begins(server) == sorted(begins(server)) and {0, *STOPS[:2]} <= {*begins(server)}


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    fetched, _ = fetch(source(server.url("net.pth", "breaks", "no ranges")), tmp_path)
    assert fetched.path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (404, "HTTP 404 Not Found"),
        (403, "HTTP 403 Forbidden"),
        (503, "HTTP 503 Service Unavailable"),
        ("html", "it answered with a web page, not with a file"),
        ("other bytes", "its sha256 is [0-9a-f]{64}, not the expected [0-9a-f]{64}"),
        ("longer", "it offers 300001 bytes, more than the expected 300000"),
        ("drips", "it is slower than 1024 bytes a second"),
    ],
)
def test_a_fault_is_named_and_the_mirror_answers(server, tmp_path, monkeypatch, fault, reason):
    if fault == "drips":
        clock = SimpleNamespace(monotonic=lambda: server.seconds, sleep=time.sleep)
        monkeypatch.setattr(download, "time", clock)
    with pytest.raises(WeightsError, match=reason) as failure:
        fetch(source(server.url("net.pth", *[fault] * 9)), tmp_path)
    assert str(failure.value).count("\n") == 0 and "--from FILE" in str(failure.value)
    assert set(cached(tmp_path)) <= (
        {f"{source().digest[:12]}-net.pth"} if fault == "drips" else set()
    )
    first, mirror = server.url("a/net.pth", *[fault] * 9), server.url("b/net.pth")
    fetched, said = fetch(source(first, mirror), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert said == [f"fetching {first}", f"fetching {mirror}"] and cached(tmp_path) == {}


def test_what_broke_off_is_kept_and_goes_on_in_the_next_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_WAITS", (0.0,))
    url = server.url("net.pth", "breaks")
    with pytest.raises(WeightsError, match="it broke off after 100000 of 300000 bytes"):
        fetch(source(url), tmp_path)
    kept = {f"{source().digest[:12]}-net.pth": 100_000}
    assert cached(tmp_path) == kept
    fetched, _ = fetch(source(url), tmp_path)
    assert fetched.path.read_bytes() == CONTENT and cached(tmp_path) == {}
    assert server.requests[-1][1] == "bytes=100000-"


def test_a_wrong_beginning_does_not_stay_for_ever(server, tmp_path):
    partial = tmp_path / "cache" / "partial"
    for wrong in (b"x" * 1000, CONTENT[:-1] + b"x", CONTENT + b"longer"):
        partial.mkdir(parents=True)
        (partial / f"{source().digest[:12]}-net.pth").write_bytes(wrong)
        fetched, _ = fetch(source(server.url("net.pth")), tmp_path)
        assert fetched.path.read_bytes() == CONTENT and cached(tmp_path) == {}


def test_no_server_is_a_sentence(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(WeightsError, match=rf"\({address}: Connection refused\);"):
            fetch(source(f"http://{address}/net.pth"), tmp_path)
    with pytest.raises(WeightsError, match="only http:// and https:// are fetched"):
        fetch(source("file:///etc/passwd"), tmp_path)


def test_a_mirror_is_asked_first(server, tmp_path, monkeypatch):
    first = server.url("net.pth")
    server.url("mirror/net.pth")
    monkeypatch.setenv(MIRROR_VARIABLE, first.replace("net.pth", "mirror/"))
    fetch(source(first), tmp_path)
    assert [path for path, _ in server.requests] == ["/mirror/net.pth"]
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    (tmp_path / "net.pth").write_bytes(CONTENT)
    fetched, said = fetch(source(first), tmp_path)
    assert fetched.path.read_bytes() == CONTENT and said == [f"fetching {tmp_path}/net.pth"]
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    for wrong in (lambda: (tmp_path / "net.pth").write_bytes(b"x"), (tmp_path / "net.pth").unlink):
        wrong()
        fetched, _ = fetch(source(first), tmp_path)
        assert fetched.path.read_bytes() == CONTENT


def test_a_given_file_is_checked_and_not_changed(tmp_path):
    given = tmp_path / "brought.pth"
    given.write_bytes(CONTENT)
    fetched, said = fetch(source("http://127.0.0.1:9/net.pth"), tmp_path, given=given)
    assert fetched.path == given and said == []
    given.write_bytes(CONTENT[1:])
    with pytest.raises(WeightsError, match=r"brought.pth is not net.pth \(sha256 "):
        fetch(source("http://127.0.0.1:9/net.pth"), tmp_path, given=given)
    with pytest.raises(WeightsError, match=r"none.pth cannot be read: no such file"):
        fetch(source("http://127.0.0.1:9/net.pth"), tmp_path, given=tmp_path / "none.pth")


def test_a_full_disk_is_a_sentence(server, tmp_path, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    partial = tmp_path / "cache" / "partial"
    partial.mkdir(parents=True)
    (partial / f"{source().digest[:12]}-net.pth").symlink_to("/dev/full")
    with pytest.raises(
        WeightsError, match=r"Cannot write .*: no space left on device\."
    ) as failure:
        fetch(source(server.url("net.pth")), tmp_path)
    assert "\n" not in str(failure.value)


def test_two_processes_do_not_fill_one_file(server, tmp_path):
    if sys.platform == "win32":
        pytest.skip("no such locks")
    import fcntl

    partial = tmp_path / "cache" / "partial"
    partial.mkdir(parents=True)
    with (partial / f"{source().digest[:12]}-net.pth").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        fetched, _ = fetch(source(server.url("net.pth")), tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert cached(tmp_path) == {f"{source().digest[:12]}-net.pth": 0}


def test_a_killed_download_goes_on(server, tmp_path):
    url = server.url("net.pth", *["hangs"] * 9)
    code = (
        "import sys, pathlib; from retinaface_tf.sources.download import UrlSource\n"
        "UrlSource(urls=(sys.argv[1],), digest=sys.argv[2], size=300000, licence='', homepage='')"
        ".fetch(pathlib.Path(sys.argv[3]), print)"
    )
    command = [sys.executable, "-c", code, url, source().digest, str(tmp_path / "work")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "cache" / "partial" / f"{source().digest[:12]}-net.pth"
    until(lambda: partial.is_file() and partial.stat().st_size >= 70_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    size = partial.stat().st_size
    fetched, _ = fetch(source(server.url("net.pth")), tmp_path)
    assert fetched.path.read_bytes() == CONTENT and server.requests[-1][1] == f"bytes={size}-"
