"""For any history: its export builds the same tables row by row; redacted, the same but for the persons."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from gateway.application import opened
from gateway.audit import export
from gateway.audit.event_log import Wanted
from gateway.audit.replay import replay
from gateway.eventstore import archive, chain
from tests.audit.audit_support import tables, without_persons
from tests.properties.test_any_history import AnyHistory


class AnyHistoryElsewhere(AnyHistory):
    """The rules of any history; what is asked is asked in the end."""

    def teardown(self) -> None:
        try:
            self.taken_whole()
            self.taken_redacted()
            self.taken_as_archives()
        finally:
            super().teardown()

    def taken_whole(self) -> None:
        built = replay(export.lines(self.gateway, Wanted()), self.folder / "whole")
        assert built.positions_kept
        assert tables(built.database) == tables(self.path)
        assert self.log(built.database) == self.log(self.path)
        with opened(built.database) as copy:
            assert copy.caught_up == {}
            assert copy.verify_projections() == []
            assert copy.verify_chain() == self.gateway.verify_chain()

    def taken_redacted(self) -> None:
        built = replay(export.lines(self.gateway, Wanted(), redact=True), self.folder / "redacted")
        assert without_persons(built.database) == without_persons(self.path)
        with opened(built.database) as copy:
            assert copy.verify_projections() == []
            assert copy.verify_chain().intact

    def taken_as_archives(self) -> None:
        """In two parts, cut anywhere: both verify, and they join."""
        with self.gateway.reading() as connection:
            head = chain.head(connection)[0]
            parts = [archive.part_of(connection, max(1, head // 2))]
            parts += [archive.part_of(connection, head, after=parts[0])]
            archives = [list(archive.lines(connection, part, {})) for part in parts if part]
        found = archive.verify(archives)
        assert (found.intact, found.events) == (True, head), found

    def log(self, path: Path) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(
                "SELECT * FROM stored_events JOIN event_chain ON position = stored_events.rowid ORDER BY 1"
            ).fetchall()


AnyHistoryElsewhere.TestCase.settings = settings(
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyHistoryElsewhere = pytest.mark.slow(AnyHistoryElsewhere.TestCase)
