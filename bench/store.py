"""The event store: what a save costs, and how fast the log is read again.

`python -m bench.store [--quick]`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from bench.figures import Figure, micro, p50_p99, table
from bench.many_callers import many_callers
from bench.synthetic import appointment, create_request, examination, participant
from gateway.application import Gateway, opened
from gateway.domain.relay_action import ActionRequest
from gateway.domain.worklist_item import Appointment
from gateway.eventstore import chain
from gateway.eventstore.recorder import Recorder
from projections.worklist import WorklistFilter

ROUNDS, PER_ROUND = 15, 100
EVENTS = 100_000
_BATCH = 200


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the store."""
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        saves = append(Path(folder), rounds=3 if quick else ROUNDS, per_round=PER_ROUND)
        history = Path(folder) / "history.db"
        again = replay(history, events=10_000 if quick else EVENTS)
        shared = many_callers(Path(folder), **({"rounds": 1, "saves": 16} if quick else {}))
        return saves + shared + again + beside(history, rounds=3 if quick else ROUNDS, per_round=PER_ROUND)


# --- appending


def append(folder: Path, *, rounds: int, per_round: int) -> list[Figure]:
    """Schedule with receipt until `find_items` shows the row, beside the bare insert and ourselves without a chain.

    The three take turns, save by save, so that they share whatever else the machine does.
    """
    seconds: dict[str, list[list[float]]] = {"bare": [], "visible": [], "saved": [], "unchained": []}
    with ExitStack() as stack:
        chained = stack.enter_context(opened(folder / "chained.db"))
        unchained = stack.enter_context(opened(folder / "unchained.db"))
        bare = stack.enter_context(_bare(folder / "bare.db"))
        for number in range(rounds + 1):
            taken: dict[str, list[float]] = {name: [] for name in seconds}
            for n in range(per_round):
                wanted, request = _wanted(number * per_round + n)
                visible, saved = _visible(chained, wanted, request)
                taken["visible"].append(visible)
                taken["saved"].append(saved)
                taken["bare"].append(_timed(bare, _newest(chained)))
                with _without_chain():
                    taken["unchained"].append(_timed(unchained.schedule, wanted, request=request))
            if number:  # the first is a warm-up
                for name, values in taken.items():
                    seconds[name].append(values)
    return [
        Figure("bare `sqlite3` BEGIN/INSERT ×2/COMMIT, p50 / p99", p50_p99(seconds["bare"]), "the floor"),
        Figure("append → visible, p50 / p99", p50_p99(seconds["visible"]), _ratio(seconds["visible"], seconds["bare"])),
        Figure("append alone, p50 / p99", p50_p99(seconds["saved"]), _ratio(seconds["saved"], seconds["bare"])),
        Figure(
            "append without the chain, p50 / p99",
            p50_p99(seconds["unchained"]),
            f"the chain costs ×{micro(seconds['saved'], 0.5) / micro(seconds['unchained'], 0.5):.2f}; at most ×1.15",
        ),
    ]


def _wanted(number: int) -> tuple[Appointment, ActionRequest]:
    accession_number = f"ACC{number:09d}"
    wanted = appointment(accession_number, **participant(number))
    return wanted, create_request(f"create-{accession_number}", wanted)


def _visible(gateway: Gateway, wanted: Appointment, request: ActionRequest) -> tuple[float, float]:
    """Seconds until the row is seen, and until the save returned."""
    began = time.perf_counter()
    gateway.schedule(wanted, request=request)
    returned = time.perf_counter()
    found = gateway.find_items(WorklistFilter(accession_number=wanted.accession_number))
    seen = time.perf_counter()
    assert len(found) == 1
    return seen - began, returned - began


def _timed(work: Callable[..., object], *arguments: object, **named: object) -> float:
    began = time.perf_counter()
    work(*arguments, **named)
    return time.perf_counter() - began


def _newest(gateway: Gateway) -> list[tuple[object, ...]]:
    """What the newest save wrote: two events."""
    with gateway.reading() as connection:
        rows = connection.execute(
            "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid DESC LIMIT 2"
        ).fetchall()
    return [tuple(row) for row in rows]


@contextmanager
def _bare(path: Path) -> Iterator[Callable[[object], None]]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE log (position INTEGER PRIMARY KEY, stream TEXT, version INT, topic TEXT, state BLOB)"
    )

    def insert(rows: object) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO log (stream, version, topic, state) VALUES (?, ?, ?, ?)", rows)  # type: ignore[arg-type]
        connection.execute("COMMIT")

    try:
        yield insert
    finally:
        connection.close()


