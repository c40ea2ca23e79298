"""The export in TensorFlow's own C++ loader, compiled against the wheel: faces as in Python."""

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
from PIL import Image

from retinaface_tf.serving.loaded_model import LoadedModel

CPP = Path(__file__).parents[2] / "serving" / "cpp"


@pytest.mark.slow
def test_cpp_finds_the_faces_that_python_finds(model_folder, photos, tmp_path):
    """Every format, whole and broken, alone and as a batch of four, on four threads."""
    if not CPP.is_dir():
        pytest.skip("needs a checkout: serving/cpp is not in the wheel")
    if sys.platform != "linux" or shutil.which("g++") is None:
        pytest.skip("needs Linux and g++")
    text = (CPP / "README.md").read_text()
    command = re.search(r"```sh\n(.*?)```", text, re.DOTALL)[1].replace(
        "-o detect", f"-o {tmp_path}/detect"
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", command], check=True, cwd=CPP, env=environment)
    image = Image.open(io.BytesIO(photos[1]))
    files = []
    for kind in ("jpeg", "png", "gif", "bmp"):
        stream = io.BytesIO()
        image.save(stream, kind)
        for name, data in ((kind, stream.getvalue()), (f"broken.{kind}", stream.getvalue()[:60])):
            files.append(tmp_path / name)
            files[-1].write_bytes(data)
    model = LoadedModel(model_folder / "1")
    for batch in ([files[0]], files[:4], files[4:]):
        inputs = np.empty(len(batch), object)
        inputs[:] = [file.read_bytes() for file in batch]
        expected = model.signature().run({"image_bytes": inputs})
        assert 0 in expected["status"] and (len(batch) == 1 or 1 in expected["status"])
        done = subprocess.run(
            [tmp_path / "detect", model_folder / "1", "4", *batch],
            check=True, capture_output=True, text=True, env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 4 * len(batch)
        for line in lines:
            row, count = line["image"], expected["num_faces"][line["image"]]
            assert line["status"] == expected["status"][row] and len(line["scores"]) == count
            assert count or line["status"]
            boxes = np.reshape(line["boxes"], (-1, 4))
            np.testing.assert_allclose(boxes, expected["boxes"][row, :count], atol=1e-3)
            np.testing.assert_allclose(line["scores"], expected["scores"][row, :count], atol=1e-5)
    model.close()
