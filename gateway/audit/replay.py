"""A whole database from an export, or from archives: what happened elsewhere or long ago, looked at here.

The events keep their times, and their positions when the export is whole or begins with the log; the chain is this
database's own, the projections are built. An archive's links are followed, and what is sealed in it is opened with the
source's keys. It is built aside and put in place when it is complete.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from eventsourcing.utils import resolve_topic

from gateway.application import PROJECTIONS, Gateway, opened
from gateway.audit import event_log, export
from gateway.audit.export import Progress
from gateway.errors import EventUnreadable, GatewayError, StoreUnusable
from gateway.eventstore import archive
from gateway.eventstore.archive import ArchiveUnusable, Links
from gateway.eventstore.loading import CannotBeLoaded, Loader
from gateway.eventstore.mapper import ENVELOPE, EnvelopeMapper

DATABASE = "gateway.db"
"""The file in the folder that is made."""

_BATCH = 2_000
"""Events to a transaction."""

_VERSIONS = {export.FORMAT: export.VERSION, archive.FORMAT: archive.VERSION}
_HEADER = '{"format":'


class ExportUnreadable(GatewayError):
    """A file is no export, or a line of it is not as it was written. The message names the line, not its content."""

    code = "export_unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was built. `headless` streams began before the export: their items are not what they were."""

    database: Path
    events: int
    positions_kept: bool
    headless: int
    waiting_updates: int
    """Status events that a service over this database would send."""


def replay(
    lines: Iterable[str],
    into: Path,
    progress: Progress = lambda _done, _all: None,
    *,
    keys_path: Path | None = None,
) -> Replayed:
    """Build the database in the folder `into`, which is new or empty.

    Sealed events of archives are opened with the key file at `keys_path`, the source's or a copy of it: the database
    that is built holds them in clear, as one from an export does. Raises `StoreUnusable` when that folder can't be had,
    `ExportUnreadable` for what is not whole; then the folder is as it was.
    """
    _require_empty(into)
    numbered = enumerate(lines, 1)
    header = next(numbered, (1, ""))[1]
    promised, links = _promised(header, 1), _links(None, header, 1)
    with _aside(into) as folder:
        with opened(folder / DATABASE, keys_path=keys_path) as gateway:
            replayed = _load(gateway, promised, links, numbered, into, progress)
        _put_in_place(folder, into)
    return replayed


def _require_empty(into: Path) -> None:
    try:
        taken = into.exists() and (not into.is_dir() or any(into.iterdir()))
    except OSError as error:
        raise _unusable(into, error) from error
    if taken:
        raise StoreUnusable(f"{into} is there already and not an empty folder", remedy="name a new folder with --into")


