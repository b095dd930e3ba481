"""`gateway demo`: one appointment from the web app to the modality and back, told hop by hop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gateway.demo.web_app import SAMPLES, Participant, WebApp
from gateway.errors import GatewayError, SettingsInvalid
from gateway.rehearsal.modality import Modality
from gateway.service import Service
from gateway.settings import Settings, load
from relay import ConnectionString, Namespace, SharedAccessKey
from relay.emulator import Emulator, EmulatorOptions

PATIENCE = 15.0
_KEY_NAME = "demo"

Tell = Callable[[str], None]


@dataclass
class Hospital:
    """What runs in the demo."""

    emulator: Emulator
    service: Service
    web_app: WebApp
    modality: Modality
    date: str


async def play(settings: Settings, *, once: bool, tell: Tell) -> bool:
    """Play the demo; returns whether the web app was told both statuses. Without `once` it keeps serving."""
    narrator = Narrator(tell)
    async with hospital(settings, narrator, any_port=once) as staff:
        await _schedule(staff, narrator)
        told = await examine(staff, narrator, SAMPLES[1].accession_number)
        if not once:
            await _keep_serving(staff, tell)
        return told


class Narrator:
    """Tells each hop with the time since the start."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._began = time.monotonic()

    def hop(self, who: str, what: str) -> None:
        """Tell one."""
        self._tell(f"{time.monotonic() - self._began:7.3f} s  {who:<9} {what}")

    def scheduled(self, participant: Participant, reply: dict[str, Any]) -> None:
        """What the web app asked for, and what it was answered."""
        hour = f"{participant.time[:2]}:{participant.time[2:4]}"
        again = ", as it had before" if reply.get("duplicate") else ""
        self.hop(
            "web app",
            f"schedules {participant.accession_number} for today {hour} → gateway answers {reply['status']}{again}",
        )

    def event(self, event: dict[str, Any]) -> None:
        """What the web app heard."""
        data = event["data"]
        self.hop("web app", f"hears that {data['accession_number']} is {data['status']}, and acknowledges it")


@asynccontextmanager
async def hospital(
    settings: Settings,
    narrator: Narrator,
    *,
    any_port: bool,
    relay: EmulatorOptions | None = None,
    patience: float = 30.0,
    **scaled: float,
) -> AsyncIterator[Hospital]:
    """Everything the demo needs, running, until the block ends.

    `relay` and the settings `scaled` shorten times; `patience` is how long the web app waits for a reply. Raises
    `SettingsInvalid` where relay settings are present.
    """
    if settings.relay_configured:
        raise SettingsInvalid(
            "relay settings are present: the demo never talks to a real relay",
            remedy="unset AZURE_RELAY_… (also in .env), or run gateway serve",
        )
    with tempfile.TemporaryDirectory(prefix="gateway-demo-") as folder:
        key = secrets.token_urlsafe(32)
        async with Emulator(hybrid_connections=["actions", "events"], keys={_KEY_NAME: key}, options=relay) as emulator:
            string = ConnectionString(
                Namespace("127.0.0.1", emulator.port, secure=False), SharedAccessKey(_KEY_NAME, key)
            )
            narrator.hop("relay", f"the emulator listens at ws://127.0.0.1:{emulator.port}, with actions and events")
            actions, events = string.hybrid_connection("actions"), string.hybrid_connection("events")
            service = Service(_demo_settings(settings, string, Path(folder), any_port=any_port, **scaled))
            web_app = WebApp(actions, events, on_event=narrator.event, patience=patience)
            modality = Modality(_reached_at(settings.gateway_dicom_host), 0, settings.gateway_ae_title, "MAMMO1")
            async with _running(service, web_app, narrator):
                modality.port = service.dicom.port
                yield Hospital(emulator, service, web_app, modality, datetime.now(settings.zone).strftime("%Y%m%d"))


