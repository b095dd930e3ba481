"""Proof of life: the listener says ``echo`` to itself through the relay. A connection that is up proves nothing.

A channel is proven when an accept for our own nonce arrives *on it* and the answer comes back. Laws:

1. Our own echo is met before any queue and never reaches the handler.
2. An echo that somebody else answered (another listener of this hybrid connection, or another channel of ours) says
   nothing about this channel: unknown, neither life nor death.
3. Whoever hears a foreign echo answers it and says who it is; listeners that know nothing of this see an ordinary
   ``echo`` action.
4. An echo that nobody answered may have been for another listener, which is deaf. So after a first miss many are sent,
   each for whomever the relay chooses: a channel that hears is chosen by one of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Final

from websockets.exceptions import ConnectionClosed

from relay.connection_string import HybridConnection
from relay.dial import Connection, DialOptions, dial, fresh_token
from relay.errors import DialError, Phase, RelayError, RendezvousError
from relay.protocol import explain_close
from relay.tokens import DEFAULT_LIFETIME, TOKEN_HEADER, Token

KEY: Final = "relay-proof"
"""The sender's own query argument that carries the nonce; it comes back in the address of the accept."""

_NONCE: Final = re.compile(rf"[?&]{KEY}=([0-9a-f]{{32}})(?=&|$)")
_FRAME_KEY: Final = "relay_proof"
MAX_FRAME: Final = 512
"""Characters of the largest frame that is looked at for being an echo."""

_HELP: Final = "The control channel is replaced; if that does not help, look at the relay in the Azure portal."


INSISTENT: Final = 16
"""Echoes after a miss. With one deaf neighbour all of them are for it once in 65,536 times."""

SPREAD: Final = 0.25
"""Part of an echo's time over which several are spread, so that those that are heard at once need no others."""


