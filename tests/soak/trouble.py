"""What may go wrong in a round of the soak: faults of the relay's whole catalogue, bad peers at the modalities' door,
and processes that are killed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relay.emulator import CATALOGUE
from tests.soak.bad_peers import KINDS

PATHS = ("actions", "events")

_ON = ("listen", "connect", "accept")
_STATUSES = (401, 403, 404, 429, 500, 503)
_CLOSE_CODES = (1000, 1001, 1008, 1011, 4000)

DETAILS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "close": lambda dice: {"code": dice.choice(_CLOSE_CODES)},
    "garbage": lambda dice: {"binary": dice.random() < 0.5},
    "reject": lambda dice: {
        "on": dice.choice(_ON),
        "status": dice.choice(_STATUSES),
        "retry_after": dice.choice((0, 0, 1)),
    },
    "hang": lambda dice: {"on": dice.choice(_ON)},
    "delay": lambda dice: {"seconds": round(dice.uniform(0.1, 1.5), 2)},
    "late-reply": lambda dice: {"seconds": round(dice.uniform(0.1, 1.5), 2)},
    "late-message": lambda dice: {"seconds": round(dice.uniform(0.1, 1.5), 2)},
    "lost-reply": lambda dice: {"cut": dice.random() < 0.7},
}
"""How the parameters of a fault are drawn; the others are taken as the catalogue has them."""

_WEIGHTS = {"reject": 3, "hang": 3, "lost-reply": 2}
"""How often a fault is in the bag for each hybrid connection."""


class Act(StrEnum):
    """What can be done."""

    FAULT = "fault"
    BAD_PEERS = "bad peers"
    KILL_GATEWAY = "kill the gateway"
    KILL_RELAY = "kill the relay"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something to be done in a round; seconds from its begin.

    `name`, `path` (None: both hybrid connections), `details`, `lasting` and `times` are for a fault; `name` and
    `lasting` for bad peers.
    """

    at: float
    act: Act = Act.FAULT
    name: str = ""
    path: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    lasting: float | None = None
    times: int | None = None

    def concerns(self, path: str) -> bool:
        """Whether it is about this hybrid connection."""
        return self.path in (None, path)

    def parameters(self) -> dict[str, Any]:
        """As the emulator takes them."""
        limits = {"path": self.path, "lasting": self.lasting, "times": self.times}
        return self.details | {name: value for name, value in limits.items() if value is not None}

    def __str__(self) -> str:
        if self.act is not Act.FAULT:
            return f"{self.at:.1f} s {self.name or self.act}"
        return " ".join(
            [f"{self.at:.1f} s", self.name, *(f"{key}={value}" for key, value in self.parameters().items())]
        )


class Dealer:
    """Deals rounds of trouble. Each fault comes on each hybrid connection before one comes again; so do bad peers."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._bag = self._shuffled(
            [(name, path) for name in CATALOGUE for path in PATHS for _ in range(_WEIGHTS.get(name, 1))]
        )
        self._peers = self._shuffled([(kind, "") for kind in KINDS])

    def _shuffled(self, cards: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        while True:
            self._dice.shuffle(cards)
            yield from cards

    def round(self, *, kills: bool = True) -> list[Trouble]:
        """Some faults and bad peers that overlap, and now and then a death, in order of time.

        Without `kills` the gateway lives on, so that it can be seen what it holds after a while.
        """
        troubles = [self._fault(self._dice.uniform(0, 1.5)) for _ in range(self._dice.choice((1, 1, 2, 3)))]
        troubles += [self._bad_peers(self._dice.uniform(0, 1.5)) for _ in range(self._dice.choice((0, 1, 1, 2)))]
        if kills and self._dice.random() < 0.4:
            at = self._dice.uniform(0, 3)
            troubles.append(Trouble(at=at, act=Act.KILL_GATEWAY))
            if self._dice.random() < 0.25:  # and again while it is young
                troubles.append(Trouble(at=at + self._dice.uniform(0.5, 2.5), act=Act.KILL_GATEWAY))
        if self._dice.random() < 0.08:
            troubles.append(Trouble(at=self._dice.uniform(0, 3), act=Act.KILL_RELAY))
        return sorted(troubles, key=lambda trouble: trouble.at)

    def _bad_peers(self, at: float) -> Trouble:
        kind, _ = next(self._peers)
        return Trouble(at=at, act=Act.BAD_PEERS, name=kind, lasting=round(self._dice.uniform(0, 3), 2))

    def _fault(self, at: float) -> Trouble:
        name, path = next(self._bag)
        details = DETAILS[name](self._dice) if name in DETAILS else {}
        where = None if self._dice.random() < 0.15 else path
        if not CATALOGUE[name].lasts:
            return Trouble(at=at, name=name, path=where, details=details)
        times = self._dice.randint(1, 10) if self._dice.random() < 0.4 else None
        lasting = round(self._dice.uniform(0.3, 3), 2)
        return Trouble(at=at, name=name, path=where, details=details, lasting=lasting, times=times)
