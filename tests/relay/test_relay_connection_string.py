from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import (
    ConfigurationError,
    ConnectionString,
    ConnectionStringError,
    HybridConnection,
    Namespace,
    SharedAccessKey,
    SharedAccessSignature,
)
from relay.entra import EntraCredential

AZURE = "Endpoint=sb://contoso.servicebus.windows.net/;SharedAccessKeyName=listen;SharedAccessKey=c2VjcmV0PT0="


def test_a_string_from_the_portal_is_read() -> None:
    parsed = ConnectionString.parse(AZURE + ";EntityPath=actions")
    assert parsed.namespace == Namespace("contoso.servicebus.windows.net", 443, secure=True)
    assert parsed.credential == SharedAccessKey("listen", "c2VjcmV0PT0=")
    assert parsed.entity_path == "actions"


def test_keys_may_end_in_equals_signs_because_parts_are_split_at_the_first() -> None:
    assert ConnectionString.parse(AZURE).credential == SharedAccessKey("listen", "c2VjcmV0PT0=")


def test_names_are_case_insensitive_and_unknown_ones_are_tolerated() -> None:
    text = "ENDPOINT=sb://h/;sharedaccesskeyname=n;SHAREDACCESSKEY=k;OperationTimeout=00:01:00;"
    assert ConnectionString.parse(text).credential == SharedAccessKey("n", "k")


def test_the_development_emulator_means_plain_websockets_on_port_80_or_the_one_given() -> None:
    plain = ConnectionString.parse("Endpoint=sb://localhost;UseDevelopmentEmulator=true").namespace
    given_port = ConnectionString.parse("Endpoint=sb://localhost:9080/;UseDevelopmentEmulator=TRUE").namespace
    assert (plain.secure, plain.port) == (False, 80)
    assert (given_port.secure, given_port.port) == (False, 9080)


@pytest.mark.parametrize("said", ["Managed Identity", "managed identity", "ManagedIdentity", " MANAGED IDENTITY "])
def test_a_managed_identity_takes_the_place_of_a_key(said: str) -> None:
    text = f"Endpoint=sb://contoso.servicebus.windows.net/;Authentication={said};OperationTimeout=00:01:00"
    parsed = ConnectionString.parse(text)
    assert (parsed.managed_identity, parsed.credential) == (True, None)
    assert ConnectionString.parse(parsed.format()) == parsed
    assert isinstance(parsed.hybrid_connection("actions").credential, EntraCredential)
    given = SharedAccessKey("n", "k")
    assert parsed.hybrid_connection("actions", given).credential is given


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{AZURE};Authentication=Managed Identity", "both"),
        ("Endpoint=sb://h/;SharedAccessSignature=x;Authentication=Managed Identity", "both"),
        ("Endpoint=sb://h/;Authentication=c2VjcmV0PT0=", "not known"),
    ],
)
def test_an_authentication_that_cannot_be_meant_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConnectionStringError, match=told) as caught:
        ConnectionString.parse(text)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_shared_access_signature_takes_the_place_of_a_key() -> None:
    parsed = ConnectionString.parse(
        "Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=a&sig=b&se=1&skn=c"
    )
    assert parsed.credential == SharedAccessSignature("SharedAccessSignature sr=a&sig=b&se=1&skn=c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "Endpoint=",
        "Endpoint=hc://contoso.biztalk.windows.net/",
        "Endpoint=sb://host:notaport/",
        "Endpoint=sb://host:99999/",
        AZURE + ";EntityPath=a;EntityPath=b",
        AZURE + ";SharedAccessKey=again",
        "Endpoint=sb://h/;SharedAccessKey=k",
        "Endpoint=sb://h/;SharedAccessKeyName=n",
        AZURE + ";SharedAccessSignature=SharedAccessSignature sr=a",
    ],
)
def test_what_cannot_be_right_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        ConnectionString.parse(text)
    assert "c2VjcmV0" not in str(caught.value)
    assert "again" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused_with_the_documented_error(text: str) -> None:
    for candidate in (text, "Endpoint=sb://h/;" + text, "Endpoint=" + text):
        with suppress(ConnectionStringError):
            ConnectionString.parse(candidate)


NAMES = st.text(st.sampled_from("abcXYZ019-_."), min_size=1, max_size=20)


