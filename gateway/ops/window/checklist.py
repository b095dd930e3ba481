"""The morning checklist: everything proven by traffic just now, GO or NO-GO, and what to do about each line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request

from gateway.ops.window.page import Act, Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit, require_operator


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistPage:
    """The latest round since the start; `verdict` is `GO`, `NO-GO`, or "" before anybody has asked.

    `findings` are as `gateway doctor --json` has them.
    """

    verdict: str
    failed: tuple[str, ...]
    at: str
    who: str
    findings: tuple[dict[str, Any], ...]


def look(sources: Sources, _: Visit, __: Request) -> ChecklistPage:
    """Nothing is asked by looking."""
    latest = sources.checklist.latest
    if latest is None:
        return ChecklistPage(verdict="", failed=(), at="", who="", findings=())
    return ChecklistPage(
        verdict="GO" if latest.is_go else "NO-GO",
        failed=latest.failed,
        at=latest.at,
        who=latest.who,
        findings=tuple(asdict(finding) for finding in latest.findings),
    )


def _ask(sources: Sources, given: Visit, _: dict[str, str]) -> str:
    require_operator(given)
    found = sources.checklist.ask(given.visitor.name)
    verdict = "GO" if found.is_go else f"NO-GO: {', '.join(found.failed)}"
    return f"Everything was asked: {verdict}."


PAGES = (Page("/checklist", "checklist.html", "Checklist", look),)
ACTS: dict[str, Act] = {"/checklist/ask": _ask}