def _demo_settings(
    settings: Settings, string: ConnectionString, folder: Path, *, any_port: bool, **scaled: float
) -> Settings:
    """The user's settings with a relay, a database and ports of the demo's own."""

    def port(wanted: int) -> int:
        return 0 if any_port or not _is_free(wanted) else wanted

    return load(
        **settings.model_dump()
        | {
            "azure_relay_connection_string": string.format(),
            "azure_relay_authentication": None,
            "azure_relay_events_connection_string": None,
            "azure_relay_hybrid_connection": "actions",
            "azure_relay_events_hybrid_connection": "events",
            "gateway_relay_proxy": "none",  # the emulator is on this machine, where no proxy leads
            "gateway_relay_ca_file": None,
            "gateway_modalities_file": None,  # the site's list does not know the demo's unit
            "worklist_db_path": folder / "gateway.db",
            "gateway_dicom_port": port(settings.gateway_dicom_port),
            "gateway_ops_port": port(settings.gateway_ops_port),
        }
        | scaled
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104  the demo's gateway listens there too
        except OSError:
            return False
    return True


@asynccontextmanager
async def _running(service: Service, web_app: WebApp, narrator: Narrator) -> AsyncIterator[None]:
    started = asyncio.Event()
    serving = asyncio.create_task(service.run(started.set))
    listening = asyncio.create_task(web_app.run())
    try:
        await _first(serving, started.wait())
        narrator.hop(
            "gateway",
            f"serves {service.settings.gateway_ae_title} on port {service.dicom.port}, database in a temporary folder",
        )
        await _first(serving, service.hearing.wait())
        await web_app.until_listening()
        yield
    finally:
        service.ask_to_stop()
        listening.cancel()
        await asyncio.gather(serving, listening, return_exceptions=True)


async def _first(serving: asyncio.Task[None], awaited: Any) -> None:  # noqa: ANN401  anything to wait for
    """Wait, unless the service ends before: then raise what ended it."""
    waiting = asyncio.ensure_future(awaited)
    await asyncio.wait([serving, waiting], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        waiting.cancel()
        serving.result()
    if not waiting.done():
        waiting.cancel()
        raise GatewayError("the demo did not start in time", remedy="try again on a machine with less load")


async def _schedule(hospital: Hospital, narrator: Narrator) -> None:
    for participant in SAMPLES:
        reply = await hospital.web_app.schedule(participant, hospital.date)
        narrator.scheduled(participant, reply)


async def examine(hospital: Hospital, narrator: Narrator, accession_number: str) -> bool:
    """One examination from the worklist to both statuses told; false when something of it did not come about."""
    entries = await asyncio.to_thread(hospital.modality.find, modality="MG", date=hospital.date)
    listed = ", ".join(entry.accession_number for entry in entries)
    narrator.hop("modality", f"MAMMO1 asks for today's worklist → {listed}")
    chosen = next((entry for entry in entries if entry.accession_number == accession_number), None)
    if chosen is None:
        narrator.hop("modality", f"{accession_number} is not on the list")
        return False

    narrator.hop("modality", f"MAMMO1 begins {accession_number} and says so (MPPS N-CREATE, IN PROGRESS)")
    examination = await asyncio.to_thread(hospital.modality.start, chosen)
    started = await hospital.web_app.until_told(accession_number, "IN PROGRESS", seconds=PATIENCE)
    narrator.hop("modality", "MAMMO1 is done and says so (MPPS N-SET, COMPLETED)")
    await asyncio.to_thread(hospital.modality.finish, examination)
    completed = await hospital.web_app.until_told(accession_number, "COMPLETED", seconds=PATIENCE)
    narrator.hop(
        "demo", "the web app heard both statuses" if started and completed else "the web app did NOT hear both statuses"
    )
    return started and completed


async def _keep_serving(hospital: Hospital, tell: Tell) -> None:
    dicom, ae_title = hospital.service.dicom.port, hospital.service.settings.gateway_ae_title
    database = hospital.service.settings.worklist_db_path
    tell("")
    host = _reached_at(hospital.service.settings.gateway_ops_host)
    tell(f"It keeps serving. The window: http://{host}:{hospital.service.ops_port}/clinic")
    tell("In another terminal:")
    tell(
        f"  findscu -W -aec {ae_title} -k PatientName -k AccessionNumber"
        f' -k "ScheduledProcedureStepSequence[0].Modality=MG" localhost {dicom}'
    )
    command = _how_it_was_called()
    tell(f"  {command} modality perform ACC002 -p {dicom}")
    tell(f"  WORKLIST_DB_PATH={shlex.quote(str(database))} {command} timeline ACC001")
    tell("Ctrl-C ends it.")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows, or not the main thread
            loop.add_signal_handler(number, stop.set)
    await stop.wait()


def _reached_at(host: str) -> str:
    """Where this machine reaches a service that listens there."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a name to compare with


def _how_it_was_called() -> str:
    """`gateway` where the shell finds it, else the path that was typed."""
    return "gateway" if shutil.which("gateway") else shlex.quote(sys.argv[0])
