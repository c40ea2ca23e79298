"""Clients of a model server over gRPC or REST, without TensorFlow."""

import base64
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

import numpy as np

from retinaface_tf.errors import ConfigError, ServingError
from retinaface_tf.protocol.listener import find_listener
from retinaface_tf.util.bounds import read_whole
from retinaface_tf.util.extras import require
from retinaface_tf.util.per_process import PerProcess

T = TypeVar("T")
Inputs = Mapping[str, Any]  # name -> array, or list of bytes
# A server that is there takes a connection, and answers a small question, within this many seconds.
CONNECT_SECONDS = 5.0


class EndpointKeywords(TypedDict, total=False):
    """Any of `EndpointOptions` by keyword."""

    protocol: Literal["grpc", "rest"]
    timeout: float
    retries: int
    backoff: float
    max_message_bytes: int
    tls: bool
    root_certificates: str | Path | None
    client_certificate: str | Path | None
    client_key: str | Path | None
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """How a server is reached.

    Attributes:
        protocol: "grpc" or "rest".
        timeout: seconds a request may take, all tries and waits together.
        retries: further tries when the server is away or overloaded. Detection changes nothing on
            the server, so another try is safe; a request that timed out or is wrong in itself is
            not sent again.
        backoff: seconds before the first new try; doubled each time, half of it random.
        max_message_bytes: largest request and answer; gRPC's own limit for answers is 4 MiB.
        tls: use TLS, with the certificates below or the machine's own.
        root_certificates: PEM file of the authorities that may sign the server's certificate.
        client_certificate, client_key: PEM files to prove who the client is.
        metadata: (name, value) pairs sent along, such as ("authorization", "Bearer ...").
    """

    protocol: Literal["grpc", "rest"] = "grpc"
    timeout: float = 60.0
    retries: int = 3
    backoff: float = 0.2
    max_message_bytes: int = 64 << 20
    tls: bool = False
    root_certificates: str | Path | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.protocol not in ("grpc", "rest"):
            raise ConfigError(f"protocol={self.protocol!r} must be grpc or rest.")
        if self.timeout <= 0 or self.backoff < 0 or self.retries < 0:
            raise ConfigError("timeout must be positive, backoff and retries not negative.")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigError("Give both client_certificate and client_key, or neither.")


class RefusedError(ServingError):
    """The server refuses this request; it may well answer others, or fewer images at once."""


class _Retriable(ServingError):
    """The server did not take the request: another try is safe."""


class _Away(_Retriable):
    """The connection failed: nobody is there, or someone else; `details` are the library's words."""

    def __init__(self, target: str, details: str):
        super().__init__(
            f"No server answers at {target} ({details}); start one, or check address, port and TLS."
        )
        self.details = details


