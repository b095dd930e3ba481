"""Each fault of the emulator's catalogue, seen by whoever uses the relay; and the door it is asked for at."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from relay import DialError, ListenerState, RelayError, Sender, SenderOptions
from relay.dial import DialOptions, dial
from relay.emulator import CATALOGUE, AccessKey, Emulator, Right
from relay.emulator.admin import LOG_LENGTH
from relay.emulator.log import RelayLog
from relay.emulator.remote import RemoteEmulator
from tests.relay.raw import knock, raw_listener, token
from tests.relay.support import KEY, KEY_NAME, asynchronous, emulator, listening, until

QUICK = {"first_retry": 0.05, "longest_retry": 0.1, "echo_interval": None}


async def refusal(relay: Emulator, **options: Any) -> RelayError:
    """What a sender is told."""
    with pytest.raises(RelayError) as caught:
        await Sender(relay.hybrid_connection("actions", KEY_NAME), SenderOptions(**options)).send("hello")
    return caught.value


# --- what happens once


@pytest.mark.parametrize(("fault", "code"), [("cut", 1006), ("hang-up", 1006), ("expire", 1008), ("close", 1011)])
@asynchronous
async def test_an_open_control_channel_ends_as_the_fault_says(fault: str, code: int) -> None:
    async with emulator("actions", "events") as relay, raw_listener(relay) as control:
        headers = {"ServiceBusAuthorization": token(relay, "events")}
        other = await knock(relay, "/$hc/events?sb-hc-action=listen", headers=headers)
        await relay.faults.begin(fault, path="actions")
        with pytest.raises(ConnectionClosed) as caught:
            await control.websocket.recv()
        assert (caught.value.rcvd.code if caught.value.rcvd else 1006) == code
        assert caught.value.rcvd is None or "TrackingId:" in caught.value.rcvd.reason
        await relay.wait_for_listeners("actions", 0)
        assert relay.listeners("events") == 1
        await other.close()


@asynchronous
async def test_close_takes_any_code_that_may_be_sent_and_its_reason_fits_a_close_frame() -> None:
    async with emulator() as relay:
        for code in (1000, 1001, 1008, 1011, 4999):
            async with raw_listener(relay) as control:
                await relay.faults.begin("close", code=code, reason="w" + "ö" * 200)
                with pytest.raises(ConnectionClosed) as caught:
                    await control.websocket.recv()
                assert caught.value.rcvd.code == code
                assert "TrackingId:" in caught.value.rcvd.reason


@asynchronous
async def test_deaf_listeners_are_told_of_nobody_and_the_next_one_is() -> None:
    async with emulator(accept_window=0.2) as relay, raw_listener(relay) as control:
        await relay.faults.begin("deaf")
        assert (await refusal(relay)).status == 504
        assert await asyncio.wait_for(await control.websocket.ping(), 5) >= 0
        async with listening(relay.hybrid_connection("actions", KEY_NAME)):
            await control.websocket.close()
            await relay.wait_for_listeners("actions", 1)
            assert await Sender(relay.hybrid_connection("actions", KEY_NAME)).send("hello") == "hello"


@asynchronous
async def test_silent_connections_answer_no_ping() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        await relay.faults.begin("silent")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(await control.websocket.ping(), 0.2)


# --- what lasts


@pytest.mark.parametrize("on", ["listen", "connect", "accept"])
@asynchronous
async def test_requests_are_rejected_with_status_and_retry_after(on: str) -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK) as listener:
            await relay.faults.begin("reject", on=on, status=503, retry_after=7, times=1)
            if on == "listen":
                with pytest.raises(DialError) as caught:
                    await asyncio.wait_for(_listen(relay), 5)
                assert (caught.value.status, caught.value.retry_after) == (503, 7)
            elif on == "connect":
                assert ((error := await refusal(relay)).status, error.retry_after) == (503, 7)
            else:
                sending = asyncio.create_task(Sender(connection).send("never met"))
                await until(lambda: listener.status().rendezvous_failed == 1)
                sending.cancel()
            assert relay.faults.in_force == ()
            assert await Sender(connection).send("hello") == "hello"


async def _listen(relay: Emulator) -> None:
    address = relay.hybrid_connection("actions", KEY_NAME).listen_address()
    await dial(address, DialOptions(), headers={"ServiceBusAuthorization": token(relay)})


@pytest.mark.parametrize("on", ["listen", "connect", "accept"])
@asynchronous
async def test_handshakes_that_hang_go_on_when_the_fault_is_over(on: str) -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK):
            fault = await relay.faults.begin("hang", on=on, times=1)
            asking = asyncio.create_task(_listen(relay) if on == "listen" else Sender(connection).send("hello"))
            await until(lambda: fault.left == 0)
            done, _ = await asyncio.wait({asking}, timeout=0.1)
            assert not done
            relay.faults.end("hang")
            assert await asking in {None, "hello"}


@asynchronous
async def test_nobody_is_held_up_by_a_handshake_that_was_given_up() -> None:
    async with emulator() as relay:
        fault = await relay.faults.begin("hang", on="listen", times=1)
        asking = asyncio.create_task(_listen(relay))
        await until(lambda: fault.left == 0)
        arrived = time.monotonic()
        await asyncio.wait({asking}, timeout=0.1)
        held = time.monotonic() - arrived
        asking.cancel()
        await until(lambda: relay.log.count("listen", 408) == 1)
        assert relay.log.count("listen", 101) == 0, "who has hung up meanwhile does not listen"
        assert relay.log.entries[0].took >= held, "how long it was held up is told"


@asynchronous
async def test_a_relay_that_withholds_is_deaf_for_those_that_come_later_too() -> None:
    async with emulator(accept_window=0.1) as relay:
        await relay.faults.begin("withhold", times=2)
        async with raw_listener(relay):
            assert (await refusal(relay)).status == 504
        async with raw_listener(relay):
            assert (await refusal(relay)).status == 504
        async with listening(relay.hybrid_connection("actions", KEY_NAME), **QUICK):
            assert await Sender(relay.hybrid_connection("actions", KEY_NAME)).send("hello") == "hello"


@pytest.mark.parametrize(("fault", "code"), [("dead-address", "refused"), ("stray-address", "address_refused")])
@asynchronous
async def test_an_address_that_leads_astray_costs_one_rendezvous(
    fault: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulator(accept_window=0.3) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK):
            await relay.faults.begin(fault, times=1)
            assert (await refusal(relay)).status == 504
            assert await Sender(connection).send("hello") == "hello"
    assert [record.code for record in caplog.records if record.message == "rendezvous_failed"] == [code]


@asynchronous
async def test_an_accept_that_is_told_twice_is_met_once() -> None:
    heard = []

    async def hear(message: Any) -> str:
        heard.append(message.data)
        return "heard"

    async with emulator() as relay:
        async with listening(relay.hybrid_connection("actions", KEY_NAME), hear, **QUICK) as listener:
            await relay.faults.begin("repeat-accept", times=1)
            assert await Sender(relay.hybrid_connection("actions", KEY_NAME)).send("once") == "heard"
            await until(lambda: listener.status().rendezvous_failed == 1)
        assert heard == ["once"]
        assert relay.log.count("accept", 403) == 1


@asynchronous
async def test_a_sender_that_is_gone_before_the_listener_comes_is_no_fault_of_anybody() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK) as listener:
            await relay.faults.begin("gone-sender", times=1)
            assert (await refusal(relay)).connection_failed
            await until(lambda: listener.status().rendezvous_in_progress == 0)
            assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_a_first_frame_is_delivered_twice_at_rendezvous_of_their_own() -> None:
    heard = []

    async def hear(message: Any) -> str:
        heard.append(message.data)
        return "heard"

    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, hear, **QUICK) as listener:
            await relay.faults.begin("duplicate", times=1)
            assert await Sender(connection).send("twice") == "heard"
            await until(lambda: listener.status().rendezvous_served == 2)
        assert relay.log.count("accept", 101) == 2
    assert heard == ["twice", "twice"]


@asynchronous
async def test_a_reply_is_lost_after_the_listener_has_given_it() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK) as listener:
            await relay.faults.begin("lost-reply", times=1)
            error = await refusal(relay)
            assert (error.phase, error.connection_failed) == ("ack", False)
            await until(lambda: listener.status().rendezvous_served == 1)
            await relay.faults.begin("lost-reply", cut=False, times=1)
            assert (await refusal(relay, ack=0.1)).code == "no_answer"
            assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_a_reply_comes_late() -> None:
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK):
            await relay.faults.begin("late-reply", seconds=0.3, times=2)
            assert (await refusal(relay, ack=0.05)).code == "no_answer"
            assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_a_delay_holds_up_what_listeners_are_told() -> None:
    async with emulator(accept_window=0.1) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, **QUICK):
            await relay.faults.begin("delay", seconds=0.3, times=1)
            began = asyncio.get_running_loop().time()
            assert await Sender(connection).send("hello") == "hello"
            assert asyncio.get_running_loop().time() - began >= 0.3


@asynchronous
async def test_a_relay_whose_clock_is_ahead_finds_tokens_expired_and_its_date_tells_why() -> None:
    async with emulator() as relay, raw_listener(relay):
        await relay.faults.begin("skewed-clock", seconds=7200)
        error = await refusal(relay)
        assert error.status == 401
        assert error.clock_skew is not None
        assert -7205 < error.clock_skew < -7195


# --- how it is asked for


@asynchronous
async def test_a_fault_that_lasts_ends_by_count_by_time_or_by_hand() -> None:
    async with emulator() as relay:
        faults = relay.faults
        twice = await faults.begin("withhold", path="/Actions/", times=2)
        struck = [faults.strike("withhold", path) for path in ("events", "actionsx", "actions/x", "ACTIONS")]
        assert [fault is not None for fault in struck] == [False, False, True, True]
        assert (twice.left, twice.struck) == (0, 2)
        assert faults.in_force == ()
        brief = await faults.begin("withhold", lasting=0.01)
        await asyncio.wait_for(brief.over.wait(), 5)
        assert faults.in_force == ()
        await faults.begin("withhold")
        await faults.begin("delay")
        faults.end("withhold")
        assert [fault.kind.name for fault in faults.in_force] == ["delay"]
        faults.end()
        assert faults.in_force == ()


WRONG = [
    ("nonsense", {}, "unknown_fault"),
    ("cut", {"times": 1}, "bad_fault"),
    ("cut", {"code": 1}, "bad_fault"),
    ("close", {"code": 1005}, "bad_fault"),
    ("close", {"code": "x"}, "bad_fault"),
    ("reject", {"on": "dance"}, "bad_fault"),
    ("reject", {"status": 200}, "bad_fault"),
    ("withhold", {"times": 0}, "bad_fault"),
    ("withhold", {"lasting": -1}, "bad_fault"),
    ("withhold", {"name": "x"}, "bad_fault"),
    ("withhold", {"times": "2"}, "bad_fault"),
    ("withhold", {"path": 7}, "bad_fault"),
    ("delay", {"seconds": [1]}, "bad_fault"),
    ("lost-reply", {"cut": "perhaps"}, "bad_fault"),
    ("reject", {"status": float("inf")}, "bad_fault"),
    ("reject", {"status": 429.5}, "bad_fault"),
    ("reject", {"retry_after": float("inf")}, "bad_fault"),
    ("delay", {"seconds": "nan"}, "bad_fault"),
    ("delay", {"seconds": 10**400}, "bad_fault"),
    ("withhold", {"lasting": float("nan")}, "bad_fault"),
    ("withhold", {"lasting": float("inf")}, "bad_fault"),
    ("withhold", {"lasting": 1e9}, "bad_fault"),
    ("withhold", {"times": 10**9}, "bad_fault"),
    ("garbage", {"frame": "\ud800"}, "bad_fault"),
    ("close", {"reason": "\udfff"}, "bad_fault"),
    ("cut", {"path": "nowhere"}, "unknown_path"),
    ("withhold", {"path": "action"}, "unknown_path"),
    ("withhold", {"path": "\ud800"}, "unknown_path"),
]


async def ask(
    relay: Emulator, method: str, target: str, body: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """A plain HTTP request to the emulator's own door."""

    def asked() -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", relay.port, timeout=10)
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, json.loads(text) if response.headers["Content-Type"] == "application/json" else text

    return await asyncio.to_thread(asked)


