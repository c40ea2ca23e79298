"""The same network in every engine: time, memory, file size, and how far its answer is from Keras'.

    pip install "retinaface-tf[all]"
    python benchmarks/engines.py --photos DIR --work DIR [--presets NAME ...] [--engines NAME ...]
        [--sizes 640x640 ...] [--threads 1 2] [--seconds 20] [--out STEM]

Each preset is exported as `retinaface-tf export` does. Where its weights are not here, it gets made-up ones by a
seeded rule: they cost what trained ones do. Presets of one architecture are run once. int8 is measured on ten of
the photos; an image of four, of the given size, is what every engine sees, the same bits. `openvino` and
`openvino-bf16` are this package's runtimes, as LiteRT, onnxruntime and Keras are; OpenVINO and OpenCV run without the
package. Each engine runs in a process of its own, all taking turns; the time is the least of the rounds. Its memory is the most that process
ever held, libraries included. `scores` and `deltas` are the greatest differences of the raw outputs to Keras';
`faces` are how many of Keras' faces come out (overlap above 0.5), `px` the greatest differences of those, in boxes /
landmarks / meshes: a SavedModel ends in faces. `--out` writes STEM.json and STEM.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.peers.environments import machine
from benchmarks.peers.table import milliseconds, table
from retinaface_tf import get_preset, list_presets
from retinaface_tf.config import DetectionSettings, RetinaFaceConfig
from retinaface_tf.evaluation.average_precision import best_overlap
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, parse_width_height
from retinaface_tf.inference.runtimes.runtime import join_outputs
from retinaface_tf.util.files import write_whole
from retinaface_tf.weights.choose_file import RUNTIMES

# Engine: what it needs, and the file it runs.
ENGINES = {
    "Keras": ("keras", "network.weights.h5"),
    "LiteRT float32": ("ai_edge_litert", "float32.tflite"),
    "LiteRT int8": ("ai_edge_litert", "int8.tflite"),
    "openvino": ("openvino", "float32.tflite"),
    "openvino-bf16": ("openvino", "float32.tflite"),
    "onnxruntime": ("onnxruntime", "float32.onnx"),
    "SavedModel": ("tensorflow", "savedmodel/1"),
    "OpenVINO float32": ("openvino", "float32.onnx"),
    "OpenVINO bfloat16": ("openvino", "float32.onnx"),
    "OpenCV": ("cv2", "float32.onnx"),
}
BASE = "onnxruntime"
RAW = ("scores", "box_deltas", "landmark_deltas")
ROUNDS = 3  # at least
PIXELS = ("boxes_px", "landmarks_px", "vertices_px")
# int8's ranges are measured on so many photos of this side, in pixels: small ones take less time.
CALIBRATED, PHOTOS = 320, 10
HEAVY_GMAC, CALIBRATED_HEAVY = 100, 128
FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", default=list_presets(), choices=list_presets())
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("--sizes", nargs="+", default=["640x640"], metavar="WIDTHxHEIGHT")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=20, help="of taking turns")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder that keeps what is exported"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    engines = ["Keras", *(e for e in options.engines if e != "Keras")]
    gone = [e for e in engines if importlib.util.find_spec(ENGINES[e][0]) is None]
    rows = []
    for names in _by_network(options.presets):
        folder = options.work / names[0]
        trained = _in_process(export, names[0], folder, options.photos)
        for size in options.sizes:
            image = photo(options.photos, parse_width_height(size))
            for threads in options.threads:
                case = {
                    "preset": ", ".join(names),
                    "weights": "trained" if trained else "made up",
                    "size": size,
                    "threads": threads,
                }
                there = [e for e in engines if e not in gone]
                found = measure(names[0], there, folder, image, threads, options.seconds)
                rows += [case | row for row in found]
                run = {"machine": described(), "not installed": gone, "rows": rows}
                print(*case.values(), file=sys.stderr, flush=True)
                if options.out:
                    text = json.dumps(run, indent=1)
                    write_whole(options.out.with_suffix(".json"), text.encode())
                    write_whole(options.out.with_suffix(".md"), markdown(run).encode())
    print(markdown(run))
    if any("error" in row for row in rows):
        sys.exit(1)


def _by_network(presets: list[str]) -> list[list[str]]:
    """Names of the presets, those of one architecture together."""
    groups: dict = {}
    for name in presets:
        groups.setdefault(get_preset(name).config, []).append(name)
    return list(groups.values())


def described() -> str:
    """This machine, with what its processor has for networks."""
    text = Path("/proc/cpuinfo").read_text()
    flags = next((l.split(":")[1].split() for l in text.splitlines() if l.startswith("flags")), [])
    return f"{machine()}; {' '.join(flag for flag in FLAGS if flag in flags)}"


def photo(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [H, W, 3] of that (height, width): four photos, so that there are several faces."""
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.images.read import read_image
    from retinaface_tf.inference.preprocess import prepare, stack_padded

    half = size[0] // 2, size[1] // 2
    photos = [read_image(path) for path, _ in list_images([str(folder)])[:4]]
    fitted = [prepare(photo, fixed_shape=half).pixels for photo in photos]
    parts = stack_padded(fitted, half, (0, 0, 0))
    return np.concatenate([np.concatenate(list(row), 1) for row in (parts[:2], parts[2:])])


