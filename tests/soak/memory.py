"""How much the gateway holds, moment by moment, and whether that stays the same."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GROWTH_MIB = 12.0
"""Resident memory that the second half of a life may add: SQLite keeps up to 2 MiB of pages for each connection, and a
database that grows fills them."""

GROWTH_DESCRIPTORS = 12.0
"""The same for open files; those of the peers that come and go at any moment are among them."""

ENOUGH = 6
"""Moments from which something can be told."""


@dataclass(frozen=True)
class Moment:
    """A look at the gateway while all was well. `life` counts its starts."""

    at: float
    life: int
    resident_mib: float
    descriptors: int


def look_at(pid: int, at: float, life: int) -> Moment | None:
    """What a process holds now (proc(5)); None where this can't be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    resident = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), "0")
    return Moment(at, life, int(resident) / 1024, descriptors)


def judged(moments: Sequence[Moment]) -> list[Moment]:
    """The second half of the life in which most was seen; nothing when that is too little."""
    lives = {moment.life for moment in moments}
    longest = max(([each for each in moments if each.life == life] for life in lives), key=len, default=[])
    half = longest[len(longest) // 2 :]
    return half if len(half) >= ENOUGH else []


def growth(moments: Sequence[Moment]) -> tuple[float, float]:
    """By how many MiB and descriptors it grew over these moments, along the straight line through them."""
    times = [moment.at for moment in moments]
    return (
        _rise(times, [moment.resident_mib for moment in moments]),
        _rise(times, [float(moment.descriptors) for moment in moments]),
    )


def _rise(times: Sequence[float], values: Sequence[float]) -> float:
    return statistics.linear_regression(times, values).slope * (times[-1] - times[0])


def complaints(moments: Sequence[Moment]) -> list[str]:
    """What is not flat."""
    half = judged(moments)
    if not half:
        return []
    mib, descriptors = growth(half)
    span = half[-1].at - half[0].at
    found = []
    if mib > GROWTH_MIB:
        found.append(f"leak: {mib:.1f} MiB more in the last {span:.0f} s of a life")
    if descriptors > GROWTH_DESCRIPTORS:
        found.append(f"leak: {descriptors:.0f} open files more in the last {span:.0f} s of a life")
    return found


def figure(moments: Sequence[Moment]) -> str:
    """It in words."""
    half = judged(moments)
    if not half:
        return "not judged: no life was long enough"
    mib, descriptors = growth(half)
    most = max(moment.resident_mib for moment in half)
    return (
        f"{most:.0f} MiB at most, {mib:+.1f} MiB (at most {GROWTH_MIB:g}) and {descriptors:+.0f} open files "
        f"(at most {GROWTH_DESCRIPTORS:g}) in the last {half[-1].at - half[0].at:.0f} s of a life"
    )
