"""Pages that are loaded without a pause leave three quarters of a processor to others."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from ops_support import asynchronous

from gateway.ops.window import pace as pace_module
from gateway.ops.window.pace import _LONGEST, Pace


def page(seconds: float = 0.0) -> str:
    """Keep this thread's processor busy for so long."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return "page"


@asynchronous
async def test_the_next_page_waits_three_times_as_long_as_this_one_computed() -> None:
    pace, began = Pace(), time.monotonic()
    for _ in range(11):
        assert await pace.make(page, 0.002) == "page"
    assert time.monotonic() - began >= 11 * 0.002 + 10 * 3 * 0.002


@asynchronous
async def test_so_it_is_when_many_ask_at_once() -> None:
    pace, began = Pace(), time.monotonic()
    await asyncio.gather(*(pace.make(page, 0.002) for _ in range(8)))
    assert time.monotonic() - began >= 8 * 0.002 + 7 * 3 * 0.002


@asynchronous
async def test_after_a_long_one_it_waits_no_longer_than_a_person_notices() -> None:
    pace = Pace()
    await pace.make(page, 0.02)
    assert pace._free_at <= time.monotonic() + _LONGEST


@asynchronous
async def test_a_page_that_hangs_holds_up_the_others_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module, "_PATIENCE", 0.05)
    pace, over = Pace(), threading.Event()
    hanging = asyncio.create_task(pace.make(over.wait, 30))
    try:
        assert await pace.make(page) == "page"
        assert not hanging.done()
    finally:
        over.set()
    assert await hanging


@asynchronous
async def test_a_page_that_fails_has_computed_too() -> None:
    pace = Pace()

    def failing() -> None:
        page(0.002)
        raise KeyError("why")

    began = time.monotonic()
    with pytest.raises(KeyError, match="why"):
        await pace.make(failing)
    await pace.make(page)
    assert time.monotonic() - began >= 0.002 + 3 * 0.002
