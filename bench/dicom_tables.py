"""The figures of `bench.dicom` as tables: one row a provider, and what is to be reached beside what was."""

from __future__ import annotations

from collections.abc import Sequence

from bench.dicom_book import NOTHING, Book, short, times
from bench.dicom_goals import goals
from bench.dicom_measures import NEW, OPEN, ORDINARY, QUICK_ACK, Measured
from bench.figures import grid
from bench.peers import Provider

_MAIN = 1_000


def text(measured: Sequence[Measured], providers: Sequence[Provider]) -> str:
    """All tables."""
    book = Book(measured, providers)
    parts = [
        "\n".join(
            f"{provider.name} is missing here: {provider.missing}." for provider in providers if provider.missing
        ),
        _part("To be reached, and what was", goals(book)),
        *(
            _part(
                f"C-FIND, {association}, {client}: ms at p50{' / p99' if association == NEW else ''}",
                _sizes(book, what),
            )
            for association in (NEW, OPEN)
            for client in (ORDINARY, QUICK_ACK)
            if book.at(what := f"{association}, {client}")
        ),
        _part(
            f"Queries per second of {_MAIN:,} items, new associations, ordinary clients (p99 in ms)",
            _rates(book, "queries", "client"),
        ),
        *(
            _part(
                f"Durable MPPS pairs per second, new associations, {client} (p99 of a message in ms)",
                _rates(book, what, "unit"),
            )
            for client in (ORDINARY, QUICK_ACK)
            if book.at(what := f"pairs, {client}")
        ),
        _part("Processor time of the provider, ms: new association, operation, release", _processor(book)),
        _part("Syncs per MPPS message, counted by strace, which slows everybody down", _syncs(book)),
        _part("Associations that do nothing", _idle(book)),
        _part(f"Memory, start, growth ({_MAIN:,} items)", _resources(book)),
    ]
    return "\n\n".join(part for part in parts if part)


def _part(title: str, table: str) -> str:
    return f"**{title}**\n\n{table}" if table else ""


# --- by the number of items


def _sizes(book: Book, what: str) -> str:
    """A row a provider, a column a size; below, ours as a ratio to the floor and to the best peer."""
    sizes = book.at(what)
    rows = [
        (provider.name, *(_latency(book.get(what, provider.name, size)) for size in sizes)) for provider in book.present
    ]
    for name in book.ours:
        rows.append((f"*{name}, of the floor*", *(_of(book, what, name, book.floor, size) for size in sizes)))
        rows.append((f"*best peer, of {name}*", *(_of_best(book, what, name, size) for size in sizes)))
    return grid(("", *(f"{size:,} items" for size in sizes)), rows)


def _latency(figure: Measured | None) -> str:
    if figure is None or figure.value is None:
        return figure.note if figure else NOTHING
    if figure.samples == 1:
        return f"{short(figure.value)} (one query)"
    return short(figure.value) + (f" / {short(figure.p99)}" if figure.p99 and figure.what.startswith(NEW) else "")


def _of(book: Book, what: str, name: str, other: str, at: int) -> str:
    ours, theirs = book.get(what, name, at), book.get(what, other, at)
    return times(ours.times(theirs) if ours and theirs else None)


def _of_best(book: Book, what: str, name: str, at: int) -> str:
    ours, best = book.get(what, name, at), book.best_peer(what, at)
    ratio = best.times(ours) if ours and best else None
    return f"{times(ratio)} {best.provider}" if ratio and best else NOTHING


# --- by the number of clients


def _rates(book: Book, what: str, who: str) -> str:
    numbers = book.at(what)
    measured = [each.name for each in book.present if book.all(what, each.name)]
    rows = [(name, *(_rate(book.get(what, name, number)) for number in numbers)) for name in measured]
    for name in book.ours:
        rows.append((f"*{name}, of the floor*", *(_of(book, what, name, book.floor, number) for number in numbers)))
        rows.append((f"*{name}, of the best peer*", *(_of_most(book, what, name, number) for number in numbers)))
    return grid(("", *(_many(number, who) for number in numbers)), rows) if measured else ""


