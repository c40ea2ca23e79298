"""The local server through its own doors: answers, refusals, reloads, the end."""

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError, ImageError, ServingError
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.client import EndpointOptions, connect
from retinaface_tf.protocol.tensors import to_message
from retinaface_tf.serving.batching import BatchingParameters
from retinaface_tf.serving.core import Limits
from retinaface_tf.serving.request_error import RequestError
from tests.helpers.waiting import PATIENCE, until

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = EndpointOptions(retries=0, timeout=PATIENCE)


def post(server, body, path="/v1/models/retinaface:predict"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.rest}{path}", data)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(server, path):
    try:
        with urllib.request.urlopen(f"http://{server.rest}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_the_client_gives_the_librarys_faces(server, network, threshold, photos, kind):
    expected = RetinaFace(KerasRuntime(network), threshold=threshold)
    remote = RetinaFace.from_endpoint(
        getattr(server, kind), protocol=kind, threshold=0.0, metadata=(("x-test", "1"),)
    )
    for ours, theirs in zip(expected.detect(photos), remote.detect(photos, batch_size=3)):
        assert ours.image_size == theirs.image_size and len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=0.05)
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=2e-5)


def test_images_that_the_server_cannot_decode_are_decoded_here(server, astronaut, photos):
    import cv2

    webp = cv2.imencode(".webp", astronaut, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    remote = RetinaFace.from_endpoint(server.grpc, threshold=0.0)
    as_webp, as_array = remote.detect([webp, astronaut[..., ::-1]])
    np.testing.assert_array_equal(as_webp.boxes, as_array.boxes)
    answers = remote.detect([photos[0], b"junk", photos[0][:2000]], on_error="return")
    assert len(answers[0]) and all(isinstance(a, ImageError) for a in answers[1:])


def test_settings_fixed_at_export_are_refused_and_others_apply(server, photos):
    remote = RetinaFace.from_endpoint(server.grpc, threshold=0.0)
    faces = remote.detect(photos[0])
    middle = float(faces.scores[len(faces) // 2])
    assert len(remote.detect(photos[0], threshold=middle)) == (faces.scores >= middle).sum()
    assert len(remote.detect(photos[0], max_faces=2)) == 2
    with pytest.raises(ConfigError, match="fixed when"):
        remote.detect(photos[0], size=640)
    with pytest.raises(ConfigError, match="colour"):
        RetinaFace.from_endpoint(server.grpc, colour=1)
    with pytest.raises(ConfigError, match="HOST:PORT"):
        RetinaFace.from_endpoint("http://somewhere")


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_errors_of_the_client_name_the_remedy(server, photos, kind):
    def ask(target=None, model="retinaface", **options):
        picked = {k: options.pop(k) for k in ("version", "label") if k in options}
        options = EndpointOptions(protocol=kind, retries=1, backoff=0.01, **options)
        client = connect(target or getattr(server, kind), model, options=options, **picked)
        client.predict({"image_bytes": photos[:1]})

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ServingError, match=r"No server answers .* start one"):
            ask(f"127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(ServingError, match="does not have model 'other'"):
        ask(model="other")
    with pytest.raises(ServingError, match="no version 9; available: 1"):
        ask(version=9)
    with pytest.raises(ServingError, match="No version is labelled 'canary'"):
        ask(label="canary")
    with pytest.raises(ServingError, match="too large"):
        ask(max_message_bytes=5000)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ServingError, match=r"not answer within 0.3 s|answers nothing"):
            ask(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)


def call(server, message, method="PredictionService/Predict"):
    """Raw bytes over gRPC; the status code's name."""
    with grpc.insecure_channel(server.grpc, [("grpc.max_send_message_length", -1)]) as channel:
        try:
            channel.unary_unary(f"/tensorflow.serving.{method}")(
                message if isinstance(message, bytes) else message.SerializeToString(),
                timeout=PATIENCE,
            )
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def request(inputs, signature="", model="retinaface", outputs=()):
    message = protocol.PredictRequest(output_filter=outputs)
    message.model_spec.name, message.model_spec.signature_name = model, signature
    for name, values in inputs.items():
        message.inputs[name].CopyFrom(to_message(values))
    return message


def test_wrong_requests_get_the_right_status(server, photos):
    good = {"image_bytes": photos[:1]}
    image = np.zeros((1, 32, 32, 3), np.uint8)
    assert call(server, request(good)) == "OK"
    assert call(server, request(good, outputs=("scores",))) == "OK"
    assert call(server, request({"images": image}, "image_tensor")) == "OK"
    wrong = [
        b"\xff\xff not a message",
        request({}),
        request({"image": photos[:1]}),
        request(good, "no_such_signature"),
        request(good, outputs=("no_such_output",)),
        request({"image_bytes": np.zeros(3, np.float32)}),
        request({"images": image.astype(np.float32)}, "image_tensor"),
        request({"images": image[0]}, "image_tensor"),
        request({"images": image[..., :1]}, "image_tensor"),
        request({"images": image[:, :0]}, "image_tensor"),
    ]
    for message in wrong:
        assert call(server, message) == "INVALID_ARGUMENT"
    assert call(server, request(good, model="other")) == "NOT_FOUND"
    assert call(server, b"", "PredictionService/Classify") == "UNIMPLEMENTED"
    assert call(server, request({"image_bytes": [bytes(70 << 20)]})) == "RESOURCE_EXHAUSTED"


def test_rest_speaks_rows_and_columns(server, photos):
    rows = [{"image_bytes": b64(data)} for data in photos[:2]]
    status, by_row = post(server, {"instances": rows})
    assert status == 200 and len(by_row["predictions"]) == 2
    status, bare = post(server, {"instances": [b64(data) for data in photos[:2]]})
    assert bare == by_row
    status, by_column = post(server, {"inputs": {"image_bytes": [b64(p) for p in photos[:2]]}})
    assert by_column["outputs"]["boxes"][1] == by_row["predictions"][1]["boxes"]
    pixels = np.full((1, 32, 40, 3), 9).tolist()
    status, answer = post(server, {"signature_name": "image_tensor", "instances": pixels})
    assert status == 200 and answer["predictions"][0]["status"] == 0


@pytest.mark.parametrize(
    "body, status",
    [
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        ({"instances": []}, 400),
        ({"instances": [{"image": "x"}]}, 400),
        ({"instances": [{"b64": "no base64!"}]}, 400),
        ({"instances": [3]}, 400),
        ({"inputs": {"image_bytes": "text"}}, 400),
        ({"instances": [], "inputs": []}, 400),
        ({"signature_name": "image_tensor", "instances": [[[[1, 2, 3.5]]]]}, 400),
        ({"signature_name": "image_tensor", "instances": [[[[1, 2, 300]]]]}, 400),
        ({"signature_name": "image_tensor", "instances": [[[[1, 2]]], [[[1]]]]}, 400),
        ({"signature_name": "none", "instances": [b64(b"")]}, 400),
        (b"[" * 100_000, 400),
    ],
)
def test_wrong_bodies_are_told_what_is_wrong(server, body, status):
    code, answer = post(server, body)
    assert code == status and answer["error"]


def test_rest_tells_of_models_and_counts(server, photos):
    assert post(server, {"instances": [b64(photos[0])]})[0] == 200
    assert '"AVAILABLE"' in get(server, "/v1/models/retinaface")[1]
    assert '"DT_STRING"' in get(server, "/v1/models/retinaface/versions/1/metadata")[1]
    for path in ("/v1/models/x", "/v1/models/retinaface/versions/3", "/nothing", "/page/no.js"):
        assert get(server, path)[0] == 404
    status, text = get(server, "/monitoring/prometheus/metrics")
    assert ':tensorflow:serving:request_count{model_name="retinaface",status="OK"}' in text
    count = re.search(
        r'^:tensorflow:serving:request_latency_count\{API="predict",entrypoint="REST",'
        r'model_name="retinaface"\} ([\d.]+)$',
        text,
        re.MULTILINE,
    )
    assert float(count[1]) >= 1
    status, page = get(server, "/")
    assert status == 200 and "://" not in page.replace("http://www.w3.org", "")


def test_health_status_and_metadata_over_grpc(server):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "retinaface", "tensorflow.serving.PredictionService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        ask = protocol.GetModelMetadataRequest(metadata_field=["signature_def"])
        ask.model_spec.name = "retinaface"
        answer = protocol.GetModelMetadataResponse.FromString(
            channel.unary_unary("/tensorflow.serving.PredictionService/GetModelMetadata")(
                ask.SerializeToString()
            )
        )
        found = protocol.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
        assert "boxes" in found.signature_def["serving_default"].outputs
        status = protocol.GetModelStatusRequest()
        status.model_spec.name = "retinaface"
        answer = protocol.GetModelStatusResponse.FromString(
            channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")(
                status.SerializeToString()
            )
        )
        assert [v.version for v in answer.model_version_status] == [1]


def callers(server, photos, count=6):
    """Threads that send requests until stopped; returns (stop, answers, failures)."""
    stop, answers, failures = threading.Event(), [], []

    def ask():
        client = connect(server.grpc, "retinaface", options=QUICK)
        while not stop.is_set():
            try:
                answers.append(client.predict({"image_bytes": photos[1:2]})["num_faces"][0])
            except ServingError as error:
                failures.append(str(error))
                return

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()

    def finish():
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)

    return finish, answers, failures


