"""Events ↔ stored rows. Fields that identify a person are kept in an envelope `{key_id, sealed}` (design §3.6).

In an open envelope `key_id` is null and `sealed` holds the fields as they are. In a sealed one `key_id` names a key and
`sealed` is cipher text (`gateway.eventstore.sealing`); `apart: true` marks a key of this stream's own. One that came
from an export after its key was destroyed is `{key_id, erased: true}`. All kinds live side by side. The chain is over
the row, so it is over the sealed bytes: an event verifies also when nobody can read it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Set
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent, Transcoder, Transcoding
from eventsourcing.utils import get_topic, resolve_topic

from gateway.errors import EventUnreadable, KeyLost, StoreUnusable
from gateway.eventstore.decoding import decoder
from gateway.eventstore.json_text import writer_of
from gateway.eventstore.sealing import Seal, Sealing

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

    def __init__(self, transcoder: Transcoder, sealing: Sealing | None = None) -> None:
        super().__init__(transcoder)
        self.sealing = sealing

    @cached_property
    def decode(self) -> Callable[[bytes], dict[str, Any]]:
        """Stored JSON → values, as the transcoder does it, but faster."""
        return decoder(self.transcoder)

    @cached_property
    def encode(self) -> Callable[[dict[str, Any]], bytes]:
        """Values → stored JSON, as the transcoder does it, but faster."""
        write = writer_of(cast("JSONTranscoder", self.transcoder).encoder)
        return lambda state: write(state).encode()

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The row: topic and JSON state."""
        state = dict(vars(domain_event))
        originator_id = state.pop("originator_id")
        originator_version = state.pop("originator_version")
        seal: Seal | None = state.pop("seal", None)
        topic = get_topic(type(domain_event))
        identifying = {name: state.pop(name) for name in _identifying(type(domain_event))}
        if identifying:
            place = _place(originator_id, originator_version, topic)
            state[ENVELOPE] = (
                self._sealed(seal, identifying, place) if seal else {"key_id": None, "sealed": identifying}
            )
        class_version = getattr(type(domain_event), "class_version", 1)
        if class_version > 1:
            state["class_version"] = class_version
        encoded = self.encode(state)
        return StoredEvent(originator_id, originator_version, topic, encoded)

    def _sealed(self, seal: Seal, identifying: dict[str, Any], place: str) -> dict[str, Any]:
        sealed = self._required().seal(seal.key_id, self.encode(identifying), place)
        envelope: dict[str, Any] = {"key_id": seal.key_id, "sealed": sealed}
        return {**envelope, "apart": True} if seal.is_apart else envelope

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event; older class versions are brought up to date, erased fields have their class's `ERASED` values.

        Raises `EventUnreadable`, and `KeyLost` when the key file does not fit.
        """
        return self.read(stored_event, None)

    def read(self, stored_event: StoredEvent, opened: Set[type] | None) -> DomainEventProtocol[UUID]:
        """The event, as `to_domain_event` has it; but of other classes than these, without its identifying fields.

        To open an envelope takes longer than all the rest. None: of all classes.
        """
        try:
            return self._read(stored_event, opened)
        except StoreUnusable:
            raise
        except Exception as error:  # noqa: BLE001  a damaged row can break anything: JSON, the topic, a field's type
            raise _unreadable(stored_event, error) from None

    def _read(self, stored_event: StoredEvent, opened: Set[type] | None) -> DomainEventProtocol[UUID]:
        cls = resolve_topic(stored_event.topic)
        state = self.decode(stored_event.state)
        envelope = state.pop(ENVELOPE, None)
        seal = None
        if envelope:
            if opened is not None and cls not in opened and _is_up_to_date(cls, state):
                return self._closed(stored_event, cls, state, envelope)
            if envelope["key_id"] is None:
                state.update(envelope["sealed"])
            else:
                seal = self._opened(stored_event, envelope, state)
        state["originator_id"] = stored_event.originator_id
        state["originator_version"] = stored_event.originator_version
        from_version = state.pop("class_version", 1)
        for version in range(from_version, getattr(cls, "class_version", 1)):
            getattr(cls, f"upcast_v{version}_v{version + 1}")(state)
        if seal:
            self._note(cls, seal, state)
        event: DomainEventProtocol[UUID] = object.__new__(cls)
        object.__setattr__(event, "__dict__", state)
        if seal and not seal.is_erased:
            self._name(event, seal)
        return event

    def _closed(
        self, stored_event: StoredEvent, event_class: type, state: dict[str, Any], envelope: dict[str, Any]
    ) -> DomainEventProtocol[UUID]:
        """An event without what is in its envelope; nobody is known to be named in it."""
        state.pop("class_version", None)
        state["originator_id"] = stored_event.originator_id
        state["originator_version"] = stored_event.originator_version
        key_id = envelope["key_id"]
        if key_id is not None:
            is_erased = bool(envelope.get("erased")) or self._required().is_destroyed(key_id)
            state["seal"] = Seal(key_id, "", bool(envelope.get("apart")), is_erased)
        event: DomainEventProtocol[UUID] = object.__new__(event_class)
        object.__setattr__(event, "__dict__", state)
        return event

    def _opened(self, stored_event: StoredEvent, envelope: dict[str, Any], state: dict[str, Any]) -> Seal:
        """The seal of an event; what was under it goes into its state, unless the key was destroyed."""
        plain = self._unsealed(stored_event, envelope)
        if plain is not None:
            state.update(self.decode(plain))
        return Seal(envelope["key_id"], "", bool(envelope.get("apart")), plain is None)

    @staticmethod
    def _note(event_class: type, seal: Seal, state: dict[str, Any]) -> None:
        state["seal"] = seal
        if seal.is_erased:
            erased: dict[str, Any] = getattr(event_class, "ERASED", {})
            for name in _identifying(event_class):
                value = erased.get(name, "")
                state[name] = dict(value) if isinstance(value, dict) else value

    def _name(self, event: Any, seal: Seal) -> None:  # noqa: ANN401  any of our events
        subject = event.subject()
        if subject and self.sealing:
            event.__dict__["seal"] = seal._replace(patient=self.sealing.pseudonym(subject))

    def _required(self) -> Sealing:
        if self.sealing is None:
            raise KeyLost("an event is sealed, and no key file is at hand", remedy="set GATEWAY_KEYS_PATH")
        return self.sealing

    def open_state(self, stored_event: StoredEvent) -> dict[str, Any]:
        """The state as plain JSON values, the transcoder's markers included, its envelope open, in `sealed`.

        Such a state, encoded again, is a stored event that needs no key. An envelope that nobody can open any more is
        `{key_id, erased: true}`. Raises `EventUnreadable`, and `KeyLost` when the key file does not fit.
        """
        try:
            state: dict[str, Any] = json.loads(stored_event.state)
            envelope = state.get(ENVELOPE)
            if envelope and envelope["key_id"] is not None:
                plain = self._unsealed(stored_event, envelope)
                erased = {"key_id": envelope["key_id"], "erased": True}
                state[ENVELOPE] = erased if plain is None else {"key_id": None, "sealed": json.loads(plain)}
        except StoreUnusable:
            raise
        except Exception as error:  # noqa: BLE001  as above
            raise _unreadable(stored_event, error) from None
        return state

    def _unsealed(self, stored_event: StoredEvent, envelope: dict[str, Any]) -> bytes | None:
        """What was sealed; None when its key was destroyed, here or where it was exported from."""
        if envelope.get("erased"):
            return None
        place = _place(stored_event.originator_id, stored_event.originator_version, stored_event.topic)
        return self._required().unseal(envelope["key_id"], envelope["sealed"], place)


def _place(originator_id: UUID | str, version: int, topic: str) -> str:
    stream = originator_id.hex if isinstance(originator_id, UUID) else originator_id
    return f"{stream}/{version}/{topic}"


def _unreadable(stored_event: StoredEvent, error: Exception) -> EventUnreadable:
    return EventUnreadable(
        f"event {stored_event.originator_version} of stream {stored_event.originator_id} can't be read "
        f"({type(error).__name__})",
        remedy="gateway events verify names the first event that was altered",
    )


def _is_up_to_date(event_class: type, state: dict[str, Any]) -> bool:
    version: int = state.get("class_version", 1)
    return version == getattr(event_class, "class_version", 1)


def _identifying(event_class: type) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(event_class, "IDENTIFYING", ())
    return names


def register_transcodings(transcoder: JSONTranscoder) -> None:
    """What our events hold besides JSON's own types and the library's."""
    transcoder.register(BytesAsBase64())
