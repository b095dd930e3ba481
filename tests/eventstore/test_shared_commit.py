"""Saves that arrive together share one COMMIT and its sync; each is answered after it, and fails for itself alone."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import projections.worklist
from bench.synthetic import appointment, create_request, naming, start, step_uid
from gateway.application import Gateway, opened
from gateway.domain.relay_action import ActionReply, RelayAction
from gateway.errors import Contention, OutcomeUnknown
from gateway.eventstore import shared_commit
from gateway.eventstore.connections import PATIENCE, Writer
from gateway.eventstore.projection import RecordedEvent
from projections.worklist import WorklistFilter

Call = Callable[[], Any]
_TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def started(gateway: Gateway, call: Call, outcomes: dict[int, Any], number: int) -> threading.Thread:
    """The call in a thread of its own, once it leads or waits; what it returns or raises is an outcome."""

    def run() -> None:
        try:
            outcomes[number] = call()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            outcomes[number] = error

    shared = gateway.datastore.shared_commit
    waiting = shared.waiting + shared._is_led
    thread = threading.Thread(target=run)
    thread.start()
    while shared.waiting + shared._is_led == waiting and thread.is_alive():
        time.sleep(0.001)
    return thread


def together(gateway: Gateway, *calls: Call) -> list[Any]:
    """What each call returns or raises when all arrive while somebody else writes, in this order."""
    outcomes: dict[int, Any] = {}
    with gateway.datastore.writer.transaction():
        threads = [started(gateway, call, outcomes, number) for number, call in enumerate(calls)]
    for thread in threads:
        thread.join(30)
    return [outcomes[number] for number in range(len(calls))]


@contextmanager
def statements(gateway: Gateway) -> Iterator[list[str]]:
    """The statements about transactions that the writer executes."""
    seen: list[str] = []
    with gateway.datastore.writer.transaction() as cursor:
        connection = cursor.connection
    connection.set_trace_callback(lambda text: seen.append(text) if text.startswith(_TRANSACTIONS) else None)
    yield seen
    connection.set_trace_callback(None)


def positions(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as prompt:
        return [row[0] for row in prompt.execute("SELECT rowid FROM stored_events ORDER BY rowid")]


def assert_sound(gateway: Gateway, *, events: int) -> None:
    """So many events, no gap, a chain that holds, and rows that say what the events say."""
    assert positions(gateway.path) == [*range(1, events + 1)]
    assert gateway.verify_chain().intact
    assert gateway.verify_projections() == []


def asked(gateway: Gateway, accession_number: str = "ACC001") -> ActionReply:
    """What the web app is answered that asks for an appointment."""
    wanted = appointment(accession_number)
    return gateway.schedule(wanted, request=create_request(f"create-{accession_number}", wanted))


def receipt(action_id: str) -> RelayAction:
    """A receipt that nobody has saved."""
    return RelayAction.answer(create_request(action_id, appointment()), ActionReply(status="ok"), accession_number=None)


def kinds(outcomes: list[Any]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


# --- how many commits


def test_a_caller_alone_commits_once_and_sets_no_savepoint(gateway: Gateway) -> None:
    with statements(gateway) as seen:
        asked(gateway)
    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]


def test_relay_actions_and_mpps_messages_that_arrive_together_share_one_commit(gateway: Gateway) -> None:
    asked(gateway, "ACC001")
    gateway.keep_sequence_mark()  # as the service does at start
    with statements(gateway) as seen:
        *replies, outcome = together(
            gateway,
            *(lambda number=number: asked(gateway, f"NEW{number}") for number in range(7)),
            lambda: start(gateway, step_uid(1), naming()),
        )
    assert seen[:2] == ["BEGIN IMMEDIATE", "COMMIT"]  # of whoever wrote when they arrived
    assert seen[2:] == ["BEGIN IMMEDIATE", *["SAVEPOINT taken_along", "RELEASE taken_along"] * 7, "COMMIT"]
    assert [reply.status for reply in replies] == ["created"] * 7
    assert outcome.accession_numbers == ("ACC001",)
    assert_sound(gateway, events=2 + 7 * 2 + 3)


def test_no_more_than_64_share_a_commit_and_who_came_first_is_saved_first(gateway: Gateway) -> None:
    calls = [
        lambda number=number: gateway.save(receipt(f"action-{number:02}")) for number in range(shared_commit.MOST + 3)
    ]
    with statements(gateway) as seen:
        together(gateway, *calls)
    assert Counter(seen)["COMMIT"] == 1 + 2
    first = seen[2 : seen.index("COMMIT", 2)]
    assert Counter(first)["RELEASE taken_along"] == 64 - 1
    with gateway.reading() as connection:
        rows = connection.execute("SELECT state FROM stored_events ORDER BY rowid").fetchall()
    assert all(f"action-{number:02}" in str(row[0]) for number, row in enumerate(rows))


# --- who fails


def test_a_conflict_fails_alone_and_nothing_of_its_two_streams_is_kept(gateway: Gateway) -> None:
    conflicting = receipt("taken")
    outcomes = together(
        gateway,
        lambda: gateway.save(receipt("first")),
        lambda: gateway.save(receipt("taken")),
        lambda: gateway.save(receipt("half"), conflicting),
        lambda: gateway.save(receipt("last")),
    )
    assert kinds(outcomes) == ["list", "list", "IntegrityError", "list"]
    assert gateway.load(RelayAction, RelayAction.create_id("half")) is None
    assert_sound(gateway, events=3)


def test_who_leads_fails_alone_too(gateway: Gateway) -> None:
    gateway.save(receipt("taken"))
    outcomes = together(
        gateway, *(lambda name=name: gateway.save(receipt(name)) for name in ("taken", "second", "third"))
    )
    assert kinds(outcomes) == ["IntegrityError", "list", "list"]
    assert_sound(gateway, events=3)


class ProjectionFailed(Exception):
    pass


@pytest.fixture
def bad_items(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[sqlite3.Cursor], None]]:
    """The projection of the worklist does this, after its own work, to items whose accession numbers begin with BAD."""
    real = projections.worklist.apply
    deeds: list[Callable[[sqlite3.Cursor], None]] = []

    def apply(cursor: sqlite3.Cursor, event: RecordedEvent) -> None:
        real(cursor, event)
        if str(getattr(event.domain_event, "accession_number", None)).startswith("BAD"):
            for deed in deeds:
                deed(cursor)

    monkeypatch.setattr(projections.worklist, "apply", apply)
    return deeds


def raising(error: Exception) -> Callable[[sqlite3.Cursor], None]:
    def deed(_: sqlite3.Cursor) -> None:
        raise error

    return deed


def around_a_bad_one(gateway: Gateway) -> list[Any]:
    return together(gateway, *(lambda name=name: asked(gateway, name) for name in ("ACC001", "BAD", "ACC002")))


@pytest.mark.parametrize(
    ("deed", "raised"),
    [
        (raising(ProjectionFailed()), "ProjectionFailed"),
        (lambda cursor: cursor.execute("SELECT nothing"), "OutcomeUnknown"),  # in our words, as when it is alone
        (lambda cursor: cursor.execute("SELECT ?", ({},)), "OutcomeUnknown"),
    ],
)
def test_a_failing_projection_fails_alone(
    gateway: Gateway, bad_items: list[Any], deed: Callable[[sqlite3.Cursor], None], raised: str
) -> None:
    bad_items.append(deed)
    assert kinds(around_a_bad_one(gateway)) == ["ActionReply", raised, "ActionReply"]
    assert [row.accession_number for row in gateway.find_items(WorklistFilter())] == ["ACC001", "ACC002"]
    asked(gateway, "ACC003")
    assert_sound(gateway, events=6)


def test_a_projection_that_saves_is_refused_in_another_s_thread_too(gateway: Gateway, bad_items: list[Any]) -> None:
    bad_items.append(lambda _: gateway.save(receipt("from a projection")))
    first, refused, last = around_a_bad_one(gateway)
    assert (first.status, last.status) == ("created", "created")
    assert isinstance(refused, RuntimeError)


# --- when it fails for all


def test_when_sqlite_gives_up_the_whole_transaction_nobody_is_acknowledged(
    gateway: Gateway, bad_items: list[Any]
) -> None:
    bad_items.extend([lambda cursor: cursor.execute("ROLLBACK"), raising(ProjectionFailed())])
    before, bad, after = around_a_bad_one(gateway)
    assert kinds([before, bad, after]) == ["OutcomeUnknown", "ProjectionFailed", "ActionReply"]
    assert "gave up a commit that several saves shared" in before.message
    bad_items.clear()
    assert positions(gateway.path) == [1, 2]  # ACC002 was not in it: it came to the lead afterwards
    assert asked(gateway, "ACC001").status == "created"
    assert_sound(gateway, events=4)


@pytest.fixture
def one_commit_fails(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once called, the COMMIT after the next one fails with an I/O error."""
    real, commits = Writer._attempt, [10**9]

    def attempt(self: Writer, deadline: float) -> Iterator[sqlite3.Cursor]:
        attempt = real(self, deadline)
        yield next(attempt)
        commits[0] -= 1
        if commits[0] == 0:
            attempt.throw(sqlite3.OperationalError("disk I/O error"))
        yield from attempt

    monkeypatch.setattr(Writer, "_attempt", attempt)
    return lambda: commits.__setitem__(0, 2)


