"""Many callers at once: a commit for each save, as it was, and one that those who arrive together share.

Part of `python -m bench.store`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bench.figures import Figure, percentile
from bench.synthetic import appointment, create_request, participant
from gateway.application import Gateway, opened
from gateway.eventstore.connections import Writer
from gateway.eventstore.shared_commit import SharedCommit
from projections.worklist import WorklistFilter

CALLERS = (1, 4, 16, 64)
ROUNDS, SAVES = 15, 128
SLOWER = 0.002
"""Seconds by which a slow disk's sync is longer: between a virtual disk's and that of one without a write cache."""

_READ_BESIDE = 16
_ALONE, _SHARED = "a commit each", "shared"


@dataclass
class Taken:
    """What one way was measured at in its rounds."""

    rates: list[float] = field(default_factory=list)
    p50s: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    commits: list[float] = field(default_factory=list)
    """For each save."""

    reads: list[float] = field(default_factory=list)
    """p50 of the reader, where there is one."""


def many_callers(folder: Path, *, rounds: int = ROUNDS, saves: int = SAVES) -> list[Figure]:
    """Schedule with receipt by 1 to 64 threads; both ways take turns, round by round, each on a database of its own."""
    figures = []
    with ExitStack() as stack:
        gateways = {way: stack.enter_context(opened(folder / f"{way}.db")) for way in (_ALONE, _SHARED)}
        count_commits = stack.enter_context(_counted_commits())
        for slower in (0.0, SLOWER):
            for callers in CALLERS:
                taken = {_ALONE: Taken(), _SHARED: Taken()}
                for number in range(rounds + 1):
                    for way, gateway in gateways.items():
                        with _way(way), count_commits(slower) as commits:
                            one = _round(gateway, callers, max(4, saves // callers), commits)
                        if number:  # the first is a warm-up
                            _note(taken[way], one)
                figures += _figures(callers, slower, taken)
    return figures


@dataclass
class _Round:
    seconds: list[float]
    rate: float
    commits: float
    reads: list[float]


_numbers = count(5_000_000)


def _round(gateway: Gateway, callers: int, per_caller: int, commits: list[int]) -> _Round:
    seconds: list[float] = []
    work = [[_wanted() for _ in range(per_caller)] for _ in range(callers)]

    def save(wanted: Sequence[Any]) -> None:
        for asked, request in wanted:
            began = time.perf_counter()
            gateway.schedule(asked, request=request)
            seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=save, args=(wanted,)) for wanted in work]
    with _reading(gateway, wanted=callers == _READ_BESIDE) as reads:
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - began
    return _Round(seconds, len(seconds) / took, commits[0] / len(seconds), reads)


def _wanted() -> tuple[Any, Any]:
    number = next(_numbers)
    wanted = appointment(f"ACC{number:09d}", **participant(number))
    return wanted, create_request(f"create-{number}", wanted)


@contextmanager
def _reading(gateway: Gateway, *, wanted: bool) -> Iterator[list[float]]:
    """Somebody who looks an accession number up every 5 ms meanwhile: the seconds that each look took."""
    seconds: list[float] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.wait(0.005):
            began = time.perf_counter()
            gateway.find_items(WorklistFilter(accession_number="ACC005000000"))
            seconds.append(time.perf_counter() - began)

    reader = threading.Thread(target=read)
    if wanted:
        reader.start()
    yield seconds
    ended.set()
    if wanted:
        reader.join()


@contextmanager
def _way(way: str) -> Iterator[None]:
    """The second half of each pair as it is; the first with the transactions one after the other, as before."""
    real = SharedCommit.save

    def one_by_one(shared: SharedCommit, work: Any, patience: float = 20.0) -> Any:
        with shared._writer.transaction(patience) as cursor:
            return work(cursor)

    if way == _ALONE:
        SharedCommit.save = one_by_one  # type: ignore[method-assign]
    try:
        yield
    finally:
        SharedCommit.save = real  # type: ignore[method-assign]


@contextmanager
def _counted_commits() -> Iterator[Callable[[float], Any]]:
    """Counts the writer's commits, each of which is one sync of the log, and makes each of them take longer."""
    real = Writer._attempt
    counted, longer = [0], [0.0]

    def attempt(writer: Writer, deadline: float) -> Iterator[Any]:
        yield from real(writer, deadline)
        counted[0] += 1
        if longer[0]:
            time.sleep(longer[0])  # as a sync does: the write lock is held, the interpreter is not

    @contextmanager
    def counting(slower: float) -> Iterator[list[int]]:
        counted[0], longer[0] = 0, slower
        yield counted
        longer[0] = 0.0

    Writer._attempt = attempt  # type: ignore[method-assign]
    try:
        yield counting
    finally:
        Writer._attempt = real  # type: ignore[method-assign]


def _note(taken: Taken, one: _Round) -> None:
    taken.rates.append(one.rate)
    taken.p50s.append(percentile(one.seconds, 0.5) * 1e3)
    taken.p99s.append(percentile(one.seconds, 0.99) * 1e3)
    taken.commits.append(one.commits)
    if one.reads:
        taken.reads.append(percentile(one.reads, 0.5) * 1e3)


def _figures(callers: int, slower: float, taken: dict[str, Taken]) -> list[Figure]:
    disk = f", sync {slower * 1e3:.0f} ms longer" if slower else ""
    who = f"{callers} caller{'s' * (callers > 1)}{disk}"
    pairs = zip(taken[_SHARED].rates, taken[_ALONE].rates, strict=True)
    ratio = statistics.median(shared / alone for shared, alone in pairs)
    return [
        Figure(f"{who}, a commit each", _value(taken[_ALONE]), _commits(taken[_ALONE])),
        Figure(f"{who}, shared commit", _value(taken[_SHARED]), f"rate ×{ratio:.2f}; {_commits(taken[_SHARED])}"),
    ]


def _value(taken: Taken) -> str:
    rate, p50, p99 = (statistics.median(values) for values in (taken.rates, taken.p50s, taken.p99s))
    return f"{rate:,.0f}/s, p50 / p99 {p50:.1f} / {p99:.1f} ms"


def _commits(taken: Taken) -> str:
    reads = f"; a look meanwhile, p50 {statistics.median(taken.reads):.1f} ms" if taken.reads else ""
    return f"{statistics.median(taken.commits):.3f} syncs per save{reads}"
