"""onnxruntime's execution providers and threads, and which runtime "auto" takes."""

from pathlib import Path

import pytest

from retinaface_tf import RetinaFace
from retinaface_tf.errors import ConfigError
from retinaface_tf.weights import choose_file
from retinaface_tf.weights.choose_file import choose_runtime

onnxruntime = pytest.importorskip("onnxruntime")
CPU = "CPUExecutionProvider"


@pytest.mark.parametrize("given", [None, "CPU", [CPU], "cpu, CPUExecutionProvider"])
def test_a_provider_has_its_own_name_or_a_short_one(given):
    runtime = RetinaFace.from_preset(runtime="onnx", providers=given).runtime
    assert runtime.providers == [CPU]


@pytest.mark.parametrize("given", ["cpu,cuda9", ["cuda9"]])
def test_a_provider_that_is_not_installed_is_refused_and_those_that_are_are_named(given):
    with pytest.raises(ConfigError, match=r"no provider 'cuda9', but .*cpu"):
        RetinaFace.from_preset(runtime="onnx", providers=given)


def test_a_provider_that_does_not_start_is_refused(monkeypatch, capfd):
    """As CUDA where its libraries are missing: onnxruntime would go on without it."""
    names = [*onnxruntime.get_available_providers(), "CUDAExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    with pytest.raises(ConfigError, match="cannot start CUDAExecutionProvider on this machine"):
        RetinaFace.from_preset(runtime="onnx", providers="cuda,cpu")


def test_threads_are_those_asked_for(monkeypatch):
    options = []
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, **k: options.append(a[1]) or session(*a, **k)
    )
    for threads in (None, 2):
        RetinaFace.from_preset(runtime="onnx", threads=threads)
    assert [o.intra_op_num_threads for o in options] == [0, 2]


@pytest.mark.parametrize(
    "installed, file, expected",
    [
        ("litert onnx keras", None, "litert"),
        ("onnx keras", None, "onnx"),
        ("keras", None, "keras"),
        ("", None, "litert"),
        ("onnx keras", "a.tflite", "litert"),
        ("litert keras", "a.ONNX", "onnx"),
        ("litert onnx keras", "a.weights.h5", "litert"),
        ("keras", "a.weights.npz", "keras"),
    ],
)
def test_auto_takes_what_fits_the_file_or_the_lightest_that_is_there(
    monkeypatch, installed, file, expected
):
    there = {choose_file._MODULES[name] for name in installed.split()}
    monkeypatch.setattr(choose_file, "is_installed", there.__contains__)
    for name in ("auto", None, "fastest"):
        assert choose_runtime(name, Path(file) if file else None) == expected


@pytest.mark.parametrize("file", [None, "a.tflite", "a.onnx", "a.weights.h5"])
def test_fastest_is_openvino_in_bfloat16_where_the_processor_has_it(monkeypatch, file):
    monkeypatch.setattr(choose_file, "is_installed", lambda module: True)
    for has, expected in ((True, "openvino-bf16"), (False, "openvino")):
        monkeypatch.setattr(choose_file, "computes_in_bfloat16", lambda has=has: has)
        assert choose_runtime("fastest", Path(file) if file else None) == expected
