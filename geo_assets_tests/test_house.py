"""Sizes that a reader can take in: of files, functions and lines."""

import ast
from pathlib import Path

import pytest

import geo_assets

PACKAGE = Path(geo_assets.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

#: Lines of a file, lines of a function with its docstring, characters of a line.
MOST_LINES, MOST_LINES_OF_A_FUNCTION, WIDEST = 520, 60, 120


def faults(module: str) -> list[str]:
    text = (PACKAGE / module).read_text()
    lines = text.splitlines()
    found = [f"{module}: {len(lines)} lines"] if len(lines) > MOST_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MOST_LINES_OF_A_FUNCTION:
                found.append(f"{module}:{node.lineno}: {node.name} has {size} lines")
    return found + [
        f"{module}:{number}: {len(line)} characters" for number, line in enumerate(lines, 1) if len(line) > WIDEST
    ]


@pytest.mark.parametrize("module", MODULES)
def test_a_file_its_functions_and_its_lines_are_of_a_size_to_be_read(module):
    assert faults(module) == []
