"""What an erasure leaves: texts that still name the person, and why they can't be erased.

A text names the person when it holds the Patient ID (blanks do not count, nor parts of a UID), all words of the name,
or one word of it that nobody else is called by. In the person's own items and steps any word of the name does. Words
are compared folded (`gateway.domain.names`). What others are called, and the fields that hold it, tell nothing
of this person.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from gateway.application import Gateway
from gateway.dicom import record
from gateway.domain.names import folded
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.received_study import ReceivedStudy
from gateway.eventstore import chain, replay, selection
from gateway.eventstore.projection import RecordedEvent

LONG_ENOUGH = 6
"""Characters of a Patient ID that is looked for in texts and bytes; a shorter one would be found everywhere."""
_A_WORD, _A_TELLING_WORD = 3, 5
"""Letters of a word of a name that tells something in the person's own events, and anywhere."""
_A_WHOLE_NAME = 2
"""Words."""
_MOST_POSITIONS = 20
_PORTION = 500

NOT_SEALED = "in a field that is never sealed (a description, an action id, the event's circumstances)"
PLAIN = "saved in plain text while GATEWAY_SEALING was off"
NOT_THEIRS = "sealed with another key: what somebody wrote about another appointment, or nobody knows about which"
NO_PATIENT_ID = (
    "a performed step or a study without Patient ID and with no such birth date: before the erasure, gateway steps "
    "link joins a step to an item of this person"
)
SHOWN = "as these events say; gateway projections verify tells of rows that no event explains"
ASKED = "asked for something like this name, by no name or number of this person"

_TABLES = ("worklist_items", "performed_steps", "received_studies", "timeline", "outbox", "activities")
_NAMES = frozenset({"patient_name", "patient_birth_date", "folded_alphabetic", "folded_ideographic", "folded_phonetic"})
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_OF_THE_STORE = frozenset({"seal", "timestamp", "originator_id", "originator_version", "originator_topic"})

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Texts in one place, `events` or a table, that still name the person. `positions` are the first few, of events."""

    place: str
    count: int
    positions: tuple[int, ...] = ()
    why: str


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom to look for. `keys` are those that are or will be destroyed; `streams` and `items` are the person's own."""

    patient_id: str
    names: set[str]
    others: set[str]
    """What other people are called."""
    keys: set[str]
    streams: set[UUID]
    items: frozenset[str]
    id_in: re.Pattern[str] = field(init=False)
    words: frozenset[str] = field(init=False)
    wholes: tuple[frozenset[str], ...] = field(init=False)
    telling: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = [frozenset(words_of(name)) for name in self.names]
        others = {frozenset(words_of(name)) for name in self.others}
        all_words, of_others = frozenset[str]().union(*names), frozenset[str]().union(*others)
        words = frozenset(word for word in all_words if len(word) >= _A_WORD)
        telling = frozenset(word for word in words - of_others if len(word) >= _A_TELLING_WORD)
        wholes = [name for name in names if len(name) >= _A_WHOLE_NAME and not any(name <= other for other in others)]
        known = {"id_in": _spaced(self.patient_id), "words": words, "telling": telling, "wholes": tuple(wholes)}
        for attribute, value in known.items():
            object.__setattr__(self, attribute, value)

    def is_in(self, text: str, *, own: bool) -> bool:
        """Whether the text names the person."""
        if self.has_id(text):
            return True
        plain = text.lower() if text.isascii() else "=".join(folded(text))
        said: set[str] = set()
        if any(word in plain for word in self.words):
            said = set(re.split(r"[\W_]+", plain))
        known = self.words if own else self.telling
        return (
            bool(known & said)
            or any(len(word) >= LONG_ENOUGH and word in plain for word in known)
            or any(name <= said for name in self.wholes)
        )

    def has_id(self, text: str) -> bool:
        """Whether the text holds the Patient ID, spaced or not, and not as a part of a UID or a longer number."""
        return bool(self.id_in.search(text))


