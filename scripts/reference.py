"""Write docs/reference/: every setting, parameter and error code of the project itself. `make renew` runs it.

Here: where the pages are. Not here: what is in them (`geo_assets/commands/reference_pages.py`).
"""

from pathlib import Path

from geo_assets.commands.reference_pages import pages

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"

if __name__ == "__main__":
    for name, text in pages(added=False).items():
        (FOLDER / name).write_text(text, encoding="utf-8")
