"""`gateway relay status`: what the running service says of its control channel, or that nobody can be asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cli_support import Command
from test_cli_json import SECTIONS, is_documented

HEARING: dict[str, Any] = SECTIONS["relay status"][0]
DEAF = HEARING | {"ok": False, "state": "deaf", "error": "control: no echo came back within 10 s"}


@contextmanager
def answering(status: int, body: bytes) -> Iterator[int]:
    """Something at a port that answers every GET like this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def health(relay: dict[str, Any]) -> bytes:
    return json.dumps({"healthy": relay["ok"], "checks": {"relay": relay}}).encode()


def test_it_tells_what_the_service_says(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {name: value for name, value in HEARING.items() if value is not None}
    with answering(200, health(told)) as port:
        monkeypatch.setenv("GATEWAY_OPS_PORT", str(port))
        shown, outcome = run("relay", "status"), run("relay", "status", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json == HEARING
    is_documented(outcome.json, "relay status")
    assert shown.code == 0
    assert "hearing" in shown.out
    assert "41.2" in shown.out
    assert "error" not in shown.out


def test_a_relay_that_is_not_heard_is_exit_code_1_with_the_reason(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(503, health(DEAF)) as port:
        monkeypatch.setenv("GATEWAY_OPS_PORT", str(port))
        shown, outcome = run("relay", "status"), run("relay", "status", "--json")
    assert (outcome.code, outcome.json) == (1, DEAF)
    assert shown.code == 1
    assert "no echo came back" in shown.out


def test_without_relay_settings_there_is_nothing_more_to_tell(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, health({"ok": True, "state": "not configured"})) as port:
        monkeypatch.setenv("GATEWAY_OPS_PORT", str(port))
        outcome = run("relay", "status", "--json")
    assert outcome.code == 0
    assert list(outcome.json) == list(HEARING)
    assert {name for name, value in outcome.json.items() if value is not None} == {"ok", "state"}


def test_a_service_that_does_not_run_is_unreachable(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_OPS_PORT", "1")
    outcome = run("relay", "status", "--json")
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err.startswith("gateway: unreachable: nobody answers at the ops port 127.0.0.1:1: ")
    assert "GATEWAY_OPS_PORT" in outcome.err


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"checks": {"relay": 7}}', b'{"checks": []}'])
def test_something_else_at_the_port_is_unreachable_too(
    run: Command, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    with answering(200, body) as port:
        monkeypatch.setenv("GATEWAY_OPS_PORT", str(port))
        monkeypatch.setenv("GATEWAY_OPS_HOST", "0.0.0.0")
        outcome = run("relay", "status")
    assert (outcome.code, outcome.out) == (3, "")
    assert f"127.0.0.1:{port} is not the gateway" in outcome.err
