"""What happened to one appointment, hop by hop: its events, and beside them what no event tells.

Beside the events stand: when the web app says it sent an action and when we received it, when which modality was first
and last shown the item (from the record of queries), and when the web app was told (from the delivery attempts). Each
event stands in the story once; what stands between two of its instants is the latency of a hop, so that the latencies
sum up to the whole.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import projections.timeline
from gateway.application import Gateway
from gateway.delivery.attempts import Attempts, attempts_of
from gateway.dicom import record
from gateway.dicom.record import Query
from gateway.domain.epoch import Epoch
from gateway.domain.erasure import Erasure
from gateway.domain.image_feed import ImageFeed
from gateway.domain.masking import HIDDEN
from gateway.domain.performed_procedure_step import PerformedProcedureStep as Step
from gateway.domain.performed_procedure_step import StepRecord
from gateway.domain.received_study import ReceivedStudy as Study
from gateway.domain.relay_action import RelayAction
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore import replay
from projections.timeline import TimelineRow

CLICK_TO_LISTED = "click_to_listed"
RECEIVED_TO_LISTED = "received_to_listed"
"""Stands for the one before where the message does not say when it was sent."""
LISTED_TO_SHOWN = "listed_to_first_shown"
STARTED_TO_COMPLETED = "started_to_completed"
COMPLETED_TO_ACKNOWLEDGED = "completed_to_acknowledged"
COMPLETED_TO_IMAGES = "completed_to_images"
"""Of the first images; negative where they were sent before the unit said that it was done."""

_NAMES: dict[Any, str] = {
    RelayAction.Accepted: "accepted",
    RelayAction.Rejected: "rejected",
    WorklistItem.Scheduled: "listed",
    WorklistItem.Amended: "amended",
    WorklistItem.Rescheduled: "rescheduled",
    WorklistItem.Cancelled: "cancelled",
    WorklistItem.Expired: "expired",
    WorklistItem.StatusReported: "reported",
    WorklistItem.StatusCorrected: "corrected",
    WorklistItem.StepStarted: "item",
    WorklistItem.StepCompleted: "item",
    WorklistItem.StepDiscontinued: "item",
    Step.Started: "started",
    Step.Updated: "updated",
    Step.Completed: "completed",
    Step.Discontinued: "discontinued",
    Step.Linked: "linked",
    Step.Dismissed: "dismissed",
    WorklistItem.ImagesReceived: "images",
    Study.Received: "study received",
    Study.Updated: "study updated",
    Study.RouteChosen: "to be routed",
    Study.Routed: "routed",
    Study.RouteFailed: "not routed yet",
    Study.RouteAbandoned: "route abandoned",
    Study.Dismissed: "images dismissed",
    ImageFeed.Began: "feed of images begun",
    ImageFeed.Advanced: "feed of images advanced",
    ImageFeed.StudyParked: "study not read",
    StatusUpdate.Requested: "queued",
    StatusUpdate.ImagesUpdateRequested: "queued",
    StatusUpdate.Acknowledged: "acknowledged",
    StatusUpdate.Parked: "parked",
    StatusUpdate.Requeued: "requeued",
    WorklistItem.PersonErased: "person erased",
    Step.PersonErased: "data sets erased",
    Study.PersonErased: "study's person erased",
    Erasure.PersonErased: "erasure ordered",
    Epoch.Restored: "restored from a backup",
    Epoch.DeliveryResumed: "delivery resumed",
}
HOPS = {event.TOPIC: name for event, name in _NAMES.items()}
"""The events' topics → what a hop is called; `item` is followed by the status that the item then has.