@pytest.mark.parametrize(("name", "parameters", "code"), WRONG)
@asynchronous
async def test_what_cannot_be_shown_is_refused_with_its_reason_and_nothing_begins(
    name: str, parameters: dict[str, Any], code: str
) -> None:
    async with emulator() as relay:
        status, answer = await ask(relay, "POST", f"/-/faults/{name}", json.dumps(parameters))
        assert (status, answer["code"]) == (400, code)
        assert relay.faults.in_force == ()


@asynchronous
async def test_a_fault_begins_and_ends_by_http() -> None:
    async with emulator() as relay:
        body = json.dumps({"path": "actions", "status": 429, "times": 3, "lasting": 60})
        expected = {
            "name": "reject", "path": "actions", "times": 3, "struck": 0, "on": "listen", "status": 429,
            "retry_after": 0,
        }  # fmt: skip
        assert await ask(relay, "POST", "/-/faults/reject", body) == (200, {"begun": expected, "in_force": [expected]})
        _, listed = await ask(relay, "GET", "/-/faults")
        assert listed["in_force"] == [expected]
        assert [kind["name"] for kind in listed["catalogue"]] == list(CATALOGUE)
        assert await ask(relay, "DELETE", "/-/faults/reject") == (200, {"in_force": []})
        assert (await ask(relay, "DELETE", "/-/faults"))[0] == 200
        assert (await ask(relay, "DELETE", "/-/faults/nonsense"))[1]["code"] == "unknown_fault"


