"""Who is measured: ourselves, the providers that others use, what one writes first, and the floor. Each is a process.

A provider that is not on this machine is named as missing and left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import dicom_items
from bench.dicom_items import CALLED
from bench.dicom_load import HOST, is_up
from bench.dicom_messages import CALLING
from gateway.settings import Settings

GATEWAY = (sys.executable, "-c", "from gateway.cli import main; main()")
_ATTEMPTS = 3
_PATIENCE = 120.0
_STOP = 10.0
_LOOK = 0.002
"""Seconds between looks whether a provider answers."""

_ORTHANC_WORKLISTS = (
    Path("/usr/share/orthanc/plugins/libModalityWorklists.so"),
    Path("/usr/local/share/orthanc/plugins/libModalityWorklists.so"),
)


@dataclass(frozen=True, slots=True)
class Seeds:
    """So many items in a folder of their own, in the form of each provider; made when first asked for."""

    folder: Path
    size: int

    def gateway(self) -> Path:
        """Our own database."""
        return self._made("gateway.db", dicom_items.seed_gateway)

    def files(self) -> Path:
        """A folder of `.wl` files."""
        return self._made("files", dicom_items.seed_files)

    def table(self) -> Path:
        """The naive provider's database."""
        return self._made("table.db", dicom_items.seed_table)

    def _made(self, name: str, seed: Callable[[Path, int], None]) -> Path:
        path = self.folder / str(self.size) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            seed(path, self.size)
        return path


