"""What alignment by the five points is worth to a face embedder.

    python benchmarks/verification_alignment.py --crops DIR --out DIR [--dlib MODEL.dat]

`--crops` is a folder of portraits, one a person, named as in LFW (`Name_0001.jpg`). Nobody appears
in it twice, so a pair "of one person" is a portrait and a distorted copy of itself: turned by up to 35
degrees, scaled, shifted, blurred, darkened and compressed. Pairs of two people are a portrait and a
distorted copy of someone else's. That measures robustness to pose in the image plane and quality,
not recognition across years: figures are not comparable with LFW's.

Embedders: eigenfaces (128 whitened principal components, trained on other people's crops cut out
the same way), written as ONNX and run by `evaluate verification`; and, with `--dlib`, dlib's ResNet
(`dlib_face_recognition_resnet_model_v1.dat` of the package face_recognition_models).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf import RetinaFace
from retinaface_tf.evaluation.faces_of_pairs import ALIGNMENTS, face_crops
from retinaface_tf.evaluation.verification import cosine_similarity, verify
from retinaface_tf.faces.embedder import Embedder, EmbedderInput, open_embedder

SIDE, CANVAS = 160, 256
COMPONENTS = 128


def main() -> None:
    """Make the images, cut out faces three ways, embed, verify, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--training", type=int, default=1000)
    parser.add_argument("--dlib", type=Path)
    parser.add_argument("--preset", default="mobilenet0.25")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    portraits = sorted(options.crops.glob("*_0001.jpg"))
    portraits = [portraits[i] for i in rng.permutation(len(portraits))]
    people, others = (
        portraits[: options.people],
        portraits[options.people : options.people + options.training],
    )
    plain, distorted = make_images(people, options.out, rng)
    training, _ = make_images(others, options.out / "training", rng)
    detector = RetinaFace.from_preset(options.preset)
    shift = 1 + rng.integers(0, len(people) - 1, len(people))
    stranger = (np.arange(len(people)) + shift) % len(people)
    print(f"{len(people)} pairs of one person, {len(people)} of two")
    print(
        f"{'embedder':12} {'faces cut out':14} {'found':>6} {'accuracy %':>14} {'TAR % at FAR 1 %':>17}"
    )
    for alignment in ALIGNMENTS:
        crops, found = cut_out(detector, [*plain, *distorted], alignment)
        other_crops, _ = cut_out(detector, training, alignment)
        file = options.out / f"eigenfaces_{alignment}.onnx"
        write_eigenfaces(file, other_crops)
        embedders = {"eigenfaces": open_embedder(file)}
        if options.dlib:
            embedders["dlib"] = open_dlib(options.dlib)
        for name, embedder in embedders.items():
            a, b = np.split(embedder(crops), 2)
            same = cosine_similarity(a, b)
            different = cosine_similarity(a, b[stranger])
            labels = np.arange(2 * len(people)) < len(people)
            result = verify(np.concatenate([same, different]), labels)
            accuracy = f"{100 * result.accuracy:.2f} ± {100 * result.accuracy_deviation:.2f}"
            rate = 100 * result.true_accept_rate(0.01)
            print(f"{name:12} {alignment:14} {found:5.1%} {accuracy:>14} {rate:17.2f}", flush=True)


def make_images(
    portraits: list[Path], folder: Path, rng: np.random.Generator
) -> tuple[list[Path], list[Path]]:
    """Each portrait in the middle of a canvas, and a distorted copy of that."""
    files: tuple[list[Path], list[Path]] = ([], [])
    (folder / "plain").mkdir(parents=True, exist_ok=True)
    (folder / "distorted").mkdir(parents=True, exist_ok=True)
    for portrait in portraits:
        image = cv2.resize(cv2.imread(str(portrait)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        border = (CANVAS - SIDE) // 2
        image = cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)
        for kind, pixels in (("plain", image), ("distorted", distort(image, rng))):
            file = folder / kind / f"{portrait.stem}.png"
            cv2.imwrite(str(file), pixels)
            files[kind == "distorted"].append(file)
    return files


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, scale, shift, blur, darken or brighten, compress."""
    middle = (CANVAS / 2, CANVAS / 2)
    matrix = cv2.getRotationMatrix2D(middle, rng.uniform(-35, 35), rng.uniform(0.75, 1.1))
    matrix[:, 2] += rng.uniform(-20, 20, 2)
    image = cv2.warpAffine(image, matrix, (CANVAS, CANVAS), borderMode=cv2.BORDER_REPLICATE)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0))
    image = np.clip(image * rng.uniform(0.6, 1.3) + rng.uniform(-20, 20), 0, 255)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))]
    return cv2.imdecode(cv2.imencode(".jpg", image.astype(np.uint8), quality)[1], cv2.IMREAD_COLOR)


def cut_out(detector: RetinaFace, files: list[Path], alignment: str) -> tuple[np.ndarray, float]:
    """Crops uint8 RGB [N, 112, 112, 3], and the share of images with a face."""
    pairs = list(face_crops(detector, files, alignment, 112, batch_size=16))
    return np.stack([crop for crop, _ in pairs]), float(np.mean([seen for _, seen in pairs]))


def write_eigenfaces(file: Path, crops: np.ndarray) -> None:
    """Whitened principal components of grey 28x28 crops, as an ONNX network of crops [N, 112, 112, 3]."""
    import onnx
    from onnx import helper, numpy_helper

    def shrink(crops):
        grey = (crops.astype(np.float32).mean(axis=-1) - 127.5) / 127.5
        return grey.reshape(len(crops), 28, 4, 28, 4).mean(axis=(2, 4)).reshape(len(crops), -1)

    pixels = shrink(crops)
    mean = pixels.mean(axis=0)
    _, values, directions = np.linalg.svd(pixels - mean, full_matrices=False)
    spread = values[:COMPONENTS] / np.sqrt(len(pixels))
    projection = (directions[:COMPONENTS] / spread[:, None]).T
    constants = {
        "mean": mean[None],
        "projection": projection,
        "fold": np.array([-1, 28, 4, 28, 4], np.int64),
        "flat": np.array([-1, 28 * 28], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["crops"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Reshape", ["grey", "fold"], ["folded"]),
        helper.make_node("ReduceMean", ["folded"], ["small"], axes=[2, 4], keepdims=0),
        helper.make_node("Reshape", ["small", "flat"], ["pixels"]),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "projection"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "eigenfaces",
        [helper.make_tensor_value_info("crops", onnx.TensorProto.FLOAT, ["n", 112, 112, 3])],
        [helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["n", COMPONENTS])],
        [
            numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), k)
            for k, v in constants.items()
        ],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), file)


def open_dlib(file: Path) -> Embedder:
    """dlib's ResNet as an embedder of 150x150 crops."""
    import dlib

    network = dlib.face_recognition_model_v1(str(file))

    def run(crops):
        pixels = np.rint(crops).astype(np.uint8)
        return np.array([network.compute_face_descriptor(crop) for crop in pixels])

    return Embedder((150, 150), run, EmbedderInput(mean=0, scale=1))


if __name__ == "__main__":
    main()
