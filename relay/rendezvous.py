"""Rendezvous: the listener's meetings with senders, each in a task of its own and all of them bounded.

Laws:

1. Nothing that happens at one rendezvous (a silent sender, a dead address, a raising handler) reaches another one or
   the control channel. ``max_rendezvous`` are with the handler at once; ``max_open`` may be dialled or open, those that
   hang, say nothing or do not read included; the rest queue while their address is still good.
2. Every frame that arrives gets exactly one reply frame.
3. An echo of our own takes no place, waits for none and is not counted: it must come back while all places are taken.
4. Every HTTP request is answered, if only with 501: Azure may block a listener that ignores them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from websockets.exceptions import ConnectionClosed

from relay.connection_string import HybridConnection
from relay.dial import Connection, DialOptions, dial
from relay.errors import DialError, Phase, RelayError, RendezvousError
from relay.proof import MAX_FRAME, Echoes
from relay.protocol import (
    ACCEPT_WINDOW,
    MAX_CONTROL_BODY,
    Accept,
    HttpRequest,
    Request,
    Response,
    check_address,
    explain_close,
    own_query,
    parse_control_message,
    sender_target,
    tracking_id,
)

LOG: Final = logging.getLogger("relay.rendezvous")

S = TypeVar("S")
T = TypeVar("T")

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one hop only (RFC 7230 section 6.1); they stay out of what the relay carries."""


@dataclass(frozen=True, slots=True)
class Message:
    """One frame from a sender.

    Attributes:
        data: The frame: text as ``str``, binary as ``bytes``.
        received_at: When it arrived here (UTC).
        remote: The sender's address, as the relay reports it.
        path: What the sender put behind the hybrid connection's path, such as ``/x``; often empty.
        query: The sender's own query arguments; often empty.
    """

    data: str | bytes = field(repr=False)
    received_at: datetime
    remote: str = ""
    path: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class RelayedRequest:
    """An HTTP request that came through the relay.

    Attributes:
        method: ``GET``, ``POST``, ….
        path: What follows the hybrid connection's path, such as ``/echo``.
        query: Its query without the relay's own arguments.
        headers: Header fields as the relay passes them.
        body: The body; empty when there is none.
        received_at: When it arrived here (UTC).
        remote: The sender's address, as the relay reports it.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_at: datetime
    remote: str = ""


@dataclass(frozen=True, slots=True)
class RelayedReply:
    """The answer to a ``RelayedRequest``. 502 and 504 are the relay's own (protocol guide): 500 is sent for them."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


Handler = Callable[[Message], Awaitable[str]]
RequestHandler = Callable[[RelayedRequest], Awaitable[RelayedReply]]


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousOptions:
    """Bounds of the meetings with senders; times in seconds, sizes in bytes.

    Attributes:
        max_rendezvous: Frames and requests with the handler at once.
        max_open: Rendezvous dialled or open at once; most of them may be waiting for their sender to speak. Each has a
            file descriptor and about 14 kB.
        max_queued: Accepts that may wait for a place; more are let go (their senders see 504).
        accept_window: Age at which a waiting accept is let go; the relay gives it up after 30 s.
        accept_dial: Time to open the rendezvous.
        first_message: Time for the sender to say something.
        next_message: Time for the sender to say more, or to close, after each reply.
        handle: Time for the handler; below the sender's patience, 30 s, so that it still hears ``failure_reply``. What
            the handler has begun in a thread goes on.
        reply: Time for a reply to be taken.
        max_message_size: Largest frame taken; a larger one closes that rendezvous with 1009.
        allowed_suffixes: Host suffixes besides the namespace's own that may be dialled, such as ``.relay.example``.
        failure_reply: Sent when the handler raises or takes too long, so that no frame goes unanswered.
        handle_request: Answers HTTP requests; without it they get 501.
        now: The clock.
    """

    max_rendezvous: int = 64
    max_open: int = 2000
    max_queued: int = 10_000
    accept_window: float = ACCEPT_WINDOW
    accept_dial: float = 10.0
    first_message: float = 10.0
    next_message: float = 10.0
    handle: float = 25.0
    reply: float = 10.0
    max_message_size: int = 4 * 1024 * 1024
    allowed_suffixes: tuple[str, ...] = ()
    failure_reply: str = '{"status": "error", "code": "internal", "retryable": true}'
    handle_request: RequestHandler | None = None
    now: Callable[[], datetime] = utc_now


