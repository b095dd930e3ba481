"""Worklist items, looked at without changing anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar, cast

import projections.timeline
import projections.worklist
from gateway.application.store import Store
from projections.timeline import TimelineRow
from projections.worklist import Version, WorklistFilter, WorklistRow

T = TypeVar("T")

_PORTION = 100
"""Worklist items read at once for an answer of many."""


class Worklist(Store):
    """What modalities, people and the other rooms look up about items."""

    def find_items(self, wanted: WorklistFilter) -> list[WorklistRow]:
        """Worklist items by date and time."""
        with self.reading() as connection:
            return list(projections.worklist.find(connection, wanted))

    def worklist(
        self, wanted: WorklistFilter, known: Callable[[Version], T | None] = lambda _: None
    ) -> Iterator[WorklistRow | T]:
        """Worklist items by date and time, for whoever may take long over many of them (a modality, a network).

        What is found is what was there at the first one. Each item is as it is when it is reached: one that was changed
        meanwhile comes changed, and whoever asks looks at it again. No transaction stays open between two of them, only
        accession numbers are kept in memory, and long answers leave the processor to others most of the time.

        `known` is asked for what is held already of an item at its present version: that comes instead of its row,
        which is not read. Only the first hundred are asked for.

        Raises `TooMuchAsked` when too many ask what no index serves.
        """
        turn = nullcontext() if projections.worklist.is_indexed(wanted) else self._turns.scan()
        with turn, self.reading() as connection:
            versions = projections.worklist.find_versions(connection, wanted, limit=_PORTION)
            first = _read(connection, versions, known)
        yield from first
        if len(versions) == _PORTION:
            yield from self._turns.slowly(self._rest(wanted, {number for number, _ in versions}))

    def _rest(self, wanted: WorklistFilter, seen: set[str]) -> Iterator[WorklistRow]:
        with self._turns.scan(), self.reading() as connection:
            numbers = projections.worklist.find_numbers(connection, wanted)
        rest = [number for number in numbers if number not in seen]
        for begin in range(0, len(rest), _PORTION):
            with self.reading() as connection:
                portion = list(projections.worklist.get(connection, rest[begin : begin + _PORTION]))
            yield from portion

    def count_by_status(self, *, is_test: bool = False) -> dict[str, int]:
        """How many items are in each status; test items are counted apart."""
        with self.reading() as connection:
            return projections.worklist.count_by_status(connection, is_test=is_test)

    def timeline(self, accession_number: str) -> list[TimelineRow]:
        """All that happened to an accession number."""
        with self.reading() as connection:
            return projections.timeline.find(connection, accession_number)


def _read(
    connection: sqlite3.Connection, versions: Sequence[Version], known: Callable[[Version], T | None]
) -> list[WorklistRow | T]:
    """What is known of these items, and the rows of the others, as far as they are still there."""
    held = list(map(known, versions))
    if None not in held:
        return cast("list[WorklistRow | T]", held)
    numbers = [number for (number, _), thing in zip(versions, held, strict=True) if thing is None]
    rows = {row.accession_number: row for row in projections.worklist.get(connection, numbers)}
    either = (rows.get(number) if thing is None else thing for (number, _), thing in zip(versions, held, strict=True))
    return [thing for thing in either if thing is not None]
