"""The time of capture: from the request, from the metadata of the file, or from the name of a known product.

Here: times and spans of time as strings, names of products, patterns for names. Not here: reading a file's metadata
(`raster/inspect.py`).

Nothing is guessed: a time without zone is taken for UTC, a date is the span of its day, and what says nothing remains
unknown. The time at which a file was saved, copied or registered is not the time of capture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: The first photograph.
EARLIEST = 1826

#: Directives of strptime that a pattern may hold, and what they stand for.
_DIRECTIVES = {
    "%Y": r"(?P<year>\d{4})",
    "%y": r"(?P<year>\d{2})",
    "%m": r"(?P<month>\d{2})",
    "%d": r"(?P<day>\d{2})",
    "%j": r"(?P<yearday>\d{3})",
    "%H": r"(?P<hour>\d{2})",
    "%M": r"(?P<minute>\d{2})",
    "%S": r"(?P<second>\d{2})",
    "%%": "%",
}
_GROUPS = frozenset({"year", "month", "day", "yearday", "hour", "minute", "second"})

#: A day without hyphens, as ISO 8601 has it, too.
_COMPACT = re.compile(r"^(\d{4})(\d\d)(\d\d)$")

#: Two digits of a year below this are of this century, as POSIX has it.
_CENTURY = 69

#: Names of products that hold the time of their scene. Landsat collections: the fourth part is the date of acquisition;
#: Sentinel-2: products and the images within them; Sentinel-1: start and stop.
_PRODUCTS = (
    re.compile(
        r"(?<![A-Za-z0-9])L[COTEM]0\d_L\w{3}_\d{6}_(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"
        r"_\d{8}_\d\d_(?:T1|T2|RT)(?![A-Za-z0-9])"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])S2[A-D]_MSIL[12][AC]"
        r"_(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)_N\d{4}_"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])T\d\d[A-Z]{3}"
        r"_(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)"
        r"_(?:B\d[0-9A]|TCI|SCL|AOT|WVP|PVI)"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])S1[A-D]_\w{2}_\w{4}_\w{4}"
        r"_(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)_\d{8}T\d{6}_"
    ),
)  # fmt: skip

#: The end of the name of a Landsat product's metadata, in any case; a regular expression of Python and of PostgreSQL.
LANDSAT_METADATA = r"_mtl\.(?:txt|json|xml)$"

#: Metadata files of products: what their names end in, and where in them the time is. A date alone comes after a date
#: and time.
METADATA_FILES: tuple[tuple[re.Pattern[str], tuple[re.Pattern[str], ...]], ...] = (
    (
        re.compile(LANDSAT_METADATA, re.IGNORECASE),
        (
            re.compile(
                r"DATE_ACQUIRED\W{1,9}(?P<date>\d{4}-\d\d-\d\d)[\s\S]{0,300}?"
                r"SCENE_CENTER_TIME\W{1,9}(?P<time>\d\d:\d\d:\d\d(?:\.\d{1,6})?)"
            ),
            re.compile(r"DATE_ACQUIRED\W{1,9}(?P<date>\d{4}-\d\d-\d\d)"),
        ),
    ),
    (
        re.compile(r"(^|/)MTD_MSIL[12][AC]\.xml$"),
        (
            re.compile(r"<DATATAKE_SENSING_START>(?P<date>\d{4}-\d\d-\d\d)T(?P<time>\d\d:\d\d:\d\d(?:\.\d{1,6})?)"),
            re.compile(r"<PRODUCT_START_TIME>(?P<date>\d{4}-\d\d-\d\d)T(?P<time>\d\d:\d\d:\d\d(?:\.\d{1,6})?)"),
        ),
    ),
)

#: Programs that write the time of saving into a file, not that of capture: editors, and what processes or converts.
_SAVED_BY = re.compile(
    r"photoshop|lightroom|adobe|gimp|imagemagick|graphicsmagick|paint|corel|affinity"
    r"|pixelmator|krita|irfanview|xnview|acdsee|picasa|snagit|inkscape"
    r"|preview|windows photo|capture one|darktable|rawtherapee|vips|pillow|tifffile|matlab|libtiff"
    r"|arcgis|arcmap|esri|erdas|imagine|\benvi\b|\bidl\b|qgis|gdal|grass|global"
    r" mapper|\bfme\b|metashape|photoscan|pix4d|agisoft|opendronemap|snap|orfeo|monteverdi",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A moment, or a span with its end; ISO 8601 UTC. `by` names its source."""

    start: str
    end: str | None
    by: str


def was_saved_by_a_program(software: str) -> bool:
    """Whether a TIFF's Software tag names a program whose DateTime tag is the time of saving."""
    return bool(_SAVED_BY.search(software))


def moment(text: str, *, earliest: int = EARLIEST) -> str | None:
    """Convert the times that cameras and TIFF writers write to ISO 8601 UTC; a time without zone is taken for UTC.

    Args:
        text: the time.
        earliest: None for a year before it.
    """
    text = text.strip()
    try:
        if len(text) >= 10 and text[4] == text[7] == ":":  # TIFF and EXIF: 2020:01:31 23:59:59
            text = text[:10].replace(":", "-") + text[10:]
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return _iso(found) if found.year >= earliest else None


