"""Our descriptions of TF-Serving's messages against those TensorFlow Serving publishes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from retinaface_tf.errors import ServingError
from retinaface_tf.protocol import messages as protocol
from retinaface_tf.protocol.messages import POOL, TensorProto
from retinaface_tf.protocol.tensors import to_array, to_message

# In a process of its own: the published modules fill the default pool.
PUBLISHED = """
import json
from tensorflow_serving.apis import (get_model_metadata_pb2, get_model_status_pb2, model_pb2,
    predict_pb2, prediction_log_pb2, model_service_pb2, prediction_service_pb2)
from google.protobuf.descriptor_pool import Default
import sys
found = {}
for name in json.loads(sys.argv[1]):
    fields = Default().FindMessageTypeByName(name).fields_by_name.values()
    found[name] = {f.name: [f.number, f.type, f.is_repeated,
        f.message_type.full_name if f.message_type else f.enum_type.full_name if f.enum_type else ""]
        for f in fields}
    found[name + "#file"] = Default().FindMessageTypeByName(name).file.name
print(json.dumps(found))
"""


def messages():
    found = {}
    for file in protocol.FILES:
        if file.name.startswith("tensorflow_serving/servables/"):
            continue  # TF-Serving's wheel leaves it out
        stack = list(POOL.FindFileByName(file.name).message_types_by_name.values())
        while stack:
            message = stack.pop()
            found[message.full_name] = message
            stack.extend(message.nested_types)
    return found


def test_every_field_has_the_published_number_and_type():
    pytest.importorskip("tensorflow_serving")
    own = messages()
    run = subprocess.run(
        [sys.executable, "-c", PUBLISHED, json.dumps(sorted(own))], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    published = json.loads(run.stdout)
    for name, message in own.items():
        assert message.file.name == published[f"{name}#file"]
        for field in message.fields:
            number, kind, repeated, inner = published[name][field.name]
            # An enum without a name here is a plain number on the wire.
            same = field.type == kind or (field.type, kind) == (field.TYPE_INT32, field.TYPE_ENUM)
            assert (field.number, field.is_repeated) == (number, repeated) and same, field.full_name
            if field.message_type:
                assert field.message_type.full_name == inner


@pytest.mark.parametrize("kind", ["f4", "f8", "i4", "i8", "u1", "i1", "u2", "?", "f2"])
def test_arrays_survive_the_way(kind, rng):
    values = (rng.normal(size=(2, 3, 4)) * 50).astype(kind)
    np.testing.assert_array_equal(
        to_array(TensorProto.FromString(to_message(values).SerializeToString())), values
    )


def test_tensorflow_reads_our_tensors_and_we_read_its(rng):
    import tensorflow as tf

    for values in (rng.normal(size=(3, 2)).astype("f4"), np.arange(5), np.float16([1.5, -2])):
        theirs = tf.make_tensor_proto(values)
        np.testing.assert_array_equal(
            to_array(TensorProto.FromString(theirs.SerializeToString())), values
        )
        back = type(theirs).FromString(to_message(values).SerializeToString())
        np.testing.assert_array_equal(tf.make_ndarray(back), values)
    filled = tf.make_tensor_proto(7, tf.int32, [2, 2])
    assert to_array(TensorProto.FromString(filled.SerializeToString())).tolist() == [[7, 7], [7, 7]]
    words = to_array(TensorProto.FromString(tf.make_tensor_proto([b"a", b""]).SerializeToString()))
    assert words.tolist() == [b"a", b""]


def broken(**changes):
    message = to_message(np.zeros((2, 2), np.float32))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "message, text",
    [
        (broken(tensor_content=b"123"), "came with 3 bytes"),
        (broken(tensor_content=b""), "came with 0 values"),
        (broken(dtype=8), "DT_COMPLEX64"),
        (broken(dtype=7), "came with 0 strings"),
    ],
)
def test_tensors_that_do_not_add_up_are_refused(message, text):
    with pytest.raises(ServingError, match=text):
        to_array(message)
