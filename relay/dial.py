"""Dialling: one websocket opened, phase by phase, each with its own time-out and its own words when it fails.

``dns`` and ``tcp`` lead to the relay or, where there is one, to the proxy; ``proxy`` is the CONNECT through it; ``tls``
and ``upgrade`` are with the relay again. Each step is taken here by itself, so that a black hole says *tcp* and names
the address it was. Tokens go into headers, never into addresses, because addresses land in logs; redirects are not
followed, because they would carry the token elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from typing import Final, Literal, TypeVar

from websockets.asyncio.client import ClientConnection, HTTPProxyConnection
from websockets.client import ClientProtocol
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.http11 import USER_AGENT, Response
from websockets.proxy import Proxy, get_proxy, parse_proxy
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from relay.connection_string import HybridConnection
from relay.errors import ConfigurationError, DialError, Phase, RelayError, clock_words
from relay.protocol import clock_skew, explain_proxy_status, explain_status, retry_after, tracking_id
from relay.tokens import Token

T = TypeVar("T")

WIRE: Final = logging.getLogger("relay.wire")
"""Logger of the websockets library. Held at WARNING: its debug lines show tokens and the content of frames."""
WIRE.setLevel(logging.WARNING)

ENVIRONMENT: Final = "environment"

CLOSE_TIMEOUT: Final = 3.0
"""Seconds the other side has to answer our close frame."""

SKEW_TO_BLAME: Final = 30.0
"""Seconds by which a clock may be off before a refused token is laid at its door; ``Date`` has whole seconds."""

SOCKET_OPTIONS: Final[Mapping[str, int]] = {
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPALIVE": 15,  # what macOS calls it
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,  # milliseconds, for what was sent and not confirmed
}
"""A half-open connection dies after 30 s even without pings."""

_HELP: Final[Mapping[Phase, str]] = {
    Phase.DNS: "Check the namespace's name, and this machine's DNS (a private endpoint needs its private zone).",
    Phase.TCP: "Check that a firewall lets this machine reach *.servicebus.windows.net on port 443.",
    Phase.PROXY: "Check the proxy's address and credentials; NTLM needs a local helper such as cntlm.",
    Phase.TLS: "A proxy that inspects TLS needs its certificate authority configured here; a certificate that has "
    "expired or is not yet valid is often a wrong clock here.",
    Phase.UPGRADE: explain_status(400).remedy,
}
_HELP_WITH_PROXY: Final[Mapping[Phase, str]] = {
    Phase.DNS: "It is the proxy's name: check it, and this machine's DNS.",
    Phase.TCP: "It is the proxy that was dialled: check its address, and that this machine may reach it.",
}
_PROXY_FORM: Final = (
    "It reads http://user:password@host:port; signs such as / # % in the password are written %2F %23 %25."
)


@dataclass(frozen=True, slots=True)
class PhaseTimeouts:
    """Seconds each phase of a dial may take.

    Attributes:
        token: For the credential to give a token; Microsoft Entra is asked over the network.
        dns: To resolve the name of the relay or the proxy.
        tcp: To connect to one of its addresses.
        proxy: For the proxy to open the tunnel; includes TLS with an ``https://`` proxy.
        tls: For the TLS handshake with the relay.
        upgrade: For the relay to answer the websocket handshake.
    """

    token: float = 20.0
    dns: float = 5.0
    tcp: float = 5.0
    proxy: float = 10.0
    tls: float = 5.0
    upgrade: float = 10.0


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How connections are opened, the same for control channel, rendezvous and sender.

    Attributes:
        timeouts: Seconds per phase.
        proxy: An address ``http://user:password@host:port``, used for all that is dialled; ``"environment"``, for
            ``wss://`` only and as ``wss_proxy``, ``https_proxy`` and ``no_proxy`` say (plain ``ws://`` is a development
            emulator); or ``None`` for none. Never printed.
        tls: TLS settings, for a certificate authority of one's own; the system's when not given.

    Raises:
        ConfigurationError: if the proxy's address cannot be used.
    """

    timeouts: PhaseTimeouts = field(default_factory=PhaseTimeouts)
    proxy: str | Literal["environment"] | None = field(default=ENVIRONMENT, repr=False)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if self.proxy is not None and self.proxy != ENVIRONMENT:
            _usable(self.proxy)


class Connection(ClientConnection):
    """An open websocket.

    Attributes:
        where: ``host:port`` that was dialled and, in brackets, the resolved address.
    """

    where: str = ""

    @property
    def clock_skew(self) -> float | None:
        """Seconds by which our clock is ahead of the ``Date`` of the handshake's answer; ``None`` when it has none."""
        return clock_skew(self.response.headers.get("Date")) if self.response else None