def _spaced(patient_id: str) -> re.Pattern[str]:
    signs = patient_id.replace(" ", "")
    if len(signs) < LONG_ENOUGH:
        return re.compile("(?!)")
    return re.compile(rf"(?<![0-9])(?<![0-9]\.){' ?'.join(map(re.escape, signs))}(?!\.?[0-9])")


def words_of(name: str) -> Iterator[str]:
    """The words of a name, folded."""
    for group in folded(name):
        yield from filter(None, re.split(r"[\W_]+", group))


def look(gateway: Gateway, person: Person, progress: Progress = lambda _done, _all: None) -> list[Remaining]:
    """What the events and the record of queries will still say of the person when `person.keys` are destroyed."""
    found: dict[str, list[int]] = {}
    with gateway.reading() as connection:
        head, _, _ = chain.head(connection)
        for event in replay.read(connection, gateway.mapper, until=head):
            why = _why(event, person)
            if why:
                found.setdefault(why, []).append(event.position)
            if event.position % 1000 == 0:
                progress(event.position, head)
    return [
        Remaining(place="events", count=len(positions), positions=tuple(positions[:_MOST_POSITIONS]), why=why)
        for why, positions in found.items()
    ]


def look_at_tables(gateway: Gateway, person: Person) -> list[Remaining]:
    """What the tables and the record of queries say of the person, now."""
    counts = {table: sum(_rows(gateway, table, person)) for table in _TABLES}
    told = [Remaining(place=table, count=count, why=SHOWN) for table, count in counts.items() if count]
    asked = sum(_queries(gateway, person))
    return [*told, Remaining(place="queries", count=asked, why=ASKED)] if asked else told


def _why(event: RecordedEvent, person: Person) -> str:
    """Why the event will go on naming the person; "" when it does not."""
    happened: Any = event.domain_event
    own = _is_own(happened, person)
    values = {name: value for name, value in vars(happened).items() if name not in _OF_THE_STORE}
    identifying = {name: values.pop(name) for name in happened.IDENTIFYING if name in values}
    if "request" in identifying:
        identifying["request"] = _message(identifying["request"])
    if person.is_in("\n".join(_texts(values)), own=own):
        return NOT_SEALED
    seal = happened.seal
    if not identifying or (seal and (seal.is_erased or seal.key_id in person.keys)):
        return ""
    text, subject = "\n".join(_texts(identifying)), happened.subject()
    is_other = bool(subject) and subject != person.patient_id
    if not (person.has_id(text) if is_other else person.is_in(text, own=own)):
        return ""
    if isinstance(happened, PerformedProcedureStep.Started | ReceivedStudy.Received) and not subject:
        return NO_PATIENT_ID
    return NOT_THEIRS if seal else PLAIN


def _message(text: str) -> Any:  # noqa: ANN401  any JSON value
    """A message without JSON's escapes, also one that is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def _is_own(happened: Any, person: Person) -> bool:  # noqa: ANN401  any of our events
    if happened.originator_id in person.streams or any(one in person.streams for one in happened.relatives()):
        return True
    return getattr(happened, "accession_number", None) in person.items


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401  any JSON value, or bytes
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes):
        yield _as_text(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _as_text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _rows(gateway: Gateway, table: str, person: Person) -> Iterator[bool]:
    """For each row whether it names the person."""
    with gateway.reading() as connection:
        for values in selection.whole_table(connection, table):
            is_other = values.get("patient_id", "") not in ("", person.patient_id)
            numbers = {values.get("accession_number"), *json.loads(values.get("accession_numbers") or "[]")}
            told = [value for name, value in values.items() if not (is_other and name in _NAMES)]
            yield person.is_in("\n".join(_texts(told)), own=not person.items.isdisjoint(numbers))


def _queries(gateway: Gateway, person: Person) -> Iterator[bool]:
    last = 0
    while True:
        with gateway.reading() as connection:
            queries = record.after(connection, last, _PORTION) if record.has_record(connection) else []
        if not queries:
            return
        last = queries[-1].id
        for query in queries:
            content = record.opened(query, gateway.sealing).identifier
            yield content is not None and person.is_in(_as_text(content), own=False)
