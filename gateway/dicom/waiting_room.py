"""Peers that have connected and not asked for an association yet: who has to leave when they are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Peer = TypeVar("Peer", bound=Hashable)


class WaitingRoom(Generic[Peer]):
    """Has room for `most`. For one more, the oldest leaves of the address that has most.

    So a flood costs its own places, not that of a unit elsewhere that takes a while to ask.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._peers: dict[Peer, str] = {}
        """Their addresses, the oldest first."""
        self._from_address: Counter[str] = Counter()

    def enter(self, peer: Peer, address: str) -> Peer | None:
        """Let one wait; the one that has to leave for it, and does not wait any more."""
        self._peers[peer] = address
        self._from_address[address] += 1
        if len(self._peers) <= self._most:
            return None
        ((crowded, _),) = self._from_address.most_common(1)
        oldest = next(each for each, its_address in self._peers.items() if its_address == crowded)
        self.leave(oldest)
        return oldest

    def leave(self, peer: Peer) -> None:
        """It waits no longer, if it did."""
        address = self._peers.pop(peer, None)
        if address is None:
            return
        self._from_address[address] -= 1
        if not self._from_address[address]:
            del self._from_address[address]
