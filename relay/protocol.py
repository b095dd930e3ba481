"""The control channel's language, without a socket in sight.

Laws, from the Hybrid Connections protocol guide:

1. Control messages are JSON objects in text frames; the one key of the object names the message.
2. A ``request`` or ``response`` whose ``body`` is true is followed by exactly one message that is its body.
3. The address of an ``accept`` or ``request`` is used byte for byte; arguments are only ever appended.
4. We dial only ``ws`` and ``wss``, never less secure than the control channel, and only hosts that belong to the relay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from relay.connection_string import HybridConnection
from relay.errors import ControlMessageError, Phase, RendezvousError

MAX_CONTROL_BODY: Final = 64 * 1024
"""Largest HTTP body, in bytes, that travels on the control channel (protocol guide, *request*)."""

MAX_CONTROL_MESSAGE: Final = 1024 * 1024
"""Largest frame, in bytes, taken from a control channel: far above what the guide allows, far below what hurts."""

ACCEPT_WINDOW: Final = 30.0
"""Seconds within which a listener must dial the address of an accept."""


# --- messages ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemoteEndpoint:
    """Who the relay says is at the other end."""

    address: str
    port: int | None = None

    def __str__(self) -> str:
        return self.address if self.port is None else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Accept:
    """Relay → listener: a sender waits at ``address``."""

    address: str = field(repr=False)
    id: str
    connect_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    remote: RemoteEndpoint | None = None

    @property
    def subprotocol(self) -> str | None:
        """The first subprotocol the sender offers: the one to repeat on the rendezvous."""
        for name, value in self.connect_headers.items():
            if name.lower() == "sec-websocket-protocol":
                return value.split(",")[0].strip() or None
        return None

    def to_text(self) -> str:
        """The control message."""
        return _to_text(
            "accept",
            address=self.address,
            id=self.id,
            connectHeaders=dict(self.connect_headers),
            remoteEndpoint=_endpoint(self.remote),
        )


@dataclass(frozen=True, slots=True)
class Request:
    """Relay → listener: an HTTP request. Without ``method`` it is only a call to the rendezvous at ``address``."""

    address: str = field(repr=False)
    id: str
    method: str | None = None
    target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bool = False
    remote: RemoteEndpoint | None = None

    @property
    def needs_rendezvous(self) -> bool:
        """Whether the request itself must be fetched by dialling ``address``."""
        return self.method is None

    def to_text(self) -> str:
        """The control message."""
        if self.needs_rendezvous:
            return _to_text("request", address=self.address, id=self.id)
        return _to_text(
            "request",
            address=self.address,
            id=self.id,
            requestTarget=self.target,
            method=self.method,
            remoteEndpoint=_endpoint(self.remote),
            requestHeaders=dict(self.headers),
            body=self.body,
        )


@dataclass(frozen=True, slots=True)
class RenewToken:
    """Listener → relay: a fresh token for the open channel. Good ones are not answered."""

    token: str = field(repr=False)

    def to_text(self) -> str:
        """The control message. It holds the token: never log it."""
        return _to_text("renewToken", token=self.token)


@dataclass(frozen=True, slots=True)
class Response:
    """Listener → relay: the answer to a ``Request``."""

    request_id: str
    status: int
    description: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bool = False

    def to_text(self) -> str:
        """The control message."""
        return _to_text(
            "response",
            requestId=self.request_id,
            statusCode=self.status,
            statusDescription=self.description,
            responseHeaders=dict(self.headers),
            body=self.body,
        )


ControlMessage = Accept | Request | RenewToken | Response


def parse_control_message(frame: str | bytes) -> ControlMessage:
    """Read one frame of the control channel.

    Raises:
        ControlMessageError: for whatever is not one of the four messages. It never repeats the content.
    """
    try:
        document = json.loads(frame)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ControlMessageError("a frame is not JSON") from error
    if not isinstance(document, dict):
        raise ControlMessageError("a frame is not a JSON object")
    for name, read in _READERS.items():
        body = document.get(name)
        if isinstance(body, dict):
            return read(body)
        if body is not None:
            raise ControlMessageError(f"{name} is not an object")
    raise ControlMessageError("a frame holds no known message")


def _read_accept(body: dict[str, Any]) -> Accept:
    headers = _headers(body, "connectHeaders")
    return Accept(_text(body, "address"), _text(body, "id", ""), headers, _remote(body))


def _read_request(body: dict[str, Any]) -> Request:
    address, request_id = _text(body, "address"), _text(body, "id")
    if body.get("method") is None:
        return Request(address, request_id)
    return Request(
        address,
        request_id,
        _text(body, "method"),
        _text(body, "requestTarget", ""),
        _headers(body, "requestHeaders"),
        body.get("body") is True,
        _remote(body),
    )


def _read_renew_token(body: dict[str, Any]) -> RenewToken:
    return RenewToken(_text(body, "token"))


def _read_response(body: dict[str, Any]) -> Response:
    try:
        status = int(body.get("statusCode", 200))
    except (TypeError, ValueError, OverflowError) as error:
        raise ControlMessageError("statusCode is not a number") from error
    if not 100 <= status <= 999:
        raise ControlMessageError("statusCode is not an HTTP status")
    description = body.get("statusDescription")
    return Response(
        _text(body, "requestId"),
        status,
        description if isinstance(description, str) else "",
        _headers(body, "responseHeaders"),
        body.get("body") is True,
    )


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], ControlMessage]]] = {
    "accept": _read_accept,
    "request": _read_request,
    "renewToken": _read_renew_token,
    "response": _read_response,
}


def _text(body: dict[str, Any], key: str, default: str | None = None) -> str:
    value = body.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise ControlMessageError(f"{key} is missing or not a text")
    return value


def _headers(body: dict[str, Any], key: str) -> dict[str, str]:
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ControlMessageError(f"{key} is not an object")
    return {name: each if isinstance(each, str) else json.dumps(each) for name, each in value.items()}


def _remote(body: dict[str, Any]) -> RemoteEndpoint | None:
    value = body.get("remoteEndpoint")
    if not isinstance(value, dict) or not isinstance(value.get("address"), str) or not value["address"]:
        return None
    port = value.get("port")
    return RemoteEndpoint(value["address"], port if isinstance(port, int) else None)


def _endpoint(remote: RemoteEndpoint | None) -> dict[str, str | int | None]:
    return {"address": remote.address, "port": remote.port} if remote else {"address": "", "port": 0}


def _to_text(name: str, **body: Any) -> str:  # noqa: ANN401 - JSON values
    return json.dumps({name: body}, separators=(",", ":"), ensure_ascii=True)


# --- the listener's end of a control channel --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A ``Request`` together with its body."""

    head: Request
    body: bytes = b""