@contextlib.contextmanager
def busy(server):
    """Until the block ends, a server answers no prediction."""
    executor, gate = server.server.core._executor, threading.Event()
    for _ in range(executor._max_workers):
        executor.submit(gate.wait, PATIENCE)
    try:
        yield
    finally:
        gate.set()


def test_new_and_broken_versions_under_load_fail_no_request(
    run_server, served_folder, photos, tmp_path
):
    folder = tmp_path / "retinaface"
    shutil.copytree(served_folder, folder)
    batching = BatchingParameters(max_batch_size=8, num_batch_threads=2)
    with run_server(folder, poll_seconds=0.1, batching=batching) as server:
        repository = server.server.repository
        finish, answers, failures = callers(server, photos)
        shutil.copytree(folder / "1", tmp_path / "2")
        (tmp_path / "2").rename(folder / "2")
        until(lambda: repository.available == [2])
        (tmp_path / "3").mkdir()
        (tmp_path / "3" / "saved_model.pb").write_bytes(b"\x08\x01 broken")
        (tmp_path / "3").rename(folder / "3")
        until(lambda: 3 in repository.statuses and repository.statuses[3].error)
        seen = len(answers)
        until(lambda: len(answers) > seen + 10)
        finish()
        assert not failures and repository.available == [2]
        until(lambda: repository.statuses[1].state == "END")
        assert '"state": "END"' in get(server, "/v1/models/retinaface")[1]


