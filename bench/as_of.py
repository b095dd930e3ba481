"""The worklist as it stood: how long one day, one item and everything take, while the history grows.

`python -m bench.as_of [--quick]`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import projections.worklist
import projections.worklist_days
from bench.figures import Figure, p50_p99, table
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


def _measure(gateway: Gateway, examinations: int, *, rounds: int) -> list[Figure]:
    chance = random.Random(5)
    events = examinations * 10
    found: list[list[float]] = []
    days: list[list[float]] = []
    items: list[list[float]] = []
    for number in range(rounds + 1):
        taken: tuple[list[float], list[float], list[float]] = ([], [], [])
        for _ in range(PER_ROUND):
            which = chance.randrange(examinations)
            committed_at = standing_after(gateway, chance.randrange(which * 10 + 10, events + 1)).committed_at
            began = time.perf_counter()
            standing = standing_at(gateway, moment_of(committed_at, _ZONE))
            taken[0].append(time.perf_counter() - began)
            day = WorklistFilter(dates=(_day(which), _day(which)))
            taken[1].append(_seconds(gateway, standing, day, at_least=1))
            one = WorklistFilter(accession_number=f"ACC{which:09d}")
            taken[2].append(_seconds(gateway, standing, one, at_least=1))
        if number:  # the first is a warm-up
            for kept, new in zip((found, days, items), taken, strict=True):
                kept.append(new)
    head = standing_after(gateway, events)
    whole = [_seconds(gateway, head, WorklistFilter(), at_least=examinations) for _ in range(3)]
    return [
        Figure(f"place of a moment, {events:,} events, p50 / p99", p50_p99(found)),
        Figure(f"one day as of a moment, {events:,} events, p50 / p99", p50_p99(days), f"{A_DAY} items, 600 events"),
        Figure(f"one item as of a moment, {events:,} events, p50 / p99", p50_p99(items)),
        Figure(
            f"everything as of the end, {events:,} events",
            f"{statistics.median(whole):.2f} s",
            f"{examinations:,} items",
        ),
    ]


def _seconds(gateway: Gateway, standing: Standing, wanted: WorklistFilter, *, at_least: int) -> float:
    began = time.perf_counter()
    with worklist_as_of(gateway, standing) as worklist:
        rows: list[WorklistRow] = worklist.find_items(wanted)
    seconds = time.perf_counter() - began
    assert len(rows) >= at_least
    return seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.as_of", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short history: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
