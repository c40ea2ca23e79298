#!/usr/bin/env python3
"""Sends bad requests to a model server and checks that each gets the right status.

    python serving/fault_test.py --model DIR [--requests 10000]

Starts the local server on a free port, sends damaged images, wrong messages and huge bodies over
gRPC and REST from several callers, kills a caller in the middle of a request, and stops the server
by SIGTERM under load. Ends with 1 if one answer was not the right one.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import grpc
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "serving")]

from load_test import local_server, resident_mb

from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_array, to_message

MESSAGE_LIMIT = 64 << 20  # the server's, as it is started here


class Mutations:
    """Requests and what a server must answer them with.

    Each method gives (kind, message or bytes, accepted gRPC codes, accepted `status` values).
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        x, y = np.meshgrid(np.linspace(0, 255, 120), np.linspace(0, 255, 90))
        image = np.stack([x, y, 255 - x], -1).astype(np.uint8)
        self.files = {
            kind: cv2.imencode(f".{kind}", image)[1].tobytes() for kind in ("jpg", "png", "bmp")
        }
        import io

        from PIL import Image

        stream = io.BytesIO()
        frames = [Image.fromarray(np.roll(image, 9 * i, 1)) for i in range(5)]
        frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
        self.files["gif"] = stream.getvalue()

    def next(self):
        kinds = [
            self.good, self.truncated, self.flipped, self.bomb, self.not_an_image, self.empty,
            self.wrong_dtype, self.wrong_shape, self.wrong_name, self.wrong_model, self.noise,
            self.broken_tensor,
        ]  # fmt: skip
        weights = np.array([2, 4, 4, 2, 1, 1, 1, 1, 0.5, 0.5, 1, 1])
        return kinds[self.rng.choice(len(kinds), p=weights / weights.sum())]()

    def encoded(self):
        return self.files[self.rng.choice(list(self.files))]

    def good(self):
        return "good", predict({"image_bytes": [self.encoded()]}), {"OK"}, {0}

    def truncated(self):
        data = self.files[self.rng.choice(["jpg", "png", "bmp"])]
        cut = data[: self.rng.integers(0, len(data) - 200)]
        return "truncated", predict({"image_bytes": [cut, self.encoded()]}), {"OK"}, {1}

    def flipped(self):
        data = bytearray(self.encoded())
        for place in self.rng.integers(0, len(data), self.rng.integers(1, 40)):
            data[place] = self.rng.integers(256)
        return "flipped bytes", predict({"image_bytes": [bytes(data)]}), {"OK"}, {0, 1, 2}

    def bomb(self):
        import struct
        import zlib

        def chunk(kind, body):
            crc = struct.pack(">I", zlib.crc32(kind + body))
            return struct.pack(">I", len(body)) + kind + body + crc

        side = int(self.rng.integers(20_000, 2**31 - 1))
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, 60_000, 8, 2, 0, 0, 0))
        bodies = chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
        png = b"\x89PNG\r\n\x1a\n" + header + bodies
        frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00"
        gif = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * 500 + b";"
        return "bomb", predict({"image_bytes": [(png, gif)[side % 2]]}), {"OK"}, {2}

    def not_an_image(self):
        data = self.rng.bytes(self.rng.integers(1, 5000))
        return "no image", predict({"image_bytes": [data]}), {"OK"}, {1}

    def empty(self):
        return "empty string", predict({"image_bytes": [b"", self.encoded()]}), {"OK"}, {1}

    def wrong_dtype(self):
        kind = self.rng.choice(["f4", "i8", "?", "f2"])
        if kind == "f4":
            return (
                "wrong dtype",
                predict({"image_bytes": np.zeros(2, kind)}),
                {"INVALID_ARGUMENT"},
                None,
            )
        images = np.zeros((1, 8, 8, 3), kind)
        return (
            "wrong dtype",
            predict({"images": images}, "image_tensor"),
            {"INVALID_ARGUMENT"},
            None,
        )

    def wrong_shape(self):
        shapes = [(8, 8, 3), (1, 8, 8, 4), (1, 0, 8, 3), (2, 1, 8, 8, 3), (), (3,)]
        shape = shapes[self.rng.integers(len(shapes))]
        images = np.zeros(shape, np.uint8)
        return (
            "wrong shape",
            predict({"images": images}, "image_tensor"),
            {"INVALID_ARGUMENT"},
            None,
        )

    def wrong_name(self):
        message = predict({"photo": [b"x"]}, self.rng.choice(["", "no_signature"]))
        return "wrong name", message, {"INVALID_ARGUMENT"}, None

    def wrong_model(self):
        message = predict({"image_bytes": [b"x"]})
        if self.rng.integers(2):
            message.model_spec.version.value = int(self.rng.integers(2, 1 << 40))
        else:
            message.model_spec.name = "another"
        return "wrong model", message, {"NOT_FOUND"}, None

    def noise(self):
        data = bytearray(predict({"image_bytes": [self.files["jpg"]]}).SerializeToString())
        for place in self.rng.integers(0, 60, 3):
            data[place] = self.rng.integers(256)
        return "damaged message", bytes(data), {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, {0, 1, 2}

    def broken_tensor(self):
        message = predict({"image_bytes": [b"x", b"y"]})
        dims = message.inputs["image_bytes"].tensor_shape.dim
        dims[0].size = int(self.rng.choice([-1, 0, 1, 3, 2**62]))
        return "broken tensor", message, {"INVALID_ARGUMENT"}, None


def predict(inputs, signature=""):
    message = protocol.PredictRequest()
    message.model_spec.name = NAME
    message.model_spec.signature_name = str(signature)
    for name, values in inputs.items():
        message.inputs[name].CopyFrom(to_message(values))
    return message


NAME = "retinaface"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batching", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    global NAME
    NAME = options.model.resolve().name
    wrong: list[str] = []
    with local_server(options.model, options.batching, 4, rest=True) as server:
        before = resident_mb(server.pid)
        wrong += mutated(server.target, options)
        print(f"memory {before:.0f} -> {resident_mb(server.pid):.0f} MB", flush=True)
        wrong += large_bodies(server)
        wrong += killed_caller(server.target)
        print(f"memory {resident_mb(server.pid):.0f} MB", flush=True)
        wrong += terminated_under_load(server)
    for line in wrong[:20]:
        print("WRONG:", line)
    print("all answers right" if not wrong else f"{len(wrong)} wrong answers")
    sys.exit(bool(wrong))


def open_channel(target):
    sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(target, sizes)


def ask(method, message, timeout=60):
    """(code, answer) of one request."""
    try:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        return "OK", protocol.PredictResponse.FromString(method(data, timeout=timeout))
    except grpc.RpcError as error:
        return error.code().name, None


def mutated(target: str, options) -> list[str]:
    """The many small requests."""
    wrong, counts, lock = [], collections.Counter(), threading.Lock()

    def call(seed: int, requests: int) -> None:
        mutations = Mutations(seed)
        with open_channel(target) as channel:
            method = channel.unary_unary(f"/{protocol.PREDICTION_SERVICE}/Predict")
            for _ in range(requests):
                kind, message, codes, statuses = mutations.next()
                code, answer = ask(method, message)
                bad = code not in codes
                if code == "OK" and "status" in answer.outputs:
                    bad |= int(to_array(answer.outputs["status"])[0]) not in (statuses or ())
                    # Neighbours in the same request are good images.
                    bad |= bool((to_array(answer.outputs["status"])[1:] != 0).any())
                with lock:
                    counts[kind, code] += 1
                    if bad:
                        wrong.append(
                            f"{kind}: {code} {answer and to_array(answer.outputs['status'])}"
                        )

    started = time.perf_counter()
    callers = 8
    with ThreadPoolExecutor(callers) as pool:
        share = options.requests // callers
        for future in [pool.submit(call, options.seed + i, share) for i in range(callers)]:
            future.result()
    for (kind, code), count in sorted(counts.items()):
        print(f"  {kind:16} {code:18} {count}")
    print(f"{sum(counts.values())} mutated requests in {time.perf_counter() - started:.0f} s")
    return wrong


def large_bodies(server) -> list[str]:
    """100 MB over gRPC and REST, more than the server takes."""
    wrong = []
    huge = bytes(100 << 20)
    with open_channel(server.target) as channel:
        method = channel.unary_unary(f"/{protocol.PREDICTION_SERVICE}/Predict")
        for _ in range(5):
            code, _ = ask(method, predict({"image_bytes": [huge]}))
            if code != "RESOURCE_EXHAUSTED":
                wrong.append(f"100 MB over gRPC: {code}")
    for chunked in (False, True):
        connection = http.client.HTTPConnection(server.rest, timeout=60)
        try:
            body = iter([huge[: 1 << 20]] * 100) if chunked else huge
            connection.request("POST", f"/v1/models/{NAME}:predict", body, encode_chunked=chunked)
            status = connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            status = 413  # it hung up on us while we were still sending
        if status != 413:
            wrong.append(f"100 MB over REST: {status}")
        connection.close()
    print("7 bodies of 100 MB sent")
    return wrong


def killed_caller(target: str) -> list[str]:
    """A process that sends requests and is killed before they are answered."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; import fault_test as f; f.NAME = 'retinaface'\n"
        "m = f.Mutations(0); c = f.open_channel(sys.argv[1])\n"
        "call = c.unary_unary('/tensorflow.serving.PredictionService/Predict')\n"
        "d = f.predict({'image_bytes': [m.encoded()] * 16}).SerializeToString()\n"
        "calls = [call.future(d) for _ in range(20)]; print('sent', flush=True)\n"
        "[c.result() for c in calls]"
    ).replace("'retinaface'", repr(NAME))
    for _ in range(3):
        caller = subprocess.Popen(
            [sys.executable, "-c", code, target, str(REPOSITORY), str(REPOSITORY / "serving")],
            stdout=subprocess.PIPE,
        )
        caller.stdout.readline()
        caller.kill()
        caller.wait()
    with open_channel(target) as channel:
        method = channel.unary_unary(f"/{protocol.PREDICTION_SERVICE}/Predict")
        code, _ = ask(method, Mutations(0).good()[1])
    print("3 callers killed in the middle of 20 requests each")
    return [] if code == "OK" else [f"after killed callers: {code}"]


def terminated_under_load(server) -> list[str]:
    """SIGTERM while 16 callers ask: accepted requests are answered, later ones get UNAVAILABLE."""
    outcomes, lock = collections.Counter(), threading.Lock()
    data = Mutations(0).good()[1]
    with open_channel(server.target) as channel:
        method = channel.unary_unary(f"/{protocol.PREDICTION_SERVICE}/Predict")

        def call() -> None:
            while True:
                code, _ = ask(method, data)
                with lock:
                    outcomes[code] += 1
                if code != "OK":
                    return

        threads = [threading.Thread(target=call, daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        os.kill(server.pid, signal.SIGTERM)
        for thread in threads:
            thread.join(60)
    print("SIGTERM under load:", dict(outcomes), "exit code", server.wait())
    # UNAVAILABLE is the answer to calls that came after the door was shut.
    others = {code: n for code, n in outcomes.items() if code not in ("OK", "UNAVAILABLE")}
    return [f"SIGTERM: {json.dumps(others)}"] if others or server.wait() != 0 else []


if __name__ == "__main__":
    main()
