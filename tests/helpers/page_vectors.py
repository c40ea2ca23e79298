"""What Python gives for the parts of the page's detector beside the decoder."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np

from retinaface_tf.config import DEFAULT_SETTINGS, DenseConfig, RetinaFaceConfig
from retinaface_tf.faces.faces import Face, Faces
from retinaface_tf.geometry.anchors import count_anchors, level_shapes
from retinaface_tf.inference.large_faces import join_large_faces, shrink_for_large_faces
from retinaface_tf.inference.postprocess import read_faces
from retinaface_tf.inference.preprocess import Prepared, bucket_shape, prepare, resized
from retinaface_tf.inference.runtimes.runtime import DenseOutputs
from retinaface_tf.layers.dense_head import DenseHead
from retinaface_tf.modelfile.dense_block import pack_dense_weights
from retinaface_tf.modelfile.metadata import ModelMetadata
from retinaface_tf.presets import YUNET

CONFIG = RetinaFaceConfig()
NOTE = ModelMetadata(config=CONFIG, input_size=(480, 640)).to_dict()


def write(folder: Path) -> None:
    """shrinking.json, placements.json, closeups.json and dense.json."""
    for name, values in (
        ("dense", dense_heads()),
        ("shrinking", shrinking()),
        ("placements", placements()),
        ("closeups", close_ups()),
    ):
        (folder / f"{name}.json").write_text(json.dumps(values))


def write_images(folder: Path, astronaut: np.ndarray) -> None:
    """Images that a page may read otherwise than Python: turned by EXIF, transparent, large."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(astronaut)))
    turned.save(folder / "turned.jpg", quality=95, exif=exif)
    alpha = np.full((*astronaut.shape[:2], 1), 255, np.uint8)
    alpha[:, :150] = 0
    Image.fromarray(np.concatenate([astronaut, alpha], axis=2)).save(folder / "transparent.png")
    # A face of 900 pixels, beyond the largest anchor, in a photo that is shrunk before the search.
    head = Image.fromarray(astronaut[10:230, 110:330]).resize(
        (2400, 2400), Image.Resampling.BICUBIC
    )
    head.save(folder / "close-up.jpg", quality=92)


def write_closer(folder: Path, model: Path, astronaut: np.ndarray) -> None:
    """far.png with small faces, and closer.json: by setting of `zoom`, its faces from a score of 0.1."""
    from retinaface_tf import RetinaFace

    image = np.full((480, 640, 3), (90, 110, 140), np.uint8)
    for i, side in enumerate((16, 20, 22, 24, 25, 26, 27, 30, 34)):
        y, x = 40 + 130 * (i // 3), 60 + 200 * (i % 3)
        image[y : y + side, x : x + side] = resized(astronaut[60:180, 160:290], side, side)
    cv2.imwrite(str(folder / "far.png"), image[..., ::-1])
    detector = RetinaFace.from_file(model, threshold=0.1)
    found = {way: detector.detect(image, zoom=way) for way in ("off", "auto")}
    values = {way: [_plain_face(face) for face in faces] for way, faces in found.items()}
    (folder / "closer.json").write_text(json.dumps(values))


def export_dense(path: Path) -> None:
    """A .tflite of the preset with a dense branch."""
    from retinaface_tf.export.tflite import export_tflite
    from retinaface_tf.weights.choose_file import load_preset

    export_tflite(load_preset("mobilenet0.25-mesh"), path, size=(480, 640))


def dense_heads() -> list[dict]:
    """Invented outputs and feature maps, the head's block of bytes, and the faces' vertices."""
    random = np.random.default_rng(5)
    cases = []
    for dense, network, content, original in (
        (DenseConfig(vertices=7, reduced=6, rank=4), (64, 96), (64, 96), (64, 96)),
        (
            DenseConfig(
                vertices=9, frame="face", grid=3, finer=1, reduced=5, hidden=(12, 8), rank=4
            ),
            (96, 64),
            (90, 50),
            (181, 100),
        ),
        (DenseConfig(vertices=5, grid=2, finer=9, reduced=3, rank=3), (64, 64), (64, 64), (64, 64)),
    ):
        config = dataclasses.replace(CONFIG, dense=dense)
        count = count_anchors(config.levels, *network)
        channels = 6
        outputs = DenseOutputs(
            scores=random.beta(1, 3, (1, count)).astype(np.float32),
            box_deltas=random.normal(0, 1, (1, count, 4)).astype(np.float32),
            landmark_deltas=random.normal(0, 3, (1, count, 10)).astype(np.float32),
            features=tuple(
                random.normal(0, 1, (1, *shape, channels)).astype(np.float32)
                for shape in level_shapes(config.dense_levels, *network)
            ),
        )
        slots = sum(len(level.anchor_sizes) for level in config.levels)
        head = DenseHead(dense, slots, channels)
        weights = {
            name: random.normal(0, 0.3, weight.shape).astype(np.float32)
            for name, weight in head.named_weights.items()
        }
        scale = (content[1] / original[1], content[0] / original[0])
        prepared = Prepared(np.broadcast_to(np.uint8(0), (*content, 3)), scale, original)
        faces = read_faces(
            outputs,
            0,
            network,
            prepared,
            config,
            DEFAULT_SETTINGS,
            dense_weights=weights,
        )
        names = ("scores", "box_deltas", "landmark_deltas")
        cases.append(
            {
                "metadata": ModelMetadata(config=config, input_size=network).to_dict(),
                "block": pack_dense_weights(weights),
                "outputs": {name: _base64(getattr(outputs, name)[0]) for name in names},
                "features": [_base64(features[0]) for features in outputs.features],
                "placement": {
                    "network": network,
                    "content": content,
                    "original": original,
                    "scale": scale,
                },
                "faces": _plain(faces) | {"vertices": faces.vertices.tolist()},
            }
        )
    return cases


def write_expected(folder: Path, models: dict[str, Path]) -> None:
    """expected.json: by model, the faces of `folder`/pictures as `detect` finds them; of "dense" two."""
    from retinaface_tf import RetinaFace

    expected = {}
    for name, path in models.items():
        detector = RetinaFace.from_file(path)
        expected[name] = {
            path.name: [_plain_face(face) for face in detector.detect(str(path))]
            for path in sorted((folder / "pictures").iterdir())
            if name != "dense" or path.stem in ("astronaut", "close-up")
        }
    (folder / "expected.json").write_text(json.dumps(expected))


def _plain_face(face: Face) -> dict:
    vertices = {} if face.vertices is None else {"vertices": face.vertices.tolist()}
    box, landmarks = face.box.tolist(), face.landmarks.tolist()
    return {"box": box, "score": face.score, "landmarks": landmarks, **vertices}


def write_stream(path: Path, astronaut: np.ndarray) -> None:
    """Twelve frames of 640x480 (Y4M) in which the portrait moves: a camera for Chromium."""
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420\n")
        for i in range(12):
            frame = np.full((480, 640, 3), 128, np.uint8)
            left = 20 + 8 * min(i, 12 - i)
            frame[:, left : left + 512] = astronaut[:480]
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())


