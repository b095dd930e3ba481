"""Renewal where the issuer gives the same token until shortly before its end, as Microsoft Entra's client does.

Times are scaled: a second stands for minutes or hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from relay import HybridConnection, Sender, SharedAccessSignature
from relay.emulator import Emulator
from tests.relay.entra_support import Issuer
from tests.relay.support import KEY_NAME, asynchronous, emulator, listening, until

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"echo_interval": (0.2, 0.4), "echo_timeout": 2, "first_retry": 0.05, "longest_retry": 0.2}


@asynccontextmanager
async def entra_relay(issuer: Issuer, **options: Any) -> AsyncIterator[tuple[Emulator, HybridConnection]]:
    """An emulator that takes bearer tokens, and a hybrid connection whose credential is the issuer."""
    async with emulator(accepts_bearer=lambda _token: True, **options) as relay:
        yield relay, replace(relay.hybrid_connection("actions", KEY_NAME), credential=issuer)


@asynccontextmanager
async def sending(relay: Emulator) -> AsyncIterator[None]:
    """Somebody who sends all the time, and is answered each time."""
    sender, over = Sender(relay.hybrid_connection("actions", KEY_NAME)), asyncio.Event()

    async def send() -> None:
        while not over.is_set():
            assert await sender.send("hello") == "hello"

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        over.set()
        await task


@pytest.mark.parametrize(
    ("life", "window", "margin"),
    [
        pytest.param(2.0, 1.0, 0.1, id="24 hours, a newer one from half of its life on"),
        pytest.param(1.0, 0.5, 0.1, id="10 minutes, a newer one in its last 5"),
        pytest.param(4.8, 0.4, 0.08, id="1 hour, a newer one in its last 5 minutes"),
    ],
)
@asynchronous
async def test_a_newer_token_is_taken_as_soon_as_there_is_one_on_the_same_channel_and_no_sender_notices(
    life: float, window: float, margin: float
) -> None:
    issuer = Issuer(life, window)
    async with (
        entra_relay(issuer, token_grace=0) as (relay, connection),
        listening(connection, token_margin=margin, **QUICK) as listener,
        sending(relay),
    ):
        await until(lambda: relay.log.count("renew", 200) >= 2, 15)
        assert listener.status().reconnects == 0
        assert relay.log.count("renew") <= issuer.issued
    assert relay.log.count("connect", 404) == 0
    assert relay.log.outages("actions") == []


@asynchronous
async def test_an_issuer_that_is_away_for_a_while_is_named_and_costs_nobody_anything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = Issuer(3.0, 2.0)
    async with (
        entra_relay(issuer, token_grace=0) as (relay, connection),
        listening(connection, token_margin=0.2, **QUICK) as listener,
        sending(relay),
    ):
        issuer.away = True
        await until(lambda: listener.status().renewal_error)
        assert "no token could be had" in (listener.status().renewal_error or "")
        assert listener.state == "hearing"
        issuer.away = False
        await until(lambda: relay.log.count("renew", 200))
        assert listener.status().renewal_error is None
        assert listener.status().reconnects == 0
    assert relay.log.count("connect", 404) == 0
    assert "token_not_renewed" in [record.message for record in caplog.records]


@asynchronous
async def test_an_issuer_that_stays_away_beyond_the_end_is_asked_until_it_is_back() -> None:
    issuer = Issuer(1.0, 0.5)
    async with (
        entra_relay(issuer, token_grace=0) as (relay, connection),
        listening(connection, token_margin=0.2, **QUICK) as listener,
    ):
        issuer.away = True
        await until(lambda: relay.listeners("actions") == 0)
        await until(lambda: "no token could be had" in (listener.status().last_error or ""))
        issuer.away = False
        await until(lambda: relay.listeners("actions") == 1)
        await until(lambda: listener.state == "hearing")
        assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_an_issuer_that_has_no_newer_token_by_the_margin_gets_a_second_channel_before_the_end() -> None:
    issuer = Issuer(2.0, 0.05)
    async with (
        entra_relay(issuer, token_grace=1) as (relay, connection),
        listening(connection, token_margin=0.2, **QUICK) as listener,
        sending(relay),
    ):
        await until(lambda: issuer.issued >= 2 and listener.status().reconnects >= 1)
        await until(lambda: relay.listeners("actions") == 1)
    assert relay.log.count("connect", 404) == 0
    assert relay.log.outages("actions") == []


@asynchronous
async def test_a_static_signature_is_asked_for_once_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with emulator() as relay:
        good = relay.hybrid_connection("actions", KEY_NAME)
        fixed = SharedAccessSignature(relay.credential(KEY_NAME).token(good.resource_uri, timedelta(seconds=3)).value)
        async with listening(replace(good, credential=fixed), echo_interval=None) as listener:
            expires_at = listener.status().token_expires_at
            assert expires_at
            await until(lambda: listener.options.now() > expires_at)
    assert [record.message for record in caplog.records].count("token_cannot_be_renewed") == 1
    assert relay.log.count("renew") == 0
