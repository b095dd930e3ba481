"""What is in the event log, for people: which events, each in one line, and one of them whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eventsourcing.utils import get_topic, resolve_topic

from gateway.application import Gateway
from gateway.domain.events import Stream
from gateway.errors import EventUnreadable, InvalidValue, NotFound
from gateway.eventstore import chain, selection
from gateway.eventstore.mapper import ENVELOPE, EnvelopeMapper
from gateway.eventstore.selection import Selection, StoredRow


def _streams() -> list[type[Stream]]:
    return [stream for stream in Stream.__subclasses__() if stream.__module__.startswith("gateway.")]


def topics() -> list[str]:
    """Every kind of event that may be in the log."""
    found = {
        get_topic(event)
        for stream in _streams()
        for event in vars(stream).values()
        if isinstance(event, type) and issubclass(event, Stream.Event) and not event.__subclasses__()
    }
    return sorted(topic for topic in found if not topic.endswith((".Event", ".Snapshot")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events. An empty field asks nothing.

    `kinds` are topics, or streams (`WorklistItem`) for all of theirs. `since` (included) and `until` (excluded) are
    instants as the log writes them. An accession number stands for the whole streams that concern it: also the
    beginning of a performed step that was linked to it later.
    """

    accession_number: str = ""
    kinds: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    from_position: int | None = None
    to_position: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events that are wanted, as the log is now: it may grow meanwhile."""

    selection: Selection
    events: int
    """How many there are, before `limit` cut them."""
    head: int
    anchor: str
    """The log's newest event as `POSITION:HASH`."""


def choose(gateway: Gateway, wanted: Wanted) -> Chosen:
    """Look for the events. Raises `InvalidValue` for a kind that there is not."""
    topics = _topics(wanted.kinds) if wanted.kinds else None
    positions = [row.position for row in gateway.timeline(wanted.accession_number)] if wanted.accession_number else None
    with gateway.reading() as connection:
        head, _, link = chain.head(connection)
        chosen = Selection(
            first=max(
                wanted.from_position or 1,
                selection.last_before(connection, wanted.since) + 1 if wanted.since else 1,
            ),
            last=min(
                head if wanted.to_position is None else wanted.to_position,
                selection.last_before(connection, wanted.until) if wanted.until else head,
            ),
            topics=topics,
            streams=None if positions is None else selection.streams_of(connection, positions),
        )
        _, _, events = selection.extent(connection, chosen)
        if wanted.limit is not None and events > wanted.limit:
            chosen = selection.newest(connection, chosen, wanted.limit)
    return Chosen(chosen, events, head, f"{head}:{link.hex()}")


def _topics(kinds: Sequence[str]) -> tuple[str, ...]:
    found, known = [], topics()
    for kind in (kind.lower() for kind in kinds):
        of_kind = [topic for topic in known if topic.lower() == kind or topic.lower().startswith(f"{kind}.")]
        if not of_kind:
            streams = ", ".join(sorted(get_topic(stream) for stream in _streams()))
            raise InvalidValue(f"--kind: must be one of {streams}, or one of their events", field="kind")
        found += of_kind
    return tuple(found)


def extent(gateway: Gateway, chosen: Selection) -> tuple[int | None, int | None, int]:
    """First and last position, and how many events."""
    with gateway.reading() as connection:
        return selection.extent(connection, chosen)


def rows(gateway: Gateway, chosen: Selection) -> Iterator[StoredRow]:
    """The stored rows, in order."""
    with gateway.reading() as connection:
        yield from selection.rows(connection, chosen)


def row_at(gateway: Gateway, position: int) -> StoredRow:
    """One stored row. Raises `NotFound`."""
    found = next(rows(gateway, Selection(first=position, last=position)), None)
    if found is None:
        raise NotFound(f"there is no event at position {position}", field="position")
    return found


def open_state(gateway: Gateway, row: StoredRow) -> dict[str, Any]:
    """The state as plain JSON, its envelope open. Raises `EventUnreadable`, naming the position."""
    mapper = gateway.mapper
    if not isinstance(mapper, EnvelopeMapper):
        raise TypeError("the store has a mapper of ours")
    try:
        return mapper.open_state(row.event)
    except (EventUnreadable, ValueError, TypeError, AttributeError):
        raise EventUnreadable(
            f"the event at position {row.position} can't be read",
            remedy="gateway events verify names the first event that was altered",
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event in a line: nothing of it identifies anybody."""

    position: int
    committed_at: str
    kind: str
    accession_numbers: tuple[str, ...]
    source: str | None
    ae_title: str | None
    stream: str
    version: int


def line_of(row: StoredRow) -> Line:
    """The line of a row, of one too whose envelope nobody can open any more, or that was altered."""
    try:
        state = json.loads(row.state)
    except (ValueError, TypeError, RecursionError):
        state = None
    values: dict[str, Any] = state if isinstance(state, dict) else {}
    metadata = values.get("metadata")
    known: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    return Line(
        position=row.position,
        committed_at=row.committed_at,
        kind=row.topic,
        accession_numbers=accession_numbers(values),
        source=known.get("source"),
        ae_title=known.get("ae_title"),
        stream=row.stream,
        version=row.version,
    )


def accession_numbers(state: dict[str, Any]) -> tuple[str, ...]:
    """Those that the event is about."""
    concerned = state.get("concerned")
    if isinstance(concerned, list):
        return tuple(map(str, concerned))
    number = state.get("accession_number")
    return (str(number),) if number else ()


def parts_of(topic: str, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A state in three parts: metadata, what it says, and what of that identifies somebody, if it can be read."""
    envelope = state.get(ENVELOPE) or {}
    said = {name: value for name, value in state.items() if name not in ("metadata", ENVELOPE)}
    identifying = dict(envelope.get("sealed") or {})
    for name in getattr(resolve_topic(topic), "IDENTIFYING", ()):
        if name in said:  # as events were stored before their class declared it
            identifying[name] = said.pop(name)
    return state.get("metadata") or {}, said, identifying


def is_erased(state: dict[str, Any]) -> bool:
    """Whether what identified somebody can't be read by anybody any more."""
    return bool((state.get(ENVELOPE) or {}).get("erased"))
