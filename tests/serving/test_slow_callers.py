"""Callers that hold what they do not use: each is let go in time, and nobody else waits for it."""

import contextlib
import json
import socket
import threading
import urllib.request
from dataclasses import replace

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")

from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_message
from retinaface_tf.serving.budget import Budget
from retinaface_tf.serving.core import Limits
from retinaface_tf.serving.request_error import RequestError
from tests.helpers.waiting import PATIENCE, until

HEAD = b"POST /v1/models/retinaface:predict HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def hurried(run_server, served_folder):
    """A server that waits a second for its callers, and holds little."""
    limits = Limits(read_seconds=1.0, pending_bytes=128 << 20, pending_requests=40)
    with run_server(served_folder, limits=limits) as server:
        yield server


@pytest.fixture
def patient(hurried, monkeypatch):
    """The same, which waits for messages of gRPC as long as they take."""
    core = hurried.server.core
    limits = replace(core.limits, read_seconds=PATIENCE)
    return lambda: monkeypatch.setattr(core, "limits", limits)


def connect(server, data, source="127.0.0.1"):
    host, port = server.rest.split(":")
    connection = socket.create_connection((host, int(port)), PATIENCE, source_address=(source, 0))
    with contextlib.suppress(ConnectionError):  # closed already
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
    assert all(read_all(one) == b"" for one in slow)
    for begun in (
        b"Content-Length: 60000000\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ):
        # Nothing comes where this process took a second to send the head.
        answers = (read_all(connect(hurried, HEAD + begun)) for _ in range(9))
        answer = next(filter(None, answers))
        assert b" 408 " in answer and b"did not arrive within 1 s" in answer


def test_announced_bodies_hold_nothing(server):
    assert server.server.core.limits.pending_bytes < 9 * 60_000_000
    held = [connect(server, HEAD + b"Content-Length: 60000000\r\n\r\n{") for _ in range(9)]
    until(lambda: server.server.core._bytes.used == 9)
    refused = connect(server, HEAD + b"Content-Length: 2\r\n\r\n{}")
    assert b" 400 " in refused.recv(4096)  # read and understood: not refused for the others
    for one in (*held, refused):
        one.close()


def test_a_request_is_counted_once_what_it_held_is_free(server):
    """Memory goes back after a count has changed: one that changed before would leave the last request's."""
    core = server.server.core
    with core.admit("203.0.113.1"):
        before = core.answered
    assert core.answered == before + 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(RequestError("no", "NOT_FOUND"), "NOT_FOUND"), (KeyError("no"), "INTERNAL")],
)
def test_no_error_is_its_own_cause_and_so_keeps_its_request(server, error, code):
    with pytest.raises(RequestError) as seen, server.server.core.answering("predict", "gRPC"):
        raise error
    assert seen.value.code == code and seen.value.__cause__ is not seen.value


def state(server):
    with urllib.request.urlopen(f"http://{server.rest}/v1/models/retinaface") as answer:
        return json.load(answer)["model_version_status"][0]["state"]


def test_a_thousand_slow_connections_keep_no_other_address_out(server):
    slow = [connect(server, b"GET / HT", "127.0.0.2") for _ in range(1000)]
    assert state(server) == "AVAILABLE"
    for one in slow:
        one.close()


def test_a_thousand_slow_connections_are_closed(hurried):
    slow = [connect(hurried, b"GET / HT", "127.0.0.2") for _ in range(1000)]
    assert all(read_all(one) == b"" for one in slow)


def test_a_message_that_never_ends_is_given_up_and_others_are_answered(hurried, patient, photos):
    """Half-sent calls of one connection, as raw HTTP/2 would hold them: a stream that sends nothing."""
    silence = threading.Event()

    def nothing():
        silence.wait(PATIENCE)
        yield b""

    message = protocol.PredictRequest()
    message.model_spec.name = "retinaface"
    message.inputs["image_bytes"].CopyFrom(to_message([photos[0]]))
    path = "/tensorflow.serving.PredictionService/Predict"
    with grpc.insecure_channel(hurried.grpc) as channel:
        calls = [channel.stream_unary(path).future(nothing()) for _ in range(30)]
        codes = {call.exception(timeout=PATIENCE).code().name for call in calls}
        assert "DEADLINE_EXCEEDED" in codes <= {"DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
        silence.set()
        patient()
        assert channel.unary_unary(path)(message.SerializeToString(), timeout=PATIENCE)


def test_many_calls_at_once_all_get_a_reason(hurried, patient):
    """More than the server takes at a time: some are answered, the others are told why not."""
    message = protocol.GetModelStatusRequest()
    message.model_spec.name = "retinaface"
    patient()
    with grpc.insecure_channel(hurried.grpc) as channel:
        method = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        calls = [method.future(message.SerializeToString()) for _ in range(1000)]
        errors = [call.exception(timeout=PATIENCE) for call in calls]
    codes = {error.code().name if error else "OK" for error in errors}
    assert "OK" in codes and codes <= {"OK", "RESOURCE_EXHAUSTED"}
    assert all(error.details() for error in errors if error)
