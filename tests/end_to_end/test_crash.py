"""Killed over and over under load from all sides: nothing that was acknowledged is lost, nothing happens twice.

The gateway gets SIGKILL at random moments, also while it starts, always on the same database. `Witnesses` remember what
each of them was told; `Examiner` compares that with the database after each death and with what comes afterwards.

GATEWAY_CRASH_KILLS (50) and GATEWAY_CRASH_SEED (made up and printed) may be set for longer runs and for repeating one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sqlite3
import threading
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.application import opened
from projections.worklist import WorklistFilter
from relay import Listener, ListenerOptions, Message, RelayError
from tests.end_to_end.harness import (
    Background,
    GatewayProcess,
    RelayProcess,
    action,
    asked,
    create_item,
    impatient,
    running,
    today,
)
from tests.end_to_end.unit import NoAnswer, NoAssociation, Unit, finished, new_uid, started

SENDERS = 6
UNITS = 4
LONGEST_LIFE = 1.4
"""Seconds between the moment health is good and the kill."""

DUPLICATE, FINAL = 0x0111, 0x0110
REFUSED = "action_not_found"
_EVERYTHING = WorklistFilter()
_PATIENCE = impatient(1.5)


@dataclass
class Sent:
    """An action of ours, and what it was answered."""

    message: dict[str, Any]
    tries: int = 0
    reply: dict[str, Any] | None = None

    @property
    def action_id(self) -> str:
        return str(self.message["action_id"])

    @property
    def accession_number(self) -> str:
        return str(self.message["parameters"]["worklist_item"]["accession_number"])


@dataclass
class Step:
    """A performed procedure step, and the statuses of the answers."""

    uid: str
    accession_number: str
    outcome: str
    created: list[int | None] = field(default_factory=list)
    finished: list[int | None] = field(default_factory=list)


@dataclass
class Arrival:
    """An event at the web app, and what it was answered."""

    event_id: str
    accession_number: str
    sequence: int
    status: str
    attempt: int
    answer: str = ""


class Witnesses:
    """Everybody around the gateway: they go on whatever happens to it, and remember what they were told."""

    def __init__(self, relay: RelayProcess, port: int, seed: int) -> None:
        self.relay = relay
        self.port = port
        self.sent: list[Sent] = []
        self.steps: list[Step] = []
        self.arrivals: list[Arrival] = []
        self.faults: list[str] = []
        """What must never be: told at the end, and at once when something is waited for."""
        self.queries = 0
        self._dice = random.Random(seed)
        self._numbers = iter(range(1_000_000))
        self._to_examine: deque[str] = deque()
        self._no_more_work = threading.Event()
        self._finished = threading.Event()
        self._background = Background()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Everybody starts."""
        self._jobs = [self._background.start(self._send_for_ever()) for _ in range(SENDERS)]
        listener = Listener(self.relay.connection("events"), self._hear, options=ListenerOptions())
        self._background.start(listener.run())
        for number in range(UNITS):
            self._thread(self._examine_for_ever, f"MAMMO{number}")
        self._thread(self._query_for_ever, "VIEWER")

    def _thread(self, work: Any, ae_title: str) -> None:
        def guarded() -> None:
            try:
                work(Unit(self.port, ae_title, timeout=5))
            except Exception as error:  # noqa: BLE001  told at the end
                self.faults.append(f"{ae_title} broke: {error!r}")

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
            self.faults.append(complaint)

    def testify(self) -> None:
        """Fail when anybody has seen what must never be."""
        if self.faults:
            pytest.fail(f"{len(self.faults)} faults:\n" + "\n".join(self.faults[:10]))

    # --- the web app schedules, moves and cancels

    async def _send_for_ever(self) -> None:
        while not self._no_more_work.is_set():
            number = next(self._numbers)
            accession_number = f"CR{number:06d}"
            minute = f"{8 + number // 60 % 10:02d}{number % 60:02d}"
            create = create_item(accession_number, scheduled={"time": minute})
            reply = await self._until_answered(Sent(create), "created")
            if not reply:
                continue
            fate = self._dice.random()
            if fate < 0.15:
                move = action(
                    "worklist.update_item", {"accession_number": accession_number, "scheduled": {"time": "2000"}}
                )
                await self._until_answered(Sent(move), "updated")
            elif fate < 0.25:
                cancel = action("worklist.cancel_item", {"accession_number": accession_number, "reason": "ill"})
                await self._until_answered(Sent(cancel), "cancelled")
                continue
            elif fate < 0.3:
                nonsense = action("worklist.update_status", {"accession_number": accession_number, "status": "LOST"})
                await self._until_answered(Sent(nonsense), "error")
            if fate > 0.5:
                self._to_examine.append(accession_number)

    async def _until_answered(self, sent: Sent, expected: str) -> dict[str, Any] | None:
        """The same message again and again until a final reply comes; an `internal` error is none."""
        self.sent.append(sent)
        while not self._finished.is_set():
            sent.tries += 1
            try:
                reply = await asked(self.relay.connection("actions"), sent.message, _PATIENCE)
            except RelayError:
                await asyncio.sleep(0.05)
                continue
            if reply.get("retryable"):
                continue
            sent.reply = reply
            self.must(reply["status"] == expected, f"{sent.accession_number}: {expected} expected, {reply}")
            self.must(
                sent.tries > 1 or not reply.get("duplicate"), f"{sent.action_id} was sent once and is a duplicate"
            )
            if self._dice.random() < 0.1:
                await self._ask_again(sent)
            return reply
        return None

    async def _ask_again(self, sent: Sent) -> None:
        """What was answered is answered the same for ever."""
        assert sent.reply is not None
        with contextlib.suppress(RelayError):
            again = await asked(self.relay.connection("actions"), sent.message, _PATIENCE)
            same = {**again, "duplicate": True} == {**sent.reply, "duplicate": True} and again.get("duplicate")
            self.must(again.get("retryable") or same, f"{sent.action_id}: first {sent.reply}, then {again}")

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
        self.steps.append(step)
        attributes, changes = started(found[0], PerformedStationAETitle=unit.ae_title), finished(outcome)
        self._insist(lambda: _remembered(step.created, lambda: unit.create(step.uid, attributes)))
        self._must_converge(step.created, DUPLICATE, f"N-CREATE for {accession_number}")
        self._insist(lambda: _remembered(step.finished, lambda: unit.set(step.uid, changes)))
        self._must_converge(step.finished, FINAL, f"N-SET for {accession_number}")

    def _insist(self, operation: Any) -> Any:
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
            with contextlib.suppress(NoAssociation, NoAnswer):
                before = {
                    sent.accession_number for sent in self.sent if sent.reply and sent.reply["status"] == "created"
                }
                before -= {sent.accession_number for sent in self.sent if "cancel" in sent.message["action_type"]}
                before -= {*self._to_examine} | {step.accession_number for step in self.steps}
                shown = unit.numbers(date=today(), modality="MG")
                after = {*self._to_examine} | {step.accession_number for step in self.steps}
                after |= {sent.accession_number for sent in self.sent if "cancel" in sent.message["action_type"]}
                missing = before - after - {*shown}
                self.must(len(shown) == len({*shown}), "a query shows an item twice")
                self.must(not missing, f"a query does not show {sorted(missing)[:5]}")
                self.queries += 1
            self._finished.wait(0.3)

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
        )
        self.arrivals.append(arrival)
        await asyncio.sleep(self._dice.choice((0, 0, 0.01, 0.05, 0.3)))
        arrival.answer = self._answer(arrival)
        return json.dumps({"status": arrival.answer, "event_id": arrival.event_id, "action_id": data["action_id"]})

    def _answer(self, arrival: Arrival) -> str:
        if arrival.sequence == 1 and arrival.accession_number.endswith("7"):
            return REFUSED
        return "error" if self._dice.random() < 0.03 else "updated"

    def settled(self) -> set[str]:
        """What the web app has said it took."""
        return {arrival.event_id for arrival in list(self.arrivals) if arrival.answer == "updated"}

    def refused(self) -> set[str]:
        """What it does not want."""
        return {arrival.event_id for arrival in list(self.arrivals) if arrival.answer == REFUSED}


