"""A running service asks the doctor's questions of itself: the same checks, through its own doors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from ops_support import asynchronous, running

from bench.synthetic import appointment
from gateway.ops import emulated_unit, rehearsal
from gateway.ops.doctor.finding import Outcome, side_by_side
from gateway.ops.rehearsal import Rehearsal
from gateway.proof.doctor import checks
from gateway.proof.stage import stage
from gateway.service import Service
from gateway.settings import Settings


@asynchronous
async def test_a_running_service_examines_itself_and_rehearses(
    own_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, _):
        asked = checks(
            service.settings,
            service.gateway,
            port=service.dicom.port,
            asks_service=False,
            for_clinic=True,
            rehearses=True,
        )
        found = {one.name: one for one in await asyncio.to_thread(side_by_side, asked)}
    assert "service" not in found
    assert {name for name, one in found.items() if one.outcome is Outcome.FAILED} == set()
    assert found["dicom"].outcome is Outcome.OK
    assert found["rehearsal"].proven.startswith("the way is clear, but for what is not configured: relay, told begun")


@asynchronous
async def test_test_items_that_come_in_a_flood_are_performed_one_by_one(
    own_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated_unit, "_PAUSE", 0.0)
    async with running(own_settings(), monkeypatch) as (service, _):
        unit = service.emulated_unit
        assert unit is not None
        for number in range(3):
            service.gateway.schedule(appointment(f"TEST{number}"), is_test=True)
            await asyncio.to_thread(unit.take, f"TEST{number}")
        async with asyncio.timeout(20):
            while unit.check()["performed"] < 3:
                await asyncio.sleep(0.01)
        assert service.gateway.count_by_status(is_test=True) == {"COMPLETED": 3}
        assert service.gateway.count_by_status() == {}


@asynchronous
async def test_more_test_items_than_may_wait_are_left_to_the_test_callers(
    own_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, _):
        unit = service.emulated_unit
        assert unit is not None
        for number in range(emulated_unit.MOST_WAITING + 5):
            unit.take(f"TEST{number}")
        async with asyncio.timeout(20):
            while not unit.check()["waiting"]:
                await asyncio.sleep(0.01)
        assert unit.check()["waiting"] <= emulated_unit.MOST_WAITING


def rehearse(service: Service) -> None:
    """One from beginning to end."""
    hops = list(Rehearsal(stage(service.settings, service.gateway, port=service.dicom.port)).rehearsed())
    assert not [hop for hop in hops if hop.outcome is Outcome.FAILED]


@asynchronous
async def test_what_a_rehearsal_that_was_killed_has_left_is_ended_by_the_next_one(
    own_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (service, _):
        killed = Rehearsal(stage(service.settings, service.gateway, port=service.dicom.port)).rehearsed()
        for _ in range(4):  # up to N-CREATE
            await asyncio.to_thread(next, killed)
        await asyncio.to_thread(rehearse, service)
        assert service.gateway.count_by_status(is_test=True) == {"COMPLETED": 1, "IN PROGRESS": 1}
        monkeypatch.setattr(rehearsal, "_ABANDONED_AFTER", timedelta(0))
        await asyncio.to_thread(rehearse, service)
        assert service.gateway.count_by_status(is_test=True) == {"COMPLETED": 2, "DISCONTINUED": 1}
        assert service.gateway.find_updates(state="waiting", is_test=True) == []
        await asyncio.to_thread(killed.close)
