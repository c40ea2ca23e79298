"""What `--help` of each command shows at 80 columns."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from retinaface_tf.cli import with_commands

RUNNER = CliRunner()
ROOT = typer.main.get_command(with_commands())


def commands(group=ROOT, path=()):
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_option_in_a_group_and_examples_that_parse(path):
    command = COMMANDS[path]
    said = RUNNER.invoke(with_commands(), [*path, "--help"], env={"COLUMNS": "80"}).output
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    panels = re.split(r"^╭─ (.*?) ─*╮$", said, flags=re.MULTILINE)
    shown = dict(zip(panels[1::2], panels[2::2]))
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    for option in options:
        assert sum(f" {option.opts[0]}" in text for text in shown.values()) >= 1, option.opts
    if len(options) > 6:
        ungrouped = re.findall(r" (--[\w-]+)", shown["Options"])
        assert ungrouped == ["--help"], "give these a panel in retinaface_tf/cli/help.py"
    title, *examples = command.epilog.replace("\\\n", "").splitlines()
    assert title == "Examples:" and examples
    shown_end = [line.strip() for line in lines if line.strip()]
    written = [line.strip() for line in command.epilog.splitlines()]
    assert shown_end[-len(written) :] == written  # none is broken over two lines
    for example in examples:
        name, *words = shlex.split(example)
        assert name == "retinaface-tf" and tuple(words[: len(path)]) == path
        # Unknown options and missing arguments raise.
        command.make_context(example, words[len(path) :])
