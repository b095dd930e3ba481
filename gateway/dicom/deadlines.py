"""How long a peer may take (PS3.8 9.1.5 and beyond): from where something began, however slowly it drips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from gateway.dicom.upper_layer import State

MESSAGE_STALLS = 4
"""Times as long as one PDU a whole message may take."""

LAST_WORDS = 0.5
"""Seconds that a peer has to close its connection when the association is over."""

LAST_MOMENT = 1.0
"""Seconds that a peer has to end its association by itself, after its last answer, when the service stops."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a peer may take, in seconds: to ask for an association, to send a PDU that it began, to do nothing."""

    acse: float
    stall: float
    idle: float


@dataclass(slots=True)
class Deadlines:
    """When things began on one connection, on any clock; None while they are not so."""

    times: Times
    heard: float
    """When it connected, or the last operation ended."""
    pdu: float | None = None
    message: float | None = None
    operation: float | None = None
    blocked: float | None = None
    """Since when the peer has not read."""
    stopping: float | None = None
    """Since when the service stops and nothing is in progress."""
    over: float | None = None
    """Since when the association is over."""

    @property
    def are_far(self) -> bool:
        """Whether nothing has begun that may not last: what is left can only have moved away since it was looked at.

        Unless an association may do nothing for less time than its request may take: then accepting it moves it nearer.
        """
        is_one_way = self.times.idle >= self.times.acse
        return is_one_way and self.pdu is self.message is self.blocked is self.stopping is self.over is None

    def next(self, state: State) -> tuple[float, str]:
        """When it will have taken too long, and what; infinity when nothing is waited for."""
        return min(self._all(state), default=(inf, ""))

    def _all(self, state: State) -> Iterator[tuple[float, str]]:
        times = self.times
        if self.over is not None:
            yield self.over + LAST_WORDS, ""
            return
        if self.stopping is not None:
            yield self.stopping + LAST_MOMENT, ""
        if self.pdu is not None:
            yield self.pdu + times.stall, f"did not finish a PDU in {times.stall:g} s"
        if self.message is not None:
            yield self.message + MESSAGE_STALLS * times.stall, "did not finish a message in time"
        if state is State.AWAITING_REQUEST:
            yield self.heard + times.acse, f"asked for no association in {times.acse:g} s"
        elif self.blocked is not None:
            yield self.blocked + times.stall, f"read none of its answers for {times.stall:g} s"
            yield (self.operation or self.blocked) + times.idle, f"did not read its answers in {times.idle:g} s"
        elif self.operation is None:
            yield self.heard + times.idle, f"did nothing for {times.idle:g} s"
