"""Pictures as SVG that any browser shows: some curves, both axes logarithmic; bars.

Here: drawing. Not here: what is drawn (`pages.py`, `scale.py`). A library for plots would be a dependency for two kinds
of picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 460, 70, 50, 330, 60
_COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8a5fbf", "#777777")

#: Of bars: pixels for names, for figures behind the bars, and of a bar's height with the gap below it.
_NAMES, _FIGURES, _BAR = 390, 130, 20
_LONGEST_NAME = 62
_OURS_BEGIN = ("ours", "our ", "geo-assets", "`geo-assets", "convert (", "register")


@dataclass(frozen=True, slots=True)
class Series:
    """A curve: its name, and its points in their order."""

    name: str
    points: Sequence[tuple[float, float]]


def write_curve(place: Path, title: str, across: str, up: str, series: Sequence[Series]) -> None:
    """Draw curves into a file.

    Args:
        place: of the picture.
        title: above it.
        across: what the first number of a point is.
        up: what the second one is.
        series: with positive numbers.
    """
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys)))

    def at(x: float, y: float) -> tuple[float, float]:
        along = math.log(x / min(xs)) / math.log(max(xs) / min(xs))
        height = math.log(y / low) / math.log(high / low)
        return _LEFT + along * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - height * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_text(_LEFT, _TOP - 22, title, size=16)]
    for x in sorted(set(xs)):
        place_x, _ = at(x, low)
        parts.append(_line(place_x, _HEIGHT - _BOTTOM, place_x, _TOP))
        parts.append(_text(place_x, _HEIGHT - _BOTTOM + 18, f"{x:g}", anchor="middle"))
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        _, place_y = at(min(xs), 10.0**power)
        parts.append(_line(_LEFT, place_y, _WIDTH - _RIGHT, place_y))
        parts.append(_text(_LEFT - 8, place_y + 4, f"{10.0**power:g}", anchor="end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 16, across, anchor="middle"))
    parts.append(_text(14, _TOP - 12, up))
    for number, each in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in each.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        legend = _TOP + 20 + 24 * number
        parts.append(_line(_WIDTH - _RIGHT + 16, legend - 4, _WIDTH - _RIGHT + 40, legend - 4, colour, 2.5))
        parts.append(_text(_WIDTH - _RIGHT + 46, legend, each.name))
    _write(place, _HEIGHT, parts)


def write_bars(
    place: Path, title: str, names: Sequence[str], kinds: Sequence[str], values: Sequence[Sequence[float]]
) -> None:
    """Draw horizontal bars into a file, a group of them for each name. What is ours is drawn in another colour.

    Args:
        place: of the picture.
        title: above it.
        names: of the groups.
        kinds: what the bars of a group are.
        values: a bar's length, at 0 or above, for each kind of each group.
    """
    longest = max(value for group in values for value in group) or 1
    compares = any(map(_is_ours, (*names, *kinds)))
    parts, y = [_text(12, 24, title, size=14)], 40
    for name, group in zip(names, values, strict=True):
        parts.append(_text(_NAMES - 8, y + 2 + _BAR * len(group) / 2, _short(name), anchor="end"))
        for kind, value in zip(kinds, group, strict=True):
            colour = _COLOURS[-1] if compares and not (_is_ours(name) or _is_ours(kind)) else _COLOURS[0]
            length = max((_WIDTH - _NAMES - _FIGURES) * value / longest, 1)
            parts.append(f'<rect x="{_NAMES}" y="{y}" width="{length:.1f}" height="{_BAR - 4}" fill="{colour}"/>')
            what = f"{value:,g}" if len(kinds) == 1 else f"{value:,g} {kind}"
            parts.append(_text(_NAMES + length + 6, y + _BAR - 8, what))
            y += _BAR
        y += 6
    _write(place, y + 6, parts)


def _short(name: str) -> str:
    """A name as plain text, cut where there is no room for it."""
    plain = name.replace("`", "")
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 1].rstrip()}…"


def _is_ours(name: str) -> bool:
    return name.startswith(_OURS_BEGIN)


def _write(place: Path, height: float, parts: Sequence[str]) -> None:
    place.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str = "#dddddd", width: float = 1) -> str:
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'
