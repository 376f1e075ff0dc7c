"""Texts in the repository that tests compare whole. `make renew` writes them again; the difference is then read in Git.

Here: comparing and writing. Not here: what is in them (the test that owns each).
"""

import os
from pathlib import Path

RENEW = "GEO_ASSETS_RENEW"


def assert_golden(file: Path, text: str) -> None:
    """The file says this, to the byte."""
    if os.environ.get(RENEW):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.exists(), f"{file} is not there; write it with: make renew"
    assert file.read_text(encoding="utf-8") == text, "if that is as it should be: make renew"
