"""An event's state without what identifies a person, of the same shape: it can be replayed like the one it was.

What identifies is what the event's class declares (`IDENTIFYING`), and besides: the performing physician, who an
operator is, and what an operator writes. A text that stays, such as a description, has pseudonyms in it where it names
somebody who was learned of (`learn`). Accession numbers, UIDs, moments, units and codes stay: who has access to the
site's other systems can still find the person by them.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from eventsourcing.utils import resolve_topic

from gateway.actions.door import digest_of
from gateway.audit.known_persons import KnownPersons
from gateway.dicom import redaction
from gateway.domain.epoch import Epoch
from gateway.domain.erasure import Erasure
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.pseudonyms import Pseudonyms, shape_of
from gateway.domain.received_study import ReceivedStudy
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.mapper import ENVELOPE, BytesAsBase64

State = dict[str, Any]

_ERASURES = (
    Erasure.PersonErased,
    WorklistItem.PersonErased,
    PerformedProcedureStep.PersonErased,
    ReceivedStudy.PersonErased,
)
"""Their `reason` is in clear: it must not name the person, but it is what somebody wrote."""


class Redaction:
    """Takes one export's states, in any order: the same person is the same pseudonym in all of them.

    `learn` takes all of them first, so that names are found wherever else they stand.
    """

    def __init__(self) -> None:
        pseudonyms = Pseudonyms()
        self._pseudonyms = pseudonyms
        self._known = KnownPersons(pseudonyms)
        self._fields: dict[str, Callable[[str], str]] = {
            "nhs_number": pseudonyms.patient_id,
            "patient_id": pseudonyms.patient_id,
            "name": pseudonyms.name,
            "patient_name": pseudonyms.name,
            "performing_physician": pseudonyms.name,
            "birth_date": pseudonyms.birth_date,
            "patient_birth_date": pseudonyms.birth_date,
        }

    def learn(self, topic: str, state: State) -> None:
        """Note who is named where persons are named."""
        for holder in _holders(state):
            for name in getattr(resolve_topic(topic), "IDENTIFYING", ()):
                value = holder.get(name)
                self._learn(name, _parsed(value) if name == "request" and isinstance(value, str) else value)

    def _learn(self, name: str, value: Any) -> None:  # noqa: ANN401  any JSON value
        if isinstance(value, dict):
            for inner_name, inner in value.items():
                self._learn(inner_name, inner)
        elif isinstance(value, list):
            for inner in value:
                self._learn(name, inner)
        elif name in _NAMES and isinstance(value, str):
            self._known.learn_name(value)
        elif name in _IDS and value:
            self._known.learn_id(str(value))

    def state(self, topic: str, state: State) -> State:
        """The redacted copy of a state as the mapper opens it."""
        told = copy.deepcopy(state)
        event_class = resolve_topic(topic)
        identifying = getattr(event_class, "IDENTIFYING", ())
        for holder in _holders(told):
            for name in identifying:
                if name in holder:
                    holder[name] = self._identifying(name, holder[name], told)
        self._staff(event_class, told)
        for name in told.keys() - {ENVELOPE, *identifying}:
            told[name] = self._text(name, told[name])
        return told

    def _text(self, name: str, value: Any) -> Any:  # noqa: ANN401  any JSON value
        """What is open, without anybody whom it names."""
        if isinstance(value, dict):
            return {inner_name: self._text(inner_name, inner) for inner_name, inner in value.items()}
        if isinstance(value, list):
            return [self._text(name, inner) for inner in value]
        return self._known.taken_out(value) if name in _TEXTS and isinstance(value, str) else value

    def _identifying(self, name: str, value: Any, state: State) -> Any:  # noqa: ANN401  any JSON value
        if name == "request" and isinstance(value, str):
            return self._request(value, state)
        if isinstance(value, dict) and value.get("_type_") == BytesAsBase64.name:
            return {**value, "_data_": self._data_set(value["_data_"], state)}
        return self._any(name, value)

    def _data_set(self, encoded: str, state: State) -> str:
        transfer_syntax = str(state.get("transfer_syntax", ""))
        redacted = redaction.redacted(
            base64.b64decode(encoded), transfer_syntax, self._pseudonyms, self._known.taken_out
        )
        return base64.b64encode(redacted).decode("ascii")

    def _request(self, text: str, state: State) -> str:
        """The message, and with it its digest: a repeat of the redacted message is a repeat of that action."""
        message = _parsed(text)
        digest = state.get("digest")
        if message is None:
            told = shape_of(text)
        else:
            redacted = self._object(message)
            told = json.dumps(redacted)  # in ASCII: half a character is no UTF-8
        if isinstance(digest, str) and digest:
            exact = message is not None and digest_of(message) == digest
            state["digest"] = digest_of(json.loads(told)) if exact else self._pseudonyms.digest(digest)
        return told

    def _staff(self, event_class: type, state: State) -> None:
        step = state.get("step")
        if isinstance(step, dict) and step.get("performing_physician"):
            step["performing_physician"] = self._any("performing_physician", step["performing_physician"])
        if issubclass(event_class, _ERASURES):
            _blank_reason(state)
        metadata = state.get("metadata")
        if not isinstance(metadata, dict) or metadata.get("source") != "operator":
            return
        for name in ("correlation_id", "causation_id"):
            if isinstance(metadata.get(name), str) and not _is_uuid(metadata[name]):
                metadata[name] = self._pseudonyms.token(metadata[name])
        if issubclass(event_class, StatusUpdate.Event | Epoch.DeliveryResumed):
            _blank_reason(state)

    def _any(self, name: str, value: Any) -> Any:  # noqa: ANN401  any JSON value
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self._any(name, one) for one in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            replace = self._fields.get(name)
            return replace(value) if replace else self._text(name, _open_or_shape(name, value))
        return self._number(name, value)

    def _number(self, name: str, value: float) -> float:
        """A number where a text belongs may be the text: an NHS number without its quotes."""
        if not isinstance(value, int) or value < 0:
            return 0
        told = self._any(name, str(value))
        return int(told) if told.isdecimal() else 0

    def _object(self, values: State) -> State:
        return {_name(name): self._any(name, value) for name, value in values.items()}


def _blank_reason(state: State) -> None:
    if isinstance(state.get("reason"), str):
        state["reason"] = shape_of(state["reason"])


def _holders(state: State) -> list[State]:
    """Where identifying fields stand: in the envelope, and openly in an event of an old version."""
    envelope = state.get(ENVELOPE)
    erased = isinstance(envelope, dict) and envelope.get("erased")  # and says so: nothing is left to hide
    sealed = envelope.get("sealed") if isinstance(envelope, dict) and not erased else None
    return [sealed, state] if isinstance(sealed, dict) else [state]


def _parsed(text: str) -> State | None:
    """The message as an object; None for what is none, or is none that could be written again."""
    try:
        message = json.loads(text)
        json.dumps(message, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


_NAMES, _IDS = frozenset({"name", "patient_name"}), frozenset({"nhs_number", "patient_id"})
_TEXTS = frozenset(
    {
        "action_id",
        "answer",
        "causation_id",
        "code_meaning",
        "correlation_id",
        "location",
        "message",
        "procedure_code_meaning",
        "reason",
        "study_description",
        "unmatched",
        "warnings",
    }
)
"""Fields in which somebody may have been named, though they are for something else."""

_FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")

_CODE, _TEXT, _WHEN = (
    re.compile(r"[A-Za-z0-9 _.:/-]{0,64}"),
    re.compile(r"[^\x00-\x1f\x7f]{0,64}"),
    re.compile(r"[0-9T:.+Z -]*"),
)
_OPEN = {
    "accession_number": _TEXT,
    "action_id": _TEXT,
    "action_type": _CODE,
    "code": _CODE,
    "code_meaning": _TEXT,
    "code_scheme": _CODE,
    "date": _WHEN,
    "location": _TEXT,
    "modality": _CODE,
    "patient_sex": re.compile(r" *[MFOmfo]? *"),
    "schema_version": _WHEN,
    "sex": re.compile(r" *[MFOmfo]? *"),
    "starts_at": _WHEN,
    "station_ae_title": _CODE,
    "status": _CODE,
    "study_description": _TEXT,
    "time": _WHEN,
}
"""Fields of a message or a person that identify nobody, and what is plausible in them: all others are hidden."""


def _open_or_shape(name: str, value: str) -> str:
    plausible = _OPEN.get(name)
    return value if plausible and plausible.fullmatch(value) else shape_of(value)


def _name(name: str) -> str:
    """Names of fields stay, if they can be such; a name may hold anything in a message that was refused."""
    return name if _FIELD_NAME.fullmatch(name) else shape_of(name)
