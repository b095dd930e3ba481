"""How a moment is written, and what it means on days when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.moments import moment_of
from gateway.errors import InvalidValue

LONDON = ZoneInfo("Europe/London")


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-23 10:42", "2026-11-23T10:42:00.000000+00:00"),
        ("2026-07-01 10:42", "2026-07-01T09:42:00.000000+00:00"),
        ("2026-07-01T10:42:05", "2026-07-01T09:42:05.000000+00:00"),
        ("2026-07-01 10:42:05.25", "2026-07-01T09:42:05.250000+00:00"),
        ("2026-07-01 10:42Z", "2026-07-01T10:42:00.000000+00:00"),
        ("2026-07-01 10:42 +02:00", "2026-07-01T08:42:00.000000+00:00"),
        ("2026-07-01T10:42-0500", "2026-07-01T15:42:00.000000+00:00"),
        ("2026-07-01", "2026-06-30T23:00:00.000000+00:00"),
    ],
)
def test_a_moment_is_site_time_unless_it_has_an_offset(written: str, instant: str) -> None:
    moment = moment_of(written, LONDON)
    assert (moment.text, moment.decided) == (instant, "")


def test_an_hour_that_came_twice_is_its_second_run_and_that_is_said() -> None:
    moment = moment_of("2026-10-25 01:30", LONDON)
    assert moment.instant == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert "the second, 2026-10-25 01:30:00+00:00" in moment.decided
    assert "the first is 2026-10-25 01:30:00+01:00" in moment.decided


def test_where_a_span_begins_an_hour_that_came_twice_is_its_first_run_and_that_is_said() -> None:
    moment = moment_of("2026-10-25 01:30", LONDON, first_run=True)
    assert moment.instant == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert "the first, 2026-10-25 01:30:00+01:00; the second is 2026-10-25 01:30:00+00:00" in moment.decided


@pytest.mark.parametrize("written", ["0001-01-01", "1847-12-01 00:00", "1899-12-31 23:59Z", "1900-01-01 00:30+01:00"])
def test_a_moment_before_1900_is_refused(written: str) -> None:
    with pytest.raises(InvalidValue, match="as-of: "):
        moment_of(written, LONDON, field="as-of")


def test_an_offset_chooses_the_first_run_of_that_hour() -> None:
    moment = moment_of("2026-10-25 01:30+01:00", LONDON)
    assert (moment.instant, moment.decided) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "")


def test_an_hour_that_was_skipped_is_read_as_if_the_clocks_had_stayed_and_that_is_said() -> None:
    moment = moment_of("2026-03-29 01:30", LONDON)
    assert moment.instant == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert "was skipped that day; taken is 2026-03-29 02:30:00+01:00" in moment.decided


@pytest.mark.parametrize(
    "written", ["", "now", "10:42", "2026-11-23 25:00", "2026-02-30", "23.11.2026", "2026-11-23 10:42 GMT"]
)
def test_what_is_no_moment_is_refused(written: str) -> None:
    with pytest.raises(InvalidValue, match="as_of: "):
        moment_of(written, LONDON, field="as_of")


@given(st.integers(0, 4_000_000_000_000_000))
def test_an_instant_written_with_its_offset_is_read_as_itself(microseconds: int) -> None:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert moment_of(instant.isoformat(" "), LONDON).instant == instant
    assert moment_of(instant.astimezone(LONDON).isoformat(" "), LONDON).instant == instant
