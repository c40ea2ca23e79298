"""TF-Serving's gRPC services: PredictionService, ModelService, health and reflection."""

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary

import grpc
from google.protobuf.message import DecodeError

from retinaface_tf.errors import ServingError
from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_array, to_message
from retinaface_tf.serving.core import Caller, Core
from retinaface_tf.serving.request_error import RequestError

# gRPC's own parts hold a message while it arrives; an address may send this many at a time, and its
# next ones wait.
MESSAGES_UNDER_WAY = 8


def build_grpc_server(core: Core, credentials: grpc.ServerCredentials | None, address: str):
    """A `grpc.aio` server with all services, bound to an address; not yet started.

    Args:
        credentials: TLS; None for plain text.
        address: "host:port"; port 0 takes a free one.

    Returns:
        (server, port, health servicer).
    """
    from grpc_health.v1 import health, health_pb2_grpc
    from grpc_health.v1.health_pb2 import DESCRIPTOR as HEALTH
    from grpc_reflection.v1alpha import reflection

    server = grpc.aio.server(
        options=[
            # gRPC's own answer to larger messages is RESOURCE_EXHAUSTED; some room, so that ours,
            # which says more, comes first where it can.
            ("grpc.max_receive_message_length", core.limits.request_bytes + (1 << 20)),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            # Further calls of a connection wait in the client, under the client's deadline. Without
            # the second line gRPC breaks off calls that a client sent before it knew of the first.
            ("grpc.max_concurrent_streams", 100),
            ("grpc.http.overload_protection", 0),
            # gRPC cancels what is above this, without a word; `Core.admit` refuses with a reason.
            ("grpc.server.max_pending_requests", 100_000),
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
            ("grpc.server_handshake_timeout_ms", int(core.limits.read_seconds * 1000)),
            ("grpc.max_connection_idle_ms", 300_000),
        ],
        interceptors=[_Authorization(core)],
    )
    method = _Methods(core)
    services = {
        protocol.PREDICTION_SERVICE: {
            "Predict": method("predict", _predict),
            "GetModelMetadata": method("metadata", _metadata),
        },
        protocol.MODEL_SERVICE: {"GetModelStatus": method("status", _status)},
    }
    for name, methods in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    names = [*services, HEALTH.services_by_name["Health"].full_name, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, pool=protocol.POOL)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    return server, port, servicer


class _Authorization(grpc.aio.ServerInterceptor):
    """Refuses calls without the token; health is for probes, which have none."""

    def __init__(self, core: Core):
        self._core = core

    async def intercept_service(self, continuation, handler_call_details):
        headers = dict(handler_call_details.invocation_metadata)
        try:
            if not handler_call_details.method.startswith("/grpc.health."):
                self._core.authorize(headers.get("authorization"))
        except RequestError as error:
            code, text = getattr(grpc.StatusCode, error.code), str(error)

            async def refuse(stream, context: grpc.aio.ServicerContext) -> bytes:
                await context.abort(code, text)

            return grpc.stream_unary_rpc_method_handler(refuse)
        return await continuation(handler_call_details)


class _Methods:
    """Makes handlers for gRPC. Messages arrive as bytes, so that damaged ones get a proper status, not
    "internal error"; and as a stream of one, the same on the wire, so that a caller who never ends
    its message is let go."""

    def __init__(self, core: Core):
        self._core = core
        self._reading: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def __call__(self, api: str, answer) -> grpc.RpcMethodHandler:
        core = self._core

        async def handle(stream: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
            address = context.peer().rpartition(":")[0].partition(":")[2]
            try:
                with core.answering(api, "gRPC"), core.admit(address) as arrived:
                    data = await self._read(stream, address)
                    arrived(len(data))
                    caller = Caller(address, context.time_remaining())
                    return (await answer(core, data, caller)).SerializeToString()
            except RequestError as failure:
                await context.abort(getattr(grpc.StatusCode, failure.code), str(failure))

        return grpc.stream_unary_rpc_method_handler(handle)

    async def _read(self, stream: AsyncIterator[bytes], address: str) -> bytes:
        turn = self._reading.setdefault(address, asyncio.Semaphore(MESSAGES_UNDER_WAY))
        seconds = self._core.limits.read_seconds
        try:
            async with asyncio.timeout(seconds), turn:
                return await anext(stream)
        except TimeoutError:
            raise RequestError(
                f"The message did not arrive within {seconds:g} s.", "DEADLINE_EXCEEDED"
            ) from None
        except StopAsyncIteration:
            raise RequestError("The call has no message.") from None


def _parse(kind, data: bytes):
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"The message is not a {kind.DESCRIPTOR.full_name}.") from None


async def _predict(core: Core, data: bytes, caller: Caller):
    request = _parse(protocol.PredictRequest, data)
    async with core.repository.use(request.model_spec) as model:
        signature = model.signature(request.model_spec.signature_name)
        signature.check(request.inputs)
        try:
            inputs = {key: to_array(value) for key, value in request.inputs.items()}
        except ServingError as error:
            raise RequestError(str(error)) from None
        outputs = await core.predict(signature, inputs, caller, list(request.output_filter))
        response = protocol.PredictResponse()
        response.model_spec.name = core.repository.name
        response.model_spec.version.value = model.version
        response.model_spec.signature_name = signature.name
        for key, values in outputs.items():
            response.outputs[key].CopyFrom(to_message(values))
        return response


async def _metadata(core: Core, data: bytes, caller: Caller):
    request = _parse(protocol.GetModelMetadataRequest, data)
    unknown = set(request.metadata_field) - {"signature_def"}
    if unknown or not request.metadata_field:
        raise RequestError("Ask for the metadata_field 'signature_def'.")
    async with core.repository.use(request.model_spec) as model:
        response = protocol.GetModelMetadataResponse()
        response.model_spec.name = core.repository.name
        response.model_spec.version.value = model.version
        metadata = response.metadata["signature_def"]
        metadata.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        metadata.value = model.definitions().SerializeToString()
        return response


async def _status(core: Core, data: bytes, caller: Caller):
    request = _parse(protocol.GetModelStatusRequest, data)
    return core.repository.status(request.model_spec)
