"""Named crash points: where the tests kill the process, to prove that nothing is lost.

`GEO_ASSETS_CRASH=boundary.recorded` ends the process at that point by SIGKILL; unset, a crash point is one dictionary
look-up.
"""

from __future__ import annotations

import os
import signal


def crash_point(name: str) -> None:
    """Die here if the tests said so."""
    if os.environ.get("GEO_ASSETS_CRASH") == name:
        os.kill(os.getpid(), signal.SIGKILL)