class Responder(Protocol):
    """The open control channel, as far as answers to HTTP requests need it."""

    async def respond(self, response: Response, body: bytes, seconds: float) -> None:
        """Send a response and its body, nothing in between, within so many seconds.

        Raises:
            ChannelError: the relay did not take it.
        """
        ...


class RendezvousDesk:
    """Takes accepts and requests, meets the senders, counts what came of it."""

    def __init__(
        self,
        connection: HybridConnection,
        handle: Handler,
        options: RendezvousOptions,
        dialling: DialOptions,
        echoes: Echoes,
        note: Callable[[RelayError], None] = lambda _: None,
    ) -> None:
        """``note`` is told of each failure."""
        self._connection = connection
        self._echoes = echoes
        self._handle = handle
        self._note = note
        self._options = options
        self._dialling = dialling
        self._places = asyncio.Semaphore(options.max_open)
        self._hands = asyncio.Semaphore(options.max_rendezvous)
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: set[asyncio.Task[None]] = set()
        self._idle: set[Connection] = set()
        self._closing = False
        self.in_progress = 0
        self.served = 0
        self.failed = 0

    @property
    def queued(self) -> int:
        """How many wait for a place."""
        return len(self._tasks) - self.in_progress

    def admit(self, call: Accept | HttpRequest, channel: Responder) -> None:
        """Meet this sender when there is a place; returns at once."""
        if isinstance(call, Accept) and self._echoes.recognise(call.address, channel):
            self._begin(self._meet_ourselves(call, channel), self._own)
            return
        if self.queued >= self._options.max_queued:
            self._lost(_too_late("more accepts than may wait"))
            return
        self._begin(self._attend(call, channel), self._tasks)

    def _begin(self, work: Coroutine[None, None, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(among.discard)

    async def finish(self, seconds: float) -> None:
        """Let replies that are owed be given, for at most ``seconds``; then cut the rest. Idle meetings end at once."""
        self._closing = True
        partings = [asyncio.create_task(websocket.close()) for websocket in self._idle]
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        await self.abandon()
        await asyncio.gather(*partings)
        self._closing = False

    async def abandon(self) -> None:
        """Cut everything."""
        tasks = self._tasks | self._own
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attend(self, call: Accept | HttpRequest, channel: Responder) -> None:
        try:
            async with self._place():
                await (self._converse(call, channel) if isinstance(call, Accept) else self._answer(call, channel))
        except RelayError as error:
            self._lost(error)
        except Exception:
            self.failed += 1
            LOG.exception("rendezvous_broken")
        else:
            self.served += 1

    async def _meet_ourselves(self, accept: Accept, channel: Responder) -> None:
        try:
            await self._converse(accept, channel, own=True)
        except RelayError as error:
            LOG.debug("echo_not_met", extra=error.details)  # whoever waits for the echo counts the miss

    def _place(self) -> _Place:
        return _Place(self, self._places, self._options.accept_window)

    def _lost(self, error: RelayError) -> None:
        self.failed += 1
        self._note(error)
        LOG.log(logging.DEBUG if _sender_left(error) else logging.WARNING, "rendezvous_failed", extra=error.details)

    # websocket senders

    async def _converse(self, accept: Accept, channel: Responder, *, own: bool = False) -> None:
        hands = nullcontext() if own else self._hands  # an echo of our own waits for nobody
        async with await self._meet(accept.address, accept.subprotocol, MAX_FRAME if own else 0) as websocket:
            suffix, query = sender_target(accept.address, self._connection.path)
            frame = await _receive(websocket, self._options.first_message, Phase.FIRST_MESSAGE)
            while frame is not None:
                async with hands:
                    reply = self._echoes.answer(frame, channel)
                    if reply is None:
                        message = Message(frame, self._options.now(), str(accept.remote or ""), suffix, query)
                        reply = await self._reply_to(message)
                await _send(websocket, reply, self._options.reply)
                frame = await self._next(websocket)

    async def _next(self, websocket: Connection) -> str | bytes | None:
        """Another frame; ``None`` when the sender closed, had its time, or the desk closes."""
        if self._closing:
            return None
        self._idle.add(websocket)
        try:
            frame = await _receive(websocket, self._options.next_message, Phase.REPLY)
        except RendezvousError as error:
            if error.close_code == 1009:
                raise
            return None
        finally:
            self._idle.discard(websocket)
        return None if self._closing else frame  # it came too late to be answered: we have said goodbye

    async def _reply_to(self, message: Message) -> str:
        reply = await self._handled(self._handle, message)
        return self._options.failure_reply if reply is None else reply

    async def _handled(self, handle: Callable[[S], Awaitable[T]], asked: S) -> T | None:
        """What the handler returns; ``None`` when it raises or takes too long, which is logged."""
        try:
            async with asyncio.timeout(self._options.handle) as limit:
                return await handle(asked)
        except Exception as error:  # noqa: BLE001 - the frame gets its reply; the exception's text may hold what the frame carried
            if limit.expired():
                slow = _too_slow(self._options.handle)
                self._note(slow)
                LOG.error("handler_too_slow", extra=slow.details)
            else:
                self._note(_broken())
                LOG.error("handler_failed", extra=_raised(error))
            return None

    async def _meet(self, address: str, subprotocol: str | None = None, least: int = 0) -> Connection:
        check_address(address, self._connection, self._options.allowed_suffixes)
        size = max(self._options.max_message_size, least)
        try:
            return await dial(
                address, self._dialling, subprotocol=subprotocol, max_size=size, within=self._options.accept_dial
            )
        except DialError as error:
            raise _not_met(error) from error

    # HTTP senders

    async def _answer(self, call: HttpRequest, channel: Responder) -> None:
        if call.head.needs_rendezvous:
            async with self._hands:
                websocket = await self._meet(call.head.address)
            async with websocket:
                call = await self._fetch(websocket)
                async with self._hands:
                    await _respond(websocket, call, await self._response_to(call), self._options.reply)
            return
        async with self._hands:
            reply = await self._response_to(call)
            if len(reply.body) <= MAX_CONTROL_BODY:
                await self._respond_on(channel, call, reply)
                return
            websocket = await self._meet(call.head.address)
        async with websocket, self._hands:
            await _respond(websocket, call, reply, self._options.reply)

    async def _respond_on(self, channel: Responder, call: HttpRequest, reply: RelayedReply) -> None:
        try:
            await channel.respond(_response(call, reply), reply.body, self._options.reply)
        except ConnectionClosed as error:
            raise _closed(error, Phase.REPLY, "") from error

    async def _fetch(self, websocket: Connection) -> HttpRequest:
        """The request that was too large for the control channel."""
        wait = self._options.first_message
        head = parse_control_message(await _receive(websocket, wait, Phase.FIRST_MESSAGE) or b"")
        if not isinstance(head, Request) or head.needs_rendezvous:
            raise _fell_short(websocket, "no request came on its rendezvous", Phase.FIRST_MESSAGE, "no_request")
        body = await _receive(websocket, wait, Phase.FIRST_MESSAGE) if head.body else b""
        return HttpRequest(head, body.encode() if isinstance(body, str) else body or b"")

    async def _response_to(self, call: HttpRequest) -> RelayedReply:
        if self._options.handle_request is None:
            return RelayedReply(501, b'{"error": "this listener answers websockets only"}')
        reply = await self._handled(self._options.handle_request, self._request(call))
        if reply is not None and reply.status in _RELAYS_OWN:
            LOG.error("handler_status_refused", extra=_relays_own(reply.status).details)
            reply = None
        return reply or RelayedReply(500, self._options.failure_reply.encode())

    def _request(self, call: HttpRequest) -> RelayedRequest:
        head = call.head
        path, _, query = head.target.partition("?")
        start = f"/{self._connection.path}"
        suffix = path[len(start) :] if path.lower().startswith(start.lower()) else path
        remote = str(head.remote or "")
        return RelayedRequest(
            head.method or "", suffix, own_query(query), head.headers, call.body, self._options.now(), remote
        )


class _Place:
    """A place at the desk: waited for while the accept is young, given back whatever happens."""

    def __init__(self, desk: RendezvousDesk, places: asyncio.Semaphore, window: float) -> None:
        self._desk = desk
        self._places = places
        self._window = window

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(self._window):
                await self._places.acquire()
        except TimeoutError:
            raise _too_late("waited too long for a place") from None
        self._desk.in_progress += 1

    async def __aexit__(self, *_: object) -> None:
        self._desk.in_progress -= 1
        self._places.release()


_RELAYS_OWN: Final = frozenset({502, 504})
_NODES: Final = "Rendezvous go to nodes of the relay: let *.servicebus.windows.net through, not only the namespace."
_SENDING_SIDE: Final = "Look at the sending side."


def _not_met(error: DialError) -> RendezvousError:
    """The same failure, as one of the way to a rendezvous."""
    return RendezvousError(
        f"{error.phase}: {error.message}",
        phase=Phase.ACCEPT_DIAL,
        inner_phase=error.phase,
        **error.facts,
        code=error.code,
        remedy=f"{_NODES} {error.remedy}".strip(),
    )


def _sender_left(error: RelayError) -> bool:
    """Before we came, or before our reply did: its own affair, and it asks again if it wants to know."""
    if error.phase == Phase.ACCEPT_DIAL:
        return error.status in {403, 404, 410}
    return error.phase == Phase.REPLY and error.close_code in {1000, 1001, 1005, 1006}


def _too_slow(seconds: float) -> RendezvousError:
    return RendezvousError(
        f"the handler did not answer within {seconds:g} s",
        phase=Phase.HANDLE,
        code="handler_too_slow",
        remedy="The sender was told to say it again; see what the handler waits for, most often the disk.",
    )


def _broken() -> RendezvousError:
    return RendezvousError(
        "the handler raised an exception",
        phase=Phase.HANDLE,
        code="handler_failed",
        remedy="The sender was told to say it again; the log has the place.",
    )


def _relays_own(status: int) -> RendezvousError:
    return RendezvousError(
        f"the handler of HTTP requests answered {status}, which only the relay may say",
        phase=Phase.HANDLE,
        code="status_refused",
        remedy="The sender was told 500; the handler should say 500 or 503 itself.",
    )


def _too_late(message: str) -> RendezvousError:
    return RendezvousError(
        message, phase=Phase.ACCEPT_DIAL, code="no_place", remedy="Allow more rendezvous at once, or answer faster."
    )


async def _receive(websocket: Connection, seconds: float, phase: Phase) -> str | bytes | None:
    """The next frame; ``None`` when the sender closed politely.

    Raises:
        RendezvousError: in ``phase``, when it did not come or the connection broke.
    """
    try:
        async with asyncio.timeout(seconds):
            return await websocket.recv()
    except TimeoutError:
        raise _fell_short(websocket, "the sender said nothing", phase, "silent") from None
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code in {1000, 1001, 1005}:
            return None
        raise _closed(error, phase, websocket.where) from error


async def _send(websocket: Connection, data: str | bytes, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await websocket.send(data)
    except TimeoutError:
        websocket.transport.abort()  # to close politely is to send, and whoever does not read lets that wait for ever
        raise _fell_short(websocket, "the reply was not taken", Phase.REPLY, "stuck") from None
    except ConnectionClosed as error:
        raise _closed(error, Phase.REPLY, websocket.where) from error


async def _respond(websocket: Connection, call: HttpRequest, reply: RelayedReply, seconds: float) -> None:
    response = _response(call, reply)
    await _send(websocket, response.to_text(), seconds)
    if response.body:
        await _send(websocket, reply.body, seconds)


def _response(call: HttpRequest, reply: RelayedReply) -> Response:
    headers = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
    has_body = bool(reply.body) and call.head.method != "HEAD"
    if has_body:
        headers.setdefault("Content-Type", reply.content_type)
    return Response(call.head.id, reply.status, "", headers, has_body)


def _fell_short(websocket: Connection, message: str, phase: Phase, code: str) -> RendezvousError:
    return RendezvousError(message, phase=phase, code=code, address=websocket.where, remedy=_SENDING_SIDE)


def _closed(error: ConnectionClosed, phase: Phase, where: str) -> RendezvousError:
    frame = error.sent if error.sent is not None and error.sent.code == 1009 else error.rcvd
    meaning = explain_close(frame.code if frame is not None else 1006)
    return RendezvousError(
        meaning.meaning,
        phase=phase,
        close_code=frame.code if frame else 1006,
        code=meaning.code,
        tracking_id=tracking_id(frame.reason) if frame else None,
        address=where or None,
        remedy=_SENDING_SIDE,
    )


def _raised(error: Exception) -> dict[str, str]:
    """Type and place of an exception, without its text."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}", trace.tb_next
    return {"phase": str(Phase.HANDLE), "error": type(error).__name__, "place": place}
