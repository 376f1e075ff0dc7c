"""The ledger is the one place that speaks to schema geo."""

import ast
import re
from pathlib import Path

import geo_assets

PACKAGE = Path(geo_assets.__file__).parent

#: A statement, not a mention: a table after the word that wants one, or a call of a function.
STATEMENT = re.compile(
    r"\b(from|join|into|update|table|copy|call|exists)\s+\(?\s*geo\.[a-z_]+|\bgeo\.[a-z_]+\s*\(", re.IGNORECASE
)


def texts(path: Path):
    """Every string of a module that is not a docstring, with its line."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def statements(folder: Path) -> set[str]:
    return {
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in folder.rglob("*.py")
        for line, text in texts(path)
        if STATEMENT.search(text)
    }


def test_statements_on_schema_geo_stand_in_the_ledger_alone():
    assert len(statements(PACKAGE / "ledger")) > 50  # the pattern finds those that there are
    outside = {where for where in statements(PACKAGE) if not where.startswith("ledger/")}
    assert not outside, f"not in geo_assets/ledger/: {sorted(outside)}"
