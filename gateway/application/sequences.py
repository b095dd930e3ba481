"""The `sequence` of status events only ever grows, also after an older backup is restored."""

from __future__ import annotations

from functools import cached_property

import projections.epochs
import projections.outbox
from gateway.application.store import Store
from gateway.domain.events import Stream
from gateway.domain.worklist_item import WorklistItem
from projections.epochs import EpochRow


class Sequences(Store):
    """The floor that a restore sets, and the mark in a file beside the database."""

    def restored(self) -> EpochRow | None:
        """The restore of a backup that began the present epoch of the log; None when none ever was.

        Raises `StoreUnusable` when its row was altered by hand, until a rebuild.
        """
        with self.reading() as connection:
            return projections.epochs.present(connection)

    @cached_property
    def _sequence_floor(self) -> int:
        """Read once: a restore lets nobody have the database open. And only when asked, so that a rebuild can begin."""
        epoch = self.restored()
        return epoch.sequence_floor if epoch else 0

    def keep_sequence_mark(self, sequence: int = 0) -> None:
        """Make sure that the file beside the database covers this `sequence` and all there ever were.

        Raises `DiskFull`, `OutcomeUnknown`, `Contention`.
        """
        with self.datastore.writer.transaction() as cursor:  # its lock: two processes don't overtake each other
            known = max(projections.outbox.highest_sequence(cursor), self._sequence_floor)
            self._sequence_mark.cover(sequence, known)

    def _cover_sequences(self, streams: list[Stream]) -> None:
        """Before a `sequence` is committed, the mark outside the database is not below it."""
        highest = max((item.update_sequence for item in streams if isinstance(item, WorklistItem)), default=0)
        if highest > self._sequence_mark.kept:
            self.keep_sequence_mark(highest)
