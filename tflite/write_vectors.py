"""Writes test vectors: what networks gave, and the faces that the Python library reads in it.

    python tflite/write_vectors.py OUT [--photos DIR] [--drawn-only]

Decoders in other languages read them and must find the same faces. OUT gets

    drawn/NAME.json    invented outputs, for the corners: ties, wild deltas, padding, other anchors
    zoom/NAME.json     invented faces, the tiles that look closer at them, and what both together give
    photos/NAME.json   what .tflite files gave for photos, as JSON with the tensors in base64
    images/*.png     those photos
    models/*.tflite    those files (float32 and int8 at 640x480, float32 at 320x256)

The photos are scikit-image's portrait of an astronaut alone, as a crowd, large, small and turned
away; `--photos` adds those of a folder. The weights are those of the preset mobilenet0.25. int8 is
calibrated on scikit-image's images, enough for a test and no more.

A vector, where sizes are [height, width] and tensors are little-endian float32:

    model, image     files under OUT, null in drawn ones
    metadata           the JSON block of the file
    original_size      of the image
    content_size       of the image as the network saw it, without padding
    network_size       of the network's input: content in the upper left, mean pixel around it
    scale              x and y from original to content pixels
    threshold, iou, max_faces
    outputs            "scores" [N], "box_deltas" [N, 4], "landmark_deltas" [N, 10]
    faces              "boxes", "scores", "landmarks" in original pixels, best first

In zoom/NAME.json: original_size, content_size, scale and iou as above; "looks", how many times closer than the
first look the further ones are; "steps", for each of them: the "faces" before it, the "limit" of "tile" sizes
[height, width], its tiles' "corners" in its pixels, their "parts" of the original, what was "found" in each
(original pixels), and "joined", the faces after it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from retinaface_tf.config import DENSE_LEVELS, PAPER_LEVELS, DetectionSettings, RetinaFaceConfig
from retinaface_tf.faces.faces import Faces
from retinaface_tf.geometry.anchors import count_anchors
from retinaface_tf.inference import zoom
from retinaface_tf.inference.postprocess import read_faces, suppressed
from retinaface_tf.inference.preprocess import Prepared, bucket_shape, prepare, stack_padded
from retinaface_tf.inference.runtimes.runtime import RawOutputs
from retinaface_tf.modelfile.metadata import ModelMetadata

VGA = (480, 640)
SMALL = (256, 320)
MODELS = {
    "float32.tflite": (VGA, "float32"),
    "int8.tflite": (VGA, "int8"),
    "float32-320x256.tflite": (SMALL, "float32"),
}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=Path, help="a folder of further photos")
    parser.add_argument("--drawn-only", action="store_true", help="no network: invented outputs")
    options = parser.parse_args()
    print(f"{write_drawn(options.out)} drawn vectors in {options.out / 'drawn'}")
    print(f"{write_zoom(options.out)} vectors of closer looks in {options.out / 'zoom'}")
    if not options.drawn_only:
        export_models(options.out / "models")
        pictures = sample_images() | (read_folder(options.photos) if options.photos else {})
        print(f"{write_photos(options.out, pictures)} vectors in {options.out / 'photos'}")


def write_drawn(out: Path) -> int:
    """Vectors of invented outputs, the same in every run; how many were written."""
    random = np.random.default_rng(1905)
    public = RetinaFaceConfig()
    cases = {
        "crowded": {},
        "everything-counts": {"threshold": 0.0, "iou": 0.3},
        "nothing": {"threshold": 1.0},
        "best-three": {"max_faces": 3, "threshold": 0.2},
        "ties": {"edit": _tie},
        "wild-deltas": {"edit": _run_wild, "threshold": 0.6},
        "padding": {"content": (40, 70), "original": (40, 70)},
        "scaled": {"content": (60, 96), "original": (901, 1440), "threshold": 0.3},
        "stretched": {"content": (64, 96), "original": (30, 77)},
        "odd-size": {"network": (50, 75)},
        "five-levels": {"config": RetinaFaceConfig(levels=PAPER_LEVELS), "network": (64, 64)},
        "dense-levels": {
            "config": RetinaFaceConfig(
                levels=DENSE_LEVELS, center_variance=0.15, size_variance=0.3
            ),
        },
    }
    for name, case in cases.items():
        config = case.get("config", public)
        network = case.get("network", (64, 96))
        count = count_anchors(config.levels, *network)
        outputs = RawOutputs(
            scores=random.beta(1, 3, (1, count)).astype(np.float32),
            box_deltas=random.normal(0, 1.5, (1, count, 4)).astype(np.float32),
            landmark_deltas=random.normal(0, 3, (1, count, 10)).astype(np.float32),
        )
        case.get("edit", lambda outputs: None)(outputs)
        content = case.get("content", network)
        original = case.get("original", content)
        prepared = Prepared(
            np.broadcast_to(np.uint8(0), (*content, 3)),
            (content[1] / original[1], content[0] / original[0]),
            original,
        )
        vector = _vector(
            outputs,
            network,
            prepared,
            ModelMetadata(config=config, input_size=network, version="0").to_dict(),
            config,
            threshold=case.get("threshold", 0.5),
            iou=case.get("iou", 0.4),
            max_faces=case.get("max_faces"),
        )
        _write(out / "drawn" / f"{name}.json", vector)
    return len(cases)


def _tie(outputs: RawOutputs) -> None:
    """Few values of the score, so that the order among equals decides."""
    outputs.scores[:] = np.round(outputs.scores * 4) / 4


def _run_wild(outputs: RawOutputs) -> None:
    """Deltas far outside what a network gives, among them sizes beyond float32."""
    outputs.box_deltas[0, ::5, 2] = 1000
    outputs.box_deltas[0, 1::5, 3] = -1000
    outputs.box_deltas[0, 2::5, 0] = 1e6


def write_zoom(out: Path) -> int:
    """Vectors of closer looks at invented faces, the same in every run; how many were written."""
    random = np.random.default_rng(23)
    cases = {  # original and content size, tile, most tiles
        "enlarged": ((480, 640), (480, 640), (224, 224), 32),
        "shrunk": ((3000, 4000), (480, 640), (224, 224), 40),
        "a-little": ((700, 1000), (480, 686), (224, 224), 5),
        "one-size": ((1200, 900), (480, 360), (480, 640), 3),
        "small": ((90, 130), (90, 130), (224, 224), 32),
    }
    for name, (original, content, tile, limit) in cases.items():
        scale = (content[1] / original[1], content[0] / original[0])
        photo = np.broadcast_to(np.uint8(0), (*original, 3))
        image = Prepared(np.broadcast_to(np.uint8(0), (*content, 3)), scale, original, photo=photo)
        looks, steps, before = zoom.magnifications(image, "auto"), [], 1.0
        faces = _invented(random, 60, original, (0, 0, *original[::-1]), scale[0])
        for closer in looks:
            corners = zoom.regions(faces, image, before, closer, tile, limit)
            views = [zoom.view(image, closer, part) for part in corners]
            parts = [
                [
                    *view.origin,
                    *np.add(view.origin, np.divide(view.pixels.shape[1::-1], view.scale)),
                ]
                for view in views
            ]
            found = [_invented(random, 25, original, part, scale[0] * closer) for part in parts]
            # Some faces are found again, a little elsewhere.
            found = [suppressed([_nudged(random, faces), more], 0.4) for more in found]
            joined = zoom.join_tiles(faces, found, corners, image, closer, tile, 0.4)
            steps.append(
                {
                    "faces": _plain(faces),
                    "limit": limit,
                    "tile": list(tile),
                    "corners": corners.tolist(),
                    "parts": np.rint(parts).astype(int).tolist(),
                    "found": [_plain(one) for one in found],
                    "joined": _plain(joined),
                }
            )
            faces, before = joined, closer
        sizes = {"original_size": list(original), "content_size": list(content)}
        vector = sizes | {"scale": list(scale), "iou": 0.4, "looks": looks, "steps": steps}
        _write(out / "zoom" / f"{name}.json", vector)
    return len(cases)


def _invented(random, count: int, size: tuple[int, int], part, scale: float) -> Faces:
    """Faces in a part of an image: mostly small ones at this scale, some cut by its edges."""
    low, high = np.array(part[:2]), np.array(part[2:])
    sides = random.gamma(2, 6, (count, 1)) / scale * random.uniform(0.8, 1.2, (count, 2))
    corners = random.uniform(low, high, (count, 2))
    boxes = np.concatenate([corners, corners + sides], axis=1).clip(
        np.tile(low, 2), np.tile(high, 2)
    )
    scores = random.uniform(0.1, 1, count)
    points = random.uniform(0, size[0], (count, 5, 2))
    faces = Faces(*(v.astype(np.float32) for v in (boxes, scores, points)), image_size=size)
    return suppressed([faces], 0.4)


def _nudged(random, faces: Faces) -> Faces:
    """A third of the faces, moved by up to a tenth of their sides."""
    some = faces[random.uniform(size=len(faces)) < 1 / 3]
    sides = np.tile(some.boxes[:, 2:] - some.boxes[:, :2], 2)
    boxes = some.boxes + sides * random.uniform(-0.1, 0.1, some.boxes.shape)
    edges = np.tile(some.image_size[::-1], 2)
    return replace(some, boxes=boxes.clip(0, edges).astype(np.float32))


def export_models(folder: Path) -> None:
    """The files of `MODELS` that are not there yet."""
    missing = {name: how for name, how in MODELS.items() if not (folder / name).is_file()}
    if not missing:
        return
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.weights.choose_file import load_preset

    network = load_preset("mobilenet0.25")
    mean = network.config.pixel_mean
    for name, (size, precision) in missing.items():
        photos = None
        if precision == "int8":
            photos = [
                stack_padded([prepare(image, fixed_shape=size).pixels], size, mean)[0]
                for image in _calibration_images()
            ]
        export_tflite(
            network,
            folder / name,
            size=size,
            precision=precision,
            calibration=photos,
            preset="mobilenet0.25",
        )


def sample_images() -> dict[str, np.ndarray]:
    """uint8 RGB images [H, W, 3] of various sizes, by name."""
    import cv2
    from skimage import data

    astronaut = data.astronaut()
    face = astronaut[0:220, 110:330]
    crowd = np.full((*VGA, 3), (90, 110, 140), np.uint8)
    places = [(0, 0, 160), (0, 200, 110), (10, 340, 220), (170, 20, 90), (150, 150, 60)]
    places += [(240, 10, 200), (250, 250, 140), (260, 420, 180), (420, 300, 50), (400, 560, 70)]
    for i, (y, x, side) in enumerate(places):
        copy = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        copy = copy[:, ::-1] if i % 2 else copy
        crowd[y : y + side, x : x + side] = copy[: VGA[0] - y, : VGA[1] - x]
    large = cv2.resize(astronaut, (1300, 1300), interpolation=cv2.INTER_CUBIC)[:900]
    return {
        "astronaut": astronaut,
        "crowd": crowd,
        "large": large,
        "small": cv2.resize(face, (150, 200), interpolation=cv2.INTER_AREA),
        "coffee": data.coffee(),
    }


def read_folder(folder: Path) -> dict[str, np.ndarray]:
    """The images of a folder by their names."""
    from retinaface_tf.images.listing import list_images
    from retinaface_tf.images.read import read_image

    return {Path(path).stem: read_image(path) for path, _ in list_images([str(folder)])}


def _calibration_images() -> list[np.ndarray]:
    from skimage import data

    samples = [*sample_images().values(), data.chelsea(), data.rocket(), data.retina()]
    return samples + [np.ascontiguousarray(image[:, ::-1]) for image in samples]


def write_photos(out: Path, pictures: dict[str, np.ndarray]) -> int:
    """Vectors of every image through every file of `MODELS`; how many were written."""
    import cv2

    from retinaface_tf.inference.runtimes.litert import LiteRTRuntime

    written = 0
    for picture, image in pictures.items():
        path = out / "pictures" / f"{picture}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
    for model, (size, _) in MODELS.items():
        runtime = LiteRTRuntime(out / "models" / model, threads=1)
        for picture, image in pictures.items():
            runs = [("", prepare(image, fixed_shape=size), size, 0.5)]
            if picture in ("astronaut", "crowd"):
                runs.append(("-low", *runs[0][1:3], 0.02))
            if size == SMALL:  # the same file at another size, as far as it may be resized
                whole = prepare(image)
                runs.append(("-resized", whole, bucket_shape(*whole.pixels.shape[:2]), 0.5))
            for suffix, prepared, network_size, threshold in runs:
                fill = runtime.config.pixel_mean
                outputs = runtime(stack_padded([prepared.pixels], network_size, fill))
                vector = _vector(
                    outputs,
                    network_size,
                    prepared,
                    runtime.metadata.to_dict(),
                    runtime.config,
                    threshold=threshold,
                    iou=runtime.metadata.iou,
                    model=f"models/{model}",
                    picture=f"pictures/{picture}.png",
                )
                name = f"{picture}-{Path(model).stem}{suffix}"
                _write(out / "photos" / f"{name}.json", vector)
                written += 1
    return written


def _vector(
    outputs: RawOutputs,
    network_size: tuple[int, int],
    prepared: Prepared,
    metadata: dict,
    config: RetinaFaceConfig,
    *,
    threshold: float,
    iou: float,
    max_faces: int | None = None,
    model: str | None = None,
    picture: str | None = None,
) -> dict:
    faces = read_faces(
        outputs,
        0,
        network_size,
        prepared,
        config,
        DetectionSettings(threshold=threshold, iou=iou, max_faces=max_faces),
    )
    return {
        "model": model,
        "picture": picture,
        "metadata": metadata,
        "original_size": list(prepared.original_size),
        "content_size": list(prepared.pixels.shape[:2]),
        "network_size": list(network_size),
        "scale": list(prepared.scale),
        "threshold": threshold,
        "iou": iou,
        "max_faces": max_faces,
        "outputs": {
            name: base64.b64encode(values[0].astype("<f4").tobytes()).decode()
            for name, values in outputs._asdict().items()
        },
        "faces": {
            "boxes": _digits(faces.boxes),
            "scores": _digits(faces.scores),
            "landmarks": _digits(faces.landmarks),
        },
    }


def _plain(faces: Faces) -> dict:
    return {name: getattr(faces, name).tolist() for name in ("boxes", "scores", "landmarks")}


def _digits(values: np.ndarray) -> list:
    return np.round(values.astype(np.float64), 6).tolist()


def _write(path: Path, vector: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(json.dumps(vector) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    main()