class Verdict(IntEnum):
    """What echoes say about a channel; of several, the first of these."""

    HEARD = auto()
    FORBIDDEN = auto()
    MISSED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of an echo.

    Attributes:
        verdict: What it says about the channel.
        seconds: How long it took, when it was heard.
        reason: Why it was not.
    """

    verdict: Verdict
    seconds: float = 0.0
    reason: RelayError | None = None

    @property
    def was_told_to_nobody(self) -> bool:
        """Whether it was missed, and no listener of ours was told of it."""
        return self.verdict is Verdict.MISSED and self.reason is not None and self.reason.phase == Phase.CONTROL


@dataclass(slots=True)
class _Echo:
    """One echo under way.

    Attributes:
        nonce: Nobody else can guess it.
        announced_on: The channel its accept arrived on.
        connected: Whether the relay has opened the sender's side: then somebody came to the rendezvous.
    """

    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    announced_on: object | None = None
    connected: bool = False


class Echoes:
    """Sends echoes to our own hybrid connection, and recognises them when they arrive.

    Args:
        connection: The hybrid connection; its credential needs the Send right.
        dialling: Time-outs, proxy and TLS.
        seconds: Time for an echo to come back.
    """

    def __init__(self, connection: HybridConnection, dialling: DialOptions, seconds: float) -> None:
        self.listener_id = secrets.token_hex(8)
        self._connection = connection
        self._dialling = dialling
        self._seconds = seconds
        self._under_way: dict[str, _Echo] = {}

    # the listening side

    def recognise(self, address: str, channel: object) -> bool:
        """Whether the accept with this address, which came on ``channel``, is for an echo of ours."""
        found = _NONCE.search(address)
        return found is not None and self._note(found.group(1), channel)

    def answer(self, frame: str | bytes, channel: object) -> str | None:
        """The answer to an echo, ours or another listener's; ``None`` for every other frame."""
        if isinstance(frame, bytes) or len(frame) > MAX_FRAME or _FRAME_KEY not in frame:
            return None
        try:
            message = json.loads(frame)
        except (ValueError, RecursionError):
            return None
        if not isinstance(message, dict) or message.get("action_type") != "echo":
            return None
        nonce = message.get(_FRAME_KEY)
        if not isinstance(nonce, str):
            return None
        self._note(nonce, channel)
        return json.dumps({"status": "echo", "payload": message, "listener": self.listener_id})

    def _note(self, nonce: str, channel: object) -> bool:
        echo = self._under_way.get(nonce)
        if echo is None:
            return False
        echo.announced_on = channel
        return True

    # the sending side

    async def prove(self, channel: object, at_most: int = 1) -> Finding:
        """Say ``echo`` to ourselves until it is heard, ``at_most`` so many times. What that says about ``channel``."""
        pause = self._seconds * SPREAD / at_most
        asking = [asyncio.create_task(self._say_after(number * pause, channel)) for number in range(at_most)]
        found = list[Finding]()
        try:
            for said in asyncio.as_completed(asking):
                found.append(await said)
                if _suffices(found[-1]):
                    break
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return min(found, key=_weight)

    async def _say_after(self, seconds: float, channel: object) -> Finding:
        await asyncio.sleep(seconds)
        return await self._say(channel)

    async def _say(self, channel: object) -> Finding:
        echo, loop = _Echo(), asyncio.get_running_loop()
        self._under_way[echo.nonce] = echo
        began = loop.time()
        try:
            reply = await self._sent_and_returned(echo)
        except RelayError as error:
            return Finding(_judged(echo, error), reason=error)
        finally:
            del self._under_way[echo.nonce]
        ours = echo.announced_on is channel and echo.nonce in reply
        return Finding(Verdict.HEARD, loop.time() - began) if ours else Finding(Verdict.UNKNOWN)

    async def _sent_and_returned(self, echo: _Echo) -> str:
        token = await fresh_token(self._connection, DEFAULT_LIFETIME, self._dialling)  # a slow issuer is no deafness
        websocket: Connection | None = None
        try:
            async with asyncio.timeout(self._seconds):
                websocket = await self._open(echo, token)
                await websocket.send(json.dumps({"action_type": "echo", _FRAME_KEY: echo.nonce}))
                return str(await websocket.recv())
        except TimeoutError:
            raise RendezvousError(
                f"no echo came back within {self._seconds:g} s",
                phase=_reached(echo),
                address=self._where(websocket),
                code="no_echo",
                remedy=_HELP,
            ) from None
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 1006
            raise RendezvousError(
                f"no echo came back: {explain_close(code).meaning}",
                phase=_reached(echo),
                address=self._where(websocket),
                close_code=code,
                code="no_echo",
                remedy=_HELP,
            ) from error
        finally:
            if websocket is not None:
                await websocket.close()

    def _where(self, websocket: Connection | None) -> str:
        """Where an echo was sent to; without the resolved address when nobody came, for then no dial has ended."""
        namespace = self._connection.namespace
        return websocket.where if websocket else f"{namespace.host}:{namespace.port}"

    async def _open(self, echo: _Echo, token: Token) -> Connection:
        websocket = await dial(
            self._connection.connect_address(query=f"{KEY}={echo.nonce}"),
            self._dialling,
            headers={TOKEN_HEADER: token.value},
            max_size=64 * 1024,
        )
        echo.connected = True
        return websocket


_TOO_MUCH: Final = frozenset({429, 503})


def _weight(finding: Finding) -> tuple[Verdict, bool]:
    """The strongest evidence first; a miss of ours before one that may be another listener's."""
    return finding.verdict, finding.was_told_to_nobody


def _suffices(finding: Finding) -> bool:
    """Whether no more echoes are needed, or the relay asked for no more."""
    put_off = finding.reason is not None and finding.reason.retry_after
    return finding.verdict is Verdict.HEARD or bool(put_off)


def _reached(echo: _Echo) -> Phase:
    """How far an echo came: to nobody, to our control channel, or to somebody's rendezvous."""
    if echo.connected:
        return Phase.ACK
    return Phase.CONTROL if echo.announced_on is None else Phase.ACCEPT_DIAL


def _judged(echo: _Echo, error: RelayError) -> Verdict:
    """What the failure of an echo says.

    403 is a credential that may not send. 401 is one that the relay does not take at this moment, which has more
    reasons than a missing right: whether it may send is left to whoever sees it again and again.
    """
    if isinstance(error, DialError) and error.phase == Phase.UPGRADE and error.status in {401, 403}:
        return Verdict.FORBIDDEN if error.status == 403 else Verdict.UNKNOWN
    if isinstance(error, DialError) and error.status in _TOO_MUCH:
        return Verdict.UNKNOWN  # it was the relay that had no time for the sender
    met_by_another = echo.connected and echo.announced_on is None
    return Verdict.UNKNOWN if met_by_another or error.phase == Phase.TOKEN else Verdict.MISSED
