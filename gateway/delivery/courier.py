"""The courier: takes what is due from the outbox to the web app, for ever.

One event per rendezvous. In order per accession number, accession numbers in parallel. An event leaves the outbox only
by the web app's acknowledgement or refusal. While the connection itself fails, one event probes for all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gateway.application import Gateway
from gateway.delivery.attempts import AttemptBook
from gateway.delivery.messages import Acknowledgement, Meaning, event_text, read_acknowledgement
from gateway.errors import GatewayError
from gateway.log import get_logger
from projections.outbox import OutboxRow
from relay import RelayError
from relay.pace import Backoff

log = get_logger(__name__)


class EventSender(Protocol):
    """What carries one message to the web app and brings its answer: `relay.Sender`."""

    async def send(self, text: str) -> str:
        """Raises `RelayError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CourierOptions:
    """Times in seconds. Waits between tries of one event are jittered between `first_wait` and `longest_wait`."""

    first_wait: float = 1.0
    longest_wait: float = 60.0
    parallel: int = 32
    poll: float = 1.0
    """How often to look for what another process (an operator's command) has put into the outbox."""


@dataclass
class _Trial:
    """One event's failures in this process, and when it is tried again (monotonic)."""

    backoff: Backoff
    not_before: float = 0.0


@dataclass(slots=True)
class CourierStatus:
    """For people: whether the connection worked last time, and what went wrong."""

    connected: bool | None = None
    last_error: str | None = None
    last_acknowledged_at: float | None = None
    sending: int = 0


@dataclass
class Courier:
    """Delivers the outbox of `gateway` through `sender`."""

    gateway: Gateway
    sender: EventSender
    options: CourierOptions = field(default_factory=CourierOptions)

    def __post_init__(self) -> None:
        self.status = CourierStatus()
        self._book = AttemptBook(self.gateway)
        self._trials: dict[str, _Trial] = {}
        self._line = self._fresh_trial()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._repeats: set[str] = set()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something may be due. Call it from the event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; then what is on its way is given a moment to be acknowledged and recorded."""
        try:
            while True:
                self._wake.clear()
                await self._start_what_is_due()
                await self._pause()
        finally:
            await self._finish()

    async def _start_what_is_due(self) -> None:
        busy = set(self._under_way)  # what ends while the outbox is read is still waiting in what was read
        try:
            due = await asyncio.to_thread(self.gateway.due_updates)
        except GatewayError as error:
            log.error("outbox_unreadable", code=error.code, error=str(error))
            return
        self._forget_settled({row.event_id for row in due})
        now = time.monotonic()
        for row in self._in_turn(due, busy, now):
            if len(self._under_way) >= self._room(now):
                break
            if self._trial(row).backoff.attempt and len(self._repeats) >= max(1, self.options.parallel // 2):
                break
            self._start(row)
        self.status.sending = len(self._under_way)

    def _in_turn(self, due: list[OutboxRow], busy: set[str], now: float) -> list[OutboxRow]:
        """Those that may go, first those that never failed, then whoever has waited longest for another try.

        Half of the places are left to the first: however many are never answered, they cost the others no more than
        time.
        """
        ready = (row for row in due if row.accession_number not in busy and self._trial(row).not_before <= now)
        return sorted(ready, key=lambda row: self._trial(row).not_before)

    def _start(self, row: OutboxRow) -> None:
        task = asyncio.create_task(self._deliver(row))
        self._under_way[row.accession_number] = task
        if self._trial(row).backoff.attempt:
            self._repeats.add(row.accession_number)
        task.add_done_callback(self._ended(row.accession_number))

    def _room(self, now: float) -> int:
        """How many may be on their way: while the connection fails one at a time, and none before the next probe."""
        if self.status.connected is False:
            return 1 if self._line.not_before <= now else 0
        return self.options.parallel

    def _ended(self, accession_number: str) -> Callable[[asyncio.Task[None]], None]:
        def ended(_: asyncio.Task[None]) -> None:
            self._under_way.pop(accession_number, None)
            self._repeats.discard(accession_number)
            self._wake.set()

        return ended

    async def _pause(self) -> None:
        """Until something happens, the next try is due, or it is time to look again."""
        now = time.monotonic()
        trials = (*self._trials.values(), self._line)
        waits = [trial.not_before - now for trial in trials if trial.not_before > now]
        try:
            async with asyncio.timeout(max(0.01, min([self.options.poll, *waits]))):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _deliver(self, row: OutboxRow) -> None:
        try:
            attempt = await asyncio.to_thread(self._book.begin, row.event_id)
            answer = await self.sender.send(event_text(row, attempt))
            self._connection_works(works=True)
            await self._settle(row, read_acknowledgement(answer, row.event_id), attempt.number)
        except RelayError as error:
            self._connection_works(works=not error.connection_failed)
            trial = self._line if error.connection_failed else self._trial(row)
            await self._failed(
                row,
                trial,
                str(error),
                phase=str(error.phase),
                sent=not error.connection_failed,
                at_least=error.retry_after or 0.0,
            )
        except GatewayError as error:
            await self._failed(row, self._trial(row), str(error), phase="store")
        except Exception as error:
            log.exception("delivery_failed", event_id=row.event_id)
            await self._failed(row, self._trial(row), f"unexpected {type(error).__name__}", phase="reply")

    def _connection_works(self, *, works: bool) -> None:
        self.status.connected = works
        if works:
            self._line = self._fresh_trial()

    async def _settle(self, row: OutboxRow, acknowledgement: Acknowledgement, attempts: int) -> None:
        told = {
            "event_id": row.event_id,
            "accession_number": row.accession_number,
            "status": row.status,
            "sequence": row.sequence,
            "answer": acknowledgement.word,
            "attempt": attempts,
        }
        match acknowledgement.meaning:
            case Meaning.SETTLED:
                await asyncio.to_thread(
                    self.gateway.acknowledge_update, row.event_id, answer=acknowledgement.word, attempts=attempts
                )
                self.status.last_error, self.status.last_acknowledged_at = None, time.time()
                log.info("status_update_acknowledged", **told)
            case Meaning.PARKED:
                await asyncio.to_thread(
                    self.gateway.park_update, row.event_id, reason=acknowledgement.word, attempts=attempts
                )
                if row.is_test:  # of a rehearsal's item the web app need not know
                    log.info("test_status_update_refused", **told)
                else:
                    log.warning("status_update_parked", **told, remedy="gateway outbox list shows it")
            case Meaning.RETRIED:
                await self._failed(row, self._trial(row), f"the web app answered: {acknowledgement.word}", phase="ack")

    async def _failed(
        self, row: OutboxRow, trial: _Trial, error: str, *, phase: str, sent: bool = True, at_least: float = 0.0
    ) -> None:
        """Note it and wait: the trial is the event's own, or the line's when no connection came about."""
        now = time.monotonic()
        if trial.not_before <= now:  # else others have lost the line in the same moment: that is one failure of it
            trial.not_before = now + max(trial.backoff.next(), at_least)
        self.status.last_error = error
        log.warning(
            "status_update_not_delivered",
            event_id=row.event_id,
            accession_number=row.accession_number,
            phase=phase,
            error=error,
            failures=trial.backoff.attempt,
            retry_in_seconds=round(trial.not_before - now, 1),
        )
        try:
            if not sent:
                await asyncio.to_thread(self._book.take_back, row.event_id)
            await asyncio.to_thread(self._book.note_failure, row.event_id, error)
        except GatewayError as failure:
            log.error("attempt_not_noted", code=failure.code, error=str(failure))

    def _fresh_trial(self) -> _Trial:
        first = self.options.first_wait
        return _Trial(Backoff(first, self.options.longest_wait, least=first / 2))

    def _trial(self, row: OutboxRow) -> _Trial:
        if row.event_id not in self._trials:
            self._trials[row.event_id] = self._fresh_trial()
        return self._trials[row.event_id]

    def _forget_settled(self, due: set[str]) -> None:
        for event_id in self._trials.keys() - due:
            del self._trials[event_id]

    async def _finish(self) -> None:
        tasks = list(self._under_way.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=2.0)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
