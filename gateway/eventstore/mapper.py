"""Events ↔ stored rows. Fields that identify a person are kept in an envelope `{key_id, sealed}` (design §3.6).

The envelope is open for now: `key_id` is null and `sealed` holds the fields as they are. Once a key is named, `sealed`
is cipher text; rows of both kinds live side by side.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent, Transcoding
from eventsourcing.utils import get_topic, resolve_topic

from gateway.errors import EventUnreadable
from gateway.eventstore.decoding import decoder

ENVELOPE = "envelope"


class BytesAsBase64(Transcoding):
    """Bytes (MPPS attribute lists as received) in JSON."""

    type = bytes
    name = "bytes_base64"

    def encode(self, obj: bytes) -> str:
        """Base64 text."""
        return base64.b64encode(obj).decode()

    def decode(self, data: str) -> bytes:
        """The bytes again."""
        return base64.b64decode(data)


class EnvelopeMapper(Mapper[UUID]):
    """A mapper that puts the identifying fields of an event into its envelope, and takes them out again."""

    @cached_property
    def decode(self) -> Callable[[bytes], dict[str, Any]]:
        """Stored JSON → values, as the transcoder does it, but faster."""
        return decoder(self.transcoder)

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The row: topic and JSON state."""
        state = dict(vars(domain_event))
        originator_id = state.pop("originator_id")
        originator_version = state.pop("originator_version")
        identifying = {name: state.pop(name) for name in _identifying(type(domain_event))}
        if identifying:
            state[ENVELOPE] = {"key_id": None, "sealed": identifying}
        class_version = getattr(type(domain_event), "class_version", 1)
        if class_version > 1:
            state["class_version"] = class_version
        encoded = self.transcoder.encode(state)
        return StoredEvent(originator_id, originator_version, get_topic(type(domain_event)), encoded)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event; older class versions are brought up to date. Raises `EventUnreadable`."""
        try:
            return self._read(stored_event)
        except Exception as error:  # noqa: BLE001  a damaged row can break anything: JSON, the topic, a field's type
            raise _unreadable(stored_event, error) from None

    def open_state(self, stored_event: StoredEvent) -> dict[str, Any]:
        """The state as plain JSON values, the transcoder's markers included, its envelope open, in `sealed`.

        Such a state, encoded again, is a stored event that needs no key. An envelope that nobody can open any more is
        `{key_id, erased: true}`. Raises `EventUnreadable`.
        """
        try:
            state: dict[str, Any] = json.loads(stored_event.state)
        except (ValueError, RecursionError) as error:
            raise _unreadable(stored_event, error) from None
        if not isinstance(state, dict):
            raise _unreadable(stored_event, TypeError())
        return state

    def _read(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        cls = resolve_topic(stored_event.topic)
        state = self.decode(stored_event.state)
        envelope = state.pop(ENVELOPE, None)
        if envelope:
            state.update(envelope["sealed"])
        state["originator_id"] = stored_event.originator_id
        state["originator_version"] = stored_event.originator_version
        from_version = state.pop("class_version", 1)
        for version in range(from_version, getattr(cls, "class_version", 1)):
            getattr(cls, f"upcast_v{version}_v{version + 1}")(state)
        event: DomainEventProtocol[UUID] = object.__new__(cls)
        object.__setattr__(event, "__dict__", state)
        return event


def _unreadable(stored_event: StoredEvent, error: Exception) -> EventUnreadable:
    return EventUnreadable(
        f"event {stored_event.originator_version} of stream {stored_event.originator_id} can't be read "
        f"({type(error).__name__})",
        remedy="gateway events verify names the first event that was altered",
    )


def _identifying(event_class: type) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(event_class, "IDENTIFYING", ())
    return names


def register_transcodings(transcoder: JSONTranscoder) -> None:
    """What our events hold besides JSON's own types and the library's."""
    transcoder.register(BytesAsBase64())
