"""Events are for decades: each topic is pinned, and one stored sample of each event version is read by today's code.

A new event or a new class version needs a new file in `samples/`, named `TOPIC.vN.json` and written by running this
module; an old file is never changed or removed.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from eventsourcing.domain import CanMutateProtocol
from eventsourcing.persistence import StoredEvent

from gateway.application import PROJECTIONS, Gateway, opened
from gateway.domain.events import Stream
from gateway.eventstore.projection import RecordedEvent
from tests.eventstore.everything import every_event, everything_happened

SAMPLES = Path(__file__).parent / "samples"

TOPICS = {
    "WorklistItem.Scheduled",
    "WorklistItem.Amended",
    "WorklistItem.Rescheduled",
    "WorklistItem.Cancelled",
    "WorklistItem.Expired",
    "WorklistItem.StatusReported",
    "WorklistItem.StatusCorrected",
    "WorklistItem.StepStarted",
    "WorklistItem.StepCompleted",
    "WorklistItem.StepDiscontinued",
    "WorklistItem.PersonErased",
    "WorklistItem.ImagesReceived",
    "PerformedProcedureStep.Started",
    "PerformedProcedureStep.Updated",
    "PerformedProcedureStep.Completed",
    "PerformedProcedureStep.Discontinued",
    "PerformedProcedureStep.Linked",
    "PerformedProcedureStep.Dismissed",
    "PerformedProcedureStep.PersonErased",
    "RelayAction.Accepted",
    "RelayAction.Rejected",
    "StatusUpdate.Requested",
    "StatusUpdate.ImagesUpdateRequested",
    "StatusUpdate.Acknowledged",
    "StatusUpdate.Parked",
    "StatusUpdate.Requeued",
    "Erasure.PersonErased",
    "Epoch.Restored",
    "Epoch.DeliveryResumed",
    "ReceivedStudy.Received",
    "ReceivedStudy.Updated",
    "ReceivedStudy.RouteChosen",
    "ReceivedStudy.Routed",
    "ReceivedStudy.RouteFailed",
    "ReceivedStudy.RouteAbandoned",
    "ReceivedStudy.Dismissed",
    "ReceivedStudy.PersonErased",
    "ImageFeed.Began",
    "ImageFeed.Advanced",
    "ImageFeed.StudyParked",
}


def sample_name(event: type[Stream.Event]) -> str:
    return f"{event.TOPIC}.v{getattr(event, 'class_version', 1)}"


def sample(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text())
    return content


def decoded(gateway: Gateway, kept: dict[str, Any]) -> Any:
    state = json.dumps(kept["state"], ensure_ascii=False).encode()
    return gateway.mapper.to_domain_event(StoredEvent(UUID(kept["stream"]), kept["version"], kept["topic"], state))


def samples() -> list[str]:
    return sorted(file.stem for file in SAMPLES.glob("*.json"))


def test_the_topics_are_these_and_no_others() -> None:
    assert {event.TOPIC for event in every_event()} == TOPICS


@pytest.mark.parametrize("event", every_event(), ids=lambda event: event.TOPIC)
def test_every_event_version_has_its_sample_and_its_way_to_the_next(event: type[Stream.Event]) -> None:
    latest = getattr(event, "class_version", 1)
    for version in range(1, latest + 1):
        name = f"{event.TOPIC}.v{version}"
        assert name in samples(), "run `python -m tests.eventstore.test_topics` to write it, and commit it"
        assert version == latest or callable(getattr(event, f"upcast_v{version}_v{version + 1}"))


@pytest.mark.parametrize("name", samples())
def test_todays_code_reads_the_sample(gateway: Gateway, name: str) -> None:
    kept = sample(name)
    event = decoded(gateway, kept)
    assert (event.TOPIC, event.originator_version) == (kept["topic"], kept["version"])
    envelope = kept["state"].get("envelope", {"sealed": {}})
    plain = {k: v for k, v in kept["state"].items() if k not in ("envelope", "timestamp", "class_version")}
    for field in {**plain, **envelope["sealed"]}:
        assert hasattr(event, field), f"{field} is gone: an upcaster is missing"


@pytest.mark.parametrize("name", samples())
def test_todays_code_writes_what_it_read_from_the_sample(gateway: Gateway, name: str) -> None:
    kept = sample(name)
    event = decoded(gateway, kept)
    if name == sample_name(type(event)):
        written = gateway.mapper.to_stored_event(event)
        assert (written.topic, json.loads(written.state)) == (kept["topic"], kept["state"])


@pytest.mark.parametrize("name", samples())
def test_todays_projections_take_the_sample(gateway: Gateway, name: str) -> None:
    event = decoded(gateway, sample(name))
    with gateway.datastore.writer.transaction() as cursor:
        for projection in PROJECTIONS:
            projection.apply(cursor, RecordedEvent(1, "2026-11-23T09:00:00.000000+00:00", event))


def test_todays_aggregates_are_made_of_the_first_events_among_the_samples(gateway: Gateway) -> None:
    firsts = [decoded(gateway, kept) for kept in map(sample, samples()) if kept["version"] == 1]
    assert len({event.TOPIC for event in firsts}) == 10
    for event in firsts:
        assert isinstance(event, CanMutateProtocol)
        assert event.mutate(None) is not None


def write_missing_samples(path: Path) -> None:
    """Take the first of each event from a story in which all happen."""
    with opened(path) as gateway:
        everything_happened(gateway)
    versions = {event.TOPIC: sample_name(event) for event in every_event()}
    rows = sqlite3.connect(path).execute("SELECT originator_id, originator_version, topic, state FROM stored_events")
    SAMPLES.mkdir(exist_ok=True)
    for stream, version, topic, state in rows:
        file = SAMPLES / f"{versions[topic]}.json"
        if not file.exists():
            kept = {"stream": stream, "version": version, "topic": topic, "state": json.loads(state)}
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
            print("written:", file.name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write_missing_samples(Path(folder) / "gateway.db")
