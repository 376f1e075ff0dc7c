"""Hints that can be run as they are printed: our commands, and pages of the documentation, in messages to people.

Here: how a shell finds this program from any directory. Not here: the sentences (`errors.py`, and wherever a fault is
found), which name a command as `geo-assets …`; code that shows one to a user of this machine makes it runnable.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from geo_assets.home import checkout_home, default_home, project_file

#: `geo-assets` with a command behind it, and pages of the documentation, as hints name them.
_COMMAND = re.compile(r"(?<![\w./-])geo-assets(?= [a-z-])")
_PAGE = re.compile(r"(?<![\w./-])docs/[\w-]+\.md")


def program(home: Path | None = None) -> str:
    """The command line of this program from any directory, for the stack of `home`, or of this process."""
    home = home or default_home()
    return program_alone() if home == checkout_home() else f"GEO_ASSETS_HOME={shlex.quote(str(home))} {program_alone()}"


def program_alone() -> str:
    """The same, for whichever stack is named before it."""
    beside = Path(sys.executable).with_name("geo-assets")
    return shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m geo_assets"


def runnable(hint: str, home: Path | None = None) -> str:
    """Make the commands of a hint run as they are printed, and its pages open, from any directory.

    Args:
        hint: as it is written.
        home: of the stack that its commands use; None: of this process.
    """

    def page(found: re.Match[str]) -> str:
        path = project_file(found[0])
        return str(path) if path.exists() else found[0]

    return _PAGE.sub(page, _COMMAND.sub(lambda _: program(home), hint))