# --- In processes of their own -------------------------------------------------------------------------


def _in_process(function, *arguments):
    """What a function gives in a new process, whose memory goes back afterwards."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def export(preset: str, folder: Path, photos: Path) -> bool:
    """Writes a preset's network for every engine, unless it is there; whether its weights are trained."""
    from retinaface_tf.export.calibration import CalibrationPhotos
    from retinaface_tf.export.onnx import export_onnx
    from retinaface_tf.export.savedmodel import SavedModelOptions, export_savedmodel
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.models import build_retinaface
    from retinaface_tf.weights.choose_file import load_preset, weights_path
    from retinaface_tf.weights.hdf5 import save_weights
    from retinaface_tf.weights.load import load_weights

    config = get_preset(preset).config
    side = CALIBRATED if get_preset(preset).gmac < HEAVY_GMAC else CALIBRATED_HEAVY
    trained = get_preset(preset).source is not None and weights_path(preset).is_file()
    weights, shape = folder / "network.weights.h5", (side, side)
    folder.mkdir(parents=True, exist_ok=True)
    if weights.is_file():
        network = load_weights(weights, config)
    else:
        network = load_preset(preset) if trained else made_up(build_retinaface(config))
        save_weights(network, weights)
    for file, write in {
        "float32.tflite": lambda path: export_tflite(network, path, size=shape),
        "int8.tflite": lambda path: export_tflite(
            network,
            path,
            size=shape,
            precision="int8",
            calibration=CalibrationPhotos(photos, shape, config.pixel_mean, PHOTOS),
        ),
        "float32.onnx": lambda path: export_onnx(network, path),
        "savedmodel/1": lambda path: export_savedmodel(network, path.parent, SavedModelOptions()),
    }.items():
        if not (folder / file).exists():
            try:
                write(folder / file)
            except Exception as error:
                print(f"{preset}: {file} is not written: {error}", file=sys.stderr)
    return trained


def made_up(network):
    """The network with weights by a rule such that deep ones neither vanish nor explode."""
    for number, weight in enumerate(network.weights):
        random = np.random.default_rng(number)
        if len(weight.shape) == 4:
            reach = (
                np.prod(weight.shape[:2])
                if "depthwise" in weight.path
                else np.prod(weight.shape[:3])
            )
            # The first kernel sees an image in 0..255; offsets of deformable ones stay small.
            scale = 1 / 60 if weight.shape[2] == 3 else 0.1 if "offset" in weight.path else 1
            value = random.normal(0, scale * (1.5 / reach) ** 0.5, weight.shape)
        elif weight.name == "moving_variance":
            value = random.uniform(0.5, 2.0, weight.shape)
        elif weight.name == "gamma":
            value = random.uniform(0.6, 1.0, weight.shape)
        else:
            value = random.normal(0, 0.1, weight.shape)
        weight.assign(value)
    return network


def serve(pipe, engine: str, path: Path, preset: str, image: np.ndarray, threads: int) -> None:
    """Opens an engine, answers once, then runs whenever it is asked to and says how long it took."""
    try:
        run = opened(engine, path, get_preset(preset).config, image.shape[:2], threads)
        answer = run(image[None])
        pipe.send(answer)
        while pipe.recv():
            begin = time.perf_counter()
            run(image[None])
            pipe.send(time.perf_counter() - begin)
        pipe.send(peak_bytes())
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def peak_bytes() -> int:
    """The most memory this process ever held (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def opened(engine: str, path: Path, config: RetinaFaceConfig, shape: tuple[int, int], threads: int):
    """A function from uint8 images [1, H, W, 3] to the engine's outputs by name."""
    names = [*RAW, *config.dense_outputs]
    if engine.startswith("OpenVINO"):
        return _openvino(path, names, shape, threads, engine.split()[-1].replace("float", "f"))
    if engine == "OpenCV":
        return _opencv(path, names, threads)
    if engine in ("Keras", "SavedModel"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if engine == "SavedModel":
            model = tf.saved_model.load(str(path))
            served = model.signatures["image_tensor"]
            return lambda images: {
                k: v.numpy() for k, v in served(images=tf.constant(images)).items()
            }
    from retinaface_tf.inference.runtimes.open import open_runtime

    runtime = open_runtime(
        path,
        engine.lower() if engine.lower() in RUNTIMES else "auto",
        threads=None if engine == "Keras" else threads,
    )
    return lambda images: runtime(images)._asdict() | {"dense_weights": runtime.dense_weights}


def _openvino(path: Path, names: list[str], shape: tuple[int, int], threads: int, precision: str):
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *shape, 3])
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # several engines on the same cores
    }
    compiled = core.compile_model(model, "CPU", options)

    def run(images):
        found = compiled(images.astype(np.float32))
        return join_outputs([np.array(found[name]) for name in names])._asdict()

    return run


def _opencv(path: Path, names: list[str], threads: int):
    import cv2

    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(str(path))

    def run(images):
        network.setInput(images.astype(np.float32))
        return join_outputs(network.forward(names))._asdict()

    return run


