"""A second network that tells faces from what looks like one: trained, then measured against a higher threshold.

    python benchmarks/verifier.py --data ../shared/data --work runs/verifier --labels LABELS.jsonl:PHOTOS \\
        --empty PHOTOS_WITHOUT_PEOPLE --crops FACE_CROPS [--pictures lost.png]

Cuts out what is learnt from (WORK/crops.npz), trains (WORK/verifier.tflite, int8, kept too) and measures. Labels are
lines as `detect --json`, `data pseudo-label` and `data convert` write them. Photos in the folder without people have
to be looked at, and those whose name's checksum is a multiple of three are left out of it: of DATA/negatives they are
what false alarms are counted on. AP is plain, IoU 0.5, scores from 0.02; what was found: docs/own-weights.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray

from retinaface_tf import RetinaFace
from retinaface_tf.data.readers.fddb import read_fddb_boxes
from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.evaluation.average_precision import average_precision
from retinaface_tf.faces.faces import Faces
from retinaface_tf.faces.json_lines import read_face_lines
from retinaface_tf.geometry.boxes import pairwise_iou
from retinaface_tf.geometry.similarity import square_around
from retinaface_tf.images.listing import list_images
from retinaface_tf.images.read import read_image
from retinaface_tf.images.warp import warp
from retinaface_tf.util.files import write_whole
from retinaface_tf.util.npz import read_npz, write_npz

# Side of a crop in pixels, and how many longer sides of the box it spans.
SIDE, CONTEXT = 48, 1.5
# A kept crop is larger than the network's, so that it can be turned and moved.
KEPT, KEPT_CONTEXT = 72, 2.25
FILL = 128
# Where crops are of, and each one's share of what is learnt from.
SHARES = {
    "found": 0.27,  # a face, as the detector boxes it
    "labelled": 0.14,  # a face, as its label boxes it
    "portrait": 0.07,  # the best face of a crop of one
    "alarm": 0.14,  # what the detector takes for a face in a photo with people
    "empty": 0.26,  # the same where there are none, at several sizes
    "beside": 0.05,  # boxes beside faces
    "anywhere": 0.07,
}
FACES = ("found", "labelled", "portrait")
STEPS, BATCH, RATE = 3000, 128, 3e-3
MOST_OF_PHOTO = 12
SIZES = (None, (300, 300), (640, 640), (1000, 1000))
# Width and stride of the 3x3 convolutions; one that keeps the width and size is added to its input.
UNITS = ((12, 2), (24, 2), (24, 1), (48, 2), (48, 1), (64, 2))
# The rule: scores in this range are multiplied by sigmoid(SLOPE * (logit + OFFSET)).
LEAST_SCORE, SURE = 0.2, 0.95
SLOPE, OFFSET = 0.5, 2.5
# What it is compared with.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7)


class Crops:
    """What is learnt from.

    Attributes:
        pixels: uint8 RGB [KEPT, KEPT, 3] of each.
        kinds: of `SHARES`.
        sides: the longer side of its box, in pixels of the photo.
    """

    def __init__(self) -> None:
        self.pixels: list[NDArray[np.uint8]] = []
        self.kinds: list[str] = []
        self.sides: list[float] = []

    def arrays(self) -> dict[str, NDArray]:
        """All of them, by name."""
        return {name: np.array(values) for name, values in vars(self).items()}

    def add(self, photo: NDArray[np.uint8], boxes: NDArray[np.float64], kind: str) -> None:
        """Cuts the surroundings of boxes [N, 4] of 8 pixels or more."""
        for box in boxes:
            side = float((box[2:] - box[:2]).max())
            if side >= 8:
                matrix = square_around(box, KEPT, KEPT_CONTEXT)
                self.pixels.append(warp(photo, matrix, (KEPT, KEPT), fill=FILL))
                self.kinds.append(kind)
                self.sides.append(side)

    def add_labelled(
        self,
        photo: NDArray[np.uint8],
        faces: NDArray[np.float64],
        ignored: NDArray[np.bool_],
        detector: RetinaFace,
        rng: np.random.Generator,
    ) -> None:
        """Of a photo with faces [M, 4], which of them are ignored, and what lies beside them."""
        found = detector.detect(photo, threshold=0.05).boxes.astype(float)
        overlaps = pairwise_iou(found, faces)
        self.add(photo, found[(overlaps * ~ignored).max(axis=1, initial=0) >= 0.5], "found")
        self.add(photo, found[overlaps.max(axis=1, initial=0) < 0.1], "alarm")
        certain = rng.permutation(faces[~ignored])[:MOST_OF_PHOTO]
        self.add(photo, certain, "labelled")
        sizes = certain[:, 2:] - certain[:, :2]
        angle = rng.uniform(0, 2 * np.pi, len(certain))
        away = rng.uniform(0.5, 1.1, (len(certain), 1)) * np.stack(
            [np.cos(angle), np.sin(angle)], 1
        )
        middles = (certain[:, 2:] + certain[:, :2]) / 2 + away * sizes
        halves = sizes / 2 * np.exp(rng.uniform(-0.5, 0.5, (len(certain), 1)))
        beside = np.concatenate([middles - halves, middles + halves], axis=1)[:3]
        self.add(photo, beside[pairwise_iou(beside, faces).max(axis=1, initial=0) < 0.25], "beside")
        self.add_anywhere(photo, faces, rng)

    def add_empty(
        self, photo: NDArray[np.uint8], detector: RetinaFace, rng: np.random.Generator
    ) -> None:
        """Of a photo without people, and its mirror image."""
        for view in (photo, np.ascontiguousarray(photo[:, ::-1])):
            for size in SIZES:
                found = detector.detect(view, threshold=0.03, size=size, max_faces=MOST_OF_PHOTO)
                self.add(view, found.boxes.astype(float), "empty")
        self.add_anywhere(photo, np.zeros((0, 4)), rng)

    def add_anywhere(
        self, photo: NDArray[np.uint8], faces: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        """Eight boxes drawn by lot, as far as they touch no face."""
        limit = np.array(photo.shape[1::-1], float)
        side = np.exp(rng.uniform(np.log(10), np.log(max(12, 0.7 * limit.min())), (8, 1)))
        size = side * np.array([0.8, 1.0])
        low = rng.random((8, 2)) * np.maximum(limit - size, 1)
        boxes = np.concatenate([low, low + size], axis=1)
        self.add(photo, boxes[pairwise_iou(boxes, faces).max(axis=1, initial=0) < 0.1], "anywhere")


def build_verifier():
    """Crops [B, 48, 48, 3], RGB in 0..255, to logits [B, 1]: above 0 more likely a face than none."""
    import keras
    from keras import layers

    crops = keras.Input((SIDE, SIDE, 3), name="crops")
    maps = layers.Rescaling(1 / 64, offset=-2, name="normalize")(crops)
    for place, (width, stride) in enumerate(UNITS):
        before = maps
        maps = layers.Conv2D(width, 3, stride, padding="same", use_bias=False, name=f"conv{place}")(
            maps
        )
        maps = layers.BatchNormalization(momentum=0.98, name=f"bn{place}")(maps)
        maps = layers.Add(name=f"add{place}")([maps, before]) if stride == 1 else maps
        maps = layers.ReLU(name=f"relu{place}")(maps)
    pooled = layers.GlobalAveragePooling2D(name="pool")(maps)
    pooled = layers.Dropout(0.1, name="dropout")(pooled)
    return keras.Model(crops, layers.Dense(1, name="logit")(pooled), name="verifier")


def collect(
    labels: list[str], empty: list[Path], crops: list[Path], rng: np.random.Generator
) -> Crops:
    """Cuts out what is learnt from, see `main`."""
    detector, kept = RetinaFace.from_preset("lite"), Crops()
    for pair in labels:
        lines, _, folder = pair.rpartition(":")
        for line in read_face_lines(lines):
            if line.error is None:
                photo = read_image(Path(folder) / line.image)
                kept.add_labelled(photo, line.boxes.reshape(-1, 4), line.ignored, detector, rng)
        print(f"{lines}: {len(kept.kinds):,} crops so far", flush=True)
    for path, _ in list_images(empty) if empty else []:
        if held_out(path):
            continue
        kept.add_empty(read_image(path), detector, rng)
    for path, _ in list_images(crops) if crops else []:
        photo = read_image(path)
        found = detector.detect(photo, threshold=0.3, max_faces=1)
        kept.add(photo, found.boxes.astype(float), "portrait")
    return kept


def train(
    pixels: NDArray[np.uint8],
    kinds: NDArray[np.str_],
    sides: NDArray[np.float64],
    steps: int,
    rng: np.random.Generator,
):
    """A network that has learnt from crops [N, KEPT, KEPT, 3], their kinds [N] and sides [N], see `Crops`."""
    import keras

    keras.utils.set_random_seed(int(rng.integers(2**31)))
    rates = keras.optimizers.schedules.CosineDecay(
        RATE / 40, steps, warmup_target=RATE, warmup_steps=40
    )
    model = build_verifier()
    model.compile(
        keras.optimizers.AdamW(rates, weight_decay=2e-3),
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.02),
    )
    is_face = np.isin(kinds, FACES).astype(np.float32)
    order, losses = drawn(kinds, steps * BATCH, rng), []
    for step in range(steps):
        part = order[step * BATCH : (step + 1) * BATCH]
        batch = np.stack([distorted(pixels[i], float(sides[i]), rng) for i in part])
        losses.append(float(model.train_on_batch(batch, is_face[part])))
        if step % 100 == 99:
            print(f"step {step + 1}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return model


def drawn(kinds: NDArray[np.str_], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of about so many crops, of each kind its share, none again before all of its kind were."""
    chosen = []
    for kind, share in SHARES.items():
        places = np.flatnonzero(kinds == kind)
        wanted = round(count * share)
        turns = [rng.permutation(places) for _ in range(-(-wanted // len(places)))]
        chosen.append(np.concatenate(turns)[:wanted])
    order: NDArray[np.int64] = rng.permutation(np.concatenate(chosen))
    return np.resize(order, count)


def distorted(
    crop: NDArray[np.uint8], side: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A crop as another camera, size or box would give it: float32 RGB [SIDE, SIDE, 3] in 0..255.

    Args:
        crop: uint8 RGB [KEPT, KEPT, 3].
        side: of its box in the photo; a smaller one may be drawn.
    """
    turn, scale = rng.normal(0, 0.14), np.exp(rng.normal(0, 0.08)) * SIDE / KEPT
    scale *= KEPT_CONTEXT / CONTEXT
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:, 0] *= rng.choice([-1, 1])
    middle = (SIDE - 1) / 2 + rng.normal(0, 1.4, 2)
    matrix = np.column_stack([matrix, middle - matrix @ np.full(2, (KEPT - 1) / 2)])
    pixels = cv2.warpAffine(crop, matrix, (SIDE, SIDE), borderValue=(FILL,) * 3)
    if rng.random() < 0.15:  # something in front
        low, size = rng.integers(0, SIDE, 2), rng.integers(4, 20, 2)
        pixels[low[0] : low[0] + size[0], low[1] : low[1] + size[1]] = rng.integers(0, 256, 3)
    if rng.random() < 0.08:  # where a mask would be
        top, left, right = rng.integers([24, 12, 32], [30, 17, 37])
        pixels[top : top + rng.integers(8, 14), left:right] = rng.integers(60, 256, 3)
    smaller = np.exp(rng.uniform(np.log(8), np.log(40)))
    if smaller < side and rng.random() < 0.4:
        few = round(CONTEXT * smaller)
        if few < SIDE:
            pixels = cv2.resize(pixels, (few, few), interpolation=cv2.INTER_AREA)
            pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    elif rng.random() < 0.2:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 2))
    if rng.random() < 0.25:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 80))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.15:
        pixels = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    result = (pixels.astype(np.float32) - FILL) * np.exp(rng.normal(0, 0.15)) + FILL
    result += rng.normal(0, 15)
    result *= np.exp(rng.normal(0, 0.06, 3))
    if rng.random() < 0.12:  # dark
        result *= rng.uniform(0.2, 0.6)
    if rng.random() < 0.15:
        result += rng.normal(0, rng.uniform(2, 10), result.shape)
    return np.clip(result, 0, 255).astype(np.float32)


def int8(model, calibration: list[NDArray[np.float32]]) -> bytes:
    """The .tflite: a uint8 crop [1, 48, 48, 3] to a float logit."""
    import tensorflow as tf

    from retinaface_tf.export.archive import saved_graph

    signature = tf.TensorSpec([1, SIDE, SIDE, 3], tf.float32, "crops")
    with saved_graph(model, lambda crops: model(crops, training=False), signature) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, ["serve"])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([crop[None]] for crop in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        return converter.convert()


class Verifier:
    """Lowers the scores of unsure detections by what their crops show."""

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._put = self._interpreter.get_input_details()[0]["index"]
        self._take = self._interpreter.get_output_details()[0]["index"]
        self.seconds, self.crops = 0.0, 0

    def __call__(self, pixels: NDArray[np.uint8], faces: Faces) -> NDArray[np.float64]:
        """The scores [N] of faces in an image afterwards."""
        begun = time.process_time()
        scores = faces.scores.astype(float)
        for place in np.flatnonzero((scores >= LEAST_SCORE) & (scores < SURE)):
            matrix = square_around(faces.boxes[place], SIDE, CONTEXT)
            crop = warp(pixels, matrix, (SIDE, SIDE), fill=FILL)
            logit = (self._logit(crop) + self._logit(crop[:, ::-1])) / 2
            scores[place] /= 1 + np.exp(-SLOPE * (logit + OFFSET))
            self.crops += 1
        self.seconds += time.process_time() - begun
        return scores

    def _logit(self, crop: NDArray[np.uint8]) -> float:
        self._interpreter.set_tensor(self._put, np.ascontiguousarray(crop[None]))
        self._interpreter.invoke()
        return float(self._interpreter.get_tensor(self._take)[0, 0])


def held_out(path: Path) -> bool:
    """Whether a photo without people neither teaches nor chooses anything."""
    return zlib.crc32(path.name.encode()) % 3 == 0


def labelled_sets(data: Path) -> dict[str, list]:
    """Images with their faces, by the set's name."""
    sets = {"FDDB": read_fddb_boxes(data / "fddb/boxes_verified.txt", data / "fddb/originalPics")}
    for name, folder in (
        ("WIDER val", "wider/val"),
        ("WIDER val 416", "wider_416/val"),
        ("WIDER val more", "wider/val_more"),
    ):
        images = data / folder
        sets[name] = read_widerface(images / "wider_face_val_bbx_gt.txt", images / "images")
    return sets


def recalled(boxes, scores, faces, threshold: float) -> NDArray[np.bool_]:
    """bool [M]: which faces [M, 4] have a detection from the threshold on."""
    return pairwise_iou(faces, boxes[scores >= threshold]).max(axis=1, initial=0) >= 0.5


def measure(data: Path, file: Path, precision: str, pictures: Path | None) -> None:
    """Prints AP with and without, then what the verifier and higher thresholds cost and bring."""
    detector, verifier = (
        RetinaFace.from_preset("lite", precision=precision, threads=1),
        Verifier(file),
    )
    kept, lost = dict.fromkeys(["verified", *THRESHOLDS], 0), []
    for name, images in labelled_sets(data).items():
        truth, plain, verified, seconds = [], [], [], 0.0
        verifier.seconds, verifier.crops = 0.0, 0
        for image in images:
            pixels = read_image(image.path)
            begun = time.process_time()
            faces = detector.detect(pixels, threshold=0.02)
            seconds += time.process_time() - begun
            scores = verifier(pixels, faces)
            truth.append((image.boxes.astype(float), image.ignored))
            plain.append((faces.boxes, faces.scores))
            verified.append((faces.boxes, scores))
            valid = truth[-1][0][~image.ignored]
            found = recalled(*plain[-1], valid, 0.5), recalled(*verified[-1], valid, 0.5)
            kept["verified"] += found[1].sum()
            for threshold in THRESHOLDS:
                kept[threshold] += recalled(*plain[-1], valid, threshold).sum()
            lost += [
                warp(pixels, square_around(box, 72, 2.25), (72, 72))
                for box in valid[found[0] & ~found[1]]
            ]
        print(
            f"{name:15} AP {average_precision(plain, truth):.4f} -> {average_precision(verified, truth):.4f}, "
            f"{1000 * verifier.seconds / max(verifier.crops, 1):.3f} ms a crop, {verifier.crops / len(images):.1f} "
            f"a photo, time x {1 + verifier.seconds / seconds:.3f}",
            flush=True,
        )
    alarms = {rule: [0] * len(SIZES) for rule in kept}
    photos = [path for path in sorted((data / "negatives").rglob("*.jpg")) if held_out(path)]
    for place, size in enumerate(SIZES):
        for path in photos:
            pixels = read_image(path)
            faces = detector.detect(pixels, threshold=0.02, size=size)
            alarms["verified"][place] += int(verifier(pixels, faces).max(initial=0) >= 0.5)
            for threshold in THRESHOLDS:
                alarms[threshold][place] += int(faces.scores.max(initial=0) >= threshold)
    print(f"faces found; held out photos without people, {len(photos)}, with an alarm at {SIZES}")
    for rule, faces_found in kept.items():
        print(f"{rule!s:10} {faces_found:6} {alarms[rule]}")
    print(f"{len(lost)} faces fall below 0.5")
    if pictures and lost:
        lost += [np.full_like(lost[0], 255)] * (-len(lost) % 24)
        rows = [np.hstack(lost[i : i + 24]) for i in range(0, len(lost), 24)]
        cv2.imwrite(str(pictures), np.vstack(rows)[:, :, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of crops and network")
    parser.add_argument("--labels", nargs="+", default=[], metavar="JSONL:FOLDER")
    parser.add_argument("--empty", nargs="+", default=[], type=Path, help="photos without people")
    parser.add_argument("--crops", nargs="+", default=[], type=Path, help="crops of one face")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--pictures", type=Path, help="PNG of the faces that fall below 0.5")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rng, work = np.random.default_rng(1), options.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "verifier.tflite").is_file():
        if not (work / "crops.npz").is_file():
            kept = collect(options.labels, options.empty, options.crops, rng)
            write_npz(work / "crops.npz", kept.arrays(), compressed=False)
        arrays, _ = read_npz(work / "crops.npz", key=None, limit=None)
        model = train(arrays["pixels"], arrays["kinds"], arrays["sides"], options.steps, rng)
        some = arrays["pixels"][rng.permutation(len(arrays["pixels"]))[:300]]
        content = int8(model, [distorted(crop, np.inf, rng) for crop in some])
        write_whole(work / "verifier.tflite", content)
    measure(options.data, work / "verifier.tflite", options.precision, options.pictures)


if __name__ == "__main__":
    main()
