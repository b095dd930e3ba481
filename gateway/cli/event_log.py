"""`gateway events list|show|export|replay|archive|verify-archive`: the record, looked at and taken elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from gateway.audit.event_log import Line, Wanted
    from gateway.eventstore.archive import Checked, Part

Accession = Annotated[str, typer.Option("--accession", help="What concerns this accession number, whole streams.")]
Kind = Annotated[
    list[str] | None, typer.Option("--kind", help="Such as WorklistItem or WorklistItem.Scheduled; may be repeated.")
]
Since = Annotated[str, typer.Option("--since", help="From this moment on, such as 2026-11-23 or '2026-11-23 10:42'.")]
Until = Annotated[str, typer.Option("--until", help="Before this moment; a day alone is included.")]
FromPosition = Annotated[int | None, typer.Option("--from-position", min=1, help="The first position.")]
ToPosition = Annotated[int | None, typer.Option("--to-position", min=0, help="The last position.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="The newest so many; default: all.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="- is the standard stream; .gz is compressed.")]

_LISTED = 100


def register(events: typer.Typer) -> None:
    """Add the verbs."""
    events.command("list", epilog="Example: gateway events list --accession ACC001 --since 2026-11-23")(list_events)
    events.command(epilog="Example: gateway events show 42 --reveal")(show)
    events.command(epilog="Example: gateway events export incident.jsonl --since 2026-11-23 --redact")(export)
    events.command(epilog="Example: gateway events replay incident.jsonl --into /tmp/incident")(replay)
    events.command(epilog="Example: gateway events archive --until 2026-11-23 --into 2026-11.jsonl.gz")(archive)
    events.command("verify-archive", epilog="Example: gateway events verify-archive 2026-10.jsonl.gz 2026-11.jsonl.gz")(
        verify_archive
    )


# --- list and show


def list_events(
    accession: Accession = "",
    kind: Kind = None,
    since: Since = "",
    until: Until = "",
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = _LISTED,
    json: output.Json = False,
) -> None:
    """List events of the log in order, the newest last. It names nobody."""
    from gateway.audit import event_log

    zone = output.settings().zone
    wanted = _wanted(accession, kind, since, until, from_position, to_position, limit, zone)
    with output.database() as gateway:
        chosen = event_log.choose(gateway, wanted)
        lines = [event_log.line_of(row) for row in event_log.rows(gateway, chosen.selection)]
    if json:
        output.put_json([asdict(line) for line in lines])
        return
    headings = ("position", "committed at", "kind", "accession", "source", "AE")
    output.put_table(headings, [_cells(line, zone) for line in lines])
    more = f", the newest of {chosen.events}; --limit shows more" if chosen.events > len(lines) else ""
    output.say(_many(len(lines), "event") + more)


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _cells(line: Line, zone: ZoneInfo) -> tuple[object, ...]:
    when = output.site_clock(line.committed_at, zone=zone)
    return line.position, when, line.kind, ",".join(line.accession_numbers), line.source, line.ae_title


def _wanted(
    accession: str,
    kind: Sequence[str] | None,
    since: str,
    until: str,
    from_position: int | None,
    to_position: int | None,
    limit: int | None,
    zone: ZoneInfo,
) -> Wanted:
    from gateway.audit.event_log import Wanted

    return Wanted(
        accession_number=accession,
        kinds=tuple(kind or ()),
        since=_moment(since, zone, "--since", first_run=True),
        until=_moment(until, zone, "--until", whole_day=True),
        from_position=from_position,
        to_position=to_position,
        limit=limit,
    )


def _moment(written: str, zone: ZoneInfo, option: str, *, whole_day: bool = False, first_run: bool = False) -> str:
    """The moment as the log writes its own, and on stderr what had to be decided about it."""
    from datetime import date, timedelta

    from gateway.domain.moments import moment_of

    if not written:
        return ""
    moment = moment_of(written, zone, field=option, first_run=first_run)
    if moment.decided:
        output.say(f"{option}: {moment.decided}")
    if whole_day and len(written.strip()) == len("2026-11-23"):
        moment = moment_of((date.fromisoformat(written.strip()) + timedelta(days=1)).isoformat(), zone, field=option)
    return moment.text


def show(
    position: Annotated[int, typer.Argument(min=1, help="As gateway events list shows it.")],
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Show one event whole: its place, its metadata, what it says."""
    from gateway.audit import event_log, event_words

    zone = output.settings().zone
    with output.database() as gateway:
        row = event_log.row_at(gateway, position)
        state = event_log.open_state(gateway, row)
        _, said, identifying = event_log.parts_of(row.topic, state)
        if reveal and identifying:
            about = said.get("accession_number") or said.get("sop_instance_uid") or f"position {position}"
            output.revealed(gateway, "events show", [str(about)])
    told = event_words.told(row, state, reveal=reveal)
    if json:
        output.put_json(told)
        return
    place = told | {"committed_at": output.site_clock(row.committed_at, zone=zone)}
    parts = ("metadata", "fields", "identifying")
    for name in parts:
        del place[name]
    rows = [*place.items(), *(row for name in parts for row in event_words.flat(told[name]))]
    output.put_table(("what", "value"), rows)


