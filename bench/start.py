"""How soon it is there, and what it takes: `gateway serve` to its first C-ECHO, its memory, and verbs to their end.

`python -m bench.start [--quick]`. Real processes of the installed command, over a database of 1,000 items that came in
as events, and on compiled modules, as an installation has them. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bench.dicom_client import Client
from bench.figures import Figure, table
from bench.synthetic import participant, schedule
from bench.worklist import MATCHES
from bench.worklist import _identifier as identifier
from gateway.application import opened

ITEMS = 1_000
ROUNDS = 15
_GATEWAY = Path(sys.executable).with_name("gateway")
_VERBS = (
    ("--help",),
    ("worklist", "list"),
    ("outbox", "list"),
    ("events", "list"),
    ("timeline", "ACC000001"),
    ("config", "show"),
)
_QUERIES = 20
"""Asked before memory is read, so that what a query needs is loaded."""
_DAY = "20361124"
_PATIENCE = 30.0
_PORTS = range(20_000, 30_000)
_MIB = 1024

_VERIFICATION = b"1.2.840.10008.1.1"
_IMPLICIT_VR_LITTLE_ENDIAN = b"1.2.840.10008.1.2"
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = b"1.2.826.0.1.3680043.8.498.1"
_SUCCESS = bytes.fromhex("0000 0009 02000000 0000")
"""The element Status (0000,0900) of a response that says so."""


@dataclass(frozen=True, slots=True)
class Started:
    """A gateway that serves: its process, its DICOM port, and the seconds from its start to its answer to a C-ECHO."""

    process: int
    port: int
    seconds: float

    @property
    def memory(self) -> float:
        """Its resident memory now, in MiB."""
        return memory_of(self.process)


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the start."""
    rounds = 2 if quick else ROUNDS
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        database = Path(folder) / "gateway.db"
        seed(database, ITEMS)
        return _starts(database, rounds) + _verbs(database, rounds)


def seed(database: Path, items: int) -> None:
    """So many appointments, as events; the first eight are of one day."""
    with opened(database) as gateway:
        for number in range(items):
            day = _DAY if number < MATCHES else f"2037{1 + number % 12:02}{1 + number % 28:02}"
            schedule(gateway, f"ACC{number:06d}", **participant(number), scheduled_date=day)


@contextmanager
def serving(database: Path, **settings: str) -> Iterator[Started]:
    """`gateway serve` from its first breath; it is stopped, cleanly, at the end."""
    port = _free_port()
    variables = {
        "GATEWAY_DICOM_HOST": "127.0.0.1",
        "GATEWAY_DICOM_PORT": str(port),
        "GATEWAY_OPS_PORT": str(_free_port()),
    }
    environment, log = _environment(database, **variables, **settings), database.parent / "serve.log"
    with log.open("w") as lines:
        began = time.perf_counter()
        process = subprocess.Popen([_GATEWAY, "serve"], env=environment, cwd=database.parent, stderr=lines)
    try:
        assert _echo_at_last(port, process), log.read_text()
        yield Started(process.pid, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)


def verb_seconds(database: Path, *words: str) -> float:
    """How long `gateway …` takes from its start to its end, in seconds."""
    environment = _environment(database)
    began = time.perf_counter()
    subprocess.run([_GATEWAY, *words], env=environment, cwd=database.parent, capture_output=True, check=True)
    return time.perf_counter() - began


def memory_of(process: int, which: str = "VmRSS") -> float:
    """Resident memory of a process in MiB; with `VmHWM` the highest so far."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found, which
    return int(found[1]) / _MIB


def _starts(database: Path, rounds: int) -> list[Figure]:
    seconds, at_first, after = [], [], []
    for _ in range(rounds + 1):
        with serving(database) as gateway:
            seconds.append(gateway.seconds)
            at_first.append(gateway.memory)
            with closing(Client(gateway.port)) as client:
                for _ in range(_QUERIES):
                    assert client.find(identifier(ScheduledProcedureStepStartDate=_DAY, Modality="MG")) == (MATCHES, 0)
                after.append(gateway.memory)
    return [
        Figure("`gateway serve`: start to its answer to the first C-ECHO", _spread(seconds[1:]), f"{ITEMS:,} items"),
        Figure("memory then", f"{statistics.median(at_first):.1f} MiB", "resident"),
        Figure(f"memory after {_QUERIES} queries", f"{statistics.median(after):.1f} MiB", f"resident, {ITEMS:,} items"),
    ]


def _verbs(database: Path, rounds: int) -> list[Figure]:
    """All verbs take turns; the first round is a warm-up."""
    taken: dict[tuple[str, ...], list[float]] = {words: [] for words in _VERBS}
    for _ in range(rounds + 1):
        for words, seconds in taken.items():
            seconds.append(verb_seconds(database, *words))
    return [Figure(f"`gateway {' '.join(words)}`", _spread(seconds[1:])) for words, seconds in taken.items()]


def _spread(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _free_port() -> int:
    """One that the kernel gives to no connection going out, as it may a port of its own choice before we listen."""
    for port in random.sample(_PORTS, 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


def _environment(database: Path, **variables: str) -> dict[str, str]:
    ours = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*ours, "PYTHONDONTWRITE"))}
    compiled = {"PYTHONPYCACHEPREFIX": str(database.parent / "compiled")}
    return kept | compiled | {"WORKLIST_DB_PATH": str(database), "COLUMNS": "100"} | variables


# --- one C-ECHO, by hand: pynetdicom's own would take longer than what is measured


def _echo_at_last(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Knock until a C-ECHO is answered with success; false when the process ends before."""
    until = time.perf_counter() + _PATIENCE
    while time.perf_counter() < until and process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), _PATIENCE) as association:
            association.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _echo(association)
            return True
        time.sleep(0.002)
    return False


def _echo(association: socket.socket) -> None:
    """Associate, ask, release (PS3.7 9.1.5, PS3.8 9.3)."""
    contexts = _item(0x20, b"\1\0\0\0" + _item(0x30, _VERIFICATION) + _item(0x40, _IMPLICIT_VR_LITTLE_ENDIAN))
    user = _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, _IMPLEMENTATION))
    titles = b"ORTHANC_MWL".ljust(16) + b"START".ljust(16)
    with association.makefile("rb") as answers:
        request = _item(0x10, _APPLICATION_CONTEXT) + contexts + user
        _ask(association, 1, b"\0\1\0\0" + titles + bytes(32) + request)
        assert _answer(answers)[0] == 2, "not accepted"
        command = _element(0x0002, _VERIFICATION + b"\0") + _element(0x0100, b"\x30\0") + _element(0x0110, b"\1\0")
        command += _element(0x0800, b"\1\1")
        command = _element(0x0000, struct.pack("<I", len(command))) + command
        _ask(association, 4, struct.pack(">IBB", len(command) + 2, 1, 3) + command)
        assert _SUCCESS in _answer(answers)[1], "not answered with success"
        _ask(association, 5, bytes(4))
        _answer(answers)


def _ask(association: socket.socket, kind: int, body: bytes) -> None:
    association.sendall(struct.pack(">BxI", kind, len(body)) + body)


def _answer(answers: BinaryIO) -> tuple[int, bytes]:
    kind, length = struct.unpack(">BxI", answers.read(6))
    return kind, answers.read(length)


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