async def dial(
    address: str,
    options: DialOptions,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocol: str | None = None,
    max_size: int | None = None,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    within: float | None = None,
    before_upgrade: Callable[[], Awaitable[None]] | None = None,
) -> Connection:
    """Open a websocket to ``address``.

    Args:
        address: ``ws://`` or ``wss://`` address, used byte for byte.
        options: Time-outs, proxy and TLS.
        headers: Sent with the handshake; the place for the token.
        subprotocol: The one subprotocol to offer.
        max_size: Largest message taken, in bytes; a larger one closes the connection with 1009.
        ping_interval: Seconds between pings, ``None`` for none.
        ping_timeout: Seconds to wait for a pong.
        within: Seconds for all phases together, ``None`` for no such bound.
        before_upgrade: Awaited before the handshake is sent, outside of every phase's time: for whoever counts what the
            relay sees.

    Raises:
        DialError: naming the phase that failed.
        ConfigurationError: if the address, or the proxy's address in the environment, cannot be used.
    """
    target, proxy = _route(address, options)
    protocol = ClientProtocol(
        target, subprotocols=[Subprotocol(subprotocol)] if subprotocol else None, max_size=max_size, logger=WIRE
    )
    connection = Connection(
        protocol, ping_interval=ping_interval, ping_timeout=ping_timeout, close_timeout=CLOSE_TIMEOUT
    )
    attempt = _Attempt(target, proxy, options, before_upgrade)
    try:
        async with asyncio.timeout(within):
            await attempt.open(connection, headers)
    except TimeoutError as error:
        raise attempt.failed(error) from error
    return connection


async def fresh_token(connection: HybridConnection, lifetime: timedelta, options: DialOptions) -> Token:
    """A new token from the connection's credential, within the time that ``options`` give it.

    Raises:
        DialError: in phase ``token``, if the credential has none to give; whatever it raised is the cause.
    """
    try:
        async with asyncio.timeout(options.timeouts.token):
            return await connection.credential.issue(connection.resource_uri, lifetime)
    except RelayError as error:
        if error.phase == Phase.TOKEN:
            raise
        raise _no_token(error) from error
    except Exception as error:
        raise DialError(
            f"no token could be had ({type(error).__name__})",
            phase=Phase.TOKEN,
            code="no_token",
            remedy="Check the credential, and the way to its issuer.",
        ) from error


def _no_token(error: RelayError) -> DialError:
    """The issuer's own failure, as the failure to get a token that it is."""
    return DialError(
        f"no token could be had: {error.phase}: {error.message}" if error.phase else f"no token: {error.message}",
        phase=Phase.TOKEN,
        inner_phase=error.phase,
        **error.facts,
        remedy=error.remedy or "Check the credential, and the way to its issuer.",
        code="no_token",
    )


def _route(address: str, options: DialOptions) -> tuple[WebSocketURI, Proxy | None]:
    """Where to, and through which proxy."""
    try:
        target = parse_uri(address)
    except (InvalidURI, ValueError):
        raise ConfigurationError("an address is not a websocket address", code="bad_address") from None
    if options.proxy != ENVIRONMENT:
        return target, _usable(options.proxy) if options.proxy else None
    found = get_proxy(target) if target.secure else None
    if not found:
        return target, None
    return target, _usable(
        found if "://" in found else f"http://{found}",
        "the proxy's address in the environment (wss_proxy, https_proxy)",
    )


def _usable(address: str, what: str = "the proxy's address") -> Proxy:
    proxy: Proxy | None = None
    with suppress(InvalidProxy, ValueError):  # what they say repeats the password, so they are not even the cause
        proxy = parse_proxy(address)
    if proxy is None or proxy.scheme not in {"http", "https"}:
        raise ConfigurationError(f"{what} cannot be used", phase=Phase.PROXY, code="bad_proxy", remedy=_PROXY_FORM)
    return proxy


