"""A relay emulator, a web app whose answers are scripted, and a courier between them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from gateway.application import Gateway
from gateway.delivery.courier import Courier, CourierOptions
from relay import Listener, ListenerOptions, Message, Sender, SenderOptions
from relay.emulator import Emulator
from tests import patient_loop

KEY_NAME = "gateway"
KEY = "bm90LWEtcmVhbC1rZXk="
PATH = "events"

FAST = CourierOptions(first_wait=0.02, longest_wait=0.05, poll=0.02)
"""The courier's times, a fiftieth of the real ones."""

Answer = str | dict[str, Any]
Script = Callable[[dict[str, Any]], Awaitable[Answer]]


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own, for at most half a minute in which the machine lets it."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        patient_loop.run(asyncio.wait_for(test(*arguments, **named), 30))

    return run


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def updated(event: dict[str, Any]) -> Answer:
    """What the web app answers when all is well."""
    return {"status": "updated", "event_id": event["event_id"]}


def always(answer: Answer) -> Script:
    """The same answer to everything."""

    async def answered(_: dict[str, Any]) -> Answer:
        return answer

    return answered


@dataclass
class WebApp:
    """A listener at the events hybrid connection that remembers what came and answers by its script."""

    script: Script = updated
    events: list[dict[str, Any]] = field(default_factory=list)
    under_way: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    most_of_one: int = 0

    async def take(self, message: Message) -> str:
        """One event."""
        event = json.loads(message.data)
        accession_number = event["data"]["accession_number"]
        self.under_way[accession_number] += 1
        self.most_at_once = max(self.most_at_once, self.under_way.total())
        self.most_of_one = max(self.most_of_one, self.under_way[accession_number])
        self.events.append(event)
        try:
            answer = await self.script(event)
        finally:
            self.under_way[accession_number] -= 1
        return answer if isinstance(answer, str) else json.dumps(answer)

    def heard(self, accession_number: str | None = None) -> list[tuple[str, int]]:
        """(status, attempt) of each event that came, in their order."""
        return [
            (event["data"]["status"], event["attempt"])
            for event in self.events
            if accession_number in (None, event["data"]["accession_number"])
        ]

    def statuses(self, accession_number: str | None = None) -> list[str]:
        """The status of each event that came, in their order."""
        return [status for status, _ in self.heard(accession_number)]


@asynccontextmanager
async def emulator(port: int = 0) -> AsyncIterator[Emulator]:
    """A relay with the events hybrid connection."""
    async with Emulator(port=port, hybrid_connections=[PATH], keys={KEY_NAME: KEY}) as relay:
        yield relay


@asynccontextmanager
async def listening(relay: Emulator, web_app: WebApp) -> AsyncIterator[WebApp]:
    """The web app listens until the block ends."""
    listener = Listener(relay.hybrid_connection(PATH, KEY_NAME), web_app.take, options=ListenerOptions())
    running = asyncio.create_task(listener.run())
    try:
        await relay.wait_for_listeners(PATH)
        yield web_app
    finally:
        await listener.stop(1)
        await running


def courier_to(relay: Emulator, gateway: Gateway, options: CourierOptions = FAST, *, patience: float = 10.0) -> Courier:
    """A courier that sends by this relay; `patience` is how long it waits for an acknowledgement."""
    return Courier(gateway, Sender(relay.hybrid_connection(PATH, KEY_NAME), SenderOptions(ack=patience)), options)


@asynccontextmanager
async def delivering(courier: Courier, *, wakes: bool = True) -> AsyncIterator[Courier]:
    """The courier runs until the block ends; as in the service, a commit wakes it."""
    loop = asyncio.get_running_loop()
    if wakes:
        courier.gateway.on_commit(lambda: None if loop.is_closed() else loop.call_soon_threadsafe(courier.wake))
    running = asyncio.create_task(courier.run())
    try:
        yield courier
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def delivery(
    gateway: Gateway, script: Script = updated, options: CourierOptions = FAST, *, patience: float = 10.0
) -> AsyncIterator[WebApp]:
    """All three, running."""
    async with (
        emulator() as relay,
        listening(relay, WebApp(script)) as web_app,
        delivering(courier_to(relay, gateway, options, patience=patience)),
    ):
        yield web_app


def settled(gateway: Gateway) -> bool:
    """Whether nothing waits any more."""
    return gateway.count_updates().waiting == 0


def states(gateway: Gateway, accession_number: str = "") -> list[str]:
    """The state of each update in the order they were requested."""
    rows = [
        row
        for state in ("waiting", "parked", "acknowledged")
        for row in gateway.find_updates(state=state, accession_number=accession_number)
    ]
    return [row.state for row in sorted(rows, key=lambda row: (row.requested_at, row.sequence))]
