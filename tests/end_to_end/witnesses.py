"""Everybody around the gateway: they go on whatever happens to it, and remember what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from relay import Listener, ListenerOptions, Message, RelayError
from tests.end_to_end.evidence import REFUSED, TAKEN, Arrival, Evidence, Sent, Step
from tests.end_to_end.harness import Background, Relay, action, asked, create_item, impatient, today
from tests.end_to_end.unit import NoAnswer, NoAssociation, Unit, finished, new_uid, started

DUPLICATE, FINAL = 0x0111, 0x0110

_PATIENCE = impatient(1.5)

NOT_JSON, ANOTHER_EVENT = "no JSON", "another event"
UNSETTLING = ("error", "error", "perhaps", NOT_JSON, ANOTHER_EVENT)
"""Answers of the web app that settle nothing: known and unknown words, none at all, and one about something else."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How busy the witnesses are.

    Attributes:
        backlog: Items that may wait for a unit; while more do, what was answered is said again instead.
        listening: How the web app listens for events.
        delays: Seconds the web app may take to answer an event, each as likely.
    """

    senders: int = 6
    units: int = 4
    backlog: int = 100
    listening: ListenerOptions = field(default_factory=ListenerOptions)
    delays: tuple[float, ...] = (0, 0, 0.01, 0.05, 0.3)


class Witnesses:
    """The web app that schedules and hears, modalities that perform, and a viewer that asks for the list."""

    def __init__(self, relay: Relay, port: int, seed: int, habits: Habits | None = None) -> None:
        self.relay = relay
        self.port = port
        self.habits = habits or Habits()
        self.known = Evidence()
        self.listener = Listener(relay.connection("events"), self._hear, options=self.habits.listening)
        self._dice = random.Random(seed)
        self._numbers = iter(range(1_000_000))
        self._to_examine: deque[str] = deque()
        self._no_more_work = threading.Event()
        self._finished = threading.Event()
        self._background = Background()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Everybody starts."""
        self._jobs = [self._background.start(self._send_for_ever()) for _ in range(self.habits.senders)]
        self._background.start(self.listener.run())
        for number in range(self.habits.units):
            self._thread(self._examine_for_ever, f"MAMMO{number}")
        self._thread(self._query_for_ever, "VIEWER")

    def _thread(self, work: Callable[[Unit], None], ae_title: str) -> None:
        def guarded() -> None:
            try:
                work(Unit(self.port, ae_title, timeout=5))
            except Exception as error:  # noqa: BLE001  told at the end
                self.known.complaints.append(f"{ae_title} broke: {error!r}")

        thread = threading.Thread(target=guarded, name=ae_title, daemon=True)
        thread.start()
        self._threads.append(thread)

    def finish_what_was_begun(self) -> None:
        """No new work; wait until every action is answered and every step is final."""
        self._no_more_work.set()
        for job in self._jobs:
            job.result(60)
        for thread in self._threads[:-1]:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} did not come to an end"

    def end(self) -> None:
        """Everybody leaves."""
        self._no_more_work.set()
        self._finished.set()
        for thread in self._threads:
            thread.join(30)
        self._background.close()

    def must(self, condition: object, complaint: str) -> None:
        if not condition:
            self.known.complaints.append(complaint)

    def testify(self) -> None:
        """Fail when anybody has seen what must never be."""
        complaints = self.known.complaints
        if complaints:
            pytest.fail(f"{len(complaints)} complaints:\n" + "\n".join(complaints[:10]))

    # --- the web app schedules, moves, cancels, tells a status, and says things twice

    async def _send_for_ever(self) -> None:
        while not self._no_more_work.is_set():
            if len(self._to_examine) > self.habits.backlog:
                await self._ask_again(self._dice.choice(list(self.known.answered().values())))
                continue
            number = next(self._numbers)
            accession_number = f"CR{number:06d}"
            minute = f"{8 + number // 60 % 10:02d}{number % 60:02d}"
            create = create_item(accession_number, scheduled={"time": minute})
            if await self._until_answered(Sent(create), "created"):
                await self._decide_on(accession_number)

    async def _decide_on(self, accession_number: str) -> None:
        """What becomes of an item: it is moved, cancelled, spoken of, examined, or left alone."""
        fate = self._dice.random()
        item: dict[str, Any] = {"accession_number": accession_number}
        if fate < 0.15:
            move = action("worklist.update_item", item | {"scheduled": {"time": "2000"}})
            await self._until_answered(Sent(move), "updated")
        elif fate < 0.25:
            cancel = action("worklist.cancel_item", item | {"reason": "ill"})
            await self._until_answered(Sent(cancel), "cancelled")
        elif fate < 0.3:
            nonsense = action("worklist.update_status", item | {"status": "LOST"})
            await self._until_answered(Sent(nonsense), "error")
        elif fate < 0.35:
            elsewhere = action("worklist.update_status", item | {"status": "IN_PROGRESS"})
            await self._until_answered(Sent(elsewhere), "updated")
        if fate < 0.1 or fate >= 0.45:
            self._to_examine.append(accession_number)

    async def _until_answered(self, sent: Sent, expected: str) -> dict[str, Any] | None:
        """The same message again and again until a final reply comes; an `internal` error is none."""
        sent.first_at = time.monotonic()
        self.known.sent.append(sent)
        while not self._finished.is_set():
            reply = await self._ask(sent)
            if reply is None:
                await asyncio.sleep(0.05)
                continue
            sent.answered_at, sent.reply = time.monotonic(), reply
            self.must(reply["status"] == expected, f"{sent.accession_number}: {expected} expected, {reply}")
            if self._dice.random() < 0.1:
                await self._ask_again(sent)
            return reply
        return None

    async def _ask(self, sent: Sent) -> dict[str, Any] | None:
        """The final reply to a message, of which sometimes two copies are sent at once."""
        copies = 2 if self._dice.random() < 0.05 else 1
        sent.tries += copies
        replies = [each for each in await asyncio.gather(*(self._reply_to(sent) for _ in range(copies))) if each]
        originals = [each for each in replies if not each.get("duplicate")]
        self.must(len(originals) <= 1, f"twice: two copies of {sent.action_id} were answered as new")
        self.must(_all_same(replies), f"two copies of {sent.action_id}: {replies}")
        return next(iter(originals or replies), None)

    async def _reply_to(self, sent: Sent) -> dict[str, Any] | None:
        try:
            reply = await asked(self.relay.connection("actions"), sent.message, _PATIENCE)
        except RelayError:
            return None
        self.known.answers.append(time.monotonic())
        return None if reply.get("retryable") else reply

    async def _ask_again(self, sent: Sent) -> None:
        """What was answered is answered the same for ever."""
        assert sent.reply is not None
        again = await self._reply_to(sent)
        if again is None:
            await asyncio.sleep(0.05)
            return
        same = again.get("duplicate") and _all_same([again, sent.reply])
        self.must(same, f"{sent.action_id}: first {sent.reply}, then {again}")

    # --- modalities

    def _examine_for_ever(self, unit: Unit) -> None:
        while not self._finished.is_set():
            try:
                accession_number = self._to_examine.popleft()
            except IndexError:
                if self._no_more_work.is_set() and all(job.done() for job in self._jobs):
                    return
                self._finished.wait(0.02)
                continue
            self._examine(unit, accession_number)

    def _examine(self, unit: Unit, accession_number: str) -> None:
        found = self._insist(lambda: unit.find(AccessionNumber=accession_number))
        if found is None:
            return
        self.must(len(found) == 1, f"{accession_number} was acknowledged and is found {len(found)} times")
        if len(found) != 1:
            return
        outcome = "DISCONTINUED" if self._dice.random() < 0.2 else "COMPLETED"
        step = Step(new_uid(), accession_number, outcome)
        self.known.steps.append(step)
        attributes, changes = started(found[0], PerformedStationAETitle=unit.ae_title), finished(outcome)
        self._insist(lambda: _remembered(step.created, lambda: unit.create(step.uid, attributes)))
        self._must_converge(step.created, DUPLICATE, f"N-CREATE for {accession_number}")
        self._insist(lambda: _remembered(step.finished, lambda: unit.set(step.uid, changes)))
        self._must_converge(step.finished, FINAL, f"N-SET for {accession_number}")

    def _insist(self, operation: Callable[[], Any]) -> Any:
        """Again and again until it is answered; None when all is over."""
        while not self._finished.is_set():
            try:
                return operation()
            except (NoAssociation, NoAnswer):
                self._finished.wait(0.03)
        return None

    def _must_converge(self, answers: list[int | None], repeated: int, what: str) -> None:
        """The first answer is success, unless an earlier try got none: then it may have been done by that."""
        allowed = {0} if len(answers) == 1 else {0, repeated}
        self.must(self._finished.is_set() or answers[-1] in allowed, f"{what}: {answers}")

    def _query_for_ever(self, unit: Unit) -> None:
        while not self._finished.is_set():
            began = time.monotonic()
            with contextlib.suppress(NoAssociation, NoAnswer):
                before = {sent.accession_number for sent in list(self.known.sent) if sent.done} - self._taken_out()
                shown = unit.numbers(date=today(), modality="MG")
                missing = before - self._taken_out() - {*shown}
                self.must(len(shown) == len({*shown}), "a query shows an item twice")
                self.must(not missing, f"a query does not show {sorted(missing)[:5]}")
                self.known.queries += 1
            self._finished.wait(max(0.3, 2 * (time.monotonic() - began)))

    def _taken_out(self) -> set[str]:
        """The items that need not be in the list any more, or soon will not be."""
        ended = ("worklist.cancel_item", "worklist.update_status")
        return (
            {sent.accession_number for sent in list(self.known.sent) if sent.action_type in ended}
            | {*self._to_examine}
            | {step.accession_number for step in list(self.known.steps)}
        )

    # --- the web app hears

    async def _hear(self, message: Message) -> str:
        event = json.loads(message.data)
        data = event["data"]
        arrival = Arrival(
            event["event_id"],
            data["accession_number"],
            event["sequence"],
            data["status"],
            event["attempt"],
            at=time.monotonic(),
        )
        self.known.arrivals.append(arrival)
        await asyncio.sleep(self._dice.choice(self.habits.delays))
        arrival.answered_at, arrival.answer = time.monotonic(), self._answer(arrival)
        if arrival.answer == NOT_JSON:
            return "<html>try later</html>"
        if arrival.answer == ANOTHER_EVENT:
            return json.dumps({"status": TAKEN, "event_id": "of-somebody-else"})
        return json.dumps({"status": arrival.answer, "event_id": arrival.event_id, "action_id": data["action_id"]})

    def _answer(self, arrival: Arrival) -> str:
        if arrival.sequence == 1 and arrival.accession_number.endswith("7"):
            return REFUSED
        return self._dice.choice(UNSETTLING) if self._dice.random() < 0.03 else TAKEN


def _all_same(replies: list[dict[str, Any]]) -> bool:
    """Whether they say the same, apart from `duplicate`."""
    plain = [{key: value for key, value in reply.items() if key != "duplicate"} for reply in replies]
    return all(reply == plain[0] for reply in plain)


def _remembered(answers: list[int | None], operation: Callable[[], int]) -> int:
    answers.append(None)
    answers[-1] = operation()
    return int(answers[-1] or 0)
