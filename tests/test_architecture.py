"""Imports go one way: rooms as `lint-imports` checks them, files without a cycle, no private names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "retinaface_tf"


@pytest.fixture(scope="module")
def graph():
    """Every import between files of the package, in functions too, but not for type checking only."""
    grimp = pytest.importorskip("grimp")
    return grimp.build_graph("retinaface_tf", exclude_type_checking_imports=True)


def test_rooms_import_only_what_is_below_them():
    pytest.importorskip("importlinter")
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_files_import_each_other_in_a_circle(graph):
    circles = [
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if graph.chain_exists(importer=imported, imported=module)
    ]
    assert not circles, sorted(circles)


def test_no_file_imports_a_private_name_of_another():
    private = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retinaface_tf"):
                names = [alias.name for alias in node.names if alias.name.startswith("_")]
                names = [name for name in names if not name.startswith("__")]
                private += [(str(path.relative_to(REPOSITORY)), name) for name in names]
    assert not private
