"""One COMMIT, and so one sync, for the saves that arrive together.

Whoever finds nobody saving leads: at once, in its own thread, as if there were no others. Who comes meanwhile waits at
its gate; before the leader commits it takes along who waits by then. Then the first of those who came too late leads.
So a single caller pays nothing, nobody waits for company, and what each is answered is on the disk.

The leader's own work comes first and needs no savepoint: when it fails nobody else has begun. Each one taken along has
a savepoint, so that a conflict or a failing projection is undone alone. What ends the transaction ends it for all.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from copy import copy
from typing import Any, Generic, TypeVar

from eventsourcing.persistence import IntegrityError

from gateway.errors import GatewayError, OutcomeUnknown
from gateway.eventstore.connections import PATIENCE, Writer

MOST = 64
"""Saves in one commit, so that the first of them waits for no more than these."""

T = TypeVar("T")
Work = Callable[[sqlite3.Cursor], T]
"""What one save does inside the transaction, perhaps in another's thread."""


class _Save(Generic[T]):
    """One caller's work, its gate, and what became of it."""

    def __init__(self, work: Work[T], deadline: float) -> None:
        self.work = work
        self.deadline = deadline
        self.leads = False
        self.gate = threading.Lock()
        self.gate.acquire()
        self.failure: Exception | None = None
        self._result: list[T] = []

    def do(self, cursor: sqlite3.Cursor) -> None:
        self._result = [self.work(cursor)]

    def answer(self) -> T:
        if self.failure is not None:
            raise self.failure
        return self._result[0]


class SharedCommit:
    """The saves of one process on one writer. Used by many threads."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._mutex = threading.Lock()
        self._is_led = False
        self._waiting: deque[_Save[Any]] = deque()

    @property
    def waiting(self) -> int:
        """How many saves wait to be taken along or to lead."""
        return len(self._waiting)

    def save(self, work: Work[T], patience: float = PATIENCE) -> T:
        """Do `work` inside a transaction and return what it returned, after the commit.

        `work` gets a cursor, and may run in another caller's thread. Raises what `work` raises, and then nothing of it
        is kept, or what `Writer.transaction` raises: when it is the commit that fails, to each whose work was in it.
        """
        self._writer.refuse_inside()
        save = _Save(work, time.monotonic() + patience)
        with self._mutex:
            if self._is_led:
                self._waiting.append(save)
            else:
                self._is_led = save.leads = True
        if not save.leads:
            self._wait(save)
        if save.leads:
            self._lead(save)
        return save.answer()

    # --- one who waits

    def _wait(self, save: _Save[Any]) -> None:
        """Until its work is committed or has failed, or the lead is its own. Raises `Contention`."""
        try:
            if save.gate.acquire(timeout=max(0.0, save.deadline - time.monotonic())):
                return
        except BaseException:  # Ctrl-C, where a command saves in its main thread
            if not self._withdrawn(save) and save.leads:
                self._hand_over()
            raise
        if self._withdrawn(save):
            raise self._writer.held()
        save.gate.acquire()  # too late to go: it was taken along, and how that ends is to be told

    def _withdrawn(self, save: _Save[Any]) -> bool:
        with self._mutex:
            if save not in self._waiting:
                return False
            self._waiting.remove(save)
            return True

    # --- one who leads

    def _lead(self, own: _Save[Any]) -> None:
        """Raises what the leader's own work raises, or what ends the transaction."""
        taken: list[_Save[Any]] = []
        try:
            with self._writer.transaction(max(0.0, own.deadline - time.monotonic())) as cursor:
                own.do(cursor)
                while len(taken) < MOST - 1 and self._takes_along(taken):
                    self._attempt(taken[-1], cursor)
        except BaseException as error:
            for save in taken:
                save.failure = save.failure or _told_to_another(error)
            raise
        finally:
            self._hand_over()
            for save in taken:
                save.gate.release()

    def _takes_along(self, taken: list[_Save[Any]]) -> bool:
        with self._mutex:
            if not self._waiting:
                return False
            taken.append(self._waiting.popleft())
            return True

    def _attempt(self, save: _Save[Any], cursor: sqlite3.Cursor) -> None:
        """Do another's work; when it fails, undo that alone. Raises when SQLite gave up the whole transaction."""
        connection = cursor.connection
        cursor.execute("SAVEPOINT taken_along")
        try:
            with closing(connection.cursor()) as its_own:
                save.do(its_own)
        except Exception as error:
            save.failure = self._writer.translated(error)
            if not connection.in_transaction:
                raise OutcomeUnknown(
                    "the store gave up a commit that several saves shared", remedy="ask again"
                ) from error
            cursor.execute("ROLLBACK TO taken_along")
        cursor.execute("RELEASE taken_along")

    def _hand_over(self) -> None:
        with self._mutex:
            heir = self._waiting.popleft() if self._waiting else None
            self._is_led = heir is not None
            if heir is not None:
                heir.leads = True
                heir.gate.release()


def _told_to_another(error: BaseException) -> Exception:
    """The same failure, for another thread to raise: an exception and its traceback belong to one."""
    if isinstance(error, GatewayError | IntegrityError):
        told = copy(error)
    else:
        told = OutcomeUnknown("a commit that several saves shared was broken off", remedy="ask again")
    told.__cause__ = error
    return told
