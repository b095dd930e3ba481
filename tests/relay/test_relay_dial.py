"""Every phase of a dial fails in its own words."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import ConfigurationError, DialError, DialOptions, HybridConnection, PhaseTimeouts, Sender, SenderOptions
from relay.dial import dial
from relay.emulator import Emulator, EmulatorOptions
from tests.relay.support import KEY, KEY_NAME, asynchronous, emulator, listening

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
        await dial(address, options or DialOptions(SHORT))
    assert caught.value.connection_failed
    return caught.value


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
async def test_all_addresses_of_a_name_are_tried() -> None:
    """localhost is ::1 and 127.0.0.1; the emulator is on one of them only."""
    async with emulator() as relay:
        error = await failure(f"ws://localhost:{relay.port}/")
    assert error.status == 400


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
    assert "our clock is" in str(error)
    assert "clock" in error.remedy


@asynchronous
async def test_redirects_are_not_followed_because_they_would_carry_the_token_elsewhere() -> None:
    async with serving(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n") as port:
        assert (await failure(f"ws://127.0.0.1:{port}/")).status == 302


FAR = "wss://contoso.servicebus.windows.net/$hc/actions"


@asynchronous
async def test_a_proxy_that_wants_credentials_fails_in_proxy_with_407() -> None:
    async with serving(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as port:
        error = await failure(FAR, DialOptions(SHORT, proxy=f"http://user:topsecret@127.0.0.1:{port}"))
    assert (error.phase, error.status) == ("proxy", 407)
    assert "cntlm" in error.remedy
    assert "topsecret" not in str(error)
    assert f"by proxy 127.0.0.1:{port}" in str(error)


@asynchronous
async def test_a_proxy_that_is_none_fails_in_proxy() -> None:
    async with serving(b"220 smtp.example\r\n") as port:
        assert (await failure(FAR, DialOptions(SHORT, proxy=f"http://127.0.0.1:{port}"))).phase == "proxy"


@asynchronous
async def test_a_proxy_that_is_not_there_fails_in_tcp() -> None:
    assert (await failure(FAR, DialOptions(SHORT, proxy="http://127.0.0.1:1"))).phase == "tcp"


@asynchronous
async def test_a_proxy_whose_tunnel_leads_nowhere_fails_in_tls_not_in_proxy() -> None:
    async with serving(b"HTTP/1.1 200 Connection established\r\n\r\n") as port:
        error = await failure(FAR, DialOptions(SHORT, proxy=f"http://127.0.0.1:{port}"))
    assert error.phase in {"tls", "proxy"}


@asynchronous
async def test_the_environments_proxy_is_used_for_azure_but_never_for_an_emulator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("https_proxy", "wss_proxy", "http_proxy", "ws_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert "by proxy 127.0.0.1:1" in str(await failure(FAR))
    async with emulator() as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        async with listening(connection):
            assert await Sender(connection).send("hello") == "hello"


@pytest.mark.parametrize("proxy", ["http://", "ftp://proxy:1", "http://useronly@proxy:1"])
@asynchronous
async def test_a_proxys_address_that_cannot_be_used_is_an_error_of_configuration(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy"):
        await dial(FAR, DialOptions(proxy=proxy))


@pytest.mark.parametrize("address", ["http://host/", "ws://", "ws://host:x/", "wss://host/#part"])
@asynchronous
async def test_an_address_that_is_none_is_an_error_of_configuration(address: str) -> None:
    with pytest.raises(ConfigurationError):
        await dial(address, DialOptions())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        reason = "openssl is not installed: no certificate to test TLS with"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(path.with_suffix(".key")), "-out", str(path), "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + path.with_suffix(".key").read_bytes())
    return path


@asynccontextmanager
async def tls_emulator(certificate: Path) -> AsyncIterator[Emulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with Emulator(
        hybrid_connections=["actions"], keys={KEY_NAME: KEY}, options=EmulatorOptions(tls=context)
    ) as relay:
        yield relay


@asynchronous
async def test_everything_works_over_tls_with_a_certificate_authority_of_ones_own(certificate: Path) -> None:
    trusting = DialOptions(tls=ssl.create_default_context(cafile=str(certificate)))
    async with tls_emulator(certificate) as relay:
        connection = relay.hybrid_connection("actions", KEY_NAME)
        assert connection.listen_address().startswith("wss://127.0.0.1:")
        async with listening(connection, dial=trusting):
            assert await Sender(connection, SenderOptions(dial=trusting)).send("hello") == "hello"


@asynchronous
async def test_a_certificate_nobody_vouches_for_fails_in_tls_and_says_why(certificate: Path) -> None:
    async with tls_emulator(certificate) as relay:
        connection: HybridConnection = relay.hybrid_connection("actions", KEY_NAME)
        error = await failure(connection.listen_address())
    assert error.phase == "tls"
    assert "self-signed" in error.message
    assert "certificate authority" in error.remedy
