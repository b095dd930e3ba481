"""What is measured of worklist providers, each as a function of those that run: all of them take turns."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench import dicom_messages, processes
from bench.dicom_items import accession_number, matches
from bench.dicom_load import (
    ASSOCIATE,
    PATIENCE,
    RELEASE,
    Client,
    Exchange,
    Load,
    Query,
    Refused,
    Task,
    WrongAnswer,
    drive,
    open_associations,
    pair_task,
    query_task,
    timed_visit,
)
from bench.figures import percentile
from bench.peers import Running, Seeds

ORDINARY, QUICK_ACK = "ordinary client", "quick-ack client"
NEW, OPEN = "new association", "open association"

_PATIENCE = 60.0
"""Seconds that a single client waits: the largest folders take some."""
_SLOW_SIZE, _SLOWEST_SIZE = 10_000, 100_000
"""From so many files on there is one query in a turn, and from so many one turn at all."""
_ENOUGH_FOR_P99 = 100
_SYNCS_OF_A_CHECKPOINT = 3
"""One of the database itself, and two of its write-ahead log: before it is read, and when it begins anew."""
_OPENING_SECONDS = 6.0
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long each part takes, in seconds, and with how many."""

    sizes: tuple[int, ...]
    rounds: int
    slice: float
    """One provider's turn in a round of one kind of query."""

    clients: tuple[int, ...] = (4, 16, 64)
    load_rounds: int
    load_seconds: float
    reporters: tuple[int, ...] = (1, 4, 16)
    step_items: int
    traced_pairs: int
    traced_seconds: float
    idle: int
    idle_rounds: int
    idle_seconds: float
    starts: int


