from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import ControlMessageError, HybridConnection, Namespace, RendezvousError, SharedAccessKey
from relay.protocol import (
    Accept,
    ControlChannel,
    HttpRequest,
    RemoteEndpoint,
    RenewToken,
    Request,
    Response,
    check_address,
    clock_skew,
    explain_close,
    explain_status,
    own_query,
    parse_control_message,
    reject_address,
    retry_after,
    sender_target,
    tracking_id,
)

ACCEPT = """{"accept": {"address": "wss://g63-prod-xxx-001-sb.servicebus.windows.net:443/$hc/actions?sb-hc-action=accept&sb-hc-id=1_G0",
 "id": "1_G0", "connectHeaders": {"Sec-WebSocket-Key": "k", "Sec-WebSocket-Protocol": "one, two"},
 "remoteEndpoint": {"address": "10.0.0.1", "port": 1234}}}"""


def test_an_accept_of_the_protocol_guide_is_read() -> None:
    accept = parse_control_message(ACCEPT)
    assert isinstance(accept, Accept)
    assert accept.id == "1_G0"
    assert accept.subprotocol == "one"
    assert str(accept.remote) == "10.0.0.1:1234"


def test_a_request_without_method_is_a_call_to_a_rendezvous() -> None:
    request = parse_control_message('{"request": {"address": "wss://h/", "id": "7"}}')
    assert isinstance(request, Request)
    assert request.needs_rendezvous


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)
HEADERS = st.dictionaries(TEXT, TEXT)
REMOTE = st.builds(RemoteEndpoint, TEXT, st.integers(0, 65535))
MESSAGES = (
    st.builds(Accept, TEXT, TEXT, HEADERS, REMOTE)
    | st.builds(Request, TEXT, TEXT, TEXT, TEXT, HEADERS, st.booleans(), REMOTE)
    | st.builds(Request, TEXT, TEXT)
    | st.builds(RenewToken, TEXT)
    | st.builds(Response, TEXT, st.integers(100, 999), TEXT, HEADERS, st.booleans())
)


@given(MESSAGES)
def test_what_is_written_is_read_back(message: Accept | Request | RenewToken | Response) -> None:
    assert parse_control_message(message.to_text()) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["address", "id", "method", "token", "requestId", "statusCode", "connectHeaders", "remoteEndpoint", "body"]
)
NEARLY = st.dictionaries(
    st.sampled_from(["accept", "request", "renewToken", "response"]), JSON | st.dictionaries(FIELDS, JSON)
)


@given(st.text() | st.binary() | JSON.map(json.dumps) | NEARLY.map(json.dumps))
def test_any_frame_is_a_message_or_the_documented_error(frame: str | bytes) -> None:
    channel = ControlChannel()
    with suppress(ControlMessageError):
        channel.receive(frame)
    with suppress(ControlMessageError):
        parse_control_message(frame)
    channel.receive(ACCEPT)  # and the channel is none the worse


def test_deeply_nested_json_is_refused_like_any_other_garbage() -> None:
    with pytest.raises(ControlMessageError):
        parse_control_message("[" * 200_000)


def test_a_request_with_a_body_is_whole_when_its_body_has_come() -> None:
    channel = ControlChannel()
    request = Request("wss://h/", "7", "POST", "/actions", body=True)
    assert channel.receive(request.to_text()) is None
    assert channel.receive(b"the body") == HttpRequest(request, b"the body")
    assert channel.receive(Request("wss://h/", "8", "GET", "/").to_text()) == HttpRequest(
        Request("wss://h/", "8", "GET", "/")
    )


def test_a_body_that_never_comes_does_not_swallow_the_next_message() -> None:
    channel = ControlChannel()
    channel.receive(Request("wss://h/", "7", "POST", "/actions", body=True).to_text())
    assert isinstance(channel.receive(ACCEPT), Accept)


def test_a_listener_does_not_take_its_own_messages_from_the_relay() -> None:
    with pytest.raises(ControlMessageError):
        ControlChannel().receive(RenewToken("t").to_text())


