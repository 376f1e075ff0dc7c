"""Skipping optional imports of libraries.

Here: one function, for processes of our own that start, do one thing and end (a sandboxed child, a command). pyogrio
imports geopandas and pyarrow pandas where they are installed, a third of a second each time, and rasterio boto3, a
quarter, for what such a process never uses.
Not here: a decision which process that is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

#: What a child that converts files never uses, and libraries import where it is installed.
NOT_OF_A_CHILD = ("geopandas", "pandas", "boto3")


class _Absent:
    """A finder that reports some packages as not installed; every library that can do without them then does."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: object = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Refuse a name, or leave it to the other finders."""
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is left out of this process", name=name)
        return None


def leave_out(*names: str) -> None:
    """Make packages absent from this process from now on; those that are imported already stay."""
    sys.meta_path.insert(0, _Absent(frozenset(names)))