class ControlChannel:
    """What has been heard on one control channel: frames in, whole messages out.

    Keeps the one piece of state the protocol has: whether the next frame is the body of a request (law 2).
    """

    def __init__(self) -> None:
        self._awaiting_body: Request | None = None

    def receive(self, frame: str | bytes) -> Accept | HttpRequest | None:
        """One frame in; a whole message out, or ``None`` while a body is still to come.

        Raises:
            ControlMessageError: the frame cannot be read here. The channel is ready for the next one.
        """
        head, self._awaiting_body = self._awaiting_body, None
        if head is not None and isinstance(frame, bytes):
            return HttpRequest(head, frame)
        message = parse_control_message(frame)
        if isinstance(message, Accept):
            return message
        if not isinstance(message, Request):
            raise ControlMessageError("a listener's message came from the relay")
        if message.body:
            self._awaiting_body = message
            return None
        return HttpRequest(message)


# --- addresses --------------------------------------------------------------------------------------------------------


def reject_address(address: str, status: int, description: str) -> str:
    """The address whose dialling refuses a sender. That dial is answered 410 (protocol guide, *reject*)."""
    return f"{address}&sb-hc-statusCode={status}&sb-hc-statusDescription={quote(description, safe='')}"


def check_address(address: str, connection: HybridConnection, allowed_suffixes: tuple[str, ...] = ()) -> None:
    """Make sure that an address from the control channel leads to the relay and nowhere else (law 4).

    Allowed are the namespace's own host, its siblings (``*.servicebus.windows.net`` for a namespace there) and the
    given suffixes.

    Raises:
        RendezvousError: in phase accept-dial, if it does not.
    """
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise _stray("cannot be read") from None
    if parts.scheme not in {"ws", "wss"}:
        raise _stray("is not a websocket address")
    if parts.scheme == "ws" and connection.namespace.secure:
        raise _stray("is not secured by TLS while the namespace is")
    home = connection.namespace.host.lower()
    suffixes = (*(suffix.lower() for suffix in allowed_suffixes), *_siblings(home))
    if host != home and not host.endswith(suffixes):
        raise _stray("leads to a host outside the relay")


def _siblings(host: str) -> tuple[str, ...]:
    """``.servicebus.windows.net`` for a namespace there: its nodes have names of their own beside it."""
    _, dot, domain = host.partition(".")
    return (f".{domain}",) if dot and domain.startswith("servicebus.") else ()


def _stray(reason: str) -> RendezvousError:
    return RendezvousError(
        f"the address of an accept {reason}",
        phase=Phase.ACCEPT_DIAL,
        code="address_refused",
        remedy="It was not dialled; if it is legitimate, add its host to the allowed suffixes.",
    )


def sender_target(address: str, path: str) -> tuple[str, str]:
    """The suffix and query of the sender's own: what is left of its address without ``$hc/PATH`` and ``sb-hc-``.

    Returns:
        ``("/x/y", "a=b")``; both may be empty.
    """
    parts = urlsplit(address)
    full = unquote(parts.path)
    start = f"/$hc/{path}"
    suffix = full[len(start) :] if full.lower().startswith(start.lower()) else ""
    return suffix, own_query(parts.query)


def own_query(query: str) -> str:
    """A query without the relay's own arguments: all that start ``sb-hc-``."""
    return "&".join(part for part in query.split("&") if part and not part.lower().startswith("sb-hc-"))


