"""How often a modality asks is told from the record of queries; its silence counts in the clinic's hours only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bench.synthetic import appointment
from gateway.application import Gateway
from gateway.audit.rhythm import Rhythm, Span, clinic_hours, rhythms, usual_interval
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.record import Asked, Query, QueryRecord, Record, RefusedAssociation

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
CLINIC: Span = (NOW - timedelta(hours=2), NOW + timedelta(hours=4))


def moment(minutes: float) -> str:
    """So many minutes before now."""
    return (NOW - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def asked(begin: float, end: float | None = None, times: int = 1, title: str = "MAMMO1") -> Asked:
    """Queries from `begin` to `end` minutes ago."""
    return Asked(title, "192.0.2.7", moment(begin), moment(begin if end is None else end), times)


def query(minutes: float, title: str = "MAMMO1") -> Query:
    return Query(
        at=moment(minutes),
        calling_ae_title=title,
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.7",
        keys=("Modality",),
        identifier=str(minutes).encode(),
        transfer_syntax=IMPLICIT,
        status=0,
        error_comment="",
        answers=0,
        accession_numbers=(),
        milliseconds=1.0,
    )


def refusal(minutes: float, title: str = "MAMMO1", reason: str = "Called AE title not recognised") -> Record:
    return RefusedAssociation(
        at=moment(minutes), calling_ae_title=title, called_ae_title="GATEWAY", address="192.0.2.9", reason=reason
    )


def recorded(gateway: Gateway, *records: Record) -> None:
    """As a service would have recorded them: `last_at` is that of the record."""
    record = QueryRecord(gateway)
    record.start()
    for one in records:
        record.add(one)
    record.close()


def found(gateway: Gateway, **options: Any) -> list[Rhythm]:
    with gateway.reading() as connection:
        return rhythms(connection, NOW, **options)


def rhythm(**values: Any) -> Rhythm:
    known: dict[str, Any] = {
        "ae_title": "MAMMO1",
        "address": "192.0.2.7",
        "last_seen": NOW - timedelta(minutes=26),
        "usual_seconds": 60.0,
        "silent_for": 26 * 60.0,
    }
    return Rhythm(**known | values)


def test_the_usual_interval_is_the_median_so_that_a_lunch_break_is_none() -> None:
    minutes = [180, 179, 178, 177, 120, 119, 118]
    assert usual_interval([asked(minute) for minute in minutes]) == 60.0


def test_a_row_that_stands_for_many_equal_queries_counts_as_many_intervals() -> None:
    assert usual_interval([asked(60, 50, times=11), asked(20)]) == 60.0


def test_nights_are_no_intervals() -> None:
    nightly = [asked(24 * 60 * day) for day in range(10, 0, -1)]
    assert usual_interval(nightly) is None
    assert usual_interval([*nightly, *(asked(minute) for minute in (30, 25, 20, 15, 10, 5))]) == 300.0


def test_from_a_few_queries_nobody_tells_a_rhythm() -> None:
    assert usual_interval([asked(4), asked(3), asked(2), asked(1)]) is None


def test_a_unit_that_is_silent_for_more_than_five_of_its_intervals_is_overdue() -> None:
    assert rhythm().overdue_for(NOW, CLINIC) == 26 * 60
    assert rhythm(usual_seconds=400.0).overdue_for(NOW, CLINIC) == 0


def test_five_minutes_of_silence_are_never_told_of() -> None:
    assert rhythm(usual_seconds=2.0, last_seen=NOW - timedelta(seconds=290)).overdue_for(NOW, CLINIC) == 0


@pytest.mark.parametrize("clinic", [None, (NOW + timedelta(minutes=1), NOW + timedelta(hours=2))])
def test_outside_the_clinics_hours_silence_is_rest(clinic: Span | None) -> None:
    assert rhythm().overdue_for(NOW, clinic) == 0


def test_the_night_before_a_clinic_is_no_silence_in_it() -> None:
    slept = rhythm(last_seen=NOW - timedelta(hours=16))
    assert slept.overdue_for(NOW, (NOW - timedelta(minutes=4), NOW + timedelta(hours=2))) == 0
    assert slept.overdue_for(NOW, (NOW - timedelta(minutes=6), NOW + timedelta(hours=2))) == 6 * 60


def test_who_never_asked_or_has_no_rhythm_is_not_overdue() -> None:
    assert rhythm(last_seen=None, silent_for=None).overdue_for(NOW, CLINIC) == 0
    assert rhythm(usual_seconds=None).overdue_for(NOW, CLINIC) == 0


def test_each_title_of_the_record_has_its_rhythm_test_callers_left_out(gateway: Gateway) -> None:
    recorded(
        gateway, *(query(minute) for minute in (32, 31, 30, 29, 28, 27, 26)), query(3, "MAMMO2"), query(1, "REHEARSAL")
    )
    first, second = found(gateway, leave_out=["REHEARSAL"])
    assert first == rhythm()
    assert (second.ae_title, second.silent_for, second.usual_seconds) == ("MAMMO2", 180.0, None)


def test_who_is_refused_is_named_with_the_reason_until_it_is_heard_again(gateway: Gateway) -> None:
    recorded(gateway, query(20, "MAMMO2"), refusal(30, "MAMMO2"), refusal(10), refusal(5, reason="not in the list"))
    refused, heard = found(gateway)
    assert (refused.ae_title, refused.last_seen, refused.refused, refused.refusal) == (
        "MAMMO1",
        None,
        2,
        "not in the list",
    )
    assert (heard.refused, heard.refusal) == (0, "")


def test_a_database_that_no_service_ran_on_has_no_rhythms(gateway: Gateway) -> None:
    assert found(gateway) == []


def test_the_clinic_lasts_from_half_an_hour_before_the_first_to_half_an_hour_after_the_last(gateway: Gateway) -> None:
    assert clinic_hours(gateway, LONDON, NOW) is None
    gateway.schedule(appointment("ACC001", scheduled_time="093000"))
    gateway.schedule(appointment("ACC002", scheduled_time="161500"))
    gateway.schedule(replace(appointment("ACC003"), scheduled_date="20261124"))
    gateway.schedule(appointment("TEST", scheduled_time="230000"), is_test=True)
    gateway.schedule(appointment("ACC004", scheduled_time="200000"))
    gateway.cancel("ACC004")
    assert clinic_hours(gateway, LONDON, NOW) == (
        datetime(2026, 11, 23, 9, 0, tzinfo=LONDON),
        datetime(2026, 11, 23, 16, 45, tzinfo=LONDON),
    )
