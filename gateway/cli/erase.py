"""`gateway erase`."""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import output
from gateway.errors import InvalidValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.application import Gateway
    from gateway.audit.erasure import Erased, Found
    from gateway.audit.remaining import Remaining


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog='Example: gateway erase --patient 9990000018 --reason "request 2026/114"')(erase)


def erase(
    patient: Annotated[str, typer.Option("--patient", help="The Patient ID, as it was sent.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever, so it must not name the person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: output.Json = False,
) -> None:
    """Erase a person: their keys are destroyed, and nothing shows them any more. It can't be undone."""
    from gateway.audit import erasure
    from gateway.domain import values

    patient_id, why = values.patient_id(patient), output.require_text(reason, "reason")
    with output.database() as gateway:
        with output.progress("looking through") as advance:
            found = erasure.find(gateway, patient_id, advance)
        erasure.require_nameless(why, patient_id, found)
        erasure.require_erasable(gateway, found)
        if not yes:
            _confirm(gateway, patient_id, found, json=json)
        with output.progress("looking through") as advance:
            done = erasure.erase(gateway, patient_id, found, reason=why, operator=getpass.getuser(), progress=advance)
    if json:
        output.put_json(asdict(done))
    else:
        _tell(done, found)
    if done.remaining:
        _tell_remaining(done.remaining)
        raise typer.Exit(1)


def _confirm(gateway: Gateway, patient_id: str, found: Found, *, json: bool) -> None:
    if json or not sys.stdin.isatty():
        raise InvalidValue("--yes is missing: nobody is here to be asked", field="yes")
    from gateway.audit import erasure

    with output.progress("looking for what stays") as advance:
        left = erasure.still_named(gateway, patient_id, found, advance)
    output.say(
        f"{found.events} events of {len(found.items)} items and {len(found.steps)} performed steps will name nobody; "
        "this can't be undone, and no backup of the key file may be put back afterwards"
    )
    others = erasure.items_of_others(gateway, patient_id, found)
    if others:
        output.say(f"{_OF_OTHERS}: {', '.join(others)}")
    if left:
        _tell_remaining(left)
    typer.confirm("Erase this person?", abort=True, err=True)


_OF_OTHERS = "amended to be another patient's, whose name the erasure takes from the item as well"


def _tell_remaining(left: Sequence[Remaining]) -> None:
    output.say("still named, which this can't erase:")
    for one in left:
        where = f"{one.count} rows of {one.place}"
        if one.positions:
            more = " …" if one.count > len(one.positions) else ""
            where = f"{one.count} events (positions {', '.join(map(str, one.positions))}{more})"
        output.say(f"  {where}: {one.why}")


def _tell(done: Erased, found: Found) -> None:
    if done.events:
        numbers = ", ".join(done.accession_numbers) or "none"
        output.put(f"erased: {done.events} events in {done.streams} streams can't be read any more; items: {numbers}")
        if done.items_of_others:
            output.put(f"{_OF_OTHERS}: {', '.join(done.items_of_others)}")
    elif found.before or found.is_lost:
        output.put(f"nothing is left: erased {', '.join(found.before) or done.erased_at}")
    else:
        output.put("the log has nothing of this patient that anybody can read")
    output.put(f"keys destroyed: {done.keys}; queries that named the person: {done.queries}")
    if not found.names:
        output.say("nobody knows the name any more: what is left was looked for by the Patient ID alone")
    output.say(
        "backups of the database from before hold the tables in plain text until they are pruned; the same "
        "for backups of the key file, which would bring the person back"
    )
