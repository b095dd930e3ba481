"""Archives: copies of the log's rows as they are, with positions, times and links, that prove themselves for decades.

JSON Lines in UTF-8, readable without any program of ours: a header, then one event a line, its `state` the very text
that is stored. The header says how a link is calculated; an archive goes on where the one before it ended, and the
links join. Nothing is taken out of the log. What is sealed stays sealed: an archive needs no erasing.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gateway import __version__
from gateway.errors import GatewayError
from gateway.eventstore import chain, selection
from gateway.eventstore.chain import Anchor
from gateway.eventstore.selection import Selection, StoredRow

FORMAT, VERSION = "worklist-gateway archive", 1

_HOW = (
    "link = SHA-256(the previous link, 32 bytes; then position, stream, version, topic, committed_at, state, each as "
    "UTF-8 text with its length in bytes before it as four bytes, big endian); before the first event 32 zero bytes"
)
_HOW_OFTEN = 2_000


class ArchiveUnusable(GatewayError):
    """A file is no archive, does not join the log, or can't be made."""

    code = "archive_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The stretch of the log that an archive holds; `before` is the link before its first event, `after` its last."""

    first: int
    last: int
    before: bytes
    after: bytes


def part_of(connection: sqlite3.Connection, last: int, *, after: Part | None = None) -> Part | None:
    """The stretch up to a position, from the log's beginning or from where an archive ended; None when it is empty.

    Raises `ArchiveUnusable` when the log does not go on from that archive.
    """
    first = after.last + 1 if after else 1
    if after and selection.link_at(connection, after.last) != after.after:
        raise ArchiveUnusable(
            f"the log does not go on from that archive: at position {after.last} it is another one",
            remedy="is it of this database? gateway events verify checks the log, verify-archive the archive",
        )
    if last < first:
        return None
    before, end = (selection.link_at(connection, position) for position in (first - 1, last))
    if end is None or (before is None and first > 1):
        raise ArchiveUnusable("links of the log are missing", remedy="gateway events verify names the first one")
    return Part(first=first, last=last, before=before or chain.GENESIS, after=end)


