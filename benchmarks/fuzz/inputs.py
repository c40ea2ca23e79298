"""Good files of every kind that the commands read, small, made here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from retinaface_tf.presets import get_preset

IMAGES = ("jpg", "png", "webp", "bmp", "tif", "gif")


def write_inputs(folder: Path) -> dict[str, list[Path]]:
    """Files by kind: image, video, labels, weights, model, config."""
    import skimage.data

    folder.mkdir(parents=True, exist_ok=True)
    photo = np.ascontiguousarray(skimage.data.astronaut()[:256, 64:384])
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in IMAGES:
        Image.fromarray(photo).save(folder / f"photo.{suffix}")
    Image.fromarray(photo).save(folder / "turned.jpg", exif=exif)
    writer = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, photo.shape[1::-1]
    )
    for _ in range(3):
        writer.write(photo[..., ::-1])
    writer.release()

    box, points = [110, 20, 100, 130], "140 70 0.0 180 70 0.0 160 95 0.0 145 115 0.0 180 115 0.0"
    texts = {
        "wider.txt": f"photo.jpg\n1\n{' '.join(map(str, box))} 0 0 0 0 0 0\n",
        "retinaface.txt": f"# photo.jpg\n{' '.join(map(str, box))} {points} 0.9\n",
        "fddb.txt": "photo\n1\n65 50 1.57 160 85 1\n",
        "boxes.txt": f"photo.jpg\n1\n{' '.join(map(str, box))}\n",
        "coco.json": json.dumps(
            {
                "images": [{"id": 1, "file_name": "photo.jpg", "width": 320, "height": 256}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": box}],
                "categories": [{"id": 1, "name": "face"}],
            }
        ),
        "lines.jsonl": json.dumps(
            {"image": "photo.jpg", "faces": [{"box": [110, 20, 210, 150], "score": 0.9}]}
        )
        + "\n",
        "train.toml": 'network = "lite"\nepochs = 1\n[data]\nsize = 96\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    source = get_preset("lite").source
    for kind, precision in (("weights", "float32"), ("tflite", "float32"), ("tflite", "int8")):
        path = source.file(kind, precision)
        (folder / path.name).write_bytes(path.read_bytes())
    return {
        "image": [folder / f"photo.{suffix}" for suffix in IMAGES] + [folder / "turned.jpg"],
        "video": [folder / "clip.avi"],
        "wider": [folder / "wider.txt"],
        "retinaface": [folder / "retinaface.txt"],
        "fddb": [folder / "fddb.txt"],
        "fddb-boxes": [folder / "boxes.txt"],
        "coco": [folder / "coco.json"],
        "json": [folder / "lines.jsonl"],
        "model": [folder / "lite.tflite", folder / "lite-int8.tflite"],
        "weights": [folder / "lite.weights.npz"],
    }
