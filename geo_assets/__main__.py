"""The command `geo-assets`, also as `python -m geo_assets`.

Here: what makes a command start and end sooner. Not here: commands, errors (`cli.py`).
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

#: Commands that have a file read by a sandboxed child, and what it needs. Not pyarrow, which starts a thread.
_WITH_A_CHILD = {"cog": ("geo_assets.raster.cog",), "load": ("shapely", "pyproj", "geo_assets.vector.reader.stream")}

_HELP = frozenset({"-h", "--help"})


def main() -> None:
    """Run the command of the command line."""
    gc.disable()  # what is imported stays
    if len(sys.argv) > 2 and sys.argv[1] in _WITH_A_CHILD and _HELP.isdisjoint(sys.argv):
        from geo_assets.sandbox import start

        with suppress(OSError):  # the command says what there is too little of when it needs one
            start.ahead(*_WITH_A_CHILD[sys.argv[1]])
    from geo_assets import cli

    gc.freeze()
    gc.enable()
    try:
        cli.main()
    finally:
        gc.freeze()  # Python would look through everything once more before it ends


if __name__ == "__main__":
    main()
