#!/usr/bin/env python3
"""Attacks a local model server while a good client asks: its latencies and the server's memory.

    python benchmarks/attacks.py --model DIR [--turns 3] [--seconds 5] [--only NAME ...] [--json FILE]

Starts `retinaface-tf serve` once. For each attack, in turns: the good client alone, then under attack;
then the memory once the attacks are over. Latencies of all turns are taken together, and given as
ratios to the quiet ones; memory as a ratio to that before the first turn. The good client has an address
of its own (127.0.0.2); attackers have 127.0.0.1, and a process of their own at a lower priority, since
real ones would not take the server's processors.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import multiprocessing
import os
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import cv2
import grpc
import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "serving")]

from load_test import local_server, resident_mb

from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_message
from retinaface_tf.util.files import write_whole

GOOD_ADDRESS = "127.0.0.2"
SHOWN = ("attack", "quiet_ms", "during_ms", "failed", "asked", "mb")  # on the terminal
PREDICT = f"/{protocol.PREDICTION_SERVICE}/Predict"


class Signals(NamedTuple):
    """Between an attack's process and the one that measures."""

    begun: Event
    stop: Event


Attack = Callable[["Target", Signals], None]


class Target:
    """The server as an attacker sees it."""

    def __init__(self, server, model: str):
        self.grpc, self.rest, self.path = server.target, server.rest, f"/v1/models/{model}:predict"
        self.model = model

    def call(self, channel, files: list[bytes], timeout: float = 60):
        """A call under way; its message holds these files."""
        message = protocol.PredictRequest()
        message.model_spec.name = self.model
        message.inputs["image_bytes"].CopyFrom(to_message(files))
        return channel.unary_unary(PREDICT).future(message.SerializeToString(), timeout=timeout)

    def channel(self):
        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(self.grpc, [*sizes, ("grpc.use_local_subchannel_pool", 1)])

    def connect(self, data: bytes) -> socket.socket:
        host, port = self.rest.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)), 10)
        connection.sendall(data)
        return connection


def sending(files: Callable[[], list[bytes]], callers: int = 4) -> Attack:
    """Callers that send these files again and again."""

    def attack(target: Target, signals: Signals) -> None:
        many = files()
        signals.begun.set()

        def ask() -> None:
            with target.channel() as channel:
                while not signals.stop.is_set():
                    with suppress(grpc.RpcError):
                        target.call(channel, many).result()

        together(ask, callers)

    return attack


def holding(data: Callable[[], bytes], count: int, each: Callable | None = None) -> Attack:
    """Connections that send this and then next to nothing; opened again when they are closed."""

    def attack(target: Target, signals: Signals) -> None:
        stop = signals.stop
        signals.begun.set()
        head = data().replace(b"PATH", target.path.encode())
        held: list[socket.socket] = []
        while not stop.is_set():
            alive = []
            for one in held:
                with suppress(OSError):
                    one.sendall(b"a")
                    alive.append(one)
            held = alive
            while len(held) < count and not stop.is_set():
                try:
                    held.append(target.connect(head))
                except OSError:
                    break
            stop.wait(1)
        for one in held:
            one.close()

    return attack


