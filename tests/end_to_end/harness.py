"""Real processes on real ports: the gateway, the relay emulator, and the command line beside them.

Nothing here sleeps to be in step with somebody: `until` asks again and again until a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from gateway.application import Gateway, opened
from projections.worklist import WorklistFilter, WorklistRow
from relay import (
    ConnectionString,
    DialOptions,
    HybridConnection,
    Namespace,
    Sender,
    SenderOptions,
    SharedAccessKey,
)
from relay.emulator import Emulator, EmulatorOptions
from relay.emulator.faults import Fault

GATEWAY = Path(sys.executable).with_name("gateway")
AE_TITLE = "ORTHANC_MWL"
KEY_NAME = "end-to-end"
KEY = "c2VjcmV0IGtleSBvZiB0aGUgdGVzdHM9PQ=="
SITE = ZoneInfo("Europe/London")
CONTRACT = Path(__file__).parents[2] / "gateway" / "contract" / "samples"

_OURS = ("GATEWAY_", "AZURE_", "WORKLIST_")
_DICE = random.Random()
_MOST_WORKERS = 16
_ports_taken: set[int] = set()

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, seconds: float = 60.0, every: float = 0.02) -> T:
    """The condition's value as soon as it is true; a failure that says what was waited for after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain until {what}")
        time.sleep(every)
    return value


def free_port() -> int:
    """A port that nobody listens at, below those the system hands out, so that it stays ours over a restart.

    Those who test beside us have other ones to choose from: a port is ours from here on, and listened at only later.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _MOST_WORKERS
    while True:
        port = _DICE.randrange(15_000 + worker, 32_000, _MOST_WORKERS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _ports_taken:
                _ports_taken.add(port)
                return port


def tool(name: str, *places: str) -> str:
    """An outside program; without it the test is skipped, in CI it fails."""
    for place in (*places, shutil.which(name) or ""):
        if place and Path(place).exists():
            return place
    reason = f"{name} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def environment(**settings: object) -> dict[str, str]:
    """The process's environment without our variables and proxies, and with these settings."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OURS) and not name.lower().endswith("_proxy")
    }
    return bare | {"PYTHONUNBUFFERED": "1"} | {name.upper(): str(value) for name, value in settings.items()}


class Process:
    """A command of ours as a process of its own; what it says is kept over restarts."""

    def __init__(self, folder: Path, name: str, arguments: list[str], settings: dict[str, object]) -> None:
        self.folder = folder
        self.name = name
        self.arguments = arguments
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        folder.mkdir(parents=True, exist_ok=True)

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [GATEWAY, *self.arguments],
                cwd=self.folder,
                env=environment(**self.settings),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: no chance to say goodbye."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        """Ask it to stop; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} did not stop within {seconds} s of {signal.Signals(number).name}\n{self.tail()}")

    def end(self) -> None:
        """Be rid of it, whatever state it is in."""
        if self.running:
            self.kill()

    def wait_for_exit(self, seconds: float = 15.0) -> int:
        """Its exit code, once it has ended by itself."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} still ran after {seconds} s\n{self.tail()}")

    def output(self) -> str:
        """All it ever said, on stdout and stderr."""
        return self.out.read_text("utf-8", "replace") + self.err.read_text("utf-8", "replace")

    def tail(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])

    def lines(self) -> list[dict[str, Any]]:
        """The log's lines; each is a JSON object, or the test fails."""
        return [json.loads(line) for line in self.err.read_text("utf-8").splitlines()]

    def said(self, event: str, **keys: object) -> dict[str, Any] | None:
        """The last log line of this event with these values."""
        found = None
        for line in self.err.read_text("utf-8").splitlines(keepends=True):
            if line.endswith("\n") and f'"{event}"' in line:
                entry = json.loads(line)
                if entry.get("event") == event and keys.items() <= entry.items():
                    found = entry
        return found


class Relay:
    """Where a relay emulator is, with the hybrid connections `actions` and `events`.

    `host` is its name at the gateway's; `dialling` is how the web app comes to it.
    """

    port: int
    host = "127.0.0.1"
    secure = False
    dialling = DialOptions(proxy=None)

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def connection_string(self) -> str:
        """As it stands in the gateway's settings."""
        namespace = Namespace(self.host, self.port, secure=self.secure)
        return ConnectionString(namespace, SharedAccessKey(KEY_NAME, KEY)).format()

    def connection(self, path: str) -> HybridConnection:
        """One of its hybrid connections, as the web app has it."""
        namespace = Namespace("127.0.0.1", self.port, secure=self.secure)
        return ConnectionString(namespace, SharedAccessKey(KEY_NAME, KEY)).hybrid_connection(path)


