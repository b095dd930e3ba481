"""The relay's page: whether it is heard and by which proof, how the token stands, what failed in which phase."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ops_support import asynchronous, running
from window_support import Browser, Make, text

from relay import HybridConnection, Sender
from relay.emulator import Emulator

KEY = "bm90LWEtcmVhbC1rZXk="


@asynccontextmanager
async def hearing(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> AsyncIterator[tuple[HybridConnection, int]]:
    """A service that hears through an emulator; gives the hybrid connection of its actions, and its ops port."""
    async with Emulator(hybrid_connections=["actions", "events"], keys={"gateway": KEY}) as relay:
        settings = own_settings(
            azure_relay_connection_string=relay.connection_string("gateway"),
            azure_relay_hybrid_connection="actions",
            azure_relay_events_hybrid_connection="events",
            **changes,
        )
        async with running(settings, monkeypatch) as (service, port):
            await service.hearing.wait()
            yield relay.hybrid_connection("actions", "gateway"), port


@asynchronous
async def test_without_a_relay_it_says_so_and_what_to_set(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        page, told = await Browser(port).get("/relay"), await Browser(port).get("/relay.json")
    assert (page.status, told.json["state"], told.json["delivery"]["state"]) == (
        200,
        "not configured",
        "not configured",
    )
    assert "AZURE_RELAY_NAMESPACE" in text(page)


@asynchronous
async def test_a_relay_that_is_heard_is_told_with_its_proof_its_token_and_its_rendezvous(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(own_settings, monkeypatch) as (connection, port):
        await Sender(connection).send("{}")
        page, told = await Browser(port).get("/relay"), await Browser(port).get("/relay.json")
    listener = told.json["listener"]
    assert (told.json["state"], listener["proven_by"], listener["reconnects"]) == ("hearing", "echo", 0)
    assert listener["last_proof"]
    assert told.json["proven_ago"].endswith("ago")
    assert 95 <= told.json["token_left_percent"] <= 100
    assert listener["rendezvous_served"] >= 1
    assert "None since the start" in text(page)
    assert KEY not in text(page) + text(told)


@asynchronous
async def test_what_failed_is_told_by_phase_with_what_to_do(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(own_settings, monkeypatch, gateway_relay_first_message_seconds=0.1) as (connection, port):
        silent = await Sender(connection).open()
        await silent.wait_closed()
        async with asyncio.timeout(5):
            while not (told := await Browser(port).get("/relay.json")).json["listener"]["errors_by_phase"]:
                pass  # the sender hears of the end a moment before it is counted
        page = await Browser(port).get("/relay")
    assert told.json["listener"]["errors_by_phase"] == {"first-message": 1}
    (failure,) = told.json["listener"]["latest_failures"]
    assert (failure["code"], failure["remedy"]) == ("silent", "Look at the sending side.")
    assert "first-message" in text(page)
    assert "Look at the sending side." in text(page)
