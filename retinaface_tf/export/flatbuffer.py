"""The .tflite container as Python objects, by the schema that LiteRT ships."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
# The schema asks it of buffers' data; the generated Python code forgets.
_ALIGNMENT = 16


class _Builder(flatbuffers.Builder):
    def StartVector(self, elemSize, numElems, alignment):
        if elemSize == 1 and numElems >= _ALIGNMENT:
            alignment = max(alignment, _ALIGNMENT)
        return super().StartVector(elemSize, numElems, alignment)


def unpack(content: bytes) -> schema.ModelT:
    """A .tflite file's bytes as a tree of objects."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: schema.ModelT, entries: dict[str, bytes] | None = None) -> bytes:
    """The inverse of `unpack`, with metadata entries added (replacing those of the same name)."""
    for name, data in (entries or {}).items():
        model.metadata = [m for m in model.metadata or [] if text(m.name) != name]
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(model.buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    builder = _Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def text(name: bytes | str) -> str:
    """A name in a tree of objects; those that were unpacked are bytes."""
    return name.decode() if isinstance(name, bytes) else name


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """CONV_2D, ADD, ..."""
    return _OPERATOR_NAMES[model.operatorCodes[operator.opcodeIndex].builtinCode]


_OPERATOR_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()
}
