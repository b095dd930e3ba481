"""A save that ends in an I/O error: the outcome is unknown, nothing is half-written, and the retry finds out."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import appointment, create_request, naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.errors import DiskFull, OutcomeUnknown, StoreUnusable
from gateway.eventstore.connections import Writer


def fill_the_disk(gateway: Gateway) -> None:
    """This connection may not add a page any more; the one that replaces it may."""
    with gateway.datastore.writer.transaction() as cursor:
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages}")


def use_up_what_room_there_was(gateway: Gateway) -> None:
    for number in range(1000):
        schedule(gateway, f"FILL{number}")


def test_a_full_disk_leaves_the_outcome_unknown_and_says_what_to_check(gateway: Gateway) -> None:
    schedule(gateway)
    fill_the_disk(gateway)
    with pytest.raises(DiskFull, match="full") as failure:
        start(gateway, step_uid(1), naming(), attribute_list=b"x" * 100_000)
    assert failure.value.retryable
    assert "the disk has room" in failure.value.remedy


def test_nothing_of_a_failed_save_is_left_and_the_next_one_works(gateway: Gateway, path: Path) -> None:
    schedule(gateway)
    before = [*sqlite3.connect(path).iterdump()]
    fill_the_disk(gateway)
    with pytest.raises(OutcomeUnknown):
        start(gateway, step_uid(1), naming(), attribute_list=b"x" * 100_000)
    assert [*sqlite3.connect(path).iterdump()] == before
    assert start(gateway, step_uid(1), naming()).accession_numbers == ("ACC001",)
    assert gateway.verify_chain().intact
    assert gateway.verify_projections() == []


def test_the_retry_of_a_request_whose_save_failed_is_done_once(gateway: Gateway) -> None:
    schedule(gateway)
    wanted = appointment("ACC002", study_description="x" * 64)
    asked = create_request("again", wanted)
    fill_the_disk(gateway)
    with pytest.raises(OutcomeUnknown):
        use_up_what_room_there_was(gateway)
    first, second = gateway.schedule(wanted, request=asked), gateway.schedule(wanted, request=asked)
    assert [(r.status, r.duplicate) for r in (first, second)] == [("created", False), ("created", True)]


def test_the_retry_of_a_request_whose_commit_succeeded_unseen_is_answered_from_its_receipt(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is in the file, then the connection fails before it says so."""
    wanted = appointment()
    asked = create_request("1", wanted)
    real = Writer._attempt

    def committed_then_lost(self: Any, deadline: float) -> Any:
        yield from real(self, deadline)
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_attempt", committed_then_lost)
        with pytest.raises(OutcomeUnknown):
            gateway.schedule(wanted, request=asked)
    reply = gateway.schedule(wanted, request=asked)
    assert (reply.status, reply.duplicate) == ("created", True)


def _save_until_the_file_may_not_grow(path: Path, told: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(path) as gateway:
        wal = path.with_name(path.name + "-wal")
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 1_000_000, resource.RLIM_INFINITY))
        acknowledged = []
        try:
            for number in range(1000):
                schedule(gateway, f"ACC{number}")
                acknowledged.append(f"ACC{number}")
        except OutcomeUnknown as failure:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            wanted = appointment(f"ACC{len(acknowledged)}")
            reply = gateway.schedule(wanted, request=create_request(f"create-{wanted.accession_number}", wanted))
            told.send((acknowledged, str(failure), reply.status))


def test_a_file_that_can_not_grow_loses_nothing_that_was_acknowledged(path: Path) -> None:
    """A real write error, from the kernel, in the middle of the WAL."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_save_until_the_file_may_not_grow, args=(path, theirs))
    child.start()
    assert ours.poll(60)
    acknowledged, failure, retried = ours.recv()
    child.join()
    assert (retried, child.exitcode) == ("created", 0), failure
    with opened(path) as gateway:
        assert gateway.count_by_status() == {"SCHEDULED": len(acknowledged) + 1}
        assert len(acknowledged) > 10
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []


def test_an_mpps_that_was_not_taken_is_taken_when_it_comes_again(gateway: Gateway) -> None:
    schedule(gateway)
    fill_the_disk(gateway)
    big = {"attribute_list": b"x" * 100_000}
    with pytest.raises(OutcomeUnknown):
        start(gateway, step_uid(1), naming(), **big)
    start(gateway, step_uid(1), naming(), **big)
    assert gateway.count_by_status() == {"IN PROGRESS": 1}


def test_a_store_whose_saves_fail_is_unwell_until_one_works_again_without_anybody_saving(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Any:
        raise sqlite3.OperationalError("disk I/O error")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_attempt", failing)
        with pytest.raises(OutcomeUnknown):
            schedule(gateway)
        with pytest.raises(StoreUnusable, match=r"saves fail: .*disk I/O error"):
            gateway.check_store()
    assert gateway.check_store() == 0


def _ask_whether_it_is_well(path: Path, told: Connection) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with opened(path) as gateway:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        answers = []
        try:
            use_up_what_room_there_was(gateway)
        except OutcomeUnknown:
            for _ in range(5):  # small writes still fit: they must not pass for health
                try:
                    gateway.check_store()
                except StoreUnusable:
                    answers.append("unwell")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answers.append("well" if gateway.check_store() else "empty")
        told.send(answers)


def test_where_only_small_writes_succeed_the_store_is_unwell_until_there_is_room(path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_ask_whether_it_is_well, args=(path, theirs))
    child.start()
    assert ours.poll(60)
    assert ours.recv() == ["unwell"] * 5 + ["well"]
    child.join()
