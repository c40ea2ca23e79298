"""Where a network's time goes: by operator and stride, against what a core and its memory can do.

    pip install "retinaface-tf[all]"
    python benchmarks/operators.py FILE.tflite ... [--onnx FILE.onnx ...] [--size 640x480] [--rounds 200]

XNNPACK runs a network as a whole and says nothing of its operators. So a .tflite is cut behind each of them, all
cuts take turns, and an operator's time is what its cut takes more than the one before: the least CPU time of one
thread in all rounds. onnxruntime has a profiler of its own. Operators are added up by kind and by the stride of
what they write. The floor is arithmetic, at the rate of a product of two large matrices in onnxruntime, or bytes, each
map read and written once at the rate of a copy of 5 MB (which stay in the last cache): whichever is longer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.engines import described
from benchmarks.network_latency import runner
from benchmarks.peers.table import table
from retinaface_tf.export.flatbuffer import operator_name, pack, unpack
from retinaface_tf.inference.preprocess import parse_width_height

# Counted with what follows: XNNPACK folds them into it, or is not used for them alone.
FOLDED = ("PAD", "CAST", "QUANTIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--onnx", nargs="*", default=[], type=Path)
    parser.add_argument("--size", default="640x480", metavar="WIDTHxHEIGHT")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    size = parse_width_height(options.size)
    peak = {"float32": matmul_rate(np.float32), "int8": matmul_rate(np.int8)}
    copied = copy_rate()
    print(f"{described()}; {options.size}, one thread")
    rates = ", ".join(f"{name} {rate / 1e9:.0f} GMAC/s" for name, rate in peak.items())
    print(f"Matrix product: {rates}; copy: {copied / 1e9:.0f} GB/s read and written\n")
    for path in options.files:
        print(f"{path.name}\n")
        print(markdown(tflite_operators(path, size, options.rounds), peak, copied))
    for path in options.onnx:
        print(f"{path.name}\n")
        print(markdown(onnx_operators(path, size, options.rounds), peak, copied))


def matmul_rate(kind: type, side: int = 1024) -> float:
    """Multiply-adds a second of a product of two matrices in onnxruntime."""
    from onnx import TensorProto, helper

    integer = kind is np.int8
    value = TensorProto.INT8 if integer else TensorProto.FLOAT
    left = TensorProto.UINT8 if integer else value
    node = helper.make_node("MatMulInteger" if integer else "MatMul", ["a", "b"], ["c"])
    b = helper.make_tensor("b", value, [side, side], np.ones(side * side, kind).tobytes(), raw=True)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", left, [side, side])],
        [helper.make_tensor_value_info("c", TensorProto.INT32 if integer else value, None)],
        [b],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    session = _session(model)
    feed = {"a": np.ones((side, side), np.uint8 if integer else kind)}
    return side**3 / least(lambda: session.run(None, feed))


def copy_rate(size: int = 5_000_000) -> float:
    """Bytes a second, read and written together."""
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    return 2 * size / least(lambda: np.copyto(target, source))


def least(run, rounds: int = 50) -> float:
    seconds = []
    for _ in range(rounds):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def _session(model, **settings):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def tflite_operators(path: Path, size: tuple[int, int], rounds: int) -> list[dict]:
    """What each operator is and takes, in the file's order."""
    content = path.read_bytes()
    model = unpack(content)
    names = [operator_name(model, operator) for operator in model.subgraphs[0].operators]
    cuts = [n for n, name in enumerate(names) if name not in FOLDED]
    runs = {n: runner(_cut(content, n + 1), size) for n in cuts}
    seconds = dict.fromkeys(cuts, np.inf)
    for _ in range(rounds):
        for n, run in runs.items():
            seconds[n] = min(seconds[n], run())
    shapes, rows, before = _shapes(content, size), [], 0.0
    for n in cuts:
        operator = model.subgraphs[0].operators[n]
        tensors = [shapes[i] for i in (*operator.inputs, *operator.outputs) if i in shapes]
        output = shapes[operator.outputs[0]][0]
        kind, macs = names[n], 0
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            (_, *window, depth), _ = shapes[operator.inputs[1]]
            kind = f"{'depthwise' if kind.startswith('D') else 'convolution'} {'x'.join(map(str, window))}"
            macs = np.prod(output) * np.prod(window) * (1 if kind.startswith("d") else depth)
        rows.append(
            {
                "kind": f"{kind.lower()}, {shapes[operator.inputs[0]][1]}",
                "stride": size[0] // output[1] if len(output) == 4 else 0,
                "seconds": max(0.0, seconds[n] - before),
                "macs": macs,
                "bytes": sum(np.prod(shape) * kind.itemsize for shape, kind in tensors),
            }
        )
        before = max(before, seconds[n])
    return rows


