"""Run every bench: `python -m bench [--quick] [--write]`.

A bench is a module of this package with `run(*, quick) -> list[Figure]`; `--write` puts the results into
`bench/README.md`, between its markers.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import table

BENCHES = {
    "bench.store": "Event store",
    "bench.rebuild": "Rebuilding beside the service",
    "bench.sealing": "Sealing",
    "bench.as_of": "The worklist as it stood",
    "bench.relay": "Actions through the relay",
    "bench.worklist": "Worklist queries over DICOM",
    "bench.start": "Start and memory",
}
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def main() -> None:
    """Run them one after the other and print what they say."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and events: does it still run?")
    parser.add_argument("--write", action="store_true", help=f"put the results into {README.name}")
    options = parser.parse_args()
    parts = [_machine()]
    for name, title in BENCHES.items():
        if importlib.util.find_spec(name) is None:
            continue
        print(f"{title} …", file=sys.stderr)
        figures = importlib.import_module(name).run(quick=options.quick)
        parts.append(f"### {title}\n\n{table(figures)}")
    results = "\n\n".join(parts)
    print(results)
    if options.write:
        _write(results)


def _machine() -> str:
    one, five, _ = os.getloadavg()
    return (
        f"{datetime.now(UTC):%d %b %Y}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; "
        f"load average at the start {one:.1f} / {five:.1f}."
    )


def _write(results: str) -> None:
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n{results}\n\n{END}{after}")


if __name__ == "__main__":
    main()
