"""Insertions that are handed to SQLite many at a time: half the time of one by one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any

_MANY = 100
_PLAIN = re.compile(r"(INSERT [A-Z ]*INTO \w+ VALUES )(\([?, ]+\))")
"""An insertion whose values are all given: rows can be put in a row."""


@cache
def _for_many(statement: str) -> str:
    """The statement that inserts many rows at once; "" where it is none of these."""
    plain = _PLAIN.fullmatch(statement)
    return plain[1] + ",".join([plain[2]] * _MANY) if plain else ""


class CollectingCursor:
    """Takes a cursor's place for one projection. Like insertions wait for each other; anything else comes after them.

    `position` is of the event that is applied; after an error, of the event whose row was refused.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._statement = ""
        self._rows: list[Sequence[Any]] = []
        self._positions: list[int] = []
        self.position = 0

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, once all that waits is written."""
        self.flush()
        return self._cursor.connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Like a cursor's; nothing can be read from an insertion."""
        if statement is not self._statement:
            if self._rows:
                self.flush()
            if not _for_many(statement):
                return self._cursor.execute(statement, values)
            self._statement = statement
        self._rows.append(values)
        self._positions.append(self.position)
        if len(self._rows) == _MANY:
            self.flush()
        return self._cursor

    def flush(self) -> None:
        """Write what waits."""
        rows, self._rows, positions, self._positions = self._rows, [], self._positions, []
        if len(rows) == _MANY:
            try:
                self._cursor.execute(_for_many(self._statement), [value for row in rows for value in row])
            except (sqlite3.Error, ArithmeticError):
                self._one_by_one(rows, positions)
        else:
            self._one_by_one(rows, positions)

    def _one_by_one(self, rows: Sequence[Sequence[Any]], positions: Sequence[int]) -> None:
        applied = self.position
        for self.position, values in zip(positions, rows, strict=True):
            self._cursor.execute(self._statement, values)
        self.position = applied
