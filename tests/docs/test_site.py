"""What the documentation site is made of, without building it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import data_flow
import figures
import links
import pages
import pytest
import readability
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
needs_source = pytest.mark.skipif(
    not (REPOSITORY / "retinaface_tf").is_dir(),
    reason="the package's source is not in this checkout (an installed wheel is tested)",
)


PAGE = '<html><body><h1 id="top">t</h1>{}</body></html>'


@pytest.fixture
def site(tmp_path):
    """Writes a site of the pages given as path=body and checks it."""

    def build(**bodies):
        for name, body in bodies.items():
            path = tmp_path / name.replace("__", "/").replace("_html", ".html")
            path.parent.mkdir(exist_ok=True)
            path.write_text(PAGE.format(body))
        return links.check_site(tmp_path)

    return build


def test_whole_site_has_no_problem(site):
    problems, external = site(
        index_html='<a href="sub/two.html#top">x</a><a href="https://example.org">y</a>',
        sub__two_html='<a href="../index.html">x</a><a href="#top">y</a><img src="data:,">',
    )
    assert problems == []
    assert external == {"https://example.org": 1}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('<a href="gone.html">x</a>', "not there"),
        ('<img src="gone.png">', "not there"),
        ('<a href="#gone">x</a>', "no such anchor"),
        ('<a href="index.html#gone">x</a>', "no such anchor"),
        ('<script src="https://example.org/a.js"></script>', "from another host"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "from another host"),
    ],
)
def test_broken_link_is_named(site, body, complaint):
    problems, _ = site(index_html=body)
    assert len(problems) == 1
    assert complaint in problems[0] and problems[0].startswith("index.html")


@needs_source
def test_links_of_files_become_links_of_pages():
    text = "\n".join(
        [
            "[a](../docs/speed.md#memory-with-ever-new-sizes) [b](../tflite)",
            "[c](../retinaface_tf/faces/faces.py) [d](../benchmarks/detect.py)",
            "[e](https://example.org/x.md) [f](#here) [g](../benchmarks)",
            "```",
            "[h](nowhere.md)",
            "```",
        ]
    )
    sources = set()
    out = pages.rewrite_links(text, "serving/README.md", REPOSITORY, sources).split("\n")
    assert out[0] == "[a](../speed.md#memory-with-ever-new-sizes) [b](../tflite/README.md)"
    assert out[1] == (
        "[c](../api/faces.md#retinaface_tf.faces.faces) [d](../sources/benchmarks/detect.py.md)"
    )
    assert out[2] == "[e](https://example.org/x.md) [f](#here) g"
    assert out[4] == "[h](nowhere.md)"
    assert sources == {"benchmarks/detect.py"}


def test_link_to_a_missing_file_stops_the_build():
    with pytest.raises(pages.PageError, match=r"speed\.md links to \.\./gone\.py"):
        pages.rewrite_links("[x](../gone.py)", "docs/speed.md", REPOSITORY, set())


@needs_source
def test_every_page_gathers(tmp_path):
    pages.gather(REPOSITORY, tmp_path / "docs", presets_table="| all of them |")
    assert "| all of them |" in (tmp_path / "docs" / "model-zoo.md").read_text()
    assert (tmp_path / "docs" / "data-flow.svg").is_file()


@needs_source
def test_reference_has_every_module_once():
    text = "\n".join(pages.api_pages(REPOSITORY).values())
    named = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    package = REPOSITORY / "retinaface_tf"
    there = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in package.rglob("*.py")
        if "cli" not in path.parts and not path.name.startswith("_")
    }
    assert len(named) == len(set(named))
    assert set(named) == there


@needs_source
def test_navigation_leads_to_pages():
    text = (REPOSITORY / "mkdocs.yml").read_text()
    listed = re.findall(
        r":\s+(\S+\.md)$", yaml.safe_dump(yaml.safe_load(text)["nav"]), re.MULTILINE
    )
    written = {pages.site_path(page) for page in pages.written_pages(REPOSITORY)}
    tutorials = {
        pages.site_path(path.relative_to(REPOSITORY).as_posix())
        for path in (REPOSITORY / "docs" / "tutorials").glob("*.py")
    }
    assert set(listed) <= written | tutorials | set(pages.api_pages(REPOSITORY))
    assert tutorials <= set(listed)


def test_tests_that_pages_name_are_there():
    named = [
        (link, REPOSITORY / "docs" / path)
        for page in (REPOSITORY / "docs").glob("*.md")
        for link, path in re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", page.read_text())
    ]
    assert len(named) > 30
    assert [name for name, path in named if f"def {name}(" not in path.read_text()] == []


def test_configurations_of_the_papers_rows_are_there():
    page = (REPOSITORY / "docs" / "reproduce.md").read_text()
    named = re.findall(r"--config ([a-z][\w.-]+)|`(ablation/[\w-]+)`", page)
    assert len(named) > 8
    for name in map("".join, named):
        assert (REPOSITORY / "retinaface_tf" / "training" / "configs" / f"{name}.toml").is_file()


def test_tables_and_single_figures_are_those_of_the_figures():
    used = set()
    for page in figures.PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        assert text == figures.with_figures(page), f"{page}: run `python docs/tools/figures.py`"
        # GitHub takes a line that begins with a mark for HTML.
        assert not re.search(r"^\s*<!-- figure:", text, re.M), page
        used |= set(re.findall(r"<!-- figure: ([^>]+) -->", text))
    assert set(figures.read("quoted")) <= used


@pytest.mark.parametrize("name", data_flow.DIAGRAMS)
def test_diagrams_are_those_of_the_script(name):
    assert (data_flow.DOCS / name).read_text() == data_flow.DIAGRAMS[name]()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs" / "tutorials").glob("*.py")))
def test_tutorial_is_python_and_begins_with_a_title(path):
    text = path.read_text()
    ast.parse(text)
    assert text.startswith("# %% [markdown]\n# # ")


def test_readability_counts_running_text_alone():
    page = (
        "# A title of five words\n\nShort [text](a.md) here. See `x.y`, then\nmore.\n\n- "
        + "word " * 26
    )
    page += (
        "\n\n| a table | with many words in its cells |\n\n```bash\nno sentence at all here\n```\n"
    )
    found = readability.sentences(readability.prose(page))
    assert [len(sentence.split()) for sentence in found] == [3, 4, 26]
    assert readability.row("page", readability.prose(page))[0] == 1 / 3
