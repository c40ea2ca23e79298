"""The command lines that README and the pages show."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from pages import written_pages

REPOSITORY = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```\s*$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}.*\n)+)")
_IN_TEXT = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SHELLS = ("bash", "sh", "")


class Command(NamedTuple):
    """One command; `program` is `retinaface-tf` or a script's path."""

    page: str
    program: str
    arguments: tuple[str, ...]
    is_block: bool

    @property
    def is_whole(self) -> bool:
        """False for a mention that leaves something out."""
        return self.is_block and "..." not in self.arguments


def page_commands() -> list[Command]:
    """Every command of ours in README and the site's written pages, in their order."""
    found = []
    for page in ("README.md", *written_pages(REPOSITORY)):
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        blocks = [m[3] for m in _FENCE.finditer(text) if m[2] in _SHELLS]
        text = _FENCE.sub("", text)
        blocks += _INDENTED.findall(text)
        mentions = [" ".join(code.split()) for code in _IN_TEXT.findall(_INDENTED.sub("", text))]
        for is_block, codes in ((True, blocks), (False, mentions)):
            found += [Command(page, *c, is_block) for code in codes for c in _commands(code)]
    return found


def _commands(code: str) -> list[tuple[str, tuple[str, ...]]]:
    code = re.sub(r"(^|\s)#\s.*$", r"\1", code.replace("\\\n", " "), flags=re.MULTILINE)
    lexer = shlex.shlex(code, posix=True, punctuation_chars="|&;<>()\n")
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t", "", True
    found, words = [], []
    try:
        tokens = [*lexer, "\n"]
    except ValueError:  # no shell, such as a drawing
        return []
    for token in tokens:
        if not re.fullmatch(r"[|&;<>()\n]+", token):
            words.append(token)
            continue
        found += _ours(words)
        words = []
    return found


def _ours(words: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    if words[:1] == ["docker"] and "run" not in words:
        return []
    for i, word in enumerate(words):
        if " " in word and "retinaface-tf " in word:  # a command for another program to run
            return _commands(word)
        if word.partition(":")[0] == "retinaface-tf":  # or an image of it
            return [("retinaface-tf", tuple(words[i + 1 :]))]
        if word == "python" and words[i + 1 : i + 2] and words[i + 1].endswith(".py"):
            return [(words[i + 1], tuple(words[i + 2 :]))]
    return []
