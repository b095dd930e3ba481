"""The database and its key file: opened, brought to the log's head, read, closed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.utils import Environment, EnvType

import projections.epochs
import projections.outbox
import projections.patient_keys
import projections.performed_steps
import projections.received_studies
import projections.timeline
import projections.worklist
import projections.worklist_days
from gateway.errors import KeyLost, KeysUnusable
from gateway.eventstore import rebuilding, replay
from gateway.eventstore.factory import StoreFactory
from gateway.eventstore.projection import as_projection
from gateway.eventstore.recent import Recent
from gateway.eventstore.recorder import Datastore, InlineEventStore
from gateway.eventstore.sealing import KeyIndex, Sealing, default_path
from gateway.eventstore.sequence_mark import SequenceMark
from gateway.eventstore.turns import Turns

PROJECTIONS = tuple(
    as_projection(module)
    for module in (
        projections.worklist,
        projections.worklist_days,
        projections.outbox,
        projections.timeline,
        projections.performed_steps,
        projections.received_studies,
        projections.patient_keys,
        projections.epochs,
    )
)

APART = tuple(
    as_projection(module) for module in (projections.worklist, projections.performed_steps, projections.patient_keys)
)
"""What a second process builds of a long log: those that need to know who it was. It is about half of the work."""

_MOST_RECENT = 256
"""Steps in progress and their items that are kept in memory: more than a site's units have at a time."""


class Store(Application[UUID]):
    """The library's application over our event store: what every room stands on."""

    def __init__(
        self, path: Path, *, report_wrong_entry: bool = False, sealing: bool = False, keys_path: Path | None = None
    ) -> None:
        """Open the database, creating what is missing and bringing the projections to the log's head.

        With `sealing` what identifies a person is sealed from now on; what was sealed before is read in any case, with
        the keys at `keys_path` (by default beside the database). Raises `StoreUnusable` when a file can't be used.
        """
        self.path = path
        index = cast("KeyIndex", projections.patient_keys)
        self.sealing = Sealing(keys_path or default_path(path), index, switched_on=sealing)
        self.report_wrong_entry = report_wrong_entry
        self._listeners: list[Callable[[], None]] = []
        self._turns = Turns()
        self._recent = Recent(_MOST_RECENT)
        super().__init__()
        self.caught_up = replay.catch_up(path, self.datastore.writer, self.datastore.readers, self.mapper, PROJECTIONS)
        self.keys_destroyed = self.destroy_erased_keys()
        self._sequence_mark = SequenceMark(path)

    def close(self) -> None:
        """Let go of the files."""
        super().close()
        self.sealing.close()

    def reading(self) -> Any:  # noqa: ANN401  a context manager over a connection
        """A connection for reading, for as long as the `with` lasts."""
        return self.datastore.readers.connection()

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call the listener after each commit of this process, from the thread that saved: a wake-up only."""
        self._listeners.append(listener)

    def _notify(self, recordings: list[Any]) -> None:
        if recordings:
            for listener in self._listeners:
                listener()

    def give_up_waiting(self) -> None:
        """We stop: saves that wait for another process to let go of the file fail now."""
        self.datastore.writer.give_up()

    # --- the tables and the keys

    def rebuild_projections(self, progress: rebuilding.Progress = lambda _done, _all: None) -> int:
        """Build all projections anew while the service goes on; returns the number of events."""
        return rebuilding.rebuild(self.path, self.datastore.writer, self.mapper, PROJECTIONS, progress, apart=APART)

    def destroy_erased_keys(self) -> int:
        """Destroy what the log orders to destroy and the key file still has; returns how many keys that were.

        At start that is what an interrupted erasure left, or an older key file brought back. The other way round (a
        database from before an erasure, with the key file of after it) the projections, which hold plain text, are
        built anew. Raises `KeyLost`, `KeysUnusable`.
        """
        keys = self.sealing.keys
        if keys is None:
            return 0
        with self.reading() as connection:
            ordered = projections.patient_keys.erased_keys(connection)
            known = projections.patient_keys.known_keys(connection)
        states = keys.states()
        lost = known - states.keys()
        if lost:
            raise KeyLost(
                f"the key file {keys.path} lacks {len(lost)} keys of this database: it is older",
                remedy="put the newest copy of the key file back; this is no erasure: what was erased is known as such",
            )
        self.sealing.forget()
        doomed = [key_id for key_id in ordered if not states.get(key_id, True)]
        destroyed = keys.destroy(doomed) if doomed else 0
        if doomed:
            with suppress(KeysUnusable):  # somebody reads from the key file just now; `gateway erase` insists
                keys.cut_log()
        if any(states[key_id] for key_id in known):
            self.rebuild_projections()
        return destroyed

    # --- the library's hooks

    @property
    def datastore(self) -> Datastore:
        """The connections."""
        return cast("StoreFactory", self.factory).datastore

    @property
    def _events(self) -> InlineEventStore:
        return cast("InlineEventStore", self.events)

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Nothing from the process's environment: `gateway.settings` is its only reader."""
        return Environment(name, env)

    def construct_factory(self, env: Environment) -> InfrastructureFactory:  # noqa: ARG002  the library's own signature
        """Our store."""
        return cast("InfrastructureFactory", StoreFactory(self.path, PROJECTIONS, self.sealing))
