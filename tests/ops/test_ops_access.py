"""Who may do what at the ops port: tokens, a trusted proxy, this machine; sessions and forged requests (OWASP)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import SettingsInvalid
from gateway.ops import access as module
from gateway.ops.access import SECURE_COOKIE, Access, Asked, Refused, Role, Visitor
from gateway.settings import Settings, load

OPERATOR, AUDITOR, VIEWER = "operator-token-0123456789", "auditor-token-0123456789", "viewer-token-0123456789"
TOKENS = {
    "gateway_ops_operator_token": OPERATOR,
    "gateway_ops_auditor_token": AUDITOR,
    "gateway_ops_viewer_token": VIEWER,
}
PROXY = {
    "gateway_ops_identity_header": "X-Forwarded-User",
    "gateway_ops_trusted_proxies": ("10.1.0.0/16",),
    "gateway_ops_operators": ("op@example.org",),
    "gateway_ops_auditors": ("au@example.org",),
}


def access(**settings: Any) -> Access:
    return Access(Settings(**settings))


def asked(address: str = "127.0.0.1", *, cookie: str = "", **headers: str) -> Asked:
    told = {"host": "localhost:8080"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Asked(address, told, {module.COOKIE: cookie} if cookie else {})


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.1"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_with_nothing_set_whoever_asks_from_this_machine_may_do_all(host: str, address: str) -> None:
    visitor = access().visitor(asked(address, host=host))
    assert visitor.may_act
    assert visitor.may_reveal


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fe80::1", "", "nonsense"])
def test_with_nothing_set_nobody_else_may_look(address: str) -> None:
    with pytest.raises(Refused) as refused:
        access().visitor(asked(address))
    assert refused.value.status == 403
    assert "GATEWAY_OPS_OPERATOR_TOKEN" in refused.value.remedy


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1"])
def test_a_name_of_another_site_that_leads_here_is_refused_dns_rebinding(host: str) -> None:
    with pytest.raises(Refused):
        access().visitor(asked(host=host))


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_forwarded_host", "x_real_ip", "via"])
def test_who_comes_through_a_proxy_of_this_machine_is_not_at_this_machine(header: str) -> None:
    with pytest.raises(Refused):
        access().visitor(asked(**{header: "10.9.8.7"}))


def test_once_a_token_is_set_this_machine_needs_one_too() -> None:
    with pytest.raises(Refused) as refused:
        access(**TOKENS).visitor(asked())
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("token", "acts", "reveals"), [(OPERATOR, True, True), (AUDITOR, False, True), (VIEWER, False, False)]
)
def test_each_token_has_its_role_by_bearer_and_by_session(token: str, acts: bool, reveals: bool) -> None:
    door = access(**TOKENS)
    by_bearer = door.visitor(asked("10.9.9.9", authorization=f"Bearer {token}"))
    key, session = door.sign_in(token, "A. Nurse")
    by_session = door.visitor(asked("10.9.9.9", cookie=key))
    assert [(who.may_act, who.may_reveal) for who in (by_bearer, by_session)] == [(acts, reveals)] * 2
    assert by_session.name == session.visitor.name == "A. Nurse"


def test_an_unknown_token_is_refused_and_after_ten_no_more_are_looked_at_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = access(**TOKENS)
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    for status in [401] * 10 + [429] * 2:
        with pytest.raises(Refused) as refused:
            door.sign_in("guess", "N")
        assert refused.value.status == status
        assert "guess" not in str(refused.value)
    door.sign_in(OPERATOR, "N")  # who knows one is not kept out by who does not
    now[0] += 61
    with pytest.raises(Refused) as refused:
        door.sign_in("guess", "N")
    assert refused.value.status == 401


def test_who_signs_in_says_who_they_are() -> None:
    with pytest.raises(Refused):
        access(**TOKENS).sign_in(OPERATOR, " \n ")


def test_a_token_shorter_than_16_characters_is_no_setting() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        load(None, gateway_ops_operator_token="short")
    assert "16 characters" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("somebody", {Role.VIEWER}),
        ("op@example.org", {Role.VIEWER, Role.OPERATOR}),
        ("au@example.org", {Role.VIEWER, Role.AUDITOR}),
    ],
)
def test_a_trusted_proxy_says_who_asks_and_the_settings_what_they_may(name: str, roles: set[Role]) -> None:
    assert access(**PROXY).visitor(asked("10.1.2.3", x_forwarded_user=name)) == Visitor(name, frozenset(roles))


def test_a_proxys_own_authorization_does_not_stand_in_the_way_of_its_word() -> None:
    visitor = access(**PROXY).visitor(asked("10.1.2.3", x_forwarded_user="somebody", authorization="Bearer its-own"))
    assert visitor.name == "somebody"


def test_a_session_begun_behind_the_proxy_vouches_for_nobody_without_it() -> None:
    door = access(**PROXY)
    visitor = door.visitor(asked("10.1.2.3", x_forwarded_user="op@example.org"))
    key, _ = door.begin(visitor)
    for address in ("10.1.2.3", "10.9.9.9", "127.0.0.1"):
        with pytest.raises(Refused):
            door.visitor(asked(address, cookie=key))


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "::1"])
def test_the_header_of_anybody_else_is_not_believed(address: str) -> None:
    with pytest.raises(Refused):
        access(**PROXY).visitor(asked(address, x_forwarded_user="op@example.org"))


def test_a_proxy_that_names_nobody_lets_nobody_in() -> None:
    with pytest.raises(Refused) as refused:
        access(**PROXY).visitor(asked("10.1.2.3"))
    assert refused.value.status == 401


def test_with_a_proxy_this_machine_is_no_longer_enough() -> None:
    with pytest.raises(Refused):
        access(**PROXY).visitor(asked())


def test_a_session_ends_after_an_hour_of_silence_and_after_twelve_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    door, now = access(**TOKENS), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    key, _ = door.sign_in(OPERATOR, "N")
    for _ in range(12):
        now[0] += 3500
        assert door.session(asked(cookie=key))
    now[0] += 3500
    assert door.session(asked(cookie=key)) is None
    other, _ = door.sign_in(OPERATOR, "N")
    now[0] += 3601
    assert door.session(asked(cookie=other)) is None


def test_sessions_are_bounded_and_the_longest_unused_goes_first() -> None:
    door = access(**TOKENS)
    first, _ = door.sign_in(OPERATOR, "N")
    for _ in range(1000):
        door.begin(Visitor("n", frozenset()))
    assert door.session(asked(cookie=first)) is None


def test_signing_out_ends_the_session_for_whoever_has_the_cookie() -> None:
    door = access(**TOKENS)
    key, _ = door.sign_in(OPERATOR, "N")
    door.end(asked(cookie=key))
    assert not door.knows(asked(cookie=key))


@pytest.mark.parametrize(
    ("headers", "secret_given", "is_ours"),
    [
        ({}, True, True),
        ({"origin": "http://localhost:8080", "sec_fetch_site": "same-origin"}, True, True),
        ({}, False, False),
        ({"origin": "https://gateway.example", "sec_fetch_site": "same-origin"}, True, True),
        ({"origin": "http://evil.example"}, True, False),
        ({"origin": "null"}, True, False),
        ({"sec_fetch_site": "cross-site"}, True, False),
        ({"sec_fetch_site": "same-site"}, True, False),
    ],
)
def test_an_act_comes_from_our_own_page_with_the_sessions_secret(
    headers: dict[str, str], secret_given: bool, is_ours: bool
) -> None:
    door = access(**TOKENS)
    key, session = door.sign_in(OPERATOR, "N")
    secret = session.secret if secret_given else "another"
    if is_ours:
        door.require_own_form(asked(cookie=key, **headers), secret)
        return
    with pytest.raises(Refused) as refused:
        door.require_own_form(asked(cookie=key, **headers), secret)
    assert refused.value.status == 403


def test_another_sessions_secret_is_not_this_ones() -> None:
    door = access(**TOKENS)
    key, _ = door.sign_in(OPERATOR, "N")
    _, other = door.sign_in(OPERATOR, "M")
    with pytest.raises(Refused):
        door.require_own_form(asked(cookie=key), other.secret)


def test_only_a_trusted_proxy_says_that_the_browser_speaks_tls() -> None:
    door = access(**PROXY)
    assert door.is_https(asked("10.1.2.3", x_forwarded_proto="https"))
    assert not door.is_https(asked("10.2.2.3", x_forwarded_proto="https"))


def test_names_are_shown_for_their_time_only_and_can_be_hidden_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    _, session = access().begin(Visitor("n", frozenset()))
    session.reveal("clinic 20261123", ["ACC001"], 300)
    assert (session.seconds_revealed("clinic 20261123"), session.seconds_revealed("clinic 20261124")) == (300, 0)
    now[0] += 300
    assert not session.seconds_revealed("clinic 20261123")
    session.reveal("clinic 20261123", ["ACC001"], 300)
    session.hide()
    assert not session.seconds_revealed("clinic 20261123")


def test_the_cookie_of_a_tls_session_is_bound_to_its_host() -> None:
    assert SECURE_COOKIE.startswith("__Host-")