@contextmanager
def _without_chain() -> Iterator[None]:
    linking = Recorder.__dict__["_link"]
    Recorder._link = staticmethod(lambda _cursor, _ids, _events: "2026-11-23T09:00:00.000000+00:00")  # type: ignore[method-assign]
    try:
        yield
    finally:
        Recorder._link = linking


def _ratio(ours: list[list[float]], floor: list[list[float]]) -> str:
    middle, tail = (micro(ours, part) / micro(floor, part) for part in (0.5, 0.99))
    return f"×{middle:.2f} of the floor at p50, ×{tail:.2f} at p99"


# --- reading again


def replay(path: Path, *, events: int) -> list[Figure]:
    """Rebuild and verify a history of whole examinations, ten events each."""
    with opened(path) as gateway:
        live(gateway, events // 10)
        rebuild = _timed(gateway.rebuild_projections)
        compare = _timed(gateway.verify_projections)
        computing = time.process_time()
        check = _timed(gateway.verify_chain)
        computing = time.process_time() - computing
        gentle = _timed(_verify_gently, gateway)
    size = path.stat().st_size / events
    return [
        Figure(
            f"rebuild of all projections, {events:,} events", f"{events / rebuild:,.0f} events/s", f"{rebuild:.1f} s"
        ),
        Figure("verify projections", f"{events / compare:,.0f} events/s", f"{compare:.1f} s"),
        Figure(
            "verify chain",
            f"{events / check:,.0f} events/s",
            f"{check:.1f} s; {events / computing:,.0f} per second of processor",
        ),
        Figure("verify chain, gently", f"{events / gentle:,.0f} events/s", f"{gentle:.1f} s"),
        Figure("size of the file, all tables", f"{size:,.0f} B/event", "data sets of 0.75 and 1 kB in two of ten"),
    ]


def _verify_gently(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        assert chain.verify(connection, gently=True).intact


# --- both at once


def beside(path: Path, *, rounds: int, per_round: int) -> list[Figure]:
    """Saves alone, and beside another process that verifies the same log: gently, and as fast as it can.

    The three take turns round by round; the verifiers are halted (SIGSTOP) when it is not their turn.
    """
    seconds: dict[str, list[list[float]]] = {"alone": [], "gently": [], "fast": []}
    numbers = count(1_000_000)
    with opened(path) as gateway, _verifying(path, gently=True) as gentle, _verifying(path, gently=False) as fast:
        for number in range(rounds + 1):
            for name, verifier in (("alone", None), ("gently", gentle), ("fast", fast)):
                with _going_on(verifier):
                    taken = [_timed(_save, gateway, next(numbers)) for _ in range(per_round)]
                if number:  # the first is a warm-up
                    seconds[name].append(taken)
    alone = micro(seconds["alone"], 0.5)
    return [
        Figure("save while nobody verifies, p50 / p99", p50_p99(seconds["alone"]), "the three take turns"),
        *(
            Figure(
                f"save beside a verifier, {name}, p50 / p99",
                p50_p99(seconds[name]),
                f"×{micro(seconds[name], 0.5) / alone:.2f} at p50",
            )
            for name in ("gently", "fast")
        ),
    ]


def _save(gateway: Gateway, number: int) -> None:
    wanted, request = _wanted(number)
    gateway.schedule(wanted, request=request)


_VERIFIER = """
import sqlite3, sys
from gateway.eventstore import chain
log = sqlite3.connect(sys.argv[1], isolation_level=None)
print("ready", flush=True)
while True:
    assert chain.verify(log, gently=sys.argv[2] == "True").intact
"""


@contextmanager
def _verifying(path: Path, *, gently: bool) -> Iterator[subprocess.Popen[str]]:
    """A process that verifies the log over and over, halted at first."""
    arguments = [sys.executable, "-c", _VERIFIER, str(path), str(gently)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as verifier:
        assert verifier.stdout is not None
        verifier.stdout.readline()
        verifier.send_signal(signal.SIGSTOP)
        try:
            yield verifier
        finally:
            verifier.kill()


@contextmanager
def _going_on(verifier: subprocess.Popen[str] | None) -> Iterator[None]:
    if verifier:
        verifier.send_signal(signal.SIGCONT)
    yield
    if verifier:
        assert verifier.poll() is None
        verifier.send_signal(signal.SIGSTOP)


def live(gateway: Gateway, examinations: int) -> None:
    """Store the events of so many examinations."""
    for first in range(0, examinations, _BATCH):
        numbers = range(first, min(first + _BATCH, examinations))
        gateway.events.put([event for number in numbers for event in examination(number)])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