def test_stopping_under_load_answers_every_request_taken_in(run_server, served_folder, photos):
    batching = BatchingParameters(max_batch_size=4, num_batch_threads=1)
    with run_server(served_folder, batching=batching) as server:
        finish, answers, failures = callers(server, photos, 12)
        until(lambda: len(answers) > 12)
    taken = server.server.metrics._requests
    finish()
    assert set(taken) <= {"OK", "UNAVAILABLE"} and taken["OK"] == len(answers)
    # Later requests were refused at once.
    assert all("No server answers" in text for text in failures)


def test_more_than_the_server_holds_is_refused_not_stored(run_server, served_folder, photos):
    limits = Limits(request_bytes=1 << 20, pending_bytes=3 * len(photos[0]), pending_requests=2)
    with run_server(served_folder, limits=limits) as server:
        client = connect(server.grpc, "retinaface", options=QUICK)
        outcomes = []

        def ask():
            try:
                client.predict({"image_bytes": [photos[0]]})
                outcomes.append("OK")
            except ServingError as error:
                outcomes.append(str(error))

        first, *threads = [threading.Thread(target=ask) for _ in range(12)]
        with busy(server):
            first.start()
            until(lambda: server.server.core._requests.used == 1)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(outcomes) == 11 and all("overloaded" in said for said in outcomes)
        first.join()
        assert outcomes[-1] == "OK"
        code, answer = post(server, {"instances": [b64(bytes(2 << 20))]})
        assert code == 413 and "limit" in answer["error"]
        until(lambda: server.server.core._requests.used == 0)
        assert server.server.core._bytes.used == 0


def test_a_body_too_large_is_413_whether_it_says_so_or_not(server):
    core = server.server.core
    too_many = core.limits.request_bytes + 1
    for announced, comes in ((too_many, 0), (0, too_many)):
        with pytest.raises(RequestError) as refused, core.admit("a", announced) as arrived:
            arrived(comes)
        assert (refused.value.code, refused.value.http) == ("RESOURCE_EXHAUSTED", 413)


def test_requests_of_many_images_are_refused_and_our_client_sends_fewer(server, photos):
    many = [b"x"] * 33
    assert call(server, request({"image_bytes": many})) == "INVALID_ARGUMENT"
    code, answer = post(server, {"instances": [b64(one) for one in many]})
    assert code == 400 and "33 images; the limit is 32" in answer["error"]
    assert call(server, request({"image_bytes": many[1:]})) == "OK"
    remote = RetinaFace.from_endpoint(server.grpc, threshold=0.0)
    answers = remote.detect([photos[1], *many], batch_size=40, on_error="return")
    assert len(answers[0]) and all(isinstance(a, ImageError) for a in answers[1:])


