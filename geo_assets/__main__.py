"""The command `geo-assets`, also as `python -m geo_assets`.

Here: what makes a command start and end sooner. Not here: commands, errors (`cli.py`).
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

from geo_assets.sandbox import start

#: Commands that have a file read by a sandboxed child, and what it needs. Not pyarrow, which starts a thread.
WITH_A_CHILD = {"cog": ("geo_assets.raster.cog",), "load": ("shapely", "pyproj", "geo_assets.vector.reader.stream")}

_HELP = frozenset({"-h", "--help"})


def main() -> None:
    """Run the command of the command line."""
    gc.disable()  # what is imported stays
    _open_standard_streams()
    try:
        if len(sys.argv) > 2 and sys.argv[1] in WITH_A_CHILD and _HELP.isdisjoint(sys.argv):
            os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # it would look for them in every distribution
            with suppress(OSError):  # the command says what there is too little of when it needs one
                start.ahead(*WITH_A_CHILD[sys.argv[1]])
        from geo_assets import cli

        gc.freeze()
        gc.enable()
        cli.main()
    finally:
        start.drop()
        gc.freeze()  # Python would look through everything once more before it ends


def _open_standard_streams() -> None:
    """Where the caller closed one, a socket would take its number, a child writes into it, and Python has None."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


if __name__ == "__main__":
    main()
