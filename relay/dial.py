"""Dialling: one websocket opened, phase by phase, each with its own time-out and its own words when it fails.

DNS and TCP are done here, so that a black hole says *tcp* and names the address it was. Behind a proxy those two lead
to the proxy, and ``proxy`` is the phase of its CONNECT. Tokens go into headers, never into addresses, because addresses
land in logs; redirects are not followed, because they would carry the token elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from typing import Final, Literal, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.http11 import Response
from websockets.proxy import get_proxy, parse_proxy
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from relay.connection_string import HybridConnection
from relay.errors import ConfigurationError, DialError, Phase, RelayError
from relay.protocol import clock_skew, explain_status, retry_after, tracking_id
from relay.tokens import Token

T = TypeVar("T")

WIRE: Final = logging.getLogger("relay.wire")
"""Logger of the websockets library. Held at WARNING: its debug lines show tokens and the content of frames."""
WIRE.setLevel(logging.WARNING)

ENVIRONMENT: Final = "environment"

TOKEN_TIMEOUT: Final = 20.0
"""Seconds a credential has to give a token; Microsoft Entra is asked over the network."""

CLOSE_TIMEOUT: Final = 3.0
"""Seconds the other side has to answer our close frame."""

_ADDRESS_HELP: Final = "Check the namespace's name, and this machine's DNS (a private endpoint needs its private zone)."
_TCP_HELP: Final = "Check that a firewall lets this machine reach *.servicebus.windows.net on port 443."
_TLS_HELP: Final = "A proxy that inspects TLS needs its certificate authority configured here."
_PROXY_HELP: Final = "Check the proxy's address and credentials; NTLM needs a local helper such as cntlm."


@dataclass(frozen=True, slots=True)
class PhaseTimeouts:
    """Seconds each phase of a dial may take."""

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
        proxy: ``"environment"`` (``https_proxy``, ``no_proxy``, …), an address ``http://user:password@host:port``, or
            ``None`` for none. Plain ``ws://`` and this machine's own addresses are always dialled directly.
        tls: TLS settings, for a certificate authority of one's own; the system's when not given.
    """

    timeouts: PhaseTimeouts = field(default_factory=PhaseTimeouts)
    proxy: str | Literal["environment"] | None = field(default=ENVIRONMENT, repr=False)
    tls: ssl.SSLContext | None = None


async def dial(
    address: str,
    options: DialOptions,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocol: str | None = None,
    max_size: int | None = None,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
) -> ClientConnection:
    """Open a websocket to ``address``.

    Args:
        address: ``ws://`` or ``wss://`` address, used byte for byte.
        options: Time-outs, proxy and TLS.
        headers: Sent with the handshake; the place for the token.
        subprotocol: The one subprotocol to offer.
        max_size: Largest message taken, in bytes; a larger one closes the connection with 1009.
        ping_interval: Seconds between pings, ``None`` for none.
        ping_timeout: Seconds to wait for a pong.

    Raises:
        DialError: naming the phase that failed.
        ConfigurationError: if the address or the proxy's address cannot be used.
    """
    target, proxy = _route(address, options)
    attempt = _Attempt(address, target, options)
    arguments: dict[str, object] = {
        "additional_headers": headers,
        "subprotocols": [Subprotocol(subprotocol)] if subprotocol else None,
        "max_size": max_size,
        "ping_interval": ping_interval,
        "ping_timeout": ping_timeout,
        "close_timeout": CLOSE_TIMEOUT,
    }
    if proxy:
        return await attempt.through(proxy, arguments)
    return await attempt.directly(arguments)


async def fresh_token(connection: HybridConnection, lifetime: timedelta) -> Token:
    """A new token from the connection's credential.

    Raises:
        DialError: if the credential has none to give; whatever it raised is the cause.
    """
    try:
        async with asyncio.timeout(TOKEN_TIMEOUT):
            return await connection.credential.issue(connection.resource_uri, lifetime)
    except RelayError:
        raise
    except Exception as error:
        raise DialError(
            f"no token could be had ({type(error).__name__})",
            phase=Phase.UPGRADE,
            code="no_token",
            remedy="Check the credential, and the way to its issuer.",
        ) from error