# --- Side by side ---------------------------------------------------------------------------------------


def measure(
    preset: str, engines: list[str], folder: Path, image: np.ndarray, threads: int, least: float
) -> list[dict]:
    """A row for each engine; Keras, the first one, is what the others are compared with."""
    context = multiprocessing.get_context("spawn")
    running, rows, answers, seconds = {}, {}, {}, {}
    for engine in engines:
        path = folder / ENGINES[engine][1]
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, engine, path, preset, image, threads))
        process.start()
        theirs.close()
        answer = _received(ours)
        if isinstance(answer, str):
            rows[engine] = {"engine": engine, "error": answer}
            continue
        running[engine], answers[engine], seconds[engine] = ours, answer, []
        rows[engine] = {"engine": engine}
    end = time.monotonic() + least
    while time.monotonic() < end or min(map(len, seconds.values())) < ROUNDS:
        for engine, pipe in running.items():
            pipe.send(True)
            seconds[engine].append(_received(pipe))
    for engine, pipe in running.items():
        pipe.send(False)
        path = folder / ENGINES[engine][1]
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        rows[engine] |= {
            "ms": 1000 * min(seconds[engine]),
            "peak_mib": _received(pipe) / 2**20,
            "file_mb": sum(file.stat().st_size for file in files) / 1e6,
            **compared(preset, answers["Keras"], answers[engine], image),
        }
    for row in rows.values():
        if "ms" in row and "ms" in rows.get(BASE, {}):
            row["ratio"] = row["ms"] / rows[BASE]["ms"]
    return list(rows.values())


def _received(pipe):
    try:
        return pipe.recv()
    except EOFError:
        return "the process died"


def compared(preset: str, keras: dict, answer: dict, image: np.ndarray) -> dict:
    """The greatest differences of raw outputs, and of the faces."""
    row = {}
    if "box_deltas" in answer:
        row["scores"] = _greatest(keras["scores"], answer["scores"])
        row["deltas"] = max(_greatest(keras[name], answer[name]) for name in RAW[1:])
        answer = faces(preset, answer, image, keras["dense_weights"])
    wanted = faces(preset, keras, image, keras["dense_weights"])
    nearest, iou = best_overlap(wanted["boxes"][0], answer["boxes"][0])
    hit = iou > 0.5
    row |= {"faces": len(hit), "found": int(hit.sum())}
    for name in ("boxes", "landmarks", "vertices"):
        if name in wanted:
            ours, theirs = answer[name][0][nearest[hit]], wanted[name][0][hit]
            row[f"{name}_px"] = float(np.abs(ours - theirs).max(initial=0))
    return row


def _greatest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def faces(preset: str, answer: dict, image: np.ndarray, dense_weights: dict | None) -> dict:
    """What a SavedModel answers, of raw outputs."""
    shape = image.shape[:2]
    found = read_faces(
        join_outputs([*(answer[name] for name in RAW), *answer.get("features", ())]),
        0,
        shape,
        Prepared(image, (1.0, 1.0), shape),
        get_preset(preset).config,
        DetectionSettings(),
        dense_weights=dense_weights,
    )
    values = {"boxes": found.boxes, "landmarks": found.landmarks, "vertices": found.vertices}
    return {name: value[None] for name, value in values.items() if value is not None}


def _found(row: dict) -> tuple[str, str]:
    """Faces and pixels; of raw outputs only of trained weights: others score anchors nearly alike."""
    if row["weights"] != "trained" and "scores" in row:
        return "", ""
    apart = " / ".join(f"{row[name]:.0e}" for name in PIXELS if name in row)
    return f"{row['found']} of {row['faces']}", apart


def markdown(run: dict) -> str:
    """The table; what is the same in all rows stands above it, what is as in the row above is left out."""
    labels = ("preset", "weights", "size", "threads")
    same = {k: run["rows"][0][k] for k in labels if len({row[k] for row in run["rows"]}) == 1}
    head = [name for name in labels if name not in same]
    about = [run["machine"], *(f"{name}: {value}" for name, value in same.items())]
    about += [f"not installed: {', '.join(run['not installed'])}"] if run["not installed"] else []
    rows, last = [], None
    for row in run["rows"]:
        case = [str(row[name]) for name in head]
        cells = ["" for _ in case] if case == last else case
        last = case
        if "error" in row:
            rows.append([*cells, row["engine"], row["error"], *[""] * 7])
            continue
        rows.append(
            [
                *cells,
                row["engine"],
                milliseconds(row["ms"]),
                f"{row['ratio']:.2f}" if "ratio" in row else "",
                f"{row['peak_mib']:.0f}",
                f"{row['file_mb']:.2f}",
                *(f"{row[name]:.0e}" if name in row else "" for name in ("scores", "deltas")),
                *_found(row),
            ]
        )
    head += ["engine", "ms", f"to {BASE}", "MiB", "MB", "scores", "deltas", "faces", "px"]
    return f"{'; '.join(about)}\n\n{table(head, rows)}\n"


if __name__ == "__main__":
    main()
