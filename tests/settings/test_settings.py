"""The settings: where they come from, what is refused, what is shown, and that the README tells all of them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.errors import SettingsInvalid
from gateway.relay_connections import RelayConnections, dial_options, relay_connections
from gateway.settings import Settings, listed, load, unknown_variables
from relay import DialOptions, SharedAccessKey
from relay.entra import EntraCredential, IssuerAccess, managed_identity
from tests.relay.certificates import make_certificates

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
ENDPOINT = "Endpoint=sb://contoso.servicebus.windows.net/"
STRING = f"{ENDPOINT};SharedAccessKeyName=listen-and-send;SharedAccessKey={KEY}"
README = Path(__file__).parents[2] / "README.md"

Set = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Set:
    """A folder without .env and an environment without our variables; sets some."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def dot_env(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")


# --- where they come from


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_has_a_default_so_that_the_gateway_starts_without_any() -> None:
    settings = load()
    assert (settings.gateway_ae_title, settings.gateway_dicom_port, settings.gateway_ops_port) == (
        "ORTHANC_MWL",
        4243,
        8080,
    )
    assert (settings.worklist_db_path, settings.gateway_time_zone) == (Path("data/gateway.db"), "Europe/London")
    assert not settings.relay_configured


def test_the_environment_is_read(environment: Set) -> None:
    environment(GATEWAY_AE_TITLE="CLINIC", GATEWAY_DICOM_PORT="11112", WORKLIST_DB_PATH="/var/lib/gateway.db")
    settings = load()
    assert (settings.gateway_ae_title, settings.gateway_dicom_port) == ("CLINIC", 11112)
    assert settings.worklist_db_path == Path("/var/lib/gateway.db")


def test_so_is_the_file_dot_env() -> None:
    dot_env("# a comment\nGATEWAY_AE_TITLE=CLINIC\nGATEWAY_DICOM_PORT=11112 # here too\n")
    assert (load().gateway_ae_title, load().gateway_dicom_port) == ("CLINIC", 11112)


def test_the_environment_wins_over_dot_env_and_what_the_program_says_over_both(environment: Set) -> None:
    dot_env("GATEWAY_AE_TITLE=FILE\nGATEWAY_DICOM_PORT=1\nGATEWAY_OPS_PORT=1\n")
    environment(GATEWAY_AE_TITLE="ENVIRONMENT", GATEWAY_DICOM_PORT="2")
    settings = load(gateway_dicom_port=3)
    assert (settings.gateway_ae_title, settings.gateway_dicom_port, settings.gateway_ops_port) == ("ENVIRONMENT", 3, 1)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
@pytest.mark.parametrize("value", ["", "  "], ids=["empty", "blank"])
def test_an_empty_variable_is_one_that_is_not_set(environment: Set, name: str, value: str) -> None:
    environment(**{name.upper(): value})
    assert getattr(load(), name) == Settings.model_fields[name].get_default()


def test_blanks_around_a_value_do_not_count(environment: Set) -> None:
    environment(GATEWAY_AE_TITLE=" CLINIC ", GATEWAY_DICOM_PORT=" 104 ", GATEWAY_SCHEDULED_TIMES=" utc ")
    settings = load()
    assert (settings.gateway_ae_title, settings.gateway_dicom_port) == ("CLINIC", 104)
    assert settings.scheduled_times_are_utc


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("GATEWAY_LISTED_STATUSES", "scheduled, in_progress", ("SCHEDULED", "IN PROGRESS")),
        ("GATEWAY_TEST_AE_TITLES", "REHEARSAL,UNIT 2,", ("REHEARSAL", "UNIT 2")),
        ("GATEWAY_EXPIRE_AT", "04:30", time(4, 30)),
        ("GATEWAY_EXPIRE_AFTER_DAYS", "0", 0),
        ("GATEWAY_ACCEPT_ANY_CALLED_AE", "on", True),
        ("GATEWAY_REPORT_WRONG_ENTRY", "0", False),
        ("GATEWAY_TIME_ZONE", "Europe/Dublin", "Europe/Dublin"),
        ("GATEWAY_DICOM_PORT", "0", 0),
        ("GATEWAY_LOG_FORMAT", "json", "json"),
        ("GATEWAY_RELAY_ECHO_SECONDS", "0", 0.0),
        ("GATEWAY_RELAY_FIRST_RETRY_SECONDS", "0.25", 0.25),
        ("GATEWAY_RELAY_MAX_RENDEZVOUS", "8", 8),
        ("GATEWAY_RELAY_CA_FILE", "/etc/hospital.pem", Path("/etc/hospital.pem")),
    ],
)
def test_values_are_written_as_people_write_them(environment: Set, name: str, value: str, meant: Any) -> None:
    environment(**{name: value})
    assert getattr(load(), name.lower()) == meant


