"""Images at addresses and in data URIs: read as files are, within limits, and never from the own network."""

from __future__ import annotations

import base64
import http.server
import itertools
import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from retinaface_tf import cli
from retinaface_tf.errors import ImageError
from retinaface_tf.images import remote
from retinaface_tf.images.read import colour_profile, read_image
from retinaface_tf.images.remote import RemoteImage, require_public
from retinaface_tf.inference import detector
from tests.helpers.bright_pixel import BrightPixelRuntime, black_image

cli.with_commands()


@pytest.fixture(scope="module")
def png(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("png") / "a.png"
    Image.fromarray(black_image(64, 96, (2, 2))).save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def server(png):
    """An address, and the list of what was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            page = self.path.split("?")[0].lstrip("/")
            if page.startswith("to/"):
                self.send_response(302)
                self.send_header("Location", page.removeprefix("to/").replace("%3A", ":"))
                return self.end_headers()
            if page == "loop":
                self.send_response(301)
                self.send_header("Location", "loop")
                return self.end_headers()
            if page == "missing.png":
                return self.send_error(404, "Not Found")
            self.send_response(200)
            if page == "large":
                self.send_header("Content-Length", str(10**12))
                return self.end_headers()
            if page == "cut":
                self.send_header("Content-Length", str(len(png)))
                self.end_headers()
                return self.wfile.write(png[:50])
            self.end_headers()
            if page == "slow":  # as slow as it never ends
                for value in itertools.cycle(png):
                    self.wfile.write(bytes([value]))
                    if slow.wait(0.02):
                        return None
            return self.wfile.write(b"x" * 5000 if page == "endless" else png)

    slow = threading.Event()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}", asked
    slow.set()
    served.shutdown()
    served.server_close()


def read(address: str) -> np.ndarray:
    return read_image(RemoteImage(address, allow_private=True))


def test_an_image_is_read_from_its_address(server, png):
    address, asked = server
    whole = black_image(64, 96, (2, 2))
    np.testing.assert_array_equal(read(f"{address}/a b.png?size=ü&x=%20"), whole)
    assert asked[-1] == "/a%20b.png?size=%C3%BC&x=%20"
    np.testing.assert_array_equal(read(f"{address}/to//a.png"), whole)
    kept, count = RemoteImage(f"{address}/k.png", allow_private=True).kept(), len(asked)
    assert read_image(kept) is not None and colour_profile(kept) is None
    assert len(asked) == count + 1


@pytest.mark.parametrize(
    "page, said",
    [
        ("missing.png", "the server answers 404 Not Found"),
        ("loop", "more than 5 other addresses"),
        ("to/file%3A///etc/passwd", "file:///etc/passwd is not an http or https address"),
        ("to/https%3A//", "names no host"),
        ("large", "more than 100 MiB"),
        ("cut", "the connection ended before the image did"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(server, page, said):
    with pytest.raises(ImageError, match=f"^Cannot read {server[0]}/{page}: .*{said}.*\\.$"):
        read(f"{server[0]}/{page}")


def test_sizes_and_times_have_limits(server, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST_BYTES", 1000)
    with pytest.raises(ImageError, match="it has more than"):
        read(f"{server[0]}/endless")
    monkeypatch.setattr(remote, "LONGEST_SECONDS", 0.3)
    with pytest.raises(ImageError, match="it took more than 0 seconds"):
        read(f"{server[0]}/slow")


def test_a_host_that_is_not_there_is_said(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ImageError, match=r"the connection failed, [Cc]onnection refused"):
            read(f"http://127.0.0.1:{closed.getsockname()[1]}/a.png")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ImageError, match=r"the host nowhere\.example is not found"):
        read("https://nowhere.example/a.png")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "[::1]", "[::]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "224.0.0.1"),
        *(
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "127.1",
            "2130706433",
            "localhost",
            "u:p@127.0.0.1",
        ),
    ],
)
def test_the_own_network_is_not_asked(monkeypatch, host):
    def no_socket(*_, **__):
        raise AssertionError("a connection was begun")

    monkeypatch.setattr(socket, "socket", no_socket)
    with pytest.raises(ImageError, match=r"own network .*; --allow-private reads from there"):
        read_image(f"http://{host}/a.png")


def test_a_redirect_into_the_own_network_is_not_followed(server, monkeypatch):
    address, asked = server
    first = []

    def public(place):  # the first connection alone
        first.append(place)
        return len(first) == 1

    monkeypatch.setattr(remote, "_is_public", public)
    count = len(asked)
    with pytest.raises(ImageError, match=r"127\.0\.0\.1 is in the own network"):
        read_image(f"{address}/to/{address.replace(':', '%3A')}/a.png")
    assert len(asked) == count + 1 and "to/" in asked[-1]


def test_a_name_that_means_another_host_the_second_time_is_asked_for_once(server, monkeypatch):
    """DNS rebinding: the address that was checked is the one connected to."""
    port, real, calls = int(server[0].rpartition(":")[2]), socket.getaddrinfo, []

    def changing(host, *arguments, **options):
        calls.append(host)
        return real("127.0.0.1" if len(calls) == 1 else "127.0.0.2", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    monkeypatch.setattr(remote, "_is_public", lambda place: place == "127.0.0.1")
    assert read_image(f"http://photos.example:{port}/a.png").shape == (64, 96, 3)
    assert calls == ["photos.example"]


def test_data_uris_are_images(png):
    text = base64.b64encode(png).decode()
    whole = black_image(64, 96, (2, 2))
    for uri in (
        f"data:image/png;base64,{text}",
        f"DATA:;base64,{text.rstrip('=')}",
        f"data:image/png;base64,{text[:40]}\n{text[40:]}",
        "data:image/png," + "".join(f"%{value:02x}" for value in png),
    ):
        np.testing.assert_array_equal(read_image(uri), whole)
    for uri, said in (
        ("data:image/png;base64", "it is not a data URI"),
        ("data:image/png;base64,*", "its base64 is damaged"),
        ("data:image/png;base64,", "it is empty"),
    ):
        with pytest.raises(ImageError, match=f"^Cannot read data:image/png#[0-9a-f]{{12}}: {said}"):
            read_image(uri)


def test_the_command_reads_addresses(server, png, monkeypatch, tmp_path):
    monkeypatch.setattr(detector, "preset_file", lambda *_, **__: "none")
    monkeypatch.setattr(detector, "open_runtime", lambda *_, **__: BrightPixelRuntime())
    monkeypatch.chdir(tmp_path)
    address, asked = server
    names = [
        f"{address}/x/a.png",
        f"{address}/y/a.png",
        f"{address}/photo?id=7",
        f"{address}/..%2f..%2f",
    ]
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    words = [
        "detect",
        *names,
        uri,
        "--draw",
        "d",
        "--crops",
        "c",
        "--coco",
        "c.json",
        "--json",
        "o.jsonl",
    ]
    refused = CliRunner().invoke(cli.app, words)
    assert refused.exit_code == 1 and refused.stderr.count("--allow-private") == 4
    asked.clear()
    done = CliRunner().invoke(cli.app, [*words, "--allow-private", "--overwrite"])
    assert done.exit_code == 0, done.output
    assert len(asked) == 4  # each once, though drawn and cropped
    entries = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert [entry["image"] for entry in entries[:4]] == names
    assert entries[4]["image"].startswith("data:image/png#")
    assert [entry["drawn"] for entry in entries[:4]] == [
        "d/a.png",
        "d/a_2.png",
        "d/photo.png",
        "d/image.png",
    ]
    assert len({face["crop"] for entry in entries for face in entry["faces"]}) == 5
    assert sorted(path.parent.name for path in Path().rglob("*.png")) == ["c"] * 5 + ["d"] * 5


def test_readers_that_connect_by_themselves_are_kept_from_the_own_network():
    for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1"):
        with pytest.raises(ImageError, match="--allow-private"):
            require_public(f"http://{host}:8080/film.mp4")
    with pytest.raises(ImageError, match="is not found"):
        require_public("http://no-such-host.invalid/film.mp4")
    require_public("http://9.9.9.9/film.mp4")  # a number is asked of nobody
