"""The site's pages, gathered in one folder: written ones, API reference, presets, linked sources.

Pages are written for two readers: as files of the repository, where a link leads to another file, and
as pages of the site. Here the links of the first become those of the second. A link to a file that
does not exist stops the build.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

# Written pages outside docs/; their place on the site is their place in the repository.
MORE_PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "serving/README.md",
    "serving/kuberay/README.md",
    "tflite/README.md",
    "tflite/web/README.md",
)
PRESETS_MARK = "<!-- The table of presets stands here on the site. -->"

# What the reference says of each page, in the order in which a reader meets them.
API_PAGES = {
    "detector": "`RetinaFace`: images in, faces out.",
    "faces": "`Faces` and `Face`: what a detection is and what people do with it.",
    "presets": "Named networks and where their weights come from.",
    "config": "The typed, frozen description of a network.",
    "errors": "What can go wrong, by class.",
    "inference": "From pixels to faces: preparing, running, decoding, several scales.",
    "bulk": "Folders, tars and tables of images, by processes or on Ray.",
    "geometry": "Boxes, anchors and the deltas between them: pure functions.",
    "layers": "Building blocks of the network.",
    "models": "The networks, as Keras functional models.",
    "losses": "What training minimises.",
    "data": "Readers of data sets, checks, drawn faces, the pipeline.",
    "training": "The trainer and its configuration.",
    "mesh": "Topology, camera, light, renderer, files of meshes.",
    "evaluation": "WIDER FACE, FDDB, landmarks, verification, reports.",
    "export": "SavedModel, TFLite, ONNX.",
    "convert": "Readers of other projects' weights.",
    "shipped": "Trained networks that come with the package.",
    "serving": "The local server and the client.",
}
_NOT_IN_REFERENCE = ("cli", "__pycache__")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".sh": "bash", ".kt": "kotlin"}


class PageError(Exception):
    """A page cannot be made: says which and why."""


def gather(repository: Path, out: Path, *, presets_table: str) -> None:
    """Writes every page but the tutorials into an empty folder.

    Args:
        repository: the checkout.
        out: folder to write into; what was in it is removed.
        presets_table: Markdown that takes the place of `PRESETS_MARK`.

    Raises:
        PageError: a page links to a file that does not exist.
    """
    shutil.rmtree(out, ignore_errors=True)
    sources: set[str] = set()
    for page in written_pages(repository):
        text = (repository / page).read_text(encoding="utf-8")
        text = rewrite_links(text, page, repository, sources)
        write(out / site_path(page), text.replace(PRESETS_MARK, presets_table))
    for image in sorted((repository / "docs").glob("*.*")):
        if image.suffix in (".jpg", ".png", ".svg"):
            shutil.copy(image, out / image.name)
    shutil.copy(Path(__file__).with_name("site.css"), out / "site.css")
    for name, text in api_pages(repository).items():
        write(out / name, text)
    for source in sorted(sources):
        write(out / source_page(source), _source_text(repository, source))


def written_pages(repository: Path) -> list[str]:
    """Paths in the repository of the pages people write, tutorials aside."""
    pages = sorted(f"docs/{path.name}" for path in (repository / "docs").glob("*.md"))
    return [*pages, *MORE_PAGES]


def site_path(page: str) -> str:
    """Where a file of the repository, if it is a page, lies on the site."""
    if page.startswith("docs/tutorials/"):
        page = str(Path(page).with_suffix(".md").as_posix())
    return page.removeprefix("docs/")


def source_page(path: str) -> str:
    """The page that shows a source file which others link to."""
    return f"sources/{path}.md"


def rewrite_links(text: str, page: str, repository: Path, sources: set[str]) -> str:
    """A page's text with links that lead to pages of the site.

    Args:
        text: Markdown.
        page: its path in the repository.
        repository: the checkout.
        sources: gains the paths of linked files that are no pages.

    Raises:
        PageError: a link leads nowhere.
    """
    here = posixpath.dirname(site_path(page))

    def rewrite(match: re.Match) -> str:
        target, hash_, anchor = match[1].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if not (repository / path).exists() or path.startswith(".."):
            raise PageError(f"{page} links to {target}, which is not in the repository.")
        place = _place_on_site(path, repository, sources)
        if place is None:
            return "]" + _UNLINK
        place, own_hash, own_anchor = place.partition("#")
        return (
            f"]({posixpath.relpath(place, here or '.')}{hash_ or own_hash}{anchor or own_anchor})"
        )

    lines, fence = [], None
    for line in text.split("\n"):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and fence is None:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = None
        elif fence is None:
            line = _LINK.sub(rewrite, line)
            line = re.sub(r"\[([^\[\]]*)\]" + _UNLINK, r"\1", line)
            # "float32 [5][2]" is a shape in our pages and would be a reference on the site.
            words = line.split("`")
            words[::2] = [re.sub(r"\](\[\w+\])", r"]\\\1", part) for part in words[::2]]
            line = "`".join(words)
        lines.append(line)
    return "\n".join(lines)


# Stands behind the text of a link that has no place on the site, until that link is taken out.
_UNLINK = "\0"


def _place_on_site(path: str, repository: Path, sources: set[str]) -> str | None:
    if (repository / path).is_dir():
        path = f"{path}/README.md"
        return site_path(path) if path in MORE_PAGES else None
    if path.startswith("retinaface_tf/") and path.endswith(".py"):
        module = path.removesuffix(".py").split("/")
        if module[1] not in (*_NOT_IN_REFERENCE, "__init__"):
            anchor = "" if module[-1] == "__init__" else f"#{'.'.join(module)}"
            return f"api/{module[1]}.md{anchor}"
    if path in MORE_PAGES or (path.startswith("docs/") and not path.startswith("docs/tools/")):
        return site_path(path)
    sources.add(path)
    return source_page(path)


def _source_text(repository: Path, source: str) -> str:
    language = _LANGUAGES.get(Path(source).suffix, "text")
    text = (repository / source).read_text(encoding="utf-8")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {source}\n\n`````{language}\n{text}\n`````\n"


def api_pages(repository: Path) -> dict[str, str]:
    """The reference's pages by their place on the site: each module's docstrings."""
    package = repository / "retinaface_tf"
    found = {path.stem for path in package.iterdir() if not path.name.startswith("_")}
    found -= set(_NOT_IN_REFERENCE)
    names = [name for name in API_PAGES if name in found] + sorted(found - set(API_PAGES))
    pages = {}
    for name in names:
        modules = list(_modules(package, name))
        if modules:
            directives = "\n\n".join(f"::: {module}" for module in modules)
            summary = API_PAGES.get(name, "") if (package / name).is_dir() else ""
            pages[f"api/{name}.md"] = f"# {name}\n\n{summary}\n\n{directives}\n"
    lines = [
        "# API reference",
        "",
        "Made from the docstrings. `from retinaface_tf import ...` gives what most programs need:",
        "[`RetinaFace`][retinaface_tf.inference.detector.RetinaFace],",
        "[`Faces`][retinaface_tf.faces.faces.Faces],",
        "[`Face`][retinaface_tf.faces.faces.Face],",
        "[`build_retinaface`][retinaface_tf.models.retinaface.build_retinaface],",
        "[`get_preset`][retinaface_tf.presets.get_preset] and",
        "[`list_presets`][retinaface_tf.presets.list_presets].",
        "Importing the package loads neither TensorFlow nor Keras; names load on first use.",
        "",
        "| page | what |",
        "|---|---|",
    ]
    for page in pages:
        name = Path(page).stem
        lines.append(f"| [{name}]({name}.md) | {API_PAGES.get(name, '')} |")
    return {"api/index.md": "\n".join(lines) + "\n", **pages}


def _modules(package: Path, name: str) -> Iterable[str]:
    if (package / f"{name}.py").is_file():
        yield f"{package.name}.{name}"
    for path in sorted((package / name).rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if not any(part.startswith("_") for part in parts):
            yield ".".join(parts)


def write(path: Path, text: str) -> None:
    """Writes a page whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
