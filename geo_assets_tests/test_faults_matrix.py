"""The matrix of faults is whole: each row once, and each test that it names exists."""

import ast
from pathlib import Path

from geo_assets_tests.faults.matrix import ROWS

_TESTS = Path(__file__).parent


def test_every_fault_has_one_row_and_tests_or_a_reason():
    assert [row.number for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert [row.number for row in ROWS if bool(row.tests) == bool(row.why_not)] == []


def test_every_test_that_a_row_names_exists():
    missing = []
    for test in {test for row in ROWS for test in row.tests}:
        file, _, name = test.partition("::")
        known = {
            node.name for node in ast.walk(ast.parse((_TESTS / file).read_text())) if isinstance(node, ast.FunctionDef)
        }
        if name and name not in known:
            missing.append(test)
    assert missing == []
