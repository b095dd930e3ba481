"""`gateway worklist`: look at the list, who asked for it and why it was as it was, add to it, set a status by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.application import Gateway
    from gateway.audit.as_of import Standing
    from gateway.dicom.explain import Explanation, ItemExplained, Shown, Site
    from gateway.domain.moments import Moment
    from projections.worklist import WorklistFilter, WorklistRow

worklist = typer.Typer(no_args_is_help=True, help="The worklist: what modalities are shown.")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(worklist, name="worklist")


AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="As it stood then: 2026-11-23 10:42 on the site's clock; seconds and an offset (Z, +01:00) may be.",
    ),
]


@worklist.command(
    "list",
    epilog="Example: gateway worklist list --date today --modality MG --status SCHEDULED; as it stood: "
    'gateway worklist list --date 2026-11-23 --as-of "2026-11-23 10:42"',
)
def list_items(
    date: Annotated[
        str, typer.Option("--date", "-d", help="YYYYMMDD, YYYY-MM-DD or today; with --as-of, today is that day.")
    ] = "",
    modality: Annotated[str, typer.Option("--modality", "-m", help="Such as MG.")] = "",
    status: Annotated[str, typer.Option("--status", "-s", help="Such as SCHEDULED or IN_PROGRESS.")] = "",
    patient_id: Annotated[str, typer.Option("--patient-id", help="The NHS number or local id.")] = "",
    accession: Annotated[str, typer.Option("--accession", help="The accession number.")] = "",
    test: Annotated[bool, typer.Option("--test", help="Test items instead of real ones.")] = False,
    as_of: AsOf = None,
    position: Annotated[
        int | None, typer.Option("--position", min=0, help="As it stood after so many events, instead of --as-of.")
    ] = None,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """List items by date and time, as they are or as they stood at an earlier moment.

    Without --date or --accession an earlier moment takes the history of all items to be read.
    """
    from gateway.domain.lifecycle import status_of
    from projections.worklist import WorklistFilter

    moment, wanted_day = _moment(as_of, position), output.day(date) if date else ""
    wanted = WorklistFilter(
        dates=(wanted_day, wanted_day),
        modalities=(modality.upper(),) if modality else (),
        statuses=(status_of(status),) if status else (),
        patient_id=patient_id,
        accession_number=accession,
        is_test=test,
    )
    with output.database() as gateway:
        standing = _standing(gateway, moment, position)
        if standing and (its_day := _today(date, standing)):
            wanted = replace(wanted, dates=(its_day, its_day))
        rows = _rows(gateway, wanted, standing)
        if reveal or json:
            output.revealed(gateway, "worklist list", [row.accession_number for row in rows], **_then(standing))
    if json:
        items = [asdict(row) for row in rows]
        output.put_json({"as_of": asdict(standing), "items": items} if standing else items)
        return
    _put_rows(rows, reveal=reveal)
    if standing:
        _tell(standing)


def _then(standing: Standing | None) -> dict[str, str]:
    """For the record of looks: which moment was looked at, when not the present one."""
    return {"as_of": standing.instant} if standing and standing.instant else {}


def _moment(as_of: str | None, position: int | None = None) -> Moment | None:
    from gateway.domain.moments import moment_of
    from gateway.errors import InvalidValue

    if as_of is not None and position is not None:
        raise InvalidValue("--as-of and --position: only one of them", field="as-of")
    return moment_of(as_of, output.settings().zone, field="as-of") if as_of is not None else None


def _standing(gateway: Gateway, moment: Moment | None, position: int | None = None) -> Standing | None:
    """The place of the record that is meant; None: as it is now."""
    from gateway.audit.as_of import standing_after, standing_at

    if moment:
        return standing_at(gateway, moment)
    return standing_after(gateway, position) if position is not None else None


def _today(date: str, standing: Standing) -> str:
    """The site's day at that moment, when `today` was asked for."""
    if date.strip().lower() != "today" or not standing.instant:
        return ""
    return datetime.fromisoformat(standing.instant).astimezone(output.settings().zone).strftime("%Y%m%d")


