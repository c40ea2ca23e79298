"""Average precision before and after fine-tuning on a kind of photos a preset is weak on.

    python benchmarks/fine_tuning.py WIDER_LIST PHOTOS --domain rotated --preset lite --epochs 4

The first photos of the list are changed (turned by 90 degrees, darkened, or halved so that faces are small),
and so are the held-out ones, every fourth. `train --finetune` then runs on them; `--taught 5 20 80` on so many of
them, each from the start, for what more photos bring.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from retinaface_tf.data.readers.widerface import read_widerface
from retinaface_tf.training.command import resolve_config
from retinaface_tf.training.trainer import train


def changed(image: Image.Image, boxes: np.ndarray, domain: str) -> tuple[Image.Image, np.ndarray]:
    """An image and its corner boxes in another domain."""
    if domain == "rotated":
        x1, y1, x2, y2 = boxes.T
        return image.transpose(Image.Transpose.ROTATE_270), np.stack(
            [image.height - y2, x1, image.height - y1, x2], axis=1
        )
    if domain == "dark":
        rng = np.random.default_rng(0)
        pixels = np.asarray(image) * 0.08 + rng.normal(0, 3, (image.height, image.width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), boxes
    return image.resize((image.width // 2, image.height // 2)), boxes / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--domain", choices=("rotated", "dark", "small"), default="rotated")
    parser.add_argument("--preset", default="lite")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--taught", type=int, nargs="+", help="photos that teach, a run each")
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        texts: dict[str, list[str]] = {"val": [], "train": []}
        found = read_widerface(options.labels, options.photos)
        step = max(1, len(found) // options.count)
        for number, entry in enumerate(found[::step][: options.count]):
            part = "val" if number % 4 == 0 else "train"
            image, boxes = changed(
                Image.open(entry.path).convert("RGB"), entry.boxes, options.domain
            )
            image.save(f"{folder}/{number}.png")
            rows = [f"{number}.png", str(len(boxes))]
            for box, ignored in zip(boxes, entry.ignored):
                place = " ".join(f"{v:.1f}" for v in (*box[:2], *(box[2:] - box[:2])))
                rows.append(f"{place} 0 0 0 {int(ignored)} 0 0")
            texts[part].append("\n".join(rows) + "\n")
        Path(folder, "val.txt").write_text("".join(texts["val"]))
        for count in options.taught or [len(texts["train"])]:
            # Spread over the list, which goes event by event.
            chosen = np.linspace(0, len(texts["train"]) - 1, count).astype(int)
            Path(folder, "train.txt").write_text("".join(texts["train"][i] for i in chosen))
            values = {"data.kind": folder, "epochs": options.epochs}
            config = resolve_config(None, values, [], finetune=options.preset)
            result = train(config, f"{folder}/run{count}", notify=print)
            lines.append(
                f"{options.preset}, {options.domain}, {count} photos, {result.steps} steps: average "
                f"precision {result.before:.4f} before, {result.after:.4f} after, {result.best:.4f} at best"
            )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