def test_unset_times_are_local_and_can_be_told_from_local() -> None:
    assert (load().scheduled_times_are_utc, load().gateway_scheduled_times) == (False, None)
    assert load(gateway_scheduled_times="local").gateway_scheduled_times == "local"


def test_the_zone_is_the_site_s() -> None:
    assert load(gateway_time_zone="Europe/Dublin").zone == ZoneInfo("Europe/Dublin")


# --- what is refused

INVALID = {
    "GATEWAY_AE_TITLE": ["SECRET_TITLE_TOO_LONG", "SECRET\\1", "SÉCRET"],
    "GATEWAY_DICOM_PORT": ["65536", "-1", "secret", "104.5"],
    "GATEWAY_OPS_PORT": ["65536", "secret"],
    "GATEWAY_TIME_ZONE": ["Secret/City", "../../etc/secret", "Europe", "/etc/secret"],
    "GATEWAY_SCHEDULED_TIMES": ["secret", "UTC+1"],
    "GATEWAY_ACCEPT_ANY_CALLED_AE": ["secret"],
    "GATEWAY_EXPIRE_AT": ["secret", "25:00", "4"],
    "GATEWAY_EXPIRE_AFTER_DAYS": ["-1", "secret"],
    "GATEWAY_LISTED_STATUSES": ["SECRET", "SCHEDULED,SECRET", ","],
    "GATEWAY_LOG_FORMAT": ["secret"],
    "GATEWAY_RELAY_ECHO_SECONDS": ["-1", "secret", "inf", "nan"],
    "GATEWAY_RELAY_ECHO_TIMEOUT_SECONDS": ["0", "secret"],
    "GATEWAY_RELAY_TOKEN_SECONDS": ["0", "1e9"],
    "GATEWAY_RELAY_DNS_SECONDS": ["0", "-1", "secret", "inf"],
    "GATEWAY_RELAY_HANDLE_SECONDS": ["0", "secret"],
    "GATEWAY_RELAY_EVENT_FIRST_RETRY_SECONDS": ["0", "secret"],
    "GATEWAY_RELAY_MAX_RENDEZVOUS": ["0", "secret", "1.5"],
    "GATEWAY_REPORT_WRONG_ENTRY": ["secret"],
}
CASES = [(name, value) for name, values in INVALID.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=[f"{name}={value}" for name, value in CASES])
def test_an_invalid_value_is_refused_by_the_variable_s_name_without_repeating_it(
    environment: Set, name: str, value: str
) -> None:
    environment(**{name: value})
    with pytest.raises(SettingsInvalid) as refused:
        load()
    assert str(refused.value).startswith(f"{name}: ")
    assert "secret" not in str(refused.value).lower()
    assert ".env" in refused.value.remedy
    assert refused.value.__cause__ is None


def test_all_that_is_wrong_is_told_at_once(environment: Set) -> None:
    environment(GATEWAY_DICOM_PORT="x", GATEWAY_LOG_FORMAT="y")
    with pytest.raises(SettingsInvalid, match=r"GATEWAY_DICOM_PORT: .*; GATEWAY_LOG_FORMAT: "):
        load()