def _rows(gateway: Gateway, wanted: WorklistFilter, standing: Standing | None) -> list[WorklistRow]:
    from gateway.audit.as_of import worklist_as_of

    if standing is None:
        return gateway.find_items(wanted)
    with output.progress("reading the history") as advance, worklist_as_of(gateway, standing, advance) as worklist_then:
        return worklist_then.find_items(wanted)


def _tell(standing: Standing) -> None:
    """Which place of the record was taken, and what had to be decided."""
    zone = output.settings().zone

    def local(instant: str) -> str:
        return datetime.fromisoformat(instant).astimezone(zone).isoformat(" ", "microseconds")

    for note in standing.notes:
        output.say(note)
    when = f" at {local(standing.instant)}," if standing.instant not in ("", standing.committed_at) else ""
    if standing.position:
        output.say(f"as it stood{when} after position {standing.position}, committed {local(standing.committed_at)}")
    else:
        output.say(f"as it stood{when} before the first event")


def _put_rows(rows: Sequence[WorklistRow], *, reveal: bool) -> None:
    output.put_table(
        ("accession", "date", "time", "modality", "status", "patient id", "name", "station", "description"),
        [_line(row, reveal=reveal) for row in rows],
    )
    output.say(f"{len(rows)} item{'' if len(rows) == 1 else 's'}")


def _line(row: WorklistRow, *, reveal: bool) -> tuple[object, ...]:
    return (
        row.accession_number,
        row.scheduled_date,
        row.scheduled_time,
        row.modality,
        row.status,
        row.patient_id if reveal else output.masked_id(row.patient_id),
        row.patient_name if reveal else output.masked_name(row.patient_name),
        ",".join(row.station_ae_titles) or "any",
        row.study_description,
    )