def _remembered(answers: list[int | None], operation: Any) -> int:
    answers.append(None)
    answers[-1] = operation()
    return int(answers[-1] or 0)


class Examiner:
    """Looks at the database of a dead gateway, on a copy, and at what the witnesses know."""

    def __init__(self, witnesses: Witnesses, gateway: GatewayProcess) -> None:
        self.witnesses = witnesses
        self.gateway = gateway
        self.committed: list[set[str]] = []
        """Per death: the events whose acknowledgement or refusal was committed."""
        self.attempts: list[dict[str, int]] = []
        """Per death: how often each event had been sent; it is counted before it is sent."""

    def look(self, folder: Path, *, everything: bool) -> None:
        """After a death: what was acknowledged is there, once, and the outbox owes the rest."""
        known_actions = {sent.action_id: sent for sent in list(self.witnesses.sent) if sent.reply}
        steps = [(step, list(step.created), list(step.finished)) for step in list(self.witnesses.steps)]
        settled, refused = self.witnesses.settled(), self.witnesses.refused()
        copy = _copied(self.gateway.database, folder)
        with contextlib.closing(sqlite3.connect(copy)) as database:
            timeline = [(kind, json.loads(details)) for kind, details in database.execute(
                "SELECT kind, details FROM timeline"
            )]  # fmt: skip
            outbox = {row[0]: row[1:] for row in database.execute(
                "SELECT event_id, accession_number, sequence, status, state FROM outbox"
            )}  # fmt: skip
            self.attempts.append(dict(database.execute("SELECT event_id, attempts FROM delivery_attempts")))
            items = {row[0]: row[1:] for row in database.execute(
                "SELECT accession_number, status, scheduled_time FROM worklist_items"
            )}  # fmt: skip
        self._receipts(timeline, known_actions)
        self._items(items, known_actions)
        self._performed(timeline, steps)
        self._outbox(outbox, timeline, settled, refused)
        if everything:
            with opened(copy) as store:
                self.must(not store.caught_up, f"projections were behind the log: {store.caught_up}")
                self.must(store.verify_chain().intact, "the chain is broken")
                differences = store.verify_projections()
                self.must(not differences, f"projections verify: {differences}")
        self.witnesses.testify()

    @property
    def must(self) -> Any:
        return self.witnesses.must

    def _receipts(self, timeline: list[tuple[str, Any]], known: dict[str, Sent]) -> None:
        receipts = Counter(details["action_id"] for kind, details in timeline if kind.startswith("RelayAction."))
        missing = known.keys() - receipts.keys()
        self.must(not missing, f"{len(missing)} acknowledged actions are missing, such as {next(iter(missing), '')}")
        twice = [action_id for action_id, count in receipts.items() if count > 1]
        self.must(not twice, f"applied twice: {twice[:3]}")
        strange = receipts.keys() - {sent.action_id for sent in list(self.witnesses.sent)}
        self.must(not strange, f"nobody sent {[*strange][:3]}")
        scheduled = Counter(details["action_id"] for kind, details in timeline if kind == "WorklistItem.Scheduled")
        self.must(max(scheduled.values(), default=1) == 1, "an item was scheduled twice")

    def _items(self, items: dict[str, Any], known: dict[str, Sent]) -> None:
        for sent in known.values():
            row = items.get(sent.accession_number)
            if row is None:
                self.must(False, f"{sent.accession_number} is missing")
            elif sent.message["action_type"] == "worklist.update_item":
                self.must(row[1] == "200000", f"{sent.accession_number} was not moved: {row}")
            elif sent.message["action_type"] == "worklist.cancel_item":
                self.must(row[0] == "CANCELLED", f"{sent.accession_number} was not cancelled: {row}")

    def _performed(self, timeline: list[tuple[str, Any]], steps: list[tuple[Step, Any, Any]]) -> None:
        began, ended = Counter[str](), Counter[str]()
        for kind, details in timeline:
            if kind == "PerformedProcedureStep.Started":
                began[details["mpps_instance_uid"]] += 1
            elif kind in ("PerformedProcedureStep.Completed", "PerformedProcedureStep.Discontinued"):
                ended[details["mpps_instance_uid"]] += 1
        for step, created, finished_ in steps:
            acknowledged = (created and created[-1] is not None, finished_ and finished_[-1] is not None)
            for done, told, what in zip((began, ended), acknowledged, ("N-CREATE", "N-SET"), strict=True):
                count = done[step.uid]
                self.must(count == 1 or (count == 0 and not told), f"{what} of {step.accession_number}: {count} times")

    def _outbox(
        self, outbox: dict[str, Any], timeline: list[tuple[str, Any]], settled: set[str], refused: set[str]
    ) -> None:
        owed = Counter(
            details["mpps_instance_uid"]
            for kind, details in timeline
            if kind.startswith("WorklistItem.Step") and "update_sequence" in details
        )
        self.must(owed.total() == len(outbox), f"{owed.total()} status changes, {len(outbox)} rows in the outbox")
        acknowledged = {event_id for event_id, row in outbox.items() if row[3] == "acknowledged"}
        parked = {event_id for event_id, row in outbox.items() if row[3] == "parked"}
        self.must(acknowledged <= settled, "acknowledged without the web app's word")
        self.must(parked <= refused, "parked without the web app's word")
        self.must(
            {arrival.event_id for arrival in list(self.witnesses.arrivals)} <= outbox.keys(), "sent, but not kept"
        )
        self.committed.append(acknowledged | parked)

    def judge_deliveries(self) -> None:
        """At the end: order, repeats, and what was sent again."""
        arrivals = self.witnesses.arrivals
        by_number: dict[str, list[Arrival]] = defaultdict(list)
        for arrival in arrivals:
            by_number[arrival.accession_number].append(arrival)
            late = [n for n in range(self._life(arrival)) if arrival.event_id in self.committed[n]]
            self.must(not late, f"{arrival} was settled before death {late[:1]}")
        for number, heard in by_number.items():
            sequences = [arrival.sequence for arrival in heard]
            self.must(sequences == sorted(sequences), f"{number}: out of order {sequences}")
            self.must({*sequences} == {*range(1, max(sequences) + 1)}, f"{number}: a gap in {sequences}")
            ids = {(arrival.sequence, arrival.event_id, arrival.status) for arrival in heard}
            self.must(len(ids) == max(sequences), f"{number}: a repeat is another event {ids}")
            for first, second in pairwise(heard):
                self._judge_pair(first, second)

    def _life(self, arrival: Arrival) -> int:
        """In which life of the gateway this was sent: it may come late."""
        sent = (n for n, attempts in enumerate(self.attempts) if attempts.get(arrival.event_id, 0) >= arrival.attempt)
        life = next(sent, None)
        self.must(life is not None, f"{arrival} was sent and not counted")
        return life or 0

    def _judge_pair(self, first: Arrival, second: Arrival) -> None:
        """A repeat follows an answer that settles nothing, or a death; another event follows one that settles."""
        if first.event_id == second.event_id:
            self.must(second.attempt > first.attempt, f"the attempts of {first} and {second}")
            self.must(
                first.answer == "error" or self._life(second) > self._life(first),
                f"{second} was sent again without need: {first}",
            )
        else:
            self.must(first.answer in ("updated", REFUSED), f"{second} was sent before {first} was settled")


