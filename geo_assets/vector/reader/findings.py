"""Findings about a layer's values: how many could not be used as they are written, and examples.

Here: the count, by column and fault. Not here: finding them (the readers), what cannot be loaded at all (`geometry.py`,
`conversion.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from geo_assets.text import how_many

#: Originals that are shown of each fault, and characters of each; of what is said of a whole layer.
_SHOWN, _CHARACTERS, _OF_A_SENTENCE = 5, 40, 200

#: A fault of text in whichever format.
FAULTY = "text that is not in its encoding, whose faulty bytes were replaced"


class Findings:
    """Faulty values by column and fault. A value that is counted here is NULL in the table unless its fault says
    otherwise.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str | None, str], int] = {}
        self._originals: dict[tuple[str | None, str], dict[str, None]] = {}

    def add_faulty(self, column: str, originals: Iterable[bytes | None], texts: Iterable[str | None]) -> None:
        """Add those texts of a column whose bytes are not in their encoding; both as long as the column."""
        pairs = zip(originals, texts, strict=True)
        if faulty := [original for original, text in pairs if text and "\ufffd" in text]:
            self.add(column, FAULTY, faulty)

    def add(self, column: str | None, fault: str, originals: Iterable[Any], count: int | None = None) -> None:
        """Add values of a column that have one fault.

        Args:
            column: its name in the source; None: of the whole layer.
            fault: follows the number of values: `not a date, now NULL`.
            originals: the values as they are written in the file.
            count: their number, where not all are given.
        """
        key = (column, fault)
        shown = self._originals.setdefault(key, {})
        number = 0
        for original in originals:
            number += 1
            if len(shown) < _SHOWN:
                shown[_short(original, _CHARACTERS if column is not None else _OF_A_SENTENCE)] = None
        self._counts[key] = self._counts.get(key, 0) + (number if count is None else count)

    def take(self, other: Findings, fault: str) -> None:
        """Add what another has found of one fault."""
        for (column, each), count in other._counts.items():
            if each == fault:
                self.add(column, fault, other._originals[column, each], count)

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each column and fault, in order of first occurrence."""
        return tuple(self._sentence(column, fault) for (column, fault), count in self._counts.items() if count)

    def _sentence(self, column: str | None, fault: str) -> str:
        count, shown = self._counts[column, fault], list(self._originals[column, fault])
        what = f"{column[:63]!r}: {how_many(count, 'value')} {fault}" if column is not None else f"{count:,} {fault}"
        if not shown:
            return what
        return f"{what}: {', '.join(shown)}" + (", …" if len(shown) < count and len(shown) == _SHOWN else "")


def _short(original: Any, most: int) -> str:
    text = original.decode("latin-1") if isinstance(original, bytes) else str(original)
    return repr(text if len(text) <= most else text[:most] + "…")
