"""TF-Serving's gRPC messages, without TensorFlow.

The messages are described here by their field names and numbers (the wire format of TensorFlow
Serving's public API, `tensorflow_serving/apis` and `tensorflow/core/framework`), only as far as
this package speaks it; fields left out are skipped by protobuf when they arrive. They live in a
descriptor pool of their own, so that TensorFlow's copies in the same process do not collide.
"""

from __future__ import annotations

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}

# file -> (package, imported files, enums, messages, services). A field is "kind name number":
# kind is a scalar, "*" marks a repeated field, "{K}" a map from string, "/oneof" its choice.
_FILES: dict[str, tuple] = {
    "tensorflow/core/framework/types.proto": (
        "tensorflow",
        (),
        {
            "DataType": {
                "DT_INVALID": 0,
                "DT_FLOAT": 1,
                "DT_DOUBLE": 2,
                "DT_INT32": 3,
                "DT_UINT8": 4,
                "DT_INT16": 5,
                "DT_INT8": 6,
                "DT_STRING": 7,
                "DT_COMPLEX64": 8,
                "DT_INT64": 9,
                "DT_BOOL": 10,
                "DT_BFLOAT16": 14,
                "DT_UINT16": 17,
                "DT_HALF": 19,
                "DT_UINT32": 22,
                "DT_UINT64": 23,
            }
        },
        {},
        {},
    ),
    "tensorflow/core/framework/tensor_shape.proto": (
        "tensorflow",
        (),
        {},
        {
            "TensorShapeProto.Dim": "int64 size 1; string name 2",
            "TensorShapeProto": "*TensorShapeProto.Dim dim 2; bool unknown_rank 3",
        },
        {},
    ),
    "tensorflow/core/framework/tensor.proto": (
        "tensorflow",
        ("tensorflow/core/framework/types.proto", "tensorflow/core/framework/tensor_shape.proto"),
        {},
        {
            "TensorProto": "DataType dtype 1; TensorShapeProto tensor_shape 2; "
            "int32 version_number 3; bytes tensor_content 4; *int32 half_val 13; "
            "*float float_val 5; *double double_val 6; *int32 int_val 7; *bytes string_val 8; "
            "*int64 int64_val 10; *bool bool_val 11; *uint32 uint32_val 16; *uint64 uint64_val 17"
        },
        {},
    ),
    "tensorflow/core/protobuf/meta_graph.proto": (
        "tensorflow",
        ("tensorflow/core/framework/types.proto", "tensorflow/core/framework/tensor_shape.proto"),
        {},
        {
            "TensorInfo": "string name 1 /encoding; DataType dtype 2; "
            "TensorShapeProto tensor_shape 3",
            "SignatureDef": "{TensorInfo} inputs 1; {TensorInfo} outputs 2; string method_name 3",
        },
        {},
    ),
    "tensorflow_serving/apis/status.proto": (
        "tensorflow.serving",
        (),
        {},
        {"StatusProto": "int32 error_code 1; string error_message 2"},
        {},
    ),
    "tensorflow_serving/apis/model.proto": (
        "tensorflow.serving",
        ("google/protobuf/wrappers.proto",),
        {},
        {
            "ModelSpec": "string name 1; .google.protobuf.Int64Value version 2 /version_choice; "
            "string version_label 4 /version_choice; string signature_name 3"
        },
        {},
    ),
    "tensorflow_serving/apis/predict.proto": (
        "tensorflow.serving",
        ("tensorflow/core/framework/tensor.proto", "tensorflow_serving/apis/model.proto"),
        {},
        {
            "PredictRequest": "ModelSpec model_spec 1; {.tensorflow.TensorProto} inputs 2; "
            "*string output_filter 3",
            "PredictResponse": "ModelSpec model_spec 2; {.tensorflow.TensorProto} outputs 1",
        },
        {},
    ),
    "tensorflow_serving/apis/prediction_log.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/predict.proto",),
        {},
        {
            "PredictLog": "PredictRequest request 1; PredictResponse response 2",
            "PredictionLog": "PredictLog predict_log 6 /log_type",
        },
        {},
    ),
    "tensorflow_serving/apis/get_model_metadata.proto": (
        "tensorflow.serving",
        (
            "google/protobuf/any.proto",
            "tensorflow/core/protobuf/meta_graph.proto",
            "tensorflow_serving/apis/model.proto",
        ),
        {},
        {
            "SignatureDefMap": "{.tensorflow.SignatureDef} signature_def 1",
            "GetModelMetadataRequest": "ModelSpec model_spec 1; *string metadata_field 2",
            "GetModelMetadataResponse": "ModelSpec model_spec 1; {.google.protobuf.Any} metadata 2",
        },
        {},
    ),
    "tensorflow_serving/apis/get_model_status.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/model.proto", "tensorflow_serving/apis/status.proto"),
        {
            "ModelVersionStatus.State": {
                "UNKNOWN": 0,
                "START": 10,
                "LOADING": 20,
                "AVAILABLE": 30,
                "UNLOADING": 40,
                "END": 50,
            }
        },
        {
            "GetModelStatusRequest": "ModelSpec model_spec 1",
            "ModelVersionStatus": "int64 version 1; ModelVersionStatus.State state 2; "
            "StatusProto status 3",
            "GetModelStatusResponse": "*ModelVersionStatus model_version_status 1",
        },
        {},
    ),
    "tensorflow_serving/apis/prediction_service.proto": (
        "tensorflow.serving",
        (
            "tensorflow_serving/apis/predict.proto",
            "tensorflow_serving/apis/get_model_metadata.proto",
        ),
        {},
        {},
        {
            "PredictionService": {
                "Predict": ("PredictRequest", "PredictResponse"),
                "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse"),
            }
        },
    ),
    "tensorflow_serving/apis/model_service.proto": (
        "tensorflow.serving",
        ("tensorflow_serving/apis/get_model_status.proto",),
        {},
        {},
        {
            "ModelService": {
                "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse"),
            }
        },
    ),
}


