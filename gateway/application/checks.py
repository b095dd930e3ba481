"""Whether the store is sound: the chain, the tables, the disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import projections.epochs
from gateway.application.store import APART, PROJECTIONS, Store
from gateway.errors import Contention, GatewayError, StoreUnusable
from gateway.eventstore import chain, positions, proofs, rebuilding
from gateway.eventstore.connections import require_room

T = TypeVar("T")

_HELD_UP_TOO_LONG = 5.0
"""Seconds a save may wait for another process before health says so."""

_TRIAL_PATIENCE = 1.0
"""Seconds the save that health tries may wait: a person waits for the answer."""


class Checks(Store):
    """What an operator, health and the auditor ask of the store itself."""

    def verify_chain(
        self, progress: Callable[[int], None] = lambda _: None, *, anchors: Sequence[chain.Anchor] = ()
    ) -> chain.Verification:
        """Whether every event is as it was written, and as the anchors say."""
        with self.reading() as connection:
            return chain.verify(connection, progress, anchors=anchors)

    def verify_projections(
        self, progress: rebuilding.Progress = lambda _done, _all: None
    ) -> list[rebuilding.Difference]:
        """The first difference of each projection between what is served and what the events say."""
        return rebuilding.compare(self.path, self.mapper, PROJECTIONS, progress, apart=APART)

    def projections_behind(self) -> list[str]:
        """The names of projections that have not taken every event; none, unless something broke."""
        with self.reading() as connection:
            head = chain.head(connection)[0]
            noted = positions.noted(connection)
        return [p.NAME for p in PROJECTIONS if noted.get(p.NAME, (p.VERSION, 0)) < (p.VERSION, head)]

    def check_store(self) -> int:
        """The log's head. Raises `StoreUnusable` when it or the epoch can't be read, or saves fail or are held up."""
        writer = self.datastore.writer
        self.sealing.check()
        if writer.failure or writer.held_up > _HELD_UP_TOO_LONG:
            self.try_a_write()
        with self.reading() as connection:
            projections.epochs.present(connection)
            return chain.head(connection)[0]

    def try_a_write(self) -> None:
        """Write, changing nothing, with room for a few saves and synced to the disk. Raises `StoreUnusable`.

        After a failed save it tells whether the disk has recovered: otherwise health would wait for somebody to ask
        something.
        """
        self._try_a_write(positions.touch)

    def append_and_read_back(self) -> None:
        """Append a row of its own, synced to the disk, and read it by another connection. Raises `StoreUnusable`."""
        appended = self._try_a_write(proofs.append)
        with self.reading() as connection:
            if not proofs.is_there(connection, appended):
                raise StoreUnusable("what was appended can't be read back", remedy="gateway events verify")

    def _try_a_write(self, write: Callable[[sqlite3.Cursor], T]) -> T:
        writer = self.datastore.writer
        try:
            require_room(self.path)
            with writer.transaction(patience=_TRIAL_PATIENCE) as cursor:
                written = write(cursor)
        except Contention as error:
            raise StoreUnusable(f"saves wait in vain: {error.message}", remedy=error.remedy) from error
        except (OSError, GatewayError) as error:
            reason = writer.failure or str(error)
            raise StoreUnusable(f"saves fail: {reason}", remedy="look at the disk: room, rights, health") from error
        writer.recovered()
        return written
