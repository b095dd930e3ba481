"""How the web app's dates and times become the site's wall clock, in summer, in winter and on the nights between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from actions_support import action, ask, create, without
from hypothesis import given
from hypothesis import strategies as st

from gateway.actions.door import ActionDoor
from gateway.actions.times import SiteClock
from projections.worklist import WorklistRow

Served = Callable[..., WorklistRow]
ITEM = "parameters.worklist_item"
LONDON = ZoneInfo("Europe/London")


def at(door: ActionDoor, served: Served, **scheduled: Any) -> tuple[str, str]:
    """What modalities are shown for an appointment that says this."""
    message = create()
    message["parameters"]["worklist_item"]["scheduled"] = scheduled
    reply = ask(door, message)
    assert reply["status"] == "created", reply
    row = served()
    return row.scheduled_date, row.scheduled_time


UTC_CASES = {
    "winter": ("20260115", "100000", ("20260115", "100000")),
    "summer": ("20260715", "090000", ("20260715", "100000")),
    "the last evening of winter": ("20260328", "233000", ("20260328", "233000")),
    "the last minute before the clocks go forward": ("20260329", "005959", ("20260329", "005959")),
    "the hour that there is not": ("20260329", "010000", ("20260329", "020000")),
    "summer, so late that it is the next day": ("20260630", "233000", ("20260701", "003000")),
    "the hour that there is twice, first": ("20261025", "003000", ("20261025", "013000")),
    "the hour that there is twice, again": ("20261025", "013000", ("20261025", "013000")),
    "after the clocks went back": ("20261025", "020000", ("20261025", "020000")),
    "new year's eve": ("20261231", "235900", ("20261231", "235900")),
    "hours and minutes only": ("20260715", "0930", ("20260715", "103000")),
}


@pytest.mark.parametrize(("date", "time", "expected"), UTC_CASES.values(), ids=UTC_CASES.keys())
def test_utc_is_turned_into_the_site_s_wall_clock(
    utc_door: ActionDoor, served: Served, date: str, time: str, expected: tuple[str, str]
) -> None:
    assert at(utc_door, served, date=date, time=time) == expected


@pytest.mark.parametrize(("date", "time"), [(date, time) for date, time, _ in UTC_CASES.values()], ids=UTC_CASES.keys())
def test_local_is_kept_as_it_came(door: ActionDoor, served: Served, date: str, time: str) -> None:
    assert at(door, served, date=date, time=time) == (date, time.ljust(6, "0"))


@pytest.mark.parametrize(
    ("starts_at", "expected"),
    [
        ("2026-04-24T11:00:00+01:00", ("20260424", "110000")),
        ("2026-04-24T10:00:00Z", ("20260424", "110000")),
        ("2026-04-24T10:00Z", ("20260424", "110000")),
        ("2026-01-24T10:00:00+00:00", ("20260124", "100000")),
        ("2026-04-24T00:30:00+05:30", ("20260423", "200000")),
        ("2026-04-24T10:00:00.999+01:00", ("20260424", "100000")),
        ("2026-03-29T01:30:00+00:00", ("20260329", "023000")),
    ],
)
def test_starts_at_is_an_instant_whatever_the_setting(
    door: ActionDoor, utc_door: ActionDoor, served: Served, starts_at: str, expected: tuple[str, str]
) -> None:
    assert at(door, served, starts_at=starts_at) == expected
    assert ask(utc_door, create("again", scheduled={"starts_at": starts_at}))["status"] == "exists"


def test_starts_at_wins_over_date_and_time(door: ActionDoor, served: Served) -> None:
    shown = at(door, served, date="20260101", time="080000", starts_at="2026-04-24T11:00:00+01:00")
    assert shown == ("20260424", "110000")


def test_starts_at_of_null_leaves_date_and_time(door: ActionDoor, served: Served) -> None:
    assert at(door, served, date="20260101", time="0800", starts_at=None) == ("20260101", "080000")


@pytest.mark.parametrize("missing", ["date", "time"])
def test_without_starts_at_both_date_and_time_are_needed(door: ActionDoor, missing: str) -> None:
    reply = ask(door, without(create(), f"{ITEM}.scheduled.{missing}"))
    assert (reply["field"], reply["message"]) == (
        f"{ITEM}.scheduled.{missing}",
        f"scheduled_{missing}: give date and time, or starts_at",
    )


@pytest.mark.parametrize(
    ("starts_at", "shown"),
    [("0500-01-01T12:00:00+00:00", "0500"), ("0999-12-31T12:00:00+00:00", "0999")],
)
def test_a_year_has_four_digits(door: ActionDoor, served: Served, starts_at: str, shown: str) -> None:
    date, time = at(door, served, starts_at=starts_at)
    assert (date[:4], len(date), len(time)) == (shown, 8, 6)


@pytest.mark.parametrize("starts_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_instant_that_no_calendar_shows_at_the_site_is_refused_for_good(door: ActionDoor, starts_at: str) -> None:
    reply = ask(door, create(scheduled={"starts_at": starts_at}))
    assert (reply["code"], reply["retryable"], reply["field"]) == ("validation", False, f"{ITEM}.scheduled.date")


def test_so_is_such_a_date_that_is_read_as_utc(utc_door: ActionDoor) -> None:
    reply = ask(utc_door, create(scheduled={"date": "00010101", "time": "0000"}))
    assert (reply["code"], reply["retryable"]) == ("validation", False)


# --- moving an appointment


def moved(door: ActionDoor, served: Served, **scheduled: Any) -> tuple[str, str]:
    reply = ask(door, action("move", "update_item", scheduled=scheduled))
    assert reply["status"] == "updated", reply
    row = served()
    return row.scheduled_date, row.scheduled_time


def test_a_time_alone_moves_the_appointment_on_its_day(door: ActionDoor, served: Served) -> None:
    at(door, served, date="20260715", time="1000")
    assert moved(door, served, time="1430") == ("20260715", "143000")


def test_a_date_alone_moves_it_to_another_day(door: ActionDoor, served: Served) -> None:
    at(door, served, date="20260715", time="1000")
    assert moved(door, served, date="20260716") == ("20260716", "100000")


def test_a_time_alone_in_utc_is_of_the_day_that_the_web_app_had_said(utc_door: ActionDoor, served: Served) -> None:
    at(utc_door, served, date="20260630", time="2330")
    assert moved(utc_door, served, time="2200") == ("20260630", "230000")


def test_a_date_alone_in_utc_keeps_the_utc_time_into_winter(utc_door: ActionDoor, served: Served) -> None:
    at(utc_door, served, date="20261020", time="0900")
    assert moved(utc_door, served, date="20261103") == ("20261103", "090000")


def test_starts_at_wins_in_an_update_too(door: ActionDoor, served: Served) -> None:
    at(door, served, date="20260715", time="1000")
    assert moved(door, served, time="1430", starts_at="2026-07-16T09:00:00Z") == ("20260716", "100000")


@given(second=st.integers(315_532_800, 7_258_118_400))
def test_reading_and_saying_a_time_are_each_other_s_inverse_but_in_the_hour_that_there_is_twice(second: int) -> None:
    moment = datetime.fromtimestamp(second, UTC)
    clock = SiteClock(LONDON, scheduled_times_are_utc=True)
    sent = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    local = moment.astimezone(LONDON)
    if local.fold == 0:
        assert clock.as_sent(*clock.wall_clock(*sent)) == sent
