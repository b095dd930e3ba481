"""Tokens of Microsoft Entra ID, by a managed identity or by azure-identity's default chain.

Needs the extra ``entra`` (azure-identity), which is imported only when a credential is made. On the wire such a token
is the bare JWT, where a shared access signature would stand (as Microsoft's .NET client has it).

azure-identity keeps tokens and gives the same one again until shortly before its end: five minutes, or half of its life
where that is two hours or more. So a new token cannot be had at will, and renewing means asking until there is one.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from relay.errors import ConfigurationError, DialError, Phase
from relay.tokens import DEFAULT_LIFETIME, Token

if TYPE_CHECKING:
    from azure.core.pipeline.transport import RequestsTransport

SCOPE: Final = "https://relay.azure.net/.default"
AUDIENCE: Final = "https://relay.azure.net/"
"""What a token is for: no hybrid connection, nor a namespace; which of them is a matter of role assignments."""

_PATIENCE: Final = 0.75
"""Part of the phase's time that is waited for a token, so that the error that knows more comes first."""
_CONNECT: Final = 0.25
_READ: Final = 0.4

_ENTRA_CODE: Final = re.compile(r"\bAADSTS\d{4,8}\b")
_ASKED: Final = re.compile(r"^\t(\w+Credential):", re.MULTILINE)
"""How an error of the default chain lists the credentials that it tried."""

_TALKATIVE: Final = ("azure.identity", "azure.core", "msal")
"""Loggers that repeat what the issuer said, at every failure. What failed is told by our errors, without secrets."""


class AzureToken(Protocol):
    """A token as azure-identity gives it: ``azure.core.credentials.AccessToken``."""

    @property
    def token(self) -> str:
        """The JWT."""
        ...

    @property
    def expires_on(self) -> int:
        """When it expires, seconds since 1970."""
        ...


class AzureCredential(Protocol):
    """Any synchronous credential of azure-identity (``azure.core.credentials.TokenCredential``)."""

    def get_token(self, *scopes: str) -> AzureToken:
        """A token, from its cache or from the issuer; blocks."""
        ...


@dataclass(frozen=True, slots=True)
class IssuerAccess:
    """How the issuer of tokens is reached.

    Attributes:
        proxy: For ``https`` requests: ``"environment"`` (``https_proxy``, ``no_proxy``), an address
            ``http://user:password@host:port``, or ``None`` for none. Plain ``http`` is always direct: that is the
            metadata endpoint of the machine itself.
        tls: TLS settings, for a certificate authority of one's own; the system's when not given, as for the relay.
        seconds: Time of the phase ``token`` (`relay.PhaseTimeouts`); connecting and reading get their parts of it.
    """

    proxy: str | Literal["environment"] | None = field(default="environment", repr=False)
    tls: ssl.SSLContext | None = None
    seconds: float = 20.0

    def arguments(self) -> dict[str, Any]:
        """The same as keyword arguments of any azure-identity credential.

        One try, no retries: whoever needs the token tries again at its own pace.
        """
        proxies = {"http": ""}  # an empty address is no proxy, and the environment's does not replace it
        if self.proxy != "environment":
            proxies["https"] = self.proxy or ""
        return {
            "proxies": proxies,
            "transport": _transport(
                self.tls or ssl.create_default_context(), self.seconds, from_environment=self.proxy == "environment"
            ),
            "retry_total": 0,
        }


