#!/usr/bin/env python3
"""Measures a model server: throughput, latencies, memory, lost requests.

Two ways to use it:

    python serving/load_test.py --model DIR [--batching serving/config/batching_cpu.txt]
        starts the local server twice, without and with batching, and measures both;

    python serving/load_test.py --target HOST:PORT --model-name NAME
        measures a server that runs already, TF-Serving for one.

With --minutes it sends at a steady --rate instead of as fast as it can and watches the server's
memory. Everything stays on the addresses given.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from retinaface_tf.errors import RetinaFaceError
from retinaface_tf.protocol.client import EndpointOptions, connect


def main() -> None:
    options = read_options()
    images = load_images(options.images)
    results = []
    if options.target:
        results.append(measure(options.target, options.model_name, images, options, pid=None))
    else:
        name = options.model.resolve().name
        for batching in [None, *options.batching]:
            with local_server(options.model, batching, options.run_threads) as server:
                result = measure(server.target, name, images, options, server.pid)
                result["batching"] = str(batching) if batching else "off"
                results.append(result)
                show(result)
    if options.target:
        show(results[0])
    elif len(results) > 1:
        ratios = [r["per_second"] / results[0]["per_second"] for r in results[1:]]
        print("batching / no batching:", ", ".join(f"{ratio:.2f}" for ratio in ratios))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    sys.exit(1 if any(r["lost"] or r["failed"] for r in results) else 0)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path, help="folder of a model; local servers are started")
    what.add_argument("--target", help="HOST:PORT (gRPC) of a server that runs already")
    parser.add_argument("--model-name", default="retinaface", help="with --target")
    parser.add_argument(
        "--batching", type=Path, action="append", default=[], help="batching parameters to compare"
    )
    parser.add_argument("--images", type=Path, help="folder of photos; else synthetic ones")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--minutes", type=float, help="length of a steady run")
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second, with --minutes")
    parser.add_argument("--run-threads", type=int, default=4, help="of the server without batching")
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def load_images(folder: Path | None) -> list[bytes]:
    """Up to 64 files of a folder, or images made here."""
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))
        if not files:
            sys.exit(f"{folder} holds no JPEG files.")
        return [p.read_bytes() for p in files[:: max(1, len(files) // 64)][:64]]
    import cv2

    rng = np.random.default_rng(7)
    images = []
    for width, height in ((640, 480), (480, 640), (800, 600), (450, 300)):
        small = rng.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
        smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        images.append(cv2.imencode(".jpg", smooth)[1].tobytes())
    return images


class LocalServer(NamedTuple):
    """A server started here.

    Attributes:
        target, rest: "host:port" of gRPC and REST.
        pid: of its process.
        wait: returns its exit code once it has ended.
    """

    target: str
    rest: str | None
    pid: int
    wait: Callable[[], int]


@contextmanager
def local_server(
    model: Path, batching: Path | None, run_threads: int, rest: bool = False, more: tuple = ()
):
    """`retinaface-tf serve` in a process of its own, on free ports of the loopback."""
    command = [sys.executable, "-c", "from retinaface_tf.cli import main; main()", "serve"]
    command += ["--model", str(model), "--port", "0", "--rest-port", "0" if rest else "-1"]
    command += ["--run-threads", str(run_threads), *more]
    if batching:
        command += ["--batching", str(batching)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        line = server.stdout.readline()
        found = re.search(r"gRPC ([\d.]+:\d+)(?:.*REST http://(\S+))?", line)
        if not found:
            sys.exit(f"The server did not start: {line!r}")
        yield LocalServer(found[1], found[2], server.pid, lambda: server.wait(60))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def measure(target, model, images, options, pid) -> dict:
    """Sends requests from many callers; each has one under way at a time."""
    client = connect(target, model, options=EndpointOptions(timeout=options.timeout, retries=0))
    client.predict({"image_bytes": images[:1]})
    work: queue.Queue = queue.Queue(maxsize=options.callers)
    latencies: list[float] = []
    failures: list[str] = []
    lock = threading.Lock()

    def call() -> None:
        while True:
            data = work.get()
            if data is None:
                return
            started = time.perf_counter()
            try:
                answer = client.predict({"image_bytes": [data]})
                wrong = None if answer["status"][0] == 0 else "status"
            except RetinaFaceError as error:
                wrong = str(error)
            with lock:
                if wrong:
                    failures.append(wrong)
                else:
                    latencies.append(time.perf_counter() - started)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(options.callers)]
    for caller in callers:
        caller.start()
    memory = [(0.0, resident_mb(pid))]
    cpu = cpu_seconds(pid)
    started = time.perf_counter()
    sent = 0
    if options.minutes:
        end = started + 60 * options.minutes
        while (now := time.perf_counter()) < end:
            work.put(images[sent % len(images)])
            sent += 1
            if now - started > 15 * len(memory):
                memory.append((round(now - started), resident_mb(pid)))
                print(memory[-1], file=sys.stderr, flush=True)
            time.sleep(max(0.0, started + sent / options.rate - time.perf_counter()))
    else:
        for sent in range(1, options.requests + 1):
            work.put(images[sent % len(images)])
    for _ in callers:
        work.put(None)
    for caller in callers:
        caller.join(options.timeout + 5)
    seconds = time.perf_counter() - started
    memory.append((round(seconds), resident_mb(pid)))
    times = np.sort(latencies) * 1e3 if latencies else np.array([np.nan])
    return {
        "target": target,
        "callers": options.callers,
        "sent": sent,
        "answered": len(latencies),
        "failed": len(failures),
        "first_failures": failures[:3],
        "lost": sent - len(latencies) - len(failures),
        "seconds": round(seconds, 2),
        "per_second": round(len(latencies) / seconds, 2),
        "p50_ms": round(float(np.percentile(times, 50)), 1),
        "p90_ms": round(float(np.percentile(times, 90)), 1),
        "p99_ms": round(float(np.percentile(times, 99)), 1),
        "server_cpu_seconds": round(cpu_seconds(pid) - cpu, 1) if pid else None,
        "memory_mb": memory,
    }


def resident_mb(pid: int | None) -> float | None:
    """The server's resident memory; Linux only, None elsewhere or for a server not started here."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def cpu_seconds(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(result: dict) -> None:
    memory = [m for _, m in result["memory_mb"] if m]
    print(
        f"batching {result.get('batching', '?')}: {result['answered']} of {result['sent']} answered, "
        f"{result['failed']} failed, {result['lost']} lost, in {result['seconds']} s: "
        f"{result['per_second']} a second, p50 {result['p50_ms']} ms, p90 {result['p90_ms']} ms, "
        f"p99 {result['p99_ms']} ms"
        + (f", server CPU {result['server_cpu_seconds']} s" if memory else "")
        + (
            f", memory {memory[0]:.0f} -> {memory[-1]:.0f} MB (most {max(memory):.0f})"
            if memory
            else ""
        ),
        flush=True,
    )
    for failure in result["first_failures"]:
        print("  failed:", failure)


if __name__ == "__main__":
    main()
