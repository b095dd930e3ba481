"""The simulated web app on its own, for `docker-compose.yml`'s demo profile."""

from __future__ import annotations

import asyncio
import signal
from datetime import datetime
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, wait_fixed

from gateway.demo.story import Tell
from gateway.demo.web_app import SAMPLES, WebApp
from gateway.errors import SettingsInvalid
from gateway.relay_connections import relay_connections
from gateway.settings import Settings
from relay import RelayError


async def run_web_app(settings: Settings, tell: Tell) -> None:
    """Schedule the samples for today, then acknowledge events until told to stop. Refuses a real relay."""
    connections = relay_connections(settings)
    if connections is None or connections.events is None or not connections.is_emulator:
        raise SettingsInvalid(
            "the simulated web app needs an emulator with both hybrid connections",
            remedy="set AZURE_RELAY_CONNECTION_STRING with UseDevelopmentEmulator=true, "
            "AZURE_RELAY_HYBRID_CONNECTION and AZURE_RELAY_EVENTS_HYBRID_CONNECTION",
        )

    def heard(event: dict[str, Any]) -> None:
        tell(f"web app hears that {event['data']['accession_number']} is {event['data']['status']}")

    web_app = WebApp(connections.actions, connections.events, on_event=heard)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = [asyncio.create_task(web_app.run()), asyncio.create_task(_schedule(web_app, settings, tell))]
    await stop.wait()
    for part in parts:
        part.cancel()
    await asyncio.gather(*parts, return_exceptions=True)


async def _schedule(web_app: WebApp, settings: Settings, tell: Tell) -> None:
    date = datetime.now(settings.zone).strftime("%Y%m%d")
    for participant in SAMPLES:
        async for attempt in AsyncRetrying(retry=retry_if_exception_type(RelayError), wait=wait_fixed(1)):
            with attempt:
                reply = await web_app.schedule(participant, date)
        tell(f"web app schedules {participant.accession_number} → {reply['status']}")
