"""`gateway timeline`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output

if TYPE_CHECKING:
    from gateway.application import Gateway
    from gateway.domain.performed_procedure_step import StepRecord
    from projections.timeline import TimelineRow


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway timeline ACC001 --data-set")(timeline)


def timeline(
    accession_number: Annotated[str, typer.Argument(help="The item, also one that was only ever refused.")],
    data_set: Annotated[
        bool, typer.Option("--data-set", help="Show every attribute that a modality reported; --json has them always.")
    ] = False,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Tell all that happened to an accession number, hop by hop, on the site's clock, and what was performed."""
    with output.database() as gateway:
        rows = gateway.timeline(accession_number)
        records = _records(gateway, rows)
    if json:
        output.put_json(_with_data_sets(rows, records, reveal=reveal))
    elif rows:
        _put_rows(rows)
        for record in records.values():
            _put_step(record, whole=data_set, reveal=reveal)
    if not rows:
        output.say(f"nothing is known of {accession_number}")
        raise typer.Exit(1)


def _put_rows(rows: Sequence[TimelineRow]) -> None:
    zone = output.settings().zone
    lines, previous = [], None
    for row in rows:
        when = output.site_clock(row.committed_at, zone=zone)
        lines.append(
            (when, _since(previous, row.committed_at), row.kind, row.ae_title or row.source, _told(row.details))
        )
        previous = row.committed_at
    output.put_table(("when", "after", "what", "who", "details"), lines)


def _since(previous: str | None, now: str) -> str:
    if previous is None:
        return ""
    seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(previous)).total_seconds()
    return f"+{seconds * 1000:.0f} ms" if seconds < 10 else f"+{seconds:.0f} s"


def _told(details: dict[str, Any]) -> str:
    return " ".join(f"{name}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in details.items())


# --- what was performed


def _step_of(row: TimelineRow) -> str | None:
    """The performed step whose data set this row tells of."""
    from gateway.domain.performed_procedure_step import PerformedProcedureStep as Step

    telling = {event.TOPIC for event in (Step.Started, Step.Updated, Step.Completed, Step.Discontinued)}
    uid: str | None = row.details.get("mpps_instance_uid") if row.kind in telling else None
    return uid


def _records(gateway: Gateway, rows: Sequence[TimelineRow]) -> dict[str, StepRecord]:
    uids = dict.fromkeys(uid for row in rows if (uid := _step_of(row)))
    return {uid: record for uid in uids if (record := gateway.performed_step(uid))}


def _with_data_sets(
    rows: Sequence[TimelineRow], records: dict[str, StepRecord], *, reveal: bool
) -> list[dict[str, Any]]:
    """The rows, each of a performed step with its data set. A step linked late has its earlier ones elsewhere."""
    from gateway.dicom import readable
    from gateway.dicom.data_set import Undecodable

    left = {uid: _latest(record, sum(_step_of(row) == uid for row in rows)) for uid, record in records.items()}
    told = []
    for row in rows:
        one = asdict(row)
        uid = _step_of(row)
        if uid in left:
            encoded = next(left[uid], None)
            try:
                one["details"]["data_set"] = readable.model([encoded], _mask(reveal=reveal)) if encoded else None
            except Undecodable:
                one["details"]["data_set"] = None
        told.append(one)
    return told


def _latest(record: StepRecord, count: int) -> Iterator[tuple[bytes, str]]:
    return iter(record.data_sets[-count:])


def _put_step(record: StepRecord, *, whole: bool, reveal: bool) -> None:
    from gateway.dicom import readable
    from gateway.dicom.data_set import Undecodable

    mask = _mask(reveal=reveal)
    try:
        rows = readable.step(record.data_sets, mask)
        if whole:
            rows += [("", ""), *readable.tree(readable.model(record.data_sets, mask))]
    except Undecodable as error:
        rows = [("data set", f"can't be decoded: {error.message}")]
    output.put()
    output.put_table(("performed step", record.sop_instance_uid), rows)


def _mask(*, reveal: bool) -> Any:  # noqa: ANN401  `readable.Mask`, which costs an import to name
    return None if reveal else lambda vr, text: (output.masked_name if vr == "PN" else output.masked_id)(text)