def test_images_larger_than_the_model_takes_are_shrunk_as_they_are_here(
    server, network, threshold, photos
):
    import cv2

    from retinaface_tf.images.read import read_image

    wide = cv2.resize(read_image(photos[0]), (6400, 700))  # the model takes 4 million pixels
    data = cv2.imencode(".jpg", wide[..., ::-1])[1].tobytes()
    remote = RetinaFace.from_endpoint(server.grpc, threshold=0.0)
    expected = RetinaFace(KerasRuntime(network), threshold=threshold).detect(data)
    faces, small = remote.detect([data, photos[1]])
    assert faces.image_size == (700, 6400) and len(faces) == len(expected) > 0 and len(small)
    np.testing.assert_allclose(faces.boxes, expected.boxes, atol=0.05)


def test_a_caller_that_vanishes_leaves_nothing_behind(server, photos):
    channel = grpc.insecure_channel(server.grpc)
    method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    message = request({"image_bytes": photos * 3}).SerializeToString()
    with busy(server):
        calls = [method.future(message) for _ in range(5)]
        until(lambda: server.server.core._requests.used == 5)
        for one in calls[:3]:
            one.cancel()
        channel.close()
        until(lambda: server.server.core._requests.used == 0)
    assert call(server, request({"image_bytes": photos[:1]})) == "OK"


def test_the_graph_stops_when_time_is_up(server, run_server, served_folder, rng):
    import cv2

    wide = cv2.resize(rng.integers(0, 256, (19, 20, 3), np.uint8), (2000, 1900))
    slow = [cv2.imencode(".jpg", wide)[1].tobytes()] * 32
    until(lambda: not server.server.core._batcher._running)  # of tests before
    answered = server.server.metrics._rows.total
    with grpc.insecure_channel(server.grpc) as channel:
        method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as caught:
            method(request({"image_bytes": slow}).SerializeToString(), timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: not server.server.core._batcher._running)
    assert server.server.metrics._rows.total == answered
    with run_server(served_folder, limits=Limits(run_seconds=0.3)) as hurried:
        code, answer = post(hurried, {"instances": [b64(one) for one in slow]})
    assert code == 504 and "longer than 0.3 s; send fewer" in answer["error"]


def test_folders_that_cannot_be_served_are_named(run_server, tmp_path, served_folder):
    from retinaface_tf.serving.server import Server, ServerOptions

    with pytest.raises(ConfigError, match="no model folder"):
        Server(ServerOptions(folder=tmp_path / "none"))
    with pytest.raises(ConfigError, match="single version"):
        Server(ServerOptions(folder=served_folder / "1"))
    with pytest.raises(ServingError, match="No version"), run_server(tmp_path):
        pass


CLI = """
import sys
from retinaface_tf.cli import main
try:
    main()
finally:
    assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def test_the_command_line_asks_a_server_without_tensorflow(server, photos, tmp_path):
    (tmp_path / "good.jpg").write_bytes(photos[0])
    (tmp_path / "bad.jpg").write_bytes(photos[0][:500])

    def detect(*options):
        command = [sys.executable, "-c", CLI, "detect", "good.jpg", "bad.jpg", "--json", "-"]
        return subprocess.run(
            [*command, "--threshold", "0", *options],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    run = detect("--server", server.grpc, "--header", "x-who: test")
    assert run.returncode == 1, run.stderr
    good, bad = map(json.loads, run.stdout.splitlines())
    assert good["faces"] and (good["width"], good["height"]) == (512, 512)
    assert "Cannot read bad.jpg" in bad["error"]
    run = detect("--server", server.grpc, "--size", "300")
    assert run.returncode == 1 and "fixed in the model" in run.stderr


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_what_a_server_refuses_and_its_end_cost_the_run_no_more(
    run_server, served_folder, photos, rng, tmp_path, monkeypatch, kind
):
    from retinaface_tf import cli

    cli.with_commands()
    noise = rng.integers(0, 256, (800, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "0.png")
    for number, photo in enumerate(photos, start=1):
        (tmp_path / f"{number}.jpg").write_bytes(photo)
    monkeypatch.chdir(tmp_path)

    def detect(*words):
        command = ["detect", *words, "--json", "o.jsonl", "--threshold", "0", "--server"]
        command += [getattr(server, kind), *["--rest"] * (kind == "rest")]
        end = CliRunner().invoke(cli.app, command)
        return end, [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]

    with run_server(served_folder, limits=Limits(request_bytes=1 << 20)) as server:
        end, lines = detect("0.png", "1.jpg", "2.jpg")
    assert end.exit_code == 1
    assert [line["image"] for line in lines] == ["0.png", "1.jpg", "2.jpg"]
    assert "too large" in lines[0]["error"] and lines[1]["faces"] and lines[2]["faces"]
    end, lines = detect("0.png", "1.jpg", "2.jpg", "3.jpg", "--resume")
    assert "No server answers" in str(end.exception) and "--resume goes on" in end.stderr
    assert len(lines) == 3
