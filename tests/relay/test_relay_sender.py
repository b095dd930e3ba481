from __future__ import annotations

import asyncio

import pytest

from relay import HybridConnection, Message, RelayError, Sender, SenderOptions, SharedAccessKey
from relay.emulator import AccessKey, Right
from relay.listener import TOKEN_HEADER
from relay.protocol import reject_address
from tests.relay.raw import raw_listener
from tests.relay.support import KEY, KEY_NAME, asynchronous, emulator, listening, until


async def failure(connection: HybridConnection, **options: float) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await Sender(connection, SenderOptions(**options)).send("hello")
    return caught.value


@asynchronous
async def test_nobody_listening_is_a_failed_connection() -> None:
    async with emulator() as relay:
        error = await failure(relay.hybrid_connection("actions", KEY_NAME))
    assert (error.phase, error.status, error.connection_failed) == ("upgrade", 404, True)
    assert error.tracking_id


@asynchronous
async def test_a_relay_that_is_not_there_is_a_failed_connection() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
    error = await failure(connection)
    assert (error.phase, error.code, error.connection_failed) == ("tcp", "refused", True)


@asynchronous
async def test_a_wrong_key_is_refused_with_401() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            wrong = HybridConnection(connection.namespace, "actions", SharedAccessKey(KEY_NAME, "wrong-key"))
            error = await failure(wrong)
    assert (error.status, error.connection_failed) == (401, True)
    assert "wrong-key" not in str(error)


@asynchronous
async def test_a_key_without_the_send_right_is_refused_with_403() -> None:
    keys = {KEY_NAME: AccessKey(KEY, frozenset({Right.LISTEN}))}
    async with emulator(keys=keys) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            assert (await failure(connection)).status == 403


@asynchronous
async def test_an_unknown_hybrid_connection_is_refused_with_404() -> None:
    async with emulator() as relay:
        assert (await failure(relay.hybrid_connection("nowhere", KEY_NAME))).status == 404


@asynchronous
async def test_a_listener_that_hears_and_says_nothing_is_not_a_failed_connection() -> None:
    heard = asyncio.Event()

    async def handle(_message: Message) -> str:
        heard.set()
        await asyncio.Event().wait()
        return ""

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, handle) as listener:
            error = await failure(connection, ack=0.2)
            assert heard.is_set()
            assert (error.phase, error.code, error.connection_failed) == ("ack", "no_answer", False)
            await listener.stop(0)


@asynchronous
async def test_a_listener_that_closes_without_an_answer_is_told_with_its_close_code() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, max_message_size=10):
            with pytest.raises(RelayError) as caught:
                await Sender(connection).send("x" * 11)
    assert (caught.value.phase, caught.value.close_code) == ("ack", 1009)
    assert not caught.value.connection_failed


@asynchronous
async def test_a_listener_that_is_connected_and_deaf_is_a_504_after_the_window() -> None:
    async with emulator(accept_window=0.2) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            await relay.faults.begin("withhold")
            error = await failure(connection)
    assert (error.status, error.phase) == (504, "upgrade")


@asynchronous
async def test_a_listener_may_reject_a_sender_with_a_status_of_its_own() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection) as listener:
            relay.faults.accept_address = lambda address: reject_address(address, 418, "no tea here")
            error = await failure(connection)
            await until(lambda: listener.status().rendezvous_failed == 1)
        assert relay.log.count("accept", 410) == 1
    assert error.status == 418


@asynchronous
async def test_a_binary_answer_is_not_taken_for_text() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with raw_listener(relay, "actions") as control, asyncio.TaskGroup() as group:
            sending = group.create_task(failure(connection))
            async with await control.meet() as websocket:
                await websocket.recv()
                await websocket.send(b"\x00")
        assert sending.result().code == "binary_answer"


def test_the_token_travels_in_a_header() -> None:
    assert TOKEN_HEADER == "ServiceBusAuthorization"
