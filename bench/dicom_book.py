"""The figures of `bench.dicom` in one place, found by what was measured, whose it is, and at how many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.dicom_measures import Measured
from bench.peers import Provider

NOTHING = "–"


def value_of(figure: Measured) -> float | None:
    """The median of its rounds."""
    return figure.value


class Book:
    """All figures, found by what, whose, and at how many."""

    def __init__(self, measured: Iterable[Measured], providers: Sequence[Provider]) -> None:
        self._figures = {(figure.what, figure.provider, figure.at): figure for figure in measured}
        self.providers = providers
        self.present = [provider for provider in providers if not provider.missing]
        self.floor = next(provider.name for provider in providers if provider.is_floor)
        self.ours = [provider.name for provider in self.present if provider.is_ours]
        self.peers = [provider.name for provider in self.present if provider.is_peer]

    def get(self, what: str, provider: str, at: int) -> Measured | None:
        """The figure, if it was measured."""
        return self._figures.get((what, provider, at))

    def all(self, what: str, provider: str) -> list[Measured]:
        """A provider's figures at all numbers."""
        return [figure for (kind, name, _), figure in self._figures.items() if (kind, name) == (what, provider)]

    def at(self, what: str) -> list[int]:
        """The numbers at which something was measured."""
        return sorted({at for kind, _, at in self._figures if kind == what})

    def verbs(self) -> list[Measured]:
        """The commands that were timed from start to end, ours first."""
        return [figure for (kind, _, _), figure in self._figures.items() if kind == "verb"]

    def best_peer(
        self, what: str, at: int, *, most: bool = False, value: Callable[[Measured], float | None] = value_of
    ) -> Measured | None:
        """The peer with the least value, or the most."""
        found = [figure for name in self.peers if (figure := self.get(what, name, at)) and value(figure) is not None]
        return (max if most else min)(found, key=lambda figure: value(figure) or 0.0, default=None)


def times(ratio: float | None) -> str:
    """A ratio."""
    return NOTHING if ratio is None else f"×{short(ratio)}"


def short(value: float | None) -> str:
    """Three digits, or all that stand before the point."""
    if value is None:
        return NOTHING
    if 0 < abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
