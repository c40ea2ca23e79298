"""Converted networks beside the original programs: raw heads and faces, on made-up weights.

    git clone https://github.com/yakhyo/retinaface-pytorch CODE/yakhyo       (likewise biubug6's
    Pytorch_Retinaface as CODE/biubug6 and ternaus' retinaface as CODE/ternaus)
    pip install torch torchvision onnx keras h5py
    KERAS_BACKEND=torch python benchmarks/published_code.py CODE [--fixtures tests/weights/convert/published]

Each program builds its network, gets weights by the rule of tests/helpers/published_rule.py, writes
them as a state dict and as ONNX, and answers three images. Both files are converted here, and the
greatest differences of the answers are printed: of the raw heads (box deltas, scores, landmark deltas)
and of the faces behind each program's decoding and suppression, in pixels. With `--fixtures` the
answers at sampled places are kept, so that tests need none of that code.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch
from keras import ops
from rich.console import Console
from rich.table import Table

from retinaface_tf.geometry.anchors import generate_anchors
from retinaface_tf.geometry.box_coding import decode_boxes, decode_points
from retinaface_tf.geometry.nms import non_max_suppression
from retinaface_tf.presets import get_preset
from retinaface_tf.weights.convert.convert import convert_weights
from tests.helpers import published_rule

# Preset: program, its name of the network.
NETWORKS = {
    "mobilenet0.25": ("yakhyo", "mobilenetv1_0.25"),
    "mobilenet0.5": ("yakhyo", "mobilenetv1_0.50"),
    "mobilenet1.0": ("yakhyo", "mobilenetv1"),
    "mobilenetv2": ("yakhyo", "mobilenetv2"),
    "resnet18": ("yakhyo", "resnet18"),
    "resnet34": ("yakhyo", "resnet34"),
    "resnet50.yakhyo": ("yakhyo", "resnet50"),
    "mobilenet0.25.biubug6": ("biubug6", "cfg_mnet"),
    "resnet50.biubug6": ("biubug6", "cfg_re50"),
    "resnet50.ternaus": ("ternaus", "Resnet50"),
}
THRESHOLD, OVERLAP = 0.5, 0.4


class Program:
    """An original program's network, its decoding and its suppression."""

    def __init__(self, code: Path, program: str, name: str):
        # Their modules have common names, such as `models`: one program at a time.
        for module in [m for m in sys.modules if m.split(".")[0] in ("models", "layers", "utils")]:
            del sys.modules[module]
        for module in ("config", "data"):
            sys.modules.pop(module, None)
        sys.path[:] = [str(code / program), *(p for p in sys.path if not p.startswith(str(code)))]
        self.program = program
        if program == "ternaus":
            load = importlib.import_module
            self.network = load("retinaface.network").RetinaFace(
                name=name,
                pretrained=False,
                in_channels=256,
                return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
                out_channels=256,
            )
            self.priors = load("retinaface.prior_box").priorbox
            boxes = load("retinaface.box_utils")
            self.decode, self.decode_points = boxes.decode, boxes.decode_landm
            self.config = {"min_sizes": [[16, 32], [64, 128], [256, 512]], "steps": [8, 16, 32]}
        else:
            load = importlib.import_module
            if program == "yakhyo":
                config = load("config").get_config(name)
                arguments = {"cfg": {**config, "pretrain": False}}
                boxes = load("utils.box_utils")
                self.decode, self.decode_points = boxes.decode, boxes.decode_landmarks
                anchors = load("layers.functions.prior_box").PriorBox
                self.priors = lambda size: anchors(config, image_size=size).generate_anchors()
            else:
                config = getattr(load("data.config"), name)
                arguments = {"cfg": {**config, "pretrain": False}, "phase": "test"}
                boxes = load("utils.box_utils")
                self.decode, self.decode_points = boxes.decode, boxes.decode_landm
                anchors = load("layers.functions.prior_box").PriorBox
                self.priors = lambda size: anchors(config, image_size=size).forward()
            self.network = load("models.retinaface").RetinaFace(**arguments)
        state = {
            key: torch.from_numpy(published_rule.tensor(key, tuple(value.shape)))
            for key, value in self.network.state_dict().items()
        }
        self.network.load_state_dict(state)
        self.network.eval()

    def image(self, rgb: np.ndarray) -> torch.Tensor:
        """As their own scripts prepare one."""
        if self.program == "ternaus":
            mean, deviation = np.float32((0.485, 0.456, 0.406)), np.float32((0.229, 0.224, 0.225))
            image = (rgb.astype(np.float32) - 255 * mean) / (255 * deviation)
        else:
            image = rgb[..., ::-1].astype(np.float32) - np.float32((104, 117, 123))
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]

    @torch.no_grad()
    def heads(self, rgb: np.ndarray) -> dict[str, np.ndarray]:
        """Box deltas, scores and landmark deltas of every anchor."""
        boxes, classes, points = self.network(self.image(rgb))
        if self.program == "ternaus":
            classes = torch.softmax(classes, -1)
        return {
            "box_deltas": boxes[0].numpy(),
            "scores": classes[0, :, 1].numpy(),
            "landmark_deltas": points[0].numpy(),
        }

    def faces(self, heads: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """[K, 15] boxes, score and points in pixels, best first, as torchvision suppresses."""
        import torchvision

        if self.program == "ternaus":
            priors = self.priors(clip=False, image_size=size, **self.config)
        else:
            priors = self.priors(size)
        scale = torch.tensor(size[::-1], dtype=torch.float32)
        boxes = self.decode(torch.from_numpy(heads["box_deltas"]), priors, [0.1, 0.2])
        points = self.decode_points(torch.from_numpy(heads["landmark_deltas"]), priors, [0.1, 0.2])
        boxes, points = boxes * scale.repeat(2), points * scale.repeat(5)
        scores = torch.from_numpy(heads["scores"])
        chosen = scores > THRESHOLD
        boxes, points, scores = boxes[chosen], points[chosen], scores[chosen]
        kept = torchvision.ops.nms(boxes, scores, OVERLAP)
        return torch.cat([boxes, scores[:, None], points], 1)[kept].numpy()

    def write(self, folder: Path) -> dict[str, Path]:
        """The network as a state dict and as ONNX."""
        paths = {"pth": folder / "network.pth", "onnx": folder / "network.onnx"}
        torch.save(self.network.state_dict(), paths["pth"])
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                self.network,
                (torch.zeros(1, 3, 64, 64),),
                str(paths["onnx"]),
                opset_version=16,
                input_names=["input"],
                output_names=["loc", "conf", "landmarks"],
                dynamic_axes={"input": {0: "batch", 2: "height", 3: "width"}},
                dynamo=False,
            )
        return paths