@asynchronous
async def test_the_emulator_tells_who_listens_and_what_happened() -> None:
    async with emulator("actions", "events") as relay:
        async with listening(relay.hybrid_connection("actions", KEY_NAME), echo_interval=None):
            await Sender(relay.hybrid_connection("actions", KEY_NAME)).send("hello")
            status, answer = await ask(relay, "GET", "/-/")
            assert (status, answer["hybrid_connections"]) == (
                200,
                [{"path": "actions", "listeners": 1}, {"path": "events", "listeners": 0}],
            )
            assert answer["happened"] == {"accept 101": 1, "connect 101": 1, "listen 101": 1}
            _, log = await ask(relay, "GET", "/-/log")
            assert sorted(entry["what"] for entry in log) == ["accept", "connect", "listen"]
        assert (await ask(relay, "GET", "/-/nonsense"))[0] == 404
        assert (await ask(relay, "PUT", "/-/faults/cut"))[0] == 404
        assert (await ask(relay, "POST", "/-/faults/delay", "[]"))[0] == 400


@asynchronous
async def test_the_log_is_followed_by_number_and_nothing_is_left_out() -> None:
    async with emulator() as relay:
        remote = RemoteEmulator(f"http://127.0.0.1:{relay.port}")
        assert await asyncio.to_thread(remote.log) == []
        for number in range(LOG_LENGTH + 2):
            relay.log.note("renew", "actions", number)
        first = await asyncio.to_thread(remote.log)
        assert [entry["number"] for entry in first] == list(range(1, LOG_LENGTH + 1))
        rest = await asyncio.to_thread(remote.log, first[-1]["number"])
        assert [(entry["number"], entry["status"]) for entry in rest] == [(1001, 1000), (1002, 1001)]
        assert await asyncio.to_thread(remote.log, rest[-1]["number"]) == []
        _, last = await ask(relay, "GET", "/-/log")
        assert [entry["number"] for entry in last] == list(range(3, LOG_LENGTH + 3))
        assert (await ask(relay, "GET", "/-/log?after=-1"))[1]["code"] == "bad_number"


