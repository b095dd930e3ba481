"""What statements declare, beside what a database has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager


@contextmanager
def declared(statements: Sequence[str]) -> Iterator[sqlite3.Connection]:
    """A database in memory that is exactly as these statements leave an empty one."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection
