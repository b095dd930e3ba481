"""What identifies a person is kept in the envelope and nowhere else (design §3.6)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.persistence import JSONTranscoder, StoredEvent

from bench.synthetic import PERSON, examine, participant, step_uid
from gateway.application import Gateway
from gateway.domain.events import Stream
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.relay_action import RelayAction
from gateway.domain.worklist_item import WorklistItem
from tests.eventstore.everything import STREAMS, every_event, everything_happened

IDENTIFYING: dict[type, set[str]] = {
    WorklistItem.Cancelled: {"reason"},
    WorklistItem.StatusCorrected: {"reason"},
    WorklistItem.Scheduled: {"person"},
    WorklistItem.Amended: {"person"},
    PerformedProcedureStep.Started: {"patient", "attribute_list"},
    PerformedProcedureStep.Updated: {"attribute_list"},
    PerformedProcedureStep.Completed: {"attribute_list"},
    PerformedProcedureStep.Discontinued: {"attribute_list"},
    PerformedProcedureStep.Linked: {"reason"},
    PerformedProcedureStep.Dismissed: {"reason"},
    ReceivedStudy.Received: {"patient", "study_description"},
    ReceivedStudy.RouteAbandoned: {"reason"},
    ReceivedStudy.Dismissed: {"reason"},
    RelayAction.Accepted: {"request"},
    RelayAction.Rejected: {"request"},
}
"""Every other event identifies nobody."""

SECRETS = [value for value in PERSON.values() if len(value) > 1] + ["9990000026", "SMITH^JANE^MARY"]
"""Of the person's values, the sex alone identifies nobody."""


def stored(gateway: Gateway) -> list[tuple[str, dict[str, Any]]]:
    with gateway.reading() as connection:
        rows = connection.execute("SELECT topic, state FROM stored_events ORDER BY rowid").fetchall()
    return [(topic, json.loads(state)) for topic, state in rows]


@pytest.mark.parametrize("event", every_event(), ids=lambda e: e.TOPIC)
def test_the_envelope_of_each_event_holds_exactly_its_identifying_fields(event: type[Stream.Event]) -> None:
    assert set(event.IDENTIFYING) == IDENTIFYING.get(event, set())


def test_the_envelope_is_open_and_names_no_key_while_sealing_is_off(gateway: Gateway) -> None:
    everything_happened(gateway)
    for topic, state in stored(gateway):
        fields = {f for event, names in IDENTIFYING.items() if topic == event.TOPIC for f in names}
        envelope = state.get("envelope")
        assert (envelope is not None) == bool(fields), topic
        if envelope:
            assert envelope["key_id"] is None
            assert set(envelope) == {"key_id", "sealed"}
            assert set(envelope["sealed"]) == fields


def test_no_identifying_value_stands_outside_the_envelope(gateway: Gateway) -> None:
    everything_happened(gateway)
    for topic, state in stored(gateway):
        state.pop("envelope", None)
        text = json.dumps(state, ensure_ascii=False)
        assert [secret for secret in SECRETS if secret in text] == [], topic


def test_an_event_comes_out_of_the_log_as_it_went_in(gateway: Gateway) -> None:
    everything_happened(gateway)
    step: Any = gateway.repository.get(PerformedProcedureStep.create_id(step_uid(1)))
    assert step.status == "COMPLETED"
    [started, *_] = gateway.events.get(step.id)
    assert started.attribute_list == bytes(range(256)) * 3
    assert started.patient == {"patient_id": PERSON["patient_id"], "patient_name": PERSON["patient_name"]}
    assert not hasattr(started, "envelope")


def test_an_event_carries_who_said_it_and_which_software_kept_it(gateway: Gateway) -> None:
    examine(gateway, 1)
    metadata = [state["metadata"] for _, state in stored(gateway)]
    assert [m["source"] for m in metadata] == ["relay"] * 2 + ["mpps"] * 6 + ["gateway"] * 2
    assert len({m["event_id"] for m in metadata}) == 10
    assert all(m["recorded_at"].endswith("+00:00") and m["software"] for m in metadata)


def test_an_older_class_version_is_brought_up_to_date_when_it_is_read(gateway: Gateway) -> None:
    class Grown(Stream):
        TOPIC = "Grown"

        class Created(Stream.Created):
            TOPIC = "Grown.Created"
            class_version = 3
            text: str

            @staticmethod
            def upcast_v1_v2(state: dict[str, Any]) -> None:
                state["text"] = state.pop("txt")

            @staticmethod
            def upcast_v2_v3(state: dict[str, Any]) -> None:
                state["text"] = state["text"].upper()

        class Event(Stream.Event):
            TOPIC = "Grown.Event"

        def __init__(self, text: str) -> None:
            self.text = text

    state = JSONTranscoder().encode({"txt": "hello", "metadata": {}})
    old: Any = gateway.mapper.to_domain_event(StoredEvent(UUID(int=1), 1, "Grown.Created", state))
    assert old.text == "HELLO"
    new = Grown(text="now")
    [event] = new.collect_events()
    assert json.loads(gateway.mapper.to_stored_event(event).state)["class_version"] == 3


def test_both_women_of_the_story_are_in_it(gateway: Gateway) -> None:
    """The two tests above look for values that are really there."""
    everything_happened(gateway)
    with gateway.reading() as connection:
        text = b"".join(row[0] for row in connection.execute("SELECT state FROM stored_events")).decode()
    assert [secret for secret in SECRETS if secret not in text] == []
    assert participant(1)["patient_id"] != PERSON["patient_id"]


def test_the_only_streams_are_those_that_are_looked_at_here() -> None:
    ours = {s for s in Stream.__subclasses__() if s.__module__.startswith("gateway.")}
    assert ours == set(STREAMS)