# --- export and replay


def export(
    file: File = Path("-"),
    accession: Accession = "",
    kind: Kind = None,
    since: Since = "",
    until: Until = "",
    from_position: FromPosition = None,
    to_position: ToPosition = None,
    limit: Limit = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Pseudonyms instead of what identifies a person; the shape stays.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the export's header, for programs.")] = False,
) -> None:
    """Write events as JSON Lines, a header first: the whole log, or what is chosen. Names are in it unless --redact."""
    import json as json_of
    from itertools import chain

    from gateway.audit import export as exports
    from gateway.audit.activities import EVERYTHING
    from gateway.cli import files
    from gateway.errors import InvalidValue

    if json and file == files.STANDARD:
        raise InvalidValue("--json: the export itself goes to stdout, name a FILE", field="json")
    zone = output.settings().zone
    wanted = _wanted(accession, kind, since, until, from_position, to_position, limit, zone)
    with output.database() as gateway, output.progress("exporting") as advance:
        lines = exports.lines(gateway, wanted, redact=redact, progress=advance)
        first = next(lines)
        if not redact:
            output.revealed(gateway, "events export", [accession.strip() or EVERYTHING])
        files.write_lines(file, chain([first], lines))
    header = json_of.loads(first)
    if json:
        output.put_json(header)
        return
    events = int(header["events"])
    output.say(f"exported {_many(events, 'event')}{'' if file == files.STANDARD else f' to {file}'}")
    if not redact:
        output.say("it holds names and ids of persons; --redact writes one without")


def replay(
    file: File,
    into: Annotated[Path, typer.Option("--into", help="A folder that is new or empty.")],
    json: output.Json = False,
) -> None:
    """Build a whole database from an export or archives: yesterday's incident on this machine.

    What is sealed in an archive is opened with the keys at GATEWAY_KEYS_PATH, and is in clear in that database.
    """
    from gateway.audit import replay as replays
    from gateway.cli import files
    from gateway.eventstore.sealing import default_path

    loaded = output.settings()
    keys_path = loaded.gateway_keys_path or default_path(loaded.worklist_db_path)
    with files.lines_of(file) as lines, output.progress("replaying") as advance:
        replayed = replays.replay(lines, into, advance, keys_path=keys_path)
    if json:
        output.put_json(asdict(replayed) | {"database": str(replayed.database)})
        return
    output.put(f"replayed {_many(replayed.events, 'event')} into {replayed.database}")
    if not replayed.positions_kept:
        output.say("the export holds a part of the log: the events are numbered anew")
    if replayed.headless:
        output.say(f"{_many(replayed.headless, 'stream')} began before the export: what they are about is not shown")
    if replayed.waiting_updates:
        waiting = _many(replayed.waiting_updates, "status event")
        output.say(f"it holds {waiting} still to be sent: never serve it to the real web app")
    output.say(f"look into it: WORKLIST_DB_PATH={replayed.database} gateway events list")


# --- archives


