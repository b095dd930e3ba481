"""One connection of the asyncio engine: what its transport tells, what its upper layer makes of it, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from typing import Protocol, cast

from gateway.dicom import negotiation
from gateway.dicom.answering import Answering, Line
from gateway.dicom.caller import Caller
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
        self._taken = (0, 0)
        """PDUs and messages that were whole when it was last looked."""
        self._agreement: Agreement | None = None
        self._deadlines = Deadlines(server.times, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        line = Line(self._loop, self._write, self._rested, self._broken)
        self._answering = Answering(server.responder, server.lend, line, self._deadlines)
        self._is_stopping = self._is_lost = self._is_full = False

    # --- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        # Or answers wait 40 ms for an acknowledgement that the peer delays; asyncio does it for its own sockets only.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        self._watch()

    def resume_writing(self) -> None:
        """It reads again."""
        self._deadlines.blocked = None
        self._answering.room()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  why it is gone changes nothing
        """It is over, whoever ended it."""
        self._is_lost = True
        if self._acceptor.is_within_pdu or self._acceptor.is_within_message:
            self._tell("closed the connection within a message")
        self._answering.forget()
        if self._timer:
            self._timer.cancel()
        self._server.closed(self)

    # --- what the peer sent

    def _read(self) -> None:
        """Take all that has come, then answer: a C-CANCEL is seen before the next answer to what it cancels."""
        if self._is_lost:
            return
        while not self._is_full and (event := self._acceptor.next_event()) is not None:
            self._take(event)
            if self._answering.waiting >= _WAITING:
                self._is_full = True
                self._transport.pause_reading()
        self._note_time()
        self._account()
        self._answering.go_on()
        self._watch()

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
        if message.command.field == C_CANCEL:
            self._answering.cancel(message.command.message_id)
        elif self.caller and self._agreement:
            context = self._agreement.contexts[message.context_id]
            self._answering.add(Operation(self.caller, context, message, self._agreement.maximum_length))

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
            self._write(self._acceptor.accept(agreement.contexts, negotiation.acceptance(request, agreement)))
            self._deadlines.heard = self._loop.time()
            self._server.accepted(self)
            self._server.responder.association_accepted(self.caller, refused_contexts=agreement.refused)
        elif refusal:
            self._server.responder.association_refused(self.caller, reason=refusal.why, remedy=refusal.remedy)
            self._end(self._acceptor.reject(refusal.result, refusal.source, refusal.reason))

    def _note_time(self) -> None:
        """When the PDU and the message began that are not whole."""
        acceptor, now, deadlines = self._acceptor, self._loop.time(), self._deadlines
        pdus, messages = self._taken
        self._taken = acceptor.pdus, acceptor.messages
        if not acceptor.is_within_pdu or self._is_full:
            deadlines.pdu = None
        elif deadlines.pdu is None or pdus != acceptor.pdus:
            deadlines.pdu = now
        if not acceptor.is_within_message or self._is_full:
            deadlines.message = None
        elif deadlines.message is None or messages != acceptor.messages:
            deadlines.message = now

    def _account(self) -> None:
        if not self._server.bears(self, self._acceptor.held + self._answering.held):
            self._give_up("sent more than can be held for it while others do so too")

    # --- what it is sent

    def _write(self, pdus: bytes) -> None:
        if not self._is_lost:
            self._transport.write(pdus)

    def _rested(self) -> None:
        """Nothing is in progress."""
        if self._is_lost:
            return
        self._account()
        if self._acceptor.state is State.RELEASING and not self._answering.waiting:
            self._end(self._acceptor.release())
        elif self._is_stopping:
            self._deadlines.stopping = self._deadlines.stopping or self._loop.time()
        elif self._is_full:
            self._is_full = False
            self._transport.resume_reading()
            self._loop.call_soon(self._read)
        self._watch()

    def _broken(self) -> None:
        if not self._is_lost:
            self._end(self._acceptor.abort())

    # --- the end

    def stop(self) -> None:
        """Finish the operation in progress, if it has begun, and no other; end the association."""
        self._is_stopping = True
        self._answering.stop()
        if self._answering.is_at_rest:
            if self._acceptor.state in (State.ESTABLISHED, State.RELEASING):
                self._end(self._acceptor.abort())
            else:
                self._transport.close()

    def drop(self) -> None:
        """Close the connection without a word."""
        self._acceptor.abort()  # it is not the peer who leaves within a message
        self._transport.abort()

    def _give_up(self, why: str) -> None:
        self._tell(why)
        self._end(self._acceptor.abort())

    def _end(self, last_word: bytes) -> None:
        """The association is over; the peer may read the last word and close."""
        self._answering.forget()
        self._write(last_word)
        self._deadlines.over = self._loop.time()
        if self._is_full:
            self._is_full = False
            self._transport.resume_reading()
        if self._is_stopping:
            self._transport.close()
        self._server.ended(self)
        self._account()
        self._watch()

    def _tell(self, why: str) -> None:
        if self.caller:
            self._server.responder.association_aborted(self.caller, reason=why)
        else:
            self._server.responder.connection_broken(self.address, reason=why)

    # --- deadlines

    def _watch(self) -> None:
        """See to it that somebody looks at the next deadline; at one that has moved away it is looked in vain."""
        if self._timer is not None and self._deadlines.are_far:
            return
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
        if why:
            self._tell(why)
        if self._acceptor.state is State.ESTABLISHED and self._deadlines.blocked is None:
            self._end(self._acceptor.abort())
        else:  # there is nobody to tell, or nobody who would read it (PS3.8 9.2.3, AA-2)
            self._acceptor.abort()
            self._answering.forget()
            self._transport.abort()
