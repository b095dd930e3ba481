"""`gateway events verify` and `gateway events anchor`: is the log still what was written?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output
from gateway.errors import InvalidValue, NotFound

if TYPE_CHECKING:
    import sqlite3

    from gateway.eventstore.anchors import Kept
    from gateway.eventstore.chain import Anchor, Verification
    from gateway.settings import Settings

_NO_ANCHOR = (
    "an end that was cut off together with SQLite's own count of events",
    "an older copy of the whole file that was put back",
    "a history that was rewritten from some event on, with all links after it",
)
"""What a chain alone can't show."""


def register(events: typer.Typer) -> None:
    """Add the verbs."""
    events.command(epilog="Example: gateway events verify --anchors /media/usb/gateway.db.anchors")(verify)
    events.command(epilog="Example: gateway events anchor >> /media/usb/gateway.db.anchors")(anchor)


def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option(metavar="POSITION:HASH", help="An anchor that was kept elsewhere; repeatable."),
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="A file of anchors, one a line; without it the one beside the database, if there is one."),
    ] = None,
    gently: Annotated[
        bool | None,
        typer.Option(
            "--gently/--fast",
            help="Rest between short pages, so that saves beside it take no longer. By default while a service runs.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Check the hash chain over all events, and anchors: names the first that was altered, removed or inserted.

    Reads only. The database is not opened for writing, and its tables are left as they are.
    """
    from gateway.eventstore import chain
    from gateway.eventstore.anchors import parse
    from gateway.eventstore.ownership import is_served

    loaded = output.settings()
    named = [parse(text) for text in anchor or ()]
    path, kept = _kept(loaded, anchors)
    gentle = is_served(loaded.worklist_db_path) if gently is None else gently
    if gentle and gently is None:
        output.say("a service runs on this database: verifying gently beside it (--fast takes all it can get)")
    with _log(loaded) as connection, output.progress("verifying") as advance:
        head = chain.newest(connection)
        found = chain.verify(
            connection,
            lambda done: advance(done, head.position if head else None),
            anchors=[*named, *kept.anchors],
            gently=gentle,
        )
    not_shown = _not_shown(found, path, has_others=bool(named) or anchors is not None)
    if json:
        output.put_json(_as_json(found, path, kept, not_shown))
    else:
        _put(found, path, kept, not_shown)
    raise typer.Exit(0 if found.intact else 1)


def anchor(json: output.Json = False) -> None:
    """Print the log's head as an anchor, to be kept where nobody who can write the database can write."""
    from gateway.eventstore import anchors, chain

    with _log(output.settings()) as connection:
        newest = chain.newest(connection)
    if newest is None:
        raise NotFound("there is no event yet, and so nothing to anchor")
    if json:
        output.put_json(_anchor_as_json(newest))
    else:
        output.put(anchors.line(newest))


@contextmanager
def _log(settings: Settings) -> Iterator[sqlite3.Connection]:
    """The log as it is: opening the application would bring tables up to date, which takes events that can be read."""
    from gateway.eventstore.connections import Readers

    readers = Readers(output.existing(settings.worklist_db_path))
    try:
        with readers.connection() as connection:
            yield connection
    finally:
        readers.close()


def _kept(settings: Settings, named: Path | None) -> tuple[Path | None, Kept]:
    """The anchors file, and what is in it; the one beside the database only if there is one."""
    from gateway.eventstore.anchors import Kept, read

    if named:
        return named, anchors_of(named)
    path = settings.anchors_path
    return (path, read(path)) if path.exists() else (None, Kept(()))


def anchors_of(named: Path) -> Kept:
    """What is in an anchors file that somebody named. Raises `InvalidValue` when that is no anchor at all."""
    from gateway.eventstore.anchors import read

    kept = read(named)
    if not kept.anchors and not kept.replaced:
        why = "its lines are not POSITION:HASH COMMITTED_AT" if kept.unreadable else "there is no line in it"
        raise InvalidValue(f"{named} holds no anchor: {why}", field="anchors")
    return kept


def _not_shown(found: Verification, path: Path | None, *, has_others: bool) -> list[str]:
    """What this check could not have shown, in sentences."""
    from gateway.eventstore.chain import Verdict

    holding = [each.anchor.position for each in found.anchors if each.verdict is Verdict.HOLDS]
    if not holding:
        return list(_NO_ANCHOR)
    told = []
    if max(holding) < found.events:
        told.append(f"after position {max(holding)}, the newest anchor that holds: {'; '.join(_NO_ANCHOR)}")
    if path and not has_others:
        told.append(
            "what was done by somebody who could write the anchors file beside the database as well: "
            "compare with an anchor from elsewhere (the service's log, a health reply, a copy of the file)"
        )
    return told


def _put(found: Verification, path: Path | None, kept: Kept, not_shown: list[str]) -> None:
    from gateway.eventstore.chain import Verdict

    if found.intact:
        output.put(f"intact: {found.events} events, head {found.events}:{found.head.hex()}")
    else:
        output.put(f"NOT intact: at position {found.position} {found.finding}; {found.events} events before it are")
    if path:
        say_of_file(path, kept)
    for each in found.anchors:
        if each.verdict is not Verdict.HOLDS:
            output.put(f"anchor at position {each.anchor.position} {each.verdict.value}: {each.meaning}")
    counts = Counter(each.verdict for each in found.anchors)
    if counts[Verdict.HOLDS]:
        newest = max(each.anchor.position for each in found.anchors if each.verdict is Verdict.HOLDS)
        output.put(f"anchors that hold: {counts[Verdict.HOLDS]}, the newest at position {newest}")
    if not_shown:
        output.say("this can't show:")
    for sentence in not_shown:
        output.say(f"  {sentence}")
    if not found.anchors:
        output.say(
            "an anchor from elsewhere (gateway events anchor, the service's log, health) would: --anchor, --anchors"
        )


def say_of_file(path: Path, kept: Kept) -> None:
    """What of an anchors file is not compared, on stderr."""
    output.say(f"anchors file: {output.printable(str(path))}")
    for number in kept.unreadable:
        output.say(f"line {number} of it is no anchor")
    if kept.replaced:
        output.say(f"anchors in it of a log that a restore from a backup replaced, not compared: {len(kept.replaced)}")


def _as_json(found: Verification, path: Path | None, kept: Kept, not_shown: list[str]) -> dict[str, Any]:
    return {
        "intact": found.intact,
        "events": found.events,
        "head": found.head.hex(),
        "position": found.position,
        "finding": found.finding or None,
        "anchors_file": str(path) if path else None,
        "unreadable_lines": list(kept.unreadable),
        "replaced_anchors": [_anchor_as_json(anchor) for anchor in kept.replaced],
        "anchors": [
            _anchor_as_json(each.anchor) | {"verdict": each.verdict.value, "meaning": each.meaning}
            for each in found.anchors
        ],
        "not_shown": not_shown,
    }


def _anchor_as_json(anchor: Anchor) -> dict[str, Any]:
    return {
        "anchor": str(anchor),
        "position": anchor.position,
        "hash": anchor.link.hex(),
        "committed_at": anchor.committed_at or None,
    }
