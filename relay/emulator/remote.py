"""Asks a running emulator, over HTTP, what it does and to have something go wrong (`relay.emulator.admin`)."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from relay.errors import ConfigurationError, DialError, Phase
from relay.tokens import TOKEN_HEADER

DEFAULT_ADDRESS: Final = "http://127.0.0.1:9080"


@dataclass(frozen=True, slots=True)
class RemoteEmulator:
    """An emulator in another process.

    Attributes:
        address: ``http://HOST:PORT``, or ``https://`` where it serves TLS.
        ca_file: Its certificate authority, for ``https``.
        token: A namespace-wide token with the right Manage, where the emulator is on another machine.
        timeout: Seconds it may take to answer.
    """

    address: str = DEFAULT_ADDRESS
    ca_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    timeout: float = 10.0

    def overview(self) -> dict[str, Any]:
        """Hybrid connections with their listeners, the faults in force, counts of what happened."""
        return dict(self._ask("GET", ""))

    def faults(self) -> dict[str, Any]:
        """The catalogue (``catalogue``) and the faults in force (``in_force``)."""
        return dict(self._ask("GET", "faults"))

    def begin(self, name: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - texts, numbers, booleans
        """Have a fault happen or begin; see `Faults.begin`. Tells those in force."""
        return dict(self._ask("POST", f"faults/{quote(name, safe='')}", json.dumps(parameters)))

    def end(self, name: str | None = None) -> dict[str, Any]:
        """End the faults of this name, or all of them. Tells those still in force."""
        return dict(self._ask("DELETE", f"faults/{quote(name, safe='')}" if name else "faults"))

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        """What happened (`Entry`) after the entry of that number, oldest first: an empty list is the end so far."""
        return list(self._ask("GET", f"log?after={after}"))

    def _ask(self, method: str, what: str, body: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """One request.

        Raises:
            ConfigurationError: the emulator refuses it, or the address cannot be used.
            DialError: nobody answers there, or nobody who is an emulator.
        """
        connection = self._connection()
        headers = {TOKEN_HEADER: self.token} if self.token else {}
        try:
            connection.request(method, f"/-/{what}", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except OSError as error:
            raise DialError(
                f"no emulator answers ({type(error).__name__})",
                phase=Phase.TCP,
                address=self.address,
                code="unreachable",
                remedy="Is it running, and is that its address?",
            ) from error
        except (HTTPException, ValueError):
            raise DialError(
                "what answers is no emulator, or does not let us in",
                phase=Phase.UPGRADE,
                address=self.address,
                code="no_emulator",
                remedy="From another machine it wants a token with the right Manage.",
            ) from None
        finally:
            connection.close()
        if response.status != 200:
            raise ConfigurationError(
                str(answer.get("message")), code=str(answer.get("code")), remedy=str(answer.get("remedy"))
            )
        return answer

    def _connection(self) -> HTTPConnection:
        try:
            parts = urlsplit(self.address if "://" in self.address else f"http://{self.address}")
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if not host or parts.scheme not in {"http", "https"}:
            raise ConfigurationError("the emulator's address reads http://HOST:PORT", code="bad_address")
        if parts.scheme == "http":
            return HTTPConnection(host, port, timeout=self.timeout)
        context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        return HTTPSConnection(host, port, timeout=self.timeout, context=context)
