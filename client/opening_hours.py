"""The hours of a week in which a hospital answers, as its policy writes them: `mon-fri 20:00-06:00`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
EXAMPLE = "'mon-fri 20:00-06:00', 'sat,sun 00:00-24:00' or 'daily 22:00-05:30'"
_FORM = re.compile(r"(?P<days>[a-z,-]+) +(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)")


@dataclass(frozen=True)
class OpeningHours:
    """Some hours on some days of the week.

    Attributes:
        days: days on which they start, from 0 for Monday.
        start: minute of the day at which they start.
        minutes: how long they last; hours that pass midnight belong to the day on which they started.
    """

    days: frozenset[int]
    start: int
    minutes: int

    @classmethod
    def from_text(cls, text: str) -> OpeningHours:
        """Read `DAYS HH:MM-HH:MM`.

        >>> OpeningHours.from_text("sat,sun 22:00-06:00")
        OpeningHours(days=frozenset({5, 6}), start=1320, minutes=480)

        Raises:
            ValueError: the text has another form.
        """
        match = _FORM.fullmatch(text.strip().lower())
        if match is None:
            raise ValueError(f"{text!r} are no hours: write them as {EXAMPLE}")
        start, end = _read_minute(match["start"], text), _read_minute(match["end"], text)
        if start in (DAY_MINUTES, end):
            raise ValueError(f"{text!r} are no hours: they start and end at different times of a day")
        return cls(frozenset(_read_days(match["days"], text)), start, (end - start) % DAY_MINUTES or DAY_MINUTES)

    def covers(self, local: datetime) -> bool:
        """Return whether a local time is within these hours."""
        minute = local.hour * 60 + local.minute
        today, yesterday = local.weekday(), (local.weekday() - 1) % 7
        return (today in self.days and self.start <= minute < self.start + self.minutes) or (
            yesterday in self.days and minute + DAY_MINUTES < self.start + self.minutes
        )


def is_open(hours: Sequence[str], local: datetime) -> bool:
    """Return whether a local time is within one of some hours; without any, every time is."""
    return not hours or any(OpeningHours.from_text(text).covers(local) for text in hours)


def _read_minute(text: str, whole: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > DAY_MINUTES:
        raise ValueError(f"{whole!r}: {text} is no time of a day")
    return hour * 60 + minute


def _read_days(text: str, whole: str) -> set[int]:
    if text == "daily":
        return set(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{whole!r}: {part} is no day: use {', '.join(DAYS)} or daily")
        length = (DAYS.index(last or first) - DAYS.index(first)) % 7
        days |= {(DAYS.index(first) + i) % 7 for i in range(length + 1)}
    return days
