"""Connection strings, and the addresses that follow from them.

``Endpoint=sb://HOST[:PORT]/;SharedAccessKeyName=…;SharedAccessKey=…[;EntityPath=PATH][;UseDevelopmentEmulator=true]``,
or ``Authentication=Managed Identity`` in place of name and key.

Rules (Azure Relay documentation, and the connection string builders of Microsoft's clients): parts are split at the
first ``=`` because keys end in ``=``; names are case-insensitive; unknown names are tolerated; what is given twice is
an error.
``UseDevelopmentEmulator=true`` means plain ``ws://``, as Azure's own emulators have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from relay.entra import managed_identity
from relay.errors import ConfigurationError, ConnectionStringError
from relay.tokens import SharedAccessKey, SharedAccessSignature, TokenSource

PUBLIC_SUFFIX: Final = ".servicebus.windows.net"
_UNUSABLE_IN_PATH: Final = re.compile(r"[\x00-\x20\x7f\\?#]")


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a relay lives.

    Attributes:
        host: Host name without scheme, such as ``contoso.servicebus.windows.net``.
        port: TCP port.
        secure: ``wss`` when true, plain ``ws`` (an emulator) when false.
    """

    host: str
    port: int = 443
    secure: bool = True

    @classmethod
    def named(cls, name: str) -> Namespace:
        """The namespace ``contoso`` or ``contoso.servicebus.windows.net`` of the public cloud.

        Raises:
            ConfigurationError: if that is not a host name.
        """
        host = name.strip().rstrip(".")
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", host):
            raise ConfigurationError(
                "the namespace is not a host name", remedy="Give contoso or contoso.servicebus.windows.net."
            )
        return cls(host if "." in host else host + PUBLIC_SUFFIX)

    @property
    def authority(self) -> str:
        """``host`` or ``host:port`` when the port is not the scheme's own; IPv6 in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """``wss://host``, ``ws://host:port``."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, so that no proxy can lead to it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class HybridConnection:
    """One hybrid connection: a path in a namespace, and the credential to use it.

    Attributes:
        namespace: Where the relay lives.
        path: Name of the hybrid connection; may hold ``/``.
        credential: What gives tokens for it.
    """

    namespace: Namespace
    path: str
    credential: TokenSource

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path.strip("/"))
        if not self.path or _UNUSABLE_IN_PATH.search(self.path):
            raise ConfigurationError("the name of the hybrid connection is empty or cannot stand in an address")

    @property
    def resource_uri(self) -> str:
        """What tokens are signed for: ``http://HOST/PATH``, without port as Azure documents it."""
        return f"http://{self.namespace.host}/{quote(self.path)}"

    def listen_address(self, *, correlation_id: str | None = None) -> str:
        """Address of the listener's control channel (protocol guide, *listen*). The token travels in a header."""
        return self._websocket_address("", "listen", correlation_id)

    def connect_address(self, suffix: str = "", query: str = "", *, correlation_id: str | None = None) -> str:
        """Address a sender dials (protocol guide, *connect*); suffix and query of its own reach the listener."""
        return self._websocket_address(suffix, "connect", correlation_id, query)

    def http_address(self, suffix: str = "") -> str:
        """Address of plain HTTP requests to the listener; no ``$hc`` in it (protocol guide, *HTTP requests*)."""
        scheme = "https" if self.namespace.secure else "http"
        return f"{scheme}://{self.namespace.authority}/{quote(self.path)}{_suffix(suffix)}"

    def _websocket_address(self, suffix: str, action: str, correlation_id: str | None, query: str = "") -> str:
        scheme = "wss" if self.namespace.secure else "ws"
        own = f"{query}&" if query else ""
        correlation = f"&sb-hc-id={quote(correlation_id, safe='')}" if correlation_id else ""
        path = f"/$hc/{quote(self.path)}{_suffix(suffix)}"
        return f"{scheme}://{self.namespace.authority}{path}?{own}sb-hc-action={action}{correlation}"


def _suffix(suffix: str) -> str:
    return "/" + quote(suffix.lstrip("/")) if suffix else ""


