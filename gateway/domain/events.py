"""What every event of ours carries besides its own facts, and the base of our aggregates.

Events are for decades (design §3.5): each class has an explicit `TOPIC`, and a `class_version` with upcasters once it
changes. `IDENTIFYING` names the fields that identify a person; the store keeps them in an envelope of their own, and
seals it with the key that `subject`, `is_apart` and `relatives` decide. `ERASED` are the values of these fields once
that key is destroyed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from eventsourcing.domain import Aggregate

from gateway import __version__

_NONE: dict[str, Any] = {}
_circumstances: ContextVar[dict[str, Any]] = ContextVar("circumstances", default=_NONE)


@contextmanager
def circumstances(
    *, source: str, correlation_id: str | None = None, causation_id: str | None = None, ae_title: str | None = None
) -> Iterator[None]:
    """Events born inside say where they came from.

    `source` is `relay`, `mpps`, `orthanc`, `operator` or `gateway`; `correlation_id` is what the asker calls the
    request (an action_id, an MPPS SOP Instance UID, a Study Instance UID); `causation_id` what led to this, by default
    the same; `ae_title` the calling AE title.
    """
    token = _circumstances.set(
        {
            "source": source,
            "correlation_id": correlation_id,
            "causation_id": causation_id or correlation_id,
            "ae_title": ae_title,
            "software": __version__,
        }
    )
    try:
        yield
    finally:
        _circumstances.reset(token)


def _metadata() -> dict[str, Any]:
    return {"event_id": uuid4().hex, "recorded_at": datetime.now(UTC).isoformat(), **_circumstances.get()}


class Stream(Aggregate):
    """Base of our aggregates: events with metadata and explicit topics."""

    class Event(Aggregate.Event):
        """Something that happened, with `metadata`: event_id, recorded_at, source, correlation, causation, AE title."""

        IDENTIFYING: ClassVar[tuple[str, ...]] = ()
        ERASED: ClassVar[dict[str, Any]] = {}
        """Field → what is read once the person was erased; "" for a field that is not named here."""

        seal: ClassVar[Any] = None
        """Under which key the store keeps it (`gateway.eventstore.sealing.Seal`); set by the store, never stored."""

        metadata: dict[str, Any] = field(default_factory=_metadata, init=False)

        def subject(self) -> str:
            """The Patient ID of the one person whom it names; "" when it names none."""
            return ""

        def is_apart(self) -> bool:
            """Whether nobody has confirmed yet whom it is about: it then has a key of its own."""
            return False

        def relatives(self) -> Sequence[UUID]:
            """The streams whose person it is about, when it names none itself."""
            return (self.originator_id,)

    class Created(Event, Aggregate.Created):
        """The first event of a stream."""

    @property
    def stream_id(self) -> UUID:
        """The id of the stream."""
        return self.id
