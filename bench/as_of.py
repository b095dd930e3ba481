"""The worklist as it stood: how long one day, one item and everything take, while the history grows.

`python -m bench.as_of [--quick]`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import projections.worklist
import projections.worklist_days
from bench.figures import Figure, micro, p50_p99, table
from bench.synthetic import examination
from gateway.application import Gateway, opened
from gateway.audit.as_of import Standing, standing_after, standing_at, worklist_as_of
from gateway.domain.moments import moment_of
from gateway.eventstore.projection import as_projection
from projections.worklist import WorklistFilter, WorklistRow

LENGTHS = (10_000, 100_000, 1_000_000)
QUICK_LENGTHS = (2_000, 10_000)
ROUNDS, PER_ROUND = 15, 20
A_DAY = 200
"""Examinations of a busy site, ten events each."""

_FIRST = date(2024, 1, 1)
_BATCH = 500
_ZONE = ZoneInfo("Europe/London")


def run(*, quick: bool = False) -> list[Figure]:
    """All figures, each at every length of the history."""
    figures: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-as-of-") as folder,
        opened(Path(folder) / "history.db") as gateway,
    ):
        # Only what as-of reads is projected: the rest would make the history take twice as long to make.
        gateway.recorder.projections = [  # type: ignore[attr-defined]
            as_projection(module) for module in (projections.worklist, projections.worklist_days)
        ]
        examinations = 0
        for events in QUICK_LENGTHS if quick else LENGTHS:
            _grow(gateway, examinations, events // 10)
            examinations = events // 10
            figures += _measure(gateway, examinations, rounds=3 if quick else ROUNDS)
    return figures


def _grow(gateway: Gateway, first: int, last: int) -> None:
    for begin in range(first, last, _BATCH):
        numbers = range(begin, min(begin + _BATCH, last))
        gateway.events.put([event for number in numbers for event in examination(number, scheduled_date=_day(number))])


def _day(number: int) -> str:
    return (_FIRST + timedelta(days=number // A_DAY)).strftime("%Y%m%d")


@dataclass
class Looks:
    """What looks of one kind took, round by round: on the clock, and of a processor (others want the same ones)."""

    seconds: list[list[float]] = field(default_factory=list)
    computed: list[list[float]] = field(default_factory=list)

    def begin_round(self) -> None:
        self.seconds.append([])
        self.computed.append([])

    def add(self, work: Callable[[], Sequence[object] | Standing]) -> None:
        began, began_computing = time.perf_counter(), time.thread_time()
        found = work()
        self.computed[-1].append(time.thread_time() - began_computing)
        self.seconds[-1].append(time.perf_counter() - began)
        assert found

    def figure(self, what: str, note: str = "") -> Figure:
        computed = f"computing {micro(self.computed[1:], 0.5):,.0f} µs at p50"  # the first round is a warm-up
        return Figure(f"{what}, p50 / p99", p50_p99(self.seconds[1:]), f"{computed}{note}")


def _measure(gateway: Gateway, examinations: int, *, rounds: int) -> list[Figure]:
    chance = random.Random(5)
    events = examinations * 10
    places, days, items = Looks(), Looks(), Looks()
    for _ in range(rounds + 1):
        for looks in (places, days, items):
            looks.begin_round()
        for _ in range(PER_ROUND):
            which = chance.randrange(examinations)
            then = standing_after(gateway, chance.randrange(which * 10 + 10, events + 1))
            day = WorklistFilter(dates=(_day(which), _day(which)))
            one = WorklistFilter(accession_number=f"ACC{which:09d}")
            places.add(partial(_place, gateway, then.committed_at))
            days.add(partial(_look, gateway, then, day))
            items.add(partial(_look, gateway, then, one))
    whole = Looks()
    whole.begin_round()
    for _ in range(3):
        whole.add(partial(_look, gateway, standing_after(gateway, events), WorklistFilter()))
    seconds, computed = (statistics.median(values[0]) for values in (whole.seconds, whole.computed))
    return [
        places.figure(f"place of a moment, {events:,} events"),
        days.figure(f"one day as of a moment, {events:,} events", f"; {A_DAY} items, 600 events"),
        items.figure(f"one item as of a moment, {events:,} events"),
        Figure(
            f"everything as of the end, {events:,} events",
            f"{seconds:.2f} s",
            f"computing {computed:.2f} s; {examinations:,} items",
        ),
    ]


def _place(gateway: Gateway, written: str) -> Standing:
    return standing_at(gateway, moment_of(written, _ZONE))


def _look(gateway: Gateway, standing: Standing, wanted: WorklistFilter) -> list[WorklistRow]:
    with worklist_as_of(gateway, standing) as worklist:
        return worklist.find_items(wanted)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.as_of", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short history: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
