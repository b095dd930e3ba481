"""The operations of one association: one in progress, the others in the order they came (PS3.7 D.3.3.3).

All of it runs on the server's event loop except `_make`, which is a thread's while it answers one operation. When the
peer does not read, the thread goes to others, and another goes on with the operation when it reads again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import cast

from gateway.dicom import operations
from gateway.dicom.caller import failed
from gateway.dicom.deadlines import Deadlines
from gateway.dicom.handover import Handover
from gateway.dicom.operations import Operation, Place, Responses
from gateway.dicom.responder import Responder

_BATCH_BYTES = 64 * 1024
"""Bytes of answers that go out in one write."""

_MOST_HERE = 75
"""Answers made on the event loop: before a hundred items, where a list may have to wait its turn (`Gateway.worklist`).

A list that was short may have grown since; the rest of it is made in a thread.
"""

_STRETCH = 0.002
"""Seconds that one association has the event loop for; then it is the others' turn."""


@dataclass(frozen=True, slots=True)
class Line:
    """The connection that the answers go out on.

    `write` sends bytes; `rested` is told when nothing is in progress, `broken` when an answer could not be made.
    """

    loop: asyncio.AbstractEventLoop
    write: Callable[[bytes], None]
    rested: Callable[[], None]
    broken: Callable[[], None]


