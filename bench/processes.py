"""What the processes of a provider take: processor, memory, and syncs of the disk. Linux only."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 10.0
_SYNCS = ("fsync", "fdatasync")
_TICKS = os.sysconf("SC_CLK_TCK")
_PROCESS_CLOCK = 2
"""What the kernel calls the processor clock of a process beside its number: clock_getcpuclockid(3)."""


def processes(session: int) -> list[int]:
    """All processes of a session: the one that leads it and what it forked."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended just now
            continue
        if int(fields[3]) == session:
            found.append(int(entry.name))
    return found


def computed(session: int) -> float:
    """Seconds of all processors that these have taken so far, with those of threads and children that have ended."""
    total = 0.0
    for process in processes(session):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += time.clock_gettime(~process << 3 | _PROCESS_CLOCK)
        except OSError:  # it has ended just now
            continue
        total += (int(fields[13]) + int(fields[14])) / _TICKS
    return total


def share_of_a_core(session: int, seconds: float) -> float:
    """What they take of one core, on average over so many seconds."""
    began, before = time.perf_counter(), computed(session)
    time.sleep(seconds)
    return (computed(session) - before) / (time.perf_counter() - began)


def memory(session: int) -> tuple[float, float]:
    """Resident and proportional memory of all of them, in MiB."""
    resident = proportional = 0
    for process in processes(session):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has ended just now
            continue
        resident += _kilobytes(text, "Rss")
        proportional += _kilobytes(text, "Pss")
    return resident / 1024, proportional / 1024


def _kilobytes(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert found, name
    return int(found[1])


def can_count_syncs() -> bool:
    """Whether `strace` is there."""
    return shutil.which("strace") is not None


def syncs(process: int, work: Callable[[], object], written: Path) -> list[str]:
    """The path of each file that the process had synced while `work` was done; it is slowed down meanwhile."""
    what = f"trace={','.join(_SYNCS)}"
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-y", "-e", what, "-e", "signal=none", "-o", str(written), "-p", str(process)]
    )
    try:
        _until_traced(process, tracer)
        work()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=_PATIENCE)
    return re.findall(rf"\b(?:{'|'.join(_SYNCS)})\(\d+<([^>]*)>", written.read_text())


def _until_traced(process: int, tracer: subprocess.Popen[bytes]) -> None:
    """All of its threads."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and tracer.poll() is None:
        states = [thread.read_text() for thread in Path(f"/proc/{process}/task").glob("*/status")]
        if all(re.search(r"^TracerPid:\s+[1-9]", state, re.MULTILINE) for state in states):
            return
        time.sleep(0.01)
    raise RuntimeError("strace did not attach: does the system allow it (kernel.yama.ptrace_scope)?")
