"""A simulated web app: schedules appointments over the actions hybrid connection and takes events over the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from relay import (
    HybridConnection,
    Listener,
    ListenerOptions,
    ListenerState,
    ListenerStatus,
    Message,
    Sender,
    SenderOptions,
)


@dataclass(frozen=True, slots=True)
class Participant:
    """A synthetic person with an appointment."""

    accession_number: str
    nhs_number: str
    name: str
    birth_date: str
    sex: str
    time: str
    study_description: str


SAMPLES = (
    Participant("ACC000", "BS000001", "SMITH^JOHN", "19650315", "M", "100000", "Bilateral Mammography"),
    Participant("ACC001", "BS001234", "SMITH^JANE", "19650315", "F", "100000", "Bilateral Mammography"),
    Participant("ACC002", "BS005678", "JONES^MARY", "19700822", "F", "110000", "Screening Mammography"),
)
"""The proof of concept's sample worklist."""


@dataclass
class WebApp:
    """Sends actions, acknowledges events, and remembers both. `on_event` is told of each new event as it comes."""

    actions: HybridConnection
    events: HybridConnection
    on_event: Callable[[dict[str, Any]], None] = lambda _: None
    patience: float = 30.0
    """Seconds it waits for a reply."""
    received: list[dict[str, Any]] = field(default_factory=list)
    repeats: int = 0
    """Events that came although they had come before."""
    scheduled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._sender = Sender(self.actions, SenderOptions(ack=self.patience))
        self._listening = asyncio.Event()
        self._listener = Listener(self.events, self._take, options=ListenerOptions(on_state=self._note_state))
        self._arrived = asyncio.Condition()

    async def run(self) -> None:
        """Listen for events until cancelled."""
        await self._listener.run()

    async def until_listening(self) -> None:
        """Wait until events can come."""
        await self._listening.wait()

    def _note_state(self, status: ListenerStatus) -> None:
        if status.state is ListenerState.HEARING:
            self._listening.set()

    async def schedule(self, participant: Participant, date: str, action_id: str | None = None) -> dict[str, Any]:
        """Schedule an appointment for a day (`YYYYMMDD`); returns the gateway's reply.

        Whoever got no reply says the same again with the same `action_id`. Raises `RelayError`.
        """
        action_id = action_id or str(uuid4())
        action = {
            "schema_version": 1,
            "action_id": action_id,
            "action_type": "worklist.create_item",
            "timestamp": datetime.now(UTC).isoformat(),
            "source_system": "simulated-web-app",
            "parameters": {
                "worklist_item": {
                    "accession_number": participant.accession_number,
                    "participant": {
                        "nhs_number": participant.nhs_number,
                        "name": participant.name,
                        "birth_date": participant.birth_date,
                        "sex": participant.sex,
                    },
                    "scheduled": {"date": date, "time": participant.time},
                    "procedure": {"modality": "MG", "study_description": participant.study_description},
                }
            },
        }
        self.scheduled.add(action_id)
        reply: dict[str, Any] = json.loads(await self._sender.send(json.dumps(action)))
        return reply

    async def until_told(self, accession_number: str, status: str, *, seconds: float) -> bool:
        """Wait until an event says that this item has this status."""

        def told() -> bool:
            return any(
                event["data"]["accession_number"] == accession_number and event["data"]["status"] == status
                for event in self.received
            )

        try:
            async with asyncio.timeout(seconds), self._arrived:
                await self._arrived.wait_for(told)
        except TimeoutError:
            return False
        return True

    async def _take(self, message: Message) -> str:
        """Acknowledge an event as the web app does; an event_id that is known changes nothing."""
        event = json.loads(message.data)
        data = event.get("data", {})
        if data.get("action_id") not in self.scheduled:
            return json.dumps({"status": "action_not_found", "action_id": data.get("action_id")})
        async with self._arrived:
            if event["event_id"] not in {known["event_id"] for known in self.received}:
                self.received.append(event)
                self.on_event(event)
            else:
                self.repeats += 1
            self._arrived.notify_all()
        return json.dumps({"status": "updated", "action_id": data["action_id"], "event_id": event["event_id"]})