def test_when_the_commit_fails_nobody_is_acknowledged_and_each_raises_its_own(
    gateway: Gateway, one_commit_fails: Callable[[], None]
) -> None:
    one_commit_fails()
    failures = together(gateway, *(lambda name=name: gateway.save(receipt(name)) for name in "abc"))
    assert kinds(failures) == ["OutcomeUnknown"] * 3
    assert len({id(failure) for failure in failures}) == 3
    assert all("disk has room" in failure.remedy for failure in failures)
    assert positions(gateway.path) == []
    asked(gateway)
    assert_sound(gateway, events=2)


def test_a_conflict_with_a_neighbour_whose_commit_then_fails_is_no_duplicate(
    gateway: Gateway, one_commit_fails: Callable[[], None]
) -> None:
    """It is decided again, on what is in the log: that the item exists would be false."""
    one_commit_fails()
    wanted = appointment()
    lost, kept = together(
        gateway,
        lambda: gateway.schedule(wanted, request=create_request("1", wanted)),
        lambda: gateway.schedule(wanted, request=create_request("2", wanted)),
    )
    assert isinstance(lost, OutcomeUnknown)
    assert (kept.status, kept.duplicate) == ("created", False)
    assert_sound(gateway, events=2)


def _save_in_many_threads_until_the_file_may_not_grow(path: Path, told: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    acknowledged, failed = [], []
    with opened(path) as gateway:
        asked(gateway, "FIRST")
        size = path.with_name(path.name + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500_000, resource.RLIM_INFINITY))

        def save(thread: int) -> None:
            for number in range(1000):
                name = f"ACC{thread}-{number}"
                try:
                    asked(gateway, name)
                except OutcomeUnknown:
                    failed.append(name)
                    return
                acknowledged.append(name)

        threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        told.send((acknowledged, failed, [asked(gateway, name).status for name in failed]))