def test_a_misspelt_variable_is_named_wherever_it_stands(environment: Set) -> None:
    dot_env("GATEWAY_AETITLE=CLINIC\nOTHER_PROGRAM=1\nGATEWAY_AE_TITLE=CLINIC\n")
    environment(GATEWAY_DICOMPORT="1", AZURE_RELAY_CONECTION_STRING="x", WORKLIST_DB="x", gateway_ops_prot="1")
    assert unknown_variables() == [
        "AZURE_RELAY_CONECTION_STRING",
        "GATEWAY_AETITLE",
        "GATEWAY_DICOMPORT",
        "WORKLIST_DB",
        "gateway_ops_prot",
    ]


def test_what_is_spelt_right_is_not_named(environment: Set) -> None:
    environment(GATEWAY_AE_TITLE="A", gateway_dicom_port="1", WORKLIST_DB_PATH="x", AZURE_RELAY_NAMESPACE="n")
    assert unknown_variables() == []


# --- what is shown


def shown(settings: Settings) -> dict[str, str]:
    return {name: value for name, value, _ in listed(settings)}


def test_every_setting_is_listed_with_its_variable_and_description() -> None:
    rows = listed(load())
    assert [name for name, _, _ in rows] == [name.upper() for name in Settings.model_fields]
    assert all(description for _, _, description in rows)


def test_values_are_listed_as_they_would_be_written() -> None:
    settings = load(gateway_listed_statuses="SCHEDULED,IN PROGRESS", gateway_accept_any_called_ae=True)
    values = shown(settings)
    assert values["GATEWAY_LISTED_STATUSES"] == "SCHEDULED,IN PROGRESS"
    assert (values["GATEWAY_ACCEPT_ANY_CALLED_AE"], values["GATEWAY_EXPIRE_AT"]) == ("true", "04:00")
    assert (values["AZURE_RELAY_NAMESPACE"], values["WORKLIST_DB_PATH"]) == ("", "data/gateway.db")


SECRET_STRINGS = {
    "a key": STRING,
    "a key at the front": f"SharedAccessKey={KEY};{ENDPOINT}",
    "blanks around the sign": f"{ENDPOINT};SharedAccessKeyName = n; SharedAccessKey = {KEY}",
    "another case": f"{ENDPOINT};sharedaccesskey={KEY}",
    "a signature": f"{ENDPOINT};SharedAccessSignature=SharedAccessSignature sr=x&sig={KEY}&se=1&skn=n",
    "a misspelt name": f"{ENDPOINT};SharedAccesKey={KEY}",
    "no name at all": f"{ENDPOINT};{KEY}",
    "only a key": KEY,
    "nothing but a pair": f"SharedAccessKey={KEY}",
}


@pytest.mark.parametrize("text", SECRET_STRINGS.values(), ids=SECRET_STRINGS.keys())
@pytest.mark.parametrize("name", ["azure_relay_connection_string", "azure_relay_events_connection_string"])
def test_of_a_connection_string_the_secret_is_never_shown(name: str, text: str) -> None:
    settings = load(**{name: text})
    assert KEY[:8] not in shown(settings)[name.upper()]
    assert KEY[:8] not in repr(settings)


def test_the_rest_of_a_connection_string_is_shown_so_that_one_can_find_what_is_wrong() -> None:
    string = f"{STRING};EntityPath=actions;UseDevelopmentEmulator=true"
    assert shown(load(azure_relay_connection_string=string))["AZURE_RELAY_CONNECTION_STRING"] == string.replace(
        KEY, "***"
    )


def test_a_key_is_shown_as_stars() -> None:
    assert shown(load(azure_relay_shared_access_key=KEY))["AZURE_RELAY_SHARED_ACCESS_KEY"] == "***"


PROXIES = {
    "environment": "environment",
    "none": "none",
    "http://proxy.example:3128": "http://proxy.example:3128",
    "http://gateway:s3cret@proxy.example:3128": "http://***@proxy.example:3128",
    "https://gateway:s3cret@proxy.example:3128/": "https://***@proxy.example:3128",
    "http://gateway:s3c@ret@proxy.example:3128": "http://***@proxy.example:3128",
    "http://gateway:12/s3cret@proxy.example:3128": "***",
    "http://gateway:12#s3cret@proxy.example:3128": "***",
    "http://gateway:12?s3cret@proxy.example:3128": "***",
    "http://gateway:s3cret@proxy.example:port": "***",
    "gateway:s3cret@proxy.example:3128": "***",
    "s3cret": "***",
    "http://[s3cret": "***",
}


