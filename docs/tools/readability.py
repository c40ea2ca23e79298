"""How easy pages and help texts are to read: a report, the hardest first; it fails nothing.

    python docs/tools/readability.py             # every page
    python docs/tools/readability.py PAGE ...    # these, with their long sentences

Counts running text only: no code, tables, headings or addresses. Grade is the Automated Readability Index (Smith and
Senter 1967), roughly the years of school that a reader needs; it takes no list of syllables.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pages import written_pages

REPOSITORY = Path(__file__).resolve().parents[2]
LONG = 25
HELP = "--help"


def prose(markdown: str) -> str:
    """The running text of a page, a paragraph or list item a line, each ended as a sentence."""
    text = re.sub(r"^(```|~~~).*?^\1\s*$", "", markdown, flags=re.M | re.S)
    text = re.sub(r"(?<!\n)<!--.*?-->", "", text)
    text = re.sub(r"^( {4}|\||#|<|!\[).*$", "", text, flags=re.M)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\s*(?:[-*]|\d+\.) ", "\n", text, flags=re.M)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n".join(re.sub(r"[:;,]?$", ".", part) for part in paragraphs if len(part.split()) > 3)


def sentences(text: str) -> list[str]:
    """Split behind full stops that a capital or code follows."""
    return [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z`\"*(\d])|\n", text) if s.strip(" .")]


def row(page: str, text: str) -> tuple[float, str]:
    """The share of long sentences, and the page's line in the report."""
    found = sentences(text)
    long = [s for s in found if len(s.split()) > LONG]
    share = len(long) / max(1, len(found))
    words = text.split()
    letters = sum(map(str.isalnum, text))
    grade = 4.71 * letters / len(words) + 0.5 * len(words) / len(found) - 21.43
    return share, f"{page:42} {len(found):9} {share:9.0%} {grade:9.1f}"


def help_texts() -> str:
    """What `--help` of every command says, a text a line."""
    import typer

    from retinaface_tf.cli import with_commands

    lines, commands = [], [typer.main.get_command(with_commands())]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        lines += [command.help, *(getattr(option, "help", None) for option in command.params)]
    return "\n".join(f"{' '.join(text.split()).rstrip('.')}." for text in lines if text)


def main(pages: list[str]) -> None:
    """Prints the report; with pages named, their long sentences too."""
    rows = []
    for page in pages or ["README.md", *written_pages(REPOSITORY), HELP]:
        is_help = page == HELP
        text = help_texts() if is_help else prose((REPOSITORY / page).read_text(encoding="utf-8"))
        rows.append(row(page, text))
        if pages:
            for sentence in sentences(text):
                if len(sentence.split()) > LONG:
                    print(f"{len(sentence.split())}: {sentence}")
    print(f"{'page':42} {'sentences':>9} {f'> {LONG} words':>9} {'grade':>9}")
    print("\n".join(line for _, line in sorted(rows, reverse=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
