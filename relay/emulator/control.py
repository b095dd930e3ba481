"""The relay's end of a control channel."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Final

from websockets.exceptions import ConnectionClosed

from relay.emulator.calls import Call, Refusal, tracked
from relay.emulator.door import Door
from relay.emulator.faults import Value
from relay.emulator.http import Exchange
from relay.errors import ControlMessageError
from relay.protocol import MAX_CONTROL_BODY, RenewToken, Request, Response, parse_control_message

LOG: Final = logging.getLogger("relay.emulator")


class ControlEnd:
    """One listener's control channel, seen from the relay.

    Args:
        door: Its websocket.
        call: The request that opened it.
        cut_off: When it is closed for want of a valid token, on the loop's clock.
        renew: Checks a new token and tells the new cut-off, ``None`` where it stays as it was; raises `Refusal`.
        renewed: Told of every attempt to renew.
        deregistered: Told when it is counted as a listener no more.

    Attributes:
        registered: Whether it counts as a listener.
        deaf: Whether it is told of nobody.
    """

    def __init__(
        self,
        door: Door,
        call: Call,
        cut_off: float,
        renew: Callable[[str], float | None],
        renewed: Callable[[ControlEnd, bool], None],
        deregistered: Callable[[ControlEnd], None],
    ) -> None:
        self.call = call
        self._door = door
        self._cut_off = asyncio.timeout_at(cut_off)
        self._renew = renew
        self._renewed = renewed
        self._deregistered = deregistered
        self._sending = asyncio.Lock()
        self._exchanges: dict[str, Exchange] = {}
        self._awaiting_body: Response | None = None
        self.registered = True
        self.deaf = False

    @property
    def path(self) -> str:
        """The hybrid connection it listens on, as asked for."""
        return self.call.path

    @property
    def close_code(self) -> int:
        """How it ended."""
        return self._door.close_code or 1006

    async def serve(self) -> None:
        """Read what the listener says until it goes or its token has been expired for too long."""
        try:
            async with self._cut_off:
                async for frame in self._door:
                    await self._take(frame)
        except ConnectionClosed:
            pass  # cut, or closed with a code: how it ended is in ``close_code``
        except TimeoutError:
            await self.close(1008, "ExpiredToken: The token is expired.")

    async def send(self, *frames: str | bytes) -> None:
        """Send frames that belong together, nothing in between."""
        async with self._sending:
            for frame in frames:
                await self._door.send(frame)

    async def close(self, code: int, reason: str) -> None:
        """Close politely; the reason gets a tracking id."""
        await self._door.close(code, tracked(reason))

    async def suffer(self, fault: str, details: Mapping[str, Value]) -> None:
        """Have a fault of `CATALOGUE` that happens once happen to this channel."""
        match fault:
            case "deaf":
                self.deaf = True
            case "deregister" if self.registered:
                self.registered = False
                self._deregistered(self)
            case "silent":
                self.deaf = self._door.silent = True
            case "cut":
                _reset(self._door.transport)
            case "hang-up":
                self._door.transport.abort()
            case "close":
                await self.close(int(details["code"]), str(details["reason"]))
            case "expire":
                self._cut_off.reschedule(asyncio.get_running_loop().time())
            case "garbage":
                frame = str(details["frame"])
                await self.send(frame.encode() if details["binary"] else frame)

    async def request(self, exchange: Exchange, address: str) -> None:
        """Pass an HTTP request on: whole if it is small, else as a call to a rendezvous."""
        self._exchanges[exchange.id] = exchange
        exchange.done.add_done_callback(lambda _: self._exchanges.pop(exchange.id, None))
        exchange.address = address
        request = exchange.request()
        if len(exchange.body) <= MAX_CONTROL_BODY:
            await self.send(request.to_text(), *([exchange.body] if request.body else []))
        else:
            exchange.waits_at_rendezvous = True
            await self.send(Request(address, exchange.id).to_text())

    async def _take(self, frame: str | bytes) -> None:
        response, self._awaiting_body = self._awaiting_body, None
        if isinstance(frame, bytes):
            if response is not None:
                self._respond(response, frame)
            return  # else an empty binary frame: hyco-https sends them, they mean nothing
        try:
            message = parse_control_message(frame)
        except ControlMessageError as error:
            LOG.info("control_message_unreadable", extra={"reason": error.message, "size": len(frame)})
            return
        match message:
            case RenewToken(token=token):
                await self._renew_token(token)
            case Response(body=True):
                self._awaiting_body = message
            case Response():
                self._respond(message, b"")

    async def _renew_token(self, token: str) -> None:
        try:
            cut_off = self._renew(token)
        except Refusal as refusal:
            self._renewed(self, False)
            await self.close(1008, refusal.text)
        else:
            if cut_off is not None:
                self._cut_off.reschedule(cut_off)
            self._renewed(self, True)

    def _respond(self, response: Response, body: bytes) -> None:
        exchange = self._exchanges.get(response.request_id)
        if exchange is not None:
            exchange.respond(response, body)


def _reset(transport: asyncio.Transport) -> None:
    """Close a TCP connection by RST instead of FIN, as a firewall or a crashed machine does."""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