@worklist.command(
    epilog="Example: gateway worklist explain --from MAMMO1 --accession ACC001; as it stood: "
    'gateway worklist explain --from MAMMO1 --as-of "2026-11-23 10:42"'
)
def explain(
    from_: Annotated[str, typer.Option("--from", help="The AE title that asked; its latest query is taken.")] = "",
    query: Annotated[int | None, typer.Option("--query", help="Another one, by its id (worklist queries).")] = None,
    date: Annotated[
        str, typer.Option("--date", "-d", help="Look at the items of this day: YYYYMMDD, YYYY-MM-DD or today.")
    ] = "",
    accession: Annotated[str, typer.Option("--accession", help="Look at this item only.")] = "",
    as_of: AsOf = None,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Tell why items were, or were not, on the list that a modality was shown, by its latest recorded query.

    Without --date or --accession: items of the days that it asked for, else of today, and whatever its keys name. With
    --as-of: by its latest query until then, against the worklist as it stood then.
    """
    from gateway.dicom import explain_words
    from gateway.errors import InvalidValue

    title = from_.strip()
    if not title and query is None:
        raise InvalidValue("--from: an AE title is needed, or --query with an id", field="from")
    site = _site()
    moment, wanted_day = _moment(as_of), output.day(date, zone=site.zone) if date else ""
    with output.database() as gateway:
        standing = _standing(gateway, moment)
        explanation = _explained(
            gateway,
            site,
            standing,
            from_ae_title=title,
            query_id=query,
            day=_today(date, standing) or wanted_day if standing else wanted_day,
            accession_number=accession,
        )
        if reveal:
            shown = [f"query {explanation.query.id}", *(item.accession_number for item in explanation.items)]
            output.revealed(gateway, "worklist explain", shown, **_then(standing))
    if json:
        value = explain_words.as_json(explanation, explain_words.plain if reveal else explain_words.masked)
        output.put_json(value | {"as_of": asdict(standing)} if standing else value)
        return
    _put_explanation(explanation, site, reveal=reveal, then=standing is not None)
    if standing:
        _tell(standing)
        output.say("judged by the settings and profiles of now: earlier ones are not kept")


def _explained(gateway: Gateway, site: Site, standing: Standing | None, **options: Any) -> Explanation:  # noqa: ANN401
    """By the worklist as it is, or as it stood."""
    from gateway.audit.as_of import worklist_as_of
    from gateway.dicom.explain import Then
    from gateway.dicom.explain import explain as explained_by

    if standing is None:
        return explained_by(gateway, site, **options)
    with output.progress("reading the history") as advance, worklist_as_of(gateway, standing, advance) as items:
        return explained_by(gateway, site, then=Then(standing.instant, items), **options)


def _site() -> Site:
    """What the service answers by: the same settings."""
    from gateway.dicom import profiles
    from gateway.dicom.explain import Site

    settings = output.settings()
    return Site(
        zone=settings.zone,
        listed_statuses=settings.gateway_listed_statuses,
        test_ae_titles=settings.gateway_test_ae_titles,
        profiles=profiles.load(settings.gateway_modalities_file),
    )


def _put_explanation(explanation: Explanation, site: Site, *, reveal: bool, then: bool) -> None:
    from gateway.dicom import explain_words
    from gateway.dicom.explain import identifies

    shown = explain_words.plain if reveal else explain_words.masked
    output.put(output.printable(explain_words.asker(explanation.query, site)))
    for label, text in explain_words.head(explanation, site, shown):
        output.put(output.printable(f"  {label:<9} {text}"))
    if explanation.items:
        output.put()
        _put_items(explanation.items, shown, then=then)
    output.say(explain_words.looked_at(explanation))
    if not reveal and any(identifies(key.tag) for key in explanation.keys):
        output.say("names and ids are masked: --reveal shows what differs")


def _put_items(items: tuple[ItemExplained, ...], shown: Shown, *, then: bool) -> None:
    """A line for each item, and for each further reason one below it."""
    from gateway.dicom import explain_words

    lines: list[tuple[str, ...]] = []
    for item in items:
        first, *rest = explain_words.why(item, shown)
        is_listed = explain_words.listed(item, then=then)
        head = (item.accession_number, item.scheduled_date, item.scheduled_time, item.status, is_listed)
        lines.append((*head, first))
        lines += [(" ",) * len(head) + (reason,) for reason in rest]
    output.put_table(("accession", "date", "time", "status", "listed", "why"), lines)


@worklist.command(epilog="Example: gateway worklist queries --from MAMMO1 --limit 50")
def queries(
    from_: Annotated[str, typer.Option("--from", help="Of this AE title only.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many of each kind.")] = 20,
    json: output.Json = False,
) -> None:
    """List the latest queries of modalities, and the associations that were refused; the newest first."""
    from gateway.dicom import record
    from gateway.dicom.explain_words import query_as_json

    with output.database() as gateway, gateway.reading() as connection:
        record.require_record(connection)
        asked = record.latest_queries(connection, from_ae_title=from_.strip(), limit=limit)
        refused = record.refused_associations(connection, from_ae_title=from_.strip(), limit=limit)
    if json:
        output.put_json(
            {"queries": [query_as_json(one) for one in asked], "refused_associations": [asdict(one) for one in refused]}
        )
        return
    site = _site()
    output.put_table(
        ("id", "last asked", "times", "from", "address", "keys", "answers", "status", "ms"),
        [
            (
                one.id,
                site.clock(one.last_at),
                one.times,
                one.calling_ae_title,
                one.address,
                " ".join(one.keys),
                one.answers,
                f"0x{one.status:04X} {one.error_comment}".strip(),
                one.milliseconds,
            )
            for one in asked
        ],
    )
    if refused:
        output.put()
        output.put_table(
            ("last refused", "times", "from", "address", "called", "reason"),
            [
                (
                    site.clock(one.last_at),
                    one.times,
                    one.calling_ae_title,
                    one.address,
                    one.called_ae_title,
                    one.reason,
                )
                for one in refused
            ],
        )


@worklist.command(epilog="Example: gateway worklist statistics")
def statistics(json: output.Json = False) -> None:
    """Count items by status; test items are counted apart."""
    with output.database() as gateway:
        items, test_items = gateway.count_by_status(), gateway.count_by_status(is_test=True)
    if json:
        output.put_json({"items": items, "test_items": test_items})
        return
    rows = [(status, count, "") for status, count in items.items()]
    rows += [(status, count, "test") for status, count in test_items.items()]
    output.put_table(("status", "items", "kind"), rows)


@worklist.command(
    epilog="Example: gateway worklist add ACC123 --patient-id BS123456 --patient-name SMITH^JOHN "
    "--patient-birth-date 19800101 --patient-sex M --scheduled-date today --scheduled-time 143000"
)
def add(
    accession_number: Annotated[str, typer.Argument(help="At most 16 characters.")],
    patient_id: Annotated[str, typer.Option(help="The NHS number or local id.")],
    patient_name: Annotated[str, typer.Option(help="DICOM form: FAMILY^GIVEN.")],
    patient_birth_date: Annotated[str, typer.Option(help="YYYYMMDD or YYYY-MM-DD.")],
    scheduled_time: Annotated[str, typer.Option(help="HHMM or HHMMSS, the site's wall clock.")],
    scheduled_date: Annotated[str, typer.Option(help="YYYYMMDD or today.")] = "today",
    patient_sex: Annotated[str | None, typer.Option(help="M, F or O.")] = None,
    modality: Annotated[str, typer.Option(help="Such as MG.")] = "MG",
    study_description: Annotated[str | None, typer.Option(help="At most 64 characters.")] = None,
    procedure_code: Annotated[str | None, typer.Option(help="At most 16 characters.")] = None,
    station_ae_title: Annotated[list[str] | None, typer.Option(help="May be repeated; none: any station.")] = None,
    source_message_id: Annotated[str | None, typer.Option(help="The action_id it belongs to, if any.")] = None,
    json: output.Json = False,
) -> None:
    """Add an item by hand, as an event. The status events of an item without an action_id may be refused."""
    from gateway.domain import values
    from gateway.domain.worklist_item import Appointment

    appointment = Appointment(
        accession_number=values.accession_number(accession_number),
        patient_id=values.patient_id(patient_id),
        patient_name=values.person_name(patient_name),
        patient_birth_date=values.date_of(patient_birth_date.replace("-", ""), "patient_birth_date"),
        patient_sex=values.sex(patient_sex) if patient_sex else None,
        scheduled_date=output.day(scheduled_date),
        scheduled_time=values.time_of(scheduled_time, "scheduled_time"),
        modality=values.code_string(modality, "modality"),
        study_description=values.long_string(study_description, "study_description") if study_description else None,
        procedure_code=values.short_string(procedure_code, "procedure_code") if procedure_code else None,
        station_ae_titles=tuple(values.ae_title(title) for title in station_ae_title or ()),
    )
    with output.database(create=True) as gateway:
        reply = gateway.schedule(appointment, action_id=source_message_id, operator=output.user())
    if json:
        output.put_json({"status": reply.status, "accession_number": reply.accession_number})
    else:
        output.put(f"{reply.accession_number} {reply.status}")


@worklist.command(
    "set-status", epilog='Example: gateway worklist set-status ACC123 COMPLETED --reason "unit has no MPPS"'
)
def set_status(
    accession_number: Annotated[str, typer.Argument(help="The item.")],
    status: Annotated[str, typer.Argument(help="Such as COMPLETED; COMPLETED itself is never left.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    json: output.Json = False,
) -> None:
    """Set an item's status by hand, as an event with a reason; the web app is told."""
    import getpass

    from gateway.domain.lifecycle import status_of

    wanted, why = status_of(status), output.require_text(reason, "reason")
    with output.database() as gateway:
        before = gateway.correct_status(accession_number, wanted, reason=why, operator=getpass.getuser())
    if json:
        output.put_json({"accession_number": accession_number, "before": before, "status": wanted})
    else:
        output.put(f"{accession_number} {before} → {wanted}")
