"""`gateway audit`: who saw whom, and the same as DICOM audit messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.audit.trail import Trace
    from gateway.dicom.explain import AskedKey
    from gateway.dicom.profiles import Profiles

audit = typer.Typer(no_args_is_help=True, help="Who asked for whom, who was shown what, who was refused.")

Since = Annotated[str, typer.Option("--since", metavar="MOMENT", help="From this moment on (site time).")]
Until = Annotated[str, typer.Option("--until", metavar="MOMENT", help="Before this moment.")]
Ae = Annotated[str, typer.Option("--ae", metavar="AET", help="What this AE title asked, reported, or was refused.")]

_SHOWN_AT_MOST = 6
"""Accession numbers of one line of the table; --json has them all."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(audit, name="audit")


@audit.command("list", epilog="Example: gateway audit list --patient 9990000018 --since 2026-11-23")
def list_traces(
    patient: Annotated[str, typer.Option("--patient", metavar="ID", help="About this patient.")] = "",
    accession: Annotated[str, typer.Option("--accession", metavar="ACC", help="About this item.")] = "",
    ae: Ae = "",
    since: Since = "",
    until: Until = "",
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Tell who asked when and was shown what, who was refused and why, who reported, decided and looked."""
    from gateway.audit import trail
    from gateway.errors import InvalidValue

    if not (patient or accession or ae or since):
        raise InvalidValue("give at least one of --patient, --accession, --ae, --since", field="patient")
    wanted = trail.Wanted(
        patient_id=patient.strip(),
        accession_number=accession.strip(),
        ae_title=ae.strip(),
        since=output.moment(since, "since"),
        until=output.moment(until, "until"),
    )
    profiles = _profiles()
    with output.database() as gateway:
        person = trail.person_of(gateway, wanted)
        acts = list(trail.search(gateway, wanted, profiles=profiles))
        traces = [trail.told(act, person, profiles) for act in acts]
        if reveal and traces:
            output.revealed(gateway, "audit list", _subjects(traces, of_a_person=person is not None))
        reach = _reach(gateway)
    if json:
        output.put_json([_trace_json(trace, reveal=reveal) for trace in traces])
    else:
        _put_traces(traces, reveal=reveal)
        output.say(f"{len(traces)} found; {reach}")
    if person is not None and not person.is_known and not traces:
        output.say("no item and no performed step of this patient is known")
        raise typer.Exit(1)


def _subjects(traces: Sequence[Trace], *, of_a_person: bool) -> list[str]:
    from gateway.audit.activities import EVERYTHING

    about = dict.fromkeys(one for trace in traces for one in trace.about) if of_a_person else {}
    return list(about) or [EVERYTHING]  # a query that named her may have been answered with nothing of hers


def _profiles() -> Profiles:
    from gateway.dicom import profiles

    return profiles.load(output.settings().gateway_modalities_file)


def _reach(gateway: Any) -> str:  # noqa: ANN401  the Gateway, which costs an import to name
    """How far back the record of queries goes: what is older was deleted, or is from before there was one."""
    from gateway.dicom.record import reaches_back_to

    with gateway.reading() as connection:
        oldest = reaches_back_to(connection)
    if oldest is None:
        return "no query is recorded"
    return f"queries are kept since {output.site_clock(oldest, zone=output.settings().zone)[:-4]}"


def _put_traces(traces: Sequence[Trace], *, reveal: bool) -> None:
    zone = output.settings().zone
    lines = [
        (
            output.site_clock(trace.at, zone=zone),
            f"×{trace.times} until {output.site_clock(trace.last_at, zone=zone)[11:-4]}" if trace.times > 1 else "",
            trace.act,
            trace.who,
            trace.address,
            _about(trace.about),
            " ".join([*(f"{key.keyword}={_value(key, reveal=reveal)}" for key in trace.keys)]),
            trace.outcome,
        )
        for trace in traces
    ]
    output.put_table(("when", "times", "act", "who", "from", "about", "keys", "outcome"), lines)


def _about(subjects: Sequence[str]) -> str:
    more = len(subjects) - _SHOWN_AT_MOST
    return ",".join(subjects[:_SHOWN_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _value(key: AskedKey, *, reveal: bool) -> str:
    from gateway.dicom.explain import identifies
    from gateway.dicom.keys import PATIENT_ID

    if reveal or not identifies(key.tag):
        return key.value
    return output.masked_id(key.value) if key.tag == PATIENT_ID else output.masked_key(key.value)


def _trace_json(trace: Trace, *, reveal: bool) -> dict[str, Any]:
    asked = [{"keyword": key.keyword, "value": _value(key, reveal=reveal)} for key in trace.keys]
    record, row = trace.source
    return {**asdict(trace), "keys": asked, "source": {"record": record, "row": row}}


@audit.command("export", epilog="Example: gateway audit export --reveal --since 2026-11-23 --until 2026-11-24 day.xml")
def export(
    file: Annotated[Path | None, typer.Argument(help="Where to write it; without one to stdout.")] = None,
    format_: Annotated[str, typer.Option("--format", help="xml or jsonl, one message a line.")] = "xml",
    ae: Ae = "",
    since: Since = "",
    until: Until = "",
    site: Annotated[str, typer.Option("--site", help="AuditEnterpriseSiteID of the messages.")] = "",
    reveal: output.Reveal = False,
) -> None:
    """Write DICOM audit messages (PS3.15 A.5): queries, procedure records, security alerts, starts and stops.

    Without --reveal Patient IDs and names are masked and the queries' identifiers left out; with it they are as the
    standard wants them, for an audit record repository.
    """
    from gateway.audit import activities, audit_messages, trail
    from gateway.errors import InvalidValue

    if format_ not in ("xml", "jsonl"):
        raise InvalidValue("--format: must be xml or jsonl", field="format")
    wanted = trail.Wanted(ae_title=ae.strip(), since=output.moment(since, "since"), until=output.moment(until, "until"))
    masks: dict[str, Any] = {} if reveal else {"mask_id": output.masked_id, "mask_name": output.masked_name}
    reporter = audit_messages.Reporter(ae_title=output.settings().gateway_ae_title, site=site, **masks)
    as_line = audit_messages.as_xml if format_ == "xml" else audit_messages.as_json
    written = 0
    with output.database() as gateway, output.progress("exporting") as advance:
        if reveal:
            output.revealed(gateway, "audit export", [activities.EVERYTHING])
        with _lines(file) as lines:
            for act in trail.search(gateway, wanted, sources=trail.ALL_SOURCES):
                for message in audit_messages.messages(gateway, act, reporter):
                    lines.write(as_line(message) + "\n")
                    written += 1
                    if written % 1000 == 0:
                        advance(written, None)
    output.say(f"{written} message{'' if written == 1 else 's'}")


@contextmanager
def _lines(file: Path | None) -> Iterator[TextIO]:
    """Where lines go; a file is ours alone to read, and there only when it is whole."""
    if file is None:
        yield sys.stdout
        return
    aside = file.with_name(f".{file.name}.part")
    try:
        with _opened(aside) as lines:
            yield lines
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _opened(path: Path) -> TextIO:
    import os

    from gateway.errors import InvalidValue

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise InvalidValue(f"{path.parent}: can't be written: {error.strerror}", field="file") from error
    return open(handle, "w", encoding="utf-8")  # noqa: PTH123  closed by the caller's `with`
