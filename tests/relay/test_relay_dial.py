"""Every phase of a dial fails in its own words."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from relay import (
    ConfigurationError,
    DialError,
    DialOptions,
    HybridConnection,
    ListenerState,
    Namespace,
    Phase,
    PhaseTimeouts,
    Sender,
    SenderOptions,
    SharedAccessKey,
    Token,
)
from relay.dial import SOCKET_OPTIONS, dial
from relay.emulator import Emulator, EmulatorOptions
from relay.tokens import DEFAULT_LIFETIME, TOKEN_HEADER
from tests.relay.certificates import Certificates, make_certificates
from tests.relay.support import DEAD, HERE, KEY, KEY_NAME, asynchronous, emulator, listening, resolve, until

SHORT = PhaseTimeouts(dns=2, tcp=0.3, proxy=0.3, tls=0.3, upgrade=0.3)
Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[int]:
    """A server that reads a head, gives this answer, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def failure(address: str, options: DialOptions | None = None) -> DialError:
    with pytest.raises(DialError) as caught:
        await dial(address, options or DialOptions(SHORT, proxy=None))
    assert caught.value.connection_failed
    return caught.value


def test_by_default_each_phase_has_its_few_seconds() -> None:
    """Those that the reference demands (§3 no. 15); the issuer and the proxy talk to others before they answer."""
    assert PhaseTimeouts() == PhaseTimeouts(token=20, dns=5, tcp=5, proxy=10, tls=5, upgrade=10)


@asynchronous
async def test_a_name_nobody_knows_fails_in_dns() -> None:
    error = await failure("ws://nobody.invalid/")
    assert error.phase == "dns"
    assert "DNS" in error.remedy


@asynchronous
async def test_a_name_that_is_none_fails_in_dns() -> None:
    assert (await failure(f"ws://{'a' * 70}.example/")).phase == "dns"


@asynchronous
async def test_a_closed_port_fails_in_tcp_and_names_the_address() -> None:
    error = await failure("ws://127.0.0.1:1/")
    assert (error.phase, error.code) == ("tcp", "refused")
    assert error.address == "127.0.0.1:1 [127.0.0.1]"


@asynchronous
async def test_a_black_hole_fails_in_tcp_after_its_own_time_out() -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    crowd = []
    for _ in range(3):  # fills the queue: further connections are neither taken nor refused
        each = socket.socket()
        each.setblocking(False)
        each.connect_ex(("127.0.0.1", port))
        crowd.append(each)
    error = await failure(f"ws://127.0.0.1:{port}/")
    for each in [*crowd, full]:
        each.close()
    assert (error.phase, error.code) == ("tcp", "timeout")
    assert "443" in error.remedy


@asynchronous
async def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "relay.example", DEAD, HERE)
    async with emulator() as relay:
        error = await failure(f"ws://relay.example:{relay.port}/")
    assert (error.status, error.address) == (400, f"relay.example:{relay.port} [{HERE}]")


@asynchronous
async def test_a_name_is_looked_up_anew_on_every_dial_because_private_endpoints_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with emulator() as relay:
        for address, status in [(HERE, 400), (DEAD, None), (HERE, 400)]:
            resolve(monkeypatch, "relay.example", address)
            error = await failure(f"ws://relay.example:{relay.port}/")
            assert (error.status, error.address) == (status, f"relay.example:{relay.port} [{address}]")


@asynchronous
async def test_a_listener_and_its_senders_follow_a_relay_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with emulator() as relay:
        resolve(monkeypatch, "relay.example", HERE)
        key = SharedAccessKey(KEY_NAME, KEY)
        connection = HybridConnection(Namespace("relay.example", relay.port, secure=False), "actions", key)
        async with listening(connection) as listener:
            assert await Sender(connection).send("here") == "here"
            async with Emulator(DEAD, relay.port, hybrid_connections=["actions"], keys={KEY_NAME: KEY}) as elsewhere:
                resolve(monkeypatch, "relay.example", DEAD)
                await relay.stop()
                await elsewhere.wait_for_listeners("actions", 1)
                await until(lambda: listener.state == ListenerState.HEARING)
                assert await Sender(connection).send("there") == "there"


