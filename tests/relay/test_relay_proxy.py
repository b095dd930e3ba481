"""Through a corporate proxy: everything that is dialled, and in which words each refusal is told.

The relay's name is one that only the proxy can resolve: whoever reaches the emulator has come through the proxy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from relay import (
    DialError,
    DialOptions,
    HybridConnection,
    Listener,
    ListenerOptions,
    ListenerState,
    Namespace,
    PhaseTimeouts,
    Sender,
    SenderOptions,
    SharedAccessKey,
)
from relay.dial import dial
from relay.emulator import Emulator, EmulatorOptions
from tests.relay.certificates import Certificates, make_certificates
from tests.relay.proxy import ConnectProxy
from tests.relay.support import (
    DEAD,
    HERE,
    KEY,
    KEY_NAME,
    asynchronous,
    emulator,
    listening,
    resolve,
    running,
    until,
)

NAME = "relay.invalid"
PASSWORD = "t0p/s3cret@#"
WRITTEN = "t0p%2Fs3cret%40%23"
SHORT = PhaseTimeouts(dns=5, tcp=2, proxy=0.3, tls=2, upgrade=2)
VARIABLES = ("https_proxy", "wss_proxy", "http_proxy", "ws_proxy", "socks_proxy", "all_proxy", "no_proxy")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), NAME)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy but the one a test sets."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


class Hospital:
    """A relay with TLS, and a proxy that is the only way to it."""

    def __init__(self, relay: Emulator, proxy: ConnectProxy, certificates: Certificates) -> None:
        self.relay, self.proxy = relay, proxy
        namespace = Namespace(NAME, relay.port, secure=True)
        self.connection = HybridConnection(namespace, "actions", SharedAccessKey(KEY_NAME, KEY))
        self.options = DialOptions(SHORT, proxy.address(WRITTEN), certificates.trusting())

    def sender(self) -> Sender:
        return Sender(self.connection, SenderOptions(dial=self.options))

    def reached(self) -> list[str]:
        """Who reached the relay."""
        return [entry.what for entry in self.relay.log.entries if entry.what in {"listen", "connect", "accept"}]

    def proven(self) -> list[str]:
        """The same, once it is proven that each came by the proxy, and nobody else."""
        assert self.proxy.targets == [f"{NAME}:{self.relay.port}"] * len(self.reached())
        return sorted(self.reached())


@asynccontextmanager
async def hospital(certificates: Certificates, **options: Any) -> AsyncIterator[Hospital]:
    given = EmulatorOptions(tls=certificates.serving(), **options)
    async with (
        Emulator(hybrid_connections=["actions"], keys={KEY_NAME: KEY}, options=given) as relay,
        ConnectProxy(password=PASSWORD, names={NAME: "127.0.0.1"}) as proxy,
    ):
        yield Hospital(relay, proxy, certificates)


# --- who is dialled through it


@asynchronous
async def test_control_channel_rendezvous_echo_and_sender_all_go_through_the_proxy(certificates: Certificates) -> None:
    async with hospital(certificates) as place:
        async with listening(place.connection, dial=place.options) as listener:
            assert listener.status().proven_by == "echo"
            assert listener.status().last_proof
            assert place.proven() == ["accept", "connect", "listen"], "the control channel, and both ends of the echo"
            assert await place.sender().send("hello") == "hello"
            assert place.proven() == ["accept", "accept", "connect", "connect", "listen"]
        assert place.proxy.refused == 0


@asynchronous
async def test_an_explicit_proxy_is_used_for_every_address_loopback_and_plain_ws_included() -> None:
    async with emulator() as relay, ConnectProxy(password=PASSWORD) as proxy:
        options = DialOptions(proxy=proxy.address(WRITTEN))
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection, dial=options):
            assert await Sender(connection, SenderOptions(dial=options)).send("hello") == "hello"
        assert set(proxy.targets) == {f"127.0.0.1:{relay.port}"}
        assert len(proxy.targets) == sum(relay.log.count(what) for what in ("listen", "connect", "accept")) == 5


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "wss_proxy"])
@asynchronous
async def test_the_environments_proxy_is_used_for_wss_loopback_included(
    certificates: Certificates, environment: pytest.MonkeyPatch, variable: str
) -> None:
    async with hospital(certificates) as place:
        environment.setenv(variable, place.proxy.address(WRITTEN))
        place.options = replace(place.options, proxy="environment")
        async with listening(place.connection, dial=place.options):
            assert await place.sender().send("hello") == "hello"
        assert len(place.proven()) == 5
        local = place.relay.hybrid_connection("actions", KEY_NAME)
        async with listening(local, dial=place.options):
            assert place.proxy.targets[5:] == [f"127.0.0.1:{place.relay.port}"] * 3


@asynchronous
async def test_a_proxys_address_in_the_environment_may_lack_its_scheme(
    certificates: Certificates, environment: pytest.MonkeyPatch
) -> None:
    async with hospital(certificates) as place:
        environment.setenv("https_proxy", place.proxy.address(WRITTEN).removeprefix("http://"))
        place.options = replace(place.options, proxy="environment")
        async with listening(place.connection, dial=place.options):
            assert len(place.proven()) == 3


@asynchronous
async def test_an_address_in_the_environment_that_cannot_be_used_is_told_to_be_there_and_not_repeated(
    certificates: Certificates, environment: pytest.MonkeyPatch
) -> None:
    async with hospital(certificates) as place:
        environment.setenv("HTTPS_PROXY", "socks5://u:s3cret@127.0.0.1:1")
        options = ListenerOptions(dial=replace(place.options, proxy="environment"), **QUICK)
        async with running(Listener(place.connection, _echo, options=options)) as listener:
            await until(lambda: listener.status().last_error)
            told = listener.status().last_error or ""
    assert "the proxy's address in the environment (wss_proxy, https_proxy) cannot be used" in told
    assert "s3cret" not in told


@asynchronous
async def test_hosts_that_no_proxy_names_are_dialled_directly(
    certificates: Certificates, environment: pytest.MonkeyPatch
) -> None:
    async with hospital(certificates) as place:
        environment.setenv("https_proxy", "http://127.0.0.1:1")
        environment.setenv("no_proxy", "127.0.0.1,.example")
        local = place.relay.hybrid_connection("actions", KEY_NAME)
        async with listening(local, dial=replace(place.options, proxy="environment")):
            assert place.proxy.asked == 0


@asynchronous
async def test_plain_ws_is_never_dialled_through_the_environments_proxy(environment: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES[:-1]:
        environment.setenv(variable, "http://127.0.0.1:1")
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            assert await Sender(connection).send("hello") == "hello"


@asynchronous
async def test_with_none_nothing_is_dialled_through_a_proxy(
    certificates: Certificates, environment: pytest.MonkeyPatch
) -> None:
    async with hospital(certificates) as place:
        environment.setenv("https_proxy", "http://127.0.0.1:1")
        local = place.relay.hybrid_connection("actions", KEY_NAME)
        async with listening(local, dial=replace(place.options, proxy=None)):
            assert place.proxy.asked == 0


@asynchronous
async def test_a_proxy_may_itself_be_reached_over_tls(certificates: Certificates) -> None:
    async with (
        hospital(certificates) as place,
        ConnectProxy(password=PASSWORD, names={NAME: "127.0.0.1"}, tls=certificates.serving()) as proxy,
    ):
        place.proxy, place.options = proxy, replace(place.options, proxy=proxy.address(WRITTEN))
        async with listening(place.connection, dial=place.options):
            assert len(place.proven()) == 3


# --- how its failures are told


async def failure(place: Hospital, **changes: Any) -> DialError:
    with pytest.raises(DialError) as caught:
        await dial(place.connection.listen_address(), replace(place.options, **changes))
    return caught.value


def refusal(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "", ""]).encode()


REFUSALS = {
    "407 asks for NTLM": (refusal("407 No", "Proxy-Authenticate: NTLM"), 407, "proxy_authentication", "cntlm"),
    "403 forbids the host": (refusal("403 Forbidden"), 403, "proxy_forbids", "CONNECT to *.servicebus.windows.net"),
    "405 is a web server": (refusal("405 Not Allowed"), 405, "no_tunnel", "answers CONNECT"),
    "503 is busy": (refusal("503 Busy", "Retry-After: 7"), 503, "proxy_busy", "tried again"),
    "418 is odd": (refusal("418 Teapot"), 418, "proxy_http_418", "whoever runs the proxy"),
    "garbage": (b"220 smtp.example ready\r\n", None, "proxy_failed", "proxy's address"),
    "nothing at all": (b"", None, "connection_lost", "proxy's address"),
}


@pytest.mark.parametrize(("answer", "status", "code", "remedy"), REFUSALS.values(), ids=REFUSALS.keys())
@asynchronous
async def test_a_proxy_that_refuses_is_told_in_phase_proxy_with_status_address_and_what_to_do(
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    answer: bytes,
    status: int | None,
    code: str,
    remedy: str,
) -> None:
    async with hospital(certificates) as place:
        place.proxy.answer = answer
        error = await failure(place)
        await until(lambda: not place.proxy.ends)
    assert (error.phase, error.status, error.code) == ("proxy", status, code)
    assert error.address == f"{NAME}:{place.relay.port} by proxy 127.0.0.1:{place.proxy.port} [127.0.0.1]"
    assert remedy in error.remedy
    assert error.retry_after == (7 if status == 503 else None)
    assert place.reached() == []
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@asynchronous
async def test_a_wrong_password_is_a_407_that_does_not_repeat_it(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with hospital(certificates) as place:
        error = await failure(place, proxy=place.proxy.address("wr0ng"))
        assert (error.phase, error.status, place.proxy.refused) == ("proxy", 407, 1)
        told = "".join(traceback.format_exception(error)) + repr(error) + str(error.details) + caplog.text
    assert "wr0ng" not in told


@asynchronous
async def test_a_proxy_that_hangs_at_connect_fails_in_proxy_after_its_own_time_out(certificates: Certificates) -> None:
    async with hospital(certificates) as place:
        place.proxy.silent = True
        began = asyncio.get_running_loop().time()
        error = await failure(place)
        assert 0.3 <= asyncio.get_running_loop().time() - began < 1.5
    assert (error.phase, error.code) == ("proxy", "timeout")
    assert error.address
    assert "[127.0.0.1]" in error.address


@asynchronous
async def test_a_proxy_nobody_can_resolve_fails_in_dns_and_says_that_it_is_the_proxy(
    certificates: Certificates,
) -> None:
    async with hospital(certificates) as place:
        error = await failure(place, proxy="http://nobody.invalid:3128")
    assert (error.phase, error.code) == ("dns", "name_not_found")
    assert "proxy" in error.remedy
    assert error.address
    assert error.address.endswith("by proxy nobody.invalid:3128")


@asynchronous
async def test_a_proxy_that_is_not_there_fails_in_tcp_and_names_the_address_that_was_tried(
    certificates: Certificates,
) -> None:
    async with hospital(certificates) as place:
        await place.proxy.stop()
        error = await failure(place)
    assert (error.phase, error.code) == ("tcp", "refused")
    assert "It is the proxy" in error.remedy
    assert error.address
    assert error.address.endswith("[127.0.0.1]")


@asynchronous
async def test_all_addresses_of_a_proxy_are_tried(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "proxy.example", DEAD, HERE)
    async with hospital(certificates) as place:
        options = replace(place.options, proxy=place.proxy.address(WRITTEN, host="proxy.example"))
        async with listening(place.connection, dial=options):
            assert len(place.proven()) == 3


@asynchronous
async def test_a_proxys_name_is_looked_up_anew_on_every_dial(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "proxy.example", DEAD)
    async with hospital(certificates) as place:
        place.options = replace(place.options, proxy=place.proxy.address(WRITTEN, host="proxy.example"))
        assert (await failure(place)).phase == "tcp"
        resolve(monkeypatch, "proxy.example", HERE)
        async with listening(place.connection, dial=place.options):
            assert len(place.proven()) == 3


@asynchronous
async def test_a_tunnel_that_leads_nowhere_fails_in_tls(certificates: Certificates) -> None:
    async with hospital(certificates) as place:
        place.proxy.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        error = await failure(place)
    assert error.phase == "tls"
    assert error.address
    assert "[127.0.0.1]" in error.address


@asynchronous
async def test_a_proxy_that_inspects_tls_fails_in_tls_and_says_what_it_takes(certificates: Certificates) -> None:
    async with hospital(certificates) as place:
        error = await failure(place, tls=None)
    assert (error.phase, error.code) == ("tls", "tls_failed")
    assert "certificate authority" in error.remedy
    assert error.address
    assert "by proxy" in error.address


@asynchronous
async def test_a_refusal_of_the_relay_itself_is_told_in_upgrade_with_the_way_it_took(
    certificates: Certificates,
) -> None:
    async with hospital(certificates) as place:
        error = await failure(place)
    assert (error.phase, error.status) == ("upgrade", 401)
    assert error.tracking_id
    assert error.address == f"{NAME}:{place.relay.port} by proxy 127.0.0.1:{place.proxy.port} [127.0.0.1]"


def open_files() -> int:
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a folder of the kernel's


@asynchronous
async def test_dials_that_fail_leave_nothing_open(certificates: Certificates) -> None:
    async with hospital(certificates) as place:
        before = open_files()
        hasty = replace(place.options, timeouts=replace(SHORT, proxy=0.05))
        for silent, answer in ((True, None), (False, refusal("403 No")), (False, b"garbage\r\n"), (False, None)):
            place.proxy.silent, place.proxy.answer = silent, answer
            address = place.connection.listen_address()
            await asyncio.gather(*(dial(address, hasty) for _ in range(20)), return_exceptions=True)
        await until(lambda: not place.proxy.ends and open_files() <= before)


# --- and the listener comes back


QUICK: dict[str, Any] = {
    "first_retry": 0.05, "longest_retry": 0.2, "dial_limits": (), "echo_interval": (0.2, 0.4), "echo_timeout": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal("407 No"), "407"),
        (refusal("403 No"), "403"),
        (refusal("503 No", "Retry-After: 1"), "503"),
        (b"garbage\r\n", "did not answer as a proxy"),
        (None, "timed out"),
    ],
)
@pytest.mark.slow
@asynchronous
async def test_a_listener_outlives_a_proxy_that_refuses_and_hears_as_soon_as_it_lets_us_through(
    certificates: Certificates, answer: bytes | None, told: str
) -> None:
    async with hospital(certificates) as place:
        place.proxy.answer, place.proxy.silent = answer, answer is None
        options = ListenerOptions(dial=place.options, **QUICK)
        async with running(Listener(place.connection, _echo, options=options)) as listener:
            await until(lambda: place.proxy.asked >= 2)
            last = listener.status().last_error or ""
            assert last.startswith("proxy: ")
            assert told in last
            place.proxy.answer, place.proxy.silent = None, False
            await until(lambda: listener.state == ListenerState.HEARING)
            assert await place.sender().send("hello") == "hello"
            place.proven()


async def _echo(message: Any) -> str:
    return str(message.data)


@asynchronous
async def test_retry_after_of_a_busy_proxy_is_honoured(certificates: Certificates) -> None:
    loop = asyncio.get_running_loop()
    async with hospital(certificates) as place:
        place.proxy.answer = refusal("503 Busy", "Retry-After: 1")
        async with running(Listener(place.connection, _echo, options=ListenerOptions(dial=place.options, **QUICK))):
            await until(lambda: place.proxy.asked == 1)
            began = loop.time()
            await until(lambda: place.proxy.asked == 2)
            assert loop.time() - began > 0.9


@pytest.mark.slow
@asynchronous
async def test_a_proxy_that_dies_while_a_channel_is_open_is_noticed_and_all_flows_again_when_it_is_back(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with hospital(certificates) as place, listening(place.connection, dial=place.options, **QUICK) as listener:
        await place.proxy.stop()
        await until(lambda: "tcp: the connection was refused" in (listener.status().last_error or ""))
        with pytest.raises(DialError) as caught:
            await place.sender().send("lost")
        assert (caught.value.phase, caught.value.connection_failed) == ("tcp", True)
        await place.proxy.start()
        await until(lambda: listener.state == ListenerState.HEARING)
        assert await place.sender().send("hello") == "hello"
        place.proven()
    closed = next(record for record in caplog.records if record.message == "control_channel_closed")
    assert (closed.phase, closed.code) == ("control", "cut")
    assert "by proxy" in closed.address
    assert PASSWORD not in caplog.text + str([vars(record) for record in caplog.records])


@asynchronous
async def test_the_password_is_in_no_log_line_and_no_repr_even_at_debug(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with hospital(certificates) as place, listening(place.connection, dial=place.options) as listener:
        assert await place.sender().send("hello") == "hello"
        shown = repr(place.options) + repr(listener.options) + repr(listener.status())
    shown += "".join(str(vars(record)) for record in caplog.records)
    assert PASSWORD not in shown
    assert WRITTEN not in shown


@pytest.mark.parametrize(
    "address",
    ["http://u:t0p/s3cret@host:1", "http://u:t0ps3cret@host:x", "socks5://u:t0ps3cret@host:1", "u:s3cret@h:1"],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        DialOptions(proxy=address)
    assert "http://user:password@host:port" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        error = error.__cause__ or error.__context__
