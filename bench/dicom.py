"""Worklist and MPPS providers side by side: ourselves, those that others use, what one writes first, and the floor.

`python -m bench dicom [--quick] [--json]`. Everybody holds the same items and answers the same bytes from the same
client, in turns; an answer that is wrong fails its row. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import dicom_measures as measures
from bench.dicom_measures import FULL, QUICK, Measured, Plan, say
from bench.dicom_tables import text
from bench.figures import Report
from bench.peers import GATEWAY, Provider, Running, Seeds, environment, gateway_environment, providers, running

_MAIN_SIZE = 1_000
"""Where everything but the number of items is measured."""
_VERB = ("worklist", "list", "--date", "20361124", "--json")


def run(*, quick: bool = False) -> Report:
    """All figures of all providers."""
    plan = QUICK if quick else FULL
    _allow_open_files(2 * plan.idle + 256)
    everybody = providers()
    present = [provider for provider in everybody if not provider.missing]
    with tempfile.TemporaryDirectory(prefix="bench-dicom-") as folder:
        measured = [figure for size in plan.sizes for figure in _at_size(Path(folder), present, size, plan)]
        measured += _steps(Path(folder), present, plan)
        measured += _starts(Path(folder), present, plan)
        say("cleaning up")
    missing = [provider for provider in everybody if provider.missing]
    data = {"missing": [each.name for each in missing], "measured": [_plain(figure) for figure in measured]}
    return Report(text(measured, everybody), data)


def _plain(figure: Measured) -> dict[str, object]:
    return {**asdict(figure), "value": figure.value}


def _at_size(folder: Path, present: list[Provider], size: int, plan: Plan) -> list[Measured]:
    """Queries of so many items; all providers run at once."""
    say(f"{size:,} items: seeding and starting")
    seeds = Seeds(folder, size)
    with ExitStack() as stack:
        started = [stack.enter_context(running(provider, seeds)) for provider in present]
        say(f"{size:,} items: queries of one client")
        measured = measures.latency(started, size, plan)
        if size == _MAIN_SIZE:
            measured += _of_the_main_size(started, plan)
        elif size == plan.sizes[-1]:
            measured += _growth(stack, started, Seeds(folder, _MAIN_SIZE), size, plan)
    return measured


def _of_the_main_size(started: list[Running], plan: Plan) -> list[Measured]:
    measured = measures.memory(started, _MAIN_SIZE) if sys.platform == "linux" else []
    say("queries of many clients")
    measured += measures.throughput(started, _MAIN_SIZE, plan)
    if sys.platform == "linux":
        say("idle associations")
        measured += measures.idle(started, _MAIN_SIZE, plan)
    return measured


def _growth(stack: ExitStack, large: list[Running], small: Seeds, size: int, plan: Plan) -> list[Measured]:
    """Those that keep an index, both sizes at once; those that read files show it in the tables by size."""
    say(f"{small.size:,} beside {size:,} items")
    indexed = [each for each in large if not (each.provider.reads_files or each.provider.is_floor)]
    pairs = [(stack.enter_context(running(each.provider, small)), each) for each in indexed]
    return measures.growth(pairs, (small.size, size), plan)


def _steps(folder: Path, present: list[Provider], plan: Plan) -> list[Measured]:
    say(f"{plan.step_items:,} items to perform steps for: seeding and starting")
    seeds = Seeds(folder, plan.step_items)
    with ExitStack() as stack:
        started = [stack.enter_context(running(provider, seeds)) for provider in present if provider.takes_steps]
        say("performed steps")
        return measures.pairs(started, seeds, plan)


def _starts(folder: Path, present: list[Provider], plan: Plan) -> list[Measured]:
    """From the start of each to its first C-ECHO, in turns; and a verb that needs no DICOM."""
    say("starts")
    seeds = Seeds(folder, _MAIN_SIZE)
    seconds: dict[str, list[float]] = {provider.name: [] for provider in present}
    for _ in range(plan.starts):
        for provider in present:
            with running(provider, seeds) as started:
                seconds[provider.name].append(started.started_within)
    measured = [_start("start", name, taken) for name, taken in seconds.items()]
    variables = environment(**gateway_environment(seeds.gateway()))
    for name, arguments in ((f"gateway {' '.join(_VERB)}", (*GATEWAY, *_VERB)), ("python", (sys.executable, "-c", ""))):
        measured.append(_start("verb", name, measures.verb(arguments, variables, folder, 2 * plan.starts)))
    return measured


def _start(what: str, name: str, seconds: list[float] | tuple[float, ...]) -> Measured:
    return Measured(what=what, provider=name, at=_MAIN_SIZE, unit="s", rounds=tuple(seconds), samples=len(seconds))


def _allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