def shrinking() -> list[dict]:
    """Noise at other sizes by OpenCV, smaller by whole and broken factors, and larger."""
    random = np.random.default_rng(3)
    cases = []
    for height, width, sizes in (
        (60, 84, [(30, 42), (20, 28), (15, 21), (59, 84), (37, 50), (7, 11), (1, 1)]),
        (91, 133, [(70, 102), (45, 66), (23, 33)]),
        (20, 30, [(40, 60), (33, 49), (20, 31)]),
    ):
        image = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        results = [
            {
                "height": h,
                "width": w,
                "data": _base64(resized(image, h, w)),
            }
            for h, w in sizes
        ]
        cases.append({"height": height, "width": width, "data": _base64(image), "results": results})
    return cases


def placements() -> list[dict]:
    """Sizes at which images of various shapes are searched, copies for close-ups included."""
    cases = []
    notes = {CONFIG: NOTE, YUNET: ModelMetadata(config=YUNET, input_size=(480, 640)).to_dict()}
    for height, width in [
        *((1, 1), (480, 640), (512, 512), (700, 900), (1080, 1920), (2048, 2048), (3024, 4032)),
        *((4032, 3024), (641, 6000), (1001, 4096), (999, 2730), (20, 3000)),
    ]:
        prepared = prepare(np.zeros((height, width, 3), np.uint8))
        for config, note in notes.items():
            copies = shrink_for_large_faces(prepared, config, bucket_shape)
            cases.append(
                {
                    "original": [height, width],
                    "content": list(prepared.pixels.shape[:2]),
                    "network": list(bucket_shape(*prepared.pixels.shape[:2])),
                    "copies": [list(copy.pixels.shape[:2]) for copy in copies],
                    "metadata": note,
                }
            )
    return cases


def close_ups() -> list[dict]:
    """Faces of an image and of its copy, large ones among them, joined."""
    random = np.random.default_rng(4)
    cases = []
    for original, content in (((1500, 2000), (1500, 2000)), ((3000, 4000), (1536, 2048))):
        for large in (0, 1, 6):
            own = _faces(random, 30, original, (20, 500))
            copy = _faces(random, 8, original, (60, 300))
            copy = _concatenate(copy, _faces(random, large, original, (500, 1400)))
            pixels = np.broadcast_to(np.uint8(0), (*content, 3))
            scale = (content[1] / original[1], content[0] / original[0])
            joined = join_large_faces(
                own, [copy], Prepared(pixels, scale, original), CONFIG, DEFAULT_SETTINGS
            )
            cases.append(
                {
                    "own": _plain(own),
                    "found": [_plain(copy)],
                    "joined": _plain(joined),
                    "original": list(original),
                    "content": list(content),
                    "metadata": NOTE,
                    "iou": 0.4,
                }
            )
    return cases


def _faces(random, count: int, size: tuple[int, int], sides: tuple[int, int]) -> Faces:
    corner = random.uniform(0, 0.6, (count, 2)) * size[::-1]
    sides = random.uniform(*sides, (count, 1)) * random.uniform(0.9, 1.1, (count, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1).clip(0, [*size[::-1], *size[::-1]])
    return Faces(
        boxes=boxes.astype(np.float32),
        scores=np.sort(random.uniform(0.5, 1, count))[::-1].astype(np.float32),
        landmarks=random.uniform(0, size[0], (count, 5, 2)).astype(np.float32),
        image_size=size,
    )


def _concatenate(a: Faces, b: Faces) -> Faces:
    return Faces(
        **{
            n: np.concatenate([getattr(a, n), getattr(b, n)])
            for n in ("boxes", "scores", "landmarks")
        },
        image_size=a.image_size,
    )


def _plain(faces: Faces) -> dict:
    return {n: getattr(faces, n).tolist() for n in ("boxes", "scores", "landmarks")}


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