Other events go by the words of their topic.
"""
_WORDS = re.compile(r"([A-Z])")

_NAMELESS = (f"{RelayAction.TOPIC}.", f"{Step.TOPIC}.", f"{Study.TOPIC}.", f"{ImageFeed.TOPIC}.")
_OF_AN_UPDATE = ("event_id", "sequence", "status", "images")
_QUEUED = (StatusUpdate.Requested.TOPIC, StatusUpdate.ImagesUpdateRequested.TOPIC)
_RECEIPTS = (RelayAction.Accepted.TOPIC, RelayAction.Rejected.TOPIC)
_WEB_APP = "web app"
_SPEAKERS = {"relay": _WEB_APP, "gateway": "gateway", "orthanc": "Orthanc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One thing that happened, at the instant `at`; instants are ISO 8601 in UTC.

    The first fields are those of the event's row in the timeline; where there is no event (`clicked`, `received`,
    `shown`, `told`, `told again`) `position` and `committed_at` are None and `kind` is the hop's name. `who` did it: an
    AE title, an operator, the web app, the gateway. `after_seconds` is the time since the hop before (None for the
    first), `since_first_seconds` since the first. `spans` are the important spans that end here, in seconds. A run of
    answers to one modality is one hop at its first: `details` then says `last_at` and how many `times`.
    """

    accession_number: str
    position: int | None = None
    occurred_at: str | None = None
    committed_at: str | None = None
    kind: str
    source: str | None = None
    ae_title: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    hop: str
    at: str
    who: str = ""
    after_seconds: float | None = None
    since_first_seconds: float = 0.0
    spans: dict[str, float] = field(default_factory=dict)

    @property
    def has_written_reason(self) -> bool:
        """Whether its reason is what somebody wrote, and so may name a person."""
        return projections.timeline.has_written_reason(self.kind, self.details, self.source)


def without_written_reason(hop: Hop) -> Hop:
    """The hop for whoever has given no reason: what people write may name somebody."""
    return replace(hop, details={**hop.details, "reason": HIDDEN}) if hop.has_written_reason else hop


_REPORTS = frozenset(event.TOPIC for event in (Step.Started, Step.Updated, Step.Completed, Step.Discontinued))


def step_of(hop: Hop) -> str | None:
    """The SOP Instance UID of the performed step whose data set this hop tells of."""
    uid: str | None = hop.details.get("mpps_instance_uid") if hop.kind in _REPORTS else None
    return uid


def records_of(gateway: Gateway, hops: Iterable[Hop]) -> dict[str, StepRecord]:
    """All that was reported about the performed steps of a story, by their SOP Instance UIDs."""
    uids = dict.fromkeys(uid for hop in hops if (uid := step_of(hop)))
    return {uid: record for uid in uids if (record := gateway.performed_step(uid))}


def of_accession(gateway: Gateway, accession_number: str, *, test_ae_titles: Collection[str] = ()) -> list[Hop]:
    """The story of one appointment, or of an accession number that was only ever refused; [] of an unknown one.

    Being shown to one of `test_ae_titles` is told, with `is_test`, but ends no span of a real appointment.
    """
    rows = gateway.timeline(accession_number)
    with gateway.reading() as connection:
        rows = _with_linked_steps(gateway, connection, rows)
        if not rows:
            return []
        hops = _event_hops(gateway, connection, rows)
        hops += _told(hops, _attempts(connection, hops))
        since = rows[0].committed_at
        shown = record.queries_between(connection, accession_numbers=[accession_number], since=since)
        testers = () if any(row.details.get("is_test") for row in rows) else test_ae_titles
        hops += _shown(accession_number, list(shown), rows, testers)
    return _measured(hops)


def of_action(gateway: Gateway, action_id: str) -> list[Hop]:
    """What became of one action of the web app: received, answered, and its effect; [] of an unknown one."""
    with gateway.reading() as connection:
        receipt = _stream_rows(gateway, connection, RelayAction.create_id(action_id))
        if not receipt:
            return []
        number = receipt[0].accession_number
        known = {row.position: row for row in receipt}
        same_save = [
            row
            for row in (gateway.timeline(number) if number else ())
            if row.source == "relay" and row.committed_at == receipt[0].committed_at
        ]
        for row in same_save:
            if _metadata(gateway, connection, row).get("correlation_id") == action_id:
                known[row.position] = row
        return _measured(_event_hops(gateway, connection, [known[position] for position in sorted(known)]))


def of_step(gateway: Gateway, sop_instance_uid: str) -> list[Hop]:
    """What was reported about one performed step and decided about it, linked to an item or not; [] of an unknown one.

    With the events of the items that it changed, and of the status updates that these caused.
    """
    with gateway.reading() as connection:
        rows = _stream_rows(gateway, connection, Step.create_id(sop_instance_uid))
        numbers = {number for row in rows for number in _numbers_of(gateway, connection, row)}
        known = {row.position: row for row in rows}
        for number in sorted(numbers):
            caused = _caused_by(gateway, connection, sop_instance_uid, gateway.timeline(number))
            known |= {row.position: row for row in caused}
        hops = _event_hops(gateway, connection, [known[position] for position in sorted(known)])
        return _measured(hops + _told(hops, _attempts(connection, hops)))


