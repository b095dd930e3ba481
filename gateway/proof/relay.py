"""The relay, by traffic: an echo to ourselves as the web app would send it, and what the answer says of our clock."""

from __future__ import annotations

import asyncio
import json
import time
from secrets import token_hex

from gateway.ops.doctor.finding import Finding, failed, ok, skipped, warning
from gateway.proof.stage import fault_of, remedy_of, said, sender_to
from gateway.relay_connections import RelayConnections
from relay import DialError, RelayError
from relay.dial import dial

_HALF_A_SECOND = 0.5
"""The ``Date`` of an answer has whole seconds: on average it is so much behind."""
_NOTICEABLE, _HARMFUL = 2.0, 60.0
"""Seconds a clock may be off: from the first on somebody should look, from the second on tokens are refused."""
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


def clock_agrees(connections: RelayConnections | None) -> Finding:
    """This machine's clock beside that of the relay's answer."""
    if connections is None:
        return skipped("no relay is configured, and so no other clock is known", "compare with the site's time server")
    how = "the Date of the relay's answer"
    skew = asyncio.run(_skew(connections))
    if skew is None:
        return skipped("the relay told no time", "compare with the site's time server")
    told = f"this machine is {skew:+.1f} s from the relay"
    remedy = "have the machine's time server (NTP) looked at"
    if abs(skew) >= _HARMFUL:
        return failed(told, how, f"{remedy}: tokens are refused, and the record's times are wrong")
    return warning(told, how, remedy) if abs(skew) >= _NOTICEABLE else ok(told, how)


async def _skew(connections: RelayConnections) -> float | None:
    """A handshake without a token: it is refused, and the refusal has the relay's time. None where there is no Date."""
    try:
        websocket = await dial(connections.actions.connect_address(), connections.dialling)
    except DialError as error:
        skew = error.clock_skew
    else:
        skew = websocket.clock_skew
        await websocket.close()
    return None if skew is None else skew - _HALF_A_SECOND