@asynchronous
async def test_a_server_without_tls_fails_in_tls() -> None:
    async with emulator() as relay:
        error = await failure(f"wss://127.0.0.1:{relay.port}/")
    assert error.phase == "tls"


@asynchronous
async def test_a_server_that_is_silent_during_tls_fails_in_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert (await failure(f"wss://127.0.0.1:{silent.getsockname()[1]}/")).phase == "tls"


@asynchronous
async def test_a_server_that_is_silent_during_the_upgrade_fails_in_upgrade() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await failure(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
    assert (error.phase, error.code) == ("upgrade", "timeout")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection_lost"),
        (b"SSH-2.0-OpenSSH\r\n", "bad_handshake"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "bad_handshake"),
    ],
)
@asynchronous
async def test_an_answer_that_is_no_handshake_fails_in_upgrade(answer: bytes, code: str) -> None:
    async with serving(answer) as port:
        error = await failure(f"ws://127.0.0.1:{port}/")
    assert (error.phase, error.code) == ("upgrade", code)


@asynchronous
async def test_a_server_that_speaks_first_and_not_http_fails_in_upgrade_at_once() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    error = await failure(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()
    assert (error.phase, error.code) == ("upgrade", "bad_handshake")


@asynchronous
async def test_a_refusal_tells_status_tracking_id_clock_skew_and_when_to_come_again() -> None:
    answer = (
        b"HTTP/1.1 401 InvalidSignature: no. TrackingId:1234-5678_G1, SystemTracker:x\r\n"
        b"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
    )
    async with serving(answer) as port:
        error = await failure(f"ws://127.0.0.1:{port}/")
    assert (error.phase, error.status, error.code) == ("upgrade", 401, "unauthorized")
    assert error.tracking_id == "1234-5678_G1"
    assert error.retry_after == 7
    assert error.clock_skew is not None
    assert error.clock_skew > 86400
    assert "ahead of theirs" in str(error)
    assert error.remedy.startswith(f"Check this machine's clock: it is {error.clock_skew:.0f} s ahead of the relay's.")


@pytest.mark.parametrize(("hours", "words"), [(-2, "s behind the relay's"), (2, "s ahead of the relay's"), (0, None)])
@asynchronous
async def test_a_refused_token_is_laid_at_the_clocks_door_only_when_the_clock_is_off(
    hours: int, words: str | None
) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(hours=hours), usegmt=True)
    async with serving(f"HTTP/1.1 401 No\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()) as port:
        remedy = (await failure(f"ws://127.0.0.1:{port}/")).remedy
    assert ("Check this machine's clock: it is 7" in remedy) == bool(words)
    assert (words or "") in remedy
    assert "Check key name and key" in remedy


@asynchronous
async def test_each_phase_has_a_time_out_of_its_own() -> None:
    none = {"dns": 0.0, "tcp": 0.0, "upgrade": 0.0}
    async with emulator() as relay:
        for phase, seconds in none.items():
            limits = replace(PhaseTimeouts(), **{phase: seconds})
            error = await failure(f"ws://localhost:{relay.port}/", DialOptions(limits, proxy=None))
            assert (error.phase, error.code) == (phase, "timeout")


@asynchronous
async def test_all_phases_together_may_have_a_bound_and_the_one_that_was_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DialError) as caught:
            await dial(f"ws://127.0.0.1:{port}/", DialOptions(proxy=None), within=0.2)
    assert (caught.value.phase, caught.value.code) == ("upgrade", "timeout")
    assert caught.value.address == f"127.0.0.1:{port} [127.0.0.1]"


