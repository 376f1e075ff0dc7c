"""Our own code in C, compiled when the package is built, or not at all.

Here: finding and loading such a library. Not here: what is in them (`*.c`), what is done where one is missing (the
module beside each), how they are compiled (`scripts/hatch_build.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Types of parameters: a size, the address of an array.
SIZE, ARRAY = ctypes.c_size_t, ctypes.c_void_p


def library(beside: str, name: str, functions: Mapping[str, tuple[Any, ...]]) -> ctypes.CDLL | None:
    """Load a library of ours; Python's lock is not held while one of its functions runs.

    It names the SHA-256 of the source that it was made of: one of another source may compute something else, or take
    other parameters.

    Args:
        beside: the file in whose folder it is.
        name: of its source, without the suffix.
        functions: of each the type of what it returns, then those of its parameters.

    Returns:
        The library; None where it is not there, of another processor, or of another source.
    """
    source = Path(beside).with_name(f"{name}.c")
    try:
        loaded = ctypes.CDLL(str(source.with_name(f"lib{name}.so")))
        wanted = hashlib.sha256(source.read_bytes()).hexdigest().encode()
        if (ctypes.c_char * (len(wanted) + 1)).in_dll(loaded, "built_from").value != wanted:
            return None
        for function, (returned, *parameters) in functions.items():
            getattr(loaded, function).restype = returned
            getattr(loaded, function).argtypes = parameters
    except (OSError, AttributeError, ValueError):  # ValueError: it does not say what it was made of
        return None
    return loaded
