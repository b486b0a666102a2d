from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from client.opening_hours import DAYS, OpeningHours, is_open

MONDAY = datetime(2027, 3, 1, tzinfo=UTC)  # the first of March 2027 is a Monday


def open_minutes(text: str) -> int:
    return sum(is_open([text], MONDAY + timedelta(minutes=i)) for i in range(7 * 24 * 60))


@pytest.mark.parametrize(
    ("text", "hours"),
    [("mon-fri 08:00-16:30", 5 * 8.5), ("sat,sun 00:00-24:00", 48), ("daily 22:00-05:30", 7 * 7.5),
     ("fri-mon 20:00-06:00", 4 * 10), ("wed 00:00-00:01", 1 / 60), ("sun 23:59-00:01", 2 / 60)],
)  # fmt: skip
def test_every_minute_of_a_week_is_counted(text: str, hours: float) -> None:
    assert MONDAY.weekday() == 0
    assert open_minutes(text) == round(hours * 60)


def test_hours_that_pass_midnight_belong_to_the_day_on_which_they_start() -> None:
    assert is_open(["fri 20:00-06:00"], MONDAY + timedelta(days=5, hours=5, minutes=59))  # Saturday morning
    assert not is_open(["fri 20:00-06:00"], MONDAY + timedelta(days=5, hours=6))
    assert not is_open(["fri 20:00-06:00"], MONDAY + timedelta(days=4, hours=5))  # Friday morning
    assert is_open(["sun 20:00-06:00"], MONDAY + timedelta(hours=3))  # Monday morning, from the week before


def test_without_hours_every_time_is_open() -> None:
    assert is_open([], MONDAY)
    assert is_open(["mon 01:00-02:00", "mon 03:00-04:00"], MONDAY + timedelta(hours=3.5))
    assert not is_open(["mon 01:00-02:00", "mon 03:00-04:00"], MONDAY + timedelta(hours=2.5))


def test_a_time_is_that_of_the_clock_on_the_wall() -> None:
    """20:30 in Vienna is 19:30 UTC in winter and 18:30 in summer."""
    vienna = ZoneInfo("Europe/Vienna")
    for utc in (datetime(2027, 1, 4, 19, 30, tzinfo=UTC), datetime(2027, 7, 5, 18, 30, tzinfo=UTC)):
        assert is_open(["mon 20:30-20:31"], utc.astimezone(vienna))
        assert not is_open(["mon 20:31-20:32"], utc.astimezone(vienna))


@pytest.mark.parametrize(
    "text",
    ["", "mon", "mon 8-16", "mon 08:00-08:00", "mon 24:00-01:00", "mon 08:60-09:00", "mon 25:00-26:00",
     "monday 08:00-09:00", "mon- 08:00-09:00", "mon-fry 08:00-09:00", "mon,, 08:00-09:00", "mon 08:00 - 09:00"],
)  # fmt: skip
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no hours|no time of a day|no day"):
        OpeningHours.from_text(text)
    assert len(DAYS) == 7
