"""The messages of TensorFlow Serving's gRPC interface, built from their descriptors at run time.

`messages.textproto` holds these: names and field numbers are TensorFlow's and TensorFlow Serving's
public API (`tensorflow_serving/apis`, `tensorflow/core/framework`), and those of a batching file
(`tensorflow_serving/servables/tensorflow/session_bundle_config.proto`), only as far as this package uses
it; protobuf skips fields that are left out there. The messages live in a descriptor pool of their own,
so that TensorFlow's copies in the same process do not collide.
"""

from importlib import resources

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

_TEXT = (resources.files("retinaface_tf.protocol") / "messages.textproto").read_text("utf-8")
# Each file comes after those it uses.
FILES = text_format.Parse(_TEXT, descriptor_pb2.FileDescriptorSet()).file
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
BatchingFile = _message("tensorflow.serving.BatchingParameters")
DATA_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
