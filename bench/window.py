"""Does the window hold up the modalities? Worklist queries beside people who watch a list that changes, or load it.

`python -m bench.window [--quick]`. The gateway is a process of its own; those who watch, who load pages, and the unit
whose steps change the list are another one, on real connections. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from bench import processes
from bench.dicom_measures import asked_new, asked_open, the_query
from bench.figures import Figure, percentile, table
from bench.peers import GATEWAY, Command, Provider, Running, Seeds, free_port, gateway_environment, running
from bench.synthetic import RECEIVED, appointment, participant
from bench.window_people import People, Told, number_of, people, study_uid_of
from gateway.application import opened
from gateway.domain.events import circumstances
from gateway.domain.worklist_item import WorklistItem

WATCHERS = 50
ITEMS = 300
"""Of today: what a page shows."""
ROUNDS = 10
SLICE = 0.8
"""Seconds of queries of one kind in a round."""
_OTHERS = 1_000
"""Items of other days; who asks is answered with 40 of them."""
_SITE = ZoneInfo("Europe/London")


@dataclass(slots=True)
class Look:
    """Of each round the seconds of each query, the gateway's share of a core while nobody asks, and what people saw."""

    open: list[list[float]] = field(default_factory=list)
    new: list[list[float]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the window."""
    rounds, seconds = (1, 1.5) if quick else (ROUNDS, SLICE)
    with tempfile.TemporaryDirectory(prefix="bench-window-") as folder:
        with _window(Path(folder) / "watched") as (gateway, those):
            alone, watched = compared(gateway, rounds, seconds, [lambda: those.watch(WATCHERS)], those.leave)
        figures = [*_queries(f"{WATCHERS} watch", alone, watched), _watching(watched.told)]
        with _window(Path(folder) / "loaded") as (gateway, those):
            time.sleep(1.0)  # the moment is a whole second, in which everybody was on the list
            then = f"/clinic?at={datetime.now(_SITE):%Y-%m-%dT%H:%M:%S}"
            loads = (
                ("the list is loaded 20 times a second", "/clinic", 0.05),
                ("the list is loaded all the time", "/clinic", 0.0),
                ("the list as it stood is loaded all the time", then, 0.0),
            )
            begins = [partial(those.load, path, pause) for _, path, pause in loads]
            alone, *looks = compared(gateway, rounds, seconds, begins, those.leave)
            for (what, path, pause), look in zip(loads, looks, strict=True):
                those.load(path, pause)
                time.sleep(2 * seconds)
                undisturbed = those.leave()
                figures += [*_queries(what, alone, look), _loading(what, look.told, undisturbed)]
    return figures


@contextmanager
def _window(folder: Path) -> Iterator[tuple[Running, People]]:
    """A gateway of its own with the day's items, and those who will look at it; the unit has begun to work."""
    seeds, ops = Seeds(folder, _OTHERS), free_port()
    seed_today(seeds.gateway(), ITEMS)

    def served(seeds: Seeds, port: int) -> Command:
        ports = {"GATEWAY_DICOM_PORT": str(port), "GATEWAY_OPS_PORT": str(ops)}
        return Command((*GATEWAY, "serve"), gateway_environment(seeds.gateway()) | ports)

    with running(Provider("gateway", served, is_ours=True), seeds) as started, people(started.port, ops) as those:
        yield started, those


def seed_today(path: Path, size: int) -> None:
    """So many items on today's list, through the day."""
    today = datetime.now(_SITE).strftime("%Y%m%d")
    with opened(path) as gateway, circumstances(source="relay"):
        gateway.events.put([event for number in range(size) for event in _scheduled(number, today).collect_events()])


def _scheduled(number: int, today: str) -> WorklistItem:
    time_of_day = f"{8 + number // 30:02}{2 * (number % 30):02}00"
    wanted = appointment(number_of(number), **participant(number), scheduled_date=today, scheduled_time=time_of_day)
    return WorklistItem(
        accession_number=wanted.accession_number,
        person=wanted.person(),
        step=wanted.step(),
        study_instance_uid=study_uid_of(number),
        is_test=False,
        action_id=None,
        received_at=RECEIVED.isoformat(),
    )


# --- the modality that asks


def compared(
    gateway: Running, rounds: int, seconds: float, begins: Sequence[Callable[[], None]], end: Callable[[], Told]
) -> list[Look]:
    """Queries alone, and beside what goes on from each of `begins` to `end`, in turns; the first round is a warm-up."""
    looks = [Look() for _ in range(len(begins) + 1)]
    for number in range(rounds + 1):
        alone, *others = looks if number else [Look() for _ in looks]
        _take(gateway, seconds, alone)
        for begin, look in zip(begins, others, strict=True):
            begin()
            _take(gateway, seconds, look)
            look.told.append(end())
    return looks


def _take(gateway: Running, seconds: float, look: Look) -> None:
    query = the_query(_OTHERS)
    look.shares.append(processes.share_of_a_core(gateway.process, seconds))
    look.open.append(asked_open(gateway.port, query, seconds))
    look.new.append(asked_new(gateway.port, query, seconds))


# --- what is told of it


def _queries(beside: str, alone: Look, others: Look) -> list[Figure]:
    figures = [
        Figure(
            f"C-FIND of 40, {what} association, {beside}",
            _latency(ours),
            f"p50 ×{_ratio(ours, floor):.2f} of alone: {_latency(floor)}",
        )
        for what, ours, floor in (("open", others.open, alone.open), ("new", others.new, alone.new))
    ]
    busy, idle = statistics.median(others.shares), statistics.median(alone.shares)
    return [*figures, Figure(f"processor of the gateway, {beside}", f"{busy:.1%} of a core", f"alone {idle:.1%}")]


def _ratio(ours: Sequence[Sequence[float]], floor: Sequence[Sequence[float]]) -> float:
    """The median of the rounds' own ratios of their medians."""
    pairs = zip(ours, floor, strict=True)
    return statistics.median(statistics.median(one) / statistics.median(other) for one, other in pairs)


def _latency(rounds: Sequence[Sequence[float]]) -> str:
    """The median of the rounds' medians; of all queries the 99th and the 99.9th percentile."""
    everything = [seconds for taken in rounds for seconds in taken]
    p50 = statistics.median(statistics.median(taken) for taken in rounds)
    p99, p999 = percentile(everything, 0.99), percentile(everything, 0.999)
    return f"p50 {p50 * 1e3:.2f}, p99 {p99 * 1e3:.2f}, p99.9 {p999 * 1e3:.1f} ms"


def _watching(told: Sequence[Told]) -> Figure:
    late = [seconds * 1e3 for each in told for seconds in each.until_seen]
    missed = sum(each.missed for each in told)
    return Figure(
        f"from the answer to the modality until all {WATCHERS} have the row",
        f"p50 {percentile(late, 0.5):,.0f} ms, p99 {percentile(late, 0.99):,.0f} ms",
        f"{len(late)} changes; {missed} did not reach everybody",
    )


def _loading(what: str, told: Sequence[Told], undisturbed: Told) -> Figure:
    taken = [seconds * 1e3 for each in told for seconds in each.loads]
    alone = [seconds * 1e3 for seconds in undisturbed.loads]
    return Figure(
        f"page of {ITEMS} items, {what}, a modality asks for two thirds of it",
        f"p50 {percentile(taken, 0.5):.1f} ms, p99 {percentile(taken, 0.99):.1f} ms",
        f"nobody asks: p50 {percentile(alone, 0.5):.1f} ms, p99 {percentile(alone, 0.99):.1f} ms; "
        f"{undisturbed.page_bytes / 1024:.0f} kB",
    )


def main() -> None:
    """Run it alone."""
    parser = argparse.ArgumentParser(prog="python -m bench.window", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
