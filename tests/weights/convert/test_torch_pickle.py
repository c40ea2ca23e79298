"""PyTorch files: tensors come out as they went in, and nothing in them runs."""

import pickle
import sys
from collections import OrderedDict

import numpy as np
import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.weights.convert.torch_pickle import is_torch_file, read_torch_file
from tests.helpers.torch_writer import (
    CONTAINERS,
    Call,
    Global,
    Storage,
    Tensor,
    archive_file,
    stream_file,
    tensors_of,
)


def _written(folder, content, name="weights.pth"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_tensors_come_out_as_they_went_in(tmp_path, rng, container, nested):
    arrays = {
        "a.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "a.num_batches_tracked": np.array(7),
        "b.half": rng.normal(size=5).astype(np.float16),
        "b.double": rng.normal(size=(2, 3)),
    }
    state, storages = tensors_of({f"module.{name}": value for name, value in arrays.items()})
    tree = {"epoch": 3, nested: state, "arch": "net"} if nested else state
    path = _written(tmp_path, CONTAINERS[container](tree, storages))
    assert is_torch_file(path)
    read = read_torch_file(path)
    assert list(read) == list(arrays)
    for name, value in arrays.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)
    assert "torch" not in sys.modules


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_may_share_a_storage_with_offsets_and_strides(tmp_path, container):
    storage = Storage("0", np.arange(12, dtype=np.float32))
    state = OrderedDict(
        whole=Tensor(storage, 0, (3, 4), (4, 1)),
        transposed=Tensor(storage, 0, (4, 3), (1, 4)),
        part=Tensor(storage, 5, (2, 2), (4, 1)),
    )
    read = read_torch_file(_written(tmp_path, CONTAINERS[container](state, [storage])))
    np.testing.assert_array_equal(read["transposed"], np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(read["part"], [[5, 6], [9, 10]])


def _attacks(mark):
    """Pickles that would write a file if anything of them ran."""
    code = f"open({str(mark)!r}, 'w').close()"
    shell = f"touch {mark}"
    return {
        "posix.system": Call("posix", "system", shell),
        "os.system": Call("os", "system", shell),
        "builtins.eval": Call("builtins", "eval", code),
        "builtins.exec": Call("builtins", "exec", code),
        "subprocess.Popen": Call("subprocess", "Popen", ["touch", str(mark)]),
        "builtins.getattr": Call("builtins", "getattr", Global("os", "system"), "__call__"),
        "torch.hub.load": Call("torch.hub", "load", "a/b", "c"),
        "torch._utils.__builtins__": Global("torch._utils", "__builtins__"),
        "functools.partial": Call("functools", "partial", Global("os", "system"), shell),
        "importlib.import_module": Call("importlib", "import_module", "antigravity"),
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", _attacks("x"))
@pytest.mark.parametrize("place", ["top", "nested", "beside"])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, container, name, place):
    mark = tmp_path / "ran"
    attack = _attacks(mark)[name]
    state, storages = tensors_of({"a": np.ones(2, np.float32)})
    if place == "top":
        state = attack
    elif place == "nested":
        state["b"] = [{"deep": (attack,)}]
    else:
        state = {"state_dict": state, "optimizer": attack}
    path = _written(tmp_path, CONTAINERS[container](state, storages))
    with pytest.raises(WeightsError, match=r"weights\.pth asks for .*was not run"):
        read_torch_file(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"(S'touch {}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {}'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x08touch {}\x85R.",  # STACK_GLOBAL
        b"\x80\x02cos\nsystem\n)\x81.",  # NEWOBJ
        b"\x80\x02\x82\x01.",  # EXT1
    ],
)
def test_every_opcode_that_names_a_global_is_refused(tmp_path, opcodes):
    mark = tmp_path / "ran"
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    path = _written(tmp_path, start + opcodes.replace(b"{}", str(mark).encode()))
    with pytest.raises(WeightsError):
        read_torch_file(path)
    assert not mark.exists()


def test_a_pickle_cannot_change_the_reader_for_later_files(tmp_path):
    # BUILD sets attributes on whatever is on the stack, here on what OrderedDict stands for.
    body = b"\x80\x02ccollections\nOrderedDict\n}X\x0b\x00\x00\x00__setitem__K\x01sb."
    start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    with pytest.raises(WeightsError):
        read_torch_file(_written(tmp_path, start + body))
    state, storages = tensors_of({"a": np.ones(2, np.float32)})
    assert list(read_torch_file(_written(tmp_path, stream_file(state, storages)))) == ["a"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_file_cut_anywhere_is_refused(tmp_path, container):
    state, storages = tensors_of({name: np.ones(6, np.float32) for name in "abc"})
    content = CONTAINERS[container](state, storages)
    for end in range(1, len(content), 7):
        with pytest.raises(WeightsError):
            read_torch_file(_written(tmp_path, content[:end]))


@pytest.mark.parametrize(
    "shape, strides, offset",
    [((10**9,), (0,), 0), ((3,), (1,), 0), ((2,), (-1,), 1), ((2,), (1,), 1), ((1,), (1,), -4)],
)
def test_a_tensor_larger_than_its_storage_is_refused(tmp_path, shape, strides, offset):
    storage = Storage("0", np.ones(2, np.float32))
    state = OrderedDict(a=Tensor(storage, offset, shape, strides))
    with pytest.raises(WeightsError, match=r"'a'"):
        read_torch_file(_written(tmp_path, archive_file(state, [storage])))


def test_a_storage_that_claims_more_than_the_file_is_refused(tmp_path):
    state, storages = tensors_of({"a": np.ones(2, np.float32)})
    content = stream_file(state, storages)
    content = content[:-16] + (2**60).to_bytes(8, "little") + content[-8:]
    with pytest.raises(WeightsError, match="truncated"):
        read_torch_file(_written(tmp_path, content))


_START = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
# A tuple of twice the tuple before, 60 times over: few bytes, and 2^60 empty tuples to hash or to print.
_TUPLES = b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"}" + _TUPLES + b"K\x01s", "keys are not names"),
        (b"(" + _TUPLES + b"K\x01d", "damaged"),
        (b"(" + _TUPLES + b"ctorch\nFloatStorage\n" + _TUPLES + b"NK\x01tQ", "unknown kind"),
        (b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + _TUPLES + b"NK\x01tQ", "name or a size"),
        (b"Nr\xff\xff\xff\xff", "no dictionary"),  # LONG_BINPUT 4294967295
        (b"\x8f(" + _TUPLES + b"\x90", "damaged"),  # EMPTY_SET, ADDITEMS
        (b"\x96" + (2**40).to_bytes(8, "little"), "damaged"),  # BYTEARRAY8
    ],
)
def test_a_few_bytes_do_not_cost_time_or_memory(tmp_path, body, message):
    path = _written(tmp_path, _START + b"\x80\x02" + body + b"." + pickle.dumps([], 2))
    with pytest.raises(WeightsError, match=message):  # else it takes for ever
        read_torch_file(path)


def test_a_name_given_twice_is_refused(tmp_path):
    state, storages = tensors_of({"a": np.ones(2, np.float32), "module.a": np.ones(2, np.float32)})
    with pytest.raises(WeightsError, match="'a' twice"):
        read_torch_file(_written(tmp_path, archive_file(state, storages)))
