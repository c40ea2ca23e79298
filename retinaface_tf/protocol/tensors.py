"""Arrays to and from TensorFlow's TensorProto messages, without TensorFlow."""

import math

import numpy as np

from retinaface_tf.errors import ServingError
from retinaface_tf.protocol.messages import DATA_TYPES, TensorProto

# TensorFlow's name of an element type -> (numpy's, the field that lists single values).
_KINDS = {
    "DT_FLOAT": (np.dtype("<f4"), "float_val"),
    "DT_DOUBLE": (np.dtype("<f8"), "double_val"),
    "DT_HALF": (np.dtype("<f2"), "half_val"),
    "DT_INT32": (np.dtype("<i4"), "int_val"),
    "DT_INT16": (np.dtype("<i2"), "int_val"),
    "DT_INT8": (np.dtype("i1"), "int_val"),
    "DT_UINT8": (np.dtype("u1"), "int_val"),
    "DT_UINT16": (np.dtype("<u2"), "int_val"),
    "DT_INT64": (np.dtype("<i8"), "int64_val"),
    "DT_UINT32": (np.dtype("<u4"), "uint32_val"),
    "DT_UINT64": (np.dtype("<u8"), "uint64_val"),
    "DT_BOOL": (np.dtype("?"), "bool_val"),
}
_BY_NUMBER = {DATA_TYPES[name].number: (name, *kind) for name, kind in _KINDS.items()}
_BY_DTYPE = {dtype: DATA_TYPES[name].number for name, (dtype, _) in _KINDS.items()}
STRING = DATA_TYPES["DT_STRING"].number


def type_name(number: int) -> str:
    """TensorFlow's name of an element type's number."""
    return next((n for n, value in DATA_TYPES.items() if value.number == number), f"type {number}")


def to_message(values: np.ndarray | list[bytes]) -> TensorProto:
    """An array, or a list of byte strings, as a TensorProto."""
    message = TensorProto()
    if isinstance(values, list):
        message.dtype = STRING
        message.tensor_shape.dim.add(size=len(values))
        message.string_val.extend(values)
        return message
    dtype = values.dtype.newbyteorder("<")
    message.dtype = _BY_DTYPE[dtype]
    for side in values.shape:
        message.tensor_shape.dim.add(size=side)
    message.tensor_content = np.ascontiguousarray(values, dtype).tobytes()
    return message


def to_array(message: TensorProto) -> np.ndarray:
    """The array of a TensorProto; byte strings give an object array of `bytes`.

    Raises:
        ServingError: the type is none that is known here, or shape and contents do not agree.
    """
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    if message.tensor_shape.unknown_rank or any(side < 0 for side in shape):
        raise ServingError(f"A tensor's shape {shape} is not fully known; send every side.")
    count = math.prod(shape)
    if message.dtype == STRING:
        if len(message.string_val) != count:
            raise ServingError(
                f"A tensor of shape {shape} came with {len(message.string_val)} strings; send "
                f"{count}."
            )
        values = np.empty(count, object)
        values[:] = message.string_val
        return values.reshape(shape)
    if message.dtype not in _BY_NUMBER:
        raise ServingError(
            f"A tensor has the element type {type_name(message.dtype)}, which is not understood "
            "here; send numbers or strings."
        )
    name, dtype, field = _BY_NUMBER[message.dtype]
    if message.tensor_content:
        if len(message.tensor_content) != count * dtype.itemsize:
            raise ServingError(
                f"A tensor of shape {shape} and type {name} came with "
                f"{len(message.tensor_content)} bytes; send {count * dtype.itemsize}."
            )
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    listed = getattr(message, field)
    if name == "DT_HALF":
        values = np.asarray(listed, np.uint16).view(np.float16)
    else:
        try:
            values = np.asarray(listed, dtype)
        except OverflowError as error:
            raise ServingError(f"A value of a tensor does not fit {name}: {error}.") from None
    if len(values) == count:
        return values.reshape(shape)
    # TensorFlow's short form: the last value stands for all that follow.
    if not 0 < len(values) < count or count > 100_000_000:
        raise ServingError(f"A tensor of shape {shape} came with {len(values)} values.")
    return np.pad(values, (0, count - len(values)), mode="edge").reshape(shape)
