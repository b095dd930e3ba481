"""A browser for the window's pages, as far as HTTP goes, and what the pages' tests share."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from ops_support import Answer

from bench.synthetic import PERSON
from gateway.service import Service
from gateway.settings import Settings

Make = Callable[..., Settings]
HTML = {"Accept": "text/html,*/*"}
OPERATOR = "operator-token-0123456789"
VIEWER = "viewer-token-0123456789"
AUDITOR = "auditor-token-0123456789"
ROLES = {
    "gateway_ops_operator_token": OPERATOR,
    "gateway_ops_viewer_token": VIEWER,
    "gateway_ops_auditor_token": AUDITOR,
}
WORDS = ["SMITH", "JANE", PERSON["patient_id"], PERSON["patient_birth_date"]]
"""What identifies the woman of `bench.synthetic.appointment`."""


class Browser:
    """Keeps its cookie, sends what browsers send."""

    def __init__(self, port: int, **headers: str) -> None:
        self.port = port
        self.headers = HTML | {name.replace("_", "-"): value for name, value in headers.items()}

    async def get(self, path: str) -> Answer:
        return await asyncio.to_thread(self._send, "GET", path, None)

    async def head(self, path: str) -> Answer:
        return await asyncio.to_thread(self._send, "HEAD", path, None)

    async def post(self, path: str, **fields: str) -> Answer:
        return await asyncio.to_thread(self._send, "POST", path, fields)

    def _send(self, method: str, path: str, fields: dict[str, str] | None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = self.headers | ({"Content-Type": "application/x-www-form-urlencoded"} if fields is not None else {})
        try:
            connection.request(method, path, urlencode(fields) if fields is not None else None, headers)
            response = connection.getresponse()
            for name, value in response.getheaders():
                if name.lower() == "set-cookie":
                    self.headers["Cookie"] = value.partition(";")[0]
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


def text(answer: Answer) -> str:
    return answer.body.decode()


def secret_of(answer: Answer) -> str:
    found = re.search(r'name="secret" value="([^"]+)"', text(answer))
    assert found
    return found[1]


async def signed_in(port: int, token: str, name: str = "Nurse Ada") -> tuple[Browser, str]:
    """A browser of somebody who has signed in, and the secret of its session."""
    browser = Browser(port)
    answer = await browser.post("/sign-in", token=token, name=name, next="/clinic")
    assert answer.status == 303
    found = re.search(r'name="secret" value="([^"]+)"', text(await browser.get("/clinic")))
    assert found
    return browser, found[1]


async def operators_of(service: Service, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Who did it and what was said, of the events of a kind."""
    from gateway.audit import event_log

    def read() -> list[tuple[str, dict[str, Any]]]:
        chosen = event_log.choose(service.gateway, event_log.Wanted(kinds=(kind,)))
        states = [
            event_log.open_state(service.gateway, row) for row in event_log.rows(service.gateway, chosen.selection)
        ]
        parts = [event_log.parts_of(kind, state) for state in states]
        return [(metadata["correlation_id"], said | identifying) for metadata, said, identifying in parts]

    return await asyncio.to_thread(read)


async def refused_to_a_viewer_and_to_forgers(port: int, path: str, **fields: str) -> None:
    """An act is for operators only, from our own page only, and says why; needs the tokens of `ROLES`."""
    viewer, secret = await signed_in(port, VIEWER)
    assert (await viewer.post(path, secret=secret, reason="curious", **fields)).status == 403
    operator, secret = await signed_in(port, OPERATOR)
    assert (await operator.post(path, reason="forged", **fields)).status == 403
    operator.headers["Origin"] = "https://elsewhere.example"
    assert (await operator.post(path, secret=secret, reason="forged", **fields)).status == 403
    del operator.headers["Origin"]
    silent = await operator.post(path, secret=secret, reason=" ", **fields)
    assert silent.status == 400
    assert "say why" in text(silent)


def names_nobody(answers: Sequence[Answer], words: Sequence[str] = WORDS) -> bool:
    return not [word for word in words if any(word in text(answer) for answer in answers)]
