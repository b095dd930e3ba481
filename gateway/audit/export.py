"""The record as text: JSON Lines, a header first, then one event a line, that `gateway.audit.replay` reads.

An event's line holds its position, the instant of its commit, its stream and version, its topic, and its state as the
log has it, with the envelope open. Redacted, the same without what identifies a person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from gateway import __version__
from gateway.application import Gateway
from gateway.audit import event_log
from gateway.audit.event_log import Chosen, Wanted
from gateway.audit.redaction import Redaction

FORMAT, VERSION = "worklist-gateway events", 1

_HOW_OFTEN = 500
"""Events between two reports of progress."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line. `whole`: every event of the log up to `anchor` (`POSITION:HASH`, its head then) is there."""

    format: str
    version: int
    software: str
    exported_at: str
    events: int
    first_position: int | None
    last_position: int | None
    whole: bool
    redacted: bool
    anchor: str
    filters: dict[str, Any]


def lines(
    gateway: Gateway, wanted: Wanted, *, redact: bool = False, progress: Progress = lambda _done, _all: None
) -> Iterator[str]:
    """The lines of an export, without their ends. Raises `EventUnreadable` at an event that can't be read."""
    chosen = event_log.choose(gateway, wanted)
    header = _header(gateway, wanted, chosen, redacted=redact)
    yield _line(asdict(header))
    redaction = Redaction() if redact else None
    if redaction:
        for row in event_log.rows(gateway, chosen.selection):
            redaction.learn(row.topic, event_log.open_state(gateway, row))
    for done, row in enumerate(event_log.rows(gateway, chosen.selection), 1):
        state = event_log.open_state(gateway, row)
        yield _line(
            {
                "position": row.position,
                "committed_at": row.committed_at,
                "stream": row.stream,
                "version": row.version,
                "topic": row.topic,
                "state": redaction.state(row.topic, state) if redaction else state,
            }
        )
        if done % _HOW_OFTEN == 0:
            progress(done, header.events)


def _header(gateway: Gateway, wanted: Wanted, chosen: Chosen, *, redacted: bool) -> Header:
    first, last, events = event_log.extent(gateway, chosen.selection)
    return Header(
        format=FORMAT,
        version=VERSION,
        software=__version__,
        exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        events=events,
        first_position=first,
        last_position=last,
        whole=events == chosen.head,
        redacted=redacted,
        anchor=chosen.anchor,
        filters={name: value for name, value in asdict(wanted).items() if value not in ("", (), None)},
    )


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
