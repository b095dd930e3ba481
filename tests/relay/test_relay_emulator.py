"""The emulator, seen through bare websockets: the rules of the protocol guide and what Microsoft's clients need."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from relay import ConfigurationError, ConnectionString, Namespace, Sender
from relay.emulator import Emulator, EmulatorOptions, Entity, emulate
from tests.relay.raw import knock, raw_listener, token
from tests.relay.support import KEY, KEY_NAME, asynchronous, emulator, listening, until

LISTEN = "/$hc/actions?sb-hc-action=listen"
CONNECT = "/$hc/actions?sb-hc-action=connect"


async def refused(relay: Emulator, target: str, **options: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await knock(relay, target, **options)
    return caught.value.response.status_code, caught.value.response.reason_phrase


@asynchronous
async def test_an_accept_carries_all_that_hyco_needs() -> None:
    async with emulator() as relay, raw_listener(relay) as control, asyncio.TaskGroup() as group:
        headers = {"ServiceBusAuthorization": token(relay), "X-Own": "1"}
        group.create_task(_and_close(knock(relay, CONNECT + "&sb-hc-token=", headers=headers)))
        accept = (await control.hear())["accept"]
        assert accept["address"].startswith(f"ws://127.0.0.1:{relay.port}/$hc/actions?sb-hc-action=accept&sb-hc-id=")
        assert accept["id"] in accept["address"]
        assert accept["connectHeaders"]["Sec-WebSocket-Key"]
        assert accept["connectHeaders"]["X-Own"] == "1"
        assert "ServiceBusAuthorization" not in accept["connectHeaders"]
        assert accept["remoteEndpoint"]["address"] == "127.0.0.1"
        await (await knock(relay, accept["address"], headers={})).close()


async def _and_close(opening: object) -> None:
    await (await opening).close()


@asynchronous
async def test_the_accept_address_leads_where_the_listener_dialled() -> None:
    async with emulator(accept_window=0.2) as relay:
        websocket = await knock(relay, f"ws://localhost:{relay.port}{LISTEN}", family=socket.AF_INET)
        connecting = asyncio.create_task(refused(relay, CONNECT))
        assert f"ws://localhost:{relay.port}/" in await websocket.recv()
        assert (await connecting)[0] == 504
        await websocket.close()


@asynchronous
async def test_the_senders_upgrade_is_held_until_the_listener_has_come() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT))
        accept = (await control.hear())["accept"]
        assert not connecting.done()
        rendezvous = await knock(relay, accept["address"], headers={})
        sender = await connecting
        await sender.send("text")
        await rendezvous.send(b"binary")
        assert (await rendezvous.recv(), await sender.recv()) == ("text", b"binary")
        await sender.close()


@asynchronous
async def test_a_rendezvous_address_works_once() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT))
        accept = (await control.hear())["accept"]
        await knock(relay, accept["address"], headers={})
        assert (await refused(relay, accept["address"], headers={}))[0] == 403
        await (await connecting).close()


@asynchronous
async def test_a_rendezvous_address_dies_with_its_sender() -> None:
    async with emulator(accept_window=0.1) as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(refused(relay, CONNECT))
        accept = (await control.hear())["accept"]
        assert (await connecting)[0] == 504
        assert (await refused(relay, accept["address"], headers={}))[0] == 403


@asynchronous
async def test_a_sender_that_hangs_up_while_waiting_frees_its_address() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT))
        accept = (await control.hear())["accept"]
        connecting.cancel()
        await until(lambda: not relay._meetings)
        assert (await refused(relay, accept["address"], headers={}))[0] == 403


@pytest.mark.parametrize("prefix", ["sb-hc-", ""], ids=["as in the guide", "as hyco-ws does"])
@asynchronous
async def test_a_listener_rejects_a_sender(prefix: str) -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(refused(relay, CONNECT))
        accept = (await control.hear())["accept"]
        reject = f"{accept['address']}&{prefix}statusCode=403&{prefix}statusDescription=not%20you"
        assert (await refused(relay, reject, headers={}))[0] == 410
        status, reason = await connecting
    assert status == 403
    assert reason.startswith("not you. TrackingId:")


@pytest.mark.parametrize("code", [1000, 1009, 1011, 3000, 4321])
@pytest.mark.parametrize("who", ["sender", "listener"])
@asynchronous
async def test_close_codes_go_through_from_end_to_end(who: str, code: int) -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT))
        rendezvous = await control.meet()
        sender = await connecting
        one, other = (sender, rendezvous) if who == "sender" else (rendezvous, sender)
        await one.close(code, "because")
        await other.wait_closed()
    assert (other.close_code, other.close_reason) == (code, "because")


@pytest.mark.parametrize("who", ["sender", "listener"])
@asynchronous
async def test_all_that_was_said_before_closing_arrives_at_a_side_that_talks_first_and_listens_later(who: str) -> None:
    size, slow = 4 * 1024 * 1024, {"max_size": None, "max_queue": 1}
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT, **slow))
        rendezvous = await control.meet(**slow)
        sender = await connecting
        one, other = (sender, rendezvous) if who == "sender" else (rendezvous, sender)
        await _send_all(one, [b"x" * size] * 12)
        await one.close(4321, "because")
        await other.send("nobody hears this")
        for _ in range(12):
            assert len(await other.recv()) == size
        await other.wait_closed()
    assert (other.close_code, other.close_reason) == (4321, "because")


@pytest.mark.parametrize("who", ["sender", "listener"])
@asynchronous
async def test_a_side_that_vanishes_is_a_1001_at_the_other(who: str) -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT))
        rendezvous = await control.meet()
        sender = await connecting
        one, other = (sender, rendezvous) if who == "sender" else (rendezvous, sender)
        one.transport.abort()
        await other.wait_closed()
    assert other.close_code == 1001


@asynchronous
async def test_large_messages_go_through_with_backpressure() -> None:
    size = 8 * 1024 * 1024
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT, max_size=None))
        rendezvous = await control.meet(max_size=None)
        sender = await connecting
        sending = asyncio.create_task(_send_all(sender, [b"x" * size] * 8))
        for _ in range(8):
            assert len(await rendezvous.recv()) == size
        await sending
        await sender.close()


async def _send_all(websocket: object, frames: list[bytes]) -> None:
    for frame in frames:
        await websocket.send(frame)


@asynchronous
async def test_the_first_subprotocol_goes_to_the_listener_and_back_to_the_sender() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        connecting = asyncio.create_task(knock(relay, CONNECT, subprotocols=["one", "two"]))
        rendezvous = await control.meet(subprotocols=["one"])
        sender = await connecting
        assert (rendezvous.subprotocol, sender.subprotocol) == ("one", "one")
        await sender.close()


@asynchronous
async def test_compression_is_never_agreed_to() -> None:
    async with emulator() as relay, raw_listener(relay, compression="deflate") as control:
        assert "Sec-WebSocket-Extensions" not in control.websocket.response.headers


@pytest.mark.parametrize("target", ["/$hc/actions", "/%24hc/actions", "/$hc/ACTIONS", "/$hc/actions/deeper"])
@asynchronous
async def test_addresses_are_taken_in_every_usual_spelling(target: str) -> None:
    async with emulator() as relay, await knock(relay, f"{target}?x=1&sb-hc-action=listen"):
        await relay.wait_for_listeners("Actions")


@asynchronous
async def test_the_header_named_0_that_hyco_sends_is_tolerated() -> None:
    async with emulator() as relay:
        headers = {"ServiceBusAuthorization": token(relay), "0": "Sec-WebSocket-Extensions: permessage-deflate"}
        await (await knock(relay, LISTEN, headers=headers)).close()


@asynchronous
async def test_the_token_is_found_in_all_three_places() -> None:
    async with emulator() as relay:
        for target, headers in [
            (f"{LISTEN}&sb-hc-token={quote(token(relay), safe='')}", {}),
            (LISTEN, {"ServiceBusAuthorization": token(relay)}),
            (LISTEN, {"Authorization": token(relay)}),
        ]:
            await (await knock(relay, target, headers=headers)).close()


@asynchronous
async def test_refusals_tell_their_reason_and_a_tracking_id() -> None:
    async with emulator("actions", "open") as relay:
        bad = {"ServiceBusAuthorization": token(relay)[:-3] + "xxx"}
        expired = {"ServiceBusAuthorization": token(relay, lifetime=timedelta(seconds=-1))}
        for target, headers, status, word in [
            (LISTEN, {}, 401, "MissingToken"),
            (LISTEN, bad, 401, "InvalidSignature"),
            (LISTEN, expired, 401, "ExpiredToken"),
            (LISTEN, {"ServiceBusAuthorization": token(relay, "open")}, 401, "InvalidAudience"),
            (LISTEN, {"ServiceBusAuthorization": "Bearer abc"}, 401, "InvalidToken"),
            (
                "/$hc/nowhere?sb-hc-action=listen",
                {"ServiceBusAuthorization": token(relay, "")},
                404,
                "Endpoint does not",
            ),
            (CONNECT, None, 404, "There are no listeners"),
            ("/$hc/actions?sb-hc-action=accept&sb-hc-id=7", {}, 403, "Forbidden"),
            ("/$hc/actions?sb-hc-action=dance", None, 400, "BadRequest"),
            ("/actions?sb-hc-action=listen", None, 400, "BadRequest"),
        ]:
            found, reason = await refused(relay, target, headers=headers)
            assert found == status, target
            assert word in reason
            assert "TrackingId:" in reason


@asynchronous
async def test_bearer_tokens_are_taken_in_all_forms_when_somebody_vouches_for_them() -> None:
    async with emulator(accepts_bearer=lambda text: text == "abc") as relay:
        for headers in ({"Authorization": "Bearer abc"}, {"ServiceBusAuthorization": "abc"}):
            await (await knock(relay, LISTEN, headers=headers)).close()
        await (await knock(relay, LISTEN + "&sb-hc-token=Bearer%20abc", headers={})).close()
        assert (await refused(relay, LISTEN, headers={"Authorization": "Bearer xyz"}))[0] == 401


@asynchronous
async def test_senders_need_no_token_where_none_is_required_but_listeners_do() -> None:
    relay = Emulator(hybrid_connections=[Entity("actions", requires_client_authorization=False)], keys={KEY_NAME: KEY})
    async with relay:
        assert (await refused(relay, LISTEN, headers={}))[0] == 401
        assert (await refused(relay, CONNECT, headers={}))[0] == 404


@asynchronous
async def test_the_twenty_sixth_listener_is_refused() -> None:
    async with emulator() as relay:
        listeners = [await knock(relay, LISTEN) for _ in range(25)]
        status, reason = await refused(relay, LISTEN)
        assert (status, "QuotaExceeded" in reason) == (429, True)
        await asyncio.gather(*(each.close() for each in listeners))
        await relay.wait_for_listeners("actions", 0)


def test_by_default_a_channel_outlives_its_token_by_five_minutes() -> None:
    assert EmulatorOptions().token_grace == 300


@pytest.mark.slow
@asynchronous
async def test_a_channel_is_closed_with_1008_when_its_token_and_the_grace_are_over_and_not_before() -> None:
    async with emulator(token_grace=1) as relay:
        short = relay.credential(KEY_NAME).token("http://127.0.0.1/actions", timedelta(seconds=2))
        async with await knock(relay, LISTEN, headers={"ServiceBusAuthorization": short.value}) as websocket:
            await websocket.wait_closed()
    assert websocket.close_code == 1008
    assert timedelta(seconds=1) <= datetime.now(UTC) - short.expires_at < timedelta(seconds=3)


@asynchronous
async def test_a_bad_renewal_closes_the_channel_with_1008_and_a_good_one_is_not_answered() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        await control.websocket.send(json.dumps({"renewToken": {"token": token(relay)}}))
        await until(lambda: relay.log.count("renew", 200) == 1)
        await control.websocket.send(json.dumps({"renewToken": {"token": "nonsense"}}))
        with pytest.raises(ConnectionClosed) as caught:
            await control.websocket.recv()
        assert caught.value.rcvd.code == 1008


@asynchronous
async def test_the_emulator_survives_garbage_from_a_listener() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        for frame in ("", "{", b"", b"\xff", '{"response": {"requestId": "nobody", "statusCode": "x"}}'):
            await control.websocket.send(frame)
        connecting = asyncio.create_task(knock(relay, CONNECT))
        await (await control.meet()).close()
        await (await connecting).close()


@pytest.mark.parametrize(
    "noise", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n", b"nonsense\r\n\r\n", b"A" * 200_000]
)
@asynchronous
async def test_the_emulator_survives_noise_at_its_door_and_stops_at_once(noise: bytes) -> None:
    async with emulator() as relay:
        _reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(noise)
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            assert await Sender(connection).send("hello") == "hello"
    writer.close()


def ask_and_vanish(relay: Emulator) -> None:
    """Ask for a sender's rendezvous and reset the connection before anybody has read the request."""
    request = (
        f"GET {CONNECT} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"ServiceBusAuthorization: {token(relay)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", relay.port)) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sender.sendall(request.encode())


@asynchronous
async def test_a_listener_that_came_for_a_sender_which_had_left_holds_up_nobody_and_no_stop() -> None:
    async with emulator() as relay, listening(relay.hybrid_connection("actions", KEY_NAME)):
        for _ in range(5):
            ask_and_vanish(relay)
        assert await Sender(relay.hybrid_connection("actions", KEY_NAME)).send("hello") == "hello"
        async with asyncio.timeout(5):
            await relay.stop()


@asynchronous
async def test_stopping_closes_everything_with_1001() -> None:
    async with emulator() as relay:
        websocket = await knock(relay, LISTEN)
        await relay.stop()
        await websocket.wait_closed()
        assert websocket.close_code == 1001
        await relay.stop()


@asynchronous
async def test_it_tells_how_to_get_there() -> None:
    async with emulator() as relay:
        text = relay.connection_string(KEY_NAME, "actions")
        parsed = ConnectionString.parse(text)
        assert parsed.namespace == Namespace("127.0.0.1", relay.port, secure=False)
        assert parsed.hybrid_connection() == relay.hybrid_connection("actions", KEY_NAME)
        with pytest.raises(ConfigurationError):
            relay.credential("nobody")


@asynchronous
async def test_emulate_runs_until_cancelled() -> None:
    started = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        emulate(port=0, hybrid_connections=["actions"], keys={KEY_NAME: KEY}, started=started.set_result)
    )
    relay = await started
    await (await knock(relay, LISTEN)).close()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
