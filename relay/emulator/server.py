"""The emulator: who listens where, who asks for whom, and what they are answered."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Self
from urllib.parse import quote

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol

from relay.connection_string import ConnectionString, HybridConnection, Namespace
from relay.dial import WIRE
from relay.emulator.access import AccessKey, Gatekeeper, Grant, Right
from relay.emulator.admin import PREFIX, Admin
from relay.emulator.calls import Call, Refusal, phrase, tracked, utc_now
from relay.emulator.control import ControlEnd
from relay.emulator.door import Door
from relay.emulator.faults import Fault, Faults
from relay.emulator.http import Exchange, HttpFront
from relay.emulator.log import RelayLog, What
from relay.emulator.rendezvous import Meeting
from relay.emulator.tampering import Tampering
from relay.errors import ConfigurationError
from relay.protocol import ACCEPT_WINDOW, Accept
from relay.tokens import SharedAccessKey

REACHED_AT: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound

LOG: Final = logging.getLogger("relay.emulator")

BACKLOG: Final = 2048
"""Connections that may wait for asyncio to take them: room for a burst of senders and the listener's answers to it."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A hybrid connection of the emulator.

    Attributes:
        path: Its name; letter case makes no difference.
        requires_client_authorization: Whether senders need a token. Listeners always do.
    """

    path: str
    requires_client_authorization: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorOptions:
    """How the emulator behaves; times in seconds, sizes in bytes. The defaults are Azure's.

    Attributes:
        accept_window: Time for a listener to come to a rendezvous; then its sender gets 504.
        token_grace: Time an open control channel outlives its token; new handshakes get none.
        max_listeners: Control channels per hybrid connection; one more is refused with 429.
        max_message_size: Largest websocket message and HTTP body carried.
        http_timeout: Time for a listener to answer an HTTP request; then its sender gets 504.
        accepts_bearer: Judges Microsoft Entra tokens; without it none is valid.
        tls: Serves ``wss`` and ``https`` with this instead of ``ws`` and ``http``.
        now: The clock that tokens are checked with.
    """

    accept_window: float = ACCEPT_WINDOW
    token_grace: float = 300.0
    max_listeners: int = 25
    max_message_size: int = 64 * 1024 * 1024
    http_timeout: float = 60.0
    accepts_bearer: Callable[[str], bool] | None = None
    tls: ssl.SSLContext | None = None
    now: Callable[[], datetime] = utc_now


@dataclass(slots=True)
class _Place:
    """A hybrid connection with its open control channels."""

    entity: Entity
    channels: set[ControlEnd] = field(default_factory=set)

    @property
    def listeners(self) -> list[ControlEnd]:
        """Whoever listens on it now, as far as the relay knows."""
        return [end for end in self.channels if end.registered]


class Emulator:
    """Azure Relay on this machine.

    Args:
        host: Interface to bind to.
        port: TCP port; 0 takes any free one, see ``port``.
        hybrid_connections: Their names, or `Entity` to say more.
        keys: Key, or `AccessKey` with fewer rights, by policy name.
        options: Bounds and times.

    Raises:
        ConfigurationError: if a name or a key could never work.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        hybrid_connections: Iterable[str | Entity],
        keys: Mapping[str, str | AccessKey],
        options: EmulatorOptions | None = None,
    ) -> None:
        self.host = host
        self.options = options or EmulatorOptions()
        self.log = RelayLog()
        self.faults = Faults(self._control_ends, lambda path: self._find(path) is not None)
        self._tampering = Tampering(self.faults, self._say_again)
        self._admin = Admin(self)
        self._port = port
        self._keys = dict(keys)
        self._gatekeeper = Gatekeeper(keys, self.options.accepts_bearer, self._clock, self._shown_clock)
        entities = [item if isinstance(item, Entity) else Entity(item) for item in hybrid_connections]
        _check_names(entities)
        _check_keys(self._keys)
        self._places = {entity.path.strip("/").lower(): _Place(entity) for entity in entities}
        self._meetings: dict[str, Meeting] = {}
        self._exchanges: dict[str, Exchange] = {}
        self._http = HttpFront(
            self._answer_http, secure=self.options.tls is not None, max_body=self.options.max_message_size
        )
        self._changed = asyncio.Event()
        self._waiting: set[Door] = set()
        self._server: Server | None = None

    # life

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            OSError: if the port cannot be bound.
        """
        self._server = await serve(
            _serve_door,
            self.host,
            self._port,
            ssl=self.options.tls,
            backlog=BACKLOG,
            compression=None,
            process_request=self._process_request,
            select_subprotocol=_select_subprotocol,
            create_connection=partial(Door, http=self._http.serve, waiting=self._waiting),  # type: ignore[arg-type]
            open_timeout=self.options.accept_window + 10,
            ping_interval=None,
            close_timeout=3,
            max_size=self.options.max_message_size,
            logger=WIRE,
        )
        self._port = self.port

    async def stop(self) -> None:
        """Close everything with 1001 and free the port. It can be started again, on the same port."""
        server, self._server = self._server, None
        if server is None:
            return
        self.faults.end()
        server.close(code=1001, reason=tracked("The relay is going away."))
        for door in list(self._waiting):
            door.turn_away()
        for meeting in list(self._meetings.values()):
            meeting.end()
        await self._http.close()
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # what tests and demonstrations ask

    @property
    def port(self) -> int:
        """The port that is bound; 0 before the first start when any free one was asked for."""
        if self._server is None:
            return self._port
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def namespace(self) -> Namespace:
        """Where it is."""
        host = REACHED_AT.get(self.host, self.host)
        return Namespace(host, self.port, self.options.tls is not None)

    def credential(self, key_name: str) -> SharedAccessKey:
        """The key of that name.

        Raises:
            ConfigurationError: if there is none.
        """
        key = self._keys.get(key_name)
        if key is None:
            raise ConfigurationError(f"the emulator has no key named {key_name}")
        return SharedAccessKey(key_name, key.key if isinstance(key, AccessKey) else key)

    def connection_string(self, key_name: str, path: str | None = None) -> str:
        """A connection string that leads here. It holds the key."""
        return ConnectionString(self.namespace, self.credential(key_name), path).format()

    def hybrid_connection(self, path: str, key_name: str) -> HybridConnection:
        """A hybrid connection of this emulator, for a listener or sender."""
        return HybridConnection(self.namespace, path, self.credential(key_name))

    @property
    def paths(self) -> list[str]:
        """The names of the hybrid connections."""
        return [place.entity.path for place in self._places.values()]

    @property
    def key_names(self) -> list[str]:
        """The names of the keys."""
        return list(self._keys)

    def check(self, call: Call, right: Right) -> None:
        """Let a call pass that is about the relay itself.

        Raises:
            Refusal: 401 without a valid token for the whole namespace, 403 without the right.
        """
        self._gatekeeper.check(replace(call, path=""), right, self.options.now())

    def listeners(self, path: str) -> int:
        """How many listen there now."""
        return len(self._places[path.strip("/").lower()].listeners)

    async def wait_for_listeners(self, path: str, count: int = 1) -> None:
        """Return as soon as that many listen there."""
        while self.listeners(path) != count:
            self._changed.clear()
            await self._changed.wait()

    def _control_ends(self) -> list[ControlEnd]:
        return [end for place in self._places.values() for end in place.channels]

    # handshakes

    async def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        assert isinstance(connection, Door)  # noqa: S101 - we made it
        call: Call | None = None
        asked_at = time.monotonic()
        try:
            secure = self.options.tls is not None
            call = Call.read(request.path, request.headers, secure=secure, peer=connection.remote_address)
            await self._show_faults(call, connection)
            await self._admit(connection, call)
        except Refusal as refusal:
            self._note(call, refusal.status, asked_at)
            return refusal.response(call)
        self._note(call, 101, asked_at)
        return None

    def _clock(self, path: str) -> datetime:
        """The relay's clock, by which a token is judged; it may be wrong."""
        return self._skewed(self.faults.strike("skewed-clock", path))

    def _shown_clock(self, path: str) -> datetime:
        """What the relay says its clock is where it judges nothing by it."""
        return self._skewed(self.faults.looming("skewed-clock", path))

    def _skewed(self, skew: Fault | None) -> datetime:
        return self.options.now() + timedelta(seconds=skew.seconds() if skew else 0.0)

    async def _show_faults(self, call: Call, door: Door | None = None) -> None:
        """Leave a request unanswered or refuse it, if that fault is in force."""
        hang = self.faults.strike("hang", call.path, on=call.action or "connect")
        if hang is not None:
            await self._hang(hang, door)
        refusal = self.faults.strike("reject", call.path, on=call.action or "connect")
        if refusal is not None:
            status, retry_after = refusal.number("status"), refusal.number("retry_after")
            raise Refusal(status, f"{phrase(status)}: The emulator was told to refuse", retry_after=retry_after or None)

    async def _hang(self, fault: Fault, door: Door | None) -> None:
        """Leave it unanswered until the fault is over; an HTTP request, whose end nobody sees, for its own time."""
        if door is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(fault.over.wait(), self.options.http_timeout)
                return
            raise Refusal(504, "GatewayTimeout: The request was left unanswered")
        await _first(fault.over.wait(), door.wait_closed())
        if door.state is State.CLOSED:
            raise Refusal(408, "RequestTimeout: Whoever asked has hung up")

    async def _admit(self, door: Door, call: Call) -> None:
        actions: dict[str, Callable[[Door, Call], Awaitable[None]]] = {
            "listen": self._admit_listener,
            "connect": self._admit_sender,
            "accept": self._admit_rendezvous,
            "request": self._admit_http_rendezvous,
        }
        admit = actions.get(call.action)
        if admit is None or not call.websocket:
            raise Refusal(400, "BadRequest: sb-hc-action must be listen, connect, accept or request")
        await admit(door, call)

    async def _admit_listener(self, door: Door, call: Call) -> None:
        grant = self._gatekeeper.check(call, Right.LISTEN)
        place = self._place(call)
        if len(place.listeners) >= self.options.max_listeners:
            raise Refusal(429, "QuotaExceeded: Maximum number of listeners reached", retry_after=1)
        renew = partial(self._renew, call.path)
        end = ControlEnd(door, call, self._cut_off(grant), renew, self._renewed, self._listener_gone)
        door.serve = partial(self._serve_listener, place, end)

    def _renew(self, path: str, token: str) -> float | None:
        """The cut-off that a new token brings; ``None`` where it is in vain."""
        if self.faults.strike("vain-renewal", path):
            return None
        return self._cut_off(self._gatekeeper.check_token(token, path, Right.LISTEN))

    def _cut_off(self, grant: Grant) -> float:
        """When, on the loop's clock, a control channel with this grant is closed."""
        return asyncio.get_running_loop().time() + grant.left + self.options.token_grace

    def _renewed(self, end: ControlEnd, accepted: bool) -> None:
        self.log.note("renew", end.call.path, 200 if accepted else 401)

    async def _serve_listener(self, place: _Place, end: ControlEnd) -> None:
        place.channels.add(end)
        self._changed.set()
        try:
            await end.serve()
        finally:
            place.channels.discard(end)
            if end.registered:
                self._listener_gone(end)

    def _listener_gone(self, end: ControlEnd) -> None:
        self._changed.set()
        self.log.note("listener gone", end.call.path, end.close_code if end.registered else 404)

    async def _admit_sender(self, door: Door, call: Call) -> None:
        place = self._place_for_sender(call)
        meeting = Meeting(self._tampering.with_frames_of(call))
        door.subprotocol_offered = lambda offered: _same(offered, meeting.listener.result().subprotocol)
        door.when_lost(meeting.end)
        self._meetings[meeting.id] = meeting
        try:
            await self._announce(place, meeting, call)
            if self.faults.strike("gone-sender", call.path):
                door.transport.abort()
            await self._wait_for_listener(meeting)
        except BaseException:
            meeting.end()
            raise
        finally:
            self._meetings.pop(meeting.id, None)
        door.serve = partial(meeting.converse, door)

    async def _announce(self, place: _Place, meeting: Meeting, call: Call) -> None:
        async def send(end: ControlEnd) -> None:
            address = self._tampering.accept_address(self._address(end, call, "accept", meeting.id), call.path)
            told = Accept(address, meeting.id, call.forwarded_headers(), call.remote).to_text()
            await end.send(told)
            if self.faults.strike("repeat-accept", call.path):
                await end.send(told)

        await self._tell_a_listener(place, send)

    async def _tell_a_listener(self, place: _Place, tell: Callable[[ControlEnd], Awaitable[None]]) -> None:
        """Tell one of the listeners, at random; another one if that one is just going."""
        candidates = place.listeners
        while candidates:
            end = candidates.pop(secrets.randbelow(len(candidates)))
            if end.deaf or self.faults.strike("withhold", end.path):
                return
            delay = self.faults.strike("delay", end.path)
            if delay is not None:
                await asyncio.sleep(delay.seconds())
            with suppress(ConnectionClosed):
                await tell(end)
                return
        raise Refusal(404, "Endpoint does not exist: There are no listeners connected for the endpoint")

    async def _say_again(self, call: Call, frame: str | bytes) -> None:
        """Deliver a frame once more, at a rendezvous of its own, and let the answer go."""
        place, meeting = self._find(call.path), Meeting()
        if place is None:
            return
        self._meetings[meeting.id] = meeting
        try:
            await self._announce(place, meeting, call)
            async with asyncio.timeout(self.options.accept_window):
                listener = await meeting.listener
                await listener.send(frame)
                await listener.recv()
        except (Refusal, TimeoutError, ConnectionClosed):
            LOG.debug("duplicate_not_delivered", extra={"path": call.path})
        finally:
            self._meetings.pop(meeting.id, None)
            meeting.end()

    async def _wait_for_listener(self, meeting: Meeting) -> None:
        waiting: set[asyncio.Future[Any]] = {meeting.listener, meeting.rejected}
        await asyncio.wait(waiting, timeout=self.options.accept_window, return_when=asyncio.FIRST_COMPLETED)
        if meeting.rejected.done() and not meeting.rejected.cancelled():
            status, text = meeting.rejected.result()
            raise Refusal(status, text)
        if not meeting.listener.done() or meeting.listener.cancelled():
            raise Refusal(504, "GatewayTimeout: The listener did not come to the rendezvous in time")

    async def _admit_rendezvous(self, door: Door, call: Call) -> None:
        meeting = self._meetings.pop(call.argument("sb-hc-id") or "", None)
        if meeting is None:
            raise Refusal(403, "Forbidden: The rendezvous address is invalid or was used before")
        status = call.argument("sb-hc-statusCode", "statusCode")  # hyco-ws leaves out the prefix
        if status is not None:
            text = call.argument("sb-hc-statusDescription", "statusDescription") or "Rejected by the listener"
            if not meeting.rejected.done():
                meeting.rejected.set_result((_status(status), text))
            raise Refusal(410, "Gone: The sender was rejected as you asked")
        door.subprotocol_offered = lambda offered: next(iter(offered), None)
        door.serve = partial(meeting.listener_came, door)

    async def _admit_http_rendezvous(self, door: Door, call: Call) -> None:
        exchange = self._exchanges.get(call.argument("sb-hc-id") or "")
        if exchange is None or exchange.taken:
            raise Refusal(403, "Forbidden: The rendezvous address is invalid or was used before")
        exchange.taken = True
        door.serve = partial(exchange.serve_rendezvous, door)

    # HTTP senders

    async def _answer_http(self, call: Call, exchange: Exchange) -> None:
        if call.path.startswith(PREFIX):
            await self._admin.answer(call, exchange)
            return
        try:
            await self._show_faults(call)
            place = self._place_for_http(call)
            self._exchanges[exchange.id] = exchange
            await self._tell_a_listener(place, lambda end: self._pass_on(end, call, exchange))
            status = await exchange.wait(self.options.http_timeout)
        except Refusal as refusal:
            self.log.note("http", call.path, refusal.status)
            raise
        finally:
            self._exchanges.pop(exchange.id, None)
        self.log.note("http", call.path, status)

    async def _pass_on(self, end: ControlEnd, call: Call, exchange: Exchange) -> None:
        await end.request(exchange, self._address(end, call, "request", exchange.id))

    # places

    def _place_for_http(self, call: Call) -> _Place:
        if call.websocket:
            raise Refusal(400, "BadRequest: The request is no websocket upgrade")
        return self._place_for_sender(call)

    def _place_for_sender(self, call: Call) -> _Place:
        place = self._find(call.path)
        if place is None or place.entity.requires_client_authorization:
            self._gatekeeper.check(call, Right.SEND)
        return self._place(call)

    def _place(self, call: Call) -> _Place:
        place = self._find(call.path)
        if place is None:
            raise Refusal(404, "Endpoint does not exist")
        return place

    def _find(self, path: str) -> _Place | None:
        """The hybrid connection a path leads to: the longest name it starts with, by whole segments."""
        segments = path.strip("/").lower().split("/")
        names = ("/".join(segments[:length]) for length in range(len(segments), 0, -1))
        return next((self._places[name] for name in names if name in self._places), None)

    def _address(self, end: ControlEnd, call: Call, action: str, meeting_id: str) -> str:
        own = f"{call.query}&" if call.query else ""
        return f"{end.call.authority}/$hc/{quote(call.path)}?{own}sb-hc-action={action}&sb-hc-id={quote(meeting_id)}"

    def _note(self, call: Call | None, status: int, asked_at: float) -> None:
        known: dict[str, What] = {"listen": "listen", "connect": "connect", "accept": "accept", "request": "request"}
        if call is not None and call.action in known:
            self.log.note(known[call.action], call.path, status, time.monotonic() - asked_at)


