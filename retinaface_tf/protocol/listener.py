"""What listens at an address: asked when a model server does not answer as it should."""

import re
import socket
import ssl
from typing import Literal, NamedTuple

# Both servers answer this at once. A gRPC server sends its own first frame all the same.
_QUESTION = b"GET /v1/models/retinaface HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n"
_MODEL_SERVER = re.compile(rb'\{\s*"(error|model_version_status)"')
_SETTINGS_FRAME = 4  # HTTP/2 (RFC 9113, 6.5): what a server sends first


class Listener(NamedTuple):
    """Who answers at an address.

    Attributes:
        kind: "grpc"; "rest", of a model server; "http", of anything else; "silent", where nothing
            comes; "other".
        tls: it speaks TLS.
    """

    kind: Literal["grpc", "rest", "http", "silent", "other"]
    tls: bool = False


def find_listener(host: str, port: int, seconds: float) -> Listener | None:
    """What is found at an address, within some seconds a try; None where nothing listens."""
    try:
        answer = _ask(host, port, seconds, tls=False)
        if answer is None:
            return Listener("silent")
        # A TLS server hangs up, or answers with an alert.
        if answer and not answer.startswith(b"\x15\x03"):
            return Listener(_kind(answer))
    except OSError:
        return None
    try:
        return Listener(_kind(_ask(host, port, seconds, tls=True) or b""), tls=True)
    except OSError:
        return Listener("other")


def _ask(host: str, port: int, seconds: float, *, tls: bool) -> bytes | None:
    """The first bytes of the answer, None where nothing comes in time; OSError of the connection."""
    with socket.create_connection((host, port), seconds) as connection:
        if tls:
            context = ssl.create_default_context()
            # Nothing is told to this server, and nothing it says is trusted.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(["h2", "http/1.1"])
            connection = context.wrap_socket(connection, server_hostname=host)
        with connection:
            connection.sendall(_QUESTION)
            answer = b""
            try:
                while len(answer) < 4096 and (part := connection.recv(4096)):
                    answer += part
            except ConnectionError:
                pass
            except TimeoutError:
                return answer or None
            return answer


def _kind(answer: bytes) -> Literal["grpc", "rest", "http", "other"]:
    if answer.startswith(b"HTTP/1"):
        return "rest" if _MODEL_SERVER.search(answer) else "http"
    return "grpc" if answer[3:4] == bytes([_SETTINGS_FRAME]) else "other"