class LocalRelay(Relay):
    """An emulator in a thread of the test: nothing to wait for."""

    def __init__(self, **options: Any) -> None:
        self.port = free_port()
        self._background = Background()
        self.emulator = Emulator(
            "127.0.0.1",
            self.port,
            hybrid_connections=["actions", "events"],
            keys={KEY_NAME: KEY},
            options=EmulatorOptions(**options),
        )

    def start(self) -> LocalRelay:
        """Serve."""
        self._background.start(self.emulator.start()).result(10)
        return self

    def begin(self, fault: str, **details: Any) -> Fault:
        """Have a fault happen, or begin; what is known of it."""
        begun: Fault = self._background.start(self.emulator.faults.begin(fault, **details)).result(10)
        return begun

    def end(self, fault: str | None = None) -> None:
        """End the faults of this name, or all."""
        self._background.loop.call_soon_threadsafe(self.emulator.faults.end, fault)

    def stop(self) -> None:
        """Close everything; it may be started again."""
        self._background.start(self.emulator.stop()).result(10)

    def close(self) -> None:
        """Be gone for good."""
        self.stop()
        self._background.close()


class RelayProcess(Process, Relay):
    """`gateway relay emulate`."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        arguments = ["relay", "emulate", "--port", str(self.port)]
        arguments += ["--hybrid-connection", "actions", "--hybrid-connection", "events"]
        key = {"azure_relay_key_name": KEY_NAME, "azure_relay_shared_access_key": KEY}
        super().__init__(folder, "relay", arguments, key)

    def start(self) -> RelayProcess:
        """Start it and wait until it takes connections."""
        self.launch()
        until(lambda: can_connect(self.port) or not self.running, "the emulator listens")
        assert self.running, self.tail()
        return self


class GatewayProcess(Process):
    """`gateway serve` on ports and a database of its own."""

    def __init__(self, folder: Path, relay: Relay | None = None, **settings: object) -> None:
        self.relay = relay
        self.database = folder / "data" / "gateway.db"
        self.dicom_port, self.ops_port = free_port(), free_port()
        ours: dict[str, object] = {
            "worklist_db_path": self.database,
            "gateway_dicom_host": "127.0.0.1",
            "gateway_dicom_port": self.dicom_port,
            "gateway_ops_port": self.ops_port,
            "gateway_log_format": "json",
        }
        if relay:
            ours |= {
                "azure_relay_connection_string": relay.connection_string,
                "azure_relay_hybrid_connection": "actions",
                "azure_relay_events_hybrid_connection": "events",
            }
        super().__init__(folder, "gateway", ["serve"], ours | settings)

    def start(self, *, healthy: bool = True, seconds: float = 60.0) -> GatewayProcess:
        """Start it and wait until health says that all is well, or, unless `healthy`, until it answers at all."""
        self.launch()
        self.until_health(lambda report: report["healthy"] or not healthy, "the gateway is up", seconds)
        return self

    def restart(self) -> GatewayProcess:
        """Kill it and start it again."""
        self.kill()
        return self.start()

    def health(self) -> tuple[int, dict[str, Any]] | None:
        """Status and report of `GET /health`; None while nobody answers."""
        return http_json(f"http://127.0.0.1:{self.ops_port}/health")

    def until_health(
        self, condition: Callable[[dict[str, Any]], object], what: str, seconds: float = 60.0
    ) -> dict[str, Any]:
        """The first health report for which the condition holds."""

        def holds() -> dict[str, Any] | None:
            assert self.running, f"the gateway has ended with {self.process and self.process.poll()}\n{self.tail()}"
            answer = self.health()
            return answer[1] if answer and condition(answer[1]) else None

        return until(holds, what, seconds)

    def until_said(self, event: str, seconds: float = 60.0, **keys: object) -> dict[str, Any]:
        """The log line of this event, as soon as it is there."""
        return until(lambda: self.said(event, **keys), f"the log says {event} {keys or ''}", seconds)

    def command(self, *arguments: str, code: int | None = 0, **settings: object) -> subprocess.CompletedProcess[str]:
        """Another `gateway` command with the same settings; its exit code must be `code`."""
        done = subprocess.run(
            [GATEWAY, *arguments],
            cwd=self.folder,
            env=environment(**(self.settings | settings)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert code is None or done.returncode == code, f"{arguments} → {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def look(self, *arguments: str) -> Any:
        """What a command prints with `--json`."""
        return json.loads(self.command(*arguments, "--json").stdout)

    def store(self) -> AbstractContextManager[Gateway]:
        """The same application over the same file in the test's own process, as an operator's command has it."""
        return opened(self.database)

    def item(self, accession_number: str) -> WorklistRow:
        """The worklist's row of an accession number."""
        with self.store() as store:
            [row] = store.find_items(WorklistFilter(accession_number=accession_number))
        return row

    def item_count(self) -> int:
        """How many items there are, test items aside."""
        with self.store() as store:
            return sum(store.count_by_status().values())

    def status(self, accession_number: str) -> str:
        """The status of an item."""
        return self.item(accession_number).status

    def owed(self, state: str | None = None) -> list[tuple[str, int, str]]:
        """Accession number, sequence and state of the unsettled updates, or of those in a state."""
        with self.store() as store:
            return [(row.accession_number, row.sequence, row.state) for row in store.find_updates(state=state)]

    def kinds(self, accession_number: str) -> list[str]:
        """What happened to an accession number, by the events' names."""
        with self.store() as store:
            return [row.kind for row in store.timeline(accession_number)]

    def until_settled(self, seconds: float = 60.0) -> None:
        """Wait until the web app is owed nothing, parked updates aside."""
        until(lambda: not self.owed("waiting"), "the outbox is empty", seconds)

    def assert_sound(self) -> None:
        """The chain is intact, and the tables are what the events say."""
        with self.store() as store:
            assert store.verify_chain().intact
            assert store.verify_projections() == []

    def ask(self, message: dict[str, Any] | str | bytes) -> dict[str, Any]:
        """Send one frame as the web app does; the reply."""
        assert self.relay is not None
        return ask(self.relay.connection("actions"), message, SenderOptions(dial=self.relay.dialling))


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """End the processes when the block ends."""
    try:
        yield
    finally:
        for process in processes:
            process.end()