class _Attempt:
    """One dial. Knows what it is doing right now, so that a failure can say so."""

    def __init__(
        self,
        target: WebSocketURI,
        proxy: Proxy | None,
        options: DialOptions,
        before_upgrade: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._before_upgrade = before_upgrade
        self._target = target
        self._proxy = proxy
        self._limits = options.timeouts
        self._tls = options.tls
        self._phase = Phase.DNS
        self._way = f"{target.host}:{target.port}"
        if proxy:
            self._way += f" by proxy {proxy.host}:{proxy.port}"
        self._where = self._way

    async def open(self, connection: Connection, headers: Mapping[str, str] | None) -> None:
        """Take all steps, one after the other."""
        limits, first = self._limits, self._proxy or self._target
        addresses = await self._step(Phase.DNS, limits.dns, _resolve(first.host, first.port))
        transport = await self._step(Phase.TCP, limits.tcp, self._reach(addresses))
        if self._proxy:
            transport = await self._step(Phase.PROXY, limits.proxy, self._tunnel(transport, self._proxy))
        if self._target.secure:
            transport = await self._step(Phase.TLS, limits.tls, self._secured(transport, self._target.host))
        connection.where = self._where
        _hand_over(transport, connection)
        if self._before_upgrade is not None:
            await self._before_upgrade()
        await self._step(Phase.UPGRADE, limits.upgrade, _upgrade(connection, headers))

    async def _step(self, phase: Phase, seconds: float, work: Awaitable[T]) -> T:
        self._phase = phase
        try:
            async with asyncio.timeout(seconds):
                return await work
        except (OSError, WebSocketException, ValueError, EOFError) as error:  # among them TimeoutError, UnicodeError
            raise self.failed(error) from error

    async def _reach(self, addresses: list[_Resolved]) -> asyncio.Transport:
        """Connect to the first address that answers, giving each an equal share of the time that is left."""
        deadline = asyncio.get_running_loop().time() + self._limits.tcp
        for left in range(len(addresses), 0, -1):
            family, resolved = addresses[-left]
            self._where = f"{self._way} [{resolved[0]}]"
            share = (deadline - asyncio.get_running_loop().time()) / left
            try:
                async with asyncio.timeout(share):
                    return await _connect_tcp(family, resolved)
            except OSError:
                if left == 1:
                    raise
        raise OSError("no address")  # an empty answer of the resolver

    async def _tunnel(self, transport: asyncio.Transport, proxy: Proxy) -> asyncio.Transport:
        """Ask the proxy for the way to the relay; with an ``https://`` proxy over TLS."""
        if proxy.scheme == "https":
            transport = await self._secured(transport, proxy.host)
        asking = _Asking(self._target, proxy, USER_AGENT)
        _hand_over(transport, asking)
        try:
            await asking.response
        except BaseException:
            transport.abort()
            raise
        return transport

    async def _secured(self, transport: asyncio.Transport, host: str) -> asyncio.Transport:
        secured = None
        if not transport.is_closing():
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                _Keeper(),
                self._context(),
                server_hostname=host,
                ssl_handshake_timeout=self._limits.proxy + self._limits.tls,  # that of the phase comes first
            )
        if secured is None:
            raise ConnectionAbortedError("closed before the first word")
        return secured

    def _context(self) -> ssl.SSLContext:
        return self._tls or _system_tls()

    def failed(self, error: Exception) -> DialError:
        """What went wrong in the present phase."""
        if isinstance(error, InvalidProxyStatus | InvalidStatus):
            return self._refused(error.response)
        message, code = _words(self._phase, error)
        remedy = (_HELP_WITH_PROXY if self._proxy else _HELP).get(self._phase, _HELP[self._phase])
        return DialError(message, phase=self._phase, code=code, address=self._where, remedy=remedy)

    def _refused(self, response: Response) -> DialError:
        by_proxy = self._phase == Phase.PROXY
        meaning = (explain_proxy_status if by_proxy else explain_status)(response.status_code)
        skew, remedy = clock_skew(response.headers.get("Date")), meaning.remedy
        if response.status_code == 401 and skew is not None and abs(skew) >= SKEW_TO_BLAME:
            remedy = f"Check this machine's clock: it is {clock_words(skew)} the relay's. {remedy}"
        return DialError(
            meaning.meaning,
            phase=self._phase,
            code=meaning.code,
            status=response.status_code,
            tracking_id=tracking_id(response.reason_phrase, _body(response)),
            address=self._where,
            clock_skew=skew,
            retry_after=retry_after(response.headers.get("Retry-After")),
            remedy=remedy,
        )


