"""Callers that hold what they do not use: each is let go in time, and nobody else waits for it."""

import json
import socket
import threading
import time
import urllib.request

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")

from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_message
from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.core import Limits

SECONDS = 1.0
HEAD = b"POST /v1/models/retinaface:predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def hurried(run_server, served_folder):
    """A server that waits a second for its callers, and holds little."""
    limits = Limits(read_seconds=SECONDS, pending_bytes=128 << 20, pending_requests=40)
    with run_server(served_folder, limits=limits) as server:
        yield server


def connect(server, data, source="127.0.0.1"):
    host, port = server.rest.split(":")
    connection = socket.create_connection((host, int(port)), 20, source_address=(source, 0))
    connection.sendall(data)
    return connection


def read_all(connection):
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_one_address_never_gets_everything():
    budget = Budget(100, floor=10)
    taken = 0
    while budget.take("a"):
        taken += 1
    assert taken == 50 and budget.take("b") and not budget.take("c", 60)
    while budget.take("b"):
        taken += 1
    assert taken == 50 + 24 and budget.take("c", 10)
    budget.give_back("a", 50)
    assert budget.used == 35 and budget.take("a", 30) and not Budget(4, floor=9).take("a", 5)


def test_connections_without_a_whole_head_or_body_are_closed(hurried):
    slow = [connect(hurried, HEAD[:20]), connect(hurried, b"")]
    body = connect(hurried, HEAD + b"Content-Length: 60000000\r\n\r\n{")
    chunked = connect(hurried, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    assert all(read_all(one) == b"" for one in slow)
    for one in (body, chunked):
        answer = read_all(one)
        assert b" 408 " in answer and b"did not arrive within 1 s" in answer


def test_announced_bodies_hold_nothing(hurried):
    held = [connect(hurried, HEAD + b"Content-Length: 60000000\r\n\r\n{") for _ in range(9)]
    with urllib.request.urlopen(f"http://{hurried.rest}/v1/models/retinaface") as answer:
        assert "AVAILABLE" in answer.read().decode()
    assert hurried.server.core._bytes.used <= 9
    refused = connect(hurried, HEAD + b"Content-Length: 2\r\n\r\n{}")
    assert b" 400 " in refused.recv(4096)  # read and understood: not refused for the others
    for one in (*held, refused):
        one.close()


def test_a_thousand_slow_connections_are_closed_while_another_address_is_answered(hurried):
    slow = [connect(hurried, b"GET / HT", "127.0.0.2") for _ in range(1000)]
    with urllib.request.urlopen(f"http://{hurried.rest}/v1/models/retinaface") as answer:
        assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"
    assert all(read_all(one) == b"" for one in slow)
    with urllib.request.urlopen(f"http://{hurried.rest}/v1/models/retinaface") as answer:
        assert answer.status == 200


def test_a_message_that_never_ends_is_given_up_and_others_are_answered(hurried, photos):
    """Half-sent calls of one connection, as raw HTTP/2 would hold them: a stream that sends nothing."""
    silence = threading.Event()

    def nothing():
        silence.wait(20)
        yield b""

    message = protocol.PredictRequest()
    message.model_spec.name = "retinaface"
    message.inputs["image_bytes"].CopyFrom(to_message([photos[0]]))
    path = "/tensorflow.serving.PredictionService/Predict"
    with grpc.insecure_channel(hurried.grpc) as channel:
        calls = [channel.stream_unary(path).future(nothing()) for _ in range(30)]
        time.sleep(0.2)
        with pytest.raises(grpc.RpcError) as caught:
            calls[0].result(timeout=20)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        codes = {call.exception(timeout=20).code().name for call in calls}
        assert codes <= {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        silence.set()
        assert channel.unary_unary(path)(message.SerializeToString(), timeout=60)


def test_many_calls_at_once_all_get_a_reason(hurried, photos):
    """More than the server takes at a time: some are answered, the others are told why not."""
    message = protocol.GetModelStatusRequest()
    message.model_spec.name = "retinaface"
    with grpc.insecure_channel(hurried.grpc) as channel:
        method = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        calls = [method.future(message.SerializeToString()) for _ in range(1000)]
        errors = [call.exception(timeout=60) for call in calls]
    codes = {error.code().name if error else "OK" for error in errors}
    assert "OK" in codes and codes <= {"OK", "RESOURCE_EXHAUSTED"}
    assert all(error.details() for error in errors if error)