@dataclass(frozen=True, slots=True)
class Command:
    """How a provider is started on a port."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provider:
    """Somebody who answers worklist queries. `command` is how it is started over seeds."""

    name: str
    command: Callable[[Seeds, int], Command]
    is_ours: bool = False
    is_floor: bool = False
    takes_steps: bool = True
    reads_files: bool = False
    """At each query all of its files: then a large worklist is asked once."""

    missing: str = ""
    """What is to be installed, where it is not there."""

    completed: Callable[[Seeds], int] | None = None
    """How many items its database says are completed."""

    @property
    def is_peer(self) -> bool:
        """Whether we are to be faster."""
        return not (self.is_ours or self.is_floor)


@dataclass(frozen=True, slots=True)
class Running:
    """A provider that answers."""

    provider: Provider
    port: int
    process: int
    started_within: float
    """Seconds from its start to the first C-ECHO."""


def providers() -> list[Provider]:
    """All of them, the floor first, ours next."""
    wlmscpfs = "" if shutil.which("wlmscpfs") else "Debian package dcmtk"
    orthanc = "" if _orthanc() and _orthanc_worklists() else "Debian package orthanc"
    return [
        Provider("floor: asyncio, fixed bytes", _floor, is_floor=True),
        *(
            Provider(f"gateway, {engine}", _gateway(engine), is_ours=True, completed=_completed_here(engine))
            for engine in _engines()
        ),
        Provider("naive: pynetdicom and a table", _naive, completed=_completed_naively),
        Provider("DCMTK wlmscpfs", _wlmscpfs(), takes_steps=False, reads_files=True, missing=wlmscpfs),
        Provider(
            "DCMTK wlmscpfs, TCP_NODELAY",
            _wlmscpfs(TCP_NODELAY="1"),
            takes_steps=False,
            reads_files=True,
            missing=wlmscpfs,
        ),
        Provider("Orthanc", _orthanc_command(), takes_steps=False, reads_files=True, missing=orthanc),
        Provider(
            "Orthanc, TCP_NODELAY",
            _orthanc_command(TCP_NODELAY="1"),
            takes_steps=False,
            reads_files=True,
            missing=orthanc,
        ),
    ]


@contextmanager
def running(provider: Provider, seeds: Seeds) -> Iterator[Running]:
    """The provider, from its first C-ECHO until the block ends."""
    started = _started(provider, seeds)
    try:
        yield Running(provider, started.port, started.process.pid, started.within)
    finally:
        _stop(started.process)


@dataclass(frozen=True, slots=True)
class _Started:
    """A process that answers on a port; `within` as of `Running.started_within`."""

    port: int
    process: subprocess.Popen[bytes]
    within: float


def _started(provider: Provider, seeds: Seeds) -> _Started:
    """Start it on a free port; on another one when somebody else has taken that meanwhile and it ends."""
    log = seeds.folder / "providers.log"
    for _ in range(_ATTEMPTS):
        port = free_port()
        command = provider.command(seeds, port)  # seeds, if need be: that is not its start
        with log.open("ab") as output:
            began = time.perf_counter()
            process = subprocess.Popen(
                command.arguments,
                env=environment(**command.environment),
                cwd=seeds.folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if _is_up_before_it_ends(port, process, began):
            return _Started(port, process, time.perf_counter() - began)
        _stop(process)
    last = log.read_text(errors="replace").splitlines()[-5:]
    raise RuntimeError(f"{provider.name} does not start: {' / '.join(last)}")


def _is_up_before_it_ends(port: int, process: subprocess.Popen[bytes], began: float) -> bool:
    while not is_up(port):
        if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
            return False
        time.sleep(_LOOK)
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):  # what it forked and left behind
        os.killpg(process.pid, signal.SIGKILL)


def environment(**variables: str) -> dict[str, str]:
    """Ours without what is set for a gateway or a provider of somebody's own."""
    left_out = ("GATEWAY_", "AZURE_", "WORKLIST_", "TCP_NODELAY", "TCP_BUFFER_LENGTH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])} | variables


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


# --- how each is started


def _engines() -> tuple[str, ...]:
    """The engines of this checkout, the default one first."""
    known = Settings.model_fields.get("gateway_dicom_engine")
    return ("asyncio", "pynetdicom") if known else ("pynetdicom",)


def gateway_environment(database: Path) -> dict[str, str]:
    """The settings of a gateway without a relay over this database."""
    return {
        "WORKLIST_DB_PATH": str(database),
        "GATEWAY_DICOM_HOST": HOST,
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_LOG_FORMAT": "json",
    }


def _own_database(seeds: Seeds, engine: str) -> Path:
    """A copy for each engine: a database has one gateway."""
    database = seeds.gateway()
    own = database.with_name(f"gateway-{engine}.db")
    if not own.exists():
        shutil.copyfile(database, own)
    return own


def _completed_here(engine: str) -> Callable[[Seeds], int]:
    return lambda seeds: _count(_own_database(seeds, engine), "worklist_items")


def _completed_naively(seeds: Seeds) -> int:
    return _count(seeds.table(), "items")


def _count(database: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        statement = f"SELECT COUNT(*) FROM {table} WHERE status = 'COMPLETED'"
        return int(connection.execute(statement).fetchone()[0])


def _gateway(engine: str) -> Callable[[Seeds, int], Command]:
    def command(seeds: Seeds, port: int) -> Command:
        variables = gateway_environment(_own_database(seeds, engine)) | {"GATEWAY_DICOM_PORT": str(port)}
        if len(_engines()) > 1:
            variables["GATEWAY_DICOM_ENGINE"] = engine
        return Command((*GATEWAY, "serve"), variables)

    return command


def _floor(seeds: Seeds, port: int) -> Command:
    kept = seeds.folder / f"floor-{port}.db"
    return Command((sys.executable, "-m", "bench.floor", str(port), str(seeds.size), str(kept)))


def _naive(seeds: Seeds, port: int) -> Command:
    return Command((sys.executable, "-m", "bench.naive", str(port), str(seeds.table())))


def _wlmscpfs(**variables: str) -> Callable[[Seeds, int], Command]:
    def command(seeds: Seeds, port: int) -> Command:
        return Command(("wlmscpfs", "--quiet", "--data-files-path", str(seeds.files()), str(port)), variables)

    return command


def _orthanc() -> str | None:
    return shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _orthanc_worklists() -> Path | None:
    return next((path for path in _ORTHANC_WORKLISTS if path.exists()), None)


def _orthanc_command(**variables: str) -> Callable[[Seeds, int], Command]:
    def command(seeds: Seeds, port: int) -> Command:
        storage = seeds.folder / f"orthanc-{port}"
        storage.mkdir()
        configuration = {
            "Name": "bench",
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "HttpServerEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": CALLED,
            "DicomPort": port,
            "DicomModalities": {"unit": [CALLING, HOST, 104]},
            "Plugins": [str(_orthanc_worklists())],
            "Worklists": {"Enable": True, "Database": str(seeds.files() / CALLED)},
        }
        written = storage / "orthanc.json"
        written.write_text(json.dumps(configuration))
        return Command((str(_orthanc()), str(written)), variables)

    return command