class Client(PerProcess):
    """Asks one model on one server; threads may share it, and copies connect anew. See `connect`."""

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        options: EndpointOptions = EndpointOptions(),
    ):
        self.target, self.model, self._options = target, model, options
        self._version, self._label = version, label
        self._forget()
        self._open()

    def predict(
        self, inputs: Inputs, signature: str = "serving_default", outputs: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` names those wanted, all if empty.

        Raises:
            ServingError: the server is away, refuses, or does not have the model.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connection."""

    def _open(self) -> None:
        """Makes everything ready to ask, at first use in a process; nothing is sent."""
        raise NotImplementedError

    def _try(self, attempt: Callable[[float], T]) -> T:
        """`attempt(seconds left)` until it works, the tries are used up, or the time is."""
        options = self._options
        deadline = time.monotonic() + options.timeout
        for number in count():
            try:
                return attempt(max(0.001, deadline - time.monotonic()))
            except _Retriable as failure:
                pause = options.backoff * 2**number * random.uniform(0.5, 1)
                if number == options.retries or time.monotonic() + pause >= deadline:
                    message = self._explain(failure) if isinstance(failure, _Away) else str(failure)
                    raise ServingError(message) from failure.__cause__
                time.sleep(pause)

    def _explain(self, failure: _Away) -> str:
        """One sentence on a connection that failed, by what is found at the address."""
        host, port = self._address()
        found = find_listener(host, port, min(CONNECT_SECONDS, self._options.timeout))
        other = {"grpc": "rest", "rest": "grpc"}[self._options.protocol]
        remedy = {
            "rest": "give --rest (protocol='rest'), or the gRPC port, by default 8500",
            "grpc": "leave out --rest (protocol='grpc'), or give the REST port, by default 8501",
        }
        if found is None:
            return str(failure)
        if found.kind == "silent":
            return (
                f"Something at {self.target} takes connections and answers nothing, so it is no "
                "model server; check address and port."
            )
        if found.kind in ("http", "other"):
            kind = "an HTTP server" if found.kind == "http" else "a server"
            return f"At {self.target} is {kind} of another kind; check address and port."
        if found.tls and not self._options.tls:
            return f"The server {self.target} speaks TLS; give --tls or --tls-root (tls=True)."
        if found.kind == other:
            name = {"grpc": "gRPC", "rest": "REST"}[other]
            return f"The server {self.target} speaks {name} there; {remedy[other]}."
        if self._options.tls and not found.tls:
            return f"The server {self.target} does not speak TLS; leave out --tls and --tls-root."
        if "certificate" in failure.details.lower():
            return (
                f"The certificate of {self.target} is not trusted ({failure.details}); give the "
                "PEM file of the authority that signed it as --tls-root (root_certificates)."
            )
        return str(failure)

    def _address(self) -> tuple[str, int]:
        host, _, port = self.target.rpartition(":")
        return host.strip("[]"), int(port)

    def _away(self, details: str) -> _Away:
        return _Away(self.target, details)

    def _overloaded(self, details: str) -> _Retriable:
        return _Retriable(f"The server {self.target} is overloaded ({details}); send less.")

    def _late(self) -> ServingError:
        return ServingError(
            f"The server {self.target} did not answer within {self._options.timeout:g} s; send "
            "fewer or smaller images at once, or raise the timeout."
        )

    def _refused(self, reason: object, details: str) -> RefusedError:
        return RefusedError(f"The server {self.target} refused ({reason}): {details}.")

    def _too_large(self, details: str) -> RefusedError:
        return RefusedError(
            f"A message between here and {self.target} is too large ({details}); send "
            "smaller images or fewer at once, or raise max_message_bytes here and the server's limit."
        )

    def _not_found(self, details: str) -> ServingError:
        return ServingError(
            f"The server {self.target} does not have model {self.model!r} as asked: {details}."
        )


def connect(
    target: str,
    model: str,
    *,
    version: int | None = None,
    label: str | None = None,
    options: EndpointOptions = EndpointOptions(),
) -> Client:
    """A client for "host:port"; nothing is sent yet.

    Raises:
        ConfigError: the target is not understood, or version and label are both given.
        ServingError: a package or a certificate is missing.
    """
    if version is not None and label is not None:
        raise ConfigError("Give a version or a label, not both.")
    host, _, port = target.rpartition(":")
    if "//" in target or not host or not port.isdigit():
        raise ConfigError(f"Server {target!r} is not understood: give HOST:PORT.")
    kind = GrpcClient if options.protocol == "grpc" else RestClient
    return kind(target, model, version, label, options)


class GrpcClient(Client):
    """PredictionService over gRPC."""

    _own = ("_lock", "_grpc", "_protocol", "_spec", "_channel", "_predict")

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._grpc = self._protocol = self._spec = self._channel = self._predict = None

    def _open(self) -> None:
        with self._lock:
            if self._channel is None:
                self._connect()

    def _connect(self) -> None:
        require("client", for_="Talking to a server")
        import grpc

        from retinaface_tf.protocol import messages as protocol

        self._grpc, self._protocol, options = grpc, protocol, self._options
        self._spec = protocol.ModelSpec(name=self.model)
        if self._version is not None:
            self._spec.version.value = self._version
        if self._label is not None:
            self._spec.version_label = self._label
        arguments = [
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_send_message_length", options.max_message_bytes),
            # Tries again are ours, with our own deadline.
            ("grpc.enable_retries", 0),
            # In spite of its name also how long a connection may take; gRPC's own choice is 20 s.
            ("grpc.min_reconnect_backoff_ms", int(1000 * CONNECT_SECONDS)),
        ]
        if options.tls:
            files = (options.root_certificates, options.client_key, options.client_certificate)
            credentials = grpc.ssl_channel_credentials(*map(_read_pem, files))
            self._channel = grpc.secure_channel(self.target, credentials, arguments)
        else:
            self._channel = grpc.insecure_channel(self.target, arguments)
        self._predict = self._channel.unary_unary(
            f"/{protocol.PREDICTION_SERVICE}/Predict",
            request_serializer=protocol.PredictRequest.SerializeToString,
            response_deserializer=protocol.PredictResponse.FromString,
        )

    def predict(self, inputs, signature="serving_default", outputs=()) -> dict[str, np.ndarray]:
        """See `Client`."""
        from retinaface_tf.protocol.tensors import to_array, to_message

        self._open()
        request = self._protocol.PredictRequest(output_filter=outputs)
        request.model_spec.CopyFrom(self._spec)
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(to_message(values))

        def attempt(seconds: float):
            try:
                return self._predict(request, timeout=seconds, metadata=self._options.metadata)
            except self._grpc.RpcError as error:
                raise self._translate(error) from error

        response = self._try(attempt)
        return {name: to_array(value) for name, value in response.outputs.items()}

    def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            self._channel.close()

    def _translate(self, error) -> Exception:
        code, details = error.code(), (error.details() or "").strip().rstrip(".")
        details = details.rpartition("last error: ")[2]
        codes = self._grpc.StatusCode
        # A server that is being stopped cancels the calls that it has not begun.
        if code in (codes.UNAVAILABLE, codes.CANCELLED):
            return self._away(details)
        if code == codes.DEADLINE_EXCEEDED:
            return self._late()
        if code == codes.RESOURCE_EXHAUSTED:
            limits = ("larger than max", "larger than the limit", "the limit is")
            if any(text in details for text in limits):
                return self._too_large(details)
            return self._overloaded(details)
        if code == codes.NOT_FOUND:
            return self._not_found(details)
        if code == codes.UNIMPLEMENTED:
            return ServingError(
                f"{self.target} is a gRPC server, but not TF-Serving's; check address and port."
            )
        if code in (codes.INVALID_ARGUMENT, codes.INTERNAL, codes.OUT_OF_RANGE, codes.UNKNOWN):
            return self._refused(code.name, details)
        return ServingError(f"The server {self.target} refused ({code.name}): {details}.")


class RestClient(Client):
    """TF-Serving's REST interface; it always sends every output."""

    _own = ("_opener", "_url", "_greeted")

    def _forget(self) -> None:
        self._opener = self._url = None
        self._greeted = False

    def _open(self) -> None:
        if self._opener is not None:
            return
        place = "" if self._version is None else f"/versions/{self._version}"
        if self._label is not None:
            place = f"/labels/{_quote(self._label)}"
        scheme = "https" if self._options.tls else "http"
        self._url = f"{scheme}://{self.target}/v1/models/{_quote(self.model)}{place}"
        handlers: list = [urllib.request.ProxyHandler({})]
        if self._options.tls:
            handlers.append(urllib.request.HTTPSHandler(context=_ssl_context(self._options)))
        self._opener = urllib.request.build_opener(*handlers)

    def predict(self, inputs, signature="serving_default", outputs=()) -> dict[str, np.ndarray]:
        """See `Client`."""
        self._open()
        columns = {
            name: [{"b64": base64.b64encode(value).decode()} for value in values]
            if isinstance(values, list)
            else values.tolist()
            for name, values in inputs.items()
        }
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        if len(body) > self._options.max_message_bytes:
            raise self._too_large(f"{len(body):,} bytes")
        headers = {"Content-Type": "application/json", **dict(self._options.metadata)}

        request = urllib.request.Request(f"{self._url}:predict", body, headers)

        def attempt(seconds: float) -> bytes:
            if not self._greeted:
                self._greet(headers, min(CONNECT_SECONDS, seconds))
            try:
                return self._send(request, seconds)
            except urllib.error.HTTPError as error:
                raise self._translate(error) from error
            except TimeoutError as error:
                raise self._late() from error

        kinds = dict.fromkeys(("num_faces", "status", "truncated"), np.int32)
        try:
            return {
                name: np.asarray(values, kinds.get(name, np.float32))
                for name, values in json.loads(self._try(attempt))["outputs"].items()
                if not outputs or name in outputs
            }
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise self._other_server("an answer that is not TF-Serving's") from error

    def _greet(self, headers: dict[str, str], seconds: float) -> None:
        """A small question, which shows within seconds whether a server is there at all."""
        try:
            self._send(urllib.request.Request(self._url, headers=headers), seconds)
        except urllib.error.HTTPError:
            pass  # a server all the same
        except TimeoutError as error:
            raise ServingError(self._explain(self._away("nothing comes"))) from error
        self._greeted = True

    def _send(self, request: urllib.request.Request, seconds: float) -> bytes:
        """The answer's body; raises `_Away` where the connection fails, TimeoutError and HTTPError."""
        try:
            with self._opener.open(request, timeout=seconds) as response:
                return self._read(response)
        except (urllib.error.HTTPError, TimeoutError):
            raise
        except http.client.HTTPException as error:
            raise self._away("no HTTP comes back") from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise reason from None
            raise self._away(str(reason)) from error

    def _read(self, response) -> bytes:
        limit = self._options.max_message_bytes
        data = response.read(limit + 1)
        if len(data) > limit:
            raise self._too_large(f"the answer has over {limit:,} bytes")
        return data

    def _translate(self, error: urllib.error.HTTPError) -> Exception:
        known = {404: self._not_found, 413: self._too_large, 429: self._overloaded}
        known |= {502: self._away, 503: self._away}
        status, text = error.code, _error_text(error)
        if text is None and status not in known.keys() - {404} | {504}:
            return self._other_server(f"HTTP {status}")
        details = text or error.reason
        if status in known:
            return known[status](details)
        if status == 504:
            return self._late()
        if status in (400, 500):
            return self._refused(f"HTTP {status}", details)
        return ServingError(f"The server {self.target} refused (HTTP {status}): {details}.")

    def _other_server(self, answer: str) -> ServingError:
        return ServingError(
            f"At {self.target} is an HTTP server that is not a model server ({answer}); check address "
            "and port."
        )


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _error_text(error: urllib.error.HTTPError) -> str | None:
    """What a model server says of an error; None where something else answered."""
    try:
        return str(json.loads(error.read(10_000))["error"]).strip().rstrip(".")[:500]
    except (ValueError, LookupError, TypeError, OSError, http.client.HTTPException):
        return None


def _read_pem(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    return read_whole(path, limit=1 << 20, error=ServingError)


def _ssl_context(options: EndpointOptions):
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.root_certificates)
        if options.client_certificate is not None:
            context.load_cert_chain(options.client_certificate, options.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(f"A certificate cannot be used: {error}.") from None
    return context
