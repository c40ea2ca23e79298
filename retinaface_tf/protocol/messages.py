"""The messages of TensorFlow Serving's gRPC interface, built from their descriptions at run time.

Names and field numbers are TensorFlow's and TensorFlow Serving's public API (`tensorflow_serving/apis`
and `tensorflow/core/framework`), only as far as this package uses it; protobuf skips fields that are
left out here. The messages live in a descriptor pool of their own, so that TensorFlow's copies in
the same process do not collide.
"""

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

# A field is "kind name number": kind is a scalar or a message or enum of the file's package (of
# another one with a leading dot); "*" marks a repeated field, "{K}" a map from string to K, "/name"
# the oneof a field is in. A method is "name request response". Files come after those they use.
_SCHEMA = """
file tensorflow/core/framework/types.proto
enum DataType: DT_INVALID 0; DT_FLOAT 1; DT_DOUBLE 2; DT_INT32 3; DT_UINT8 4; DT_INT16 5; DT_INT8 6; \
DT_STRING 7; DT_COMPLEX64 8; DT_INT64 9; DT_BOOL 10; DT_BFLOAT16 14; DT_UINT16 17; DT_HALF 19; \
DT_UINT32 22; DT_UINT64 23
file tensorflow/core/framework/tensor_shape.proto
message TensorShapeProto.Dim: int64 size 1; string name 2
message TensorShapeProto: *TensorShapeProto.Dim dim 2; bool unknown_rank 3
file tensorflow/core/framework/tensor.proto
message TensorProto: DataType dtype 1; TensorShapeProto tensor_shape 2; int32 version_number 3; \
bytes tensor_content 4; *int32 half_val 13; *float float_val 5; *double double_val 6; \
*int32 int_val 7; *bytes string_val 8; *int64 int64_val 10; *bool bool_val 11; \
*uint32 uint32_val 16; *uint64 uint64_val 17
file tensorflow/core/protobuf/meta_graph.proto
message TensorInfo: string name 1 /encoding; DataType dtype 2; TensorShapeProto tensor_shape 3
message SignatureDef: {TensorInfo} inputs 1; {TensorInfo} outputs 2; string method_name 3
file tensorflow_serving/apis/status.proto
message StatusProto: int32 error_code 1; string error_message 2
file tensorflow_serving/apis/model.proto
message ModelSpec: string name 1; .google.protobuf.Int64Value version 2 /version_choice; \
string version_label 4 /version_choice; string signature_name 3
file tensorflow_serving/apis/predict.proto
message PredictRequest: ModelSpec model_spec 1; {.tensorflow.TensorProto} inputs 2; \
*string output_filter 3
message PredictResponse: ModelSpec model_spec 2; {.tensorflow.TensorProto} outputs 1
file tensorflow_serving/apis/prediction_log.proto
message PredictLog: PredictRequest request 1; PredictResponse response 2
message PredictionLog: PredictLog predict_log 6 /log_type
file tensorflow_serving/apis/get_model_metadata.proto
message SignatureDefMap: {.tensorflow.SignatureDef} signature_def 1
message GetModelMetadataRequest: ModelSpec model_spec 1; *string metadata_field 2
message GetModelMetadataResponse: ModelSpec model_spec 1; {.google.protobuf.Any} metadata 2
file tensorflow_serving/apis/get_model_status.proto
enum ModelVersionStatus.State: UNKNOWN 0; START 10; LOADING 20; AVAILABLE 30; UNLOADING 40; END 50
message GetModelStatusRequest: ModelSpec model_spec 1
message ModelVersionStatus: int64 version 1; ModelVersionStatus.State state 2; StatusProto status 3
message GetModelStatusResponse: *ModelVersionStatus model_version_status 1
file tensorflow_serving/apis/prediction_service.proto
service PredictionService: Predict PredictRequest PredictResponse; \
GetModelMetadata GetModelMetadataRequest GetModelMetadataResponse
file tensorflow_serving/apis/model_service.proto
service ModelService: GetModelStatus GetModelStatusRequest GetModelStatusResponse
"""


class _Schema:
    """Descriptors of the files of a schema, in its order.

    Attributes:
        files: them.
    """

    def __init__(self, text: str):
        self.files: list[descriptor_pb2.FileDescriptorProto] = []
        self._enums: set[str] = set()
        # Full name of a message or enum -> the file that defines it.
        self._home = {
            ".google.protobuf.Any": "google/protobuf/any.proto",
            ".google.protobuf.Int64Value": "google/protobuf/wrappers.proto",
        }
        for line in text.strip().splitlines():
            kind, rest = line.split(" ", 1)
            name, _, entries = rest.partition(": ")
            getattr(self, f"_{kind}")(name, entries.split("; "))

    def _file(self, path: str, _) -> None:
        package = "tensorflow.serving" if path.startswith("tensorflow_serving") else "tensorflow"
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
        self.files.append(file)

    def _enum(self, name: str, values: list[str]) -> None:
        outer, _, own = name.rpartition(".")
        enum = (self._open(outer) if outer else self.files[-1]).enum_type.add(name=own)
        for value in values:
            value, number = value.split()
            enum.value.add(name=value, number=int(number))
        self._enums.add(self._define(name))

    def _message(self, name: str, fields: list[str]) -> None:
        message = self._open(name)
        for field in fields:
            self._add_field(message, name, field)

    def _service(self, name: str, methods: list[str]) -> None:
        service = self.files[-1].service.add(name=name)
        for method in methods:
            method, request, response = method.split()
            service.method.add(
                name=method, input_type=self._use(request), output_type=self._use(response)
            )

    def _open(self, name: str) -> descriptor_pb2.DescriptorProto:
        """The message of the present file, made where it is not yet there."""
        outer, _, own = name.rpartition(".")
        siblings = self._open(outer).nested_type if outer else self.files[-1].message_type
        self._define(name)
        return next((m for m in siblings if m.name == own), None) or siblings.add(name=own)

    def _define(self, name: str) -> str:
        name = f".{self.files[-1].package}.{name}"
        self._home[name] = self.files[-1].name
        return name

    def _use(self, name: str) -> str:
        """The full name; the file that defines it becomes a dependency of the present one."""
        file = self.files[-1]
        name = name if name.startswith(".") else f".{file.package}.{name}"
        home = self._home[name]
        if home != file.name and home not in file.dependency:
            file.dependency.append(home)
        return name

    def _add_field(self, message, owner: str, text: str) -> None:
        kind, name, number, *choice = text.split()
        field = message.field.add(name=name, number=int(number), label=_Field.LABEL_OPTIONAL)
        if kind.startswith("{"):
            entry = f"{owner}.{name.title().replace('_', '')}Entry"
            self._message(entry, ["string key 1", f"{kind[1:-1]} value 2"])
            self._open(entry).options.map_entry = True
            kind = f"*{entry}"
        if kind.startswith("*"):
            field.label = _Field.LABEL_REPEATED
            kind = kind[1:]
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type_name = self._use(kind)
            is_enum = field.type_name in self._enums
            field.type = _Field.TYPE_ENUM if is_enum else _Field.TYPE_MESSAGE
        if choice:
            group = choice[0][1:]
            names = [one.name for one in message.oneof_decl]
            if group not in names:
                message.oneof_decl.add(name=group)
                names.append(group)
            field.oneof_index = names.index(group)


FILES = _Schema(_SCHEMA).files
POOL = descriptor_pool.DescriptorPool()
for _module in (any_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_module.DESCRIPTOR.serialized_pb)
for _file in FILES:
    POOL.AddSerializedFile(_file.SerializeToString())


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

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
