"""What a .tflite is made of: every operator, its share of time, and which delegate takes it."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retinaface_tf.modelfile.metadata import read_checked


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a graph.

    Attributes:
        kind: CONV_2D, ...
        name: of its first output.
        output: shape of that output.
        seconds: least time when run alone, on one thread. A padding is timed with the convolution
            that reads it, as XNNPACK runs it, and has none of its own.
        xnnpack: whether XNNPACK took it, seen when run alone.
        gpu: whether the GPU delegate's own check accepts it. The check is LiteRT's and runs
            anywhere; the delegate itself does not run on a desktop's processor.
    """

    kind: str
    name: str
    output: tuple[int, ...]
    seconds: float
    xnnpack: bool
    gpu: bool


@dataclass(frozen=True)
class OperatorReport:
    """All operators in order.

    Attributes:
        total_seconds: least time of the whole graph on one thread.
        partitions: pieces the graph is cut into by XNNPACK; 1 is the whole graph at once.
        left_out: operators that XNNPACK leaves to slower code when the graph runs as a whole.
    """

    operators: tuple[OperatorTime, ...]
    total_seconds: float
    partitions: int
    left_out: int


def measure_operators(path: str | Path, rounds: int = 10) -> OperatorReport:
    """Runs each operator of a file of `export tflite` alone, at the file's own size.

    The interpreter has no profiler in Python; so each operator is cut out into a file of its own.

    Raises:
        WeightsError: the file is missing, damaged or another program's.
    """
    from retinaface_tf.export.flatbuffer import operator_name, text, unpack

    content, _ = read_checked(path)
    model = unpack(content)
    graph = model.subgraphs[0]
    found = []
    padding: list[int] = []
    for index, operator in enumerate(graph.operators):
        kind = operator_name(model, operator)
        output = graph.tensors[operator.outputs[0]]
        seconds, xnnpack, gpu = _alone(content, [*padding, index], rounds)
        readers = [o.inputs[0] for o in graph.operators[index + 1 : index + 2]]
        padding = [index] if kind == "PAD" and readers == [operator.outputs[0]] else []
        name = text(output.name).rsplit(";", 1)[-1]
        sides = tuple(int(side) for side in output.shape)
        seconds = 0.0 if padding else seconds
        found.append(OperatorTime(kind, name, sides, seconds, xnnpack, gpu))
    total, nodes = _time(content, max(rounds, 10))
    partitions = sum(node["op_name"] == "DELEGATE" for node in nodes)
    return OperatorReport(tuple(found), total, partitions, _left_out(nodes))


def print_report(path: str | Path) -> None:
    """The report as tables on standard output."""
    from rich.console import Console
    from rich.table import Table

    report = measure_operators(path)
    summed = sum(entry.seconds for entry in report.operators)
    console = Console()
    table = Table("operator", "output", "ms alone", "share", "XNNPACK", "GPU", "name")
    for entry in report.operators:
        table.add_row(
            entry.kind,
            "x".join(map(str, entry.output)),
            f"{1000 * entry.seconds:.3f}",
            f"{entry.seconds / summed:.1%}",
            "yes" if entry.xnnpack else "NO",
            "yes" if entry.gpu else "no",
            entry.name[-40:],
        )
    console.print(table)
    kinds: dict[str, list[OperatorTime]] = {}
    for entry in report.operators:
        kinds.setdefault(entry.kind, []).append(entry)
    table = Table("operator", "count", "share of time", "XNNPACK", "GPU")
    for kind, entries in sorted(kinds.items(), key=lambda k: -sum(e.seconds for e in k[1])):
        table.add_row(
            kind,
            str(len(entries)),
            f"{sum(e.seconds for e in entries) / summed:.1%}",
            f"{sum(e.xnnpack for e in entries)} of {len(entries)}",
            f"{sum(e.gpu for e in entries)} of {len(entries)}",
        )
    console.print(table)
    console.print(
        f"whole graph: {1000 * report.total_seconds:.2f} ms on one thread, "
        f"{report.partitions} XNNPACK partition(s), {report.left_out} operator(s) outside; "
        f"operators run alone add up to {1000 * summed:.2f} ms"
    )


def _alone(content: bytes, indices: list[int], rounds: int) -> tuple[float, bool, bool]:
    """Seconds of a few operators cut out of a file, whether XNNPACK takes them, and the GPU."""
    from retinaface_tf.export.flatbuffer import pack, unpack

    model = unpack(content)
    graph = model.subgraphs[0]
    graph.operators = [graph.operators[index] for index in indices]
    graph.inputs = [
        tensor
        for tensor in graph.operators[0].inputs
        if tensor >= 0 and model.buffers[graph.tensors[tensor].buffer].data is None
    ]
    graph.outputs = list(graph.operators[-1].outputs)
    model.signatureDefs, model.metadata = [], []
    part = pack(model)
    seconds, nodes = _time(part, rounds)
    return seconds, _left_out(nodes) == 0, fits_gpu(part)


def fits_gpu(content: bytes) -> bool:
    """Whether LiteRT's analyzer finds a .tflite compatible with its GPU delegate."""
    # The interpreter's module first: it loads what the analyzer is linked to.
    from ai_edge_litert import interpreter  # noqa: F401, I001
    from ai_edge_litert import _pywrap_analyzer_wrapper as analyzer

    return "looks compatible with GPU delegate" in analyzer.ModelAnalyzer(content, False, True)


def _time(content: bytes, rounds: int):
    """Least seconds of a run on one thread, and the interpreter's nodes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for entry in interpreter.get_input_details():
        values = random.uniform(0, 100, entry["shape"]).astype(entry["dtype"])
        interpreter.set_tensor(entry["index"], values)
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        interpreter.invoke()
        times.append(time.perf_counter() - start)
    return min(times[2:]), interpreter._get_ops_details()


def _left_out(nodes: list[dict]) -> int:
    """Operators that make a tensor which no delegate makes and somebody outside needs.

    A delegated operator stays in the interpreter's list beside the delegate that runs it; what a
    delegate runs, it also reads the constants of.
    """
    delegates = [node for node in nodes if node["op_name"] == "DELEGATE"]
    others = [set(map(int, node["outputs"])) for node in nodes if node["op_name"] != "DELEGATE"]
    if not delegates:
        return len(others)
    made_inside = {int(i) for node in delegates for i in node["outputs"]}
    read_inside = {int(i) for node in delegates for i in node["inputs"]} - made_inside
    # What enters a delegate from another operator was made outside of all delegates.
    return sum(bool(made & read_inside) and not made & made_inside for made in others)
