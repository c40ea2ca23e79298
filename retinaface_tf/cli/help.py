"""How `--help` reads: a command's options in groups, its examples at the end, 80 columns."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperGroup, TyperOption

# Names of parameters; "COMMAND.NAME" where a command means something else by it.
_PANELS = {
    "Input": "begin end each frames allow_private gt pred images image_list boxes partial held_out "
    "landmark_model pairs templates category ignore headers against data root photo limit "
    "truth train-mesh.exclude pseudo-label.exclude export.size input_type max_pixels "
    "calibration",
    "Training": "config finetune epochs batch devices set_ strict import_ train-mesh.versions",
    "Model": "serve.model serve.name label serve.versions poll_seconds",
    "Address": "host port rest_port tls_certificate tls_key auth_token_file",
    "Limits": "max_images max_request_mb max_pending_mb read_seconds run_seconds",
    "Search": "threshold iou size zoom budget scales flip vote rotations tiles large_faces max_faces "
    "sizes enlarged_limit with_nms",
    "Choice of faces": "quality min_quality largest sort keep similarity min_photos align accept min_side "
    "min_presence max_disagreement",
    "Output": "out json json_ draw mesh mesh_format crops crop_kind crop_size crop_margin coco yolo "
    "labelme voc csv parquet every name report others save submission plot method shape "
    "margin facts link to per_shard sheet records resume restart quiet overwrite quantize "
    "freeze version opset rounds count synth.size synth.max_faces min_face seed",
    "Faces of videos": "track tracks best",
    "Network": "preset model runtime providers precision threads batch_size member embedder mean scale "
    "color mirror",
    "Engine": "engine detect.out workers shard_size retries image_column name_column ray_address "
    "gpus_per_worker restarts serve.threads run_threads batching",
    "Model server": "server server_model server_label rest timeout tls tls_root header",
}
_PANEL_OF = {name: panel for panel, names in _PANELS.items() for name in names.split()}
_FEW = 6  # options need no groups

_EXAMPLES = {
    "detect": """
        detect photo.jpg
        detect holiday/ --json faces.jsonl --draw drawn/
        detect photo.jpg --crops crops/ --crop-margin 0.4
        detect clip.mp4 --track --draw drawn/
        detect crowd.jpg --zoom auto
        detect shards/*.tar --engine processes --out faces/
        detect photo.jpg --server localhost:8500""",
    "demo": """
        demo
        demo photo.jpg --out drawn/""",
    "blur": """
        blur holiday/ --out blurred/
        blur clip.mp4 --out blurred/ --method solid
        blur party/ --out blurred/ --keep me.jpg --embedder face.onnx""",
    "group": """
        group holiday/ --embedder face.onnx --out people/""",
    "train": """
        train --out runs/drawn
        train --finetune lite --data photos/ --out runs/mine
        train --resume --out runs/mine
        train --config wider_resnet50 --data retinaface --root WIDER""",
    "train-mesh": """
        train-mesh labels/ --out runs/mesh""",
    "serve": """
        serve --model models/retinaface
        serve --model models/retinaface --rest-port 0""",
    "presets": """
        presets
        presets mobilenet0.25""",
    "benchmark": """
        benchmark lite mobilenet0.25
        benchmark lite faces.onnx --sizes 640x480 --plot speed.png""",
    "data check": """
        data check coco labels.json photos/
        data check wider labels.txt images/ --against validation/""",
    "data convert": """
        data convert coco labels.json photos/ labels.jsonl --to json""",
    "data pack": """
        data pack wider labels.txt images/ shards/""",
    "data verify": """
        data verify shards/""",
    "data synth": """
        data synth drawn/ --count 500""",
    "data label-mesh": """
        data label-mesh photos/ --out labels/ --sheet sheet.png""",
    "data pseudo-label": """
        data pseudo-label photos/ --out labels/ \\
            --member lite --member mobilenet0.25""",
    "evaluate widerface": """
        evaluate widerface --gt ground_truth/ --images images/
        evaluate widerface --gt ground_truth/ --pred faces.jsonl""",
    "evaluate fddb": """
        evaluate fddb --gt FDDB-folds/ --images FDDB/""",
    "evaluate landmarks": """
        evaluate landmarks --gt labels.jsonl""",
    "evaluate verification": """
        evaluate verification --pairs pairs.txt --images lfw/ \\
            --embedder face.onnx""",
    "evaluate mesh": """
        evaluate mesh --gt AFLW2000/""",
    "evaluate compare": """
        evaluate compare before.json after.json""",
    "evaluate report": """
        evaluate report before.json after.json --out report/""",
    "export savedmodel": """
        export savedmodel models/retinaface""",
    "export tflite": """
        export tflite faces.tflite --input-size 640x480
        export tflite int8.tflite --quantize int8 --calibration photos/""",
    "export onnx": """
        export onnx faces.onnx --with-nms""",
    "weights list": """
        weights list""",
    "weights pull": """
        weights pull mobilenet0.25
        weights pull resnet50 --from Resnet50_Final.pth""",
    "weights convert": """
        weights convert model.pth mine.weights.h5 --preset mobilenet0.25""",
}


class HelpfulGroup(TyperGroup):
    """The commands of `retinaface-tf`, each with its help arranged."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        for name, command in self.commands.items():
            _arrange(name, command)


def _arrange(path: str, command: Any) -> None:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for name, below in getattr(command, "commands", {}).items():
        _arrange(f"{path} {name}", below)
    options = [parameter for parameter in command.params if isinstance(parameter, TyperOption)]
    for option in options:
        if option.is_flag:
            option.metavar = ""  # "<bool>" says nothing and takes a column
        if len(options) > _FEW:
            words = [f"{word}.{option.name}" for word in path.split()]
            names = [name for name in (*words, option.name) if name in _PANEL_OF]
            option.rich_help_panel = _PANEL_OF[names[0]] if names else None
    order = list(_PANELS)
    command.params.sort(key=lambda p: order.index(getattr(p, "rich_help_panel", None) or order[0]))
    if path in _EXAMPLES:
        examples = re.sub(
            r"^(?=\S)", "retinaface-tf ", inspect.cleandoc(_EXAMPLES[path]), flags=re.M
        )
        command.epilog = f"Examples:\n{examples}"
