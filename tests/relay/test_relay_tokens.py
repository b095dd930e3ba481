from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import SharedAccessKey, SharedAccessSignature, TokenRejected
from relay.tokens import check_claims, claims, covers, verify

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
KEY = SharedAccessKey("listen", "c2VjcmV0")
KEYS = {"listen": "c2VjcmV0"}


def signed(resource: str, *, encoded: str | None = None, expires: int | None = None, key: str = "c2VjcmV0") -> str:
    """A token over ``sr`` exactly as given, as other clients make them."""
    sr = encoded if encoded is not None else quote(resource, safe="")
    se = expires if expires is not None else int((NOW + timedelta(hours=1)).timestamp())
    digest = hmac.new(key.encode(), f"{sr}\n{se}".encode(), hashlib.sha256).digest()
    return f"SharedAccessSignature sr={sr}&sig={quote(base64.b64encode(digest), safe='')}&se={se}&skn=listen"


def test_a_token_is_the_documented_text() -> None:
    token = KEY.token("http://contoso.servicebus.windows.net/actions", timedelta(hours=1), NOW)
    assert token.value == signed("http://contoso.servicebus.windows.net/actions")
    assert token.expires_at == NOW + timedelta(hours=1)


@given(st.text(min_size=1), st.text(min_size=1), st.text(st.characters(blacklist_categories=["Cs"])))
def test_a_token_is_accepted_where_it_was_signed_for(name: str, key: str, path: str) -> None:
    name, key = (each.encode(errors="replace").decode() for each in (name, key))
    token = SharedAccessKey(name, key).token(f"http://host/{quote(path)}", timedelta(hours=1), NOW)
    assert verify(token.value, keys={name: key}, path=path, now=NOW).key_name == name


@given(st.text())
def test_any_text_is_a_valid_token_or_refused_with_401(text: str) -> None:
    for candidate in (text, f"SharedAccessSignature {text}", f"SharedAccessSignature sr={text}&sig=a&se=1&skn=listen"):
        with pytest.raises(TokenRejected) as caught:
            verify(candidate, keys=KEYS, path="actions", now=NOW)
        assert caught.value.status == 401


@pytest.mark.parametrize(
    "resource",
    [
        "http://contoso.servicebus.windows.net/actions",
        "https://contoso.servicebus.windows.net/actions",
        "sb://CONTOSO.servicebus.windows.net/Actions/",
        "http://127.0.0.1:443/actions",
        "http://contoso.servicebus.windows.net/$hc/actions",
        "http://contoso.servicebus.windows.net/",
        "http://contoso.servicebus.windows.net",
    ],
)
def test_scheme_port_letter_case_trailing_slash_and_namespace_make_no_difference(resource: str) -> None:
    assert verify(signed(resource), keys=KEYS, path="actions", now=NOW).key_name == "listen"


def test_the_signature_covers_the_resource_as_sent_so_lower_case_escapes_are_fine() -> None:
    assert verify(signed("", encoded="http%3a%2f%2fhost%2factions"), keys=KEYS, path="actions", now=NOW)
    tampered = signed("http://host/actions").replace("%3A", "%3a")
    with pytest.raises(TokenRejected) as caught:
        verify(tampered, keys=KEYS, path="actions", now=NOW)
    assert caught.value.code == "InvalidSignature"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (signed("http://host/events"), "InvalidAudience"),
        (signed("http://host/act"), "InvalidAudience"),
        (signed("http://host/actions/deeper"), "InvalidAudience"),
        (signed("http://host/actions", expires=int(NOW.timestamp())), "ExpiredToken"),
        (signed("http://host/actions", expires=10**30), "MalformedToken"),
        (signed("http://host/actions", key="another"), "InvalidSignature"),
        (signed("http://host/actions").replace("skn=listen", "skn=nobody"), "InvalidSignature"),
        ("SharedAccessSignature sr=a&se=1&skn=b", "MalformedToken"),
        ("Bearer abc", "MalformedToken"),
        ("", "MalformedToken"),
    ],
)
def test_a_token_that_does_not_hold_is_refused_with_its_reason(token: str, code: str) -> None:
    with pytest.raises(TokenRejected) as caught:
        verify(token, keys=KEYS, path="actions", now=NOW)
    assert (caught.value.status, caught.value.code) == (401, code)


def test_a_resource_covers_whole_segments_only() -> None:
    assert covers("http://h/a", "a/b")
    assert not covers("http://h/a", "ab")
    assert not covers("http://h/a/b", "a")


def test_a_ready_signature_knows_its_own_expiry() -> None:
    text = signed("http://host/actions")
    token = asyncio.run(SharedAccessSignature(text).issue("ignored"))
    assert (token.value, token.expires_at) == (text, NOW + timedelta(hours=1))
    assert not token.renewable, "there will never be another one"
    assert asyncio.run(SharedAccessSignature("whatever").issue("ignored")).expires_at is None


@given(st.text())
def test_any_text_is_a_json_web_token_or_not(text: str) -> None:
    for candidate in (text, f"a.{text}.b", f"a.{base64.urlsafe_b64encode(text.encode('utf-8', 'replace')).decode()}.b"):
        assert claims(candidate) is None or isinstance(claims(candidate), dict)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=3))
def test_whatever_a_json_web_token_claims_it_is_valid_or_refused(claim: object) -> None:
    for said in ({"aud": claim, "exp": 2e9}, {"aud": "https://relay.azure.net", "exp": claim}, {}):
        with suppress(TokenRejected):
            assert check_claims(said, audience="https://relay.azure.net/", now=NOW) > NOW


def test_tokens_and_keys_are_not_printed() -> None:
    token = KEY.token("http://host/actions", now=NOW)
    assert "sig=" not in repr(token)
    assert "c2VjcmV0" not in repr(KEY)
