"""Microsoft Entra on this machine: an endpoint that gives JWTs like a managed identity's, and a clocked issuer."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from relay.tokens import DEFAULT_LIFETIME, Token
from tests import patient_loop

AUDIENCE = "https://relay.azure.net"
SECRET = "header-of-the-endpoint"


def jwt(*, expires: float, number: int = 0, audience: object = AUDIENCE, **more: object) -> str:
    """A token as Microsoft Entra makes them, its signature aside."""
    parts = ({"typ": "JWT", "alg": "RS256"}, {"aud": audience, "exp": expires, "uti": number, **more})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


@dataclass
class Endpoint:
    """App Service's managed identity endpoint (azure-identity: IDENTITY_ENDPOINT, IDENTITY_HEADER).

    Attributes:
        life: Seconds that its tokens live.
        fault: Status that it answers instead of giving a token; 0 for none.
        hold: Cleared, it answers nobody until it is set again.
    """

    port: int = 0
    life: int = 3600
    fault: int = 0
    hold: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """How azure-identity finds it."""
        return {"IDENTITY_ENDPOINT": f"http://127.0.0.1:{self.port}/msi/token", "IDENTITY_HEADER": SECRET}

    def answer(self, target: str, secret: str | None) -> tuple[int, dict[str, Any]]:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        self.asked.append(query)
        self.hold.wait(20)
        if self.fault or secret != SECRET:
            return self.fault or 401, {"statusCode": self.fault, "message": "said with eyJhbGciOi.secret"}
        expires = int(time.time()) + self.life
        token = jwt(expires=expires, number=len(self.asked), audience=query["resource"])
        return 200, {
            "access_token": token,
            "expires_on": str(expires),
            "resource": query["resource"],
            "token_type": "Bearer",
        }


@contextmanager
def identity_endpoint(**options: Any) -> Iterator[Endpoint]:
    """Serve one."""
    endpoint = Endpoint(**options)
    endpoint.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = endpoint.answer(self.path, self.headers.get("X-IDENTITY-HEADER"))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            with suppress(OSError):  # whoever asked has gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield endpoint
    finally:
        endpoint.hold.set()
        server.shutdown()
        server.server_close()


class Issuer:
    """A token source that keeps its token as azure-identity does, and gives a newer one only near its end.

    Args:
        life: Seconds that a token lives.
        window: Seconds before its end from which on there is a newer one.
    """

    def __init__(self, life: float, window: float) -> None:
        self.life = life
        self.window = window
        self.issued = 0
        self.asked = 0
        self.away = False
        self._kept: Token | None = None

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        self.asked += 1
        now = patient_loop.clock_of_day()()
        kept = self._kept
        if kept is not None and kept.expires_at and kept.expires_at - now > timedelta(seconds=self.window):
            return kept
        if self.away:
            raise OSError("the issuer is away")
        self.issued += 1
        expires_at = now + timedelta(seconds=self.life)
        self._kept = Token(jwt(expires=expires_at.timestamp(), number=self.issued), expires_at)
        return self._kept