def _build_pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    enums = {f".{package}.{name}" for package, _, enums, _, _ in _FILES.values() for name in enums}
    for name, description in _FILES.items():
        pool.AddSerializedFile(_describe_file(name, description, enums).SerializeToString())
    return pool


def _describe_file(name: str, description: tuple, all_enums: set[str]):
    package, imports, enums, messages, services = description
    file = descriptor_pb2.FileDescriptorProto(
        name=name, package=package, syntax="proto3", dependency=imports
    )
    described: dict[str, descriptor_pb2.DescriptorProto] = {}

    def message(full_name: str) -> descriptor_pb2.DescriptorProto:
        if full_name not in described:
            outer, _, own = full_name.rpartition(".")
            place = message(outer).nested_type if outer else file.message_type
            described[full_name] = place.add(name=own)
        return described[full_name]

    for full_name, values in enums.items():
        outer, _, own = full_name.rpartition(".")
        enum = (message(outer) if outer else file).enum_type.add(name=own)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for full_name, fields in messages.items():
        for text in fields.split("; "):
            _add_field(message(full_name), f".{package}.{full_name}", package, text, all_enums)
    for service, methods in services.items():
        entry = file.service.add(name=service)
        for method, (request, response) in methods.items():
            entry.method.add(
                name=method,
                input_type=f".{package}.{request}",
                output_type=f".{package}.{response}",
            )
    return file


def _add_field(message, full_name: str, package: str, text: str, all_enums: set[str]) -> None:
    kind, name, number, *choice = text.split()
    field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
    if kind.startswith("{"):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "", package, "string key 1", all_enums)
        _add_field(entry, "", package, f"{kind[1:-1]} value 2", all_enums)
        kind = f"*{full_name}.{entry.name}"
    if kind.startswith("*"):
        field.label = _Field.LABEL_REPEATED
        kind = kind[1:]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind if kind.startswith(".") else f".{package}.{kind}"
        is_enum = field.type_name in all_enums
        field.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE
    if choice:
        group = choice[0][1:]
        names = [one.name for one in message.oneof_decl]
        if group not in names:
            message.oneof_decl.add(name=group)
            names.append(group)
        field.oneof_index = names.index(group)


POOL = _build_pool()


def _message(name: str) -> type:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


TensorProto = _message("tensorflow.TensorProto")
SignatureDef = _message("tensorflow.SignatureDef")
ModelSpec = _message("tensorflow.serving.ModelSpec")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
PredictionLog = _message("tensorflow.serving.PredictionLog")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
DATA_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name
VERSION_STATES = POOL.FindEnumTypeByName(
    "tensorflow.serving.ModelVersionStatus.State"
).values_by_name

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
