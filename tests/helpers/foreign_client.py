"""Asks a model server with clients that this project did not write; prints the answers as JSON.

Run by tests in a process of its own: foreign_client.py KIND HOST:PORT MODEL FILE...
"""

import json
import sys
from pathlib import Path


def ask_stubs(target, model, data):
    """tensorflow-serving-api, the stubs that TensorFlow Serving publishes."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(data))
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(request, timeout=120)
    return {name: tf.make_ndarray(value).tolist() for name, value in answer.outputs.items()}


def ask_ovmsclient(target, model, data):
    """OpenVINO's client of TF-Serving's interface."""
    from ovmsclient import make_grpc_client

    answer = make_grpc_client(target).predict({"image_bytes": data}, model, model_version=1)
    return {name: value.tolist() for name, value in answer.items()}


def ask_reflection(target, model, data):
    """gRPC's own reflection client: messages and methods are learnt from the server alone."""
    import grpc
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    with grpc.insecure_channel(target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "tensorflow.serving.PredictionService" in database.get_services()
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("tensorflow.serving.PredictionService")
        method = service.FindMethodByName("Predict")
        request = GetMessageClass(method.input_type)()
        request.model_spec.name = model
        tensor = request.inputs["image_bytes"]
        tensor.dtype = 7
        tensor.tensor_shape.dim.add(size=len(data))
        tensor.string_val.extend(data)
        call = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        answer = call(request, timeout=120)
    import numpy as np

    return {
        name: np.frombuffer(value.tensor_content, "<i4" if value.dtype == 3 else "<f4")
        .reshape([dim.size for dim in value.tensor_shape.dim])
        .tolist()
        for name, value in answer.outputs.items()
    }


def ask_rest(target, model, data):
    """TF-Serving's REST interface in row form, by requests."""
    import base64

    import requests

    rows = [{"image_bytes": {"b64": base64.b64encode(one).decode()}} for one in data]
    answer = requests.post(
        f"http://{target}/v1/models/{model}:predict", json={"instances": rows}, timeout=120
    )
    answer.raise_for_status()
    predictions = answer.json()["predictions"]
    return {name: [row[name] for row in predictions] for name in predictions[0]}


def main():
    kind, target, model, *files = sys.argv[1:]
    ask = {
        "stubs": ask_stubs,
        "ovmsclient": ask_ovmsclient,
        "reflection": ask_reflection,
        "rest": ask_rest,
    }[kind]
    data = [Path(file).read_bytes() for file in files]
    answers = {}
    # All sizes mixed in each batch.
    for start in range(0, len(data), 16):
        for name, values in ask(target, model, data[start : start + 16]).items():
            answers.setdefault(name, []).extend(values)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