@pytest.mark.parametrize(("address", "expected"), PROXIES.items(), ids=list(PROXIES))
def test_of_a_proxys_address_user_and_password_are_never_shown(address: str, expected: str) -> None:
    settings = load(gateway_relay_proxy=address)
    assert shown(settings)["GATEWAY_RELAY_PROXY"] == expected
    assert "s3cret" not in repr(settings)


# --- the way to the relay


def test_by_default_the_environment_says_whether_there_is_a_proxy_and_the_systems_authorities_are_trusted() -> None:
    assert dial_options(load()) == DialOptions()


@pytest.mark.parametrize(
    ("setting", "used"),
    [
        ("Environment", "environment"),
        ("none", None),
        ("NONE", None),
        ("http://user:word@proxy:3128", "http://user:word@proxy:3128"),
    ],
)
def test_a_proxy_is_an_address_or_a_word(setting: str, used: str | None) -> None:
    assert dial_options(load(gateway_relay_proxy=setting)).proxy == used


@pytest.mark.parametrize(
    "address",
    ["proxy:3128", "socks5://u:s3cret@proxy:1080", "http://u:s3/cret@proxy:1", "http://s3cret@proxy:1", "off"],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_the_variables_name_and_says_how_it_is_written(address: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        dial_options(load(gateway_relay_proxy=address))
    assert str(refused.value).startswith("GATEWAY_RELAY_PROXY: ")
    assert "http://user:password@host:port" in refused.value.remedy
    assert "cret" not in str(refused.value)


def test_an_identity_asks_its_issuer_by_the_way_that_the_relay_is_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[IssuerAccess] = []

    def noted(client_id: str | None, access: IssuerAccess) -> EntraCredential:
        ways.append(access)
        return managed_identity(client_id, access)

    monkeypatch.setattr("gateway.relay_connections.managed_identity", noted)
    connections = relay_connections(
        load(
            azure_relay_namespace="contoso",
            azure_relay_authentication="managed-identity",
            azure_relay_hybrid_connection="actions",
            gateway_relay_proxy="http://u:w@proxy:3128",
            gateway_relay_issuer_seconds=40,
            gateway_relay_ca_file=str(make_certificates(tmp_path).authority),
        )
    )
    assert connections is not None
    assert ways == [IssuerAccess("http://u:w@proxy:3128", connections.dialling.tls, 40)]
    assert isinstance(connections.actions.credential, EntraCredential)


def test_the_authorities_of_a_file_are_trusted_beside_the_systems(tmp_path: Path) -> None:
    authority = make_certificates(tmp_path).authority
    trusted = dial_options(load(gateway_relay_ca_file=str(authority))).tls
    assert trusted
    subjects = [dict(part[0] for part in each["subject"]) for each in trusted.get_ca_certs()]
    assert "Hospital CA" in {subject.get("organizationName") for subject in subjects}
    systems = ssl.create_default_context().cert_store_stats()["x509_ca"]
    assert trusted.cert_store_stats()["x509_ca"] == systems + 1
    assert trusted.verify_mode == ssl.CERT_REQUIRED
    assert trusted.check_hostname


@pytest.mark.parametrize(
    "content", [b"", b"not a certificate", b"\x30\x82\x01\x00", b"-----BEGIN CERTIFICATE-----\nxx\n"]
)
def test_a_file_without_a_certificate_is_refused_and_says_what_it_should_be(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(
        SettingsInvalid, match=r"GATEWAY_RELAY_CA_FILE: .*ca\.pem holds no certificate in PEM"
    ) as refused:
        dial_options(load(gateway_relay_ca_file=str(path)))
    assert "openssl x509" in refused.value.remedy


@pytest.mark.parametrize("name", ["missing.pem", "."])
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"GATEWAY_RELAY_CA_FILE: .* can't be read: \w+"):
        dial_options(load(gateway_relay_ca_file=str(tmp_path / name)))


# --- the relay settings


def connections(**settings: str) -> RelayConnections:
    found = relay_connections(load(**{f"azure_relay_{name}": value for name, value in settings.items()}))
    assert found
    return found


def test_without_any_relay_setting_there_is_no_relay() -> None:
    assert relay_connections(load()) is None


def test_one_connection_string_serves_both_hybrid_connections() -> None:
    found = connections(connection_string=STRING, hybrid_connection="actions", events_hybrid_connection="events")
    assert found.events
    assert (found.actions.path, found.events.path) == ("actions", "events")
    assert found.actions.namespace == found.events.namespace
    assert (found.actions.namespace.host, found.is_emulator) == ("contoso.servicebus.windows.net", False)


def test_entity_path_stands_for_the_name_of_the_connection_that_brings_actions() -> None:
    found = connections(connection_string=f"{STRING};EntityPath=actions", events_hybrid_connection="events")
    assert found.events
    assert (found.actions.path, found.events.path) == ("actions", "events")


def test_an_entity_path_that_says_another_name_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="EntityPath names another"):
        connections(connection_string=f"{STRING};EntityPath=actions", hybrid_connection="others")


def test_a_development_emulator_is_reached_without_tls() -> None:
    string = f"Endpoint=sb://127.0.0.1:9080/;SharedAccessKeyName=n;SharedAccessKey={KEY};UseDevelopmentEmulator=true"
    found = connections(connection_string=string, hybrid_connection="actions")
    assert (found.is_emulator, found.actions.listen_address().split("/")[0]) == (True, "ws:")
    assert found.actions.namespace.authority == "127.0.0.1:9080"


def test_events_may_have_a_string_of_their_own_that_names_its_connection() -> None:
    other = STRING.replace("contoso", "fabrikam").replace("listen-and-send", "send")
    found = connections(
        connection_string=f"{STRING};EntityPath=actions", events_connection_string=f"{other};EntityPath=events"
    )
    assert found.events
    assert (found.events.path, found.events.namespace.host) == ("events", "fabrikam.servicebus.windows.net")


def test_or_whose_connection_is_named_apart() -> None:
    found = connections(
        connection_string=STRING,
        hybrid_connection="actions",
        events_connection_string=STRING,
        events_hybrid_connection="events",
    )
    assert found.events
    assert found.events.path == "events"


@pytest.mark.parametrize("namespace", ["contoso", "contoso.servicebus.windows.net"])
def test_namespace_key_name_and_key_do_the_same_as_a_string(namespace: str) -> None:
    found = connections(
        namespace=namespace,
        key_name="listen-and-send",
        shared_access_key=KEY,
        hybrid_connection="actions",
        events_hybrid_connection="events",
    )
    assert found == connections(
        connection_string=STRING, hybrid_connection="actions", events_hybrid_connection="events"
    )


def test_without_an_events_connection_there_is_none() -> None:
    assert connections(connection_string=STRING, hybrid_connection="actions").events is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"namespace": "contoso"}, "AZURE_RELAY_KEY_NAME"),
        ({"namespace": "contoso", "key_name": "n"}, "AZURE_RELAY_SHARED_ACCESS_KEY"),
        ({"hybrid_connection": "actions"}, "AZURE_RELAY_CONNECTION_STRING"),
        ({"connection_string": STRING}, "AZURE_RELAY_HYBRID_CONNECTION"),
        ({"connection_string": "nonsense", "hybrid_connection": "a"}, "AZURE_RELAY_CONNECTION_STRING"),
        ({"connection_string": f"{ENDPOINT};SharedAccessKey={KEY}", "hybrid_connection": "a"}, "SharedAccessKeyName"),
        (
            {"namespace": "not a name", "key_name": "n", "shared_access_key": KEY, "hybrid_connection": "a"},
            "AZURE_RELAY_NAMESPACE",
        ),
        ({"connection_string": STRING, "hybrid_connection": "a b"}, "AZURE_RELAY_HYBRID_CONNECTION"),
    ],
)
def test_relay_settings_that_are_not_enough_or_wrong_are_named_without_the_key(
    settings: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsInvalid, match=named) as refused:
        connections(**settings)
    assert KEY[:8] not in str(refused.value)