def of_nobody(gateway: Gateway, *, since: str = "", until: str = "") -> list[Hop]:
    """What named no accession number at all: rejected actions and unmatched steps, the oldest first."""
    with gateway.reading() as connection:
        rows = [
            row
            for row in projections.timeline.find(connection, "")
            if row.kind.startswith(_NAMELESS)
            and (not since or row.committed_at >= since)
            and (not until or row.committed_at < until)
        ]
        return _measured(_event_hops(gateway, connection, rows, beside=False))


def spans_of(hops: Iterable[Hop]) -> dict[str, float]:
    """All important spans of a story, in seconds."""
    return {name: seconds for hop in hops for name, seconds in hop.spans.items()}


# --- events


def event_at(gateway: Gateway, connection: sqlite3.Connection, position: int) -> Any | None:  # noqa: ANN401  any of our events
    """The event at a position of the log; None when there is none."""
    found = next(replay.read(connection, gateway.mapper, after=position - 1, until=position), None)
    return found.domain_event if found else None


def _metadata(gateway: Gateway, connection: sqlite3.Connection, row: TimelineRow) -> dict[str, Any]:
    event = event_at(gateway, connection, row.position)
    metadata: dict[str, Any] = event.metadata if event else {}
    return metadata


def _stream_rows(gateway: Gateway, connection: sqlite3.Connection, stream_id: UUID) -> list[TimelineRow]:
    """A stream's rows of the timeline, each once, made aside by the projection itself."""
    events = replay.read_stream(connection, gateway.mapper, stream_id)
    known = {row.position: row for row in projections.timeline.rows_of(events)}
    return [known[position] for position in sorted(known)]


def _numbers_of(gateway: Gateway, connection: sqlite3.Connection, row: TimelineRow) -> list[str]:
    event = event_at(gateway, connection, row.position)
    numbers: list[str] = getattr(event, "accession_numbers", None) or []
    return numbers


def _caused_by(
    gateway: Gateway, connection: sqlite3.Connection, sop_instance_uid: str, rows: Sequence[TimelineRow]
) -> Iterator[TimelineRow]:
    """What a step did to an item, and the updates about it."""
    requested = [row for row in rows if row.kind == StatusUpdate.Requested.TOPIC]
    updates = {
        row.details["event_id"]
        for row in requested
        if getattr(event_at(gateway, connection, row.position), "mpps_instance_uid", None) == sop_instance_uid
    }
    for row in rows:
        of_item = row.kind.startswith(f"{WorklistItem.TOPIC}.") and _names_step(row.details, sop_instance_uid)
        if of_item or row.details.get("event_id") in updates:
            yield row


def _names_step(details: dict[str, Any], sop_instance_uid: str) -> bool:
    return details.get("mpps_instance_uid") == sop_instance_uid


def _with_linked_steps(gateway: Gateway, connection: sqlite3.Connection, rows: list[TimelineRow]) -> list[TimelineRow]:
    """A step that was linked by hand did not name this item; what it reported before belongs here all the same."""
    known = {row.position: row for row in rows}
    for row in rows:
        if row.kind == Step.Linked.TOPIC:
            for earlier in _stream_rows(gateway, connection, Step.create_id(row.details["mpps_instance_uid"])):
                known.setdefault(earlier.position, replace(earlier, accession_number=row.accession_number))
    return [known[position] for position in sorted(known)]


def _event_hops(
    gateway: Gateway, connection: sqlite3.Connection, rows: Sequence[TimelineRow], *, beside: bool = True
) -> list[Hop]:
    """The hops of events in the order of the log; with `beside` before each receipt when it was sent and received."""
    hops: list[Hop] = []
    for row in _receipts_first(rows):
        if beside and row.kind in _RECEIPTS:
            hops += _arrival(gateway, connection, row)
        hops.append(
            Hop(
                accession_number=row.accession_number,
                position=row.position,
                occurred_at=row.occurred_at,
                committed_at=row.committed_at,
                kind=row.kind,
                source=row.source,
                ae_title=row.ae_title,
                details=row.details,
                hop=hop_name(row),
                at=row.committed_at,
                who=who_did(gateway, connection, row),
            )
        )
    return hops


