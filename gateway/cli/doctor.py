"""`gateway doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import UNREACHABLE, UNWELL, findings, output
from gateway.errors import Contention, GatewayError, StoreUnusable

if TYPE_CHECKING:
    from gateway.application import Gateway
    from gateway.ops.doctor.finding import Finding
    from gateway.settings import Settings

_WIDTH = 78
"""Columns of the line that says what is still asked."""
_DOORS = ("service", "dicom", "worklist")
"""The checks that the service itself answers."""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: gateway doctor --clinic")(doctor)


def doctor(
    clinic: Annotated[
        bool, typer.Option("--clinic", help="The morning checklist: today's list and units too, ending in GO or NO-GO.")
    ] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse/--no-rehearse", help="With --clinic: send a rehearsal the whole way.")
    ] = True,
    clock_peer: Annotated[
        str, typer.Option(metavar="URL", help="A web server to compare the clock with, instead of the relay.")
    ] = "",
    json: output.Json = False,
) -> None:
    """Prove by traffic that the running service does what it is for; each line says what was proven, how and when.

    Below a line that is not well stands what to do. Exit code 1: something failed; 3: nobody is there.
    """
    from gateway.ops.doctor.finding import side_by_side
    from gateway.proof.doctor import checks

    settings = output.settings()
    with _database() as gateway, _watched() as waiting:

        def told(some: list[Finding]) -> None:
            waiting([])
            findings.show(some, settings.zone)

        asked = checks(settings, gateway, for_clinic=clinic, rehearses=clinic and rehearse, clock_peer=clock_peer)
        found = side_by_side(asked, (lambda _: None) if json else told, waiting)
    code = exit_code(found)
    verdict = _verdict(found, code, settings) if clinic else ""
    if json:
        answer = {"well": code == 0, "verdict": verdict or None, "findings": findings.as_json(found)}
        output.put_json(answer)
    elif clinic:
        output.put(verdict)
    raise typer.Exit(code)


def exit_code(found: Sequence[Finding]) -> int:
    """3 only when nothing of the service runs: what else can't be reached is a failure like others."""
    code = findings.exit_code(found)
    runs = any(finding.name in _DOORS and finding.code != "unreachable" for finding in found)
    return UNWELL if code == UNREACHABLE and runs else code


def _verdict(found: list[Finding], code: int, settings: Settings) -> str:
    where = settings.gateway_ae_title
    if code == 0:
        warnings = sum(finding.outcome == "warning" for finding in found)
        seen = f", {warnings} thing{'' if warnings == 1 else 's'} to look at" if warnings else ""
        return f"GO: {where} is ready for the clinic{seen}"
    return f"NO-GO: {', '.join(finding.name for finding in found if finding.outcome == 'failed')}"


@contextmanager
def _database() -> Iterator[Gateway | GatewayError]:
    """The application, or why there is none: a doctor is called when things are not well."""
    with ExitStack() as stack:
        found: Gateway | GatewayError
        try:
            found = stack.enter_context(output.database())
        except (StoreUnusable, Contention) as error:
            found = error
        yield found


@contextmanager
def _watched() -> Iterator[Callable[[list[str]], None]]:
    """A line on stderr with what is still asked, where a person is watching."""
    watching = sys.stderr.isatty()

    def waiting(names: list[str]) -> None:
        if watching:
            asking = f"   asking {', '.join(names)}" if names else ""
            sys.stderr.write(f"\r\033[K{asking[:_WIDTH]}")
            sys.stderr.flush()

    yield waiting
    waiting([])
