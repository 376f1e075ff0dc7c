"""Our own code in C, compiled when the package is built, or not at all.

Here: finding and loading such a library. Not here: what is in them (`*.c`), what is done where one is missing (the
module beside each), how they are compiled (`scripts/hatch_build.py`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Types of parameters: a size, the address of an array.
SIZE, ARRAY = ctypes.c_size_t, ctypes.c_void_p


def library(beside: str, name: str, functions: Mapping[str, tuple[Any, ...]]) -> ctypes.CDLL | None:
    """Load a library of ours; Python's lock is not held while one of its functions runs.

    Args:
        beside: the file in whose folder it is.
        name: of its source, without the suffix.
        functions: of each the type of what it returns, then those of its parameters.

    Returns:
        The library; None where it is not there, of another processor, or of another release.
    """
    try:
        loaded = ctypes.CDLL(str(Path(beside).with_name(f"lib{name}.so")))
        for function, (returned, *parameters) in functions.items():
            getattr(loaded, function).restype = returned
            getattr(loaded, function).argtypes = parameters
    except (OSError, AttributeError):
        return None
    return loaded
