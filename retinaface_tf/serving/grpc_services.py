"""TF-Serving's gRPC services: PredictionService, ModelService, health and reflection."""

import asyncio
import time

import grpc
from google.protobuf.message import DecodeError

from retinaface_tf.errors import ServingError
from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.tensors import to_array, to_message
from retinaface_tf.serving.core import Core
from retinaface_tf.serving.request_error import RequestError


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
        ],
        maximum_concurrent_rpcs=2 * core.limits.pending_requests,
    )
    services = {
        protocol.PREDICTION_SERVICE: {
            "Predict": _method(core, "predict", _predict),
            "GetModelMetadata": _method(core, "metadata", _metadata),
        },
        protocol.MODEL_SERVICE: {"GetModelStatus": _method(core, "status", _status)},
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


def _method(core: Core, api: str, answer) -> grpc.RpcMethodHandler:
    # Messages arrive as bytes, so that damaged ones get a proper status, not "internal error".
    async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        started, status = time.perf_counter(), "OK"
        try:
            with core.admit(len(data)):
                return (await answer(core, data)).SerializeToString()
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Exception as error:
            failure = RequestError.of(error)
            status = failure.code
            await context.abort(getattr(grpc.StatusCode, status), str(failure))
        finally:
            core.metrics.note_request(status, time.perf_counter() - started, api, "gRPC")

    return grpc.unary_unary_rpc_method_handler(handle)


def _parse(kind, data: bytes):
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RequestError(f"The message is not a {kind.DESCRIPTOR.full_name}.") from None


async def _predict(core: Core, data: bytes):
    request = _parse(protocol.PredictRequest, data)
    async with core.repository.use(request.model_spec) as model:
        signature = model.signature(request.model_spec.signature_name)
        signature.check(request.inputs)
        try:
            inputs = {key: to_array(value) for key, value in request.inputs.items()}
        except ServingError as error:
            raise RequestError(str(error)) from None
        outputs = await core.predict(signature, inputs, list(request.output_filter))
        response = protocol.PredictResponse()
        response.model_spec.name = core.repository.name
        response.model_spec.version.value = model.version
        response.model_spec.signature_name = signature.name
        for key, values in outputs.items():
            response.outputs[key].CopyFrom(to_message(values))
        return response


async def _metadata(core: Core, data: bytes):
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


async def _status(core: Core, data: bytes):
    request = _parse(protocol.GetModelStatusRequest, data)
    return core.repository.status(request.model_spec)