@contextmanager
def _aside(into: Path) -> Iterator[Path]:
    """A folder beside it, which is gone in the end unless it was put in place."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=into.parent, prefix=f".{into.name}-"))
    except OSError as error:
        raise _unusable(into, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, into: Path) -> None:
    try:
        folder.rename(into)
    except OSError as error:
        raise _unusable(into, error) from error


def _unusable(into: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(
        f"the folder {into} can't be made: {error.strerror}", remedy="name a folder that this user may make with --into"
    )


def _promised(line: str, number: int) -> int:
    """How many events a header promises. Raises `ExportUnreadable`."""
    values = _object(line) or {}
    known = _VERSIONS.get(str(values.get("format")))
    if known is None:
        raise ExportUnreadable(
            f"line {number} is no header of an export or an archive",
            remedy="gateway events export and gateway events archive write them",
        )
    if values.get("version") != known:
        raise ExportUnreadable(
            f"the file is of version {values.get('version')!r}, this gateway reads version {known}",
            remedy="replay it with the version of the gateway that its header names",
        )
    events = values.get("events")
    if not isinstance(events, int):
        raise ExportUnreadable(f"line {number}, the header, does not say how many events there are")
    return events


def _links(before: Links | None, header: str, number: int) -> Links | None:
    """The links to follow after a header; None for an export, which has none. Raises `ExportUnreadable`."""
    if before and (finding := before.fault_of_end()):
        raise ExportUnreadable(f"line {number}: the file is not whole, {finding} before it", remedy=_VERIFY)
    if (_object(header) or {}).get("format") != archive.FORMAT:
        return None
    try:
        links = Links(archive.header_of(header))
    except ArchiveUnusable as error:
        raise ExportUnreadable(f"line {number}: {error.message}", remedy=_VERIFY) from None
    if finding := links.fault_of_beginning(before.part if before else None):
        raise ExportUnreadable(f"line {number}: {finding}", remedy=_VERIFY)
    return links


_VERIFY = "gateway events verify-archive checks each archive"


def _load(
    gateway: Gateway,
    promised: int,
    links: Links | None,
    numbered: Iterator[tuple[int, str]],
    into: Path,
    progress: Progress,
) -> Replayed:
    before, done, kept = 0, 0, True
    streams: dict[object, int] = {}
    while batch := list(islice(numbered, _BATCH)):
        with gateway.datastore.writer.transaction() as cursor:
            loader = Loader(cursor, gateway.mapper, PROJECTIONS)
            for number, line in batch:
                if line.startswith(_HEADER):  # archives one after the other
                    promised += _promised(line, number)
                    links = _links(links, line, number)
                    continue
                with _named(number):
                    if links and (finding := links.fault(line)):
                        raise CannotBeLoaded(finding, remedy=_VERIFY)
                    event = _event(line, gateway)
                    if event.position <= before:
                        raise CannotBeLoaded("the event's position is not above the one before it")
                    loader.add(event.committed_at, event.stored)
                before, done = event.position, done + 1
                kept = kept and event.position == done
                streams.setdefault(event.stored.originator_id, event.stored.originator_version)
            loader.finish()
        progress(done, promised)
    if done != promised:
        raise ExportUnreadable(
            f"the file is not whole: it holds {done} events, and its header says {promised}", remedy="export it again"
        )
    if links and (finding := links.fault_of_end()):
        raise ExportUnreadable(finding, remedy=_VERIFY)
    headless = sum(version > 1 for version in streams.values())
    waiting = gateway.count_updates().waiting
    return Replayed(
        database=into / DATABASE,
        events=done,
        positions_kept=kept,
        headless=headless,
        waiting_updates=waiting,
    )


@contextmanager
def _named(number: int) -> Iterator[None]:
    """What is wrong with an event is told with the number of its line."""
    try:
        yield
    except (CannotBeLoaded, EventUnreadable) as error:
        remedy = error.remedy if isinstance(error, CannotBeLoaded) else ""
        raise ExportUnreadable(f"line {number}: {error.message}", remedy=remedy or "export it again") from None


@dataclass(frozen=True, slots=True)
class _Event:
    position: int
    committed_at: str
    stored: StoredEvent


_KEYS: dict[str, type | tuple[type, ...]] = {
    "position": int,
    "committed_at": str,
    "stream": str,
    "version": int,
    "topic": str,
    "state": (dict, str),  # an archive has the very text that was stored
}


_HIGHEST = 2**31


def _event(line: str, gateway: Gateway) -> _Event:
    values = _object(line)
    if values is None:
        raise CannotBeLoaded("it is no JSON object")
    for name, wanted in _KEYS.items():
        if not isinstance(values.get(name), wanted) or isinstance(values[name], bool):
            raise CannotBeLoaded(f"{name} is missing or not what it should be")
    if values["topic"] not in _topics():  # the library would import whatever module a topic names
        raise CannotBeLoaded("topic is no kind of event that this gateway knows")
    state = values["state"]
    content = state if isinstance(state, dict) else _object(state) or {}
    if _is_of_later(values["topic"], content):
        raise CannotBeLoaded("the event is of a later version than this gateway knows")
    if not 1 <= values["version"] <= _HIGHEST:
        raise CannotBeLoaded("version is not above 0, or far too high")
    try:
        stream = UUID(values["stream"])
    except ValueError:
        raise CannotBeLoaded("stream is no UUID") from None
    try:
        encoded = state.encode() if isinstance(state, str) else gateway.mapper.transcoder.encode(state)
    except (UnicodeEncodeError, RecursionError):
        raise CannotBeLoaded("state can't be written in UTF-8") from None
    stored = StoredEvent(stream, values["version"], values["topic"], encoded)
    if _is_sealed(content):
        stored = _opened(stored, gateway)
    return _Event(values["position"], _instant(values["committed_at"]), stored)


@cache
def _topics() -> frozenset[str]:
    return frozenset(event_log.topics())


def _is_sealed(state: dict[str, Any]) -> bool:
    envelope = state.get(ENVELOPE)
    return isinstance(envelope, dict) and envelope.get("key_id") is not None and not envelope.get("erased")


def _opened(stored: StoredEvent, gateway: Gateway) -> StoredEvent:
    """The event as an export has it: in clear, or erased when its key was destroyed."""
    mapper = cast("EnvelopeMapper", gateway.mapper)
    try:
        gateway.sealing.borrow()
        state = mapper.open_state(stored)
    except StoreUnusable as error:
        raise CannotBeLoaded(f"the event is sealed, and can't be opened: {error.message}", remedy=_KEY_FILE) from None
    return StoredEvent(stored.originator_id, stored.originator_version, stored.topic, mapper.transcoder.encode(state))


_KEY_FILE = "say with GATEWAY_KEYS_PATH where the key file is (or a copy) of the database that it was taken from"


def _is_of_later(topic: str, state: dict[str, Any]) -> bool:
    version = state.get("class_version", 1)
    return isinstance(version, int) and version > getattr(resolve_topic(topic), "class_version", 1)


def _instant(text: str) -> str:
    """As the log writes its own: they compare as texts."""
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        pass
    raise CannotBeLoaded("committed_at is no instant with an offset")


def _object(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