def test_a_log_that_has_forgotten_its_beginning_goes_on_with_what_it_has() -> None:
    log = RelayLog(size=3)
    for status in range(5):
        log.note("renew", "actions", status)
    assert [entry.number for entry in log.after(0, 10)] == [3, 4, 5]
    assert [entry.number for entry in log.after(3, 1)] == [4]
    assert log.after(5, 10) == log.after(99, 10) == []


@asynchronous
async def test_every_fault_of_the_catalogue_can_be_asked_for_by_name_alone() -> None:
    async with emulator() as relay, raw_listener(relay):
        for name in CATALOGUE:
            assert (await ask(relay, "POST", f"/-/faults/{name}"))[0] == 200, name
        in_force = {fault.kind.name for fault in relay.faults.in_force}
        assert in_force == {name for name, kind in CATALOGUE.items() if kind.lasts}


@asynchronous
async def test_from_another_machine_the_door_opens_with_the_right_manage_only() -> None:
    keys = {KEY_NAME: KEY, "sender": AccessKey("a-key", frozenset({Right.SEND}))}
    async with emulator(keys=keys) as relay:
        relay._admin._is_from_here = lambda _call: False  # another machine is not at hand
        assert (await ask(relay, "GET", "/-/"))[0] == 401
        for name, status in ((KEY_NAME, 200), ("sender", 403)):
            headers = {"ServiceBusAuthorization": relay.credential(name).token("http://127.0.0.1/").value}
            assert (await ask(relay, "GET", "/-/", headers=headers))[0] == status
        assert (await ask(relay, "GET", "/-/", headers={"ServiceBusAuthorization": token(relay)}))[0] == 401


