"""Commands that are named in remedies and hints can be typed: each is a command of ours, with all that it needs."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

from geo_assets.cli import app
from geo_assets.errors import ERRORS
from geo_assets.task_status import BAD_INPUT, LIST_BAD, RETRY_OPTIONS

ROOT = Path(__file__).parents[2]

#: A command, to the end of its sentence: what follows it is another clause, or what a message puts around it. Not one
#: that something was made by.
COMMAND = re.compile(r"(?<![\w./-])(?<!made by )geo-assets (?=[a-z])(?P<words>[^;,`)>&]+)")

COMMANDS = typer.main.get_command(app)

#: What stands for a value that is put in when it is known.
PUT_IN = "x1f2e3d"

#: Options and values that are put in, as the code names them.
KNOWN = {
    "LIST_BAD": LIST_BAD,
    "BAD_INPUT": str(BAD_INPUT),
    "RETRY_OPTIONS[BAD_INPUT]": RETRY_OPTIONS[BAD_INPUT],
}


def texts(path):
    """(line, text) of each string of a module that is not a docstring; of what is put into it, what is known here."""
    tree = ast.parse(path.read_text("utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(put_in, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
            yield node.lineno, node.value


def put_in(part):
    return part.value if isinstance(part, ast.Constant) else KNOWN.get(ast.unparse(part.value), PUT_IN)


def named():
    """(where, words) of every command that a remedy or another text of ours names."""
    said = [(code, kind.remedy) for code, kind in ERRORS.items()]
    for path in sorted((ROOT / "geo_assets").rglob("*.py")):
        if path.name != "errors.py":
            said += [(f"{path.relative_to(ROOT)}:{line}", text) for line, text in texts(path)]
    for where, text in said:
        for found in COMMAND.finditer(text):
            if not found["words"].startswith(("psql", PUT_IN)):  # with SQL; what was typed
                yield where, found["words"].strip()


class CannotBeTypedError(Exception):
    """There is no such command, or something is missing, unknown or left out."""


def typed(words):
    """Parse what somebody types.

    Raises:
        CannotBeTypedError
    """
    if "…" in words:
        raise CannotBeTypedError(words)
    command, rest = COMMANDS, shlex.split(words)
    while commands := getattr(command, "commands", None):
        if rest[:1] and rest[0] in commands:
            command, rest = commands[rest[0]], rest[1:]
        elif "convert" in commands:  # `cog SRC DST` is `cog convert SRC DST`
            command = commands["convert"]
        else:
            raise CannotBeTypedError(words)
    try:
        command.make_context(command.name, [*rest])
    except TyperException as error:
        raise CannotBeTypedError(str(error)) from error
    except typer.Exit as shown:  # its help, which is what `--help` asks for
        if "--help" not in rest:
            raise CannotBeTypedError(words) from shown


def test_every_command_that_a_text_names_can_be_typed_as_it_stands():
    found = list(named())
    assert len(found) > 90
    wrong = {}
    for where, words in found:
        try:
            typed(words)
        except (CannotBeTypedError, ValueError) as error:
            wrong[where, words] = str(error)
    assert wrong == {}


@pytest.mark.parametrize(
    "words",
    ["submit", "submit hello_world … --force", "collection delete", "frobnicate", "retry x --colour", "up again"],
)
def test_a_command_that_cannot_be_typed_is_noticed(words):
    with pytest.raises(CannotBeTypedError):
        typed(words)


@pytest.mark.parametrize("code", ["RASTER_NO_CRS", "VECTOR_NO_CRS"])
def test_the_remedy_for_a_file_without_a_crs_is_a_request_for_that_file_alone(code):
    """With `source_crs` for all files it would be another job, which owns what the good files became."""
    remedy = ERRORS[code].remedy
    assert "--param include=NAME --param source_crs=EPSG:25832" in remedy
    assert "in a job of its own" in remedy
