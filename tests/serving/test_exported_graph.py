"""The exported SavedModel: loaded as the C++ server loads it, against the library's own answers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from retinaface_tf import RetinaFace
from retinaface_tf.config import RetinaFaceConfig
from retinaface_tf.errors import ConfigError
from retinaface_tf.export.detection_graph import DetectionGraph
from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
from retinaface_tf.geometry.anchors import generate_anchors_in_graph
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.preprocess import stack_padded
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.protocol.messages import PredictionLog
from retinaface_tf.serving.loaded_model import LoadedModel

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def detector(network, threshold):
    return RetinaFace(KerasRuntime(network), threshold=threshold)


@pytest.fixture(scope="module")
def loaded(model_folder):
    model = LoadedModel(model_folder / "1")
    yield model
    model.close()


def encoded(*files):
    values = np.empty(len(files), object)
    values[:] = files
    return {"image_bytes": values}


def assert_same_faces(answer, i, faces, iou=0.999):
    count = answer["num_faces"][i]
    assert answer["status"][i] == 0 and count == len(faces) > 0
    overlaps = pairwise_iou(faces.boxes, answer["boxes"][i, :count])
    assert overlaps.max(1).min() >= iou
    match = overlaps.argmax(1)
    np.testing.assert_allclose(answer["scores"][i][match], faces.scores, atol=2e-5)
    np.testing.assert_allclose(answer["landmarks"][i][match], faces.landmarks, atol=0.05)
    assert not answer["boxes"][i, count:].any() and not answer["scores"][i, count:].any()


@pytest.fixture(scope="module")
def foreign(model_folder, photos, tmp_path_factory):
    """Answers of a process that knows TensorFlow alone."""
    folder = tmp_path_factory.mktemp("photos")
    files = []
    for i, data in enumerate([*photos, b"not an image"]):
        files.append(folder / str(i))
        files[-1].write_bytes(data)
    run = subprocess.run(
        [
            sys.executable,
            HERE.parent / "helpers" / "load_savedmodel.py",
            model_folder / "1",
            *files,
        ],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


def test_a_process_without_keras_gets_the_librarys_faces(foreign, detector, photos):
    answer = {name: np.asarray(values) for name, values in foreign["outputs"].items()}
    for i, data in enumerate(photos):
        assert_same_faces(answer, i, detector.detect(data))
    assert answer["status"].tolist() == [0, 0, 0, 0, 1]
    assert answer["num_faces"][4] == 0


def test_signatures_are_those_of_the_contract(foreign):
    assert foreign["inputs"]["serving_default"] == ["image_bytes"]
    assert foreign["inputs"]["image_tensor"] == ["images"]
    assert foreign["method"] == "tensorflow/serving/predict"
    rows = max(foreign["outputs"]["num_faces"])
    assert {n: np.shape(v)[1:] for n, v in foreign["outputs"].items()} == {
        "boxes": (rows, 4),
        "scores": (rows,),
        "landmarks": (rows, 5, 2),
        "num_faces": (),
        "status": (),
        "truncated": (),
    }


def test_every_operator_is_tensorflows_own_and_none_is_python(foreign):
    from tensorflow.python.framework import op_def_registry

    assert len(foreign["operators"]) > 50
    assert not [name for name in foreign["operators"] if op_def_registry.get(name) is None]
    assert not [name for name in foreign["operators"] if "PyFunc" in name]


def test_one_bad_image_among_fifteen_good_costs_only_itself(loaded, photos):
    files = [photos[i % 4] for i in range(15)]
    files.insert(7, photos[0][: len(photos[0]) // 2])
    answer = loaded.signature("serving_default").run(encoded(*files))
    assert answer["status"].tolist() == [0] * 7 + [1] + [0] * 8
    alone = loaded.signature("serving_default").run(encoded(*photos))
    for place, i in zip([p for p in range(16) if p != 7], [i % 4 for i in range(15)]):
        for name in answer:
            np.testing.assert_array_equal(answer[name][place], alone[name][i])


def test_large_images_are_shrunk_as_the_library_shrinks_them(loaded, detector, photos):
    import cv2

    wide = cv2.resize(read_image(photos[0]), (2300, 850))
    data = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
    answer = loaded.signature("serving_default").run(encoded(data))
    # Of two nearly equal scores at the threshold only one may reach it.
    overlaps = pairwise_iou(detector.detect(wide).boxes[:-5], answer["boxes"][0])
    assert overlaps.max(1).min() >= 0.999


def test_pixels_give_the_same_faces_as_files(loaded, detector, photos):
    images = np.stack([read_image(photos[0]), read_image(photos[0])[:, ::-1]])
    answer = loaded.signature("image_tensor").run({"images": images})
    for i, faces in enumerate(detector.detect(list(images))):
        assert_same_faces(answer, i, faces)


def test_an_empty_batch_has_empty_answers(loaded):
    answer = loaded.signature("serving_default").run(encoded())
    assert answer["boxes"].shape == (0, 0, 4) and answer["status"].shape == (0,)


def test_warmup_requests_run_and_fit_the_signatures(model_folder, loaded):
    path = model_folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.compat.v1.io.tf_record_iterator(str(path)))
    assert 0 < len(records) <= 1000
    for record in records:
        request = PredictionLog.FromString(record).predict_log.request
        loaded.signatures[request.model_spec.signature_name].check(request.inputs)
    assert loaded.warm_up() == len(records)


def test_the_model_describes_itself(loaded, network):
    note = loaded.describe()
    assert note["network"] == network.config.to_dict()
    assert note["options"]["max_faces"] is None and "boxes" in note["outputs"]


@pytest.fixture(scope="module")
def fixed(network, threshold, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    options = SavedModelOptions(size=(256, 320), threshold=threshold, max_faces=20, freeze=False)
    path = export_savedmodel(network, folder, options, version=7)
    assert [p.name for p in folder.iterdir()] == ["7"] == [path.name]
    with pytest.raises(ConfigError, match="exists"):
        export_savedmodel(network, folder, options, version=7)
    model = LoadedModel(path)
    yield model
    model.close()


@pytest.mark.parametrize("size", [None, (96, 128)])
def test_broken_images_do_not_go_through_the_network(photos, size):
    config, rows = RetinaFaceConfig(), []

    def first_anchor_is_a_face(images):
        with tf.control_dependencies([tf.numpy_function(rows.append, [tf.shape(images)[0]], [])]):
            batch, height, width, _ = tf.unstack(tf.shape(images))
        count = tf.shape(generate_anchors_in_graph(config.levels, height, width))[0]
        return {
            "scores": tf.one_hot(tf.zeros([batch], tf.int32), count),
            "box_deltas": tf.zeros([batch, count, 4]),
            "landmark_deltas": tf.zeros([batch, count, 10]),
        }

    options = SavedModelOptions(size=size, max_pixels=300_000)
    graph = DetectionGraph(first_anchor_is_a_face, config, options)
    spec = tf.TensorSpec([None], tf.string)
    detect = tf.function(graph.detect_encoded, input_signature=[spec])
    good, large = photos[1], photos[3]
    answer = detect(tf.constant([b"", good, large, b"GIF89a", good, good[:500]]))
    assert answer["status"].numpy().tolist() == [1, 0, 2, 1, 0, 1]
    counts = answer["num_faces"].numpy()
    assert counts.tolist() == [0, 1, 0, 0, 1, 0] and sum(rows) == 2
    np.testing.assert_array_equal(answer["boxes"][1], answer["boxes"][4])
    answer = detect(tf.constant([b"junk"] * 3))
    assert answer["boxes"].shape == (3, 0, 4) and sum(rows) == 2


def test_a_limit_of_faces_is_kept_and_said(fixed, loaded, photos):
    answer = loaded.signature("serving_default").run(encoded(photos[0]))
    assert answer["num_faces"][0] > 20 and answer["truncated"].tolist() == [0]
    answer = fixed.signature("serving_default").run(encoded(photos[0], b""))
    assert answer["boxes"].shape == (2, 20, 4) and answer["num_faces"].tolist() == [20, 0]
    assert answer["truncated"].tolist() == [1, 0]


def test_a_fixed_size_is_a_letterbox(fixed, detector, photos, network):
    import cv2

    answer = fixed.signature("serving_default").run(encoded(*photos, b""))
    assert answer["status"].tolist() == [0, 0, 0, 0, 1]
    for i, data in enumerate(photos):
        image = read_image(data)
        height, width = image.shape[:2]
        scale = min(320 / width, 256 / height)
        size = round(width * scale), round(height * scale)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, size, interpolation=method)
        padded = stack_padded([small], (256, 320), network.config.pixel_mean)[0]
        faces = detector.detect(padded)
        inside = (faces.boxes[:, 2] <= size[0]) & (faces.boxes[:, 3] <= size[1])
        own = answer["boxes"][i, : answer["num_faces"][i]] * scale
        assert len(own) > 0
        overlaps = pairwise_iou(faces.boxes[inside], own).max(1)
        # The best twenty alone are answered; what touches the padding is clipped at the image.
        assert (overlaps[: min(10, len(overlaps))] > 0.98).all()


def test_pixels_of_a_batch_share_the_input_size(fixed, photos):
    image = read_image(photos[0])
    one = fixed.signature("image_tensor").run({"images": image[None]})
    many = fixed.signature("image_tensor").run({"images": np.stack([image] * 30)})
    np.testing.assert_allclose(many["boxes"], np.repeat(one["boxes"], 30, 0), atol=1e-2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"threshold": 2}, "threshold=2"),
        ({"iou": -1}, "iou=-1"),
        ({"max_faces": 0}, "max_faces=0"),
        ({"size": (10, 640)}, "size="),
        ({"precision": "int8"}, "precision="),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SavedModelOptions(**options)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_finds_the_same_faces(precision, data, public_weights, tmp_path):
    from retinaface_tf.weights.load import load_weights

    network = load_weights(public_weights)
    path = export_savedmodel(network, tmp_path, SavedModelOptions(precision=precision))
    model = LoadedModel(path)
    files = sorted((data / "fddb").rglob("*.jpg"))[::100][:10]
    answer = model.signature("serving_default").run(encoded(*(f.read_bytes() for f in files)))
    expected = RetinaFace(KerasRuntime(network)).detect(files)
    sure = 0
    for i, faces in enumerate(expected):
        faces = faces[faces.scores > 0.8]
        own = answer["boxes"][i, : answer["num_faces"][i]]
        if len(faces):
            assert pairwise_iou(faces.boxes, own).max(1).min() > 0.9
            sure += len(faces)
    assert sure >= 10
    assert (path / "saved_model.pb").stat().st_size < 2_500_000
    model.close()
