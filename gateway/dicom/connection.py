"""One connection of the asyncio engine: between a transport, the upper layer, and the operations of its association.

All of it runs on the server's event loop except `_answer_aside`, which is a thread's while it answers one operation.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import partial
from math import inf
from typing import Protocol, cast

from gateway.dicom import negotiation, operations
from gateway.dicom.caller import Caller, failed
from gateway.dicom.command_set import C_CANCEL
from gateway.dicom.deadlines import Deadlines, Times
from gateway.dicom.message import Message
from gateway.dicom.negotiation import Agreement, Malformed, Refusal, Request
from gateway.dicom.operations import Operation, Place
from gateway.dicom.responder import Responder
from gateway.dicom.upper_layer import (
    Aborted,
    AbortReason,
    Acceptor,
    AssociationRequested,
    Event,
    MessageReceived,
    ReleaseRequested,
    State,
    Violated,
)

_WAITING = 16
"""Requests of one association that wait for the one in progress; no more is read from a peer that sent so many."""

_BATCH_BYTES = 64 * 1024
"""Bytes of answers that go out in one write."""

_STRETCH = 0.002
"""Seconds that one association has the event loop for; then it is the others' turn."""

_STRETCH_ASIDE = 0.02
"""Seconds of answers that a thread gathers for one write."""

_UNSENT_BYTES = 256 * 1024
"""Bytes that wait for a peer which does not read; no more are made for it."""


class Server(Protocol):
    """What a connection needs of the server it belongs to."""

    loop: asyncio.AbstractEventLoop
    responder: Responder
    times: Times

    def opened(self, connection: Connection) -> None:
        """A peer connected."""

    def refusal(self, request: Request, caller: Caller) -> Refusal | None:
        """Why this association is to be rejected; None when it may be accepted."""

    def accepted(self, connection: Connection) -> None:
        """Its association was accepted."""

    def bears(self, connection: Connection, held: int) -> bool:
        """Whether it may hold so many bytes for the peer, beside what the others hold."""

    def lend(self, place: Place, work: Callable[[], None]) -> Future[None]:
        """Have a thread do the work."""

    def ended(self, connection: Connection) -> None:
        """Its association is over."""

    def closed(self, connection: Connection) -> None:
        """The peer is gone."""