async def answered(sender: Sender, text: str) -> str:
    """What is answered, if need be to a later try: the relay may still send some to a channel that is being closed."""
    while True:
        with suppress(RelayError):
            return await sender.send(text)


@asynchronous
async def test_a_listener_is_hearing_again_after_every_fault_of_the_catalogue() -> None:
    async with emulator(accept_window=1.0) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        options = {"echo_interval": (0.05, 0.1), "echo_timeout": 0.3, "first_retry": 0.05, "longest_retry": 0.2}
        async with listening(connection, dial_limits=(), ping_interval=0.2, ping_timeout=0.2, **options) as listener:
            for name, kind in CATALOGUE.items():
                proven = listener.status().last_proof
                await relay.faults.begin(name, **({"lasting": 0.2} if kind.lasts else {}))
                await until(lambda name=name: name not in {fault.kind.name for fault in relay.faults.in_force})
                await until(lambda before=proven: listener.status().last_proof != before)
                await until(lambda: listener.state == ListenerState.HEARING)
                assert await answered(Sender(connection, SenderOptions(ack=5)), name) == name


# --- whose clock is asked


@asynchronous
async def test_a_wrong_clock_strikes_where_a_token_is_judged_and_nowhere_else() -> None:
    async with emulator() as relay, raw_listener(relay):
        await relay.faults.begin("skewed-clock", seconds=7200, times=1)
        await ask(relay, "GET", "/-/faults")
        await ask(relay, "GET", "/-/", headers={"ServiceBusAuthorization": token(relay, "")})
        await ask(relay, "GET", "/actions", headers={"ServiceBusAuthorization": ""})
        await ask(relay, "GET", "/$hc/actions?sb-hc-action=accept&sb-hc-id=7")
        assert [fault.left for fault in relay.faults.in_force] == [1]
        assert (await refusal(relay)).status == 401
        assert relay.faults.in_force == ()


@asynchronous
async def test_the_wrong_clock_is_that_of_renewals_too() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        await relay.faults.begin("skewed-clock", seconds=7200)
        await control.websocket.send(json.dumps({"renewToken": {"token": token(relay)}}))
        with pytest.raises(ConnectionClosed) as caught:
            await control.websocket.recv()
        assert (caught.value.rcvd.code, "ExpiredToken" in caught.value.rcvd.reason) == (1008, True)


@asynchronous
async def test_by_the_wrong_clock_a_control_channel_is_cut_off_sooner() -> None:
    async with emulator(token_grace=0.2) as relay:
        await relay.faults.begin("skewed-clock", seconds=3599)  # of an hour
        async with raw_listener(relay) as control:
            await asyncio.wait_for(control.websocket.wait_closed(), 5)
            assert control.websocket.close_code == 1008


