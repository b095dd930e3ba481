"""The sender: one message, one acknowledgement, one rendezvous."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from websockets.exceptions import ConnectionClosed

from relay.connection_string import HybridConnection
from relay.dial import Connection, DialOptions, dial, fresh_token
from relay.errors import Phase, RendezvousError
from relay.protocol import explain_close, tracking_id
from relay.tokens import DEFAULT_LIFETIME, TOKEN_HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderOptions:
    """How a sender behaves; times in seconds, sizes in bytes.

    Attributes:
        dial: Time-outs per phase, proxy and TLS; may be the listener's.
        connect: Time for the relay to answer the handshake, in place of ``dial.timeouts.upgrade``: it holds its answer
            until the listener has come to the rendezvous, up to 30 s.
        send: Time for the message to be taken.
        ack: Time for the answer to come.
        max_message_size: Largest answer taken.
        token_lifetime: Life of the tokens asked for.
    """

    dial: DialOptions = field(default_factory=DialOptions)
    connect: float = 35.0
    send: float = 10.0
    ack: float = 30.0
    max_message_size: int = 4 * 1024 * 1024
    token_lifetime: timedelta = DEFAULT_LIFETIME


class Sender:
    """Sends messages to whoever listens on a hybrid connection.

    Args:
        connection: The hybrid connection, with a credential that has the Send right.
        options: Bounds and times.
    """

    def __init__(self, connection: HybridConnection, options: SenderOptions | None = None) -> None:
        self.connection = connection
        self.options = options or SenderOptions()
        dialling = self.options.dial
        self._dialling = replace(dialling, timeouts=replace(dialling.timeouts, upgrade=self.options.connect))

    async def send(self, text: str) -> str:
        """Send one text frame over a rendezvous of its own and return the one frame that answers it.

        Raises:
            RelayError: with its phase. ``connection_failed`` tells that no connection came about (nobody listens,
                refused, timed out) and nothing was said; otherwise the message may have arrived.
        """
        websocket = await self.open()
        try:
            await self._say(websocket, text)
            return await self._answer(websocket)
        finally:
            await websocket.close()

    async def open(self) -> Connection:
        """Open a rendezvous and leave the conversation to the caller, who closes it.

        Raises:
            DialError: no connection came about.
        """
        token = await fresh_token(self.connection, self.options.token_lifetime, self._dialling)
        return await dial(
            self.connection.connect_address(),
            self._dialling,
            headers={TOKEN_HEADER: token.value},
            max_size=self.options.max_message_size,
        )

    async def _say(self, websocket: Connection, text: str) -> None:
        try:
            async with asyncio.timeout(self.options.send):
                await websocket.send(text)
        except TimeoutError:
            websocket.transport.abort()  # to close politely is to send, and that would wait for ever too
            raise _fell_short(websocket, "the message was not taken", Phase.FIRST_MESSAGE, "stuck") from None
        except ConnectionClosed as error:
            raise _closed(error, Phase.FIRST_MESSAGE, websocket) from error

    async def _answer(self, websocket: Connection) -> str:
        try:
            async with asyncio.timeout(self.options.ack):
                answer = await websocket.recv()
        except TimeoutError:
            raise _fell_short(websocket, "no answer came", Phase.ACK, "no_answer") from None
        except ConnectionClosed as error:
            raise _closed(error, Phase.ACK, websocket) from error
        if isinstance(answer, bytes):
            raise _fell_short(websocket, "the answer is binary, not text", Phase.ACK, "binary_answer")
        return answer


_HELP: Final = "Look at the listening side; the message may have arrived."


def _fell_short(websocket: Connection, message: str, phase: Phase, code: str) -> RendezvousError:
    return RendezvousError(message, phase=phase, code=code, address=websocket.where, remedy=_HELP)


def _closed(error: ConnectionClosed, phase: Phase, websocket: Connection) -> RendezvousError:
    frame = error.rcvd or error.sent
    code = frame.code if frame else 1006
    meaning = explain_close(code)
    return RendezvousError(
        f"no answer: {meaning.meaning}" if phase == Phase.ACK else meaning.meaning,
        phase=phase,
        close_code=code,
        code=meaning.code,
        tracking_id=tracking_id(frame.reason) if frame else None,
        address=websocket.where,
        remedy=_HELP,
    )
