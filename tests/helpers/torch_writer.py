"""Writes what `torch.save` writes, without PyTorch, in both of its containers."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
}


class Global:
    """A name in a module that need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a global: what a malicious pickle is made of."""

    def __init__(self, module, name, *arguments):
        self.function, self.arguments = Global(module, name), arguments


class Storage:
    def __init__(self, key, values):
        self.key, self.values = key, values


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.reduced = (storage, offset, tuple(shape), tuple(strides), False, OrderedDict())


class _Pickler(pickle._Pickler):
    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(b"R")
        elif isinstance(value, Tensor):
            self.save(Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(value.reduced)
            self.write(b"R")
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = Global("torch", STORAGES[value.values.dtype.name])
        reference = ("storage", kind, value.key, "cpu", value.values.size)
        return (*reference, None) if self.stream else reference


def dumps(value, stream=False) -> bytes:
    out = io.BytesIO()
    pickler = _Pickler(out, protocol=2)
    pickler.stream = stream
    pickler.dump(value)
    return out.getvalue()


def tensors_of(arrays: dict[str, np.ndarray]):
    """(state dict of tensors, storages): one storage for each array."""
    state, storages = OrderedDict(), []
    for name, array in arrays.items():
        storage = Storage(str(len(storages)), np.ascontiguousarray(array).ravel())
        storages.append(storage)
        strides = [s // array.itemsize for s in np.array(array, order="C").strides]
        state[name] = Tensor(storage, 0, array.shape, strides)
    return state, storages


def stream_file(tree, storages) -> bytes:
    """PyTorch before 1.6."""
    parts = [pickle.dumps(n, protocol=2) for n in (0x1950A86A20F9469CFC6C, 1001)]
    parts.append(pickle.dumps({"protocol_version": 1001, "little_endian": True}, protocol=2))
    parts.append(dumps(tree, stream=True))
    parts.append(pickle.dumps([s.key for s in storages], protocol=2))
    for storage in storages:
        parts += [storage.values.size.to_bytes(8, "little"), storage.values.tobytes()]
    return b"".join(parts)


def archive_file(tree, storages) -> bytes:
    """PyTorch since 1.6."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", dumps(tree))
        archive.writestr("archive/byteorder", "little")
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.values.tobytes())
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


CONTAINERS = {"stream": stream_file, "archive": archive_file}