IDENTITY = f"{ENDPOINT};Authentication=Managed Identity"
BOTH = {"hybrid_connection": "actions", "events_hybrid_connection": "events"}


@pytest.mark.parametrize(
    "settings",
    [
        {"connection_string": IDENTITY},
        {"connection_string": IDENTITY, "authentication": "managed-identity"},
        {"connection_string": ENDPOINT, "authentication": "Managed Identity"},
        {"namespace": "contoso", "authentication": "managed-identity"},
        {"namespace": "contoso", "authentication": "default-chain"},
    ],
)
def test_an_identity_takes_the_place_of_a_key_and_serves_both_hybrid_connections(settings: dict[str, str]) -> None:
    found = connections(**settings, **BOTH)
    assert found.events
    assert isinstance(found.actions.credential, EntraCredential)
    assert found.actions.credential is found.events.credential
    assert found.actions.namespace.host == "contoso.servicebus.windows.net"


def test_one_connection_may_have_a_key_of_its_own_beside_an_identity() -> None:
    found = connections(connection_string=IDENTITY, events_connection_string=STRING, **BOTH)
    assert found.events
    assert isinstance(found.actions.credential, EntraCredential)
    assert found.events.credential == SharedAccessKey("listen-and-send", KEY)


def test_authentication_by_key_is_what_it_is_without_the_setting() -> None:
    said = connections(connection_string=STRING, authentication="key", hybrid_connection="actions")
    assert said == connections(connection_string=STRING, hybrid_connection="actions")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"connection_string": STRING, "authentication": "managed-identity"}, "AZURE_RELAY_CONNECTION_STRING says key"),
        (
            {"connection_string": STRING, "authentication": "default-chain"},
            "AZURE_RELAY_AUTHENTICATION is default-chain",
        ),
        ({"connection_string": IDENTITY, "authentication": "key"}, "says managed-identity"),
        ({"connection_string": IDENTITY, "authentication": "default-chain"}, "says managed-identity"),
        ({"connection_string": IDENTITY, "shared_access_key": KEY}, "AZURE_RELAY_SHARED_ACCESS_KEY"),
        ({"namespace": "n", "key_name": "k", "authentication": "managed-identity"}, "AZURE_RELAY_KEY_NAME"),
        ({"connection_string": f"{STRING};Authentication=Managed Identity"}, "both a shared access credential"),
        (
            {"connection_string": IDENTITY, "authentication": "managed-identity", "events_connection_string": STRING},
            "AZURE_RELAY_EVENTS_CONNECTION_STRING says key",
        ),
        ({"namespace": "n", "authentication": "password"}, "AZURE_RELAY_AUTHENTICATION"),
        ({"authentication": "managed-identity"}, "AZURE_RELAY_NAMESPACE"),
    ],
)
def test_a_key_and_an_identity_contradict_each_other_and_so_do_two_ways_to_say_it(
    settings: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsInvalid, match=named) as refused:
        connections(**settings, **BOTH)
    assert KEY[:8] not in str(refused.value)


def test_a_client_id_alone_configures_no_relay(environment: Set) -> None:
    environment(AZURE_CLIENT_ID="1")
    assert not load().relay_configured


def test_how_a_connection_string_authenticates_is_shown() -> None:
    assert shown(load(azure_relay_connection_string=IDENTITY))["AZURE_RELAY_CONNECTION_STRING"] == IDENTITY


# --- the README


TABLE = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", re.MULTILINE)


def told() -> dict[str, tuple[str, str]]:
    """Variable → default and meaning, of the README's configuration table."""
    rows = TABLE.findall(README.read_text(encoding="utf-8"))
    return {name: (default.strip().strip("`"), meaning) for name, default, meaning in rows}


def test_the_readme_tells_every_setting_with_its_default_and_its_description_and_no_other() -> None:
    assert told() == {name: (value, description) for name, value, description in listed(load())}
