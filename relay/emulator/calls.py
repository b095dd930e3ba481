"""A request at the relay's door, read once; and the answer no."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from itertools import count
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from uuid import uuid4

from websockets.datastructures import Headers
from websockets.http11 import Response

from relay.protocol import RemoteEndpoint, own_query

WEBSOCKET_PREFIX: Final = "/$hc/"
TOKEN_HEADERS: Final = frozenset({"servicebusauthorization"})
_generations: Iterator[int] = count()


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


MAX_CLOSE_REASON: Final = 123
"""Bytes that a close frame's reason may have (RFC 6455 section 5.5)."""


def new_id() -> str:
    """An id in Azure's shape: a GUID and the number of the gateway node's step."""
    return f"{uuid4()}_G{next(_generations)}"


def tracked(reason: str) -> str:
    """A close reason with a tracking id, as Azure writes it; shortened where there is no room for both."""
    if "TrackingId:" in reason:
        return reason
    tracking = f"TrackingId:{new_id()}"
    room = MAX_CLOSE_REASON - len(tracking) - 1
    return f"{reason.encode()[:room].decode(errors='ignore')} {tracking}".strip()


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says.

    Attributes:
        path: Path without ``/$hc/`` and decoded; hybrid connection and suffix together.
        websocket: Whether the path starts ``/$hc/``.
        arguments: All query arguments, decoded; names in lower case, the first of a name counts.
        query: The sender's own query, as sent.
        headers: Header fields.
        secure: Whether it came over TLS.
        remote: Who asks.
        method: HTTP method.
    """

    path: str
    websocket: bool
    arguments: Mapping[str, str] = field(repr=False)
    query: str
    headers: Headers = field(repr=False)
    secure: bool
    remote: RemoteEndpoint
    method: str = "GET"

    @classmethod
    def read(cls, target: str, headers: Headers, *, secure: bool, peer: object, method: str = "GET") -> Call:
        """Read a request line and its headers.

        Raises:
            Refusal: 400 if the address cannot be read.
        """
        try:
            parts = urlsplit(target)
            arguments = parse_qsl(parts.query, keep_blank_values=True)
        except ValueError as error:
            raise Refusal(400, "BadRequest: The address cannot be read") from error
        path = unquote(parts.path)
        websocket = path.lower().startswith(WEBSOCKET_PREFIX)
        plain = path[len(WEBSOCKET_PREFIX) :] if websocket else path.lstrip("/")
        first = {name.lower(): value for name, value in reversed(arguments)}
        return cls(plain, websocket, first, own_query(parts.query), headers, secure, _remote(peer), method)

    def argument(self, *names: str) -> str | None:
        """The first of these query arguments that is given."""
        return next((self.arguments[name.lower()] for name in names if name.lower() in self.arguments), None)

    @property
    def action(self) -> str:
        """``listen``, ``connect``, ``accept`` or ``request``; empty when not given."""
        return (self.argument("sb-hc-action") or "").lower()

    @property
    def authority(self) -> str:
        """Scheme and host as the caller sees this relay; what addresses for it must start with."""
        return f"{'wss' if self.secure else 'ws'}://{self.headers.get('Host', 'localhost')}"

    def forwarded_headers(self) -> dict[str, str]:
        """All header fields except the relay's token."""
        forwarded: dict[str, str] = {}
        for name, value in self.headers.raw_items():
            if name.lower() not in TOKEN_HEADERS and not _is_relay_token(name, value):
                forwarded[name] = f"{forwarded[name]}, {value}" if name in forwarded else value
        return forwarded


def _is_relay_token(name: str, value: str) -> bool:
    return name.lower() == "authorization" and value.startswith("SharedAccessSignature")


def _remote(peer: object) -> RemoteEndpoint:
    match peer:
        case (str(host), int(port), *_):
            return RemoteEndpoint(host, port)
    return RemoteEndpoint("", None)


class Refusal(Exception):
    """The relay's no, as it goes out: a status, and a reason phrase that carries a tracking id.

    Attributes:
        status: HTTP status.
        text: A word for programs, a colon, and what is wrong.
        retry_after: Seconds after which to ask again.
        at: What the relay's clock said when a token was judged; it goes out as the ``Date``.
    """

    def __init__(self, status: int, text: str, *, retry_after: int | None = None, at: datetime | None = None) -> None:
        super().__init__(text)
        self.at = at or utc_now()
        self.status = status
        self.text = text
        self.retry_after = retry_after

    def reason(self, call: Call | None) -> str:
        """The reason phrase: Azure puts what happened and the tracking id there."""
        where = f"sb://{call.headers.get('Host', 'localhost')}/{quote(call.path)}" if call else "sb://localhost/"
        stamp = self.at.strftime("%Y-%m-%dT%H:%M:%S")
        plain = "".join(character if " " <= character <= "~" else "?" for character in f"{self.text}. ")
        return f"{plain}TrackingId:{new_id()}, SystemTracker:{where}, Timestamp:{stamp}"

    def response(self, call: Call | None) -> Response:
        """The refused handshake."""
        reason = self.reason(call)
        body = reason.encode()
        headers = Headers(
            [
                ("Date", format_datetime(self.at, usegmt=True)),
                ("Connection", "close"),
                ("Content-Type", "text/plain; charset=utf-8"),
                ("Content-Length", str(len(body))),
            ]
        )
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(self.status, reason, headers, body)


def phrase(status: int) -> str:
    """The usual words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"
