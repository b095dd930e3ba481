"""What the gateway's database says, read from a copy while nobody writes into it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Happened:
    """A row of the timeline."""

    accession_number: str
    kind: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Owed:
    """A row of the outbox."""

    accession_number: str
    sequence: int
    status: str
    state: str


@dataclass(frozen=True)
class Item:
    """A row of the worklist."""

    status: str
    scheduled_time: str


@dataclass
class Books:
    """Timeline, outbox and attempts (by event_id), items (by accession number)."""

    timeline: list[Happened] = field(default_factory=list)
    outbox: dict[str, Owed] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Books:
        """Everything in a database."""
        with contextlib.closing(sqlite3.connect(path)) as database:
            rows = database.execute("SELECT accession_number, kind, details FROM timeline ORDER BY position")
            timeline = [Happened(number, kind, json.loads(details)) for number, kind, details in rows]
            owed = database.execute("SELECT event_id, accession_number, sequence, status, state FROM outbox")
            outbox = {row[0]: Owed(*row[1:]) for row in owed}
            attempts = dict(database.execute("SELECT event_id, attempts FROM delivery_attempts"))
            listed = database.execute("SELECT accession_number, status, scheduled_time FROM worklist_items")
            return cls(timeline, outbox, attempts, {row[0]: Item(*row[1:]) for row in listed})

    def in_state(self, state: str) -> set[str]:
        """The events of the outbox in a state."""
        return {event_id for event_id, owed in self.outbox.items() if owed.state == state}

    def settling_attempts(self) -> dict[str, int]:
        """The number of the attempt whose answer settled an event, for each that is settled."""
        return {
            happened.details["event_id"]: happened.details["attempts"]
            for happened in self.timeline
            if happened.kind in ("StatusUpdate.Acknowledged", "StatusUpdate.Parked") and "attempts" in happened.details
        }


def copied(database: Path, folder: Path) -> Path:
    """The database and its log, as the dead left them."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for path in database.parent.glob(f"{database.name}*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, folder / path.name)
    return folder / database.name
