"""What issue and design ask of our own figures, and whether they are reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.dicom_book import NOTHING, Book, short, times, value_of
from bench.dicom_measures import NEW, OPEN, ORDINARY, QUICK_ACK, Measured
from bench.figures import grid

_MAIN = 1_000


@dataclass(frozen=True, slots=True)
class Goal:
    """One of our figures and its limit."""

    name: str
    figure: Callable[[Book, str], Measured | None]
    limit: float
    is_most: bool = True
    """Whether the limit is the most it may be, or the least."""

    value: Callable[[Measured], float | None] = value_of
    unit: str = ""

    def row(self, book: Book, ours: str) -> tuple[str, ...] | None:
        """What, the limit, what was measured, whether that is enough, and how that is beside the others."""
        figure = self.figure(book, ours)
        value = self.value(figure) if figure else None
        if figure is None or value is None:
            return None
        enough = round(value, 2) <= self.limit if self.is_most else value >= self.limit
        sign = "≤" if self.is_most else "≥"
        said = f"{short(value)}{self.unit}" + (f"; {figure.note}" if figure.note and self.unit != " MiB" else "")
        return (
            self.name,
            f"{sign} {self.limit:g}{self.unit}",
            said,
            "yes" if enough else "**no**",
            *self._beside(book, figure),
        )

    def _beside(self, book: Book, figure: Measured) -> tuple[str, str]:
        floor = book.get(figure.what, book.floor, figure.at)
        best = book.best_peer(figure.what, figure.at, most=not self.is_most, value=self.value)
        said = f"{short(self.value(best))}{self.unit}, {best.provider}" if best else NOTHING
        return times(self._times(figure, floor)), said + (f"; {best.note}" if best and best.note else "")

    def _times(self, figure: Measured, floor: Measured | None) -> float | None:
        if floor is None or self.value is value_of:
            return figure.times(floor) if floor else None
        ours, its = self.value(figure), self.value(floor)
        return ours / its if ours and its else None


def _at(what: str, at: int) -> Callable[[Book, str], Measured | None]:
    return lambda book, name: book.get(what, name, at)


def _last(what: str) -> Callable[[Book, str], Measured | None]:
    return lambda book, name: max(book.all(what, name), key=lambda figure: figure.at, default=None)


def _slowest(what: str) -> Callable[[Book, str], Measured | None]:
    return lambda book, name: max(book.all(what, name), key=lambda figure: figure.value or 0.0, default=None)


def _beside_idle(book: Book, name: str) -> Measured | None:
    """The query beside idle associations as a ratio to that without."""
    beside, alone = (next(iter(book.all(f"idle: query {kind}", name)), None) for kind in ("beside", "alone"))
    ratio = beside.times(alone) if beside and alone else None
    if beside is None or ratio is None:
        return None
    return Measured(what="idle: ratio", provider=name, at=beside.at, unit="times", rounds=(ratio,))


def _first_verb(book: Book, _: str) -> Measured | None:
    return next(iter(book.verbs()), None)


_GOALS = (
    Goal("C-FIND, 40 of 1,000, new association, p50", _at(f"{NEW}, {ORDINARY}", _MAIN), 0.8, unit=" ms"),
    Goal("the same on an open association, slowest of all sizes", _slowest(f"{OPEN}, {ORDINARY}"), 0.25, unit=" ms"),
    *(
        Goal(f"queries per second, {clients} clients", _at("queries", clients), 1200, is_most=False)
        for clients in (4, 16, 64)
    ),
    Goal("their p99 with 64 clients", _at("queries", 64), 80, value=lambda figure: figure.p99, unit=" ms"),
    *(
        Goal(
            f"MPPS pairs per second, {units} unit{'s' if units > 1 else ''}",
            _at(f"pairs, {ORDINARY}", units),
            limit,
            is_most=False,
        )
        for units, limit in ((1, 300), (4, 450), (16, 450))
    ),
    *(
        Goal(f"syncs per MPPS message, {units} unit{'s' if units > 1 else ''}", _at("syncs per message", units), 1.0)
        for units in (1, 4, 16)
    ),
    Goal(
        "idle associations: processor", _last("idle: processor"), 1.0, value=lambda figure: _percent(figure), unit=" %"
    ),
    Goal("idle associations: query p50 beside them", _beside_idle, 1.3, unit=" times"),
    Goal("memory at 1,000 items", _at("memory", _MAIN), 90, unit=" MiB"),
    Goal("start to first C-ECHO", _at("start", _MAIN), 0.7, unit=" s"),
    Goal("a verb that needs no DICOM", _first_verb, 0.3, unit=" s"),
    Goal("growth to the largest worklist, same matches", _last("growth"), 1.15, unit=" times"),
)


def _percent(figure: Measured) -> float | None:
    return None if figure.value is None else figure.value * 100


def goals(book: Book) -> str:
    """Of our default engine."""
    ours = book.ours[0]
    rows = [row for goal in _GOALS if (row := goal.row(book, ours))]
    head = ("", "to be reached", ours, "reached", "times the floor", "best peer")
    return grid(head, [*rows, *_faster_everywhere(book, ours)])


def _faster_everywhere(book: Book, ours: str) -> list[tuple[str, ...]]:
    """Whether no peer is faster at any size, with any client."""
    rows = []
    for association in (NEW, OPEN):
        kinds = [f"{association}, {client}" for client in (ORDINARY, QUICK_ACK)]
        found = [
            (ratio, best)
            for what in kinds
            for size in book.at(what)
            if (mine := book.get(what, ours, size))
            and (best := book.best_peer(what, size))
            and (ratio := best.times(mine)) is not None
        ]
        if found:
            ratio, best = min(found, key=lambda each: each[0])
            goal = f"times as fast as the best peer, {association}, at the least of all sizes and clients"
            nearest = f"{short(best.value)} ms, {best.provider}, {best.at:,} items"
            rows.append((goal, "> ×1", times(ratio), "yes" if ratio > 1 else "**no**", NOTHING, nearest))
    return rows
