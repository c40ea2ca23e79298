"""Tutorials: Python files in cells (py:percent), executed, with what they print and show as pages."""

from __future__ import annotations

import base64
import os
import re
import shutil
import sys
from pathlib import Path

# A cell that takes longer is broken.
CELL_SECONDS = 300
_RESULTS = ("execute_result", "display_data")
# Bold and colours of terminals.
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# What TensorFlow and LiteRT tell their own developers at the start.
_LIBRARY_LOG = re.compile(
    r"^([IWE]\d{4} |INFO: |WARNING: All log messages before absl).*\n", re.MULTILINE
)


class TutorialError(Exception):
    """A tutorial did not run to its end: says which, where and why."""


def execute(source: Path, folder: Path, repository: Path):
    """Runs a tutorial from its first cell to its last.

    Args:
        source: a Python file in py:percent cells; cells with language="bash" go to bash.
        folder: in which it runs and may write.
        repository: the checkout whose package it imports.

    Returns:
        The executed notebook (`nbformat.NotebookNode`).

    Raises:
        TutorialError: a cell raised an exception or took too long.
    """
    import jupytext
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    notebook = jupytext.read(source, fmt="py:percent")
    folder.mkdir(parents=True, exist_ok=True)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(env=_environment(folder, repository))
    except (CellExecutionError, CellTimeoutError) as error:
        text = _STYLE.sub("", str(error))
        raise TutorialError(f"{source.name} failed:\n{text}") from None
    return notebook


def _environment(folder: Path, repository: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(repository), os.environ.get("PYTHONPATH")]))
    programs = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    if not shutil.which("retinaface-tf", path=programs[0]):
        # A checkout that is not installed: the command all the same.
        programs.insert(0, str(_command(folder.parent / "bin")))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PATH": os.pathsep.join(programs),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def _command(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "retinaface-tf"
    script.write_text(
        f"#!{sys.executable}\nfrom retinaface_tf.cli import main\n\n"
        'if __name__ == "__main__":\n    main()\n'
    )
    script.chmod(0o755)
    return folder


def to_page(notebook, name: str, folder: Path) -> str:
    """An executed notebook as Markdown; its images are written beside it.

    Args:
        notebook: what `execute` returned.
        name: of the tutorial.
        folder: of the page.

    Returns:
        Markdown. An image's text is its cell's metadata "alt".
    """
    parts, images = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(_code(cell.source))
        streams = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        printed = _LIBRARY_LOG.sub("", _STYLE.sub("", streams))
        for output in cell.outputs:
            if output.output_type in _RESULTS and "image/png" in output.data:
                images += 1
                image = folder / f"{name}-{images}.png"
                image.write_bytes(base64.b64decode(output.data["image/png"]))
                parts.append(f"![{cell.metadata.get('alt', 'image')}]({image.name})")
            elif output.output_type in _RESULTS:
                printed += output.data["text/plain"] + "\n"
        if printed.strip():
            parts.append(f"`````{{.text .output}}\n{printed.strip(chr(10))}\n`````")
    return "\n\n".join(parts) + "\n"


def _code(source: str) -> str:
    language = "python"
    if source.startswith("%%bash\n"):
        language, source = "bash", source.removeprefix("%%bash\n")
    return f"`````{language}\n{source}\n`````"