@given(
    NAMES, st.text(st.sampled_from("abcXYZ019+/="), min_size=1), st.none() | NAMES, st.booleans(), st.integers(1, 65535)
)
def test_what_was_formatted_is_read_back(name: str, key: str, path: str | None, secure: bool, port: int) -> None:
    original = ConnectionString(Namespace("host.example", port, secure), SharedAccessKey(name, key), path)
    assert ConnectionString.parse(original.format()) == original


def test_the_hybrid_connection_comes_from_the_string_or_from_the_setting() -> None:
    with_path = ConnectionString.parse(AZURE + ";EntityPath=actions")
    assert with_path.hybrid_connection().path == "actions"
    assert with_path.hybrid_connection("Actions").path == "Actions"
    assert ConnectionString.parse(AZURE).hybrid_connection("events").path == "events"


def test_a_hybrid_connection_named_differently_in_two_places_is_an_error() -> None:
    with pytest.raises(ConnectionStringError, match="EntityPath"):
        ConnectionString.parse(AZURE + ";EntityPath=actions").hybrid_connection("events")


def test_a_hybrid_connection_needs_a_name_and_a_credential() -> None:
    with pytest.raises(ConnectionStringError, match="named"):
        ConnectionString.parse(AZURE).hybrid_connection()
    with pytest.raises(ConnectionStringError, match="credential"):
        ConnectionString.parse("Endpoint=sb://h/").hybrid_connection("actions")


def connection(path: str = "actions", namespace: Namespace | None = None) -> HybridConnection:
    return HybridConnection(
        namespace or Namespace("contoso.servicebus.windows.net"), path, SharedAccessKey("name", "topsecret")
    )


def test_addresses_are_those_of_the_protocol_guide() -> None:
    assert connection().listen_address() == "wss://contoso.servicebus.windows.net/$hc/actions?sb-hc-action=listen"
    assert connection().connect_address("x/y", "a=b") == (
        "wss://contoso.servicebus.windows.net/$hc/actions/x/y?a=b&sb-hc-action=connect"
    )
    assert connection().listen_address(correlation_id="7 8").endswith("?sb-hc-action=listen&sb-hc-id=7%208")
    assert connection().http_address("echo") == "https://contoso.servicebus.windows.net/actions/echo"
    assert connection().resource_uri == "http://contoso.servicebus.windows.net/actions"


def test_paths_are_url_encoded_and_their_outer_slashes_do_not_count() -> None:
    assert connection("/site a/ö/".replace(" ", "_")).listen_address() == (
        "wss://contoso.servicebus.windows.net/$hc/site_a/%C3%B6?sb-hc-action=listen"
    )


@pytest.mark.parametrize("path", ["", "/", "a b", "a?b", "a#b", "a\nb"])
def test_paths_that_cannot_stand_in_an_address_are_refused(path: str) -> None:
    with pytest.raises(ConfigurationError):
        connection(path)


def test_an_emulator_is_addressed_by_plain_websocket_with_its_port() -> None:
    local = connection(namespace=Namespace("127.0.0.1", 9080, secure=False))
    assert local.listen_address() == "ws://127.0.0.1:9080/$hc/actions?sb-hc-action=listen"
    assert local.namespace.is_loopback
    assert connection(namespace=Namespace("::1", 9080, secure=False)).listen_address().startswith("ws://[::1]:9080/")
    assert Namespace("localhost").is_loopback
    assert not Namespace("contoso.servicebus.windows.net").is_loopback


def test_a_bare_namespace_name_belongs_to_the_public_cloud() -> None:
    assert Namespace.named("contoso").host == "contoso.servicebus.windows.net"
    assert Namespace.named("contoso.servicebus.usgovcloudapi.net").host == "contoso.servicebus.usgovcloudapi.net"
    with pytest.raises(ConfigurationError):
        Namespace.named("https://contoso")


def test_no_secret_is_printed() -> None:
    signature = SharedAccessSignature("SharedAccessSignature sr=x&sig=topsecret&se=1&skn=n")
    for each in (connection(), ConnectionString(Namespace("h"), SharedAccessKey("n", "topsecret")), signature):
        assert "topsecret" not in repr(each)
        assert "topsecret" not in str(each)
