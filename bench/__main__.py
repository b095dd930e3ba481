"""Run every bench, or those that are named: `python -m bench [dicom …] [--quick] [--json] [--write]`.

A bench is a module of this package with `run(*, quick) -> list[Figure] | Report`; `--write` puts the results into
`bench/README.md`, between its markers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import re
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Report

BENCHES = {
    "bench.store": "Event store",
    "bench.rebuild": "Rebuilding beside the service",
    "bench.sealing": "Sealing",
    "bench.as_of": "The worklist as it stood",
    "bench.relay": "Actions through the relay",
    "bench.worklist": "Worklist queries over DICOM",
    "bench.start": "Start and memory",
    "bench.window": "People at the window",
    "bench.dicom": "Beside other worklist providers",
}
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def main() -> None:
    """Run them one after the other and print what they say."""
    known = [name.removeprefix("bench.") for name in BENCHES]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; all if none is given")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events: does it still run?")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    parser.add_argument("--write", action="store_true", help=f"put the results into {README.name}")
    options = parser.parse_args()
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    reports = {name: (_machine(), _run(name, quick=options.quick)) for name in options.names or known}
    sections = {
        f"### {BENCHES[f'bench.{name}']}": f"{machine}\n\n{report.text}" for name, (machine, report) in reports.items()
    }
    if options.json:
        data = {name: {"machine": machine, "results": report.data} for name, (machine, report) in reports.items()}
        print(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(f"{title}\n\n{text}" for title, text in sections.items()))
    if options.write:
        README.write_text(_written(README.read_text(), sections))


def _run(name: str, *, quick: bool) -> Report:
    print(f"{BENCHES[f'bench.{name}']} …", file=sys.stderr)
    said = importlib.import_module(f"bench.{name}").run(quick=quick)
    return said if isinstance(said, Report) else Report.of(said)


def _machine() -> str:
    one, five, _ = os.getloadavg()
    return (
        f"{datetime.now(UTC):%d %b %Y}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; "
        f"load average at the start {one:.1f} / {five:.1f}."
    )


def _written(text: str, sections: dict[str, str]) -> str:
    """The page with these sections of its results replaced; the others stay as they were measured."""
    before, rest = text.split(BEGIN)
    results, after = rest.split(END)
    for title, section in sections.items():
        found = re.search(rf"^{re.escape(title)}\n.*?(?=^### |\Z)", results, re.DOTALL | re.MULTILINE)
        start, end = found.span() if found else (len(results), len(results))
        results = f"{results[:start]}{title}\n\n{section}\n\n{results[end:]}"
    return f"{before}{BEGIN}\n\n{results.strip()}\n\n{END}{after}"


if __name__ == "__main__":
    main()