def test_a_write_error_in_a_commit_that_many_share_is_acknowledged_to_none_of_them(path: Path) -> None:
    """A real one, from the kernel."""
    ours, theirs = multiprocessing.Pipe()
    work = _save_in_many_threads_until_the_file_may_not_grow
    child = multiprocessing.get_context("spawn").Process(target=work, args=(path, theirs))
    child.start()
    assert ours.poll(60)
    acknowledged, failed, retried = ours.recv()
    child.join()
    assert len(failed) == len(retried) == 8
    assert len(acknowledged) > 10
    with opened(path) as gateway:
        assert {row.accession_number for row in gateway.find_items(WorklistFilter())} == {
            "FIRST",
            *acknowledged,
            *failed,
        }
        assert_sound(gateway, events=2 * (1 + len(acknowledged) + len(failed)))


# --- waiting


def test_who_waits_in_vain_is_told_so_and_is_not_saved_afterwards(gateway: Gateway) -> None:
    done: list[str] = []
    shared = gateway.datastore.shared_commit
    outcomes: dict[int, Any] = {}
    with gateway.datastore.writer.transaction():
        leads = started(gateway, lambda: shared.save(lambda _: done.append("leads")), outcomes, 0)
        waits = started(gateway, lambda: shared.save(lambda _: done.append("waits"), patience=0.05), outcomes, 1)
        waits.join(10)
    leads.join(10)
    assert isinstance(outcomes[1], Contention)
    shared.save(lambda _: done.append("later"))
    assert done == ["leads", "later"]


