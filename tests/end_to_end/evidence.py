"""What everybody around the gateway asked, was told and heard. Plain data: `judgement` is passed on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

TAKEN = "updated"
REFUSED = "action_not_found"
SETTLING = frozenset({TAKEN, REFUSED})
"""Answers of the web app after which an event is not sent again."""


@dataclass
class Sent:
    """An action of the web app, and what it was answered. Times are `time.monotonic()` seconds, here as below."""

    message: dict[str, Any]
    first_at: float = 0.0
    tries: int = 0
    reply: dict[str, Any] | None = None
    answered_at: float = 0.0

    @property
    def action_id(self) -> str:
        return str(self.message["action_id"])

    @property
    def action_type(self) -> str:
        return str(self.message["action_type"])

    @property
    def accession_number(self) -> str:
        return str(self.message["parameters"]["worklist_item"]["accession_number"])

    @property
    def done(self) -> bool:
        """Whether it was acknowledged, and not refused."""
        return self.reply is not None and self.reply["status"] != "error"


@dataclass
class Step:
    """A performed procedure step, and the statuses of the answers; None for each try that got none."""

    uid: str
    accession_number: str
    outcome: str
    created: list[int | None] = field(default_factory=list)
    finished: list[int | None] = field(default_factory=list)


@dataclass
class Arrival:
    """An event at the web app, and what it was answered; "" while it was not."""

    event_id: str
    accession_number: str
    sequence: int
    status: str
    attempt: int
    answer: str = ""
    at: float = 0.0
    answered_at: float = 0.0


@dataclass(frozen=True)
class Span:
    """Seconds in which something was the case."""

    begin: float
    end: float

    def touches(self, begin: float, end: float) -> bool:
        """Whether some moment is in both."""
        return self.begin <= end and begin <= self.end


@dataclass
class Evidence:
    """All that the witnesses know.

    `answers` are the times at which the web app was answered anything. What must never be and was seen at once is in
    `complaints`.
    """

    sent: list[Sent] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    queries: int = 0

    def snapshot(self) -> Evidence:
        """As it is now: others go on writing."""
        return Evidence(
            [replace(sent) for sent in list(self.sent)],
            [replace(step, created=[*step.created], finished=[*step.finished]) for step in list(self.steps)],
            [replace(arrival) for arrival in list(self.arrivals)],
            [*self.answers],
            [*self.complaints],
            self.queries,
        )

    def answered(self) -> dict[str, Sent]:
        """The actions that were answered for good, by their id."""
        return {sent.action_id: sent for sent in list(self.sent) if sent.reply}

    def settled(self) -> set[str]:
        """The events that the web app has said it took, whether that was heard or not."""
        return {arrival.event_id for arrival in list(self.arrivals) if arrival.answer == TAKEN}

    def refused(self) -> set[str]:
        """The events it does not want."""
        return {arrival.event_id for arrival in list(self.arrivals) if arrival.answer == REFUSED}


def any_touches(spans: Iterable[Span], begin: float, end: float) -> bool:
    """Whether one of the spans has a moment in common with these."""
    return any(span.touches(begin, end) for span in spans)