def _receipts_first(rows: Sequence[TimelineRow]) -> list[TimelineRow]:
    """An action is accepted before it takes effect, though its receipt is the last event of the transaction."""
    ordered: list[TimelineRow] = []
    for row in rows:
        place = len(ordered)
        if row.kind in _RECEIPTS:
            while place and _in_one_save(ordered[place - 1], row, distance=len(ordered) - place + 1):
                place -= 1
        ordered.insert(place, row)
    return ordered


def _in_one_save(before: TimelineRow, receipt: TimelineRow, *, distance: int) -> bool:
    return (
        before.kind not in _RECEIPTS
        and before.source == receipt.source
        and before.committed_at == receipt.committed_at
        and before.position == receipt.position - distance
    )


def hop_name(row: TimelineRow) -> str:
    """What the hop of this event is called."""
    name = HOPS.get(row.kind) or _WORDS.sub(r" \1", row.kind.rsplit(".", 1)[-1]).strip().lower()
    return f"item {row.details['status'].lower()}" if name == "item" else name


def who_did(gateway: Gateway, connection: sqlite3.Connection, row: TimelineRow) -> str:
    """Who brought an event about: an AE title, an operator, the web app, the gateway."""
    if row.kind in _RECEIPTS:
        return "gateway"
    if row.source == "mpps":
        return row.ae_title or ""
    if row.source == "operator":
        asked = _metadata(gateway, connection, row).get("correlation_id")
        return asked if asked and asked != row.details.get("event_id") else "an operator"
    if row.kind in (StatusUpdate.Acknowledged.TOPIC, StatusUpdate.Parked.TOPIC):
        return _WEB_APP
    return _SPEAKERS.get(row.source or "", row.source or "")


# --- what no event tells


def _arrival(gateway: Gateway, connection: sqlite3.Connection, receipt: TimelineRow) -> Iterator[Hop]:
    """When the web app says it sent the action, and when we received it."""
    if receipt.occurred_at is None:
        return
    told = {name: receipt.details[name] for name in ("action_id", "action_type") if name in receipt.details}
    common: dict[str, Any] = {"accession_number": receipt.accession_number, "source": receipt.source, "details": told}
    sent = _sent_at(event_at(gateway, connection, receipt.position))
    if sent:
        yield Hop(hop="clicked", kind="clicked", at=sent, who=_WEB_APP, **common)
    yield Hop(hop="received", kind="received", at=_utc(receipt.occurred_at), who="gateway", **common)


def _sent_at(event: Any) -> str | None:  # noqa: ANN401  any of our events
    """The message's own `timestamp`; without an offset it is UTC, as the web app writes it."""
    try:
        stamp = json.loads(event.request)["timestamp"]
        return _utc(stamp)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _attempts(connection: sqlite3.Connection, hops: Sequence[Hop]) -> dict[str, Attempts]:
    return attempts_of(
        connection, [hop.details["event_id"] for hop in hops if hop.kind == StatusUpdate.Requested.TOPIC]
    )


def _told(hops: Sequence[Hop], attempts: dict[str, Attempts]) -> list[Hop]:
    """The first and the last time that each status update was sent."""
    told = []
    for hop in hops:
        if hop.kind not in _QUEUED:
            continue
        tried = attempts.get(hop.details["event_id"])
        if tried is None or tried.first_sent_at is None:
            continue
        details = {name: told for name, told in hop.details.items() if name in _OF_AN_UPDATE}
        common: dict[str, Any] = {"accession_number": hop.accession_number, "source": "gateway", "who": "gateway"}
        told.append(
            Hop(hop="told", kind="told", at=_utc(tried.first_sent_at), details={**details, "attempt": 1}, **common)
        )
        if tried.attempts > 1 and tried.last_sent_at:
            details |= {"attempt": tried.attempts}
            details |= {"last_error": tried.last_error} if tried.last_error else {}
            told.append(
                Hop(hop="told again", kind="told again", at=_utc(tried.last_sent_at), details=details, **common)
            )
    return told


