"""What the event store knows of a projection: its tables and one function that writes an event into them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast


class RecordedEvent(NamedTuple):
    """An event and its place in the log.

    `position` counts from 1; `committed_at` is the UTC instant of its commit (ISO 8601), never decreasing.
    """

    position: int
    committed_at: str
    domain_event: Any


class Projection(Protocol):
    """A read model: a module with these names (`projections.worklist` and its neighbours)."""

    @property
    def NAME(self) -> str:  # noqa: N802  the projections are modules, these are their constants
        """Unique and stable."""

    @property
    def VERSION(self) -> int:  # noqa: N802
        """Counted up when `SCHEMA` or `apply` change: the table is then rebuilt at start."""

    @property
    def TABLES(self) -> Sequence[str]:  # noqa: N802
        """The tables it owns; each has a primary key."""

    @property
    def SCHEMA(self) -> Sequence[str]:  # noqa: N802
        """The statements that create them, each `IF NOT EXISTS`."""

    @property
    def CONCERNED(self) -> frozenset[type]:  # noqa: N802
        """The event classes that `apply` does anything about: in a replay it sees no others."""

    @property
    def OPENED(self) -> frozenset[type]:  # noqa: N802
        """Of these, the classes whose `IDENTIFYING` fields `apply` reads: in a replay the others come without them."""

    def apply(self, cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
        """Write one event. Deterministic, and no look at anything but its own tables."""


def as_projection(module: ModuleType) -> Projection:
    """A module that is a projection, with the type it has."""
    return cast("Projection", module)