def _transport(tls: ssl.SSLContext, seconds: float, *, from_environment: bool) -> RequestsTransport:
    """azure-core's own transport, but it trusts whom the relay's connections trust, and not certifi's list."""
    import requests
    from azure.core.pipeline.transport import RequestsTransport

    class Trusting(requests.adapters.HTTPAdapter):
        def build_connection_pool_key_attributes(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - requests' own
            place, pool = super().build_connection_pool_key_attributes(*arguments, **named)
            return place, pool | {"ssl_context": tls}

        def cert_verify(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 - requests' own
            """Nothing: it would add certifi's list to the context, which verifies by itself."""

    session = requests.Session()
    session.trust_env = from_environment
    session.mount("https://", Trusting())
    times = {"connection_timeout": seconds * _CONNECT, "read_timeout": seconds * _READ}
    return RequestsTransport(session=session, session_owner=False, **times)


def managed_identity(client_id: str | None = None, access: IssuerAccess | None = None) -> EntraCredential:
    """The identity that Azure gave this machine; on premises, through Azure Arc.

    Args:
        client_id: Client id of a user-assigned identity; the system-assigned one when not given.
        access: How the issuer is reached.

    Raises:
        ConfigurationError: azure-identity is not installed, or the surroundings contradict themselves.
    """
    access = access or IssuerAccess()

    def make(arguments: dict[str, Any]) -> AzureCredential:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=client_id, **arguments)

    return EntraCredential(_made(make, access), "the managed identity", _NO_IDENTITY, access.seconds * _PATIENCE)


def default_chain(client_id: str | None = None, access: IssuerAccess | None = None) -> EntraCredential:
    """Whatever azure-identity's ``DefaultAzureCredential`` finds.

    That is a service principal by ``AZURE_TENANT_ID``, ``AZURE_CLIENT_ID`` and ``AZURE_CLIENT_SECRET`` in the process's
    environment, a workload identity, a managed identity, or who is logged in with Azure's command line.

    Args:
        client_id: Client id of a user-assigned managed identity.
        access: How the issuer is reached.

    Raises:
        ConfigurationError: azure-identity is not installed, or the surroundings contradict themselves.
    """
    access = access or IssuerAccess()

    def make(arguments: dict[str, Any]) -> AzureCredential:
        from azure.identity import DefaultAzureCredential

        chosen = {"managed_identity_client_id": client_id} if client_id else {}
        return DefaultAzureCredential(**chosen, **arguments)

    return EntraCredential(
        _made(make, access), "the default chain of credentials", _CHAIN_EMPTY, access.seconds * _PATIENCE
    )


def _made(make: Callable[[dict[str, Any]], AzureCredential], access: IssuerAccess) -> AzureCredential:
    for name in _TALKATIVE:  # before: they talk while a credential is made, too
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:  # else somebody wants to read them
            logger.setLevel(logging.CRITICAL)
    try:
        return make(access.arguments())
    except ImportError as error:
        raise ConfigurationError(
            "Microsoft Entra needs azure-identity, which is not installed",
            code="entra_missing",
            remedy="Install worklist-gateway[entra].",
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            "azure-identity refuses its environment variables",
            code="entra_settings",
            remedy="Check AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_AUTHORITY_HOST.",
        ) from error


class EntraCredential:
    """A token source over any credential of azure-identity.

    At most one question to the issuer is under way, in a thread that holds up neither the event loop nor the end of the
    process; all who wait share its answer.

    Args:
        credential: The azure-identity credential; a synchronous one.
        name: What it is called in errors.
        remedy: What to do when it has no token to give.
        patience: Seconds to wait for a token, fewer than the phase has; what was asked goes on meanwhile, and answers
            whoever asks next.
    """

    def __init__(
        self, credential: AzureCredential, name: str = "Microsoft Entra", remedy: str = "", patience: float = 15.0
    ) -> None:
        self.patience = patience
        self._credential = credential
        self._name = name
        self._remedy = remedy
        self._asking: asyncio.Future[Token] | None = None

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:  # noqa: ARG002 - the issuer decides both
        """A token for the relay; often the same as before, see above. Resource and lifetime are the issuer's to decide.

        Raises:
            DialError: there is none, with code ``no_token``. Its text holds nothing that the issuer said but its code.
        """
        asking = self._asking
        if asking is None or asking.done() or asking.get_loop() is not asyncio.get_running_loop():
            asking = self._asking = self._ask()
        done, _ = await asyncio.wait({asking}, timeout=self.patience)
        if not done:
            raise self._no_token(f"{self._name} gave no token within {self.patience:g} s", _UNREACHED)
        return asking.result()

    def _ask(self) -> asyncio.Future[Token]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Token] = loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more

        def settle(token: Token | None, error: DialError | None) -> None:
            if token is not None:
                answer.set_result(token)
            elif error is not None:
                answer.set_exception(error)

        def ask() -> None:
            token, failure = None, None
            try:
                token = self._get_token()
            except DialError as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, token, failure)

        threading.Thread(target=ask, name="relay-entra", daemon=True).start()
        return answer

    def _get_token(self) -> Token:
        try:
            given = self._credential.get_token(SCOPE)
            return Token(given.token, datetime.fromtimestamp(given.expires_on, UTC))
        except Exception as error:  # noqa: BLE001 - a credential may raise anything, and whoever waits must hear of it
            failure = self._failed(error)
        raise failure  # outside of the handler: the original, which may quote secrets, is not chained

    def _failed(self, error: Exception) -> DialError:
        kinds = {kind.__name__ for kind in type(error).__mro__}  # by name: azure-core is not imported for this
        entra_code = _ENTRA_CODE.search(str(error))
        said = getattr(error, "status_code", None)
        status = said if isinstance(said, int) else None
        asked = ", ".join(_ASKED.findall(str(error)))
        facts = [
            type(error).__name__,
            entra_code and entra_code[0],
            asked and f"asked {asked}",
        ]
        told = f"({', '.join(fact for fact in facts if fact)})"
        if kinds & {"ServiceRequestError", "ServiceResponseError"}:
            return self._no_token(f"the issuer of tokens for {self._name} cannot be reached {told}", _UNREACHED)
        if "CredentialUnavailableError" not in kinds and (entra_code or status):
            return self._no_token(f"Microsoft Entra refuses {self._name} {told}", _REFUSED, status)
        return self._no_token(f"{self._name} has no token to give {told}", self._remedy, status)

    def _no_token(self, message: str, remedy: str, status: int | None = None) -> DialError:
        return DialError(message, phase=Phase.TOKEN, code="no_token", status=status, remedy=remedy)


_NO_IDENTITY: Final = (
    "Assign this machine a managed identity (on premises by Azure Arc), and check the client id of a user-assigned one."
)
_CHAIN_EMPTY: Final = (
    "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in the environment, assign a managed identity, or "
    "log in with Azure's command line; login.microsoftonline.com must be reachable on port 443."
)
_UNREACHED: Final = (
    "Check the way to the issuer: its service on this machine, or login.microsoftonline.com on port 443."
)
_REFUSED: Final = "Look the AADSTS code up in Microsoft's documentation; check tenant, client id and secret."