def can_connect(port: int) -> bool:
    """Whether somebody listens at a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def http_json(url: str) -> tuple[int, dict[str, Any]] | None:
    """Status and JSON of a GET; None when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return None


# --- the web app's side


def impatient(seconds: float) -> SenderOptions:
    """A sender that does not wait half a minute for a gateway that was killed."""
    return SenderOptions(connect=seconds, ack=2 * seconds)


async def asked(
    connection: HybridConnection, message: dict[str, Any] | str | bytes, options: SenderOptions | None = None
) -> dict[str, Any]:
    """Send one frame over a rendezvous of its own; the reply. Raises `RelayError`."""
    if isinstance(message, bytes):
        websocket = await Sender(connection, options).open()
        try:
            await websocket.send(message)
            reply: Any = await websocket.recv()
        finally:
            await websocket.close()
    else:
        text = message if isinstance(message, str) else json.dumps(message)
        reply = await Sender(connection, options).send(text)
    answer: dict[str, Any] = json.loads(reply)
    return answer


def ask(
    connection: HybridConnection, message: dict[str, Any] | str | bytes, options: SenderOptions | None = None
) -> dict[str, Any]:
    """The same from a thread without event loop."""
    return asyncio.run(asked(connection, message, options))


def today() -> str:
    """The site's date."""
    return datetime.now(SITE).strftime("%Y%m%d")


def create_item(accession_number: str, action_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """A `worklist.create_item` for a synthetic participant; `changes` by section: `participant={"name": …}`."""
    item: dict[str, Any] = {
        "accession_number": accession_number,
        "participant": {"nhs_number": "9990000018", "name": "SMITH^JANE", "birth_date": "19650315", "sex": "F"},
        "scheduled": {"date": today(), "time": "100000"},
        "procedure": {"modality": "MG", "study_description": "Bilateral Mammography"},
    }
    for section, values in changes.items():
        item[section] = item[section] | values if isinstance(item.get(section), dict) else values
    return action("worklist.create_item", item, action_id)


def action(action_type: str, item: dict[str, Any], action_id: str | None = None) -> dict[str, Any]:
    """Any action on a worklist item."""
    return {
        "schema_version": 1,
        "action_id": action_id or str(uuid4()),
        "action_type": action_type,
        "parameters": {"worklist_item": item},
    }


class Background:
    """An event loop in a thread, for whoever has to listen while the test does something else."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, coroutine: Any) -> Any:
        """Run it on the loop; a future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        """Cancel all that runs, and end the thread."""

        async def cancel() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 10)

        with contextlib.suppress(TimeoutError):
            self.start(cancel()).result(15)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