@dataclass(frozen=True, slots=True)
class ConnectionString:
    """What a connection string says.

    Attributes:
        namespace: Where the relay lives.
        credential: A shared access key or signature; ``None`` when the string holds none.
        entity_path: Name of the hybrid connection, if the string names one.
        managed_identity: Whether it says ``Authentication=Managed Identity``.
    """

    namespace: Namespace
    credential: SharedAccessKey | SharedAccessSignature | None = None
    entity_path: str | None = None
    managed_identity: bool = False

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Read a connection string.

        Raises:
            ConnectionStringError: if it lacks an endpoint, says something twice, or cannot be read.
                The error never repeats the string: it holds a key.
        """
        parts = _parts(text)
        credential, by_identity = _credential(parts), _says_managed_identity(parts)
        if credential and by_identity:
            raise ConnectionStringError(
                "the connection string holds both a shared access credential and Authentication=Managed Identity",
                remedy="Leave one of them out.",
            )
        return cls(_namespace(parts), credential, parts.get("entitypath") or None, by_identity)

    def hybrid_connection(self, path: str | None = None, credential: TokenSource | None = None) -> HybridConnection:
        """The hybrid connection it names, or the one named here.

        Args:
            path: Name of the hybrid connection.
            credential: Used instead of what the string says; for a user-assigned identity, say.

        Raises:
            ConnectionStringError: if it is named by both and differently, or by none, or without credential.
            ConfigurationError: if it asks for a managed identity and azure-identity is not installed.
        """
        if path and self.entity_path and path.strip("/").lower() != self.entity_path.strip("/").lower():
            raise ConnectionStringError(
                "EntityPath names another hybrid connection than the setting",
                remedy="Name the hybrid connection in one place only.",
            )
        chosen, key = path or self.entity_path, credential or self.credential
        if not chosen:
            raise ConnectionStringError("no hybrid connection is named", remedy="Add EntityPath or name it apart.")
        if key is None and self.managed_identity:
            key = managed_identity()
        if key is None:
            raise ConnectionStringError(
                "there is no credential",
                remedy="Add SharedAccessKeyName and SharedAccessKey to the string, or Authentication=Managed Identity.",
            )
        return HybridConnection(self.namespace, chosen, key)

    def with_entity_path(self, path: str | None) -> ConnectionString:
        """The same string for another hybrid connection."""
        return replace(self, entity_path=path)

    def format(self) -> str:
        """The connection string itself. It holds the secret: never log it."""
        parts = [f"Endpoint=sb://{self._endpoint}/"]
        match self.credential:
            case SharedAccessKey(name=name, key=key):
                parts += [f"SharedAccessKeyName={name}", f"SharedAccessKey={key}"]
            case SharedAccessSignature(signature=signature):
                parts += [f"SharedAccessSignature={signature}"]
        if self.managed_identity:
            parts.append("Authentication=Managed Identity")
        if self.entity_path:
            parts.append(f"EntityPath={self.entity_path}")
        if not self.namespace.secure:
            parts.append("UseDevelopmentEmulator=true")
        return ";".join(parts)

    @property
    def _endpoint(self) -> str:
        return self.namespace.authority


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, equals, value = part.partition("=")
        key = name.strip().lower()
        if not equals or not key:
            raise ConnectionStringError(
                "a part of the connection string is not Name=Value", remedy="Copy the whole string from the portal."
            )
        if key in parts:
            raise ConnectionStringError(f"{_known(key)} is given twice in the connection string")
        parts[key] = value.strip()
    return parts


_NAMES: Final = {
    name.lower(): name
    for name in (
        "Endpoint",
        "SharedAccessKeyName",
        "SharedAccessKey",
        "SharedAccessSignature",
        "EntityPath",
        "UseDevelopmentEmulator",
        "Authentication",
        "OperationTimeout",
    )
}


def _known(key: str) -> str:
    return _NAMES.get(key, "a name we do not know")  # an unknown name may be half of somebody's secret


def _namespace(parts: dict[str, str]) -> Namespace:
    if not parts.get("endpoint"):
        raise ConnectionStringError(
            "the connection string has no Endpoint", remedy="It starts Endpoint=sb://NAMESPACE.servicebus.windows.net/."
        )
    try:
        endpoint = urlsplit(parts["endpoint"])
        host, port = endpoint.hostname, endpoint.port
    except ValueError as error:
        raise ConnectionStringError("the Endpoint is not an address") from error
    if endpoint.scheme.lower() not in {"sb", "amqps", "https", "http", "ws", "wss"} or not _is_host(host):
        raise ConnectionStringError(
            "the Endpoint is not sb://HOST/", remedy="hc:// and biztalk strings belong to the retired service."
        )
    emulated = parts.get("usedevelopmentemulator", "").lower() == "true"
    assert host is not None  # noqa: S101 - _is_host said so
    return Namespace(host, (80 if emulated else 443) if port is None else port, not emulated)


def _is_host(host: str | None) -> bool:
    return bool(host) and re.fullmatch(r"[A-Za-z0-9._:-]+", host or "") is not None


def _credential(parts: dict[str, str]) -> SharedAccessKey | SharedAccessSignature | None:
    name, key = parts.get("sharedaccesskeyname"), parts.get("sharedaccesskey")
    signature = parts.get("sharedaccesssignature")
    if signature and (name or key):
        raise ConnectionStringError("the connection string holds both a SharedAccessKey and a SharedAccessSignature")
    if bool(name) != bool(key):
        missing = "SharedAccessKey" if name else "SharedAccessKeyName"
        raise ConnectionStringError(f"the connection string lacks {missing}")
    if signature:
        return SharedAccessSignature(signature)
    return SharedAccessKey(name, key) if name and key else None


def _says_managed_identity(parts: dict[str, str]) -> bool:
    said = parts.get("authentication", "")
    if said and said.replace(" ", "").lower() != "managedidentity":
        raise ConnectionStringError(
            "the connection string asks for an Authentication that is not known",
            remedy="Write Authentication=Managed Identity, or leave it out.",
        )
    return bool(said)
