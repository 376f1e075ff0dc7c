"""Moments in time as climate and forecast files write them: a number, `units since` a date, in a calendar.

Here: from the number to ISO 8601 UTC. Not here: reading files.
Source: CF Conventions 1.11, §4.4, https://cfconventions.org/cf-conventions/cf-conventions.html#time-coordinate

Days of the mixed calendar (`standard`) before 15 October 1582 are Julian, which is how "days since 0001-01-01" comes
two days apart from what Python's dates would make of it. A calendar with days that do not exist (360 days a year)
cannot be converted to UTC.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_SECONDS = {
    **dict.fromkeys(("microsecond", "microseconds", "microsec", "microsecs"), 1e-6),
    **dict.fromkeys(("millisecond", "milliseconds", "millisec", "millisecs", "msec", "msecs", "ms"), 1e-3),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "s"), 1.0),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), 60.0),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), 3600.0),
    **dict.fromkeys(("day", "days", "d"), 86400.0),
    **dict.fromkeys(("week", "weeks"), 604800.0),
}

_SINCE = re.compile(
    r"^\s*(\w+)\s+since\s+(\d{1,4})-(\d{1,2})-(\d{1,2})"
    r"(?:[T ]+(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}(?:\.\d*)?))?)?)?"
    r"\s*(Z|UTC|GMT|[+-]?\d{1,2}(?::?\d{2})?)?\s*$",
    re.IGNORECASE,
)

_MIXED = frozenset({"", "standard", "gregorian"})
_GREGORIAN = frozenset({"proleptic_gregorian"})
_JULIAN = frozenset({"julian"})
_NO_LEAP = frozenset({"noleap", "365_day"})

#: Julian day numbers: of the first Gregorian day, and of the day before 0001-01-01 in Python's calendar.
_FIRST_GREGORIAN, _BEFORE_ORDINALS = 2_299_161, 1_721_425

_MONTHS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365)

_MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """How to read the numbers of a time coordinate."""

    seconds: float  # of one unit
    year: int
    month: int
    day: int
    microsecond: int  # of the day of the epoch, in UTC; may lie beyond either end of it
    calendar: str

    def moment(self, value: float) -> str | None:
        """Return ISO 8601 UTC, to the microsecond at most; None where the calendar has no such moment."""
        if not math.isfinite(value):
            return None
        microseconds = self.microsecond + round(value * self.seconds * 1e6)
        days, rest = divmod(microseconds, _MICROSECONDS_PER_DAY)
        try:
            date = self._date(days)
        except (OverflowError, ValueError):
            return None
        return (date + timedelta(microseconds=rest)).isoformat().replace("+00:00", "Z")

    def _date(self, days: int) -> datetime:
        if self.calendar in _NO_LEAP:
            return _no_leap(self.year, self.month, self.day, days)
        julian = self.calendar in _JULIAN or (
            self.calendar in _MIXED and (self.year, self.month, self.day) < (1582, 10, 15)
        )
        number = (
            _julian_day(self.year, self.month, self.day)
            if julian
            else _BEFORE_ORDINALS + _ordinal(self.year, self.month, self.day)
        )
        return datetime.fromordinal(number + days - _BEFORE_ORDINALS).replace(tzinfo=UTC)


def time_axis(units: str, calendar: str) -> TimeAxis | None:
    """Return the axis that `units` and `calendar` describe; None where it cannot be converted to UTC or is not
    understood.
    """
    match = _SINCE.match(units)
    calendar = calendar.strip().lower()
    if match is None or match[1].lower() not in _SECONDS or calendar not in _MIXED | _GREGORIAN | _JULIAN | _NO_LEAP:
        return None
    year, month, day = int(match[2]), int(match[3]), int(match[4])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    seconds = int(match[5] or 0) * 3600 + int(match[6] or 0) * 60 + float(match[7] or 0) - _zone(match[8])
    return TimeAxis(_SECONDS[match[1].lower()], year, month, day, round(seconds * 1e6), calendar)


def _zone(text: str | None) -> int:
    """Seconds east of Greenwich."""
    if not text or text.upper() in {"Z", "UTC", "GMT"}:
        return 0
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-").replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
    return sign * (int(hours) * 3600 + int(minutes) * 60)


def _ordinal(year: int, month: int, day: int) -> int:
    return datetime(year, month, day, tzinfo=UTC).toordinal()


def _julian_day(year: int, month: int, day: int) -> int:
    """The Julian day number of a date of the Julian calendar (Meeus, Astronomical Algorithms, chapter 7)."""
    if month <= 2:
        year, month = year - 1, month + 12
    return int(365.25 * (year + 4716)) + int(30.6001 * (month + 1)) + day - 1524


def _no_leap(year: int, month: int, day: int, days: int) -> datetime:
    years, day_of_year = divmod(_MONTHS[month - 1] + day - 1 + days, 365)
    month = next(m for m in range(1, 13) if day_of_year < _MONTHS[m])
    return datetime(year + years, month, day_of_year - _MONTHS[month - 1] + 1, tzinfo=UTC)
