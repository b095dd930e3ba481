"""What went wrong lately, for people: how often in each phase, and the latest of it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from relay.errors import Phase, RelayError

KEPT: Final = 50
"""The latest failures that are kept; all are counted."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, without secrets and without what a frame carried.

    Attributes:
        at: When (UTC).
        phase: In which step of a conversation.
        code: A stable word for programs.
        message: What happened, in one sentence.
        remedy: What a person can do about it.
    """

    at: datetime
    phase: str
    code: str
    message: str
    remedy: str


class Failures:
    """Counts failures by phase and keeps the latest. Used by the event loop; may be read from any thread."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._by_phase: Counter[str] = Counter()
        self._latest: deque[Failure] = deque(maxlen=KEPT)

    def note(self, error: RelayError) -> None:
        """Count this one."""
        phase = str(error.phase or Phase.CONTROL)
        self._by_phase[phase] += 1
        self._latest.append(Failure(self._now(), phase, error.code, error.message, error.remedy))

    def by_phase(self) -> dict[str, int]:
        """How many in each phase there ever was one in, in the phases' order."""
        counted = self._by_phase.copy()
        return {phase.value: counted[phase.value] for phase in Phase if counted[phase.value]}

    def latest(self) -> tuple[Failure, ...]:
        """The newest first."""
        return tuple(reversed(self._latest.copy()))
