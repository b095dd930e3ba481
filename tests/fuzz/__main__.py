"""`make fuzz`: minutes of bytes at the modalities' door, led by coverage, from PDUs to attribute lists.

The exit code is 0 only if nothing was found; what was found is kept, for a test beside `tests/fuzz/test_doors.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import SEEDS

_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")
_DONE = re.compile(r"stat::number_of_executed_units: (\d+)")
_MEMORY = re.compile(r"stat::peak_rss_mb: +(\d+)")

_EVERY = 30.0
"""Seconds between two lines about how it stands."""


@dataclass
class Outcome:
    """What came of one door: executions, and edges and features that were covered by the seeds and in the end."""

    door: str
    code: int = 0
    executions: int = 0
    at_first: tuple[int, int] = (0, 0)
    at_last: tuple[int, int] = (0, 0)
    peak_mib: int = 0

    def take(self, line: str) -> None:
        """Read a line of libFuzzer's."""
        if covered := _COVERED.search(line):
            self.at_last = int(covered[1]), int(covered[2])
            if "INITED" in line:
                self.at_first = self.at_last
        if done := _DONE.search(line):
            self.executions = int(done[1])
        if memory := _MEMORY.search(line):
            self.peak_mib = int(memory[1])

    def __str__(self) -> str:
        (edges, features), (edges_then, features_then) = self.at_last, self.at_first
        return (
            f"{self.door}: {self.executions} executions, {edges_then} → {edges} edges, "
            f"{features_then} → {features} features, {self.peak_mib} MiB at most"
        )


def main() -> int:
    """Fuzz one door after the other, and tell what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="for all doors together (%(default)s)")
    parser.add_argument("--door", choices=SEEDS, action="append", help="only this one, or these")
    parser.add_argument("--seed", type=int, help="of the dice; made up when not given")
    parser.add_argument("--corpus", type=Path, help="folder of inputs to start from beside the seeds, and to add to")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        _say("atheris is not installed: `make fuzz` installs it, on Linux")
        return 2
    doors = options.door or [*SEEDS]
    folder = Path(tempfile.mkdtemp(prefix="gateway-fuzz-"))
    seed = options.seed or random.SystemRandom().randrange(1, 1_000_000)
    _say(f"seed {seed}, {options.minutes:g} minutes, {', '.join(doors)}, in {folder}")
    seconds = max(1, round(60 * options.minutes / len(doors)))
    outcomes = [_fuzz(door, seconds, seed, folder, options.corpus or folder / "corpus") for door in doors]
    for outcome in outcomes:
        _say(f"  {outcome}")
    found = sorted(folder.glob("found-*"))
    for file in found:
        _say(f"found: {file}, {file.stat().st_size} bytes: {file.read_bytes()[:64].hex()}…")
    if found or any(outcome.code for outcome in outcomes):
        return 1
    _say("nothing found")
    return 0


def _fuzz(door: str, seconds: int, seed: int, folder: Path, corpus: Path) -> Outcome:
    inputs, seeds = corpus / door, folder / "seeds" / door
    inputs.mkdir(parents=True, exist_ok=True)
    seeds.mkdir(parents=True)
    for number, data in enumerate(SEEDS[door]()):
        (seeds / f"{number:03d}").write_bytes(data)
    arguments = [f"-max_total_time={seconds}", f"-seed={seed}", "-print_final_stats=1"]
    arguments += [f"-artifact_prefix={folder}/found-{door}-", str(inputs), str(seeds)]
    outcome, log = Outcome(door), folder / f"{door}.log"
    with log.open("w", encoding="utf-8") as kept:
        for line in _lines([sys.executable, "-m", "tests.fuzz.one_door", door, *arguments], outcome):
            kept.write(line)
    if outcome.code:
        _say("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-40:]))
    return outcome


def _lines(command: list[str], outcome: Outcome) -> Iterator[str]:
    told = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            outcome.take(line)
            if time.monotonic() - told > _EVERY:
                told = time.monotonic()
                _say(f"  {outcome.door}: {line.strip()}")
            yield line
    outcome.code = run.returncode


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