def archive(
    until: Annotated[str, typer.Option("--until", help="The last day, over already, such as 2026-11-23.")],
    into: Annotated[Path, typer.Option("--into", help="The file to make; .gz is compressed.")],
    after: Annotated[
        Path | None, typer.Option("--after", help="The archive before this one: it goes on where that one ends.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Copy closed clinic days to a file that proves itself (events verify-archive). The log keeps everything."""
    from datetime import datetime

    from gateway.audit import archiving
    from gateway.audit.activities import EVERYTHING
    from gateway.cli import files

    zone = output.settings().zone
    day = datetime.strptime(output.day(until, zone=zone), "%Y%m%d").replace(tzinfo=zone).date()
    before = _part_of(after) if after else None
    with output.database() as gateway, output.progress("archiving") as advance:
        days = archiving.closed_days(gateway, day, zone, after=before)
        open_text = days is not None and archiving.identifies(gateway, days)
        if open_text:
            output.revealed(gateway, "events archive", [EVERYTHING])
        if days:
            files.write_lines(into, archiving.lines(gateway, days, advance))
    if days is None:
        output.say(f"nothing to archive up to {day.isoformat()}")
        raise typer.Exit(1)
    part = days.part
    events = part.last - part.first + 1
    if json:
        output.put_json(
            {
                "file": str(into),
                "until": day.isoformat(),
                "events": events,
                "first_position": part.first,
                "last_position": part.last,
                "head": part.after.hex(),
            }
        )
        return
    output.put(
        f"archived {_many(events, 'event')}, positions {part.first} to {part.last}, up to {day.isoformat()}, in {into}"
    )
    if open_text:
        output.say("it holds names and ids of persons: what was saved before GATEWAY_SEALING was on")
    output.say(f"anchor of its end: {part.last}:{part.after.hex()}")


def _part_of(file: Path) -> Part:
    from gateway.cli import files
    from gateway.eventstore import archive as archives

    with files.lines_of(file) as lines:
        return archives.header_of(next(lines, ""))


def verify_archive(
    files_: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Archives, in their order.")],
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="POSITION:HASH", help="An anchor that was kept elsewhere; repeatable."),
    ] = None,
    anchors: Annotated[Path | None, typer.Option("--anchors", help="A file of anchors, one a line.")] = None,
    json: output.Json = False,
) -> None:
    """Check archives by themselves, without a database, and that each goes on where the one before it ended."""
    from gateway.cli import files, verify
    from gateway.eventstore import archive as archives
    from gateway.eventstore.anchors import parse

    kept = [parse(text) for text in anchor or ()]
    if anchors:
        of_file = verify.anchors_of(anchors)
        verify.say_of_file(anchors, of_file)
        kept += of_file.anchors
    with ExitStack() as stack, output.progress("verifying") as advance:
        lines = (stack.enter_context(files.lines_of(path)) for path in files_)
        found = archives.verify(lines, lambda done: advance(done, None), anchors=kept)
    beyond = sorted({one.position for one in kept} - set(found.anchors))
    if json:
        output.put_json(_told(found, files_, beyond))
    elif found.intact and found.part:
        looked_at = f"{_many(found.events, 'event')} in {_many(found.archives, 'file')}"
        output.put(f"intact: {looked_at}, head {found.part.last}:{found.part.after.hex()}")
        if found.anchors:
            output.put(f"anchors that hold: {len(found.anchors)}, the newest at position {max(found.anchors)}")
        else:
            output.say(
                "this can't show archives that were made up as a whole: an anchor from elsewhere would (--anchor)"
            )
        for position in beyond:
            output.say(f"the anchor at position {position} is not in these archives")
    else:
        file = files_[found.archives - 1]
        output.put(f"NOT intact: {file}, line {found.line}, position {found.position}: {found.finding}")
    raise typer.Exit(0 if found.intact else 1)


def _told(found: Checked, archives: Sequence[Path], beyond: Sequence[int]) -> dict[str, object]:
    return {
        "intact": found.intact,
        "archives": found.archives,
        "events": found.events,
        "head": found.part.after.hex() if found.part else None,
        "file": None if found.intact else str(archives[found.archives - 1]),
        "line": found.line,
        "position": found.position,
        "finding": found.finding or None,
        "anchors_held": list(found.anchors),
        "anchors_beyond": list(beyond),
    }
