"""The settings: the only reader of the environment and of `.env`.

Each field's description is the README's line about it; a test compares them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import time
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from gateway.errors import SettingsInvalid

Words = tuple[str, ...]
"""A list, written with commas."""

_DAY = 86_400
Seconds = Annotated[float, Field(gt=0, le=_DAY)]
MaybeSeconds = Annotated[float, Field(ge=0, le=_DAY)]

_DOT_ENV = Path(".env")
_PREFIXES = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_")
_OPEN_PARTS = frozenset(
    {"endpoint", "sharedaccesskeyname", "entitypath", "usedevelopmentemulator", "authentication", "operationtimeout"}
)
"""What of a connection string may be shown: whatever else it holds, misspelt or pasted, may be the key."""
_SECRET_PARTS = frozenset({"sharedaccesskey", "sharedaccesssignature"})

_SHORTEST_TOKEN = 16

PROXY_WORDS = ("environment", "none")
"""What may stand in the place of a proxy's address."""

_STATUSES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "DISCONTINUED", "CANCELLED", "EXPIRED")


class Settings(BaseModel):
    """What the operator decides. Field names are the environment variables in lower case."""

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True)

    azure_relay_connection_string: SecretStr | None = Field(
        None,
        description="`Endpoint=sb://HOST[:PORT]/;SharedAccessKeyName=…;SharedAccessKey=…[;EntityPath=…]`; with "
        "`;UseDevelopmentEmulator=true` plain `ws://`. Instead of the three below.",
    )
    azure_relay_authentication: Literal["key", "managed-identity", "default-chain"] | None = Field(
        None,
        description="`key`, or without one by Microsoft Entra: `managed-identity`, or `default-chain` (service "
        "principal by `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` in the process's environment, "
        "managed identity, …); when unset what the connection string says "
        "(`Authentication=Managed Identity`), else `key`",
    )
    azure_client_id: str | None = Field(
        None, description="client id of a user-assigned managed identity; unset: the system-assigned one"
    )
    azure_relay_namespace: str | None = Field(None, description="`NAME` or `NAME.servicebus.windows.net`")
    azure_relay_key_name: str | None = Field(None, description="name of the shared access policy")
    azure_relay_shared_access_key: SecretStr | None = Field(None, description="its key")
    azure_relay_hybrid_connection: str | None = Field(
        None, description="the hybrid connection that brings actions; `EntityPath` may stand for it"
    )
    azure_relay_events_hybrid_connection: str | None = Field(
        None, description="the hybrid connection that takes status events to the web app"
    )
    azure_relay_events_connection_string: SecretStr | None = Field(
        None, description="where keys are per connection: the one for events"
    )
    gateway_relay_proxy: SecretStr = Field(
        SecretStr("environment"),
        description="the way out: `http://user:password@host:port` (signs such as `/ # %` in the password as "
        "`%2F %23 %25`); `environment`: what `HTTPS_PROXY` and `NO_PROXY` say; `none`",
    )
    gateway_relay_ca_file: Path | None = Field(
        None,
        description="certificate authorities to trust beside the system's (PEM), such as that of a proxy that inspects "
        "TLS",
    )
    gateway_relay_issuer_seconds: Seconds = Field(
        20.0, description="phase `token`: time for the credential to give a token, where it has to ask somebody"
    )
    gateway_relay_dns_seconds: Seconds = Field(
        5.0, description="phase `dns`: time to resolve the name of the relay or the proxy"
    )
    gateway_relay_tcp_seconds: Seconds = Field(
        5.0, description="phase `tcp`: time to connect to one of its addresses; all are tried"
    )
    gateway_relay_proxy_seconds: Seconds = Field(10.0, description="phase `proxy`: time for the proxy to open a tunnel")
    gateway_relay_tls_seconds: Seconds = Field(5.0, description="phase `tls`: time for the TLS handshake")
    gateway_relay_upgrade_seconds: Seconds = Field(
        10.0, description="phase `upgrade`: time for the relay to answer the websocket handshake of a listener"
    )
    gateway_relay_connect_seconds: Seconds = Field(
        35.0,
        description="phase `upgrade` of a status event: the relay holds its answer until the web app has come, up to "
        "30 s",
    )
    gateway_relay_accept_seconds: Seconds = Field(
        10.0, description="phase `accept-dial`: time for all phases of the way to a rendezvous"
    )
    gateway_relay_first_message_seconds: Seconds = Field(
        10.0, description="phase `first-message`: time for the web app to say something at a rendezvous"
    )
    gateway_relay_handle_seconds: Seconds = Field(
        25.0,
        description="phase `handle`: time for an action to be carried out; then the web app, which waits 30 s, is told "
        "to say it again",
    )
    gateway_relay_reply_seconds: Seconds = Field(
        10.0,
        description="phase `reply`: time for a reply to be taken; the same for a status event, in phase "
        "`first-message`",
    )
    gateway_relay_next_message_seconds: Seconds = Field(
        10.0, description="time for the web app to say more after a reply, or to close"
    )
    gateway_relay_ack_seconds: Seconds = Field(
        30.0, description="phase `ack`: time for the web app to acknowledge a status event"
    )
    gateway_relay_event_first_retry_seconds: Seconds = Field(
        1.0, description="ceiling of the first, random wait before a status event is sent again; it doubles"
    )
    gateway_relay_event_longest_retry_seconds: Seconds = Field(60.0, description="ceiling of all such waits")
    gateway_relay_allowed_suffixes: Words = Field(
        (),
        description="host suffixes besides the namespace's own that the relay may lead us to, such as "
        "`.relay.example`, with commas",
    )
    gateway_relay_max_rendezvous: int = Field(
        64, ge=1, le=10_000, description="actions carried out at once; further ones queue while they are young"
    )
    gateway_relay_max_open: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="senders met at once, those included that say nothing or do not read; each takes a file descriptor",
    )
    gateway_relay_echo_seconds: MaybeSeconds = Field(
        60.0,
        description="at most so long, at least half of it, between two echoes to ourselves through the relay (needs "
        "*Send*); 0: only pings, which do not notice deafness",
    )
    gateway_relay_echo_timeout_seconds: Seconds = Field(
        10.0,
        description="time for such an echo to come back; after two misses in a row the control channel is replaced",
    )
    gateway_relay_ping_seconds: Seconds = Field(20.0, description="between websocket pings on the control channel")
    gateway_relay_ping_timeout_seconds: Seconds = Field(
        10.0, description="time for a pong to come; then the control channel counts as cut"
    )
    gateway_relay_token_seconds: Seconds = Field(
        3600.0, description="life of the tokens asked for; renewed on the open channel at 50 to 80 % of it"
    )
    gateway_relay_token_margin_seconds: MaybeSeconds = Field(
        60.0,
        description="a renewal that no echo has proven so long before the old token ends gets a second control "
        "channel; at most a tenth of a token's life",
    )
    gateway_relay_first_retry_seconds: Seconds = Field(
        0.5, description="ceiling of the first, random wait before the control channel is dialled again; it doubles"
    )
    gateway_relay_longest_retry_seconds: Seconds = Field(30.0, description="ceiling of all such waits")
    gateway_relay_healthy_after_seconds: MaybeSeconds = Field(
        5.0, description="how long health must be proven for those waits to start small again"
    )
    worklist_db_path: Path = Field(Path("data/gateway.db"), description="the one database file, on a local disk")
    gateway_sealing: bool = Field(
        False,
        description="seal what identifies a person with a key per patient, from now on; `gateway erase` needs it, and "
        "what was saved before it can't be erased",
    )
    gateway_keys_path: Path | None = Field(
        None, description="the file of these keys, with a backup of its own; unset: beside the database, `….keys`"
    )
    gateway_anchors_file: Path | None = Field(
        None,
        description="the file that anchors of the log are added to; unset: beside the database, named like it with "
        "`.anchors`",
    )
    gateway_ae_title: str = Field("ORTHANC_MWL", description="AE title of the worklist and MPPS service")
    gateway_dicom_host: str = Field("0.0.0.0", description="address that modalities reach it at")  # noqa: S104  modalities are other machines
    gateway_dicom_port: int = Field(4243, ge=0, le=65535, description="port that modalities reach it at")
    gateway_dicom_tls_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port for associations within TLS (TLS 1.2 and newer, PS3.15 B.12), beside the other; `2762` is "
        "the registered one; unset: none",
    )
    gateway_dicom_tls_cert: Path | None = Field(None, description="our certificate for it, its chain after it (PEM)")
    gateway_dicom_tls_key: Path | None = Field(
        None,
        description="the certificate's private key (PEM, without a passphrase); unset: it stands in the certificate's "
        "file",
    )
    gateway_dicom_tls_ca: Path | None = Field(
        None,
        description="the authority whose certificates callers have to show (PEM); unset: callers within TLS are not "
        "authenticated",
    )
    gateway_dicom_engine: Literal["asyncio", "pynetdicom"] = Field(
        "asyncio",
        description="what takes associations: `asyncio`, or `pynetdicom`, that library's own server (slower, at most "
        "200 associations)",
    )
    gateway_dicom_max_associations: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="associations open at once; one more is rejected for the time being",
    )
    gateway_dicom_max_associations_per_address: int = Field(
        1200, ge=1, le=100_000, description="the same for those of one network address"
    )
    gateway_dicom_idle_seconds: Seconds = Field(
        600.0, description="how long an association may do nothing; then it is aborted"
    )
    gateway_ops_host: str = Field(
        "127.0.0.1", description="address of the ops port: the window for people, `GET /health`, `GET /metrics`"
    )
    gateway_ops_port: int = Field(8080, ge=0, le=65535, description="the ops port")
    gateway_ops_viewer_token: SecretStr | None = Field(
        None, description="who signs in to the window with it may look (16 characters or more)"
    )
    gateway_ops_operator_token: SecretStr | None = Field(
        None, description="… may look, act (retry, link, complete, cancel) and reveal names"
    )
    gateway_ops_auditor_token: SecretStr | None = Field(None, description="… may look and reveal names")
    gateway_ops_identity_header: str | None = Field(
        None,
        description="header in which a trusted proxy names who asks, such as `X-Forwarded-User`: a viewer, unless "
        "listed below",
    )
    gateway_ops_trusted_proxies: Words = Field(
        ("127.0.0.1", "::1"), description="addresses or networks of the proxies that are believed, with commas"
    )
    gateway_ops_operators: Words = Field((), description="names in that header that are operators, with commas")
    gateway_ops_auditors: Words = Field((), description="names in that header that are auditors, with commas")
    gateway_time_zone: str = Field("Europe/London", description="the site's wall clock")
    gateway_scheduled_times: Literal["local", "utc"] | None = Field(
        None,
        description="how to read the web app's `scheduled.date` and `time`: `local` (also when unset) or `utc`; "
        "health warns while it is unset and a relay is configured",
    )
    gateway_accept_any_called_ae: bool = Field(
        False, description="take associations that call another AE title than ours"
    )
    gateway_modalities_file: Path | None = Field(
        None,
        description="which modalities may call and how each is served (TOML, see `docs/modalities.sample.toml`); "
        "unset: all may, and are served alike",
    )
    gateway_expire_at: time = Field(time(4, 0), description="site time at which old scheduled items expire")
    gateway_expire_after_days: int = Field(
        1, ge=0, le=36500, description="items dated more than this many days ago expire; today's never do"
    )
    gateway_listed_statuses: Words = Field(
        ("SCHEDULED",), description="statuses shown to modalities that do not ask for one, with commas"
    )
    gateway_test_ae_titles: Words = Field(("REHEARSAL",), description="callers that are shown test items, with commas")
    gateway_perform_test_items: bool = Field(
        True,
        description="have an emulated modality perform the test items that the web app makes "
        "(`worklist.create_test_item`)",
    )
    gateway_queries_kept_days: int = Field(
        90, ge=1, le=36500, description="days that the record of queries and refused associations is kept"
    )
    gateway_backup_folder: Path | None = Field(
        None, description="folder for backups, best on another disk; unset: `backups` beside the database"
    )
    gateway_backups_kept_days: int = Field(
        30, ge=1, le=36500, description="days that backups in that folder are kept; the last good one always is"
    )
    gateway_backup_at: time | None = Field(
        None, description="site time at which the service takes a backup each day; unset: it takes none"
    )
    gateway_report_wrong_entry: bool = Field(
        False, description="tell the web app when a modality gives an item back as *wrong worklist entry*"
    )
    gateway_orthanc_url: str | None = Field(
        None,
        description="HTTP address of the Orthanc beside us, such as `http://localhost:8042`; its images find their "
        "appointment (`docs/orthanc.md`); unset: none",
    )
    gateway_orthanc_user: str | None = Field(None, description="a user of that Orthanc (`RegisteredUsers`)")
    gateway_orthanc_password: SecretStr | None = Field(None, description="that user's password")
    gateway_orthanc_ca_file: Path | None = Field(
        None,
        description="certificate authorities to trust beside the system's (PEM), for an Orthanc with HTTPS",
    )
    gateway_orthanc_poll_seconds: float = Field(
        2.0, ge=1, le=3600, description="between two looks at Orthanc's feed of changes, in seconds"
    )
    gateway_report_images: bool = Field(
        False, description="tell the web app when images of an item have come (`study.images_received`)"
    )
    gateway_routes_file: Path | None = Field(
        None,
        description="which studies Orthanc sends on, and where to (TOML, see `docs/routes.sample.toml`); unset: none",
    )
    gateway_unfinished_step_hours: float = Field(
        4.0, gt=0, le=8760, description="a step that a modality began so long ago and has not finished is told of"
    )
    applicationinsights_connection_string: SecretStr | None = Field(
        None,
        description="connection string of an Application Insights resource: metrics and the log's warnings go there "
        "too (extra `azure-monitor`); unset: nothing does",
    )
    gateway_log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json` lines, `console` for people, or by whether a terminal is watching"
    )

    @field_validator("azure_relay_authentication", mode="before")
    @classmethod
    def _authentication(cls, value: object) -> object:
        """As connection strings write it, too: `Managed Identity`."""
        return re.sub(r"[ _]", "-", value.strip().lower()) if isinstance(value, str) else value

    @field_validator(
        "gateway_listed_statuses",
        "gateway_test_ae_titles",
        "gateway_relay_allowed_suffixes",
        "gateway_ops_trusted_proxies",
        "gateway_ops_operators",
        "gateway_ops_auditors",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value

    @field_validator("gateway_listed_statuses")
    @classmethod
    def _statuses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        words = tuple(word.upper().replace("_", " ") for word in value)
        unknown = [word for word in words if word not in _STATUSES]
        if unknown or not words:
            raise ValueError(f"must be some of {', '.join(_STATUSES)}")
        return words

    @field_validator("gateway_relay_allowed_suffixes")
    @classmethod
    def _suffixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"(\.[A-Za-z0-9-]+)+", suffix) for suffix in value):
            raise ValueError("must be host suffixes that begin with a dot, such as .relay.example")
        return value

    @field_validator("gateway_ops_viewer_token", "gateway_ops_operator_token", "gateway_ops_auditor_token")
    @classmethod
    def _token(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < _SHORTEST_TOKEN:
            raise ValueError(f"must have {_SHORTEST_TOKEN} characters or more: openssl rand -hex 24")
        return value

    @field_validator("gateway_ops_trusted_proxies")
    @classmethod
    def _networks(cls, value: Words) -> Words:
        try:
            for network in value:
                ip_network(network, strict=False)
        except ValueError:
            raise ValueError("must be addresses or networks such as 10.1.2.3 or 10.1.0.0/16") from None
        return value

    @field_validator("gateway_expire_at", "gateway_backup_at")
    @classmethod
    def _wall_clock(cls, value: time | None) -> time | None:
        if value and value.tzinfo:
            raise ValueError("must be the site's wall clock, without an offset")
        return value

    @field_validator("gateway_ae_title")
    @classmethod
    def _ae_title(cls, value: str) -> str:
        if not re.fullmatch(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?", value):
            raise ValueError("must be 1 to 16 ASCII characters without backslash (DICOM AE)")
        return value

    @field_validator("gateway_orthanc_url")
    @classmethod
    def _orthanc_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise ValueError("must be an HTTP address such as http://localhost:8042")
        if "@" in parts.netloc:
            raise ValueError("must not hold user and password: they are GATEWAY_ORTHANC_USER and _PASSWORD")
        return value.rstrip("/")

    @field_validator("gateway_time_zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError):
            raise ValueError("must be a time zone such as Europe/London") from None
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _unset(cls, value: object, info: Any) -> object:  # noqa: ANN401  pydantic's own type is not public
        """An empty variable is one that is not set."""
        if isinstance(value, str) and not value.strip():
            return cls.model_fields[info.field_name].get_default()
        return value.strip() if isinstance(value, str) else value

    @property
    def anchors_path(self) -> Path:
        """The anchors file."""
        path = self.worklist_db_path
        return self.gateway_anchors_file or path.with_name(path.name + ".anchors")

    @property
    def zone(self) -> ZoneInfo:
        """The site's time zone."""
        return ZoneInfo(self.gateway_time_zone)

    @property
    def backup_folder(self) -> Path:
        """Where backups are put."""
        return self.gateway_backup_folder or self.worklist_db_path.parent / "backups"

    @property
    def scheduled_times_are_utc(self) -> bool:
        """How the web app's dates and times are read."""
        return self.gateway_scheduled_times == "utc"

    @property
    def relay_configured(self) -> bool:
        """Whether any relay setting is present: then all that is needed must be."""
        return any(getattr(self, name) for name in type(self).model_fields if name.startswith("azure_relay_"))


def load(env_file: Path | None = _DOT_ENV, **overrides: Any) -> Settings:  # noqa: ANN401  any setting
    """The settings in force; `overrides` win over the environment, which wins over the file.

    Raises `SettingsInvalid`, naming the variables and never their values.
    """
    written = {name.lower(): value for name, value in _written(env_file).items()}
    try:
        return Settings(**(written | overrides))
    except ValidationError as error:
        lines = [f"{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
        raise SettingsInvalid("; ".join(lines), remedy="correct the environment or .env") from None


def unknown_variables() -> list[str]:
    """Variables of the environment and `.env` that look like ours and are not: most often a misspelling."""
    known = {name.upper() for name in Settings.model_fields}
    written = _written(_DOT_ENV)
    return sorted(name for name in written if name.upper().startswith(_PREFIXES) and name.upper() not in known)


def send_nothing_of_azure_monitor_s_own() -> None:
    """Keep Microsoft's exporter from sending figures of its own use, and from asking for remote configuration.

    It reads only the environment for that.
    """
    for of_its_own in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED"):
        os.environ[f"APPLICATIONINSIGHTS_{of_its_own}"] = "true"


def _written(env_file: Path | None) -> dict[str, str]:
    """All variables of the file and of the environment, which wins."""
    in_file = dotenv_values(env_file, encoding="utf-8") if env_file and env_file.is_file() else {}
    return {name: value for name, value in in_file.items() if value is not None} | dict(os.environ)


def listed(settings: Settings) -> list[tuple[str, str, str]]:
    """(variable, value with secrets masked, description) for each setting."""
    return [
        (name.upper(), _SHOWN.get(name, _shown)(getattr(settings, name)), field.description or "")
        for name, field in type(settings).model_fields.items()
    ]


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return value.strftime("%H:%M") if isinstance(value, time) else str(value)


def _masked(secret: str) -> str:
    """A connection string with stars for its secret part; of anything else only stars."""
    if ";" not in secret:
        return "***"
    return ";".join(_masked_part(*part.partition("=")) for part in secret.split(";"))


def _masked_part(name: str, sign: str, value: str) -> str:
    word = name.strip().lower()
    if word in _OPEN_PARTS or not (name or value):
        return name + sign + value
    return f"{name}{sign}***" if word in _SECRET_PARTS else "***"


def _masked_proxy(secret: SecretStr) -> str:
    """A proxy's address without user and password; all stars when it can't be read: any part may be the password."""
    text = secret.get_secret_value()
    if text.lower() in PROXY_WORDS:
        return text
    try:
        parts = urlsplit(text)
        readable = parts.scheme in ("http", "https") and parts.hostname and parts.port
    except ValueError:
        return "***"
    if not readable or parts.path.strip("/") or parts.query or parts.fragment:
        return "***"
    user = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{user}{parts.hostname}:{parts.port}"


_SHOWN: dict[str, Callable[[Any], str]] = {"gateway_relay_proxy": _masked_proxy}
"""Settings that are shown in a way of their own."""
