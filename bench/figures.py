"""What a bench returns, and how it is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: what, how much, and what to compare it with."""

    what: str
    value: str
    note: str = ""


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


def micro(rounds: Sequence[Sequence[float]], part: float) -> float:
    """The median over rounds of one percentile, in microseconds."""
    return statistics.median(percentile(seconds, part) for seconds in rounds) * 1e6


def p50_p99(rounds: Sequence[Sequence[float]]) -> str:
    """Both, for people."""
    return f"{micro(rounds, 0.5):,.0f} / {micro(rounds, 0.99):,.0f} µs"


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table."""
    rows = [f"| {figure.what} | {figure.value} | {figure.note} |" for figure in figures]
    return "\n".join(["| what | measured | note |", "|---|---|---|", *rows])