def lines(
    connection: sqlite3.Connection,
    part: Part,
    facts: dict[str, Any],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Iterator[str]:
    """The lines of the archive, without their ends; `facts` go into its header.

    The chain is checked on the way. Raises `ArchiveUnusable` at the first event that is not as it was written.
    """
    events = part.last - part.first + 1
    header = {
        "format": FORMAT,
        "version": VERSION,
        "software": __version__,
        "archived_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
        "events": events,
        "first_position": part.first,
        "last_position": part.last,
        "link_before": part.before.hex(),
        "last_link": part.after.hex(),
        "how": _HOW,
    }
    yield _line(header)
    previous, expected = part.before, part.first
    for row in selection.rows(connection, Selection(first=part.first, last=part.last)):
        if row.position != expected or not isinstance(row.state, bytes) or _link(previous, row) != row.link:
            break  # a state as TEXT was put there by hand, even where its link holds
        yield _line(_values(row))
        previous, expected = row.link, expected + 1
        if row.position % _HOW_OFTEN == 0:
            progress(expected - part.first, events)
    if expected <= part.last:
        raise ArchiveUnusable(
            f"the log is not as it was written at position {expected}: nothing is archived",
            remedy="gateway events verify tells more; --until an earlier day archives what is before it",
        )


def _values(row: StoredRow) -> dict[str, Any]:
    values: dict[str, Any] = {
        "position": row.position,
        "committed_at": row.committed_at,
        "stream": row.stream,
        "version": row.version,
        "topic": row.topic,
    }
    try:
        values["state"] = row.state.decode("utf-8")
    except UnicodeDecodeError:
        values["state_base64"] = base64.b64encode(row.state).decode("ascii")
    return values | {"link": row.link.hex()}


def _line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check of archives found. `line` is the first bad one, of the last archive that was looked at."""

    archives: int
    events: int
    part: Part | None = None
    anchors: tuple[int, ...] = ()
    """Positions of the anchors that hold."""
    line: int | None = None
    position: int | None = None
    finding: str = ""

    @property
    def intact(self) -> bool:
        """Whether everything is as it was written, and each archive goes on from the one before it."""
        return not self.finding


def verify(
    archives: Iterable[Iterable[str]],
    progress: Callable[[int], None] = lambda _: None,
    *,
    anchors: Sequence[Anchor] = (),
) -> Checked:
    """Check archives in their order, each by its own links and where it joins the one before; stop at the first fault.

    `anchors` were kept elsewhere; each is compared, also two at one position. Raises `ArchiveUnusable` for a file that
    is no archive.
    """
    found = Checked(archives=0, events=0)
    kept: dict[int, set[bytes]] = {}
    for anchor in anchors:
        kept.setdefault(anchor.position, set()).add(anchor.link)
    for archive in archives:
        found = _verify(enumerate(archive, 1), found, kept, progress)
        if not found.intact:
            break
    return found


def _verify(
    numbered: Iterator[tuple[int, str]],
    before: Checked,
    anchors: dict[int, set[bytes]],
    progress: Callable[[int], None],
) -> Checked:
    part = header_of(next(numbered, (1, ""))[1])
    found = replace(before, archives=before.archives + 1, part=part)
    links, line = Links(part), 1
    finding = links.fault_of_beginning(before.part)
    if finding:
        return replace(found, line=1, position=part.first, finding=finding)
    for line, text in numbered:
        position = links.expected
        finding = links.fault(text) or _contradiction(anchors.get(position, set()), links.previous)
        if finding:
            return replace(found, line=line, position=position, finding=finding)
        held = (position,) if position in anchors else ()
        found = replace(found, events=found.events + 1, anchors=found.anchors + held)
        if found.events % _HOW_OFTEN == 0:
            progress(found.events)
    finding = links.fault_of_end()
    if finding and links.is_complete:
        return replace(found, line=1, position=part.last, finding=finding)
    return replace(found, line=line, position=links.expected, finding=finding) if finding else found


class Links:
    """The links of one archive, followed line by line. Each finding is a sentence, empty when all is well."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.previous, self.expected = part.before, part.first

    def fault_of_beginning(self, before: Part | None) -> str:
        """What is wrong with the header, after the archive before it if there is one."""
        return _beginning(before, self.part)

    def fault(self, line: str) -> str:
        """What is wrong with the next line; when nothing is, the one after it is expected."""
        if self.is_complete:
            return "there is more than the header says"
        row = _row(line)
        if row is None or row.position != self.expected or _link(self.previous, row) != row.link:
            return "the event is missing, or was altered or inserted"
        self.previous, self.expected = row.link, self.expected + 1
        return ""

    @property
    def is_complete(self) -> bool:
        """Whether as many events were there as the header says."""
        return self.expected > self.part.last

    def fault_of_end(self) -> str:
        """What is wrong when no line follows."""
        if not self.is_complete:
            return "the archive ends too early"
        return "" if self.previous == self.part.after else "the last event is not the one that the header names"


def _beginning(before: Part | None, part: Part) -> str:
    if before and (before.last + 1, before.after) != (part.first, part.before):
        return "the archive does not go on from the one before it"
    return "the header was altered" if part.first == 1 and part.before != chain.GENESIS else ""


def _contradiction(anchored: set[bytes], link: bytes) -> str:
    if anchored <= {link}:
        return ""
    if link in anchored:
        return "two anchors from elsewhere contradict each other: one of them holds, the other does not"
    return "an anchor from elsewhere does not hold: what is before it was rewritten as a whole"


def header_of(line: str) -> Part:
    """What the first line of an archive says. Raises `ArchiveUnusable`."""
    values = _object(line)
    if values.get("format") != FORMAT:
        raise ArchiveUnusable("the file is no archive of a gateway", remedy="gateway events archive makes one")
    if values.get("version") != VERSION:
        raise ArchiveUnusable(f"the archive is of version {values.get('version')!r}, this gateway reads {VERSION}")
    try:
        return Part(
            first=int(values["first_position"]),
            last=int(values["last_position"]),
            before=bytes.fromhex(values["link_before"]),
            after=bytes.fromhex(values["last_link"]),
        )
    except (KeyError, OverflowError, TypeError, ValueError):
        raise ArchiveUnusable("the header of the archive can't be read") from None


def _row(line: str) -> StoredRow | None:
    values = _object(line)
    try:
        text = values.get("state")
        state = text.encode("utf-8") if isinstance(text, str) else base64.b64decode(values["state_base64"])
        row = StoredRow(
            position=int(values["position"]),
            committed_at=values["committed_at"],
            stream=values["stream"],
            version=values["version"],
            topic=values["topic"],
            state=state,
            link=bytes.fromhex(values["link"]),
        )
        f"{row.stream}{row.topic}{row.committed_at}".encode()  # half a character has no link
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
    return row


def _link(previous: bytes, row: StoredRow) -> bytes:
    return chain.link(previous, row.position, row.stream, row.version, row.topic, row.committed_at, row.state)


def _object(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