def test_who_leads_waits_no_longer_for_another_process_either(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.path, isolation_level=None)) as prompt:
        prompt.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(Contention):
            gateway.datastore.shared_commit.save(lambda _: None, patience=0.05)
        assert time.monotonic() - began < PATIENCE / 2


def test_who_was_taken_along_is_told_the_outcome_however_long_it_takes(gateway: Gateway) -> None:
    shared = gateway.datastore.shared_commit

    def slow(_: sqlite3.Cursor) -> str:
        time.sleep(0.6)
        return "saved"

    assert together(gateway, lambda: shared.save(lambda _: None), lambda: shared.save(slow, patience=0.4))[1] == "saved"


def test_an_interrupt_of_who_waits_leaves_the_others_their_lead(gateway: Gateway) -> None:
    """Ctrl-C in a command that saves in its main thread."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    shared, done, go_on = gateway.datastore.shared_commit, [], threading.Event()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        leads = started(gateway, lambda: shared.save(lambda _: go_on.wait(30)), {}, 0)
        killer = threading.Thread(target=_interrupt_when_it_waits, args=(shared, threading.get_ident()))
        killer.start()
        with pytest.raises(KeyboardInterrupt):
            shared.save(lambda _: done.append("interrupted"))
        killer.join(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
        go_on.set()
    leads.join(10)
    shared.save(lambda _: done.append("next"))
    assert done == ["next"]


def _interrupt_when_it_waits(shared: shared_commit.SharedCommit, thread: int) -> None:
    while not shared.waiting:
        time.sleep(0.001)
    signal.pthread_kill(thread, signal.SIGUSR1)


def test_whoever_waits_behind_the_one_that_waits_for_another_process_is_told_at_once_when_the_gateway_stops(
    gateway: Gateway, path: Path
) -> None:
    outcomes: dict[int, Any] = {}
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        threads = [started(gateway, lambda: asked(gateway, "ACC001"), outcomes, number) for number in range(40)]
        began = time.monotonic()
        gateway.give_up_waiting()
        for thread in threads:
            thread.join(30)
        other.execute("ROLLBACK")
    assert Counter(kinds([*outcomes.values()])) == {"Contention": 40}
    assert time.monotonic() - began < 40 * 0.25 / 2
    assert positions(path) == []


# --- all at once


def test_under_stress_nothing_is_lost_or_done_twice_and_each_gets_its_own_answer(
    gateway: Gateway, bad_items: list[Any]
) -> None:
    """Eight callers: items of their own, items that all want, requests made twice, halves that conflict, bad ones."""
    bad_items.append(raising(ProjectionFailed()))
    gateway.save(receipt("taken"))
    outcomes: list[tuple[str, str]] = []

    def ask(kind: str, call: Call) -> None:
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the outcome
            outcomes.append((kind, type(error).__name__))
        else:
            said = ("duplicate " * answer.duplicate + answer.status) if isinstance(answer, ActionReply) else "saved"
            outcomes.append((kind, said))

    def caller(mine: int) -> None:
        for n in range(12):
            ask("own", lambda n=n: asked(gateway, f"OWN{mine}-{n}"))
            wanted = appointment(f"ALL{n}")
            ask("all", lambda n=n, w=wanted: gateway.schedule(w, request=create_request(f"all-{mine}-{n}", w)))
            ask("twice", lambda n=n, w=wanted: gateway.schedule(w, request=create_request(f"twice-{n}", w)))
            ask("half", lambda n=n: gateway.save(receipt(f"half-{mine}-{n}"), receipt("taken")))
            ask("bad", lambda n=n: asked(gateway, f"BAD{mine}-{n}"))

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    with statements(gateway) as seen:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    counted = Counter(outcomes)
    created = counted["all", "created"] + counted["twice", "created"]
    assert (
        counted["own", "created"] == counted["half", "IntegrityError"] == counted["bad", "ProjectionFailed"] == 8 * 12
    )
    assert created == 12
    assert counted["all", "created"] + counted["all", "exists"] == 8 * 12
    assert counted["twice", "created"] + counted["twice", "exists"] == 12
    assert counted["twice", "duplicate created"] + counted["twice", "duplicate exists"] == 7 * 12
    saves = 8 * 12 + 8 * 12 + 12
    assert_sound(gateway, events=1 + saves + 8 * 12 + created)
    assert gateway.count_by_status() == {"SCHEDULED": 8 * 12 + 12}
    assert Counter(seen)["COMMIT"] < saves
