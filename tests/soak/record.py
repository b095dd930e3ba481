"""What happened in a soak, as plain data, the figures that follow from it, and what they must not exceed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.end_to_end.evidence import Span
from tests.soak import memory
from tests.soak.memory import Moment
from tests.soak.trouble import Trouble

HEALTHY_WITHIN = 15.0
"""Seconds from the end of all trouble to health that is proven anew. Two misses of an echo, and the dials that trouble
has used up: eight in ten seconds."""

ANSWERED_WITHIN = 6.0
"""Seconds without any answered action while nothing is wrong. A sender of ours may still wait for a lost reply: 3 s."""

DIALS = ((1.0, 3), (10.0, 8))
"""In any so many seconds at most so many dials of the control channel."""

_NOISE = 0.05
"""Seconds by which a dial may be seen nearer to another one than it was: two processes look at their clocks."""


@dataclass(frozen=True)
class Struck:
    """A trouble, and from when to when it was in force; `until` counts what it still held up."""

    trouble: Trouble
    span: Span


@dataclass(frozen=True)
class Round:
    """One round: trouble, then calm.

    Attributes:
        trouble: From its first moment to its last; a gateway or a relay that was killed is started by then.
        healthy_at: When the gateway had proven anew that it hears.
        web_app_healthy_at: When the web app's listener had.
        calm_until: When the next trouble began.
    """

    trouble: Span
    healthy_at: float
    web_app_healthy_at: float
    calm_until: float

    @property
    def calm(self) -> Span:
        """From the end of the trouble to the next."""
        return Span(self.trouble.end, self.calm_until)

    @property
    def well(self) -> Span:
        """From the moment that both sides were healthy to the next trouble."""
        return Span(max(self.healthy_at, self.web_app_healthy_at), self.calm_until)


@dataclass(frozen=True)
class Entry:
    """What the relay did, as `relay.emulator.log.Entry` has it."""

    at: float
    what: str
    path: str
    status: int
    took: float = 0.0


@dataclass
class Record:
    """Everything but what the witnesses know. Times are `time.monotonic()` seconds, of all processes alike.

    Attributes:
        struck: The troubles, as they came.
        rounds: Those that are over; the first one is the calm before all trouble.
        lives: Of the gateway, from its start to its death.
        relay_lives: Of the emulator.
        entries: Of the relay's log, of each life of it one after the other.
        refused: Dials of the gateway that found no relay at all.
        answers: When an action was answered.
        moments: What the gateway held at the end of each calm.
    """

    struck: list[Struck] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    lives: list[Span] = field(default_factory=list)
    relay_lives: list[Span] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)

    @property
    def troubled(self) -> list[Round]:
        """The rounds with trouble."""
        return [each for each in self.rounds if each.trouble.end > each.trouble.begin]

    def recoveries(self) -> list[float]:
        """Seconds from the end of trouble until the gateway was healthy, for each round."""
        return [each.healthy_at - each.trouble.end for each in self.troubled]

    def web_app_recoveries(self) -> list[float]:
        """The same for the web app's listener."""
        return [each.web_app_healthy_at - each.trouble.end for each in self.troubled]

    def dials(self, path: str) -> list[float]:
        """When a control channel was dialled; for `actions` also those dials that found no relay."""
        asked = [entry.at - entry.took for entry in self.entries if (entry.what, entry.path) == ("listen", path)]
        return sorted([*asked, *(self.refused if path == "actions" else [])])

    def most_dials(self, path: str, seconds: float) -> int:
        """The largest number of dials in any so many seconds; of the gateway in one life of it."""
        dials = self.dials(path)
        lives = self.lives if path == "actions" else [Span(-math.inf, math.inf)]
        return max((most_in_any([at for at in dials if _within(at, life)], seconds) for life in lives), default=0)

    def longest_deafness(self) -> float:
        """The longest time in which no action was answered though no trouble was in force."""
        return longest_silence(self.answers, [each.calm for each in self.rounds])

    def longest_pause(self) -> float:
        """The longest time in which none was answered while all was well."""
        return longest_silence(self.answers, [each.well for each in self.rounds])

    def longest_without_listener(self, path: str, *, calm: bool) -> float:
        """The longest time in which nobody listened there, in all or while no trouble was in force."""
        absences = [absence for life in self.relay_lives for absence in absences_in(self.entries, path, life)]
        if calm:
            absences = [_both(absence, each.calm) for absence in absences for each in self.rounds]
        return max((absence.end - absence.begin for absence in absences), default=0.0)

    def turned_away(self) -> int:
        """Senders that asked while all was well, and were told 404: nobody listens."""
        well = [each.well for each in self.rounds]
        missed = [each.at - each.took for each in self.entries if (each.what, each.status) == ("connect", 404)]
        return sum(any(_within(at, span) for span in well) for at in missed)

    def complaints(self) -> list[str]:
        """What exceeds its bound."""
        complaints = memory.complaints(self.moments)
        for who, recoveries in (("the gateway", self.recoveries()), ("the web app", self.web_app_recoveries())):
            for number, seconds in enumerate(recoveries):
                if seconds > HEALTHY_WITHIN:
                    complaints.append(f"deaf: {who} was healthy {seconds:.1f} s after round {number + 1}")
        if self.longest_deafness() > HEALTHY_WITHIN:
            complaints.append(f"deaf: no action was answered for {self.longest_deafness():.1f} s without trouble")
        if self.longest_pause() > ANSWERED_WITHIN:
            complaints.append(f"deaf: no action was answered for {self.longest_pause():.1f} s while all was well")
        for path in ("actions", "events"):
            for seconds, most in DIALS:
                dials = self.most_dials(path, seconds - _NOISE)
                if dials > most:
                    complaints.append(f"storm: {dials} dials on {path} in {seconds:g} s")
        if self.turned_away():
            complaints.append(f"deaf: {self.turned_away()} senders were told 404 while all was well")
        return complaints


def most_in_any(times: Sequence[float], seconds: float) -> int:
    """The largest number of these moments, given in order, that fall into one window."""
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def longest_silence(times: Iterable[float], spans: Iterable[Span]) -> float:
    """The longest time within one of the spans without any of these moments, which are given in order."""
    moments = list(times)
    longest = 0.0
    for span in spans:
        within = [span.begin, *(at for at in moments if _within(at, span)), span.end]
        longest = max([longest, *(second - first for first, second in pairwise(within))])
    return longest


def absences_in(entries: Iterable[Entry], path: str, life: Span) -> list[Span]:
    """When nobody listened there, in one life of the relay."""
    absences, listeners, since = [], 0, life.begin
    for entry in entries:
        if entry.path != path or not _within(entry.at, life):
            continue
        if entry.what == "listen" and entry.status == 101:
            if listeners == 0:
                absences.append(Span(since, entry.at))
            listeners += 1
        elif entry.what == "listener gone":
            listeners, since = listeners - 1, entry.at
    return absences if listeners else [*absences, Span(since, life.end)]


def _within(at: float, span: Span) -> bool:
    return span.begin <= at <= span.end


def _both(one: Span, other: Span) -> Span:
    """What the two have in common; of no length when that is nothing."""
    begin = max(one.begin, other.begin)
    return Span(begin, max(begin, min(one.end, other.end)))