FULL = Plan(
    sizes=(10, 100, 1_000, 10_000, 100_000),
    rounds=5,
    slice=0.12,
    load_rounds=3,
    load_seconds=1.0,
    step_items=30_000,
    traced_pairs=200,
    traced_seconds=2.5,
    idle=500,
    idle_rounds=2,
    idle_seconds=2.0,
    starts=5,
)
QUICK = Plan(
    sizes=(10, 1_000),
    rounds=1,
    slice=0.05,
    clients=(4, 16),
    load_rounds=1,
    load_seconds=0.3,
    reporters=(1, 16),
    step_items=2_000,
    traced_pairs=20,
    traced_seconds=1.0,
    idle=50,
    idle_rounds=1,
    idle_seconds=0.5,
    starts=1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure of one provider: a value for each round, in `unit`; without any, `note` says why."""

    what: str
    provider: str
    at: int
    """The number of items, or of clients."""

    unit: str
    rounds: tuple[float, ...]
    p99: float | None = None
    """Over all rounds, where there are enough samples."""

    samples: int = 0
    note: str = ""

    @property
    def value(self) -> float | None:
        """The median of the rounds."""
        return statistics.median(self.rounds) if self.rounds else None

    def times(self, other: Measured) -> float | None:
        """How many times the other's value, the median of the rounds' own ratios where both have the same rounds."""
        if not (self.value and other.value):
            return None
        if len(self.rounds) != len(other.rounds):
            return self.value / other.value
        return statistics.median(ours / its for ours, its in zip(self.rounds, other.rounds, strict=True))


def say(what: str) -> None:
    """Tell people who wait how far it is."""
    print(f"  {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def the_query(size: int) -> Query:
    """By date and modality, and what must be answered."""
    return Query(dicom_messages.find(), [accession_number(number) for number in range(matches(size))])


# --- how long one client waits


def latency(providers: Sequence[Running], size: int, plan: Plan) -> list[Measured]:
    """C-FIND on a new and on an open association, with an ordinary and a quick-ack client."""
    kinds = [
        (f"{association}, {client}", asked_new if association == NEW else asked_open, client == QUICK_ACK)
        for association, client in itertools.product((NEW, OPEN), (ORDINARY, QUICK_ACK))
    ]
    taken: dict[tuple[str, str], list[list[float]]] = {}
    failed: dict[tuple[str, str], str] = {}
    for number, (what, ask, quick_ack), each in itertools.product(range(plan.rounds), kinds, providers):
        files = size if each.provider.reads_files else 0
        key = (what, each.provider.name)
        if key in failed or (files >= _SLOWEST_SIZE and (number or quick_ack)):
            continue
        try:
            seconds = ask(each.port, the_query(size), 0.0 if files >= _SLOW_SIZE else plan.slice, quick_ack)
        except (OSError, Refused, WrongAnswer) as error:
            failed[key] = f"{error}" or type(error).__name__
            continue
        taken.setdefault(key, []).append(seconds)
    return [
        _latency_of(what, each.provider.name, size, taken.get((what, each.provider.name), []), failed)
        for (what, _, _), each in itertools.product(kinds, providers)
    ]


def _latency_of(
    what: str, provider: str, size: int, rounds: Sequence[Sequence[float]], failed: dict[tuple[str, str], str]
) -> Measured:
    everything = [seconds * 1e3 for taken in rounds for seconds in taken]
    note = failed.get((what, provider), "")
    return Measured(
        what=what,
        provider=provider,
        at=size,
        unit="ms",
        rounds=() if note else tuple(statistics.median(taken) * 1e3 for taken in rounds),
        p99=percentile(everything, 0.99) if len(everything) >= _ENOUGH_FOR_P99 else None,
        samples=len(everything),
        note=note or ("not asked: one query takes seconds" if not rounds else ""),
    )


def asked_new(
    port: int, query: Query, seconds: float, quick_ack: bool = False, patience: float = _PATIENCE
) -> list[float]:
    """Seconds of each query for so long, at least one; the first of a longer look is a warm-up."""
    (asked,) = query_task(query)
    return _repeated(lambda: timed_visit(port, asked, quick_ack=quick_ack, patience=patience), seconds)


def asked_open(port: int, query: Query, seconds: float, quick_ack: bool = False) -> list[float]:
    """The same on one association."""
    asked = Exchange(query.request, query.is_complete)
    with closing(Client(port, quick_ack=quick_ack, patience=_PATIENCE)) as client:
        client.exchange(ASSOCIATE)

        def ask() -> float:
            began = time.perf_counter()
            client.exchange(asked)
            return time.perf_counter() - began

        taken = _repeated(ask, seconds)
        client.exchange(RELEASE)
    return taken


def _repeated(timed: Callable[[], float], seconds: float) -> list[float]:
    if seconds:
        timed()
    end = time.perf_counter() + seconds
    taken = [timed()]
    while time.perf_counter() < end:
        taken.append(timed())
    return taken


def growth(pairs: Sequence[tuple[Running, Running]], sizes: tuple[int, int], plan: Plan) -> list[Measured]:
    """How many times as long the same query takes of the larger worklist; the two take turns query by query."""
    measured = []
    for small, large in pairs:
        ratios = []
        tasks = [(each.port, query_task(the_query(size))[0]) for each, size in zip((small, large), sizes, strict=True)]
        for number in range(plan.rounds + 1):
            seconds: tuple[list[float], list[float]] = ([], [])
            end = time.perf_counter() + 2 * plan.slice
            while time.perf_counter() < end or not seconds[0]:
                for taken, (port, asked) in zip(seconds, tasks, strict=True):
                    taken.append(timed_visit(port, asked, patience=_PATIENCE))
            if number:  # the first is a warm-up
                ratios.append(statistics.median(seconds[1]) / statistics.median(seconds[0]))
        name = large.provider.name
        measured.append(Measured(what="growth", provider=name, at=sizes[1], unit="times", rounds=tuple(ratios)))
    return measured


# --- how much many clients get done


def throughput(providers: Sequence[Running], size: int, plan: Plan) -> list[Measured]:
    """Queries per second on new associations; `p99` is in milliseconds."""
    task = query_task(the_query(size))
    loads = _in_turns(providers, plan.clients, plan, lambda each: itertools.repeat(task), quick_ack=False)
    return [
        of("queries", name, clients, runs)
        for (name, clients), runs in loads.items()
        for of in (_load_of, _processor_of)
    ]


def pairs(providers: Sequence[Running], seeds: Seeds, plan: Plan) -> list[Measured]:
    """N-CREATE and N-SET COMPLETED per second, each on a new association. Raises `WrongAnswer` when one was lost."""
    measured = []
    numbers = {each.provider.name: itertools.count() for each in providers}

    def tasks(each: Running) -> Iterator[Task]:
        taken = numbers[each.provider.name]
        limit = float("inf") if each.provider.is_floor else seeds.size
        return map(pair_task, itertools.takewhile(lambda number: number < limit, taken))

    done = dict.fromkeys(numbers, 0)
    for client, quick_ack in ((ORDINARY, False), (QUICK_ACK, True)):
        loads = _in_turns(providers, plan.reporters, plan, tasks, quick_ack=quick_ack)
        for (name, clients), runs in loads.items():
            measured += [of(f"pairs, {client}", name, clients, runs) for of in (_load_of, _processor_of)]
            done[name] += sum(run.done for run in runs if isinstance(run, Load))
    for each in providers:
        if each.provider.completed and (kept := each.provider.completed(seeds)) < done[each.provider.name]:
            raise WrongAnswer(f"{each.provider.name} answered {done[each.provider.name]} steps and kept {kept}")
    if processes.can_count_syncs():
        measured += [
            _syncs(each, tasks(each), clients, seeds, plan) for each in providers for clients in plan.reporters
        ]
    return measured


def _syncs(each: Running, tasks: Iterator[Task], clients: int, seeds: Seeds, plan: Plan) -> Measured:
    """Syncs per message, those of checkpoints left out; strace slows the provider down."""
    some = itertools.islice(tasks, plan.traced_pairs)
    written = seeds.folder / "syncs.log"
    loads: list[Load] = []

    def work() -> None:
        seconds = plan.traced_seconds
        loads.append(drive(each.port, some, clients=clients, seconds=seconds, quick_ack=True, patience=_PATIENCE))

    synced = processes.syncs(each.process, work, written)
    messages = len(loads[0].visits)
    checkpoints = sum(1 for path in synced if not path.endswith("-wal"))
    return Measured(
        what="syncs per message",
        provider=each.provider.name,
        at=clients,
        unit="syncs",
        rounds=((len(synced) - _SYNCS_OF_A_CHECKPOINT * checkpoints) / messages,),
        samples=messages,
        note=f"{checkpoints} checkpoint{'' if checkpoints == 1 else 's'} beside",
    )


_Run = Load | str
"""What was seen, or why nothing was."""


def _in_turns(
    providers: Sequence[Running],
    clients: Sequence[int],
    plan: Plan,
    tasks: Callable[[Running], Iterator[Task]],
    *,
    quick_ack: bool,
) -> dict[tuple[str, int], list[_Run]]:
    loads: dict[tuple[str, int], list[_Run]] = {}
    for many, _, each in itertools.product(clients, range(plan.load_rounds), providers):
        runs = loads.setdefault((each.provider.name, many), [])
        before = _computed(each)
        try:
            load = drive(each.port, tasks(each), clients=many, seconds=plan.load_seconds, quick_ack=quick_ack)
        except WrongAnswer as error:
            runs.append(str(error))
        else:
            load.computed = _computed(each) - before
            runs.append(load)
    return loads


def _computed(each: Running) -> float:
    return processes.computed(each.process) if sys.platform == "linux" else 0.0


def _processor_of(what: str, provider: str, clients: int, runs: Sequence[_Run]) -> Measured:
    """Milliseconds of processor time for each visit: others who want the same processors lengthen it less."""
    loads = [run for run in runs if isinstance(run, Load) and run.visits and run.computed]
    rounds = tuple(load.computed / len(load.visits) * 1e3 for load in loads)
    return Measured(what=f"{what}: processor", provider=provider, at=clients, unit="ms", rounds=rounds)


def _load_of(what: str, provider: str, clients: int, runs: Sequence[_Run]) -> Measured:
    wrong = sorted({run for run in runs if isinstance(run, str)})
    loads = [run for run in runs if isinstance(run, Load)]
    seconds = [taken for load in loads for taken in load.visits]
    notes = [*wrong]
    for name in ("refused", "timed_out"):
        if number := sum(getattr(load, name) for load in loads):
            notes.append(f"{number} {name.replace('_', ' ')}")
    if (share := max((load.client_share for load in loads), default=0.0)) > 0.85:
        notes.append(f"the client was at its limit ({share:.0%} of a core)")
    return Measured(
        what=what,
        provider=provider,
        at=clients,
        unit="per second",
        rounds=() if wrong else tuple(load.rate for load in loads),
        p99=percentile(seconds, 0.99) * 1e3 if seconds else None,
        samples=len(seconds),
        note=", ".join(notes),
    )


# --- what open associations cost, memory


def idle(providers: Sequence[Running], size: int, plan: Plan) -> list[Measured]:
    """What associations that do nothing cost in processor time, and a query beside them."""
    measured = []
    for each in providers:
        name = each.provider.name
        opened, shares, alone, beside, failed = 0, [], [], [], ""
        for _ in range(plan.idle_rounds):
            alone.append(statistics.median(asked_new(each.port, the_query(size), 2 * plan.slice, quick_ack=False)))
            clients = open_associations(each.port, plan.idle, seconds=_OPENING_SECONDS)
            opened = len(clients)
            try:
                time.sleep(_SETTLE_SECONDS)
                shares.append(processes.share_of_a_core(each.process, plan.idle_seconds))
                try:
                    taken = asked_new(each.port, the_query(size), 2 * plan.slice, quick_ack=False, patience=PATIENCE)
                    beside.append(statistics.median(taken))
                except (OSError, Refused) as error:
                    failed = f"none within {PATIENCE:.0f} s" if isinstance(error, TimeoutError) else "refused"
            finally:
                for client in clients:
                    client.close()
            time.sleep(_SETTLE_SECONDS)
            if failed:
                break
        note = f"{opened} of {plan.idle} were taken" if opened < plan.idle else ""
        measured += [
            Measured(
                what="idle: processor", provider=name, at=opened, unit="of a core", rounds=tuple(shares), note=note
            ),
            Measured(what="idle: query alone", provider=name, at=0, unit="ms", rounds=_milli(alone)),
            Measured(
                what="idle: query beside",
                provider=name,
                at=opened,
                unit="ms",
                rounds=() if failed else _milli(beside),
                note=failed,
            ),
        ]
    return measured


def _milli(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(value * 1e3 for value in seconds)


def memory(providers: Sequence[Running], size: int) -> list[Measured]:
    """Resident memory of all processes of each, in MiB, and the part of it that is not shared."""
    measured = []
    for each in providers:
        resident, proportional = processes.memory(each.process)
        name, note = each.provider.name, f"{proportional:.0f} proportional"
        measured.append(Measured(what="memory", provider=name, at=size, unit="MiB", rounds=(resident,), note=note))
    return measured


def verb(arguments: Sequence[str], environment: dict[str, str], folder: Path, times: int) -> tuple[float, ...]:
    """Seconds of a command from its start to its end."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(arguments, env=environment, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return tuple(taken)
