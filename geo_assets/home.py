"""Where the project's own files and the directory of its local stack are.

Here: paths, found without any library, so that a command that needs no settings does not load what reads them.
Not here: settings (`settings.py`).
"""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parent

#: The part of the project's top level in an installed package (see pyproject.toml, force-include).
_BUNDLED = PACKAGE_ROOT / "_project"


def project_file(name: str) -> Path:
    """A file or folder of the project's top level (`sql`, `dagster.yaml`, …), from a checkout or an installed
    package.
    """
    checkout = PACKAGE_ROOT.parent / name
    return checkout if (PACKAGE_ROOT.parent / "pyproject.toml").exists() else _BUNDLED / name


def default_home() -> Path:
    """The directory of the local stack: `GEO_ASSETS_HOME`, else `.geo` of the checkout, else `.geo` of the working
    directory.
    """
    named = os.environ.get("GEO_ASSETS_HOME")
    if named:
        return Path(named).expanduser().resolve()
    return checkout_home() or Path.cwd() / ".geo"


def checkout_home() -> Path | None:
    """The home of a checkout, which is found from any directory; None for an installed package."""
    return PACKAGE_ROOT.parent / ".geo" if (PACKAGE_ROOT.parent / "pyproject.toml").exists() else None
