"""The record as text: a header, then each event as the log has it; which events, by what is asked."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from audit_support import events, exported, header

from bench.synthetic import schedule
from gateway import __version__
from gateway.application import Gateway
from gateway.audit import export
from gateway.audit.event_log import Wanted
from gateway.errors import EventUnreadable, InvalidValue
from tests.eventstore.everything import everything_happened
from tests.eventstore.test_topics import TOPICS


@pytest.fixture
def eventful(gateway: Gateway) -> Gateway:
    everything_happened(gateway)
    return gateway


def test_the_first_line_says_what_the_export_is(eventful: Gateway) -> None:
    told = header(exported(eventful))
    head = eventful.verify_chain()
    assert told.pop("exported_at")
    assert told == {
        "format": "worklist-gateway events",
        "version": 1,
        "software": __version__,
        "events": head.events,
        "first_position": 1,
        "last_position": head.events,
        "whole": True,
        "redacted": False,
        "anchor": f"{head.events}:{head.head.hex()}",
        "filters": {},
    }


def test_each_event_is_a_line_with_its_row_as_it_is_stored(eventful: Gateway, database: Path) -> None:
    lines = exported(eventful)
    with sqlite3.connect(database) as connection:
        stored = connection.execute(
            "SELECT e.rowid, committed_at, originator_id, originator_version, topic, state FROM stored_events e"
            " JOIN event_chain ON position = e.rowid ORDER BY e.rowid"
        ).fetchall()
    assert [(*list(event.values())[:5],) for event in events(lines)] == [row[:5] for row in stored]
    assert [event["state"] for event in events(lines)] == [json.loads(row[5]) for row in stored]
    assert all(line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) for line in lines)


def test_every_kind_of_event_can_be_asked_for_and_no_other(eventful: Gateway) -> None:
    for topic in TOPICS:
        found = events(exported(eventful, kinds=(topic,)))
        assert {event["topic"] for event in found} == {topic}
    for kind in ("WorklistItem.Event", "Nothing", "WorklistItem.", ""):
        with pytest.raises(
            InvalidValue, match=r"--kind: must be one of .*PerformedProcedureStep, ReceivedStudy, RelayAction"
        ):
            exported(eventful, kinds=(kind,))


def test_a_stream_stands_for_all_its_kinds_whatever_the_case(eventful: Gateway) -> None:
    found = {event["topic"] for event in events(exported(eventful, kinds=("statusupdate", "RelayAction.Accepted")))}
    assert found == {topic for topic in TOPICS if topic.startswith("StatusUpdate.")} | {"RelayAction.Accepted"}


def test_an_accession_number_brings_whole_streams_also_of_a_step_linked_to_it_later(eventful: Gateway) -> None:
    found = events(exported(eventful, accession_number="ACC006"))
    assert [event["topic"] for event in found] == [
        "WorklistItem.Scheduled",
        "RelayAction.Accepted",
        "PerformedProcedureStep.Started",
        "PerformedProcedureStep.Linked",
        "WorklistItem.StepStarted",
        "StatusUpdate.Requested",
    ]
    assert found[2]["state"]["concerned"] == ["ACC001"]
    versions: dict[str, list[int]] = {}
    for event in found:
        versions.setdefault(event["stream"], []).append(event["version"])
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    assert exported(eventful, accession_number="ACC999")[1:] == []


def test_positions_and_a_limit_narrow_it_to_the_newest(eventful: Gateway) -> None:
    assert [event["position"] for event in events(exported(eventful, from_position=3, to_position=6))] == [3, 4, 5, 6]
    newest = exported(eventful, from_position=3, to_position=6, limit=2)
    assert [event["position"] for event in events(newest)] == [5, 6]
    told = header(newest)
    assert (told["events"], told["first_position"], told["last_position"], told["whole"]) == (2, 5, 6, False)
    assert told["filters"] == {"from_position": 3, "to_position": 6, "limit": 2}


def test_moments_are_those_of_the_commit_the_first_included_the_last_not(eventful: Gateway) -> None:
    every = events(exported(eventful))
    moments = sorted({event["committed_at"] for event in every})
    for since, until in ((moments[3], moments[7]), (moments[0], moments[1]), (moments[-1], "")):
        wanted = [e for e in every if since <= e["committed_at"] and (not until or e["committed_at"] < until)]
        assert events(exported(eventful, since=since, until=until)) == wanted != []


def test_what_comes_meanwhile_is_left_to_the_next_export(eventful: Gateway) -> None:
    lines = export.lines(eventful, Wanted())
    told = json.loads(next(lines))
    schedule(eventful, "ACC042")
    assert len(list(lines)) == told["events"]
    assert header(exported(eventful))["events"] > told["events"]


def test_an_empty_log_is_a_header_alone(gateway: Gateway) -> None:
    [line] = exported(gateway)
    told = json.loads(line)
    assert (told["events"], told["first_position"], told["whole"], told["anchor"]) == (
        0,
        None,
        True,
        f"0:{bytes(32).hex()}",
    )


def test_an_event_that_can_not_be_read_is_named_by_its_position(eventful: Gateway, database: Path) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute("UPDATE stored_events SET state = ? WHERE rowid = 4", (b"{",))
    with pytest.raises(EventUnreadable, match="the event at position 4 can't be read"):
        exported(eventful)
    assert [event["position"] for event in events(exported(eventful, to_position=3))] == [1, 2, 3]
