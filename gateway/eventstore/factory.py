"""The library's factory, making our parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import AggregateRecorder, EventStore, JSONTranscoder, Mapper, Transcoder
from eventsourcing.sqlite import SQLiteFactory
from eventsourcing.utils import Environment

from gateway.eventstore.mapper import EnvelopeMapper, register_transcodings
from gateway.eventstore.projection import Projection
from gateway.eventstore.recorder import Datastore, InlineEventStore, Recorder
from gateway.eventstore.sealing import Sealing


class StoreFactory(SQLiteFactory):
    """Makes the parts of the event store on one SQLite file. The process's environment is not read."""

    def __init__(self, path: Path, projections: Sequence[Projection], sealing: Sealing | None = None) -> None:
        self.env = Environment()
        self.sealing = sealing
        self.datastore: Datastore = Datastore(path)
        self.projections = projections

    def application_recorder(self) -> Recorder:
        """The recorder, its tables created."""
        recorder = Recorder(self.datastore, self.projections)
        recorder.create_table()
        if self.sealing and self.sealing.begin(self.datastore.readers.connection, self.datastore.writer.transaction):
            self.datastore.writer.delete_securely()
        return recorder

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[Any]] | None = None,  # noqa: ARG002  the library's own signature
    ) -> Mapper[Any]:
        """The mapper with the envelope for identifying fields."""
        transcoder = transcoder or self.transcoder()
        register_transcodings(cast("JSONTranscoder", transcoder))
        return EnvelopeMapper(transcoder, self.sealing)

    def event_store(
        self, mapper: Mapper[Any] | None = None, recorder: AggregateRecorder | None = None
    ) -> EventStore[Any]:
        """The event store with inline projections."""
        store: EventStore[UUID] = InlineEventStore(
            cast("EnvelopeMapper", mapper or self.mapper()), cast("Recorder", recorder or self.application_recorder())
        )
        return store
