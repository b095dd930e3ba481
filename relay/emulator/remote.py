"""Asks a running emulator, over HTTP, what it does and to have something go wrong (`relay.emulator.admin`)."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from relay.errors import ConfigurationError, DialError, Phase, RelayError
from relay.tokens import TOKEN_HEADER, SharedAccessKey

DEFAULT_ADDRESS: Final = "http://127.0.0.1:9080"

_TOKEN_LIFETIME: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RemoteEmulator:
    """An emulator in another process.

    Attributes:
        address: ``http://HOST:PORT``, or ``https://`` where it serves TLS.
        ca_file: Its certificate authority, for ``https``.
        key: A shared access key with the right Manage; needed where the emulator is on another machine.
        timeout: Seconds it may take to answer.
    """

    address: str = DEFAULT_ADDRESS
    ca_file: Path | None = None
    key: SharedAccessKey | None = None
    timeout: float = 10.0

    def overview(self) -> dict[str, Any]:
        """Hybrid connections with their listeners, the faults in force, counts of what happened."""
        return self._object("GET", "", "hybrid_connections")

    def faults(self) -> dict[str, Any]:
        """The catalogue (``catalogue``) and the faults in force (``in_force``)."""
        return self._object("GET", "faults", "catalogue")

    def begin(self, name: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401 - texts, numbers, booleans
        """Have a fault happen or begin; see `Faults.begin`. Tells it (``begun``) and those ``in_force``."""
        return self._object("POST", f"faults/{_quoted(name)}", "begun", json.dumps(parameters))

    def end(self, name: str | None = None) -> dict[str, Any]:
        """End the faults of this name, or all of them. Tells those still in force."""
        return self._object("DELETE", f"faults/{_quoted(name)}" if name else "faults", "in_force")

    def log(self, after: int = 0) -> list[dict[str, Any]]:
        """What happened (`Entry`) after the entry of that number, oldest first: an empty list is the end so far."""
        entries = self._ask("GET", f"log?after={after}")
        if not isinstance(entries, list):
            raise self._no_emulator()
        return entries

    def _object(self, method: str, what: str, key: str, body: str | None = None) -> dict[str, Any]:
        """One request whose answer is an object with this key."""
        answer = self._ask(method, what, body)
        if not isinstance(answer, dict) or key not in answer:
            raise self._no_emulator()
        return answer

    def _ask(self, method: str, what: str, body: str | None = None) -> Any:  # noqa: ANN401 - JSON
        """One request.

        Raises:
            ConfigurationError: the emulator refuses it, or the address or the authority cannot be used.
            DialError: nobody answers there, or nobody who is an emulator or lets us in.
        """
        connection = self._connection()
        try:
            connection.request(method, f"/-/{what}", body, self._headers(connection.host))
            response = connection.getresponse()
            status, text = response.status, response.read()
        except OSError as error:
            raise self._unreachable(error) from error
        except HTTPException:
            raise self._no_emulator() from None
        finally:
            connection.close()
        if status in {401, 403}:
            raise self._not_let_in(status)
        try:
            answer = json.loads(text)
        except ValueError:
            raise self._no_emulator() from None
        if status != 200:
            raise self._refused(answer)
        return answer

    def _headers(self, host: str) -> dict[str, str]:
        if self.key is None:
            return {}
        return {TOKEN_HEADER: self.key.token(f"http://{host}/", _TOKEN_LIFETIME).value}

    def _refused(self, answer: Any) -> RelayError:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict) or not answer.keys() >= {"code", "message", "remedy"}:
            return self._no_emulator()
        return ConfigurationError(str(answer["message"]), code=str(answer["code"]), remedy=str(answer["remedy"]))

    def _unreachable(self, error: OSError) -> DialError:
        message, phase = f"no emulator answers ({type(error).__name__})", Phase.TCP
        remedy = "Is it running, and is that its address? Where it serves TLS, the address begins https://."
        if isinstance(error, ssl.SSLCertVerificationError):
            message, phase = f"the emulator's certificate is not trusted: {error.verify_message}", Phase.TLS
            remedy = "Give the ca.pem out of the folder that the emulator was started with (--ca FILE)."
        elif isinstance(error, ssl.SSLError):
            message, phase = "what answers does not speak TLS", Phase.TLS
            remedy = "Where the emulator serves no TLS, the address begins http://."
        return DialError(message, phase=phase, address=self.address, code="unreachable", remedy=remedy)

    def _no_emulator(self) -> DialError:
        return DialError(
            "what answers is no emulator",
            phase=Phase.UPGRADE,
            address=self.address,
            code="no_emulator",
            remedy="Is that its address?",
        )

    def _not_let_in(self, status: int) -> DialError:
        return DialError(
            "the emulator does not let us in",
            phase=Phase.UPGRADE,
            address=self.address,
            status=status,
            code="not_let_in",
            remedy="From another machine it wants a key of its own with the right Manage.",
        )

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
        return HTTPSConnection(host, port, timeout=self.timeout, context=self._trust())

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except OSError as error:  # an SSLError is one
            raise ConfigurationError(
                f"the certificate authority {self.ca_file} cannot be read ({type(error).__name__})",
                code="bad_ca",
                remedy="It is the ca.pem out of the folder that the emulator was started with.",
            ) from error


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="replace")
