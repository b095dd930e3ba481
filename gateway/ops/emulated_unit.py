"""The modality of `worklist.create_test_item`: it takes each test item that the web app makes as a unit would, so that
the web app sees its whole way proven without a patient.

One at a time, by real associations to our own port, after the action was answered. What fails is logged and told by
health; the item stays on the test callers' list until it is cancelled or expires.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.log import get_logger
from gateway.ops.doctor.finding import Finding, Outcome
from gateway.ops.health import Check

if TYPE_CHECKING:
    from gateway.ops.rehearsal import Stage

MOST_WAITING = 100
"""Test items; one more is left to whoever calls as a test caller."""
_PAUSE = 1.0
"""Seconds before each: the reply to the action goes first, and a flood of test items is no load."""

log = get_logger(__name__)


class EmulatedUnit:
    """Performs test items. `stage` gives, when the first one comes, where; `take` may be called from any thread."""

    def __init__(self, stage: Callable[[], Stage]) -> None:
        self._stage = stage
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._performed = 0
        self._failure = ""

    def take(self, accession_number: str) -> None:
        """Perform this item soon; never raises, for an action is being answered."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: we stop
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._put, accession_number)

    async def run(self) -> None:
        """Until cancelled; a step that has begun is ended in any case."""
        self._loop = asyncio.get_running_loop()
        while True:
            accession_number = await self._waiting.get()
            await asyncio.sleep(_PAUSE)
            await asyncio.to_thread(self._perform, accession_number)

    def check(self) -> Check:
        """For health. Never a failure: nobody waits for a test item."""
        check: Check = {"ok": True, "performed": self._performed, "waiting": self._waiting.qsize()}
        return check | ({"warning": self._failure} if self._failure else {})

    def _put(self, accession_number: str) -> None:
        try:
            self._waiting.put_nowait(accession_number)
        except asyncio.QueueFull:
            log.warning("test_item_not_performed", accession_number=accession_number, reason="too many wait")

    def _perform(self, accession_number: str) -> None:
        from gateway.ops.rehearsal import Rehearsal  # brings pynetdicom's client side

        try:
            hops = list(Rehearsal(self._stage(), accession_number).performed())
        except Exception:
            log.exception("test_item_not_performed", accession_number=accession_number)
            self._failure = f"test item {accession_number} was not performed: look at the log"
            return
        self._note(accession_number, hops)

    def _note(self, accession_number: str, hops: Sequence[Finding]) -> None:
        broken = next((hop for hop in hops if hop.outcome is Outcome.FAILED), None)
        if broken is None:
            self._performed, self._failure = self._performed + 1, ""
            log.info("test_item_performed", accession_number=accession_number, **_latencies(hops))
            return
        self._failure = f"test item {accession_number} was not performed: {broken.name}: {broken.proven}"
        log.warning(
            "test_item_not_performed",
            accession_number=accession_number,
            hop=broken.name,
            reason=broken.proven,
            remedy=broken.remedy,
        )


def _latencies(hops: Sequence[Finding]) -> dict[str, float]:
    return {f"{hop.name}_ms": round(1000 * hop.seconds, 1) for hop in hops if hop.seconds is not None}
