"""The SavedModel of every preset in TensorFlow's C++ loader and in Python: greatest differences.

    python benchmarks/cpp.py [--only PRESET ...] [--json docs/figures/cpp.json]

Compiles serving/cpp/detect.cc by the command of its page. `lite` has its weights; the others have made-up
ones (`resnet152-paper` takes more than 20 GB), and a threshold that some hundred anchors of a photo reach. A JPEG, PNG, GIF and BMP, and each cut
short, are asked for in requests of one and of four, from four threads. A status or a number of faces that
differs ends it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

import numpy as np
from PIL import Image

from retinaface_tf import get_preset, list_presets
from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
from retinaface_tf.inference.runtimes.keras import KerasRuntime
from retinaface_tf.models import build_retinaface
from retinaface_tf.serving.loaded_model import LoadedModel
from retinaface_tf.util.files import write_whole
from retinaface_tf.weights.choose_file import load_preset

CPP = REPOSITORY / "serving" / "cpp"
FORMATS = ("jpeg", "png", "gif", "bmp")
# Whole and cut files in turns, twice.
MIXED = [number for pair in zip(range(4), range(4, 8)) for number in pair] * 2


def compile_programs(folder: Path, *sources: Path) -> None:
    """Compiles each at the same time into a program of its name."""
    command = re.search(r"```sh\n(.*?)```", (CPP / "README.md").read_text(), re.DOTALL)[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    compiling = []
    for source in sources:
        line = command.replace("detect.cc", str(source)).replace("-O1", "-O0")
        line = line.replace("-o detect", f"-o {folder / source.stem}")
        compiling.append(subprocess.Popen(["sh", "-ec", line], env=environment))
    if any([process.wait() for process in compiling]):
        raise subprocess.SubprocessError("A program does not compile.")


def write_images(image: Image.Image, folder: Path) -> list[Path]:
    """An image in every format, then each cut short."""
    paths = []
    for cut in (None, 60):
        for kind in FORMATS:
            stream = io.BytesIO()
            image.save(stream, kind)
            paths.append(folder / f"{cut}.{kind}")
            paths[-1].write_bytes(stream.getvalue()[:cut])
    return paths


def export(preset: str, image: np.ndarray, folder: Path) -> Path:
    """A version of a preset: `lite` as it is, others with made-up weights and a threshold for them."""
    import keras

    if preset == "lite":
        return export_savedmodel(load_preset("lite"), folder)
    keras.utils.set_random_seed(3)
    network = build_retinaface(preset)
    scores = KerasRuntime(network)(image[None]).scores[0]
    return export_savedmodel(
        network, folder, SavedModelOptions(threshold=float(np.sort(scores)[-150]))
    )


def in_python(version: Path, files: Sequence[Path]) -> dict[str, np.ndarray]:
    inputs = np.empty(len(files), object)
    inputs[:] = [file.read_bytes() for file in files]
    model = LoadedModel(version)
    answer = model.signature().run({"image_bytes": inputs})
    model.close()
    return answer


def in_cpp(program: Path, version: Path, batch: int, files: Iterable[Path]) -> list[dict]:
    """An entry for each file, asked for from four threads."""
    done = subprocess.run(
        [program, version, str(batch), "4", *files],
        check=True, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(program: Path, version: Path, files: Sequence[Path]) -> tuple[int, dict[str, float]]:
    """How many faces Python finds, and the greatest differences by the outputs' names."""
    expected = in_python(version, files)
    assert expected["status"].tolist() == [0] * 4 + [1] * 4
    assert expected["num_faces"][:4].all() and not expected["num_faces"][4:].any()
    floats = {name for name, values in expected.items() if values.dtype == np.float32}
    worst = dict.fromkeys(sorted(floats), 0.0)
    for batch in (1, 4):
        answers = in_cpp(program, version, batch, (files[number] for number in MIXED))
        assert [answer.pop("image") for answer in answers] == [*range(len(MIXED))]
        for number, answer in zip(MIXED, answers, strict=True):
            assert answer.pop("status") == expected["status"][number]
            assert {*answer} == floats
            for name, values in answer.items():
                wanted = expected[name][number, : expected["num_faces"][number]].ravel()
                assert len(values) == len(wanted), name
                difference = np.abs(np.array(values) - wanted).max(initial=0)
                worst[name] = max(worst[name], float(difference))
    return int(expected["num_faces"].sum()), worst


def main() -> None:
    from skimage.data import astronaut

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=list_presets(), default=list_presets())
    parser.add_argument(
        "--json", type=Path, help="rows go here, in place of those of their presets"
    )
    options = parser.parse_args()
    # Presets of one architecture differ in weights alone.
    alike: dict[object, list[str]] = {}
    for name in options.only:
        alike.setdefault(name if name == "lite" else get_preset(name).config, []).append(name)
    rows = {}
    if options.json and options.json.exists():
        rows = {row["presets"][0]: row for row in json.loads(options.json.read_text())}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        image = astronaut()[:300, 60:460]
        files = write_images(Image.fromarray(image), folder)
        compile_programs(folder, CPP / "detect.cc")
        for names in alike.values():
            with tempfile.TemporaryDirectory(dir=folder) as model:
                version = export(names[0], image, Path(model) / "model")
                faces, worst = compare(folder / "detect", version, files)
            rows[names[0]] = {"presets": names, "faces": faces, "worst": worst}
            print(rows[names[0]], flush=True)
            if options.json:
                write_whole(options.json, json.dumps([*rows.values()], indent=1) + "\n")


if __name__ == "__main__":
    main()