def _cut(content: bytes, count: int) -> bytes:
    """The file's first operators; what none of them reads is the output."""
    model = unpack(content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    read = {i for operator in graph.operators for i in operator.inputs}
    graph.outputs = [i for op in graph.operators for i in op.outputs if i not in read]
    model.signatureDefs = None
    return pack(model)


def _shapes(content: bytes, size: tuple[int, int]) -> dict:
    """Shape and type of each tensor, by its number."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES  # which would hide most
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [1, *size, 3])
    interpreter.allocate_tensors()
    details = interpreter.get_tensor_details()
    return {d["index"]: (d["shape"].tolist(), np.dtype(d["dtype"])) for d in details}


def onnx_operators(path: Path, size: tuple[int, int], rounds: int) -> list[dict]:
    """What onnxruntime's profiler says of each operator: the least of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"enable_profiling": True, "profile_file_prefix": str(Path(folder) / "profile")}
        session = _session(path.read_bytes(), **settings)
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)
        for _ in range(rounds):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    rows: dict[str, dict] = {}
    for event in events:
        if not event["name"].endswith("_kernel_time"):
            continue
        inputs, (output, *_) = (
            [next(iter(entry.values())) for entry in event["args"][f"{side}_type_shape"]]
            for side in ("input", "output")
        )
        kind, macs = event["args"]["op_name"].lower(), 0
        if kind == "conv":
            _, depth, *window = inputs[1]
            kind = f"{'depthwise' if depth == 1 else 'convolution'} {'x'.join(map(str, window))}"
            macs = np.prod(output) * np.prod(window) * depth
        row = {
            "kind": f"{kind}, float32",
            "stride": size[0] // output[2] if len(output) == 4 and output[2] > 4 else 0,
            "seconds": event["dur"] / 1e6,
            "macs": macs,
            "bytes": 4 * sum(np.prod(shape) for shape in (*inputs, output)),
        }
        rows[event["name"]] = min(row, rows.get(event["name"], row), key=lambda r: r["seconds"])
    return list(rows.values())


def markdown(rows: list[dict], peak: dict[str, float], copied: float) -> str:
    """Operators by kind and stride, those below 1.5 % together."""
    total = sum(row["seconds"] for row in rows)
    groups: dict = {}
    for row in rows:
        groups.setdefault((row["kind"], row["stride"]), []).append(row)
    for key in [k for k, g in groups.items() if sum(r["seconds"] for r in g) < 0.015 * total]:
        groups.setdefault(("others", 0), []).extend(groups.pop(key))
    lines = []
    for (kind, stride), group in {**groups, ("all", 0): rows}.items():
        seconds, macs, size = (sum(row[k] for row in group) for k in ("seconds", "macs", "bytes"))
        floor = sum(
            max(r["macs"] / peak.get(r["kind"].split()[-1], np.inf), r["bytes"] / copied)
            for r in group
        )
        lines.append(
            [
                kind,
                str(stride or ""),
                str(len(group)),
                f"{1000 * seconds:.2f}",
                f"{100 * seconds / total:.0f} %",
                f"{macs / 1e6:.0f}",
                f"{size / 1e6:.1f}",
                f"{1000 * floor:.2f}",
            ]
        )
    head = ["operator, reads", "stride", "count", "ms", "share", "MMAC", "MB", "floor, ms"]
    return table(head, lines) + "\n"


if __name__ == "__main__":
    main()
