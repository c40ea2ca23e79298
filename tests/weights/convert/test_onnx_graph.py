"""ONNX graphs: matched by wiring, whatever the tensors are called."""

import numpy as np
import pytest

from retinaface_tf.errors import WeightsError
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.convert.convert import convert_weights
from tests.helpers.public_network import Arithmetic, OnnxWriter, RandomTensors, forward

onnxruntime = pytest.importorskip("onnxruntime")
QUARTER = get_preset("mobilenet0.25").config


def _run(content, outputs, image):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    bgr = image[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    return session.run(outputs, {"input": np.ascontiguousarray(bgr.transpose(2, 0, 1)[None])})


def _graph(backbone="mobilenet0.25", change=None, **options):
    tensors = RandomTensors(np.random.default_rng(8))
    image = np.random.default_rng(9).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    forward(Arithmetic(tensors), image, backbone)
    writer = OnnxWriter(tensors, **options)
    outputs = forward(writer, None, backbone)
    if change:
        change(writer)
    return writer.save(outputs), outputs, image


def _file(folder, content):
    path = folder / "graph.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "backbone, copy_shared",
    [("mobilenet0.25", False), ("mobilenet0.25", True), ("resnet50", False)],
)
def test_a_graph_with_nameless_tensors_becomes_the_same_function(tmp_path, backbone, copy_shared):
    content, outputs, image = _graph(backbone, copy_shared=copy_shared)
    network = convert_weights(_file(tmp_path, content), get_preset(backbone).config)
    expected = dict(zip(outputs, _run(content, list(outputs.values()), image)))
    ours = network(image[None], training=False)
    for name, value in expected.items():
        np.testing.assert_allclose(
            np.asarray(ours[name]), value, atol=2e-5 * max(1, np.abs(value).max())
        )


def test_the_pulled_network_equals_onnxruntime(public_onnx, public_weights, astronaut, rng):
    from retinaface_tf.weights.load import load_weights

    network = load_weights(public_weights)
    content = public_onnx.read_bytes()
    sizes = [(65, 131), (33, 47), (1, 1), (640, 480), (97, 513)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for image in (*images, astronaut, astronaut[:401, 3:312], astronaut[20:151, 170:300]):
        box, score, landmark = _run(content, ["loc", "conf", "landmarks"], image)
        ours = {n: np.asarray(v) for n, v in network(image[None], training=False).items()}
        powers = np.exp(ours["class_logits"] - ours["class_logits"].max(-1, keepdims=True))
        assert np.abs(powers / powers.sum(-1, keepdims=True) - score).max() <= 1e-4
        assert np.abs(ours["box_deltas"] - box).max() <= 1e-4
        assert np.abs(ours["landmark_deltas"] - landmark).max() <= 1e-4


def test_a_wrong_preset_is_told_which_to_try(tmp_path):
    content, _, _ = _graph()
    with pytest.raises(WeightsError, match=r"graph\.onnx.*try --preset mobilenet0\.25"):
        convert_weights(_file(tmp_path, content), get_preset("mobilenet0.5").config)


def _drop_last_head(writer):
    dropped = next(n for n in reversed(writer.nodes) if n.op_type == "Conv")
    kept = [n for n in writer.nodes if n is not dropped and dropped.output[0] not in n.input]
    writer.nodes[:] = kept
    writer.weights[:] = [w for w in writer.weights if w.name not in dropped.input]


def _other_activation(writer):
    for node in writer.nodes:
        if node.op_type == "LeakyRelu":
            node.attribute[0].f = 0.2


def _rewire(writer):
    """The coarsest level's landmarks read off the finest level's context module."""
    heads = [n for n in writer.nodes if n.op_type == "Conv"][-3:]
    heads[2].input[0] = heads[0].input[0]


def _unused_tensor(writer):
    writer._tensor(np.ones((2, 3), np.float32))


def _dilation(writer):
    next(a for a in writer.nodes[0].attribute if a.name == "pads").ints[:] = [0, 0, 1, 1]


def _other_file(writer):
    from onnx import TensorProto

    tensor = writer.weights[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def _preprocessing(writer):
    from onnx import helper

    writer.nodes.insert(0, helper.make_node("Neg", ["input"], ["negated"]))
    writer.nodes[1].input[0] = "negated"


def _batch_norm(writer):
    from onnx import helper

    writer.nodes.append(helper.make_node("BatchNormalization", ["t0"] * 5, ["normed"]))


@pytest.mark.parametrize(
    "change, message",
    [
        (_drop_last_head, "1 convolutions are missing"),
        (_other_activation, "have no place"),
        (_rewire, "wired in another way"),
        (_unused_tensor, "1 tensors that no convolution uses"),
        (_dilation, "padding"),
        (_other_file, "another file"),
        (_preprocessing, "BGR minus the mean"),
        (_batch_norm, "not folded"),
    ],
)
def test_a_graph_of_another_network_is_refused(tmp_path, change, message):
    content, _, _ = _graph(change=change)
    with pytest.raises(WeightsError, match=message):
        convert_weights(_file(tmp_path, content), QUARTER)


@pytest.mark.parametrize("cut", [10, 1000, -100])
def test_a_truncated_graph_is_refused(tmp_path, cut):
    content, _, _ = _graph()
    with pytest.raises(WeightsError, match=r"graph\.onnx"):
        convert_weights(_file(tmp_path, content[:cut]), QUARTER)
