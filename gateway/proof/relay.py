"""The relay, by traffic: an echo to ourselves as the web app would send it, and what the answer says of our clock."""

from __future__ import annotations

import asyncio
import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from secrets import token_hex
from urllib.parse import urlsplit

from gateway.errors import InvalidValue
from gateway.ops.doctor.finding import Finding, failed, ok, skipped, warning
from gateway.proof.stage import fault_of, remedy_of, said, sender_to
from gateway.relay_connections import RelayConnections
from relay import DialError, RelayError
from relay.dial import dial
from relay.protocol import clock_skew

_HALF_A_SECOND = 0.5
"""The ``Date`` of an answer has whole seconds: on average it is so much behind."""
_NOTICEABLE, _HARMFUL = 2.0, 60.0
"""Seconds a clock may be off: from the first on somebody should look, from the second on tokens are refused."""
_PEER_SECONDS = 10.0
_NOT_CONFIGURED = skipped("no relay is configured", "set AZURE_RELAY_…")


def echo_returns(connections: RelayConnections | None) -> Finding:
    """A sender dials the actions hybrid connection, and our listener answers its echo."""
    if connections is None:
        return _NOT_CONFIGURED
    how = f"an echo over {connections.actions.path}, sent and answered"
    began = time.perf_counter()
    nonce = token_hex(8)
    message = json.dumps({"action_type": "echo", "nonce": nonce})
    try:
        answer = asyncio.run(sender_to(connections.actions, connections.dialling).send(message))
    except RelayError as error:
        return failed(said(error), how, remedy_of(error), fault_of(error), code=f"relay_{error.code}")
    if nonce not in answer:
        return failed("what answers the echo is not a gateway", how, "who else listens at this hybrid connection?")
    where = connections.actions.namespace.host
    return ok(f"an echo came back through {where}", how, seconds=time.perf_counter() - began)


def clock_agrees(connections: RelayConnections | None, peer: str = "") -> Finding:
    """This machine's clock beside that of the relay's answer, or of a web server at `peer`, its address."""
    if connections is None and not peer:
        return skipped("no relay is configured, and so no other clock is known", "name a web server by --clock-peer")
    who = peer or "the relay"
    skew = _skew_to(peer) if peer else asyncio.run(_skew(connections)) if connections else None
    if skew is None:
        return skipped(f"{who} told no time", "name another web server by --clock-peer")
    skew -= _HALF_A_SECOND
    told, how = f"this machine is {skew:+.1f} s from {who}", "the Date of its answer"
    remedy = "have the machine's time server (NTP) looked at"
    if abs(skew) >= _HARMFUL:
        return failed(told, how, f"{remedy}: tokens are refused, and the record's times are wrong")
    return warning(told, how, remedy) if abs(skew) >= _NOTICEABLE else ok(told, how)


def require_web_address(peer: str) -> None:
    """Raise `InvalidValue` unless it is the address of a web server."""
    parts = urlsplit(peer)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidValue("--clock-peer: must be an address such as https://intranet.example", field="clock-peer")


def _skew_to(peer: str) -> float | None:
    """Seconds by which our clock is ahead of a web server's; None when it is not reached, or has no ``Date``."""
    parts = urlsplit(peer)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_PEER_SECONDS)
    try:
        connection.request("HEAD", "/")
        return clock_skew(connection.getresponse().getheader("Date"))
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


async def _skew(connections: RelayConnections) -> float | None:
    """A handshake without a token: it is refused, and the refusal has the relay's time. None where there is no Date."""
    try:
        websocket = await dial(connections.actions.connect_address(), connections.dialling)
    except DialError as error:
        skew = error.clock_skew
    else:
        skew = websocket.clock_skew
        await websocket.close()
    return skew
