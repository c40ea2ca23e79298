"""`retinaface-tf evaluate`: figures as the field measures them, reports and comparisons."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from retinaface_tf.cli.evaluate_detection import fddb, widerface
from retinaface_tf.cli.evaluate_faces import landmarks, verification
from retinaface_tf.cli.evaluate_mesh import mesh
from retinaface_tf.cli.evaluation_run import percent, require_report, show
from retinaface_tf.cli.options import Overwrite

app = typer.Typer(
    help="Measure a detector: WIDER FACE, FDDB, landmarks, verification; compare results.",
    no_args_is_help=True,
)
app.command("widerface")(widerface)
app.command("fddb")(fddb)
app.command("landmarks")(landmarks)
app.command("verification")(verification)
app.command("mesh")(mesh)


@app.command("compare")
def compare_results(
    a: Annotated[Path, typer.Argument(help="Results of `evaluate ... --json`.")],
    b: Annotated[Path, typer.Argument(help="Others of the same kind on the same images.")],
    rounds: Annotated[int, typer.Option(min=2, max=1_000_000, help="Of resampling.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
) -> None:
    """Difference of two results, B less A, with 95 % intervals by paired bootstrap over the images."""
    from retinaface_tf.evaluation.compare import compare
    from retinaface_tf.evaluation.results import read_json, refuse_damaged

    first, second = read_json(a), read_json(b)
    with refuse_damaged(a, b):
        rows = compare(first, second, rounds, seed)
    show(
        f"A = {first['name']}, B = {second['name']}; %, 95 % interval of {rounds} rounds",
        ["", "A", "B", "B - A", "from", "to", ""],
        [
            [
                row.figure,
                percent(row.a),
                percent(row.b),
                f"{100 * row.difference:+.2f}",
                f"{100 * row.low:+.2f}",
                f"{100 * row.high:+.2f}",
                "differs" if row.certain else "",
            ]
            for row in rows
        ],
    )


@app.command("report")
def report_results(
    results: Annotated[list[Path], typer.Argument(help="Results of `evaluate ... --json`.")],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    overwrite: Overwrite = False,
) -> None:
    """One report of several results of the same kind, without crops."""
    from retinaface_tf.evaluation.report import write_report
    from retinaface_tf.evaluation.results import read_json, refuse_damaged

    runs = [read_json(path) for path in results]
    require_report(out, results, overwrite)
    with refuse_damaged(*results):
        print(f"wrote {write_report(out, runs)}", file=sys.stderr)
