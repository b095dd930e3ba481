"""The web app's listening side: a proper one that answers as it is told, and rude ones that break a rendezvous."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from relay import DialOptions, HybridConnection, Listener, ListenerOptions, ListenerState, ListenerStatus, Message
from tests.end_to_end.harness import Background, until

Answer = Callable[[dict[str, Any]], Any]
"""From an event to the reply: an object that becomes JSON, or a text that is sent as it is."""


def settled(event: dict[str, Any]) -> dict[str, Any]:
    """The web app took it over."""
    return {"status": "updated", "action_id": event["data"]["action_id"], "event_id": event["event_id"]}


class WebApp:
    """Listens for events, keeps each one that came, and answers by `answer`, which may be changed at any time."""

    def __init__(
        self, connection: HybridConnection, answer: Answer = settled, dialling: DialOptions | None = None
    ) -> None:
        self.connection = connection
        self.answer = answer
        self.dialling = dialling or DialOptions()
        self.arrived: list[dict[str, Any]] = []
        self.hearing = False

    async def run(self) -> None:
        """Listen until cancelled."""
        options = ListenerOptions(
            dial=self.dialling, on_state=self._note, first_retry=0.05, longest_retry=0.5, dial_limits=()
        )
        await Listener(self.connection, self._take, options=options).run()

    def _note(self, status: ListenerStatus) -> None:
        self.hearing = status.state is ListenerState.HEARING

    async def _take(self, message: Message) -> str:
        event = json.loads(message.data)
        self.arrived.append(event)
        reply = self.answer(event)
        return reply if isinstance(reply, str) else json.dumps(reply)

    def of(self, accession_number: str) -> list[dict[str, Any]]:
        """What came about an accession number, repeats included."""
        return [event for event in list(self.arrived) if event["data"]["accession_number"] == accession_number]

    def statuses(self, accession_number: str) -> list[str]:
        """The statuses that came about it, repeats included."""
        return [event["data"]["status"] for event in self.of(accession_number)]

    def until_told(self, accession_number: str, *statuses: str, seconds: float = 60.0) -> list[dict[str, Any]]:
        """Wait until exactly these statuses have come about it."""
        until(
            lambda: self.statuses(accession_number) == list(statuses),
            f"the web app hears {statuses} of {accession_number} (heard {self.statuses(accession_number)})",
            seconds,
        )
        return self.of(accession_number)


@contextmanager
def web_app(
    connection: HybridConnection, answer: Answer = settled, dialling: DialOptions | None = None
) -> Iterator[WebApp]:
    """A web app that listens until the block ends."""
    listening, background = WebApp(connection, answer, dialling), Background()
    background.start(listening.run())
    try:
        until(lambda: listening.hearing, "the web app listens")
        yield listening
    finally:
        background.close()


Conduct = Callable[[ClientConnection], Awaitable[None]]
"""What a rude web app does at a rendezvous, before it closes it."""


class RudeWebApp:
    """Comes to each rendezvous and then behaves as `conduct` says; counts the visits."""

    def __init__(self, connection: HybridConnection, conduct: Conduct) -> None:
        self.connection = connection
        self.conduct = conduct
        self.visits = 0
        self.listening = False
        self._meetings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen until cancelled."""
        token = await self.connection.credential.issue(self.connection.resource_uri)
        headers = {"ServiceBusAuthorization": token.value}
        async with connect(
            self.connection.listen_address(), additional_headers=headers, proxy=None, compression=None
        ) as control:
            self.listening = True
            async for frame in control:
                address = json.loads(frame)["accept"]["address"]
                meeting = asyncio.create_task(self._meet(address))
                self._meetings.add(meeting)
                meeting.add_done_callback(self._meetings.discard)

    async def _meet(self, address: str) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            async with connect(address, proxy=None, compression=None) as websocket:
                self.visits += 1
                await self.conduct(websocket)


@contextmanager
def rude_web_app(connection: HybridConnection, conduct: Conduct) -> Iterator[RudeWebApp]:
    """A rude web app that listens until the block ends."""
    listening, background = RudeWebApp(connection, conduct), Background()
    background.start(listening.run())
    try:
        until(lambda: listening.listening, "the rude web app listens")
        yield listening
    finally:
        background.close()


async def closes_at_once(_: ClientConnection) -> None:
    """Close without having heard anything."""


async def hears_and_closes(websocket: ClientConnection) -> None:
    """Take the event and go without a word."""
    await websocket.recv()


async def drops_the_line(websocket: ClientConnection) -> None:
    """Take the event and tear the connection down."""
    await websocket.recv()
    websocket.transport.abort()


async def never_answers(websocket: ClientConnection) -> None:
    """Take the event and wait until the other side gives up."""
    await websocket.recv()
    await websocket.wait_closed()


async def answers_in_binary(websocket: ClientConnection) -> None:
    """An answer nobody can read."""
    await websocket.recv()
    await websocket.send(b"\x00\xff\x00")
    await websocket.wait_closed()


async def answers_without_end(websocket: ClientConnection) -> None:
    """More than a gateway reads."""
    await websocket.recv()
    await websocket.send("x" * (5 * 1024 * 1024))
    await websocket.wait_closed()
