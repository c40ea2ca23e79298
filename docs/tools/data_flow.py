"""Draws docs/data-flow.svg, the architecture page's image: python docs/tools/data_flow.py"""

from __future__ import annotations

from html import escape
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "data-flow.svg"
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


def draw() -> str:
    """The image as SVG, with nothing fetched from anywhere."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="sans-serif" font-size="13">',
        "<title>Data flow of retinaface-tf</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#37474f"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for x, y, width, height, title in PANELS:
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="#fafafa" '
            'stroke="#b0bec5"/>'
            f'<text x="{x + 12}" y="{y + 22}" fill="#37474f" font-weight="bold">{escape(title)}</text>'
        )
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
    return "\n".join([*parts, "</svg>"]) + "\n"


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


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
