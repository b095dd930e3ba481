"""Another process holds the file: saves wait their turn, health says so, a stop does not wait for it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.errors import Contention, StoreUnusable
from tests.patient_loop import PatientClock


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As a `sqlite3` prompt that began to write and was left alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def waited(gateway: Gateway, patience: float) -> float:
    """Seconds until a save that waits for so long gives up, those aside in which the machine stood still."""
    with PatientClock() as clock:
        began = clock.time()
        with pytest.raises(Contention), gateway.datastore.writer.transaction(patience):
            pass
        return clock.time() - began


def test_a_save_waits_its_turn_and_no_longer(gateway: Gateway, path: Path) -> None:
    with held(path):
        began = time.monotonic()
        assert waited(gateway, 0.3) < 2
        assert time.monotonic() - began >= 0.3
    schedule(gateway)


def test_it_is_saved_as_soon_as_the_other_lets_go(gateway: Gateway, path: Path) -> None:
    saving = threading.Thread(target=schedule, args=(gateway,))
    with held(path):
        saving.start()
        while not gateway.datastore.writer.held_up:
            time.sleep(0.001)
    saving.join(10)
    assert gateway.count_by_status() == {"SCHEDULED": 1}


def test_saves_that_queue_behind_one_another_wait_no_longer_than_one_does(gateway: Gateway, path: Path) -> None:
    seconds: list[float] = []
    waiters = [threading.Thread(target=lambda: seconds.append(waited(gateway, 0.5))) for _ in range(5)]
    with held(path):
        for waiter in waiters:
            waiter.start()
        for waiter in waiters:
            waiter.join(20)
    assert len(seconds) == 5
    assert max(seconds) < 2


def test_health_says_that_saves_wait_in_vain_until_one_can_be_made_again(gateway: Gateway, path: Path) -> None:
    with held(path):
        waited(gateway, 0.1)
        with pytest.raises(StoreUnusable, match="held by another process") as unwell:
            gateway.check_store()
        assert "sqlite3 prompt" in unwell.value.remedy
    assert gateway.check_store() == 0


def test_health_says_so_while_the_first_one_still_waits(
    gateway: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.application.checks._HELD_UP_TOO_LONG", 0.05)
    saving = threading.Thread(target=schedule, args=(gateway,))
    with held(path):
        saving.start()
        while gateway.datastore.writer.held_up < 0.1:
            time.sleep(0.001)
        with pytest.raises(StoreUnusable, match="saves wait in vain"):
            gateway.check_store()
    saving.join(10)
    assert gateway.check_store() > 0


def test_whoever_waits_when_the_gateway_stops_is_told_at_once(gateway: Gateway, path: Path) -> None:
    seconds: list[float] = []
    waiters = [threading.Thread(target=lambda: seconds.append(waited(gateway, 60))) for _ in range(5)]
    with held(path):
        for waiter in waiters:
            waiter.start()
        while not gateway.datastore.writer.held_up:
            time.sleep(0.001)
        gateway.give_up_waiting()
        for waiter in waiters:
            waiter.join(20)
    assert len(seconds) == 5
    assert max(seconds) < 5
