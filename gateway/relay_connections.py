"""From the settings to the relay: its two hybrid connections, who we are there, and the way out."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from gateway.errors import SettingsInvalid
from gateway.settings import Settings
from gateway.trust import trusted
from relay import (
    ConfigurationError,
    ConnectionString,
    DialOptions,
    HybridConnection,
    Namespace,
    PhaseTimeouts,
    SharedAccessKey,
    TokenSource,
)
from relay.entra import IssuerAccess, default_chain, managed_identity

_IDENTITIES = ("managed-identity", "default-chain")


@dataclass(frozen=True, slots=True)
class RelayConnections:
    """The two hybrid connections, and how they are dialled; `events` None: status updates wait in the outbox."""

    actions: HybridConnection
    events: HybridConnection | None
    dialling: DialOptions

    @property
    def is_emulator(self) -> bool:
        """Whether it is a development emulator and no real relay."""
        return not self.actions.namespace.secure


def relay_connections(settings: Settings) -> RelayConnections | None:
    """What the relay settings say; None when there are none. Raises `SettingsInvalid`, naming the variable."""
    if not settings.relay_configured:
        return None
    string, own, dialling = _connection_string(settings), _own_events_string(settings), dial_options(settings)
    access = IssuerAccess(dialling.proxy, dialling.tls, dialling.timeouts.token)
    identity = _identity(settings, access, string, own)
    actions = _named(string, settings.azure_relay_hybrid_connection, "AZURE_RELAY_HYBRID_CONNECTION", identity)
    events = _events_connection(settings, string, own, identity)
    if events and (events.namespace, events.path.lower()) == (actions.namespace, actions.path.lower()):
        raise SettingsInvalid(
            "AZURE_RELAY_EVENTS_HYBRID_CONNECTION names the hybrid connection that brings actions",
            remedy="give status events one of their own, where the web app listens",
        )
    return RelayConnections(actions, events, dialling)


def _connection_string(settings: Settings) -> ConnectionString:
    if settings.azure_relay_connection_string:
        return _parsed(settings.azure_relay_connection_string, "AZURE_RELAY_CONNECTION_STRING", settings)
    namespace, name = settings.azure_relay_namespace, settings.azure_relay_key_name
    key, by_identity = settings.azure_relay_shared_access_key, settings.azure_relay_authentication in _IDENTITIES
    if not namespace or not (by_identity or (name and key)):
        raise SettingsInvalid(
            "AZURE_RELAY_NAMESPACE, AZURE_RELAY_KEY_NAME and AZURE_RELAY_SHARED_ACCESS_KEY go together",
            remedy="set all three, or AZURE_RELAY_NAMESPACE and AZURE_RELAY_AUTHENTICATION=managed-identity, or "
            "AZURE_RELAY_CONNECTION_STRING, or no relay setting at all",
        )
    try:
        credential = SharedAccessKey(name, key.get_secret_value()) if name and key else None
        return ConnectionString(Namespace.named(namespace), credential)
    except ConfigurationError as error:
        raise _unusable("AZURE_RELAY_NAMESPACE", error) from error


def _own_events_string(settings: Settings) -> ConnectionString | None:
    own = settings.azure_relay_events_connection_string
    return _parsed(own, "AZURE_RELAY_EVENTS_CONNECTION_STRING", settings) if own else None


def _events_connection(
    settings: Settings, string: ConnectionString, own: ConnectionString | None, identity: TokenSource | None
) -> HybridConnection | None:
    path, variable = settings.azure_relay_events_hybrid_connection, "AZURE_RELAY_EVENTS_HYBRID_CONNECTION"
    if own:
        return _named(own, path, variable, identity)
    return _named(string.with_entity_path(None), path, variable, identity) if path else None


def _identity(settings: Settings, access: IssuerAccess, *strings: ConnectionString | None) -> TokenSource | None:
    """The identity that stands for a key, one for both hybrid connections; None where keys do."""
    asked = settings.azure_relay_authentication
    if asked not in _IDENTITIES and not any(string and string.managed_identity for string in strings):
        return None
    if settings.azure_relay_key_name or settings.azure_relay_shared_access_key:
        raise SettingsInvalid(
            "AZURE_RELAY_KEY_NAME or AZURE_RELAY_SHARED_ACCESS_KEY is set, and AZURE_RELAY_AUTHENTICATION or the "
            "connection string asks for an identity in place of a key",
            remedy="leave out the key, or the identity",
        )
    make = default_chain if asked == "default-chain" else managed_identity
    try:
        return make(settings.azure_client_id, access)
    except ConfigurationError as error:
        raise _unusable("AZURE_RELAY_AUTHENTICATION", error) from error


def _parsed(secret: SecretStr, variable: str, settings: Settings) -> ConnectionString:
    asked = settings.azure_relay_authentication
    try:
        string = ConnectionString.parse(secret.get_secret_value())
    except ConfigurationError as error:
        raise _unusable(variable, error) from error
    holds = "managed-identity" if string.managed_identity else "key" if string.credential else asked
    if asked and asked != holds:
        raise SettingsInvalid(
            f"AZURE_RELAY_AUTHENTICATION is {asked}, and {variable} says {holds}",
            remedy="leave out AZURE_RELAY_AUTHENTICATION, or take the credential out of the connection string",
        )
    return string


def _named(string: ConnectionString, path: str | None, variable: str, identity: TokenSource | None) -> HybridConnection:
    try:
        return string.hybrid_connection(path, None if string.credential else identity)
    except ConfigurationError as error:
        raise _unusable(variable, error) from error


def _unusable(variable: str, error: ConfigurationError) -> SettingsInvalid:
    return SettingsInvalid(f"{variable}: {error.message}", remedy=error.remedy or "copy it from the Azure portal again")


def dial_options(settings: Settings) -> DialOptions:
    """How everything that concerns the relay is dialled: control channel, rendezvous, echo, events, tokens.

    Raises `SettingsInvalid`, naming the variable and never its value.
    """
    proxy = settings.gateway_relay_proxy.get_secret_value()
    timeouts = PhaseTimeouts(
        token=settings.gateway_relay_issuer_seconds,
        dns=settings.gateway_relay_dns_seconds,
        tcp=settings.gateway_relay_tcp_seconds,
        proxy=settings.gateway_relay_proxy_seconds,
        tls=settings.gateway_relay_tls_seconds,
        upgrade=settings.gateway_relay_upgrade_seconds,
    )
    given: dict[str, str | None] = {"environment": "environment", "none": None}
    authorities = trusted(settings.gateway_relay_ca_file, "GATEWAY_RELAY_CA_FILE")
    try:
        return DialOptions(timeouts, given.get(proxy.lower(), proxy), authorities)
    except ConfigurationError as error:
        raise _unusable("GATEWAY_RELAY_PROXY", error) from error
