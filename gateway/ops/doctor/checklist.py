"""The doctor's list as the running service asks it of itself: one round at a time, the latest kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.errors import Contention
from gateway.ops.doctor.finding import Check, Finding, Outcome, side_by_side


@dataclass(frozen=True, slots=True)
class Round:
    """What was found when everything was asked: by whom, and at which instant (UTC) that was over."""

    who: str
    at: str
    findings: tuple[Finding, ...]

    @property
    def is_go(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of what did."""
        return tuple(finding.name for finding in self.findings if finding.outcome is Outcome.FAILED)


class Checklist:
    """Asks the checks when somebody wants to know."""

    def __init__(self, checks: Callable[[], list[Check]]) -> None:
        self._checks = checks
        self._asking = threading.Lock()
        self.latest: Round | None = None

    def ask(self, who: str) -> Round:
        """Ask everything, which may take half a minute. Raises `Contention` while somebody else does."""
        if not self._asking.acquire(blocking=False):
            raise Contention("the checklist is being asked by somebody else", remedy="load the page in half a minute")
        try:
            findings = side_by_side(self._checks())
        finally:
            self._asking.release()
        self.latest = Round(who, datetime.now(UTC).isoformat(timespec="milliseconds"), tuple(findings))
        return self.latest
