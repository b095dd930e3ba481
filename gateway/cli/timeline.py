"""`gateway timeline`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import output
from gateway.domain.masking import masked_value

if TYPE_CHECKING:
    from gateway.application import Gateway
    from gateway.audit.story import Hop
    from gateway.domain.performed_procedure_step import StepRecord


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway timeline ACC001 --data-set, gateway timeline --action ID")(timeline)


def timeline(
    accession_number: Annotated[str, typer.Argument(help="The item, also one that was only ever refused.")] = "",
    action: Annotated[
        str, typer.Option("--action", metavar="ID", help="Instead: of one action of the web app, by its action_id.")
    ] = "",
    step: Annotated[
        str, typer.Option("--step", metavar="UID", help="Instead: of one performed step, linked to an item or not.")
    ] = "",
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Instead: list what named no accession number (actions, steps).")
    ] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="MOMENT", help="With --rejected: from this moment on (site time).")
    ] = "",
    data_set: Annotated[
        bool, typer.Option("--data-set", help="Show every attribute that a modality reported; --json has them always.")
    ] = False,
    reveal: output.Reveal = False,
    json: output.Json = False,
) -> None:
    """Tell all that happened to an accession number, hop by hop with latencies, and what was performed."""
    from gateway.audit import story

    _require_one(accession_number, action, step, rejected=rejected, since=since)
    moment = output.moment(since, "since", first_run=True)
    with output.database() as gateway:
        hops = _of_nobody(gateway, moment) if rejected else _story(gateway, accession_number, action, step)
        records = story.records_of(gateway, hops)
        if reveal and (records or any(hop.has_written_reason for hop in hops)):
            output.revealed(gateway, "timeline", _subjects(hops, records))
    if not reveal:
        hops = [story.without_written_reason(hop) for hop in hops]
    if json:
        output.put_json(_with_data_sets(hops, records, reveal=reveal))
    elif rejected:
        _put_nameless(hops)
    elif hops:
        _put_hops(hops)
        for record in records.values():
            _put_step(record, whole=data_set, reveal=reveal)
    if rejected:
        output.say(f"{len(hops)} that named no accession number")
    elif not hops:
        output.say(f"nothing is known of {accession_number or action or step}")
        raise typer.Exit(1)


def _require_one(accession_number: str, action: str, step: str, *, rejected: bool, since: str) -> None:
    from gateway.errors import InvalidValue

    if sum(map(bool, (accession_number, action, step, rejected))) != 1:
        raise InvalidValue("give one of: an accession number, --action, --step, --rejected", field="accession_number")
    if since and not rejected:
        raise InvalidValue("--since: goes with --rejected", field="since")


def _story(gateway: Gateway, accession_number: str, action: str, step: str) -> list[Hop]:
    from gateway.audit import story

    if action:
        return story.of_action(gateway, action)
    if step:
        return story.of_step(gateway, step)
    testers = output.settings().gateway_test_ae_titles
    return story.of_accession(gateway, accession_number, test_ae_titles=testers)


def _of_nobody(gateway: Gateway, since: str) -> list[Hop]:
    from gateway.audit import story

    return story.of_nobody(gateway, since=since)


def _subjects(hops: Sequence[Hop], records: dict[str, StepRecord]) -> list[str]:
    of_hops = (hop.accession_number or hop.details.get("mpps_instance_uid") for hop in hops)
    return list(dict.fromkeys([*(subject for subject in of_hops if subject), *records]))


# --- hops


def _put_hops(hops: Sequence[Hop]) -> None:
    from gateway.audit import story_words

    zone = output.settings().zone
    after = ["" if hop.after_seconds is None else story_words.after(hop.after_seconds) for hop in hops]
    width = max(map(len, after))
    lines = [
        (
            output.site_clock(hop.at, zone=zone),
            latency.rjust(width),
            hop.hop,
            hop.who,
            story_words.details_of(hop, zone),
        )
        for hop, latency in zip(hops, after, strict=True)
    ]
    output.put_table(("when", "after", "what", "who", "details"), lines)
    closing = story_words.spans(hops)
    if closing:
        output.put(closing)


def _put_nameless(hops: Sequence[Hop]) -> None:
    from gateway.audit import story_words

    zone = output.settings().zone
    lines = [
        (
            output.site_clock(hop.at, zone=zone),
            hop.hop,
            hop.who,
            hop.details.get("action_id") or hop.details.get("mpps_instance_uid"),
            story_words.details_of(hop, zone),
        )
        for hop in hops
    ]
    output.put_table(("when", "what", "who", "action id or step", "details"), lines)


# --- what was performed


def _with_data_sets(hops: Sequence[Hop], records: dict[str, StepRecord], *, reveal: bool) -> list[dict[str, Any]]:
    """The hops, each of a performed step with its data set."""
    from gateway.audit.story import step_of
    from gateway.dicom import readable
    from gateway.dicom.data_set import Undecodable

    mask = None if reveal else masked_value
    left = {uid: _latest(record, sum(step_of(hop) == uid for hop in hops)) for uid, record in records.items()}
    told = []
    for hop in hops:
        one = asdict(hop)
        uid = step_of(hop)
        if uid in left:
            encoded = next(left[uid], None)
            try:
                one["details"]["data_set"] = readable.model([encoded], mask) if encoded else None
            except Undecodable:
                one["details"]["data_set"] = None
        told.append(one)
    return told


def _latest(record: StepRecord, count: int) -> Iterator[tuple[bytes, str]]:
    return iter(record.data_sets[-count:])


def _put_step(record: StepRecord, *, whole: bool, reveal: bool) -> None:
    from gateway.dicom import readable
    from gateway.dicom.data_set import Undecodable

    mask = None if reveal else masked_value
    try:
        rows = readable.step(record.data_sets, mask)
        if whole:
            rows += [("", ""), *readable.tree(readable.model(record.data_sets, mask))]
    except Undecodable as error:
        rows = [("data set", f"can't be decoded: {error.message}")]
    items = ", ".join(record.accession_numbers) or "none: gateway steps unmatched"
    output.put()
    output.put_table(("performed step", record.sop_instance_uid), [("of item", items), *rows])
