"""Reads the tensors of a PyTorch file without PyTorch, and without letting the file run anything.

A PyTorch file is a pickle, and a pickle is a program: it may name any function of any module and
have it called. This reader hands the pickle stand-ins for the few names a dictionary of tensors
needs and refuses every other one. Two containers are known: the stream of PyTorch before 1.6
(five pickles, then raw storages) and the zip archive since.
"""

import collections
import io
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retinaface_tf.errors import WeightsError
from retinaface_tf.util.bounds import open_archive, read_whole
from retinaface_tf.util.npz import DAMAGED_ZIP

# The first pickle of the stream format is this number.
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_START = pickle.dumps(_STREAM_MAGIC, protocol=2)
_STREAM_VERSION = 1001

# Of a pickle without the numbers; that of a large network's whole training has 1 MB.
_LARGEST_PICKLE = 1 << 23
# More than any axis, stride or storage has.
_HUGE = 1 << 40

# PyTorch's name of a storage and numpy's name of its element.
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
# Names under which training scripts keep the weights beside epoch, optimiser and the like.
_NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")


class _Refused(Exception):
    """What is wrong with the file, as the end of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    element: str
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Names(collections.OrderedDict):
    """A dictionary of a pickle.

    A key may come twice, and the first tensor would vanish unseen. It may be a tuple of tuples of
    tuples, each twice the one before, whose hash would take for ever.
    """

    def __setitem__(self, key, value):
        if not isinstance(key, str | int | float | None):
            raise _Refused("has a dictionary whose keys are not names")
        if key in self:
            raise _Refused(f"holds {key!r} twice")
        super().__setitem__(key, value)


def is_torch_file(path: Path) -> bool:
    """Whether the first bytes, or the archive's contents, are those of a PyTorch file."""
    with path.open("rb") as file:
        start = file.read(len(_STREAM_START))
    if start == _STREAM_START:
        return True
    if not start.startswith(b"PK\x03\x04"):
        return False
    try:
        with open_archive(path) as archive:
            names = archive.namelist()
            return any(name.endswith("data.pkl") for name in names) or _wraps_one(names)
    except DAMAGED_ZIP:
        # Truncated: the directory at the end is gone, the first entry's name is still there.
        with path.open("rb") as file:
            return b"data.pkl" in file.read(4096)


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.tar` file that `torch.save` wrote.

    A dictionary nested under `state_dict` (or `model`, ...) is unwrapped and the `module.` prefix
    of data-parallel training removed. The arrays are read-only views of the file's bytes, in the
    file's layout (convolutions [out, in, height, width]); bfloat16 becomes float32.

    Raises:
        WeightsError: not such a file, damaged, or it asks for anything that is not a tensor.
    """
    path = Path(path)
    try:
        content = _unwrap(read_whole(path), path)
        if content.startswith(_STREAM_START):
            tree, storages = _read_stream(content)
        else:
            tree, storages = _read_archive(content, path)
        tensors = {
            name: _view(name, value, storages)
            for name, value in _state_dict(tree).items()
            if isinstance(value, _Tensor)
        }
        return _without_prefix(tensors)
    except WeightsError:
        raise
    except _Refused as problem:
        raise WeightsError(f"{path} {problem}.") from None
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path} is not a whole PyTorch archive ({error}); copy or download it again."
        ) from None
    except Exception as error:
        # A damaged pickle can fail in any way an opcode can.
        raise WeightsError(
            f"{path} is truncated or damaged ({type(error).__name__}: {error}); "
            "copy or download it again."
        ) from None


def _wraps_one(names: list[str]) -> bool:
    """Whether an archive holds nothing but one PyTorch file, as some releases do."""
    return len(names) == 1 and names[0].endswith((".pth", ".pt"))


def _unwrap(content: bytes, path: Path) -> bytes:
    """The file in an archive of one; any other content as it is."""
    if not content.startswith(b"PK\x03\x04"):
        return content
    with open_archive(content, path) as archive:
        names = archive.namelist()
        return archive.read(names[0]) if _wraps_one(names) else content


# What `torch.save` writes, by the names in `pickle`. Others make sets and objects, or take memory at a word.
_OPCODES = """
    PROTO FRAME MARK STOP POP POP_MARK GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT
    BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
"""


class _TensorUnpickler(pickle._Unpickler):  # type: ignore[name-defined]  # in Python, to be changed
    """Knows the names a dictionary of tensors needs; what it returns for them are stand-ins.

    The stand-ins are made anew for each file, so that a pickle that sets attributes on them
    changes nothing that outlives it.
    """

    def _empty_dictionary(self) -> None:
        self.append(_Names())

    dispatch = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPCODES.split())
    } | {pickle.EMPTY_DICT[0]: _empty_dictionary}

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="utf-8")

        def rebuild_tensor(storage, offset, shape, strides, *_):
            return _Tensor(storage, offset, tuple(shape), tuple(strides))

        def rebuild_parameter(tensor, *_):
            return tensor

        def ordered_dict():
            return _Names()

        self._admitted = {
            ("collections", "OrderedDict"): ordered_dict,
            ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
            **{("torch", name): element for name, element in _STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._admitted[module, name]
        except KeyError:
            raise _Refused(
                f"asks for {module}.{name}, which is not part of a dictionary of tensors; it was "
                "not run: save the network's state_dict() alone, and distrust the file"
            ) from None

    def persistent_load(self, reference: Any) -> _Storage:
        kind, element, key, _, length, *view = reference
        if kind != "storage" or element not in _STORAGES.values():
            raise _Refused("refers to an unknown kind of object")
        if not isinstance(key, str | int) or not isinstance(length, int) or length > _HUGE:
            raise _Refused("has a storage without a name or a size")
        if view and view[0] is not None:
            raise _Refused("uses storage views of PyTorch before 0.4; save it again with a newer")
        return _Storage(str(key), element, length)


def _unpickle(content: bytes, start: int = 0) -> tuple[Any, int]:
    """The object of the pickle at `start`, and where that pickle ends."""
    stream = io.BytesIO(memoryview(content)[start : start + _LARGEST_PICKLE])
    tree = _TensorUnpickler(stream).load()
    return tree, start + stream.tell()


def _read_stream(content: bytes) -> tuple[Any, dict[str, memoryview]]:
    magic, position = _unpickle(content)
    version, position = _unpickle(content, position)
    if magic != _STREAM_MAGIC or version != _STREAM_VERSION:
        raise _Refused(f"is not of version {_STREAM_VERSION} of the PyTorch format")
    _, position = _unpickle(content, position)
    tree, position = _unpickle(content, position)
    keys, position = _unpickle(content, position)
    widths = {tensor.storage.key: int(tensor.storage.element[-1]) for tensor in _all_tensors(tree)}
    storages = {}
    for key in (str(key) if isinstance(key, str | int) else "" for key in keys):
        if key not in widths:
            raise _Refused(f"holds the storage {key}, which no tensor uses")
        length = int.from_bytes(content[position : position + 8], "little")
        start, position = position + 8, position + 8 + length * widths[key]
        if position > len(content):
            raise _Refused(
                f"is truncated: a storage claims {length * widths[key]} bytes where "
                f"{max(0, len(content) - start)} are left; copy or download it again"
            )
        storages[key] = memoryview(content)[start:position]
    return tree, storages


def _read_archive(content: bytes, path: Path) -> tuple[Any, dict[str, memoryview]]:
    with open_archive(content, path) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(names) != 1:
            raise _Refused("is not a PyTorch archive: it has no data.pkl")
        root = names[0].removesuffix("data.pkl")
        tree, _ = _unpickle(archive.read(names[0]))
        order = "little"
        if f"{root}byteorder" in archive.namelist():
            order = archive.read(f"{root}byteorder").decode("ascii", "replace").strip()
        if order != "little":
            raise _Refused(f"has byte order {order!r}; save it again on a little-endian machine")
        prefix = f"{root}data/"
        storages = {
            name.removeprefix(prefix): memoryview(archive.read(name))
            for name in archive.namelist()
            if name.startswith(prefix)
        }
    return tree, storages


def _all_tensors(tree: Any) -> list[_Tensor]:
    """Every tensor in nested containers; each container is visited once."""
    found, waiting, seen = [], [tree], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, _Tensor):
            found.append(value)
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return found


def _state_dict(tree: Any) -> dict[str, Any]:
    """The dictionary of tensors by name, under one of the usual names or at the top."""
    top = tree if isinstance(tree, dict) else {}
    for candidate in (*(top.get(name) for name in _NESTED), top):
        if isinstance(candidate, dict) and any(isinstance(v, _Tensor) for v in candidate.values()):
            if not all(isinstance(name, str) for name in candidate):
                raise _Refused("holds tensors under names that are not text")
            return candidate
    raise _Refused("holds no dictionary of tensors; save the network's state_dict()")


def _view(name: str, tensor: _Tensor, storages: dict[str, memoryview]) -> np.ndarray:
    storage = tensor.storage
    if not isinstance(storage, _Storage) or storage.key not in storages:
        raise _Refused(f"holds no data for the tensor {name!r}; copy or download it again")
    raw = storages[storage.key]
    brain_float = storage.element == "bf2"
    dtype = np.dtype("<u2" if brain_float else storage.element).newbyteorder("<")
    if storage.length * dtype.itemsize > len(raw) or len(raw) % dtype.itemsize:
        raise _Refused(
            f"is truncated: {name!r} needs {storage.length * dtype.itemsize} bytes where "
            f"{len(raw)} are; copy or download it again"
        )
    flat = np.frombuffer(raw, dtype)
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    plausible = all(isinstance(n, int) and 0 <= n < _HUGE for n in numbers)
    if not plausible or len(tensor.shape) != len(tensor.strides) or len(tensor.shape) > 8:
        raise _Refused(f"gives {name!r} an impossible shape")
    count = int(np.prod([int(n) for n in tensor.shape], dtype=object)) if tensor.shape else 1
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    # A repeated (stride 0) element could make a huge array of a few bytes.
    if count and (last >= len(flat) or count > len(flat)):
        raise _Refused(f"gives {name!r} the shape {tensor.shape}, more than its storage holds")
    array = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :],
        tensor.shape,
        [s * dtype.itemsize for s in tensor.strides],
        writeable=False,
    )
    if brain_float:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    plain: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        short = name.removeprefix("module.")
        if short in plain:
            raise _Refused(f"holds {short!r} twice, with and without 'module.'")
        plain[short] = value
    return plain
