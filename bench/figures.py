"""What a bench returns, and how it is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: what, how much, and what to compare it with."""

    what: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a bench has to say: Markdown for people, and plain data for programs."""

    text: str
    data: Any

    @classmethod
    def of(cls, figures: Sequence[Figure]) -> Report:
        """One table of figures."""
        return cls(table(figures), [asdict(figure) for figure in figures])


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
    """A Markdown table of figures."""
    return grid(("what", "measured", "note"), [(figure.what, figure.value, figure.note) for figure in figures])


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])
