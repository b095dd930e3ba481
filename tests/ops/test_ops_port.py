"""The ops port as a socket: what is answered is sent at once, and a question for the live stream's head has an end."""

from __future__ import annotations

import asyncio
import socket

import pytest
from ops_support import asynchronous, fetch, running
from window_support import OPERATOR, ROLES, Browser, Make, signed_in

from gateway.ops.server import _bound


@asynchronous
async def test_what_is_left_of_an_answer_does_not_wait_until_the_rest_was_acknowledged() -> None:
    """Nagle's algorithm (RFC 896) beside a delayed ACK held pages of some sizes back for 40 ms."""
    set_so = asyncio.get_running_loop().create_future()

    def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        set_so.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(came, sock=_bound("127.0.0.1", 0)) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await set_so
        writer.close()


@asynchronous
async def test_the_live_stream_has_a_head_without_a_body(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        answer = await Browser(port).head("/clinic/live")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@asynchronous
async def test_head_is_get_without_a_body_also_before_anybody_has_signed_in(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        for path in ("/clinic", "/sign-in", "/sign-in?next=/outbox", "/nothing", "/clinic.json"):
            got, head = await Browser(port).get(path), await Browser(port).head(path)
            assert (head.status, head.body) == (got.status, b""), path
            assert head.headers.get("location") == got.headers.get("location"), path


@asynchronous
async def test_who_only_looks_at_the_sign_in_page_tries_no_token(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(**ROLES), monkeypatch) as (_, port):
        for _ in range(11):
            await Browser(port).head("/sign-in")
        wrong = await Browser(port).post("/sign-in", token="wrong", name="Nurse Ada")
        await signed_in(port, OPERATOR)
    assert wrong.status == 401


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/clinic", "GET, HEAD"),
        ("DELETE", "/clinic.json", "GET, HEAD"),
        ("PUT", "/step/ACC001", "GET, HEAD"),
        ("PUT", "/step/complete", "GET, HEAD, POST"),
        ("GET", "/sign-out", "POST"),
        ("DELETE", "/sign-in", "GET, HEAD, POST"),
        ("POST", "/static/window.js", "GET, HEAD"),
    ],
)
@asynchronous
async def test_a_page_that_is_asked_by_another_method_says_by_which_it_can_be(
    method: str, path: str, allowed: str, own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_settings(), monkeypatch) as (_, port):
        told = await fetch(port, path, method)
        none = await fetch(port, "/nothing", method)
    assert (told.status, told.json["code"], told.headers["allow"]) == (405, "wrong_method", allowed)
    assert none.status == 404
