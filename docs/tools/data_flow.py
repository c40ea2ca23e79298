"""Draws the pages' diagrams, docs/data-flow.svg, bulk.svg, several-hosts.svg: python docs/tools/data_flow.py"""

from __future__ import annotations

from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 980, 640
COLOURS = {
    "in": "#fff3e0",
    "net": "#e8eaf6",
    "out": "#e8f5e9",
    "train": "#fce4ec",
    "ship": "#e0f7fa",
}

# name: (x, y, width, height, kind, title, lines)
BOXES = {
    "images": (20, 70, 140, 92, "in", "images", ["files, bytes, arrays,", "video, webcam"]),
    "prepare": (
        200,
        70,
        160,
        92,
        "net",
        "images/, inference/",
        ["read, turn, scale, pad", "to a few shapes"],
    ),
    "runtime": (
        400,
        70,
        180,
        92,
        "net",
        "inference/runtimes/",
        ["LiteRT, ONNX, Keras,", "or a server over gRPC"],
    ),
    "decode": (620, 70, 160, 92, "net", "inference/", ["anchors + deltas,", "suppression, votes"]),
    "faces": (820, 70, 140, 92, "out", "faces/", ["boxes, scores, points,", "vertices, pose"]),
    "backbone": (70, 270, 170, 84, "net", "backbone", ["MobileNet or ResNet,", "C2..C5"]),
    "pyramid": (285, 270, 170, 84, "net", "feature pyramid", ["P2..P6 or P3..P5"]),
    "context": (
        500,
        270,
        170,
        84,
        "net",
        "context modules",
        ["deformable, cascade:", "both optional"],
    ),
    "heads": (
        715,
        270,
        200,
        84,
        "net",
        "heads",
        ["class, box, five points;", "dense head on kept faces"],
    ),
    "data": (20, 468, 150, 92, "train", "data/", ["labels, checks, drawn", "faces, augmentation"]),
    "training": (
        205,
        468,
        160,
        92,
        "train",
        "training/, losses/",
        ["matching, multi-task", "loss, checkpoints"],
    ),
    "weights": (
        400,
        468,
        170,
        92,
        "train",
        "weights/",
        ["ours, a preset's, or", "converted .pth, .onnx"],
    ),
    "export": (
        605,
        468,
        165,
        92,
        "ship",
        "export/",
        ["SavedModel, .tflite,", ".onnx: self-describing"],
    ),
    "use": (805, 468, 155, 92, "ship", "others", ["TF-Serving, phones,", "browsers"]),
}
PANELS = (
    (8, 30, 964, 150, "Detect: what RetinaFace.detect does"),
    (8, 228, 964, 144, "The network (models/, layers/): one functional model, in keras.ops alone"),
    (8, 426, 964, 152, "Make and ship"),
)
ROWS = (
    ("images", "prepare", "runtime", "decode", "faces"),
    ("backbone", "pyramid", "context", "heads"),
    ("data", "training", "weights", "export", "use"),
)


def data_flow() -> str:
    """How an image becomes faces, and the network a file."""
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="#fafafa" '
        'stroke="#b0bec5"/>'
        f'<text x="{x + 12}" y="{y + 22}" fill="#37474f" font-weight="bold">{escape(title)}</text>'
        for x, y, width, height, title in PANELS
    ]
    parts += [_box(*box) for box in BOXES.values()]
    for row in ROWS:
        for left, right in zip(row, row[1:]):
            x, y, width, height = BOXES[left][:4]
            parts.append(_arrow(f"M{x + width} {y + height // 2}H{BOXES[right][0] - 1}"))
    parts.append(_arrow("M490 228V164", "runs it"))
    parts.append(_arrow("M490 466V374", "fill it"))
    parts.append(
        f'<text x="20" y="{HEIGHT - 30}" fill="#37474f">The same files serve training, evaluation '
        "and export. evaluation/ asks detect as any user does; cli/ only parses and prints.</text>"
    )
    return _svg("Data flow of retinaface-tf", HEIGHT, parts)


def bulk() -> str:
    """Images into workers, Parquet files out of them."""
    inputs = (("photos/", "folders, patterns"), ("*.tar", "WebDataset's too"), ("*.parquet", "a column of bytes"))  # fmt: skip
    parts = []
    for row, (title, line) in enumerate(inputs):
        y = 20 + 90 * row
        parts.append(_box(20, y, 170, 76, "in", title, [line]))
        parts.append(_arrow(f"M190 {y + 38}L258 148"))
        parts.append(_box(510, y, 190, 76, "net", f"worker {row}", ["a model of its own"]))
        parts.append(_arrow(f"M420 148L508 {y + 38}"))
        parts.append(_box(760, y, 200, 76, "out", f"faces-00000{row}.parquet", ["a row an image"]))
        parts.append(_arrow(f"M700 {y + 38}H758"))
    parts.append(
        _box(260, 102, 160, 92, "train", "shards", ["of 500 images;", "finished ones are kept"])
    )
    return _svg("A bulk run", 296, parts)


def several_hosts() -> str:
    """Workers that share a batch."""
    parts = []
    for row in range(3):
        y = 20 + 90 * row
        parts.append(
            _box(20, y, 200, 76, "in", f"images of host {row}", ["its share of each batch"])
        )
        parts.append(_arrow(f"M220 {y + 38}H288"))
        parts.append(_box(290, y, 200, 76, "net", f"worker {row}", ["the same network"]))
        parts.append(_arrow(f"M490 {y + 38}H558"))
    parts.append(_box(560, 20, 160, 256, "train", "gradients", ["summed over all", "workers: the same", "step everywhere"]))  # fmt: skip
    parts.append(
        _box(790, 102, 170, 92, "ship", "--out", ["shared folder; worker 0", "writes checkpoints"])
    )
    parts.append(_arrow("M720 148H788"))
    return _svg("Training on several hosts", 296, parts)


def _svg(title: str, height: int, parts: list[str]) -> str:
    """An image with nothing fetched from anywhere."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#37474f"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _box(x, y, width, height, kind, title, lines) -> str:
    middle = x + width / 2
    text = "".join(
        f'<text x="{middle}" y="{y + 52 + 18 * i}" text-anchor="middle">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" '
        f'fill="{COLOURS[kind]}" stroke="#78909c"/>'
        f'<text x="{middle}" y="{y + 26}" text-anchor="middle" font-weight="bold">'
        f"{escape(title)}</text>{text}"
    )


def _arrow(path: str, label: str = "") -> str:
    arrow = (
        f'<path d="{path}" fill="none" stroke="#37474f" stroke-width="1.6" marker-end="url(#tip)"/>'
    )
    if not label:
        return arrow
    x, y = path[1:].split("V")[0].split()
    end = path.split("V")[1]
    return f'{arrow}<text x="{int(x) + 8}" y="{(int(y) + int(end)) // 2 + 5}">{label}</text>'


DIAGRAMS = {"data-flow.svg": data_flow, "bulk.svg": bulk, "several-hosts.svg": several_hosts}

if __name__ == "__main__":
    for name, draw in DIAGRAMS.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
