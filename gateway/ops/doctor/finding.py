"""What a check found: what was proven, how, when, and what to do; and how checks are carried out side by side."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from gateway.errors import GatewayError
from gateway.log import get_logger

log = get_logger(__name__)


class Outcome(StrEnum):
    """How a check ended. A warning is no obstacle; a skipped check proved nothing and is none either."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the doctor's list, or one hop of a rehearsal. It names no person.

    `proven` is what was found, `how` the traffic that proved it, `at` when (ISO 8601, UTC), `seconds` how long that
    took where it says something. `fault` is whose move it is, `remedy` what to do, `code` the stable word of an error
    (`unreachable`: nobody is there); "" where all is well.
    """

    name: str
    outcome: Outcome
    proven: str
    how: str = ""
    at: str = ""
    seconds: float | None = None
    fault: str = ""
    remedy: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What to ask under which name; it may take `seconds`, and finds one thing or one for each of several."""

    name: str
    ask: Callable[[], Finding | Sequence[Finding]]
    seconds: float = 20.0


def ok(proven: str, how: str, *, seconds: float | None = None) -> Finding:
    """All is well; `carried_out` puts name and moment to it."""
    return Finding(name="", outcome=Outcome.OK, proven=proven, how=how, seconds=seconds)


def warning(proven: str, how: str, remedy: str, *, seconds: float | None = None) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(name="", outcome=Outcome.WARNING, proven=proven, how=how, remedy=remedy, seconds=seconds)


def failed(
    proven: str, how: str, remedy: str, fault: str = "", *, code: str = "", seconds: float | None = None
) -> Finding:
    """It does not work."""
    return Finding(
        name="",
        outcome=Outcome.FAILED,
        proven=proven,
        how=how,
        remedy=remedy,
        fault=fault,
        code=code,
        seconds=seconds,
    )


def skipped(proven: str, remedy: str = "") -> Finding:
    """It could not be asked, and why."""
    return Finding(name="", outcome=Outcome.SKIPPED, proven=proven, remedy=remedy)


def carried_out(check: Check) -> list[Finding]:
    """What the check finds; one that can't say anything has failed, and its own words stay inside."""
    try:
        found = check.ask()
    except GatewayError as error:
        found = failed(error.message, "", error.remedy, code=error.code)
    except Exception as error:
        log.exception("check_failed", check=check.name)
        found = failed(f"the check failed ({type(error).__name__})", "", "look at the log")
    return [_complete(one, check.name) for one in ([found] if isinstance(found, Finding) else found)]


def side_by_side(
    checks: Sequence[Check],
    told: Callable[[list[Finding]], None] = lambda _: None,
    waiting: Callable[[list[str]], None] = lambda _: None,
) -> list[Finding]:
    """Carry out all checks at once, each within its time; what they find in their order.

    `told` is called with the findings of a check as soon as those of all before it are known, `waiting` with the names
    of those that are still asked. One that does not end in time has failed; its thread is left behind and keeps nobody
    from ending.
    """
    ended: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    began = time.monotonic()
    for number, check in enumerate(checks):
        threading.Thread(
            target=lambda number=number, check=check: ended.put((number, carried_out(check))),
            name=f"check {check.name}",
            daemon=True,
        ).start()
    found: dict[int, list[Finding]] = {}
    shown = 0
    while shown < len(checks):
        waiting([check.name for number, check in enumerate(checks) if number not in found])
        left = min((check.seconds for n, check in enumerate(checks) if n not in found), default=0.0)
        try:
            number, findings = ended.get(timeout=max(0.0, began + left - time.monotonic()))
        except queue.Empty:
            found |= _overdue(checks, found, time.monotonic() - began)
        else:
            found.setdefault(number, findings)
        while shown in found:
            told(found[shown])
            shown += 1
    return [finding for number in range(len(checks)) for finding in found[number]]


def _overdue(checks: Sequence[Check], found: dict[int, list[Finding]], passed: float) -> dict[int, list[Finding]]:
    """The failures of those whose time is over."""
    late = {n: check for n, check in enumerate(checks) if n not in found and check.seconds <= passed}
    return {
        n: [_complete(failed(f"no answer within {check.seconds:g} s", "", "look at the service's log"), check.name)]
        for n, check in late.items()
    }


def _complete(finding: Finding, name: str) -> Finding:
    return replace(
        finding, name=finding.name or name, at=finding.at or datetime.now(UTC).isoformat("T", "milliseconds")
    )
