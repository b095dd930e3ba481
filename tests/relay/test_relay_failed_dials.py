"""A dial that failed is told once, by its error: nothing of it is left behind, in no log and in no thread."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import DialError, DialOptions, PhaseTimeouts
from relay.dial import MOST_LOOKUPS, dial
from tests import patient_loop
from tests.relay.certificates import Certificates, make_certificates

SHORT = PhaseTimeouts(dns=0.3, tcp=2, proxy=0.5, tls=0.5, upgrade=0.5)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def nothing_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What asyncio finds wrong, futures that nobody asked included, it logs."""
    yield
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    ended: list[asyncio.Task[None]] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)


async def cut_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def cut_in_the_middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.transport.abort()


async def hang_up_in_the_middle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(65_536)


async def say_something_else(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65_536)
    writer.write(b"220 smtp.example ready\r\n")
    await writer.drain()


async def be_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


async def failure(address: str, options: DialOptions) -> DialError:
    with pytest.raises(DialError) as caught:
        await dial(address, options)
    await asyncio.sleep(0)  # what is left behind comes a round later
    return caught.value


SERVERS = [cut_at_once, cut_in_the_middle, hang_up_in_the_middle, say_something_else, be_silent]


@pytest.mark.parametrize("serve", SERVERS)
@pytest.mark.usefixtures("nothing_left")
def test_a_tls_handshake_that_breaks_is_told_once(serve: Serve) -> None:
    async def run() -> None:
        async with serving(serve) as port:
            error = await failure(f"wss://127.0.0.1:{port}/", DialOptions(SHORT, proxy=None))
        assert error.phase == "tls"

    patient_loop.run(run())


@pytest.mark.parametrize("serve", SERVERS)
@pytest.mark.usefixtures("nothing_left")
def test_a_tls_handshake_that_breaks_with_the_proxy_is_told_once(serve: Serve) -> None:
    async def run() -> None:
        async with serving(serve) as port:
            options = DialOptions(SHORT, proxy=f"https://127.0.0.1:{port}")
            error = await failure("wss://relay.invalid/", options)
        assert error.phase == "proxy"

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_a_certificate_that_is_not_trusted_is_told_once(certificates: Certificates) -> None:
    async def run() -> None:
        async with serving(be_silent, certificates.serving()) as port:
            for address, proxy, phase in (
                (f"wss://127.0.0.1:{port}/", None, "tls"),
                ("wss://relay.invalid/", f"https://127.0.0.1:{port}", "proxy"),
            ):
                error = await failure(address, DialOptions(SHORT, proxy=proxy))
                assert (error.phase, error.code) == (phase, "tls_failed")

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_a_certificate_for_another_name_is_told_once(tmp_path: Path) -> None:
    async def run() -> None:
        other = make_certificates(tmp_path)
        async with serving(be_silent, other.serving(), host="127.0.0.2") as port:
            options = DialOptions(SHORT, proxy=None, tls=other.trusting())
            error = await failure(f"wss://127.0.0.2:{port}/", options)
        assert (error.phase, error.code) == ("tls", "tls_failed")
        assert "127.0.0.2" in error.message

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_what_is_said_right_after_the_tls_handshake_is_not_lost(certificates: Certificates) -> None:
    """A server of another kind greets at once: that is told as such, and not as silence."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ready\r\n")
        await writer.drain()
        await reader.read()

    async def run() -> None:
        async with serving(greet, certificates.serving()) as port:
            options = DialOptions(SHORT, proxy=None, tls=certificates.trusting())
            error = await failure(f"wss://127.0.0.1:{port}/", options)
        assert (error.phase, error.code) == ("upgrade", "bad_handshake")

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_a_connection_that_is_cut_right_after_the_tls_handshake_is_told_once(certificates: Certificates) -> None:
    async def run() -> None:
        async with serving(cut_at_once, certificates.serving()) as port:
            options = DialOptions(SHORT, proxy=None, tls=certificates.trusting())
            error = await failure(f"wss://127.0.0.1:{port}/", options)
            assert (error.phase, error.code) in {("upgrade", "connection_lost"), ("tls", "tls_failed")}
            through = DialOptions(SHORT, proxy=f"https://127.0.0.1:{port}", tls=certificates.trusting())
            error = await failure("wss://relay.invalid/", through)
        assert error.phase == "proxy"

    patient_loop.run(run())


# --- names


class Resolver:
    """Hangs until it is let go, then answers with `error` or 127.0.0.1."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0
        self.error: Exception | None = None

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        self.asked += 1
        self.go.wait(20)
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    slow = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.go.set()
    for thread in lookups():
        thread.join()


def lookups() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "relay-dns"]


@pytest.mark.usefixtures("nothing_left")
def test_a_resolver_that_hangs_keeps_few_threads_however_often_it_is_asked(resolver: Resolver) -> None:
    async def run() -> None:
        hasty = DialOptions(PhaseTimeouts(dns=0.05), proxy=None)
        for _ in range(3):
            errors = await asyncio.gather(*(failure("ws://slow.example/", hasty) for _ in range(50)))
            assert {(error.phase, error.code) for error in errors} == {("dns", "timeout")}
        assert len(lookups()) == resolver.asked == MOST_LOOKUPS
        waiting = asyncio.create_task(failure("ws://slow.example:1/", DialOptions(PhaseTimeouts(dns=10), proxy=None)))
        resolver.go.set()
        assert (await waiting).phase == "tcp"

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_all_who_wait_for_one_lookup_get_its_answer_and_the_next_dial_asks_anew(resolver: Resolver) -> None:
    async def run() -> None:
        patient = DialOptions(PhaseTimeouts(dns=10), proxy=None)
        waiting = [asyncio.create_task(failure("ws://slow.example:1/", patient)) for _ in range(MOST_LOOKUPS + 5)]
        while resolver.asked < MOST_LOOKUPS:
            await asyncio.sleep(0.005)
        resolver.go.set()
        assert {(error.phase, error.code) for error in await asyncio.gather(*waiting)} == {("tcp", "refused")}
        await failure("ws://slow.example:1/", patient)
        assert resolver.asked == MOST_LOOKUPS + 1

    patient_loop.run(run())


@pytest.mark.parametrize("error", [ValueError("embedded null"), RuntimeError("odd"), OSError(5, "I/O error")])
@pytest.mark.usefixtures("nothing_left")
def test_whatever_the_resolver_raises_is_told_at_once_in_dns(resolver: Resolver, error: Exception) -> None:
    async def run() -> None:
        resolver.error = error
        resolver.go.set()
        failed = await failure("ws://odd.example/", DialOptions(PhaseTimeouts(dns=10), proxy=None))
        assert (failed.phase, failed.code) == ("dns", "lookup_failed")

    patient_loop.run(run())


@pytest.mark.usefixtures("nothing_left")
def test_a_process_that_can_start_no_thread_is_told_in_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            failed = await failure("ws://localhost:1/", DialOptions(SHORT, proxy=None))
        assert (failed.phase, failed.code) == ("dns", "lookup_failed")
        assert "thread" in failed.message

    patient_loop.run(run())