@asynchronous
async def test_a_half_open_connection_dies_within_45_seconds_even_without_pings() -> None:
    async with emulator() as relay:
        token = relay.credential(KEY_NAME).token("http://127.0.0.1/actions")
        address = relay.hybrid_connection("actions", KEY_NAME).listen_address()
        async with await dial(address, DialOptions(), headers={TOKEN_HEADER: token.value}) as websocket:
            sock = websocket.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            in_force = {
                name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in SOCKET_OPTIONS
                if hasattr(socket, name)
            }
    assert in_force == {name: SOCKET_OPTIONS[name] for name in in_force}
    assert in_force["TCP_KEEPINTVL"] * in_force["TCP_KEEPCNT"] + SOCKET_OPTIONS["TCP_KEEPIDLE"] < 45
    assert in_force.get("TCP_USER_TIMEOUT", 0) < 45_000


class Unreachable:
    """A credential whose issuer fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        raise self.error


class Slow:
    """A credential whose issuer does not answer."""

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        await asyncio.Event().wait()
        raise AssertionError


@asynchronous
async def test_an_issuer_that_does_not_answer_has_a_time_out_of_its_own() -> None:
    connection = HybridConnection(Namespace("127.0.0.1", 1, secure=False), "actions", Slow())
    with pytest.raises(DialError) as caught:
        await Sender(connection, SenderOptions(dial=DialOptions(PhaseTimeouts(token=0.1)))).send("hello")
    assert (caught.value.phase, caught.value.code) == ("token", "no_token")


@asynchronous
async def test_a_token_that_cannot_be_had_is_told_as_such_whatever_failed() -> None:
    way = DialError("timed out", phase=Phase.TCP, address="login.example:443 [10.0.0.1]", retry_after=3, remedy="Look.")
    for cause, inner in ((OSError("no way, secret=xyz"), None), (way, "tcp")):
        connection = HybridConnection(Namespace("127.0.0.1", 1, secure=False), "actions", Unreachable(cause))
        with pytest.raises(DialError) as caught:
            await Sender(connection).send("hello")
        error = caught.value
        assert (error.phase, error.code, error.inner_phase) == ("token", "no_token", inner)
        assert error.message.startswith("no token could be had")
        assert error.remedy
        assert "xyz" not in str(error)
    assert (error.address, error.retry_after) == ("login.example:443 [10.0.0.1]", 3)


@asynchronous
async def test_redirects_are_not_followed_because_they_would_carry_the_token_elsewhere() -> None:
    async with serving(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as port:
        assert (await failure(f"ws://127.0.0.1:{port}/")).status == 302


@pytest.mark.parametrize("address", ["http://host/", "ws://", "ws://host:x/", "wss://host/#part"])
@asynchronous
async def test_an_address_that_is_none_is_an_error_of_configuration(address: str) -> None:
    with pytest.raises(ConfigurationError):
        await dial(address, DialOptions())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def tls_emulator(certificates: Certificates) -> AsyncIterator[Emulator]:
    options = EmulatorOptions(tls=certificates.serving())
    async with Emulator(hybrid_connections=["actions"], keys={KEY_NAME: KEY}, options=options) as relay:
        yield relay


@asynchronous
async def test_everything_works_over_tls_with_a_certificate_authority_of_ones_own(certificates: Certificates) -> None:
    trusting = DialOptions(tls=certificates.trusting(), proxy=None)
    async with tls_emulator(certificates) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        assert connection.listen_address().startswith("wss://127.0.0.1:")
        async with listening(connection, dial=trusting):
            assert await Sender(connection, SenderOptions(dial=trusting)).send("hello") == "hello"


@asynchronous
async def test_a_certificate_nobody_vouches_for_fails_in_tls_and_says_why(certificates: Certificates) -> None:
    async with tls_emulator(certificates) as relay:
        connection: HybridConnection = relay.hybrid_connection("actions", KEY_NAME)
        error = await failure(connection.listen_address())
    assert error.phase == "tls"
    assert "issuer" in error.message or "self-signed" in error.message
    assert "certificate authority" in error.remedy