def test_no_control_message_prints_a_token_or_an_address() -> None:
    assert "secret" not in repr(RenewToken("secret"))
    assert "secret" not in repr(Accept("wss://h/?x=secret", "1", {"Authorization": "secret"}))


CONNECTION = HybridConnection(Namespace("contoso.servicebus.windows.net"), "actions", SharedAccessKey("n", "k"))
LOCAL = HybridConnection(Namespace("127.0.0.1", 9080, secure=False), "actions", SharedAccessKey("n", "k"))


def test_rejecting_appends_to_the_address_and_changes_nothing_else() -> None:
    assert reject_address("wss://h/$hc/a?sb-hc-action=accept", 403, "not you & me") == (
        "wss://h/$hc/a?sb-hc-action=accept&sb-hc-statusCode=403&sb-hc-statusDescription=not%20you%20%26%20me"
    )


@pytest.mark.parametrize(
    "address",
    [
        "wss://contoso.servicebus.windows.net/$hc/actions",
        "wss://g63-prod-xxx-001-sb.servicebus.windows.net:443/$hc/actions",
        "WSS://CONTOSO.servicebus.windows.net/$hc/actions",
    ],
)
def test_addresses_within_the_relay_are_dialled(address: str) -> None:
    check_address(address, CONNECTION)


@pytest.mark.parametrize(
    "address",
    [
        "wss://evil.example/$hc/actions",
        "wss://servicebus.windows.net.evil.example/",
        "wss://evilservicebus.windows.net/",
        "ws://contoso.servicebus.windows.net/",
        "https://contoso.servicebus.windows.net/",
        "file:///etc/passwd",
        "wss://[broken",
        "",
    ],
)
def test_addresses_outside_the_relay_are_not(address: str) -> None:
    with pytest.raises(RendezvousError) as caught:
        check_address(address, CONNECTION)
    assert caught.value.phase == "accept-dial"


def test_an_emulator_is_its_own_relay_and_further_hosts_can_be_allowed() -> None:
    check_address("ws://127.0.0.1:9080/$hc/actions", LOCAL)
    check_address("ws://node.relay.example/", LOCAL, (".relay.example",))
    with pytest.raises(RendezvousError):
        check_address("ws://10.0.0.1:9080/$hc/actions", LOCAL)


def test_the_senders_own_suffix_and_query_are_told_apart_from_the_relays() -> None:
    address = "wss://h/$hc/Actions/x/y%20z?a=b&SB-HC-action=accept&sb-hc-id=1&c"
    assert sender_target(address, "actions") == ("/x/y z", "a=b&c")
    assert own_query("sb-hc-token=t") == ""


def test_a_tracking_id_is_found_where_azure_puts_it() -> None:
    reason = "Endpoint does not exist. TrackingId:aaaa-bbbb_G57, SystemTracker:sb://h/p, Timestamp:2024"
    assert tracking_id("", reason) == "aaaa-bbbb_G57"
    assert tracking_id("nothing") is None


def test_the_clock_is_compared_with_the_date_of_the_answer() -> None:
    now = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
    assert clock_skew("Mon, 23 Nov 2026 10:00:00 GMT", now) == 300
    assert clock_skew("yesterday", now) is None
    assert clock_skew(None) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("999999", 300.0),
        ("9" * 400, 300.0),
        ("Thu, 26 Nov 2026 09:00:20 GMT", 20.0),
        ("Thu, 26 Nov 2026 08:00:00 GMT", 0.0),
        ("Fri, 27 Nov 2026 09:00:00 GMT", 300.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("-1", None),
        ("١", None),
    ],
)
def test_retry_after_is_honoured_within_reason(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, datetime(2026, 11, 26, 9, tzinfo=UTC)) == seconds


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 502, 503, 504])
def test_every_status_of_the_guide_has_a_meaning(status: int) -> None:
    assert not explain_status(status).code.startswith("http_")


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011])
def test_every_close_code_of_the_guide_has_a_meaning(code: int) -> None:
    assert not explain_close(code).code.startswith("close_")


def test_unknown_numbers_are_named_as_such() -> None:
    assert explain_status(418).code == "http_418"
    assert explain_close(4000).code == "close_4000"
