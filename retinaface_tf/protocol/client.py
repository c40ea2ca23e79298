"""Clients of a model server over gRPC or REST, without TensorFlow."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from retinaface_tf.errors import ConfigError, ServingError

Inputs = Mapping[str, Any]  # name -> array, or list of bytes


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """How a server is reached.

    Attributes:
        protocol: "grpc" or "rest".
        timeout: seconds a request may take, tries and waits together.
        retries: further tries when the server is away or turns requests away for now. Searching
            an image changes nothing, so trying again is safe; a request whose time ran out or
            that is wrong in itself is not sent again.
        backoff: seconds before the first new try; doubled each time, half of it left to chance.
        max_message_bytes: largest request and answer; gRPC's own limit for answers is 4 MiB.
        tls: speak TLS; with the certificates below or the machine's own.
        root_certificates: PEM file of who may vouch for the server.
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
    metadata: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self):
        if self.protocol not in ("grpc", "rest"):
            raise ConfigError(f"protocol={self.protocol!r} must be grpc or rest.")
        if self.timeout <= 0 or self.backoff < 0 or self.retries < 0:
            raise ConfigError("timeout must be positive, backoff and retries not negative.")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ConfigError("Give both client_certificate and client_key, or neither.")


class Client(Protocol):
    """Asks one model on one server."""

    def predict(
        self, inputs: Inputs, signature: str = "serving_default", outputs: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Runs a signature; `outputs` names those wanted, all if empty.

        Raises:
            ServingError: the server is away, refuses, or has not the model.
        """
        ...

    def close(self) -> None:
        """Hangs up."""
        ...


class _Retriable(Exception):
    """The server did not take the request; the message is for the case that it never does."""


class _Tries:
    """Tries something until it works, the tries are used up, or the time is."""

    def __init__(self, options: EndpointOptions):
        self._options = options

    def run(self, attempt):
        """`attempt(seconds left)`, which raises `_Retriable` where another try is safe."""
        options = self._options
        deadline = time.monotonic() + options.timeout
        for number in range(options.retries + 1):
            try:
                return attempt(max(0.001, deadline - time.monotonic()))
            except _Retriable as failure:
                pause = options.backoff * 2**number * random.uniform(0.5, 1)
                late = time.monotonic() + pause >= deadline
                if number == options.retries or late:
                    raise ServingError(str(failure)) from failure.__cause__
                time.sleep(pause)
        raise AssertionError("unreachable")


def connect(
    target: str,
    model: str,
    *,
    version: int | None = None,
    label: str | None = None,
    options: EndpointOptions | None = None,
) -> Client:
    """A client for "host:port"; nothing is sent yet.

    Raises:
        ConfigError: the target is not understood, or version and label are both given.
        ServingError: a package or a certificate is missing.
    """
    options = options or EndpointOptions()
    if version is not None and label is not None:
        raise ConfigError("Give a version or a label, not both.")
    host, _, port = target.rpartition(":")
    if "//" in target or not host or not port.isdigit():
        raise ConfigError(f"Server {target!r} is not understood: give HOST:PORT.")
    kind = GrpcClient if options.protocol == "grpc" else RestClient
    return kind(target, model, version, label, options)


class GrpcClient:
    """PredictionService over gRPC; see `connect`. Threads may share it."""

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None,
        label: str | None,
        options: EndpointOptions,
    ):
        try:
            import grpc

            from retinaface_tf.protocol import messages as protocol
        except ImportError as error:
            raise ServingError(
                f"Talking to a server needs {error.name}: pip install 'retinaface-tf[serving]'."
            ) from error
        self._grpc, self._protocol = grpc, protocol
        self.target, self.model, self._options = target, model, options
        self._spec = protocol.ModelSpec(name=model)
        if version is not None:
            self._spec.version.value = version
        if label is not None:
            self._spec.version_label = label
        self._tries = _Tries(options)
        arguments = [
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.max_send_message_length", options.max_message_bytes),
            # Tries again are ours, with our own deadline.
            ("grpc.enable_retries", 0),
        ]
        if options.tls:
            credentials = grpc.ssl_channel_credentials(
                *(
                    _read_pem(path)
                    for path in (
                        options.root_certificates,
                        options.client_key,
                        options.client_certificate,
                    )
                )
            )
            self._channel = grpc.secure_channel(target, credentials, arguments)
        else:
            self._channel = grpc.insecure_channel(target, arguments)
        self._predict = self._channel.unary_unary(
            f"/{protocol.PREDICTION_SERVICE}/Predict",
            request_serializer=protocol.PredictRequest.SerializeToString,
            response_deserializer=protocol.PredictResponse.FromString,
        )

    def predict(self, inputs, signature="serving_default", outputs=()) -> dict[str, np.ndarray]:
        """See `Client`."""
        from retinaface_tf.protocol.tensors import to_array, to_message

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

        response = self._tries.run(attempt)
        return {name: to_array(value) for name, value in response.outputs.items()}

    def close(self) -> None:
        """Hangs up."""
        self._channel.close()

    def _translate(self, error) -> Exception:
        code, details = error.code(), (error.details() or "").strip().rstrip(".")
        codes = self._grpc.StatusCode
        # A server that is being stopped cancels calls it has not looked at.
        if code in (codes.UNAVAILABLE, codes.CANCELLED):
            return _Retriable(_away(self.target, details))
        if code == codes.DEADLINE_EXCEEDED:
            return ServingError(_late(self.target, self._options.timeout))
        if code == codes.RESOURCE_EXHAUSTED:
            if "larger than max" in details or "larger than the limit" in details:
                return ServingError(_too_large(self.target, details))
            if "the limit is" in details:
                return ServingError(_too_large(self.target, details))
            return _Retriable(f"The server {self.target} is overloaded ({details}); send less.")
        if code == codes.NOT_FOUND:
            return ServingError(_not_found(self.target, self.model, details))
        if code == codes.UNIMPLEMENTED:
            return ServingError(f"{self.target} is a gRPC server, but not TF-Serving's.")
        return ServingError(f"The server {self.target} refused ({code.name}): {details}.")


class RestClient:
    """TF-Serving's REST interface; see `connect`. Threads may share it."""

    def __init__(
        self,
        target: str,
        model: str,
        version: int | None,
        label: str | None,
        options: EndpointOptions,
    ):
        self.target, self.model, self._options = target, model, options
        place = ""
        if version is not None:
            place = f"/versions/{version}"
        if label is not None:
            place = f"/labels/{urllib.parse.quote(label, safe='')}"
        scheme = "https" if options.tls else "http"
        quoted = urllib.parse.quote(model, safe="")
        self._url = f"{scheme}://{target}/v1/models/{quoted}{place}:predict"
        self._tries = _Tries(options)
        handlers: list = [urllib.request.ProxyHandler({})]
        if options.tls:
            handlers.append(urllib.request.HTTPSHandler(context=_ssl_context(options)))
        self._opener = urllib.request.build_opener(*handlers)
        self._lock = threading.Lock()

    def predict(self, inputs, signature="serving_default", outputs=()) -> dict[str, np.ndarray]:
        """See `Client`; REST always sends every output."""
        columns = {
            name: [{"b64": base64.b64encode(value).decode()} for value in values]
            if isinstance(values, list)
            else values.tolist()
            for name, values in inputs.items()
        }
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        if len(body) > self._options.max_message_bytes:
            raise ServingError(_too_large(self.target, f"{len(body):,} bytes"))
        headers = {"Content-Type": "application/json", **dict(self._options.metadata)}

        def attempt(seconds: float) -> bytes:
            request = urllib.request.Request(self._url, body, headers)
            try:
                with self._opener.open(request, timeout=seconds) as response:
                    return self._read(response)
            except urllib.error.HTTPError as error:
                raise self._translate(error.code, _error_text(error)) from error
            except TimeoutError as error:
                raise ServingError(_late(self.target, self._options.timeout)) from error
            except (urllib.error.URLError, OSError) as error:
                reason = getattr(error, "reason", error)
                if isinstance(reason, TimeoutError):
                    raise ServingError(_late(self.target, self._options.timeout)) from error
                raise _Retriable(_away(self.target, str(reason))) from error

        try:
            answer = json.loads(self._tries.run(attempt))["outputs"]
        except (ValueError, KeyError, TypeError) as error:
            raise ServingError(f"{self.target} did not answer as TF-Serving does.") from error
        kinds = {"num_faces": np.int32, "status": np.int32}
        return {
            name: np.asarray(values, kinds.get(name, np.float32))
            for name, values in answer.items()
            if not outputs or name in outputs
        }

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self, response) -> bytes:
        limit = self._options.max_message_bytes
        data = response.read(limit + 1)
        if len(data) > limit:
            raise ServingError(_too_large(self.target, f"the answer has over {limit:,} bytes"))
        return data

    def _translate(self, status: int, details: str) -> Exception:
        if status == 404:
            return ServingError(_not_found(self.target, self.model, details))
        if status == 413:
            return ServingError(_too_large(self.target, details))
        if status == 429:
            return _Retriable(f"The server {self.target} is overloaded ({details}); send less.")
        if status in (502, 503):
            return _Retriable(_away(self.target, details))
        if status == 504:
            return ServingError(_late(self.target, self._options.timeout))
        return ServingError(f"The server {self.target} refused (HTTP {status}): {details}.")


def _error_text(error) -> str:
    text = error.read(10_000).decode(errors="replace")
    try:
        text = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        text = text.strip() or error.reason
    return text.strip().rstrip(".")[:500]


def _read_pem(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"Cannot read the certificate {path}: {error.strerror}.") from None


def _ssl_context(options: EndpointOptions):
    import ssl

    try:
        context = ssl.create_default_context(cafile=options.root_certificates)
        if options.client_certificate is not None:
            context.load_cert_chain(options.client_certificate, options.client_key)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(f"A certificate cannot be used: {error}.") from None
    return context


def _away(target: str, details: str) -> str:
    return f"No server answers at {target} ({details}); start one, or check address, port and TLS."


def _late(target: str, seconds: float) -> str:
    return (
        f"The server {target} did not answer within {seconds:g} s; send fewer or smaller images "
        "at once, or raise the timeout."
    )


def _too_large(target: str, details: str) -> str:
    return (
        f"A message between here and {target} is too large ({details}); send fewer images at "
        "once, or raise max_message_bytes here and the server's limit."
    )


def _not_found(target: str, model: str, details: str) -> str:
    return f"The server {target} does not have model {model!r} as asked: {details}."
