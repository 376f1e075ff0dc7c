"""JSON text, read piece by piece while it is parsed.

Here: a window over a text of any length, which holds no more than the current value; a feature of GeoJSON without its
geometry, which is text. Not here: what the values mean (`geojson_text.py`, `esri_json.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO

from geo_assets.errors import GeoAssetsError

#: Characters read at a time, and the most that one feature may have.
_WINDOW, _LARGEST_FEATURE = 1 << 20, 200 * 1024**2

#: A geometry that contains no object, in the place of a feature's.
_GEOMETRY = re.compile(r'"geometry"\s*:\s*(\{[^{}]*\})')

#: Characters behind a geometry in which its feature should end; features in a row that are not as most are, after which
#: no other is looked at for that.
_REST, _MOST_MISSES = 4096, 100


class Element(NamedTuple):
    """What is in the place of a feature of GeoJSON."""

    value: Any  # null in the place of its geometry, where that is text
    length: int  # in characters
    geometry: str | None = None
    place: int = 0  # of the geometry in the text, in characters


class Window:
    """A text that is read while it is parsed; no more of it is held than the current value."""

    def __init__(
        self, file: TextIO, name: str, kind: str = "GeoJSON", number: Callable[[str], Any] | None = None
    ) -> None:
        """`number`: what is made of a fraction, in the place of a float."""
        self._file, self._name, self._kind = file, name, kind
        self._text = ""
        self._at = self._before = self._misses = 0
        self._decode = json.JSONDecoder(parse_float=number).raw_decode

    @property
    def place(self) -> int:
        """Where it is in the text, in characters."""
        return self._before + self._at

    def fault(self, what: str) -> GeoAssetsError:
        """Return the error for this place in the text."""
        return GeoAssetsError(
            "UNREADABLE", f"{self._name} is not readable as {self._kind}: {what} at character {self.place:,}"
        )

    def _more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > _LARGEST_FEATURE:
            raise GeoAssetsError(
                "TOO_LARGE", f"{self._name} has a feature of more than {_LARGEST_FEATURE // 1024**2} MiB"
            )
        part = self._file.read(max(_WINDOW, len(rest)))
        self._before += self._at
        self._text, self._at = rest + part, 0
        return bool(part)

    def next_character(self, skip: str = "") -> str:
        """Return the next character after white space, without consuming it; empty at the end."""
        blank = " \t\r\n" + skip
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in blank:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def keys(self) -> Iterator[str]:
        """Yield the keys of the object that begins here; the value of each must be read before the next."""
        for _ in self._items("}"):
            if self.next_character() != '"':
                raise self.fault("a name in quotes is expected")
            key = self.value()
            self._pass(":")
            yield key

    def elements(self) -> Iterator[Any]:
        """Yield the elements of the array that begins here."""
        for _ in self._items("]"):
            yield self.value()

    def features(self) -> Iterator[Element]:
        """Yield the elements of the array that begins here, each as `feature` does, or whole."""
        for _ in self._items("]"):
            yield self.feature() or self._whole()

    def _whole(self) -> Element:
        begin = self.place
        value = self.value()
        return Element(value, self.place - begin)

    def feature(self) -> Element | None:
        """Return the feature that begins here, with its geometry as text; None, and nothing is read, where it is not as
        most are. Python would make a list of each position.
        """
        if self._misses >= _MOST_MISSES:
            return None
        self.next_character()
        found = self._feature()
        self._misses = self._misses + 1 if found is None else 0
        return found

    def _feature(self) -> Element | None:
        match = _GEOMETRY.match(self._text, max(self._at, self._text.find('"geometry"', self._at)))
        if match is None:
            return None
        begin, end = match.span(1)
        try:
            value, length = self._decode(f"{self._text[self._at : begin]}null{self._text[end : end + _REST]}", 0)
        except (ValueError, RecursionError):
            return None
        after = self._at + length + (end - begin) - len("null")
        if (
            after <= end  # another one's
            or not isinstance(value, dict)
            or value.get("type") != "Feature"
            or value.get("geometry", 0) is not None
            or self._text.count('"geometry"', self._at, after) > 1
            or self._text.find('"crs"', self._at, after) >= 0
        ):
            return None
        found = Element(value, after - self._at, match[1], self._before + begin)
        self._at = after
        return found

    def _items(self, end: str) -> Iterator[None]:
        self._at += 1
        while (character := self.next_character()) != end:
            if not character:
                raise self.fault("it is cut off: the text ends")
            yield
            if self.next_character() != end:
                self._pass(",")
        self._at += 1

    def _pass(self, character: str) -> None:
        found = self.next_character()
        if found != character:
            raise self.fault(f"{character!r} is expected" if found else "it is cut off: the text ends")
        self._at += 1

    def value(self) -> Any:
        """Return the JSON value that begins here."""
        self.next_character()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._more():
                    continue
                self._at = error.pos
                cut = "it is cut off: " if error.pos >= len(self._text.rstrip()) else ""
                raise self.fault(f"{cut}{error.msg[:80]}") from None
            except (RecursionError, ValueError) as error:  # thousands of digits
                raise self.fault(f"it is nested too deeply ({type(error).__name__})") from None
            if end == len(self._text) and self._more():  # a number may continue
                continue
            self._at = end
            return value
