"""`make soak`: minutes of random trouble, then the proof that nothing was lost, doubled or reordered, and memory flat.

The exit code is 0 only if there was no complaint; otherwise its folder with logs and database is kept.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.soak import memory
from tests.soak.record import ANSWERED_WITHIN, DIALS, HEALTHY_WITHIN, Struck
from tests.soak.soak import Soak
from tests.soak.trouble import Act


def main() -> int:
    """Play one soak and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="of trouble; the end comes on top (%(default)s)")
    parser.add_argument("--seed", type=int, help="repeats the troubles of an earlier run; made up when not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="gateway-soak-"))
    _say(f"seed {seed}, {options.minutes:g} minutes, load average {os.getloadavg()[0]:.1f}, in {folder}")
    logging.basicConfig(filename=folder / "witnesses.log", level=logging.INFO)
    soak = Soak(folder, seed, options.minutes, _say)
    try:
        soak.run()
    except (AssertionError, pytest.fail.Exception) as failure:  # waited in vain, or a process that ended
        soak.complaints.append(str(failure))
    figures = _figures(soak)
    _say(_table(figures))
    if options.json:
        options.json.write_text(json.dumps({"seed": seed, **figures}, indent=2) + "\n", encoding="utf-8")
    return _verdict(soak, folder)


def _verdict(soak: Soak, folder: Path) -> int:
    if not soak.complaints:
        shutil.rmtree(folder)
        _say("lost 0, applied twice 0, reordered 0")
        return 0
    (folder / "record.json").write_text(json.dumps(asdict(soak.record), indent=1), encoding="utf-8")
    (folder / "complaints.txt").write_text("\n".join(soak.complaints), encoding="utf-8")
    _say(f"{len(soak.complaints)} complaints, kept with record, logs and database in {folder}; --seed {soak.seed}")
    for complaint in soak.complaints[:20]:
        _say(f"  {complaint}")
    return 1


def _figures(soak: Soak) -> dict[str, str]:
    """What there was, for people."""
    record, known, struck = soak.record, soak.witnesses.known, soak.record.struck
    answered, events = known.answered().values(), {arrival.event_id for arrival in known.arrivals}
    figures = {
        "actions": f"{len(answered)} acknowledged, {len(known.answers)} answers, "
        f"{sum(sent.tries > 1 for sent in answered)} asked more than once",
        "MPPS": f"{sum(len(each.created) + len(each.finished) for each in known.steps)} messages, "
        f"{len(known.steps)} steps",
        "status events": f"{len(known.settled())} acknowledged, {len(known.refused())} refused, "
        f"{len(known.arrivals)} deliveries, {len(known.arrivals) - len(events)} of them repeats",
        "worklist queries": str(known.queries),
        "faults": f"{_count(struck, Act.FAULT)} in {len(record.troubled)} rounds",
        "bad peers": f"{_count(struck, Act.BAD_PEERS)} at the modalities' door",
        "kills": f"{soak.kills} of the gateway, all in the first half, {soak.relay_deaths} of the relay",
        "memory": memory.figure(record.moments),
    }
    if record.answers:
        figures |= {
            "gateway healthy after": f"{_p50_max(record.recoveries())} (at most {HEALTHY_WITHIN:g} s)",
            "web app healthy after": f"{_p50_max(record.web_app_recoveries())} (at most {HEALTHY_WITHIN:g} s)",
            "longest deafness": f"{record.longest_deafness():.1f} s from the end of trouble (at most "
            f"{HEALTHY_WITHIN:g} s), {record.longest_pause():.1f} s while all was well (at most {ANSWERED_WITHIN:g} s)",
            "404 while all was well": str(record.turned_away()),
        }
        for path in ("actions", "events"):
            calm, ever = (record.longest_without_listener(path, calm=calm) for calm in (True, False))
            figures[f"no listener on {path}"] = f"{calm:.1f} s from the end of trouble, {ever:.1f} s with it"
            most = (
                f"{record.most_dials(path, seconds)} in {seconds:g} s (at most {limit})" for seconds, limit in DIALS
            )
            figures[f"dials on {path}"] = ", ".join(most)
    return figures


def _count(struck: list[Struck], act: Act) -> str:
    """How many, of how many kinds."""
    names = [each.trouble.name for each in struck if each.trouble.act is act]
    return f"{len(names)} of {len({*names})} kinds"


def _p50_max(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s"


def _table(figures: dict[str, str]) -> str:
    width = max(len(what) for what in figures)
    return "\n".join(f"  {what:<{width}}  {figure}" for what, figure in figures.items())


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