class Answering:
    """Answers the requests of one association by `responder`; `lend` has a thread do some work."""

    def __init__(
        self,
        responder: Responder,
        lend: Callable[[Place, Callable[[], None]], Future[None]],
        line: Line,
        deadlines: Deadlines,
    ) -> None:
        self._responder = responder
        self._lend = lend
        self._line = line
        self._deadlines = deadlines
        self._waiting: deque[Operation] = deque()
        self._operation: Operation | None = None
        """The one in progress; `_answers` are its responses if they are made here, the other two if aside."""
        self._answers: Responses | None = None
        self._made = 0
        """How many of them were made here."""
        self._handover: Handover | None = None
        self._future: Future[None] | None = None
        self._paused: Responses | None = None
        """Those made aside, while no thread is at them."""
        self._unwritten: list[bytes] = []
        self._is_due = self._is_stopping = self._has_begun = False

    @property
    def waiting(self) -> int:
        """How many requests wait for the one in progress."""
        return len(self._waiting)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is in progress."""
        return self._operation is None

    @property
    def held(self) -> int:
        """Bytes of data sets of what is not answered."""
        return sum(len(each.message.data_set or b"") for each in self._in_progress())

    def add(self, operation: Operation) -> None:
        """Take a request; `go_on` begins with it when its turn comes."""
        message_id = operation.command.message_id
        operation.is_duplicate = any(each.command.message_id == message_id for each in self._in_progress())
        self._waiting.append(operation)

    def cancel(self, message_id: int) -> None:
        """A C-CANCEL came (PS3.7 9.3.2.3): of the query in progress, of one that waits, or of nothing."""
        for each in self._in_progress():
            if each.command.message_id == message_id:
                each.is_cancelled = True

    def go_on(self) -> None:
        """Answer, as far as there is room and time for it, and write it all at once."""
        self._is_due = False
        until = time.monotonic() + _STRETCH
        while self._can_go_on() and time.monotonic() < until:
            self._step(self._operation or self._waiting.popleft())
        self._flush()
        if self._can_go_on():
            self._go_on_later()
        elif self._operation is None and not self._has_next():
            self._line.rested()

    def room(self) -> None:
        """The peer reads again."""
        self._take()
        self.go_on()

    def stop(self) -> None:
        """Finish the operation in progress, if it has begun, and begin no other."""
        self._is_stopping = True
        if self._future and not self._has_begun and self._future.cancel():
            self.forget()

    def forget(self) -> None:
        """Nobody waits for answers any more."""
        if self._operation:
            self._operation.is_cancelled = True
        if self._future:
            self._future.cancel()
        if self._handover:
            self._handover.close()
        for answers in (self._answers, self._paused):
            if answers:
                answers.close()
        self._waiting.clear()
        self._unwritten.clear()
        self._operation = self._answers = self._handover = self._future = self._paused = None

    def _in_progress(self) -> list[Operation]:
        return [self._operation, *self._waiting] if self._operation else [*self._waiting]

    def _can_go_on(self) -> bool:
        if self._deadlines.blocked is not None:
            return False
        if self._operation is not None:
            return self._answers is not None
        return self._has_next()

    def _has_next(self) -> bool:
        """Whether another request waits for its turn, and will have it."""
        return bool(self._waiting) and not self._is_stopping

    def _go_on_later(self) -> None:
        """After two turns of the loop: sockets are read at the end of one, so what has come by now is seen first."""
        if not self._is_due:
            self._is_due = True
            self._line.loop.call_soon(self._line.loop.call_soon, self.go_on)

    def _step(self, operation: Operation) -> None:
        """Begin with it, or answer more of it."""
        try:
            if operation is self._operation:
                self._answer_here(operation)
            else:
                self._begin(operation)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told, and the others are served on
            self._fail(operation, error)

    def _begin(self, operation: Operation) -> None:
        self._operation = operation
        self._deadlines.operation = self._line.loop.time()
        answers = operations.responses(operation, self._responder)
        place = operations.place(operation, self._responder)
        self._made = 0
        if place is Place.HERE:
            self._answers = answers
        else:
            self._go_on_aside(operation, place, answers)

    def _answer_here(self, operation: Operation) -> None:
        answers = cast("Responses", self._answers)
        batch, is_last = _gathered(answers, _STRETCH, _MOST_HERE - self._made)
        self._unwritten += batch
        self._made += len(batch)
        if is_last:
            self._flush()
            self._finish()
            _wind_up(answers)
        elif self._made >= _MOST_HERE:
            self._answers = None
            self._go_on_aside(operation, Place.SCAN, answers)

    def _go_on_aside(self, operation: Operation, place: Place, answers: Responses) -> None:
        self._handover = Handover(self._tell)
        self._has_begun = self._made > 0
        self._go_aside(place, operation, answers, self._handover)

    def _go_aside(self, place: Place, operation: Operation, answers: Responses, handover: Handover) -> None:
        self._future = self._lend(place, partial(_make, answers, handover))
        self._future.add_done_callback(partial(self._done, operation, answers, handover))

    def _tell(self) -> None:
        """Also in that thread."""
        self._line.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        """Send what a thread has made, unless the peer does not read."""
        if self._handover is None or self._deadlines.blocked is not None:
            return
        made, is_last = self._handover.take()
        self._unwritten.append(made)
        if is_last:
            self._finish()
            self.go_on()
        else:
            self._flush()
            self._resume()

    def _pause(self, operation: Operation, answers: Responses) -> None:
        """The thread has left them: enough is made for now, or nobody wants more."""
        if operation is self._operation:
            self._paused, self._has_begun = answers, True
            self._resume()
        else:
            answers.close()

    def _resume(self) -> None:
        """Have a thread make more, if the peer reads."""
        operation, answers, handover = self._operation, self._paused, self._handover
        if operation and answers and handover and self._deadlines.blocked is None:
            self._paused = None
            self._go_aside(Place.SCAN, operation, answers, handover)

    def _finish(self) -> None:
        self._operation = self._answers = self._handover = self._future = self._paused = None
        self._deadlines.operation = None
        self._deadlines.heard = self._line.loop.time()

    def _done(self, operation: Operation, answers: Responses, handover: Handover, future: Future[None]) -> None:
        """The thread is through; if it failed, or left something to be made, it is told."""
        if future.cancelled():
            answers.close()
            return
        error = future.exception()
        with suppress(RuntimeError):  # the loop is closed
            if error:
                self._line.loop.call_soon_threadsafe(self._fail, operation, error)
            elif not handover.is_over:
                self._line.loop.call_soon_threadsafe(self._pause, operation, answers)

    def _fail(self, operation: Operation, error: BaseException) -> None:
        failed("operation", operation.caller, error)
        if operation is self._operation:
            self._line.broken()

    def _flush(self) -> None:
        if self._unwritten:
            batch = b"".join(self._unwritten)
            self._unwritten.clear()
            self._line.write(batch)


def _make(answers: Responses, handover: Handover) -> None:
    """In a thread: as many answers as are taken, and a few ahead."""
    for pdus, is_final in answers:
        if not handover.put(pdus, is_last=is_final):
            if handover.is_closed:
                answers.close()
            return
    if not handover.is_over:
        handover.put(b"", is_last=True)


def _gathered(answers: Responses, seconds: float, most: int) -> tuple[list[bytes], bool]:
    """The PDUs of one write, made in so many seconds and of at most so many answers, and whether they are the last."""
    batch: list[bytes] = []
    length, until = 0, time.monotonic() + seconds
    for pdus, is_final in answers:
        batch.append(pdus)
        length += len(pdus)
        if is_final or length >= _BATCH_BYTES or len(batch) >= most or time.monotonic() >= until:
            return batch, is_final
    return batch, True


def _wind_up(answers: Responses) -> None:
    """Let the log line and the record be written, which the peer need not wait for."""
    for _ in answers:
        pass