def _many(number: int, who: str) -> str:
    return f"{number} {who}{'' if number == 1 else 's'}"


def _rate(figure: Measured | None) -> str:
    if figure is None or figure.value is None:
        return figure.note if figure else NOTHING
    p99 = f" ({short(figure.p99)})" if figure.p99 else ""
    return f"{figure.value:,.0f}{p99}" + (f"; {figure.note}" if figure.note else "")


def _of_most(book: Book, what: str, name: str, at: int) -> str:
    ours, best = book.get(what, name, at), book.best_peer(what, at, most=True)
    ratio = ours.times(best) if ours and best else None
    return f"{times(ratio)} {best.provider}" if ratio and best else NOTHING


def _processor(book: Book) -> str:
    """What a query and what an MPPS message cost."""
    columns = [
        (f"{operation}, {_many(number, who)}", what, number)
        for operation, what, who in (
            ("query", "queries: processor", "client"),
            ("message", f"pairs, {ORDINARY}: processor", "unit"),
        )
        for number in book.at(what)
    ]
    rows = [
        (provider.name, *(_latency(book.get(what, provider.name, number)) for _, what, number in columns))
        for provider in book.present
    ]
    return grid(("", *(title for title, _, _ in columns)), rows) if columns else ""


def _syncs(book: Book) -> str:
    numbers = book.at("syncs per message")
    rows = []
    for provider in book.present:
        figures = [book.get("syncs per message", provider.name, number) for number in numbers]
        if any(figures):
            said = (f"{short(figure.value)} ({figure.note})" if figure else NOTHING for figure in figures)
            rows.append((provider.name, *said))
    return grid(("", *(_many(number, "unit") for number in numbers)), rows) if rows else ""


# --- one figure each


def _idle(book: Book) -> str:
    rows = []
    for provider in book.present:
        processor, alone, beside = (
            next(iter(book.all(f"idle: {kind}", provider.name)), None)
            for kind in ("processor", "query alone", "query beside")
        )
        if processor and alone and beside:
            rows.append(
                (
                    provider.name,
                    f"{processor.at}" + (" (no more were taken)" if processor.note else ""),
                    f"{processor.value or 0:.1%}",
                    _latency(alone),
                    _latency(beside),
                    times(beside.times(alone)),
                )
            )
    head = ("", "open", "processor, of a core", "query p50 without, ms", "with, ms", "ratio")
    return grid(head, rows) if rows else ""


def _resources(book: Book) -> str:
    rows = []
    growth = max(book.at(f"{NEW}, {ORDINARY}"), default=0)
    for provider in book.present:
        memory, start = book.get("memory", provider.name, _MAIN), book.get("start", provider.name, _MAIN)
        resident = f"{memory.value:.0f} ({memory.note})" if memory else NOTHING
        started = f"{start.value:.2f}" if start else NOTHING
        rows.append((provider.name, resident, started, _grown(book, provider.name, growth)))
    for figure in book.verbs():
        rows.append((f"`{figure.provider}`, start to end", NOTHING, f"{figure.value:.2f}", NOTHING))
    return grid(("", "memory, MiB", "start to first C-ECHO, s", f"query, {_MAIN:,} → {growth:,} items"), rows)


def _grown(book: Book, name: str, size: int) -> str:
    """Measured side by side, or else from the tables above, which were taken at different times."""
    if figure := book.get("growth", name, size):
        return times(figure.value)
    what = f"{NEW}, {ORDINARY}"
    small, large = book.get(what, name, _MAIN), book.get(what, name, size)
    if not (small and large and small.value and large.value) or size <= _MAIN:
        return NOTHING
    return f"{times(large.value / small.value)} (not side by side)"
