"""How the findings of `gateway doctor` and `gateway rehearse` are shown, and what exit code they make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gateway.cli import UNREACHABLE, UNWELL, WELL, output

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from gateway.ops.doctor.finding import Finding

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}
_NAME = 16
"""Columns of a name; a longer one moves its own line only."""


def lines(finding: Finding, zone: ZoneInfo) -> list[str]:
    """One finding for people: what was proven, how and when; and, in a line of its own, whose move it is and what."""
    proof = [finding.how] if finding.how else []
    if finding.seconds is not None:
        proof.append(_took(finding.seconds))
    proof.append(datetime.fromisoformat(finding.at).astimezone(zone).strftime("%H:%M:%S"))
    told = [f" {_MARKS[finding.outcome]} {finding.name:<{_NAME}} {finding.proven}  ({', '.join(proof)})"]
    if finding.remedy:
        whose = f"{finding.fault}: " if finding.fault else ""
        told.append(f"   {'':<{_NAME}} → {whose}{finding.remedy}")
    return [output.printable(line) for line in told]


def show(findings: Iterable[Finding], zone: ZoneInfo) -> None:
    """Print them at once: somebody is watching."""
    for finding in findings:
        for line in lines(finding, zone):
            output.put_now(line)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The same for programs; times in seconds, instants in UTC."""
    return [
        asdict(finding) | {"seconds": None if finding.seconds is None else round(finding.seconds, 4)}
        for finding in findings
    ]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 when nothing failed; 3 when nobody was there to be asked, else 1."""
    broken = [finding for finding in findings if finding.outcome == "failed"]
    if not broken:
        return WELL
    return UNREACHABLE if any(finding.code == "unreachable" for finding in broken) else UNWELL


def _took(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