def _route(address: str, options: DialOptions) -> tuple[WebSocketURI, str | None]:
    try:
        target = parse_uri(address)
        if not target.secure or _is_loopback(target.host) or options.proxy is None:
            return target, None
        proxy = get_proxy(target) if options.proxy == ENVIRONMENT else options.proxy
        if proxy:
            parse_proxy(proxy)
    except (InvalidURI, ValueError):
        raise ConfigurationError("an address is not a websocket address", code="bad_address") from None
    except InvalidProxy:
        raise ConfigurationError(
            "the proxy's address cannot be used", code="bad_proxy", remedy="It reads http://user:password@host:port."
        ) from None
    return target, proxy


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _Attempt:
    """One dial. Knows what it is doing right now, so that a failure can say so."""

    def __init__(self, address: str, target: WebSocketURI, options: DialOptions) -> None:
        self._address = address
        self._target = target
        self._options = options
        self._where = f"{target.host}:{target.port}"
        self._phase = Phase.DNS

    async def directly(self, arguments: dict[str, object]) -> ClientConnection:
        limits = self._options.timeouts
        addresses = await self._step(Phase.DNS, limits.dns, _resolve(self._target.host, self._target.port))
        sock = await self._step(Phase.TCP, limits.tcp, self._reach(addresses))
        arguments |= {"sock": sock, "proxy": None}
        return await self._upgrade(Phase.TLS if self._target.secure else Phase.UPGRADE, arguments, 0.0)

    async def through(self, proxy: str, arguments: dict[str, object]) -> ClientConnection:
        where = parse_proxy(proxy)
        self._where += f" by proxy {where.host}:{where.port}"
        arguments |= {"proxy": proxy}
        limits = self._options.timeouts
        return await self._upgrade(Phase.PROXY, arguments, limits.dns + limits.tcp + limits.proxy)

    def _tls_is_done(self) -> None:
        self._phase = Phase.UPGRADE

    async def _step(self, phase: Phase, seconds: float, work: Awaitable[T]) -> T:
        self._phase = phase
        try:
            async with asyncio.timeout(seconds):
                return await work
        except (OSError, UnicodeError) as error:  # TimeoutError and socket.gaierror are OSErrors
            raise self._failed(error) from error

    async def _reach(self, addresses: list[_Resolved]) -> socket.socket:
        """Connect to the first address that answers, giving each an equal share of the time that is left."""
        deadline = asyncio.get_running_loop().time() + self._options.timeouts.tcp
        for left in range(len(addresses), 0, -1):
            family, resolved = addresses[-left]
            self._where = f"{self._target.host}:{self._target.port} [{resolved[0]}]"
            share = (deadline - asyncio.get_running_loop().time()) / left
            try:
                async with asyncio.timeout(share):
                    return await _connect_tcp(family, resolved)
            except OSError:
                if left == 1:
                    raise
        raise OSError("no address")  # an empty answer of the resolver

    async def _upgrade(self, phase: Phase, arguments: dict[str, object], extra: float) -> ClientConnection:
        self._phase = phase
        limits = self._options.timeouts
        if self._target.secure:
            arguments |= {"ssl": self._options.tls or _system_tls(), "ssl_handshake_timeout": limits.tls}
            arguments |= {"create_connection": _announcing(self._tls_is_done)}
        total = extra + limits.upgrade + (limits.tls if self._target.secure else 0.0)
        opening = _Connect(self._address, compression=None, open_timeout=total, logger=WIRE, **arguments)  # type: ignore[arg-type]
        try:
            return await opening
        except (OSError, WebSocketException, ValueError, EOFError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> DialError:
        match error:
            case InvalidProxyStatus():
                return self._refused(Phase.PROXY, error.response)
            case InvalidStatus():
                return self._refused(Phase.UPGRADE, error.response)
            case ProxyError():
                return self._error(Phase.PROXY, "the proxy did not answer as a proxy", "proxy_failed", _PROXY_HELP)
            case socket.gaierror() | UnicodeError():
                return self._error(Phase.DNS, "the name cannot be resolved", "name_not_found", _ADDRESS_HELP)
            case ssl.SSLError() | ConnectionAbortedError() if self._target.secure and self._phase != Phase.UPGRADE:
                reason = getattr(error, "verify_message", "") or "the handshake failed"
                return self._error(Phase.TLS, f"TLS failed: {reason}", "tls_failed", _TLS_HELP)
            case InvalidMessage(__cause__=EOFError() | OSError()):
                return self._error(Phase.UPGRADE, "the connection was cut", "connection_lost", _help(Phase.UPGRADE))
            case InvalidHandshake():
                what = "the answer is no websocket handshake"
                return self._error(Phase.UPGRADE, what, "bad_handshake", _help(Phase.UPGRADE))
            case TimeoutError():
                return self._error(self._phase, "timed out", "timeout", _help(self._phase))
            case ConnectionRefusedError():
                return self._error(Phase.TCP, "the connection was refused", "refused", _TCP_HELP)
        what = f"the connection failed ({type(error).__name__})"
        return self._error(self._phase, what, "connection_lost", _help(self._phase))

    def _error(self, phase: Phase, message: str, code: str, remedy: str) -> DialError:
        return DialError(message, phase=phase, code=code, address=self._where, remedy=remedy)

    def _refused(self, phase: Phase, response: Response) -> DialError:
        meaning = explain_status(response.status_code)
        return DialError(
            meaning.meaning,
            phase=phase,
            code=meaning.code,
            status=response.status_code,
            tracking_id=tracking_id(response.reason_phrase, _body(response)),
            address=self._where,
            clock_skew=clock_skew(response.headers.get("Date")),
            retry_after=retry_after(response.headers.get("Retry-After")),
            remedy=meaning.remedy,
        )


_Resolved = tuple[int, tuple[str, int]]


class _Connect(connect):
    """Does not follow redirects: they would carry the token to another host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _announcing(tls_is_done: Callable[[], None]) -> type[ClientConnection]:
    class Announcing(ClientConnection):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            tls_is_done()
            super().connection_made(transport)

    return Announcing


async def _resolve(host: str, port: int) -> list[_Resolved]:
    """All addresses of a host; looked up anew on every dial, because private endpoints come and go."""
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return await _look_up(host, port)
    return [(family, (host, port))]


def _look_up(host: str, port: int) -> asyncio.Future[list[_Resolved]]:
    """Ask the resolver in a thread of its own.

    Not in the loop's executor: a resolver that hangs would take its few threads from everybody, and hold up the end of
    the process.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[_Resolved]] = loop.create_future()

    def settle(found: list[_Resolved], error: Exception | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found: list[_Resolved] = []
        failure: Exception | None = None
        try:
            for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append((family, (str(address[0]), int(address[1]))))
        except (OSError, UnicodeError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=ask, name="relay-dns", daemon=True).start()
    return answer


async def _connect_tcp(family: int, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


@cache
def _system_tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the certificates takes 20 ms: once is enough


def _body(response: Response) -> str:
    return bytes(response.body or b"")[:2000].decode("utf-8", "replace")


def _help(phase: Phase) -> str:
    return {
        Phase.DNS: _ADDRESS_HELP,
        Phase.TCP: _TCP_HELP,
        Phase.PROXY: _PROXY_HELP,
        Phase.TLS: _TLS_HELP,
        Phase.UPGRADE: explain_status(400).remedy,
    }.get(phase, "")