class _Asking(HTTPProxyConnection):
    """Hears of the end once: the library's raises at a second one, and asyncio logs that as a fault."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reader.eof:
            super().connection_lost(exc)


def _words(phase: Phase, error: Exception) -> tuple[str, str]:
    """What happened, for people and as a code."""
    match error:
        case TimeoutError():
            return "timed out", "timeout"
        case socket.gaierror() | UnicodeError():
            return "the name cannot be resolved", "name_not_found"
        case ssl.SSLError() | ConnectionAbortedError() if phase in {Phase.PROXY, Phase.TLS}:
            return f"TLS failed: {getattr(error, 'verify_message', '') or 'the handshake failed'}", "tls_failed"
        case ConnectionRefusedError():
            return "the connection was refused", "refused"
        case InvalidMessage(__cause__=EOFError() | OSError()) | InvalidProxyMessage(__cause__=EOFError() | OSError()):
            return "the connection was cut", "connection_lost"
        case ProxyError():
            return "the proxy did not answer as a proxy", "proxy_failed"
        case InvalidHandshake():
            return "the answer is no websocket handshake", "bad_handshake"
    reason = error.strerror if isinstance(error, OSError) else None
    if phase == Phase.DNS:
        return f"the name cannot be looked up ({reason or type(error).__name__})", "lookup_failed"
    code = "unreachable" if phase == Phase.TCP else "connection_lost"
    return f"the connection failed ({reason or type(error).__name__})", code


_Resolved = tuple[int, tuple[str, int]]


async def _upgrade(connection: Connection, headers: Mapping[str, str] | None) -> None:
    try:
        await connection.handshake(headers)
    except BaseException:
        connection.transport.abort()
        raise
    connection.start_keepalive()


async def _resolve(host: str, port: int) -> list[_Resolved]:
    """All addresses of a host; looked up anew on every dial, because private endpoints come and go."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return await _look_up(host, port)
    return [(family, (host, port))]


_Lookup = Future[list[_Resolved]]

_LOOKUPS: Final = defaultdict[tuple[str, int], list[_Lookup]](list)
"""The lookups under way, by name and port."""
_LOOKUPS_LOCK: Final = threading.Lock()

MOST_LOOKUPS: Final = 8
"""Lookups of one name under way at once: a resolver that hangs keeps so many threads, however often we dial."""


async def _look_up(host: str, port: int) -> list[_Resolved]:
    """Ask the resolver in a thread of its own; when too many hang, share the answer of the youngest.

    Not in the loop's executor: a resolver that hangs would take its few threads from everybody, and hold up the end of
    the process.
    """
    with _LOOKUPS_LOCK:
        under_way = _LOOKUPS[host, port]
        if len(under_way) < MOST_LOOKUPS:
            under_way.append(_begin_lookup(host, port))
        lookup = under_way[-1]
    return await asyncio.wrap_future(lookup)


def _begin_lookup(host: str, port: int) -> _Lookup:
    lookup = _Lookup()
    lookup.set_running_or_notify_cancel()  # whoever stops waiting for it does not take it from the others
    try:
        threading.Thread(target=_ask_resolver, args=(host, port, lookup), name="relay-dns", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread can be started") from error
    return lookup


def _ask_resolver(host: str, port: int, lookup: _Lookup) -> None:
    found: list[_Resolved] = []
    failure: Exception | None = None
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            found.append((family, (str(address[0]), int(address[1]))))
    except (OSError, ValueError) as error:  # among them UnicodeError
        failure = error
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
        failure = OSError(0, type(error).__name__)
    with _LOOKUPS_LOCK:
        under_way = _LOOKUPS[host, port]
        under_way.remove(lookup)
        if not under_way:
            del _LOOKUPS[host, port]
    if failure is None:
        lookup.set_result(found)
    else:
        lookup.set_exception(failure)


async def _connect_tcp(family: int, address: tuple[str, int]) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _die_of_silence(sock)
        await loop.sock_connect(sock, address)
        transport, _ = await loop.create_connection(_Keeper, sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport


class _Keeper(asyncio.Protocol):
    """Has a connection until it is handed over, keeps what comes meanwhile, and passes on what comes late.

    The first byte is for whoever the connection is for, and so is its end. After TLS failed nobody gets it: then the
    end is nobody's business.
    """

    def __init__(self) -> None:
        self._kept: list[Callable[[asyncio.Protocol], object]] = []
        self._heir: asyncio.Protocol | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._pass(lambda heir: heir.data_received(data))

    def eof_received(self) -> None:
        self._pass(lambda heir: heir.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._pass(lambda heir: heir.connection_lost(exc))

    def hand_over(self, heir: asyncio.Protocol) -> None:
        """All of it is for ``heir`` from now on."""
        self._heir = heir
        for event in self._kept:
            event(heir)

    def _pass(self, event: Callable[[asyncio.Protocol], object]) -> None:
        if self._heir is None:
            self._kept.append(event)
        else:
            event(self._heir)


def _hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    keeper = transport.get_protocol()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if isinstance(keeper, _Keeper):
        keeper.hand_over(protocol)
    transport.resume_reading()


def _die_of_silence(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SOCKET_OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:
            with suppress(OSError):  # a kernel older than its headers: pings are left
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the certificates takes 20 ms: once is enough


def _body(response: Response) -> str:
    return bytes(response.body or b"")[:2000].decode("utf-8", "replace")