def taken(text: str, by: str) -> Taken | None:
    """Read a moment, a date, a month, a year, or two of them with a slash between; None for any other text."""
    first, _, last = text.strip().partition("/")
    start, end = _span(first), _span(last or first)
    if start is None or end is None or start[0] > end[1]:
        return None
    return Taken(_iso(start[0]), None if start[0] == end[1] else _iso(end[1]), by)


def plain_time(text: str) -> str:
    """What `taken` reads, in one spelling of each: a moment in UTC with a Z, a date with hyphens."""
    ends = [end.strip() for end in text.strip().split("/") if end.strip()]
    return "/".join("-".join(filter(None, day.groups())) if (day := _day(end)) else moment(end) or end for end in ends)


def _day(text: str) -> re.Match[str] | None:
    return re.fullmatch(r"(\d{4})(?:[-:](\d\d)(?:[-:](\d\d))?)?", _COMPACT.sub(r"\1-\2-\3", text.strip()))


def _span(text: str) -> tuple[datetime, datetime] | None:
    """The first and last moment of a time: a year, a month and a day are spans."""
    parts = _day(text)
    if parts is None:
        found = moment(text)
        return (datetime.fromisoformat(found),) * 2 if found else None
    return _of_numbers({k: int(v) for k, v in zip(("year", "month", "day"), parts.groups(), strict=True) if v})


def _of_numbers(numbers: dict[str, int]) -> tuple[datetime, datetime] | None:
    """The span of a year, perhaps a month or a day of the year, a day, an hour, a minute and a second."""
    if "year" not in numbers:
        return None
    if any(numbers.get(unit, 0) >= n for unit, n in (("hour", 24), ("minute", 60), ("second", 60), ("yearday", 367))):
        return None
    try:
        start = datetime(numbers["year"], numbers.get("month", 1), numbers.get("day", 1), tzinfo=UTC)
        start += timedelta(days=numbers.get("yearday", 1) - 1)
        start += timedelta(
            hours=numbers.get("hour", 0), minutes=numbers.get("minute", 0), seconds=numbers.get("second", 0)
        )
        if "second" in numbers or start.year < EARLIEST:
            return (start, start) if start.year >= EARLIEST else None
        if "minute" in numbers:
            after = start + timedelta(minutes=1)
        elif "hour" in numbers:
            after = start + timedelta(hours=1)
        elif "day" in numbers or "yearday" in numbers:
            after = start + timedelta(days=1)
        elif "month" in numbers:
            after = (start + timedelta(days=31)).replace(day=1)
        else:
            after = start.replace(year=start.year + 1)
    except (ValueError, OverflowError):
        return None
    return start, after - timedelta(seconds=1)


def pattern(text: str) -> re.Pattern[str]:
    """A `datetime_regex`: a regular expression with the named groups year, month, day, yearday, hour, minute, second,
    or `%Y%m%d` in their place.

    Raises:
        ValueError: it is no regular expression, has another group, or none for the year.
    """
    for directive, group in _DIRECTIVES.items():
        text = text.replace(directive, group)
    try:
        found = re.compile(text)
    except re.error as error:
        msg = f"is no regular expression: {error}"
        raise ValueError(msg) from None
    if strange := set(found.groupindex) - _GROUPS:
        msg = f"has a group {min(strange)!r}; there are {', '.join(sorted(_GROUPS))}"
        raise ValueError(msg)
    if "year" not in found.groupindex:
        msg = "has no group for the year: (?P<year>…) or %Y"
        raise ValueError(msg)
    return found


def by_pattern(text: str, name: str) -> Taken | None:
    """The time that a `datetime_regex` finds in a name."""
    return _matched(pattern(text).search(name), "datetime_regex")


def of_product(name: str) -> Taken | None:
    """The time of the scene from a product's name; `name` may be a path with the product's name anywhere."""
    return next((found for p in _PRODUCTS if (found := _matched(p.search(name), "the product's name"))), None)


def of_metadata(name: str, text: str) -> Taken | None:
    """The time from a product's metadata file; None if `name` is not the name of one."""
    for ending, patterns in METADATA_FILES:
        if ending.search(name):
            for p in patterns:
                if match := p.search(text):
                    parts = match.groupdict()
                    return taken("T".join(filter(None, (parts["date"], parts.get("time")))), name.rpartition("/")[2])
    return None


def _matched(match: re.Match[str] | None, by: str) -> Taken | None:
    if match is None:
        return None
    numbers = {unit: int(digits) for unit, digits in match.groupdict().items() if digits and digits.isdigit()}
    if numbers.get("year", 100) < 100:
        numbers["year"] += 2000 if numbers["year"] < _CENTURY else 1900
    span = _of_numbers(numbers)
    return Taken(_iso(span[0]), None if span[0] == span[1] else _iso(span[1]), by) if span else None


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