def _copied(database: Path, folder: Path) -> Path:
    """The database and its log, as the dead left them."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for path in database.parent.glob(f"{database.name}*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, folder / path.name)
    return folder / database.name


def _kill_over_and_over(folder: Path, kills: int, seed: int, *, verify_every: int) -> str:
    dice = random.Random(seed)
    relay = RelayProcess(folder / "relay")
    gateway = GatewayProcess(folder / "gateway", relay)
    with running(relay, gateway):
        relay.start()
        gateway.start()
        witnesses = Witnesses(relay, gateway.dicom_port, seed)
        examiner = Examiner(witnesses, gateway)
        try:
            witnesses.begin()
            died_young = 0
            for number in range(kills):
                if dice.random() < 0.15:
                    died_young += _wait(gateway, dice.uniform(0, 0.8))
                else:
                    gateway.until_health(lambda report: report["healthy"], "it is back")
                    _wait(gateway, dice.uniform(0, LONGEST_LIFE))
                gateway.kill()
                examiner.look(folder / "copy", everything=number % verify_every == verify_every - 1)
                gateway.launch()
            gateway.until_health(lambda report: report["healthy"], "it is back")
            witnesses.finish_what_was_begun()
            gateway.until_settled(60)
            return _told(witnesses, examiner, gateway, folder, kills, seed)
        finally:
            witnesses.end()


def _wait(gateway: GatewayProcess, seconds: float) -> bool:
    """Let it live for a random time, the one thing here that is meant to be out of step; it must not end by itself."""
    time.sleep(seconds)
    assert gateway.running, gateway.tail()
    return gateway.health() is None


def _told(
    witnesses: Witnesses, examiner: Examiner, gateway: GatewayProcess, folder: Path, kills: int, seed: int
) -> str:
    """After the last restart: all is answered, all is delivered, and the live database is sound."""
    with gateway.store() as store:
        parked = {row.event_id for row in store.find_updates(state="parked")}
        acknowledged = {row.event_id for row in store.find_updates(state="acknowledged")}
        statuses = {row.accession_number: row.status for row in store.find_items(_EVERYTHING)}
    witnesses.must(parked == witnesses.refused(), "what was refused is not what is parked")
    witnesses.must(acknowledged == witnesses.settled(), "what the web app took is not what is acknowledged")
    for step in witnesses.steps:
        found = statuses[step.accession_number]
        witnesses.must(found == step.outcome, f"{step.accession_number} is {found}, was {step.outcome}")
    witnesses.must(all(sent.reply for sent in witnesses.sent), "an action was never answered")
    gateway.assert_sound()
    gateway.kill()
    examiner.look(folder / "copy", everything=True)
    examiner.judge_deliveries()
    witnesses.testify()
    retried = sum(sent.tries > 1 for sent in witnesses.sent)
    converged = sum(bool(sent.reply and sent.reply.get("duplicate")) for sent in witnesses.sent)
    repeated = len(witnesses.arrivals) - len({arrival.event_id for arrival in witnesses.arrivals})
    duplicates = sum(step.created[-1] == DUPLICATE for step in witnesses.steps)
    finals = sum(step.finished[-1] == FINAL for step in witnesses.steps)
    with gateway.store() as store:
        events = store.verify_chain().events
    return (
        f"{kills} kills, seed {seed}: {len(witnesses.sent)} actions ({retried} retried, {converged} of them had been "
        f"done), {len(witnesses.steps)} steps ({duplicates} N-CREATE and {finals} N-SET had been done), "
        f"{len(witnesses.arrivals)} deliveries ({repeated} repeats, {len(parked)} parked), "
        f"{witnesses.queries} queries, {events} events"
    )


def _seed() -> int:
    return int(os.environ.get("GATEWAY_CRASH_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.mark.slow
def test_five_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    seed = _seed()
    print(f"seed {seed}")
    print(_kill_over_and_over(tmp_path, 5, seed, verify_every=1))


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_fifty_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    seed, kills = _seed(), int(os.environ.get("GATEWAY_CRASH_KILLS") or 50)
    print(f"seed {seed}")
    print(_kill_over_and_over(tmp_path, kills, seed, verify_every=5))
