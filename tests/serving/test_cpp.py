"""The export and its files in TensorFlow's own C++, compiled against the wheel: answers as in Python."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import any_pb2, descriptor_pb2, text_format, wrappers_pb2
from PIL import Image

from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
from retinaface_tf.images.read import read_image
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.models import build_retinaface
from retinaface_tf.protocol.messages import FILES, BatchingFile, PredictionLog
from retinaface_tf.protocol.tensors import to_array
from retinaface_tf.serving.loaded_model import WARMUP_FILE, LoadedModel
from retinaface_tf.weights.choose_file import load_preset

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CPP = HERE.parents[1] / "serving" / "cpp"
QUIET = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
BATCHING_FILES = [
    b"",
    b"max_batch_size { value: 32 }\nbatch_timeout_micros {\n  value: 1500\n}",
    b"max_batch_size: { value: 32 }",
    b"max_batch_size <value: 32>; num_batch_threads {value:0x10}, max_enqueued_batches{value:010}",
    b"max_batch_size {} # nothing\n# max_batch_size { value: 3 }",
    b"allowed_batch_sizes: [1, 2, 4]\nallowed_batch_sizes: 8 allowed_batch_sizes :16",
    b"allowed_batch_sizes: [] pad_variable_length_inputs: t",
    b"thread_pool_name { value: 'a # b' \"} \\x41\\n\\u00e9\" }",
    b"batch_timeout_micros { value: -1 } num_batch_threads { value: 9223372036854775807 }",
    b"num_batch_threads { value: 9223372036854775808 }",
    b"num_batch_threads: 3",
    b"max_batch_size { value: 1 } max_batch_size { value: 2 }",
    b"max_batch_size { value: 1",
    b"max_batch_size { value: 1 >",
    b"max_batch_size { value: many }",
    b"max_batch_size { value: 1.5 }",
    b"max_batch_size { value: 1;; }",
    b"max_batch { value: 1 }",
    b"thread_pool_name { value: 'open }",
    b"allowed_batch_sizes: [1, 2",
    b"allowed_batch_sizes: 1 2",
    b"1 { value: 1 }",
    b"}",
    b"// max_batch_size { value: 3 }",
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with `detect` and `tf_serving`, compiled by the command of the example's page."""
    if not CPP.is_dir():
        pytest.skip("needs a checkout: serving/cpp is not in the wheel")
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("needs Linux and g++")
    folder = tmp_path_factory.mktemp("programs")
    command = re.search(r"```sh\n(.*?)```", (CPP / "README.md").read_text(), re.DOTALL)[1]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    compiling = []
    for source in (CPP / "detect.cc", HERE / "tf_serving.cc"):
        line = command.replace("detect.cc", str(source)).replace("-O1", "-O0")
        line = line.replace("-o detect", f"-o {folder / source.stem}")
        compiling.append(subprocess.Popen(["sh", "-ec", line], env={**os.environ, "PATH": path}))
    assert [process.wait() for process in compiling] == [0, 0]
    return folder


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory) -> list[Path]:
    """A photo in every format, then each cut short."""
    folder = tmp_path_factory.mktemp("files")
    image = Image.open(io.BytesIO(photos[1]))
    paths = []
    for cut in (None, 60):
        for kind in ("jpeg", "png", "gif", "bmp"):
            stream = io.BytesIO()
            image.save(stream, kind)
            paths.append(folder / f"{cut}.{kind}")
            paths[-1].write_bytes(stream.getvalue()[:cut])
    return paths


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory) -> Path:
    """TF-Serving's messages for C++."""
    known = descriptor_pb2.FileDescriptorSet()
    for module in (any_pb2, wrappers_pb2):
        known.file.add().ParseFromString(module.DESCRIPTOR.serialized_pb)
    known.file.extend(FILES)
    path = tmp_path_factory.mktemp("descriptors") / "set"
    path.write_bytes(known.SerializeToString())
    return path