def together(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def gif_of_small_blocks(size: int) -> bytes:
    """A GIF whose picture comes in blocks of one byte."""
    head = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 64, 64, 0) + b"\x02"
    return head + frame + b"\x01\x04" * (size // 2) + b"\x00;"


def deep_png() -> bytes:
    """As many pixels of 16 bits as the server takes, in under a megabyte."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    width, height = 7000, 7000
    row = zlib.compress(bytes(height * (1 + width * 8)), 9)
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


def jpeg_of_many_scans(scans: int = 4000) -> bytes:
    """A progressive JPEG whose last scan, empty but for its table, stands there again and again."""
    stream = io.BytesIO()
    blank = Image.fromarray(np.full((4000, 4000), 128, np.uint8))
    blank.save(stream, "JPEG", progressive=True, quality=10)
    data = stream.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def large_photo() -> bytes:
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(image, (4000, 3000)))[1].tobytes()


def many_calls(target: Target, signals: Signals) -> None:
    """5,000 calls at once on a channel, again and again."""
    photo = small_photo()
    signals.begun.set()
    with target.channel() as channel:
        while not signals.stop.is_set():
            calls = [target.call(channel, [photo]) for _ in range(5000)]
            reasons = {
                call.exception() is None or bool(call.exception().details()) for call in calls
            }
            assert reasons == {True}
            names = {call.code().name for call in calls}
            assert "CANCELLED" not in names, names


def half_messages(target: Target, signals: Signals) -> None:
    """200 calls whose message never comes."""
    stop = signals.stop
    signals.begun.set()

    def nothing():
        stop.wait()
        yield b""

    while not stop.is_set():
        with target.channel() as one, target.channel() as other:
            calls = [c.stream_unary(PREDICT).future(nothing()) for c in (one, other) * 100]
            for call in calls:
                while not call.done() and not stop.is_set():
                    time.sleep(0.05)


def json_of_lists(target: Target, signals: Signals) -> None:
    """Bodies of tens of millions of tiny lists."""
    body = b'{"signature_name": "image_tensor", "instances": [' + b"[]," * 10_000_000 + b"[]]}"
    signals.begun.set()

    def ask() -> None:
        while not signals.stop.is_set():
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(target.rest, timeout=60)
                connection.request("POST", target.path, body)
                connection.getresponse().read()

    together(ask, 2)


HEAD = b"POST PATH HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n"
ATTACKS: dict[str, Attack] = {
    "gif-97kB": sending(lambda: [gif_of_small_blocks(97_000)]),
    "gif-10MB": sending(lambda: [gif_of_small_blocks(10_000_000)]),
    "rows-1500": sending(lambda: [b"x"] * 1500),
    "rows-32-broken": sending(lambda: [b"x"] * 32),
    "png-16-bit": sending(lambda: [deep_png()]),
    "jpeg-scans": sending(lambda: [jpeg_of_many_scans()]),
    "photos-32-large": sending(lambda: [large_photo()] * 32),
    "held-bodies": holding(lambda: HEAD + b"\r\n{", 9),
    "slow-heads-1000": holding(lambda: HEAD, 1000),
    "calls-5000": many_calls,
    "half-messages": half_messages,
    "json-of-lists": json_of_lists,
}


def small_photo() -> bytes:
    image = np.random.default_rng(2).integers(0, 256, (30, 45, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.resize(image, (450, 300)))[1].tobytes()


class GoodClient:
    """Asks for one photo at a time over REST, a pause between; remembers how long each took."""

    def __init__(self, target: Target, pause: float = 0.05):
        self._target, self._pause = target, pause
        row = {"b64": base64.b64encode(small_photo()).decode()}
        self._body = json.dumps({"instances": [row]})

    def ask(self, seconds: float) -> tuple[np.ndarray, int]:
        """(seconds of each answer, how many requests failed)."""
        times, failed, end = [], 0, time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                connection = http.client.HTTPConnection(
                    self._target.rest, timeout=120, source_address=(GOOD_ADDRESS, 0)
                )
                connection.request("POST", self._target.path, self._body)
                failed += connection.getresponse().status != 200
                connection.close()
            except OSError:
                failed += 1
            times.append(time.monotonic() - started)
            time.sleep(self._pause)
        return np.array(times), failed


def attack(name: str, target: Target, signals: Signals) -> None:
    """What the attackers' process does."""
    os.nice(5)
    ATTACKS[name](target, signals)


@contextmanager
def under(name: str, target: Target):
    context = multiprocessing.get_context("spawn")
    signals = Signals(context.Event(), context.Event())
    process = context.Process(target=attack, args=(name, target, signals))
    process.start()
    signals.begun.wait()
    try:
        yield
    finally:
        signals.stop.set()
        process.join()


class Memory:
    """What a process has resident, in MB, from the start on.

    Attributes:
        curve: (seconds, MB), five times a second while the block runs.
    """

    def __init__(self, pid: int):
        self._pid, self._end, self._started = pid, threading.Event(), time.monotonic()
        self.curve: list[tuple[float, float]] = []

    @property
    def now(self) -> float:
        self.curve.append(
            (round(time.monotonic() - self._started, 1), round(resident_mb(self._pid)))
        )
        return self.curve[-1][1]

    def __enter__(self):
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            _ = self.now

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def measure(name: str, target: Target, good: GoodClient, pid: int, options) -> dict:
    """One attack's row."""
    with Memory(pid) as memory:
        before, quiet, during, failed, parts = memory.now, [], [], 0, []
        for _ in range(options.turns):
            quiet.append(good.ask(options.seconds)[0])
            begun = memory.curve[-1][0]
            with under(name, target):
                time.sleep(1)
                times, wrong = good.ask(options.seconds)
            parts.append((begun, memory.curve[-1][0]))
            during.append(times)
            failed += wrong
        time.sleep(options.rest)
        after = memory.now
    calm, loud = (np.percentile(np.concatenate(t), [50, 99]) * 1000 for t in (quiet, during))
    return {
        "attack": name,
        "quiet_ms": calm.round(1).tolist(),
        "during_ms": loud.round(1).tolist(),
        "failed": failed,
        "asked": sum(map(len, during)),
        "mb": [before, max(mb for _, mb in memory.curve), after],
        "attacked": parts,
        "curve": memory.curve,
    }


def draw(rows: list[dict], path: Path) -> None:
    """The memory of one row after the other, the attacks marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    start = 0.0
    for row in rows:
        seconds, megabytes = np.array(row["curve"]).T
        axes.plot(start + seconds, megabytes, color="tab:blue", linewidth=1)
        for begin, end in row["attacked"]:
            axes.axvspan(start + begin, start + end, color="tab:red", alpha=0.2, linewidth=0)
        axes.text(start + 1, 40, row["attack"], rotation=90, fontsize=8, va="bottom")
        start += seconds[-1]
    axes.set(
        xlabel="seconds (red: under attack)", ylabel="memory of the server, MB", xlim=(0, start)
    )
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3, help="quiet and attacked")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn's two halves")
    parser.add_argument("--rest", type=float, default=8.0, help="seconds after the last turn")
    parser.add_argument("--only", nargs="*", choices=[*ATTACKS], default=[*ATTACKS])
    parser.add_argument("--json", type=Path, help="rows go here, in place of those of their names")
    parser.add_argument("--draw", type=Path, help="the memory of all rows as a picture")
    options = parser.parse_args()
    rows = {}
    if options.json and options.json.exists():
        rows = {row["attack"]: row for row in json.loads(options.json.read_text())}
    with local_server(options.model, None, 0, rest=True) as server:
        target = Target(server, options.model.resolve().name)
        good = GoodClient(target)
        good.ask(10)
        for name in options.only:
            rows[name] = measure(name, target, good, server.pid, options)
            print({key: rows[name][key] for key in SHOWN}, flush=True)
            if options.json:
                write_whole(options.json, json.dumps([*rows.values()]) + "\n")
    if options.draw:
        draw([*rows.values()], options.draw)


if __name__ == "__main__":
    main()
