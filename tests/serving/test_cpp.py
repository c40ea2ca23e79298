"""The export and its files in TensorFlow's own C++, compiled against the wheel: answers as in Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import any_pb2, descriptor_pb2, text_format, wrappers_pb2
from PIL import Image

from benchmarks import cpp
from retinaface_tf.images.read import read_image
from retinaface_tf.protocol.messages import FILES, BatchingFile, PredictionLog
from retinaface_tf.protocol.tensors import to_array
from retinaface_tf.serving.loaded_model import WARMUP_FILE, LoadedModel

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
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
    if not cpp.CPP.is_dir():
        pytest.skip("needs a checkout: serving/cpp is not in the wheel")
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("needs Linux and g++")
    folder = tmp_path_factory.mktemp("programs")
    cpp.compile_programs(folder, cpp.CPP / "detect.cc", HERE / "tf_serving.cc")
    return folder


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


@pytest.mark.parametrize(
    "preset", ["lite", "mobilenet0.25-mesh", "mobilenet0.25-paper", "mobilenetv2"]
)
def test_cpp_finds_the_faces_that_python_finds(preset, programs, photos, tmp_path):
    """Every format, whole and broken, in requests of one and four, from four threads."""
    image = read_image(photos[1])
    files = cpp.write_images(Image.fromarray(image), tmp_path)
    version = cpp.export(preset, image, tmp_path / "model")
    faces, worst = cpp.compare(programs / "detect", version, files)
    assert faces and ("vertices" in worst) == preset.endswith("-mesh")
    assert max(worst.values()) < 1e-3


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
    contents = [
        *BATCHING_FILES,
        *(path.read_bytes() for path in cpp.CPP.parent.glob("config/batch*")),
    ]
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
