"""Load, decide and save inside one retry: what every use case that changes something is made of."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from random import uniform
from typing import Any, TypeVar, cast
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError
from eventsourcing.persistence import IntegrityError

from gateway.application.sequences import Sequences
from gateway.domain.events import Stream
from gateway.domain.lifecycle import Status, StepStatus
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import Contention, NotFound

_GOING_ON = (StepStatus.IN_PROGRESS, Status.IN_PROGRESS)

_TRIES = 25

_LONGEST_PAUSE = 0.01
"""Seconds between two of them at most."""

T = TypeVar("T")
S = TypeVar("S", bound=Stream)
Decision = tuple[T, list[Stream]]
"""What to answer, and the streams whose new events to save."""


class Deciding(Sequences):
    """Decisions on fresh state, saved whole; decided again when somebody else was faster."""

    def _retry(self, decide: Callable[[], Decision[T]]) -> T:
        """Decide on fresh state and save; when somebody else was faster, decide again."""
        for pauses_left in reversed(range(_TRIES)):
            try:
                answer, streams = decide()
                self._cover_sequences(streams)
                self._save(streams)
            except IntegrityError as error:
                if not pauses_left:
                    raise Contention("the item was changed by others on every try", remedy="ask again") from error
                time.sleep(uniform(0, _LONGEST_PAUSE))  # noqa: S311  no secret: so that two don't meet again
            else:
                self._keep_unfinished(streams)
                return answer
        raise AssertionError("unreachable: the last try returns or raises")

    def _save(self, streams: Sequence[Stream]) -> None:
        """As the library's `save`, without looking each stream and event through for its protocols' methods."""
        self._notify(self.events.put([event for stream in streams for event in stream.collect_events()]))

    def save_within(self, cursor: sqlite3.Cursor, streams: Sequence[Stream]) -> None:
        """Save inside a transaction of the writer's: for a decision over the log as it is then."""
        events = [event for stream in streams for event in stream.collect_events()]
        self._events.put_within(cursor, events)
        self._recent.clear()  # an erasure, most often: nothing of the person is to stay in memory

    def _keep_unfinished(self, streams: Sequence[Stream]) -> None:
        """Steps that go on and their items: the next message is about them."""
        for stream in streams:
            if isinstance(stream, PerformedProcedureStep | WorklistItem) and stream.status in _GOING_ON:
                self._recent.keep(stream.id, stream)

    def load(self, stream: type[S], stream_id: UUID) -> S | None:
        """What a stream amounts to; None when there is no such stream."""
        return self._load(stream, stream_id)

    def _load(self, _stream: type[S], stream_id: UUID) -> S | None:
        try:
            found = cast("S", self.repository.get(stream_id, projector_func=_replayed))
        except AggregateNotFoundError:
            return None
        if isinstance(found, WorklistItem):
            found.count_above(self._sequence_floor)
        return found

    def _item(self, accession_number: str) -> WorklistItem:
        item = self._load(WorklistItem, WorklistItem.create_id(accession_number))
        if item is None:
            raise NotFound("there is no item with this accession number", field="accession_number")
        return item

    def _recent_item(self, accession_number: str) -> WorklistItem:
        """The item, perhaps behind the log: for decisions that save an event of it in any case."""
        item: WorklistItem | None = self._recent.take(WorklistItem.create_id(accession_number))
        return item or self._item(accession_number)


def _replayed(stream: Any, events: Iterable[Any]) -> Any:  # noqa: ANN401  the library's own signature
    for event in events:
        stream = event.mutate(stream)
    return stream


def now() -> str:
    """The moment of a decision, as events keep it."""
    return datetime.now(UTC).isoformat()