@asynchronous
async def test_somebody_on_another_machine_is_let_in_by_the_right_clock() -> None:
    async with emulator() as relay:
        relay._admin._is_from_here = lambda _call: False
        await relay.faults.begin("skewed-clock", seconds=7200)
        headers = {"ServiceBusAuthorization": token(relay, "")}
        assert (await ask(relay, "GET", "/-/", headers=headers))[0] == 200


# --- what it has struck


@asynchronous
async def test_what_happens_once_tells_how_many_control_channels_it_struck() -> None:
    async with emulator("actions", "events") as relay, raw_listener(relay), raw_listener(relay, "actions/deeper"):
        assert (await relay.faults.begin("deaf", path="events")).struck == 0
        assert (await relay.faults.begin("deaf", path="actions")).struck == 2
        assert (await ask(relay, "POST", "/-/faults/cut"))[1]["begun"] == {
            "name": "cut", "path": None, "times": 0, "struck": 2,
        }  # fmt: skip
        assert relay.faults.in_force == ()


@asynchronous
async def test_what_lasts_counts_what_it_has_struck_whether_limited_or_not() -> None:
    async with emulator(accept_window=0.05) as relay, raw_listener(relay):
        await relay.faults.begin("withhold")
        for _ in range(3):
            await refusal(relay)
        assert (await ask(relay, "GET", "/-/faults"))[1]["in_force"] == [
            {"name": "withhold", "path": None, "times": None, "struck": 3}
        ]


# --- a relay that forgets


@asynchronous
async def test_a_deregistered_listener_stays_connected_and_senders_are_told_that_nobody_listens() -> None:
    async with emulator(max_listeners=1) as relay, raw_listener(relay) as control:
        assert (await relay.faults.begin("deregister")).struck == 1
        assert relay.listeners("actions") == 0
        assert (await refusal(relay)).status == 404
        assert await asyncio.wait_for(await control.websocket.ping(), 5) >= 0
        async with raw_listener(relay):
            await relay.wait_for_listeners("actions", 1)
        await relay.wait_for_listeners("actions", 0)
        await relay.faults.begin("cut")
        await asyncio.wait_for(control.websocket.wait_closed(), 5)
    assert relay.log.count("listener gone") == 2, "each is gone once"
    assert relay.log.count("listener gone", 404) == 1


@asynchronous
async def test_the_log_takes_the_time_without_a_registered_listener_for_an_outage() -> None:
    async with emulator() as relay, raw_listener(relay):
        await relay.faults.begin("deregister")
        async with raw_listener(relay):
            assert len(relay.log.outages("actions")) == 1


@pytest.mark.slow
@asynchronous
async def test_a_renewal_in_vain_is_not_answered_and_the_channel_ends_with_its_old_token() -> None:
    async with emulator(token_grace=0.0) as relay:
        headers = {"ServiceBusAuthorization": token(relay, lifetime=timedelta(seconds=2))}
        fault = await relay.faults.begin("vain-renewal")
        websocket = await knock(relay, "/$hc/actions?sb-hc-action=listen", headers=headers)
        await websocket.send(json.dumps({"renewToken": {"token": token(relay)}}))
        await asyncio.wait_for(websocket.wait_closed(), 5)
        assert (websocket.close_code, fault.struck) == (1008, 1)
        assert relay.log.count("renew", 200) == 1


@asynchronous
async def test_a_slow_opener_is_heard_late_and_only_its_first_words_are() -> None:
    async with emulator() as relay, raw_listener(relay) as control:
        fault = await relay.faults.begin("late-message", seconds=0.3)
        loop = asyncio.get_running_loop()
        connecting = asyncio.create_task(knock(relay, "/$hc/actions?sb-hc-action=connect"))
        rendezvous = await control.meet()
        sender = await connecting
        began = loop.time()
        await sender.send("first")
        assert await rendezvous.recv() == "first"
        assert loop.time() - began >= 0.29
        await sender.send("second")
        assert await rendezvous.recv() == "second"
        assert fault.struck == 1
        await sender.close()
