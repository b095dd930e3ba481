"""Today's list as it changes: looked at once and rendered once per change, for everybody who watches.

Nothing is looked at while nobody watches. What changed is known from the log itself (its position), so that changes by
other processes are seen too, and from the record of queries.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import projections.timeline
import projections.worklist
from gateway.dicom import record
from gateway.errors import GatewayError
from gateway.eventstore import as_of, replay
from gateway.log import get_logger
from gateway.ops.window.clinic import Chosen, Item, items_of, shown
from gateway.ops.window.sources import Sources

_PAUSE = 0.25
"""Seconds between two looks at least: a burst of changes is one look."""
_INTERVAL = 2.0
"""Seconds between two looks at most while somebody watches: for what other processes do, and the strip."""
_MOST_EVENTS = 500
"""So many new events are read one by one; after more the list is read anew."""
_MOST_WAITING = 100
"""Messages that wait for one slow watcher; then it is told to load the page again."""
_PING = 15.0
"""Seconds after which a watcher to whom nothing was said hears that the line is open."""
_OVERLAP = timedelta(seconds=10)
"""The record of queries is written a second late, and its rows grow: each look goes back so far."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Line:
    """An item and its rendered row."""

    item: Item
    html: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The state in a line that stands on every page, and below it what is wrong or doubtful, with what to do."""

    relay: str
    waiting: int
    parked: int
    unmatched: int
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Live:
    """The present list of the day, and those who watch it. `look` may be called from any thread."""

    def __init__(
        self,
        sources: Sources,
        row: Callable[[Item], str],
        strip: Callable[[], str],
    ) -> None:
        """`row` and `strip` render one line of the list and the state's strip."""
        self._sources = sources
        self._row = row
        self._render_strip = strip
        self._lock = threading.Lock()
        self._day = ""
        self._position = 0
        self._queries_seen = ""
        self._lines: dict[str, Line] = {}
        self._order: list[str] = []
        self._strip = ""
        self._unsent: list[dict[str, Any]] = []
        self._version = time.time_ns() // 1_000_000
        """Begins at the clock, so that a page of the process before is known to be old."""
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- the list

    def present(self) -> tuple[int, list[Line]]:
        """The list as it is now, and its version."""
        with self._lock:
            changes = self._look()
            self._unsent += changes if self._watchers else []  # who comes later has loaded this version
            return self._version, [self._lines[number] for number in self._order]

    def changes(self) -> list[dict[str, Any]]:
        """What changed since it was asked last, as `window.js` applies it: rows put in, out, or all to be loaded anew.

        A row is `{accession_number, html, before, status}`: it goes before that of the number `before`, to the end
        where that is None; without `html` it is gone.
        """
        return self._since_last()[1]

    def _since_last(self) -> tuple[int, list[dict[str, Any]]]:
        """The version that these changes lead to, and they."""
        with self._lock:
            changes, self._unsent = self._unsent + self._look(), []
            return self._version, changes

    def _look(self) -> list[dict[str, Any]]:
        """Take in what changed. Returns the changes as `window.js` applies them."""
        try:
            changed = self._changed()
            if changed is None:
                return self._read_anew()
            return self._read(changed) if changed else []
        except Exception:
            self._day = ""  # what was passed over by this look is in the next one, which reads everything
            raise

    def _changed(self) -> set[str] | None:
        """The accession numbers that may have changed since the last look; None: all."""
        day = self._sources.site.today()
        with self._sources.gateway.reading() as connection:
            head = as_of.head(connection).position
            if day != self._day or not 0 <= head - self._position <= _MOST_EVENTS:
                self._day = day
                self._position = head
                self._queries_seen = _now()
                return None
            changed = self._of_events(connection, head)
            seen = _now()
            queries = record.queries_between(connection, since=_before(self._queries_seen))
            changed |= {
                number for query in queries for number in query.accession_numbers if self._is_news(number, query)
            }
        self._position, self._queries_seen = head, seen
        return changed

    def _of_events(self, connection: Any, head: int) -> set[str]:  # noqa: ANN401  a connection
        if head == self._position:
            return set()
        mapper, opened = self._sources.gateway.mapper, projections.timeline.OPENED
        events = replay.read(connection, mapper, after=self._position, until=head, opened=opened)
        return {row.accession_number for row in projections.timeline.rows_of(events)} - {""}

    def _is_news(self, number: str, query: record.Query) -> bool:
        """Whether this modality has not been seen to have the item yet."""
        line = self._lines.get(number)
        if query.calling_ae_title in self._sources.site.test_ae_titles:
            return False
        return line is not None and all(sent.ae_title != query.calling_ae_title for sent in line.item.sent)

    def _read_anew(self) -> list[dict[str, Any]]:
        items = items_of(self._sources, Chosen(self._day, None))
        self._lines = {item.accession_number: Line(item, self._row(item)) for item in items}
        self._order = [item.accession_number for item in items]
        self._version += 1
        return [{"reload": True}]

    def _read(self, numbers: set[str]) -> list[dict[str, Any]]:
        with self._sources.gateway.reading() as connection:
            found = list(projections.worklist.get(connection, sorted(numbers)))
        rows = [row for row in found if row.scheduled_date == self._day and not row.is_test]
        items = shown(self._sources, rows, day=self._day)
        gone = numbers.intersection(self._lines) - {item.accession_number for item in items}
        changes = [*self._take_out(gone), *self._put_in(items)]
        self._version += bool(changes)
        return changes

    def _take_out(self, numbers: Iterable[str]) -> list[dict[str, Any]]:
        for number in numbers:
            del self._lines[number]
        return [{"accession_number": number, "html": None} for number in numbers]

    def _put_in(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """From the end of the list to its beginning, so that each finds the row that it goes before."""
        news = {item.accession_number: item for item in items if self._is_other(item)}
        for number, item in news.items():
            self._lines[number] = Line(item, self._row(item))
        self._order = sorted(self._lines, key=lambda number: (self._lines[number].item.scheduled_time, number))
        changes: list[dict[str, Any]] = []
        before = None
        for number in reversed(self._order):
            if number in news:
                line = self._lines[number]
                told = {"accession_number": number, "html": line.html, "before": before, "status": line.item.status}
                changes.append(told)
            before = number
        return changes

    def _is_other(self, item: Item) -> bool:
        line = self._lines.get(item.accession_number)
        return line is None or line.item != item

    # --- those who watch

    async def run(self) -> None:
        """Tell watchers what changes, until cancelled. Costs nothing while there are none."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                if not self._watchers:
                    await self._woken.wait()
                await asyncio.sleep(_PAUSE)
                self._woken.clear()
                await self._tell()
                await _waited(self._woken, _INTERVAL)
        finally:
            self._send(None)

    def wake(self) -> None:
        """Something was saved: look soon. From any thread."""
        if self._loop and self._watchers and not self._woken.is_set():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def watch(self) -> AsyncGenerator[bytes]:
        """Server-sent events for one watcher: first the version, then the changes as they come."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)
        self._watchers.add(queue)
        self._woken.set()
        try:
            yield _event("version", self._version)
            yield _event("strip", self._strip) if self._strip else b": \n\n"
            while (message := await _next(queue)) is not None:
                yield message
        finally:
            self._watchers.discard(queue)

    async def _tell(self) -> None:
        try:
            news = await asyncio.to_thread(self._news)
        except GatewayError as error:
            log.warning("window_not_live", code=error.code, error=str(error))
            return
        except Exception:  # the next look may go well, and those who watch have nobody else
            log.exception("window_not_live", code="internal")
            return
        for message in news:
            self._send(message)

    def _news(self) -> list[bytes]:
        strip = self._render_strip()
        version, changes = self._since_last()
        news = [_event("rows", {"version": version, "changes": changes})] if changes else []
        if strip != self._strip:
            self._strip = strip
            news.append(_event("strip", strip))
        return news

    def _send(self, message: bytes | None) -> None:
        """The same bytes to everybody. Who does not keep up is let go: the browser comes again, and loads anew."""
        for queue in list(self._watchers):
            if queue.full():
                self._watchers.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(message)


def _event(name: str, value: Any) -> bytes:  # noqa: ANN401  any JSON value
    """One server-sent event, its data JSON on one line."""
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


async def _next(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    """The next message; a comment where there is none for long, so that proxies keep the connection."""
    try:
        async with asyncio.timeout(_PING):
            return await queue.get()
    except TimeoutError:
        return b": \n\n"


async def _waited(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _before(instant: str) -> str:
    return (datetime.fromisoformat(instant) - _OVERLAP).isoformat()
