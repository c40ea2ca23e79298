"""Tokens, TLS files, and what probes ask for."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError, ServingError
from retinaface_tf.serving.secrets import read_tls, read_token
from tests.helpers.waiting import PATIENCE

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def guarded(run_server, served_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(TOKEN + "\n")
    with run_server(served_folder, auth_token_file=file) as server:
        yield server


def status(server, path, **headers):
    try:
        request = urllib.request.Request(f"http://{server.rest}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        assert "error" in json.load(error)
        return error.code


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_only_those_with_the_token_are_answered(guarded, photos, kind):
    def ask(*header):
        client = RetinaFace.from_endpoint(
            getattr(guarded, kind), protocol=kind, threshold=0.0, metadata=header
        )
        return client.detect(photos[0])

    assert len(ask(("authorization", f"Bearer {TOKEN}")))
    for header in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
        with pytest.raises(ServingError, match="token is missing or wrong"):
            ask(*header)


def test_what_is_open_with_a_token(guarded):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    for path in ("/", "/healthz", "/readyz", "/page/page.js", "/page/style.css"):
        assert status(guarded, path) == 200, path
    closed = ("/v1/models/retinaface", "/monitoring/prometheus/metrics", "/page/model", "/nothing")
    for path in (*closed, "/healthz/../page/model", "//page/model"):
        assert status(guarded, path) == 401, path
    assert status(guarded, closed[0], Authorization=f"Bearer {TOKEN}") == 200
    with grpc.insecure_channel(guarded.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection(iter([b""])))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_server_that_stops_is_alive_and_not_ready(run_server, served_folder):
    with run_server(served_folder) as server:
        assert status(server, "/readyz") == 200
        server.server.core.draining = True
        assert status(server, "/readyz") == 503 and status(server, "/healthz") == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_tls_files_that_do_not_fit_are_named(tmp_path):
    def make(name, *options):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=test"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem", *options),
            ],
            check=True,
            capture_output=True,
            cwd=tmp_path,
        )
        return tmp_path / f"{name}.pem", tmp_path / f"{name}.key"

    certificate, key = make("one", "-nodes")
    assert read_tls(certificate, key) and read_tls(None, None) is None
    locked = make("locked", "-passout", "pass:secret")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8 no PEM")
    for pair, said in [
        ((certificate, None), "Give both"),
        ((tmp_path / "none.pem", key), "Cannot read --tls-certificate .*none.pem: No such file"),
        ((certificate, tmp_path), "Cannot read --tls-key"),
        ((key, certificate), "swap --tls-certificate and --tls-key"),
        ((certificate, locked[1]), "not a PEM certificate and its unencrypted private key"),
        ((locked[0], key), "belong together"),
        ((photo, key), "photo.jpg and .*one.key are not"),
        (locked, "unencrypted"),
    ]:
        with pytest.raises(ConfigError, match=said):
            read_tls(*pair)


def test_token_files_without_a_token_are_named(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read --auth-token-file"):
        read_token(tmp_path / "none")
    for content in (b"", b" \n", b"two words", "é".encode(), b"\xff\x00"):
        (tmp_path / "token").write_bytes(content)
        with pytest.raises(ConfigError, match="one token of printable ASCII"):
            read_token(tmp_path / "token")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_documented_curl_sends_a_photo_of_five_megabytes(server, rng, tmp_path):
    import cv2

    noise = rng.integers(0, 256, (1150, 1500, 3), np.uint8)
    (tmp_path / "photo.jpg").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    assert (tmp_path / "photo.jpg").stat().st_size > 5_000_000
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    command = re.search(r"```sh\n(\{ printf .*?)```", page, re.DOTALL)[1]
    done = subprocess.run(
        ["sh", "-c", command.replace("127.0.0.1:8501", server.rest)],
        capture_output=True,
        cwd=tmp_path,
    )
    (answer,) = json.loads(done.stdout)["predictions"]
    assert answer["status"] == 0
