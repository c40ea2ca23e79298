"""Something else than the expected server at an address: one sentence with the remedy, and soon."""

import http.server
import shutil
import socket
import socketserver
import subprocess
import threading

import pytest

from retinaface_tf.errors import ServingError
from retinaface_tf.protocol import client as client_module
from retinaface_tf.protocol.client import EndpointOptions, connect

pytest.importorskip("grpc_health")
pytest.importorskip("aiohttp")


def refusal(address, protocol, **options):
    """What a client says there."""
    options = EndpointOptions(protocol=protocol, backoff=0.01, retries=1, **options)
    client = connect(address, "retinaface", options=options)
    with pytest.raises(ServingError) as caught:
        client.predict({"image_bytes": [b""]})
    client.close()
    return str(caught.value)


@pytest.fixture
def listen():
    """Starts a socket server with a handler; its address."""
    servers = []

    def start(handler):
        servers.append(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler))
        servers[-1].daemon_threads = True
        threading.Thread(target=servers[-1].serve_forever, args=[0.05], daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_other_protocols_port(server):
    assert "speaks REST there; give --rest" in refusal(server.rest, "grpc")
    assert "speaks gRPC there; leave out --rest" in refusal(server.grpc, "rest")


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_other_servers(listen, protocol):
    class Banner(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            self.request.recv(1000)

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    assert "a server of another kind" in refusal(listen(Banner), protocol)
    assert "check address and port" in (said := refusal(listen(Files), protocol)) and "HTTP" in said


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_what_takes_connections_and_says_nothing_is_not_waited_for(listen, protocol, monkeypatch):
    class Silent(socketserver.BaseRequestHandler):
        def handle(self):
            while self.request.recv(1000):
                pass

    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 0.3)
    # Not "did not answer within 60 s", which a request may take.
    assert "answers nothing" in refusal(listen(Silent), protocol)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_closed_port(protocol):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        said = refusal(f"127.0.0.1:{free.getsockname()[1]}", protocol)
    assert "No server answers" in said and "start one" in said


@pytest.fixture(scope="module")
def secure(run_server, served_folder, tmp_path_factory):
    """A server with TLS, and the certificate's file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-keyout",
                "key.pem",
                "-out",
                "cert.pem",
                "-days",
                "2",
                "-subj",
                "/CN=test",
            ),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    files = folder / "cert.pem", folder / "key.pem"
    with run_server(served_folder, tls_certificate=files[0], tls_key=files[1]) as running:
        yield running, files[0]


@pytest.mark.parametrize("protocol, other", [("grpc", "rest"), ("rest", "grpc")])
def test_tls_that_one_side_alone_speaks(secure, server, photos, protocol, other):
    running, certificate = secure
    address = getattr(running, protocol)
    assert "speaks TLS; give --tls" in refusal(address, protocol)
    assert "not trusted" in (said := refusal(address, protocol, tls=True)) and "--tls-root" in said
    trusting = {"tls": True, "root_certificates": certificate}
    assert "--rest" in refusal(getattr(running, other), protocol, **trusting)
    assert "does not speak TLS" in refusal(getattr(server, protocol), protocol, tls=True)
    client = connect(address, "retinaface", options=EndpointOptions(protocol=protocol, **trusting))
    assert client.predict({"image_bytes": photos[:1]})["status"].tolist() == [0]