def our_heads(network, rgb: np.ndarray) -> dict[str, np.ndarray]:
    """What the converted network answers, as `Program.heads`."""
    outputs = {k: ops.convert_to_numpy(v)[0] for k, v in network(rgb[None]).items()}
    background, face = outputs.pop("class_logits").T.astype(np.float64)
    return {**outputs, "scores": 1 / (1 + np.exp(background - face))}


def our_faces(config, heads: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """As `Program.faces`."""
    anchors = generate_anchors(config.levels, *size)
    boxes = decode_boxes(heads["box_deltas"], anchors)
    deltas = heads["landmark_deltas"].reshape(-1, 5, 2)
    points = decode_points(deltas, anchors).reshape(-1, 10)
    chosen = np.flatnonzero(heads["scores"] > THRESHOLD)
    boxes, points, scores = boxes[chosen], points[chosen], heads["scores"][chosen]
    kept = non_max_suppression(boxes, scores, OVERLAP)
    return np.concatenate([boxes, scores[:, None], points], 1)[kept]


def compare(preset: str, code: Path, fixtures: Path | None) -> list[str]:
    """A row of the table."""
    known = get_preset(preset)
    program = Program(code, *NETWORKS[preset])
    images = [published_rule.image(number) for number in range(len(published_rule.SIZES))]
    expected = [program.heads(image) for image in images]
    row, faces = [preset, program.program], 0
    with tempfile.TemporaryDirectory() as folder:
        for path in program.write(Path(folder)).values():
            network = convert_weights(path, known.config, known.trained_on)
            worst, pixels = {}, 0.0
            for image, theirs in zip(images, expected):
                ours = our_heads(network, image)
                for kind, value in theirs.items():
                    difference = float(np.abs(ours[kind] - value).max())
                    worst[kind] = max(worst.get(kind, 0.0), difference)
                size = image.shape[:2]
                a, b = program.faces(theirs, size), our_faces(known.config, ours, size)
                # Nearly equal scores may stand in another order.
                gaps = np.abs(a[:, None] - b).max(-1).min(1) if len(a) == len(b) else np.inf
                pixels = max(pixels, float(np.max(gaps, initial=0)))
                faces += len(a)
            row.append(" / ".join(f"{worst[kind]:.1e}" for kind in theirs) + f"; {pixels:.1e}")
    largest = max(np.abs(value).max() for heads in expected for value in heads.values())
    if fixtures:
        keep(fixtures / f"{preset}.npz", program, preset, expected)
    return [*row, f"{largest:.1f}", str(faces // 2)]


def keep(path: Path, program: Program, preset: str, expected: list[dict]) -> None:
    """Names and shapes of the state dict, and answers at sampled anchors."""
    state = program.network.state_dict()
    values = {
        "names": np.array(list(state)),
        "shapes": np.array([str(tuple(v.shape)) for v in state.values()]),
    }
    for number, heads in enumerate(expected):
        chosen = published_rule.places(len(heads["scores"]), preset, number)
        for kind, value in heads.items():
            values[f"{kind}_{number}"] = value[chosen]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **values)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("code", type=Path)
    parser.add_argument("--fixtures", type=Path)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    options = parser.parse_args()
    heads = "box deltas / scores / landmark deltas; faces"
    table = Table(
        "preset", "program", f".pth: {heads}", f".onnx: {heads}", "largest output", "faces"
    )
    for preset in options.only:
        table.add_row(*compare(preset, options.code, options.fixtures))
        print(preset, "done", file=sys.stderr)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