# --- what the relay says when it says no ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a status or close code means, and what to do about it."""

    code: str
    meaning: str
    remedy: str = ""


HANDSHAKE: Final[Mapping[int, Meaning]] = {
    400: Meaning(
        "bad_request",
        "the relay saw no websocket upgrade or an unknown action",
        "A proxy on the way may strip Upgrade headers: let it pass websockets.",
    ),
    401: Meaning(
        "unauthorized",
        "the token is missing, invalid, expired or for another resource",
        "Check key name and key (or the identity's roles), the connection's name, this machine's clock, and the "
        "namespace's IP firewall.",
    ),
    403: Meaning(
        "forbidden",
        "the key lacks the right, or the rendezvous address is used up",
        "Give the policy Listen to listen and Send to send; an identity: Azure Relay Listener and Azure Relay Sender.",
    ),
    404: Meaning(
        "not_found",
        "there is no such hybrid connection, or nobody listens on it",
        "Check the connection's name, and that the other side is listening.",
    ),
    410: Meaning("gone", "the rendezvous was refused by the listener", "Look at the listening side."),
    429: Meaning(
        "throttled",
        "the relay has too much to do, or the hybrid connection too many listeners (25)",
        "It is tried again; see in the portal who else listens.",
    ),
    500: Meaning("relay_fault", "the relay has a fault", "Nothing to do here; it is retried."),
    502: Meaning("no_rendezvous", "the listener did not come to the rendezvous", "Look at the listening side."),
    503: Meaning("busy", "the relay is busy", "Nothing to do here; it is retried."),
    504: Meaning("no_rendezvous", "the listener did not come to the rendezvous in time", "Look at the listening side."),
}
"""HTTP status of a refused handshake → meaning (protocol guide, error tables of listen, accept and connect)."""

PROXY: Final[Mapping[int, Meaning]] = {
    403: Meaning(
        "proxy_forbids",
        "the proxy does not let this machine through to the relay",
        "Have it allow CONNECT to *.servicebus.windows.net on port 443.",
    ),
    405: Meaning("no_tunnel", "the proxy opens no tunnels", "Give the address of a proxy that answers CONNECT."),
    407: Meaning(
        "proxy_authentication",
        "the proxy asks for credentials, or refuses the ones it got",
        "Put user and password into the proxy's address; NTLM needs a local helper such as cntlm.",
    ),
    429: Meaning("proxy_busy", "the proxy has too much to do", "It is tried again."),
    502: Meaning("proxy_no_way", "the proxy cannot reach the relay", "Have its DNS and its way out looked at."),
    503: Meaning(
        "proxy_busy", "the proxy is busy, or cannot reach the relay", "It is tried again; have its way out looked at."
    ),
    504: Meaning("proxy_no_way", "the proxy does not reach the relay in time", "Have its way out looked at."),
}
"""HTTP status of a refused CONNECT → meaning (RFC 9110). It is the proxy that speaks, not the relay."""

CLOSE_CODES: Final[Mapping[int, Meaning]] = {
    1000: Meaning("closed", "the other side closed"),
    1001: Meaning("going_away", "the hybrid connection was deleted or disabled, or the other side went away"),
    1006: Meaning("cut", "the connection was cut without a closing handshake"),
    1008: Meaning("token_refused", "the token expired or was refused"),
    1009: Meaning("too_big", "a message is larger than the receiver takes"),
    1011: Meaning("relay_fault", "the relay has a fault, or its daily recycling of connections"),
}
"""Websocket close code → meaning (protocol guide, close codes). None is final: the answer is always to reconnect."""


def explain_status(status: int) -> Meaning:
    """What a refused handshake means."""
    return HANDSHAKE.get(status) or Meaning(
        f"http_{status}", f"the relay answered {status}", "It is tried again; Azure's support knows the tracking id."
    )


def explain_proxy_status(status: int) -> Meaning:
    """What a refused CONNECT means."""
    return PROXY.get(status) or Meaning(
        f"proxy_http_{status}", f"the proxy answered {status}", "Ask whoever runs the proxy."
    )


def explain_close(code: int) -> Meaning:
    """What a close code means."""
    return CLOSE_CODES.get(code) or Meaning(f"close_{code}", f"the connection was closed with code {code}")


_TRACKING_ID: Final = re.compile(r"TrackingId:\s*([0-9A-Za-z_-]{8,80})")


def tracking_id(*texts: str) -> str | None:
    """The relay's id of an event, from a reason phrase, a body or a close reason."""
    found = filter(None, map(_TRACKING_ID.search, texts))
    return next((match.group(1) for match in found), None)


def clock_skew(date: str | None, now: datetime | None = None) -> float | None:
    """Seconds by which our clock is ahead of the ``Date`` header of an answer."""
    if not date:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    return ((now or datetime.now(UTC)) - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))).total_seconds()


LONGEST_WAIT: Final = 300.0
"""Seconds for which we let the relay put us off at most; then it is asked again."""


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110 section 10.2.3: seconds or a date), five minutes at most."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, (date - (now or datetime.now(UTC))).total_seconds()), LONGEST_WAIT)