class Connection(asyncio.Protocol):
    """One peer."""

    def __init__(self, server: Server) -> None:
        self.address, self._port = "", 0
        self.caller: Caller | None = None
        """Who it is, as soon as it says."""
        self._server = server
        self._loop = server.loop
        self._transport = cast("asyncio.Transport", None)
        self._acceptor = Acceptor()
        self._agreement: Agreement | None = None
        self._waiting: deque[Operation] = deque()
        self._operation: Operation | None = None
        """The one in progress; `_answers` are its responses if they are made here, `_future` if aside."""
        self._answers: Generator[bytes, None, None] | None = None
        self._future: Future[None] | None = None
        self._unwritten: list[bytes] = []
        self._has_room = threading.Event()
        self._is_stopping = self._is_lost = self._is_full = False
        self._deadlines = Deadlines(server.times, self._loop.time())
        self._taken = (0, 0)
        """PDUs and messages that were whole when it was last looked."""
        self._timer: asyncio.TimerHandle | None = None

    # --- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.address, self._port = str(peer[0]), int(peer[1])
        self._server.opened(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._acceptor.receive(data)
        self._read()

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._deadlines.blocked = self._loop.time()

    def resume_writing(self) -> None:
        """It reads again."""
        self._deadlines.blocked = None
        self._has_room.set()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it is gone changes nothing
        """It is over, whoever ended it."""
        if self._acceptor.is_within_pdu or self._acceptor.is_within_message:
            self._tell("closed the connection within a message")
        self._is_lost = True
        self._forget()
        if self._timer:
            self._timer.cancel()
        self._server.closed(self)

    # --- what the peer sent

    def _read(self) -> None:
        """Take all that has come, then answer: a C-CANCEL is seen before the next answer to what it cancels."""
        self._is_full = False
        while (event := self._acceptor.next_event()) is not None:
            self._take(event)
            if len(self._waiting) >= _WAITING:
                self._is_full = True
                self._transport.pause_reading()
                break
        self._note_time()
        if not self._server.bears(self, self._held()):
            self._give_up("sent more than can be held for it while others do so too")
        self._go_on()

    def _note_time(self) -> None:
        """When the PDU and the message began that are not whole."""
        acceptor, now, deadlines = self._acceptor, self._loop.time(), self._deadlines
        pdus, messages = self._taken
        self._taken = acceptor.pdus, acceptor.messages
        if not acceptor.is_within_pdu or self._is_full:
            deadlines.pdu = None
        elif deadlines.pdu is None or pdus != acceptor.pdus:
            deadlines.pdu = now
        if not acceptor.is_within_message:
            deadlines.message = None
        elif deadlines.message is None or messages != acceptor.messages:
            deadlines.message = now

    def _held(self) -> int:
        return self._acceptor.held + sum(len(each.message.data_set or b"") for each in self._waiting)

    def _take(self, event: Event) -> None:
        match event:
            case MessageReceived(message):
                self._take_message(message)
            case AssociationRequested(pdu):
                self._decide(pdu)
            case ReleaseRequested():
                pass  # it is let go when what it asked before is answered
            case Aborted():
                self._end(b"")
                self._transport.close()
            case Violated(why, abort):
                self._tell(why)
                self._end(abort)

    def _take_message(self, message: Message) -> None:
        command = message.command
        in_progress = [self._operation, *self._waiting] if self._operation else [*self._waiting]
        same = [each for each in in_progress if each.command.message_id == command.message_id]
        if command.field == C_CANCEL:
            for each in same:
                each.is_cancelled = True
            return
        caller, agreement = cast("Caller", self.caller), cast("Agreement", self._agreement)
        context = agreement.contexts[message.context_id]
        self._waiting.append(Operation(caller, context, message, agreement.maximum_length, is_duplicate=bool(same)))

    def _decide(self, pdu: bytes) -> None:
        """Accept or reject the association (PS3.8 9.3.3, 9.3.4)."""
        try:
            request = negotiation.read(pdu)
            self.caller = Caller(request.calling_ae_title, request.called_ae_title, self.address, self._port)
            refusal = self._server.refusal(request, self.caller)
            agreement = None if refusal else negotiation.agree(request)
        except Malformed as error:
            self._tell(f"sent {error}")
            self._end(self._acceptor.abort(AbortReason.INVALID_PARAMETER_VALUE))
            return
        if agreement:
            self._agreement = agreement
            self._unwritten.append(
                self._acceptor.accept(agreement.contexts, negotiation.acceptance(request, agreement))
            )
            self._deadlines.heard = self._loop.time()
            self._server.accepted(self)
            self._server.responder.association_accepted(self.caller, refused_contexts=agreement.refused)
        elif refusal:
            self._server.responder.association_refused(self.caller, reason=refusal.why, remedy=refusal.remedy)
            self._end(self._acceptor.reject(refusal.result, refusal.source, refusal.reason))

    # --- what it is answered

    def _go_on(self) -> None:
        """Answer what waits, as far as there is room and time for it, and write it all at once."""
        until = time.monotonic() + _STRETCH
        while self._can_go_on() and time.monotonic() < until:
            if self._operation is None:
                self._begin(self._waiting.popleft())
            else:
                self._answer_here(self._operation)
        if self._operation is None and (self._is_stopping or not self._waiting):
            self._rest()
        self._flush()
        if self._can_go_on():
            # Sockets are read at the end of a turn of the loop: after two, whatever has come has been taken.
            self._loop.call_soon(self._loop.call_soon, self._go_on)
        elif self._is_full and not self._is_lost and not self._waiting:
            self._transport.resume_reading()
            self._loop.call_soon(self._read)
        self._watch()

    def _can_go_on(self) -> bool:
        if self._deadlines.blocked is not None or self._is_lost or self._acceptor.state is State.OVER:
            return False
        if self._operation is not None:
            return self._answers is not None
        return bool(self._waiting) and not self._is_stopping

    def _begin(self, operation: Operation) -> None:
        self._operation = operation
        self._deadlines.operation = self._loop.time()
        responder = self._server.responder
        answers = operations.responses(operation, responder)
        place = operations.place(operation, responder)
        if place is Place.HERE:
            self._answers = answers
        else:
            self._future = self._server.lend(place, partial(self._answer_aside, operation, answers))

    def _answer_here(self, operation: Operation) -> None:
        try:
            batch, is_last = _gathered(cast("Iterator[bytes]", self._answers), _STRETCH)
        except Exception as error:  # noqa: BLE001  whatever it is, it is told, and the others are served on
            self._fail(operation, error)
            return
        self._unwritten.append(batch)
        if is_last:
            self._finish()

    def _answer_aside(self, operation: Operation, answers: Generator[bytes, None, None]) -> None:
        """In a thread of its own: each batch is written before the next one is made."""
        with closing(answers), suppress(RuntimeError):  # the loop is closed
            try:
                is_last = False
                while not is_last and operation is self._operation:
                    batch, is_last = _gathered(answers, _STRETCH_ASIDE)
                    self._has_room.clear()
                    self._loop.call_soon_threadsafe(self._take_batch, operation, batch, is_last)
                    if not is_last:
                        self._has_room.wait()
            except Exception as error:  # noqa: BLE001  as above
                self._loop.call_soon_threadsafe(self._fail, operation, error)

    def _take_batch(self, operation: Operation, batch: bytes, is_last: bool) -> None:
        if operation is not self._operation:
            self._has_room.set()
            return
        self._unwritten.append(batch)
        if is_last:
            self._finish()
            self._go_on()
            return
        self._flush()
        if self._deadlines.blocked is None:
            self._has_room.set()

    def _finish(self) -> None:
        self._operation = self._answers = self._future = None
        self._deadlines.operation = None
        self._deadlines.heard = self._loop.time()

    def _rest(self) -> None:
        """Nothing is in progress."""
        if self._acceptor.state is State.RELEASING and not self._waiting:
            self._end(self._acceptor.release())
        elif self._is_stopping and self._deadlines.stopping is None:
            self._deadlines.stopping = self._loop.time()

    def _flush(self) -> None:
        if self._unwritten and not self._is_lost:
            self._transport.write(b"".join(self._unwritten))
        self._unwritten.clear()

    # --- the end

    def stop(self) -> None:
        """Finish the operation in progress, if it has begun, and no other; end the association."""
        self._is_stopping = True
        if self._future and self._future.cancel():
            self._forget()
        if self._operation is None:
            if self._acceptor.state in (State.ESTABLISHED, State.RELEASING):
                self._end(self._acceptor.abort())
            self._transport.close()

    def drop(self) -> None:
        """Close the connection without a word."""
        self._transport.abort()

    def _end(self, last_word: bytes) -> None:
        """The association is over; the peer may read the last word and close."""
        self._forget()
        self._unwritten.append(last_word)
        self._flush()
        self._deadlines.over = self._loop.time()
        if self._is_full:
            self._transport.resume_reading()
        self._server.ended(self)

    def _give_up(self, why: str) -> None:
        self._tell(why)
        self._end(self._acceptor.abort())

    def _fail(self, operation: Operation, error: Exception) -> None:
        failed("operation", operation.caller, error)
        if operation is self._operation:
            self._end(self._acceptor.abort())

    def _forget(self) -> None:
        """Nobody waits for answers any more."""
        if self._operation:
            self._operation.is_cancelled = True
        if self._future:
            self._future.cancel()
        if self._answers:
            self._answers.close()
        self._waiting.clear()
        self._operation = self._answers = self._future = None
        self._has_room.set()

    def _tell(self, why: str) -> None:
        if self.caller:
            self._server.responder.association_aborted(self.caller, reason=why)
        else:
            self._server.responder.connection_broken(self.address, reason=why)

    # --- deadlines

    def _watch(self) -> None:
        """See to it that somebody looks at the next deadline; at one that has moved away it is looked in vain."""
        due, _ = self._deadlines.next(self._acceptor.state)
        if due == inf or self._is_lost:
            return
        if self._timer is None or due < self._timer.when():
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        due, why = self._deadlines.next(self._acceptor.state)
        if due <= self._loop.time():
            self._run_out(why)
        self._watch()

    def _run_out(self, why: str) -> None:
        if self._acceptor.state is State.OVER or self._deadlines.blocked is not None:
            if why:
                self._tell(why)
            self._end(self._acceptor.abort())
            self._transport.abort()
        elif self._acceptor.state is State.AWAITING_REQUEST:
            self._tell(why)
            self._end(b"" if not self._acceptor.is_within_pdu else self._acceptor.abort())
            self._transport.close()
        elif why:
            self._give_up(why)
        else:
            self._end(self._acceptor.abort())


def _gathered(answers: Iterator[bytes], seconds: float) -> tuple[bytes, bool]:
    """The PDUs of one write, made in so many seconds, and whether they are the last."""
    batch: list[bytes] = []
    length, until = 0, time.monotonic() + seconds
    for answer in answers:
        batch.append(answer)
        length += len(answer)
        if length >= _BATCH_BYTES or time.monotonic() >= until:
            return b"".join(batch), False
    return b"".join(batch), True
