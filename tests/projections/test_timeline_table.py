"""The timeline: the whole story of an accession number, and nobody's name in it."""

from __future__ import annotations

import json

from bench.synthetic import MODALITY, PERSON, RECEIVED, examine, naming, schedule, start, step_uid
from gateway.application import Gateway
from gateway.domain.lifecycle import Status
from tests.eventstore.everything import every_event, everything_happened


def test_an_examination_reads_as_its_story(gateway: Gateway) -> None:
    examine(gateway, 1)
    story = [(row.kind, row.source) for row in gateway.timeline("ACC000000001")]
    assert story == [
        ("WorklistItem.Scheduled", "relay"),
        ("RelayAction.Accepted", "relay"),
        ("PerformedProcedureStep.Started", "mpps"),
        ("WorklistItem.StepStarted", "mpps"),
        ("StatusUpdate.Requested", "mpps"),
        ("PerformedProcedureStep.Completed", "mpps"),
        ("WorklistItem.StepCompleted", "mpps"),
        ("StatusUpdate.Requested", "mpps"),
        ("StatusUpdate.Acknowledged", "gateway"),
        ("StatusUpdate.Acknowledged", "gateway"),
    ]


def test_a_line_says_when_it_came_in_and_was_kept_and_from_whom(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    [line] = [row for row in gateway.timeline("ACC001") if row.kind == "PerformedProcedureStep.Started"]
    assert (line.ae_title, line.occurred_at) == (MODALITY, RECEIVED.isoformat())
    assert line.committed_at.endswith("+00:00")
    assert line.details["mpps_instance_uid"] == step_uid(1)


def test_a_correction_tells_its_reason(gateway: Gateway) -> None:
    schedule(gateway)
    gateway.correct_status("ACC001", Status.COMPLETED, reason="examined on paper", operator="night shift")
    [line] = [row for row in gateway.timeline("ACC001") if row.kind == "WorklistItem.StatusCorrected"]
    assert line.details["reason"] == "examined on paper"


def test_every_event_stands_in_the_timeline(gateway: Gateway) -> None:
    everything_happened(gateway)
    with gateway.reading() as connection:
        kinds = {row[0] for row in connection.execute("SELECT DISTINCT kind FROM timeline")}
        told = connection.execute("SELECT COUNT(DISTINCT position) FROM timeline").fetchone()[0]
    assert kinds == {event.TOPIC for event in every_event()}
    assert told == gateway.check_store()


def test_a_step_stands_in_the_story_of_each_accession_number_it_concerns(gateway: Gateway) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    start(gateway, step_uid(1), naming("ACC001"), naming("ACC002"))
    kinds = [[row.kind for row in gateway.timeline(number)] for number in ("ACC001", "ACC002")]
    assert kinds[0] == kinds[1]
    assert "PerformedProcedureStep.Started" in kinds[0]


def test_an_amendment_names_the_fields_and_not_their_values(gateway: Gateway) -> None:
    everything_happened(gateway)
    [line] = [row for row in gateway.timeline("ACC003") if row.kind == "WorklistItem.Amended"]
    assert line.details == {"fields": ["patient_id", "patient_name"]}


def test_no_identifying_value_is_in_the_timeline(gateway: Gateway) -> None:
    everything_happened(gateway)
    with gateway.reading() as connection:
        text = json.dumps([tuple(row) for row in connection.execute("SELECT * FROM timeline")])
    secrets = [value for value in PERSON.values() if len(value) > 1] + ["9990000026", "SMITH^JANE^MARY"]
    assert [secret for secret in secrets if secret in text] == []
