"""Long answers rest, scans go one at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.errors import TooMuchAsked
from gateway.eventstore.turns import Turns


def compute(seconds: float) -> None:
    """Keep this thread's processor busy for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def take(things: Iterable[int]) -> list[int]:
    taken = []
    for thing in things:
        compute(0.002)
        taken.append(thing)
    return taken


def test_a_long_answer_rests_three_times_as_long_as_it_computes() -> None:
    began = time.monotonic()
    assert take(Turns().slowly(range(20))) == list(range(20))
    assert time.monotonic() - began >= 20 * 0.002 * (1 + 3)


def test_several_long_answers_rest_after_each_other() -> None:
    turns, began = Turns(), time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        for taken in [threads.submit(take, turns.slowly(range(5))) for _ in range(4)]:
            assert taken.result() == list(range(5))
    assert time.monotonic() - began >= 4 * 5 * 0.002 * 3


def test_what_computes_next_to_nothing_does_not_rest() -> None:
    turns = Turns()
    assert list(turns.slowly(range(3))) == [0, 1, 2]
    assert turns._free_at == 0.0


def test_a_scan_that_waits_too_long_is_refused_with_what_to_do() -> None:
    turns = Turns(patience=0.01)
    with turns.scan(), pytest.raises(TooMuchAsked, match="no index serves"), turns.scan():
        raise AssertionError("two scans at a time")
    with turns.scan():
        pass


def test_a_scan_that_fails_gives_its_turn_back() -> None:
    turns = Turns(patience=0.01)
    with pytest.raises(ZeroDivisionError), turns.scan():
        raise ZeroDivisionError
    with turns.scan():
        pass