async def emulate(
    host: str = "127.0.0.1",
    port: int = 9080,
    *,
    hybrid_connections: Iterable[str | Entity],
    keys: Mapping[str, str | AccessKey],
    options: EmulatorOptions | None = None,
    started: Callable[[Emulator], None] | None = None,
) -> None:
    """Run an emulator until cancelled; ``started`` is called once it is bound. Prints nothing.

    Raises:
        OSError: if the port cannot be bound.
    """
    async with Emulator(host, port, hybrid_connections=hybrid_connections, keys=keys, options=options) as emulator:
        if started is not None:
            started(emulator)
        await asyncio.Event().wait()


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
"""What a hybrid connection may be called; the portal takes no other name."""


def _check_names(entities: Iterable[Entity]) -> None:
    for entity in entities:
        if not _NAME.fullmatch(entity.path.strip("/")):
            raise ConfigurationError(
                "a hybrid connection cannot be called so",
                code="bad_name",
                remedy="Its name has letters, digits and . - _ /, and begins with a letter or a digit.",
            )


def _check_keys(keys: Mapping[str, str | AccessKey]) -> None:
    for name, key in keys.items():
        if not _is_sayable(name):
            raise ConfigurationError("a key cannot be called so", code="bad_key_name", remedy=_SAYABLE)
        if not _is_sayable(key.key if isinstance(key, AccessKey) else key):
            raise ConfigurationError("a key cannot be used", code="bad_key", remedy=_SAYABLE)


_SAYABLE: Final = "It is not empty and has neither ; nor blanks: it has to stand in a connection string."


def _is_sayable(text: str) -> bool:
    return bool(text) and text.isprintable() and not set(text) & {";", " "}


async def _serve_door(connection: ServerConnection) -> None:
    if isinstance(connection, Door) and connection.serve is not None:
        await connection.serve()


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    chosen = connection.subprotocol_offered([str(each) for each in offered]) if isinstance(connection, Door) else None
    return Subprotocol(chosen) if chosen else None


async def _first(*awaited: Coroutine[Any, Any, object]) -> None:
    """Wait for whichever ends first."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _same(offered: list[str], chosen: Subprotocol | None) -> str | None:
    return chosen if chosen in offered else None


def _status(text: str) -> int:
    status = int(text) if text.isascii() and text.isdigit() else 400
    return status if 400 <= status <= 599 else 400