def export(preset: str, photo: bytes, folder: Path) -> Path:
    """A version of a preset: `lite` as it is, others with random weights and a threshold for them."""
    import keras

    if preset == "lite":
        return export_savedmodel(load_preset("lite"), folder)
    keras.utils.set_random_seed(3)
    network = build_retinaface(preset)
    scores = KerasRuntime(network)(read_image(photo)[None]).scores[0]
    return export_savedmodel(
        network, folder, SavedModelOptions(threshold=float(np.sort(scores)[-150]))
    )


@pytest.mark.parametrize(
    "preset", ["lite", "mobilenet0.25-mesh", "mobilenet0.25-paper", "mobilenetv2"]
)
def test_cpp_finds_the_faces_that_python_finds(preset, programs, files, photos, tmp_path):
    """Every format, whole and broken, in requests of one and four, from four threads."""
    version = export(preset, photos[1], tmp_path / "model")
    inputs = np.empty(len(files), object)
    inputs[:] = [file.read_bytes() for file in files]
    model = LoadedModel(version)
    expected = model.signature().run({"image_bytes": inputs})
    model.close()
    assert expected["status"].tolist() == [0] * 4 + [1] * 4
    assert expected["num_faces"][:4].all() and not expected["num_faces"][4:].any()
    floats = {name for name, values in expected.items() if values.dtype == np.float32}
    assert ("vertices" in floats) == preset.endswith("-mesh")
    mixed = [number for pair in zip(range(4), range(4, 8)) for number in pair] * 2
    for batch in (1, 4):
        done = subprocess.run(
            [programs / "detect", version, str(batch), "4", *(files[i] for i in mixed)],
            check=True, capture_output=True, text=True, env=QUIET,
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line.pop("image") for line in lines] == [*range(16)]
        for number, line in zip(mixed, lines, strict=True):
            assert line.pop("status") == expected["status"][number]
            assert {*line} == floats
            for name, values in line.items():
                wanted = expected[name][number, : expected["num_faces"][number]]
                np.testing.assert_allclose(values, wanted.ravel(), atol=1e-3, err_msg=name)


def test_cpp_replays_the_warm_up_file(model_folder, programs, descriptors):
    """Every request of it, through TensorFlow's reader of records and loader."""
    import tensorflow as tf

    version = model_folder / "1"
    model = LoadedModel(version)
    wanted = []
    for record in tf.data.TFRecordDataset(str(version / WARMUP_FILE)).as_numpy_iterator():
        request = PredictionLog.FromString(record).predict_log.request
        arrays = {name: to_array(value) for name, value in request.inputs.items()}
        answer = model.signature(request.model_spec.signature_name).run(arrays)
        wanted.append(answer["num_faces"].tolist())
    model.close()
    done = subprocess.run(
        [programs / "tf_serving", descriptors, "warm", version],
        check=True, capture_output=True, text=True, env=QUIET,
    )  # fmt: skip
    replayed = [[int(count) for count in line.split()] for line in done.stdout.splitlines()]
    assert replayed == wanted and len(wanted) == 10


def test_cpp_reads_batching_files_as_we_do(programs, descriptors, tmp_path):
    """The same message, or a refusal by both."""
    contents = [*BATCHING_FILES, *(path.read_bytes() for path in CPP.parent.glob("config/batch*"))]
    ours = []
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.txt").write_bytes(content)
        try:
            ours.append(text_format.Parse(content, BatchingFile()))
        except text_format.ParseError:
            ours.append(None)
    done = subprocess.run(
        [programs / "tf_serving", descriptors, "text",
         *(tmp_path / f"{number}.txt" for number in range(len(contents)))],
        check=True, capture_output=True, text=True, env=QUIET,
    )  # fmt: skip
    theirs = [
        None if line == "refused" else BatchingFile.FromString(bytes.fromhex(line))
        for line in done.stdout.splitlines()
    ]
    for content, own, other in zip(contents, ours, theirs, strict=True):
        assert own == other, content
