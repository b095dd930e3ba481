"""What is done to the record itself is on record: starts, stops, ends without a stop, and looks at persons."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from bench.synthetic import PERSON, schedule
from gateway.application import Gateway, opened
from gateway.audit import activities
from gateway.audit.activities import Activity
from gateway.audit.restore import restore
from gateway.errors import Contention
from gateway.eventstore.backup import take


def kept(gateway: Gateway, *subjects: str) -> list[Activity]:
    with gateway.reading() as connection:
        return list(activities.find(connection, subjects=subjects or None))


def test_a_start_and_a_stop_are_kept_with_who_and_what(gateway: Gateway) -> None:
    assert activities.service_started(gateway, "gateway", version="0.1.0") is None
    activities.service_stopped(gateway, "gateway")
    assert activities.service_started(gateway, "gateway", version="0.2.0") is None
    assert [(one.activity, one.who, one.details) for one in kept(gateway)] == [
        ("started", "gateway", {"version": "0.1.0"}),
        ("stopped", "gateway", {}),
        ("started", "gateway", {"version": "0.2.0"}),
    ]


def test_a_start_says_that_the_one_before_ended_without_a_stop_and_what_was_recorded_last(gateway: Gateway) -> None:
    activities.service_started(gateway, "gateway")
    schedule(gateway)
    [row, *_] = gateway.timeline("ACC001")
    assert activities.service_started(gateway, "gateway") == row.committed_at
    assert kept(gateway)[-1].details == {"previous_ended_without_stop": row.committed_at}


def test_without_any_record_since_its_start_that_is_the_latest_sign(gateway: Gateway) -> None:
    schedule(gateway)
    activities.service_started(gateway, "gateway")
    [first] = kept(gateway)
    assert activities.service_started(gateway, "gateway") == first.at


def test_of_a_backup_that_was_taken_while_the_service_ran_nobody_claims_that_it_was_killed(
    gateway: Gateway, database: Path, tmp_path: Path
) -> None:
    """It stopped cleanly, later: that stands in the replaced database."""
    activities.service_started(gateway, "gateway")
    backup = take(database, tmp_path / "backups")
    activities.service_stopped(gateway, "gateway")
    gateway.close()
    assert restore(database, backup.file, operator="night shift", agreed=lambda _: True, sequence_floor=0)
    with opened(database) as restored:
        assert activities.service_started(restored, "gateway") is None
        assert kept(restored)[-1].details == {}
        assert activities.service_started(restored, "gateway"), "what starts after the restore is looked at again"


def test_a_look_in_between_hides_no_missing_stop(gateway: Gateway) -> None:
    activities.service_started(gateway, "gateway")
    activities.looked(gateway, "auditor", "timeline", ["ACC001"])
    assert activities.service_started(gateway, "gateway") is not None


def test_a_look_is_kept_with_who_by_which_verb_at_what(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "timeline", ["ACC001", "1.2.3"])
    [look] = kept(gateway)
    assert (look.activity, look.who, look.subjects) == ("looked", "auditor", ("ACC001", "1.2.3"))
    assert look.details == {"verb": "timeline", "shown": 2}
    assert datetime.fromisoformat(look.at).tzinfo is not None


def test_who_found_nobody_has_looked_at_nobody(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "timeline", [])
    assert kept(gateway) == []


def test_equal_looks_soon_after_each_other_share_a_row(gateway: Gateway) -> None:
    for _ in range(3):
        activities.looked(gateway, "auditor", "timeline", ["ACC001"])
    activities.looked(gateway, "another", "timeline", ["ACC001"])
    activities.looked(gateway, "auditor", "timeline", ["ACC001"])
    assert [(one.who, one.times) for one in kept(gateway)] == [("auditor", 3), ("another", 1), ("auditor", 1)]


def test_equal_looks_long_after_each_other_do_not(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    for hour in ("09", "10"):
        monkeypatch.setattr(activities, "_now", lambda hour=hour: f"2026-11-23T{hour}:00:00.000000+00:00")
        activities.looked(gateway, "auditor", "timeline", ["ACC001"])
    assert [one.times for one in kept(gateway)] == [1, 1]


def test_looks_are_found_by_whole_subjects(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "timeline", ["ACC10"])
    activities.looked(gateway, "auditor", "timeline", ["ACC1", "ACC2"])
    activities.looked(gateway, "auditor", "audit export", [activities.EVERYTHING])
    assert [one.subjects for one in kept(gateway, "ACC1")] == [("ACC1", "ACC2"), (activities.EVERYTHING,)]


def test_a_look_that_can_not_be_kept_is_refused(gateway: Gateway, database: Path) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        gateway.give_up_waiting()
        with pytest.raises(Contention):
            activities.looked(gateway, "auditor", "timeline", ["ACC001"])


def test_the_table_identifies_nobody_and_the_log_is_none_the_longer(gateway: Gateway, database: Path) -> None:
    schedule(gateway)
    before = gateway.check_store()
    activities.service_started(gateway, "gateway", version="0.1.0")
    activities.looked(gateway, "auditor", "worklist list", ["ACC001"])
    assert gateway.check_store() == before
    assert gateway.verify_projections() == []
    with closing(sqlite3.connect(database)) as prompt:
        text = repr(prompt.execute("SELECT * FROM activities").fetchall())
    assert not any(value in text for value in PERSON.values() if len(value) > 1)


def test_a_look_at_very_many_is_a_look_at_everything_and_found_for_each(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "worklist list", [f"ACC{number}" for number in range(3000)])
    [look] = kept(gateway, "ACC2999")
    assert (look.subjects, look.details["shown"]) == ((activities.EVERYTHING,), 3000)


def test_looks_at_any_number_of_subjects_can_be_asked_for(gateway: Gateway) -> None:
    activities.looked(gateway, "auditor", "timeline", ["ACC4999"])
    assert len(kept(gateway, *(f"ACC{number}" for number in range(5000)))) == 1
