"""Builds the documentation site into site/: tutorials run, every link checked.

    python docs/tools/build.py              # everything
    python docs/tools/build.py --reuse      # run only those tutorials whose file has changed

Needs the extra [docs] of this package. The pages can be opened as files.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STAGE = REPOSITORY / "build" / "docs"
SITE = REPOSITORY / "site"
EXECUTED = REPOSITORY / "build" / "tutorials"

sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

import links  # noqa: E402
import notebooks  # noqa: E402
import pages  # noqa: E402
import readability  # noqa: E402
from presets_table import presets_table  # noqa: E402


def main() -> int:
    """Command line; 0 where the site was built and every link leads somewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reuse", action="store_true", help="keep outputs of unchanged tutorials")
    arguments = parser.parse_args()
    try:
        pages.gather(REPOSITORY, STAGE, presets_table=presets_table())
        for source in sorted((REPOSITORY / "docs" / "tutorials").glob("*.py")):
            write_tutorial(source, reuse=arguments.reuse)
    except (pages.PageError, notebooks.TutorialError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(SITE, ignore_errors=True)
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if subprocess.run(zensical, cwd=REPOSITORY).returncode:
        return 1
    keep_worker_here()
    readability.main([])
    return links.main(SITE)


def keep_worker_here() -> None:
    """Puts our own script where the pages would fetch one from another host (see that script)."""
    name = "worker_from_file.js"
    shutil.copy(Path(__file__).with_name(name), SITE / "assets" / "javascripts" / name)
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        depth = "../" * len(page.relative_to(SITE).parent.parts)
        local = f"{depth}assets/javascripts/{name}"
        pages.write(page, text.replace("https://unpkg.com/iframe-worker/shim", local))


def write_tutorial(source: Path, *, reuse: bool) -> None:
    """Runs a tutorial; its page, images and executed notebook go to the gathered pages."""
    import nbformat

    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    kept = EXECUTED / f"{source.stem}-{digest[:16]}.ipynb"
    if reuse and kept.is_file():
        notebook = nbformat.read(kept, as_version=4)
    else:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook = notebooks.execute(source, Path(folder) / source.stem, REPOSITORY)
        print(f"{source.name}: ran in {time.monotonic() - started:.0f} s")
        EXECUTED.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, kept)
    page = f"docs/tutorials/{source.name}"
    out = STAGE / pages.site_path(page)
    out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out.with_suffix(".ipynb"))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = pages.rewrite_links(cell.source, page, REPOSITORY, set())
    text = notebooks.to_page(notebook, source.stem, out.parent)
    note = f"[This page as a Jupyter notebook]({source.stem}.ipynb)\n"
    pages.write(out, text + "\n" + note)


if __name__ == "__main__":
    sys.exit(main())
