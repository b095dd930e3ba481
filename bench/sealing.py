"""Sealing: what a save costs with a key per patient, and how fast sealed events are read again.

`python -m bench.sealing [--quick]`. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.figures import Figure, micro, p50_p99, table
from bench.store import EVENTS, PER_ROUND, ROUNDS, _ratio, _timed, _wanted, _without_chain, live
from bench.synthetic import participant
from gateway.application import opened
from gateway.audit import erasure


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of sealing."""
    with tempfile.TemporaryDirectory(prefix="bench-sealing-") as folder:
        rounds = 3 if quick else ROUNDS
        saves = append(Path(folder), rounds=rounds, per_round=PER_ROUND)
        return saves + replay(Path(folder), events=10_000 if quick else EVENTS)


def append(folder: Path, *, rounds: int, per_round: int) -> list[Figure]:
    """The save of `bench.store` without chain and sealing, with the chain, and with both; each patient is new.

    The three take turns, save by save.
    """
    seconds: dict[str, list[list[float]]] = {"neither": [], "chain": [], "both": []}
    with ExitStack() as stack:
        neither = stack.enter_context(opened(folder / "neither.db"))
        chained = stack.enter_context(opened(folder / "chained.db"))
        both = stack.enter_context(opened(folder / "both.db", sealing=True))
        both.sealing.make_ready()
        for number in range(rounds + 1):
            taken: dict[str, list[float]] = {name: [] for name in seconds}
            for n in range(per_round):
                wanted, request = _wanted(number * per_round + n)
                with _without_chain():
                    taken["neither"].append(_timed(neither.schedule, wanted, request=request))
                taken["chain"].append(_timed(chained.schedule, wanted, request=request))
                taken["both"].append(_timed(both.schedule, wanted, request=request))
            if number:  # the first is a warm-up
                for name, values in taken.items():
                    seconds[name].append(values)
    ratio = micro(seconds["both"], 0.5) / micro(seconds["neither"], 0.5)
    return [
        Figure("append without chain and sealing, p50 / p99", p50_p99(seconds["neither"]), "the floor of this table"),
        Figure(
            "append with the chain, p50 / p99", p50_p99(seconds["chain"]), _ratio(seconds["chain"], seconds["neither"])
        ),
        Figure(
            "append with chain and sealing, a new patient each time, p50 / p99",
            p50_p99(seconds["both"]),
            f"×{ratio:.2f} of the floor at p50 (target ≤ 1.4)",
        ),
    ]


def replay(folder: Path, *, events: int) -> list[Figure]:
    """Rebuild a sealed history of whole examinations, and erase one person of it."""
    path = folder / "sealed.db"
    with opened(folder / "plain.db") as gateway:
        live(gateway, events // 10)
        plain = _timed(gateway.rebuild_projections)
    with opened(path, sealing=True) as gateway:
        live(gateway, events // 10)
        sealed = _timed(gateway.rebuild_projections)
        patient_id = participant(events // 20)["patient_id"]
        found = erasure.find(gateway, patient_id)
        looking = _timed(erasure.find, gateway, patient_id)
        erasing = _timed(erasure.erase, gateway, patient_id, found, reason="bench", operator="bench")
    sizes = [file.stat().st_size / events for file in (folder / "plain.db", path)]
    keys = path.with_name("sealed.db.keys").stat().st_size / (events // 10)
    return [
        Figure(
            f"rebuild of all projections, {events:,} sealed events",
            f"{events / sealed:,.0f} events/s",
            f"×{sealed / plain:.2f} of the time for plain ones ({events / plain:,.0f} events/s)",
        ),
        Figure(
            "erase one person: look through the log, then do it",
            f"{looking:.2f} s, {erasing:.3f} s",
            f"{events:,} events",
        ),
        Figure(
            "size of the file, sealed",
            f"{sizes[1]:,.0f} B/event",
            f"plain {sizes[0]:,.0f}; key file {keys:,.0f} B/patient",
        ),
    ]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.sealing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
