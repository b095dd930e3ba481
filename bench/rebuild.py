"""Rebuilding beside the service: its rate, how long saves wait for it, and what a year of a busy site costs.

`python -m bench.rebuild [--quick]`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

from bench.figures import Figure, percentile, table
from bench.store import live
from bench.synthetic import appointment, create_request
from gateway.application import Gateway, opened
from gateway.eventstore.connections import Writer

ROUNDS = 5
EVENTS = 100_000
THREADS = 4
EXAMINATIONS_A_YEAR = 200 * 365
EVENTS_AN_EXAMINATION = 10
_PAUSE = 0.01


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the rebuild."""
    events = 10_000 if quick else EVENTS
    with tempfile.TemporaryDirectory(prefix="bench-rebuild-") as folder:
        path = Path(folder) / "history.db"
        with opened(path) as gateway:
            live(gateway, events // EVENTS_AN_EXAMINATION)
        size = path.stat().st_size / events
        rounds = 1 if quick else ROUNDS
        rate = rates(path, rounds=rounds, events=events)
        sealed = Path(folder) / "sealed.db"
        with opened(sealed, sealing=True) as gateway:
            live(gateway, events // EVENTS_AN_EXAMINATION)
        return [
            *rate,
            *rates(sealed, rounds=rounds, events=events, what=", sealed"),
            *beside(path, seconds=1.0 if quick else 5.0),
            *a_year(size, rate[0]),
        ]


# --- how fast


def rates(path: Path, *, rounds: int, events: int, what: str = "") -> list[Figure]:
    """Rebuild and verify in turns; nothing differs, so that a rebuild is its building and comparing."""
    seconds: dict[str, list[float]] = {"rebuild": [], "verify": []}
    computing: dict[str, list[float]] = {"rebuild": [], "verify": []}
    both: dict[str, list[float]] = {"rebuild": [], "verify": []}
    with opened(path) as gateway:
        for _ in range(rounds):
            for name, work in (("rebuild", gateway.rebuild_projections), ("verify", gateway.verify_projections)):
                began, computed = time.perf_counter(), _computed()
                work()
                seconds[name].append(time.perf_counter() - began)
                taken = [now - before for now, before in zip(_computed(), computed, strict=True)]
                computing[name].append(max(taken))
                both[name].append(sum(taken))
    return [
        Figure(
            f"{name} of {events:,} events{what}",
            f"{events / statistics.median(computing[name]):,.0f} events per second of CPU of the busier process",
            f"on the clock {events / statistics.median(clock):,.0f} events/s, {min(clock):.2f} to {max(clock):.2f} s;"
            f" CPU of both {statistics.median(both[name]):.2f} s",
        )
        for name, clock in seconds.items()
    ]


def _computed() -> tuple[float, float]:
    """Seconds of CPU of this process, and of those it has started and seen end."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return used[0].ru_utime + used[0].ru_stime, used[1].ru_utime + used[1].ru_stime


# --- how long saves wait


def beside(path: Path, *, seconds: float) -> list[Figure]:
    """The service's threads save while another process rebuilds: nothing differs, then a day's rows, then all rows."""
    with opened(path) as gateway:
        alone = _saves(gateway, threading.Event(), lambda: time.sleep(seconds))
        figures = [Figure(f"longest save of {THREADS} threads, no rebuild", _longest(alone), _others(alone))]
        for which, damage in _DAMAGES.items():
            with closing(sqlite3.connect(path)) as prompt, prompt:
                rows = sum(prompt.execute(statement).rowcount for statement in damage)
            with _rebuilding(path) as (began, ended, swap):
                saves = _saves(gateway, threading.Event(), lambda: (began.set(), ended.wait()))
            note = f"write lock held {swap.value * 1000:.1f} ms; {_others(saves)}"
            figures.append(
                Figure(f"longest save beside a rebuild, {rows:,} rows differ ({which})", _longest(saves), note)
            )
        assert gateway.verify_projections() == []
    return figures


_DAY = "accession_number BETWEEN 'ACC000000200' AND 'ACC000000399'"
_DAMAGES = {
    "none": (),
    "a day's": tuple(f"DELETE FROM {name} WHERE {_DAY}" for name in ("worklist_items", "outbox", "timeline")),
    "all": tuple(f"DELETE FROM {name}" for name in ("worklist_items", "outbox", "timeline", "performed_steps")),
}


def _saves(gateway: Gateway, done: threading.Event, meanwhile: object) -> list[float]:
    """Seconds of each save of the threads, each after a short pause, while something else goes on."""
    prefix = f"{time.monotonic_ns():x}"

    def save(thread: int) -> list[float]:
        taken, number = [], 0
        while not done.is_set():
            number += 1
            wanted = appointment(f"{prefix}{thread}N{number}")
            request = create_request(f"c-{prefix}{thread}N{number}", wanted)
            began = time.perf_counter()
            gateway.schedule(wanted, request=request)
            taken.append(time.perf_counter() - began)
            time.sleep(_PAUSE)
        return taken

    with ThreadPoolExecutor(THREADS) as threads:
        saving = [threads.submit(save, thread) for thread in range(THREADS)]
        try:
            meanwhile()  # type: ignore[operator]
        finally:
            done.set()
        return [seconds for future in saving for seconds in future.result()]


def _longest(saves: list[float]) -> str:
    return f"{max(saves) * 1000:.0f} ms"


def _others(saves: list[float]) -> str:
    return (
        f"{len(saves):,} saves, p50 / p99 {percentile(saves, 0.5) * 1000:.1f} / {percentile(saves, 0.99) * 1000:.1f} ms"
    )


@contextmanager
def _rebuilding(path: Path) -> Iterator[tuple[Event, Event, object]]:
    """A process that rebuilds once it may begin, as `gateway projections rebuild` does."""
    spawn = multiprocessing.get_context("spawn")
    began, ended, swap = spawn.Event(), spawn.Event(), spawn.Value("d", 0.0)
    process = spawn.Process(target=_rebuild, args=(path, began, ended, swap))
    process.start()
    try:
        yield began, ended, swap
    finally:
        process.join()


def _rebuild(path: Path, began: Event, ended: Event, swap: object) -> None:
    try:
        real = Writer.transaction

        @contextmanager
        def timed(self: Writer, *arguments: float) -> Iterator[sqlite3.Cursor]:
            with real(self, *arguments) as cursor:
                since = time.perf_counter()
                yield cursor
            swap.value = max(swap.value, time.perf_counter() - since)  # type: ignore[attr-defined]

        with opened(path) as gateway:
            Writer.transaction = timed  # type: ignore[method-assign]
            began.wait()
            gateway.rebuild_projections()
    finally:
        ended.set()


# --- what a year costs


def a_year(bytes_an_event: float, rate: Figure) -> list[Figure]:
    """A busy site's year, from what the events of its examinations take in the file and in a rebuild."""
    events = EXAMINATIONS_A_YEAR * EVENTS_AN_EXAMINATION
    seconds = events / float(rate.value.split()[0].replace(",", ""))
    return [
        Figure("size of the file, all tables", f"{bytes_an_event:,.0f} B/event", "log, chain and projections"),
        Figure(
            "a year of a busy site",
            f"{events * bytes_an_event / 1e9:.2f} GB, rebuilt in {seconds:.0f} s",
            f"200 examinations on each of 365 days, {EVENTS_AN_EXAMINATION} events each: {events:,} events",
        ),
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