def _shown(
    accession_number: str, queries: Sequence[Query], rows: Sequence[TimelineRow], testers: Collection[str]
) -> list[Hop]:
    """A hop for each run of answers to one modality, between two changes of the item."""
    changes = [_instant(row.committed_at) for row in rows]
    runs: dict[tuple[str, str, str, int], list[Query]] = {}
    for query in queries:
        before = sum(change <= _instant(query.at) for change in changes)
        runs.setdefault((query.calling_ae_title, query.address, query.called_ae_title, before), []).append(query)
    return [
        Hop(
            accession_number=accession_number,
            source="query",
            ae_title=title,
            hop="shown",
            kind="shown",
            at=_utc(run[0].at),
            who=title,
            details={
                "last_at": _utc(max(run, key=lambda query: _instant(query.last_at)).last_at),
                "times": sum(query.times for query in run),
                "address": address,
                "keys": list(dict.fromkeys(key for query in run for key in query.keys)),
                "query_ids": [query.id for query in run],
                **({"is_test": True} if title in testers else {}),
            },
        )
        for (title, address, _, _), run in runs.items()
    ]


# --- latencies


def _measured(hops: Sequence[Hop]) -> list[Hop]:
    """In the order of time, with latencies and spans."""
    ordered = _in_order(hops)
    spans = _spans(ordered)
    measured = []
    for number, hop in enumerate(ordered):
        since_first = _seconds(ordered[0], hop)
        after = _seconds(ordered[number - 1], hop) if number else None
        measured.append(replace(hop, after_seconds=after, since_first_seconds=since_first, spans=spans.get(number, {})))
    return measured


def _in_order(hops: Sequence[Hop]) -> list[Hop]:
    """By time; events keep their order. A click stands right before its reception, whatever that clock says."""
    keyed: list[tuple[datetime, int, int, Hop]] = []
    for number, hop in enumerate(hops):
        anchor = hops[number + 1] if hop.hop == "clicked" else hop
        keyed.append((_instant(anchor.at), hop.hop in ("shown", "told", "told again"), number, hop))
    return [hop for *_, hop in sorted(keyed, key=lambda one: one[:3])]


def _seconds(before: Hop, hop: Hop) -> float:
    return (_instant(hop.at) - _instant(before.at)).total_seconds()


def _spans(hops: Sequence[Hop]) -> dict[int, dict[str, float]]:
    """By the number of the hop where each span ends."""
    found: dict[int, dict[str, float]] = {}

    def span(name: str, begin: int | None, end: int | None) -> None:
        if begin is not None and end is not None:
            found.setdefault(end, {})[name] = _seconds(hops[begin], hops[end])

    listed = _first(hops, lambda hop: hop.hop == "listed")
    if listed is not None and hops[listed].source == "relay":
        clicked = _last(hops[:listed], lambda hop: hop.hop == "clicked")
        received = _last(hops[:listed], lambda hop: hop.hop == "received")
        name = CLICK_TO_LISTED if clicked is not None else RECEIVED_TO_LISTED
        span(name, clicked if clicked is not None else received, listed)
    if listed is not None:
        span(LISTED_TO_SHOWN, listed, _first(hops, _is_shown_to_a_unit))
    completed = _first(hops, lambda hop: hop.hop == "completed")
    if completed is not None:
        uid = hops[completed].details["mpps_instance_uid"]
        span(STARTED_TO_COMPLETED, _first(hops, lambda hop: hop.hop == "started" and _uid(hop) == uid), completed)
    told = _first(hops, lambda hop: hop.hop == "queued" and hop.details.get("status") == "COMPLETED")
    if told is not None:
        event_id = hops[told].details["event_id"]
        end = _first(hops, lambda hop: hop.hop == "acknowledged" and hop.details.get("event_id") == event_id)
        span(COMPLETED_TO_ACKNOWLEDGED, told, end)
    if completed is not None:
        span(COMPLETED_TO_IMAGES, completed, _first(hops, lambda hop: hop.hop == "images"))
    return found


def _is_shown_to_a_unit(hop: Hop) -> bool:
    return hop.hop == "shown" and "is_test" not in hop.details


def _uid(hop: Hop) -> object:
    return hop.details.get("mpps_instance_uid")


def _first(hops: Sequence[Hop], wanted: Any) -> int | None:  # noqa: ANN401  a predicate
    return next((number for number, hop in enumerate(hops) if wanted(hop)), None)


def _last(hops: Sequence[Hop], wanted: Any) -> int | None:  # noqa: ANN401
    return next((number for number in reversed(range(len(hops))) if wanted(hops[number])), None)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _utc(text: str) -> str:
    return _instant(text).astimezone(UTC).isoformat()
