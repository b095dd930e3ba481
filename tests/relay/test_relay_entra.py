"""Tokens of Microsoft Entra: the real azure-identity, asking issuers on this machine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme
from azure.identity import ManagedIdentityCredential

from relay import ConfigurationError, ConnectionString, DialError, HybridConnection, Namespace, Sender
from relay.entra import EntraCredential, IssuerAccess, default_chain, managed_identity
from relay.tokens import Token, claims
from tests.relay.entra_support import Endpoint, identity_endpoint, jwt
from tests.relay.support import asynchronous, emulator, listening, until

CLIENT_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity but the test's, and no proxy."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    with identity_endpoint() as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


def asked_of(credential: EntraCredential) -> Token:
    return asyncio.run(credential.issue("http://host/actions"))


def refusal(credential: EntraCredential) -> DialError:
    with pytest.raises(DialError) as caught:
        asked_of(credential)
    assert (caught.value.phase, caught.value.code) == ("token", "no_token")
    assert caught.value.remedy
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


# --- what is asked for, and what is given


def test_a_managed_identity_is_asked_for_a_token_for_azure_relay_which_is_a_bare_jwt(endpoint: Endpoint) -> None:
    token = asked_of(managed_identity())
    assert endpoint.asked == [{"api-version": "2019-08-01", "resource": "https://relay.azure.net"}]
    said = claims(token.value)
    assert said is not None
    assert token.expires_at
    assert abs(token.expires_at.timestamp() - float(str(said["exp"]))) <= 1
    assert token.value not in repr(token)


def test_a_user_assigned_identity_is_asked_for_by_its_client_id(endpoint: Endpoint) -> None:
    asked_of(managed_identity(CLIENT_ID))
    assert endpoint.asked[0]["client_id"] == CLIENT_ID


def test_the_default_chain_comes_to_the_managed_identity_too(endpoint: Endpoint) -> None:
    assert claims(asked_of(default_chain(CLIENT_ID)).value)
    assert endpoint.asked[-1]["client_id"] == CLIENT_ID


def test_a_token_is_kept_until_shortly_before_its_end(endpoint: Endpoint) -> None:
    credential = managed_identity()
    assert asked_of(credential).value == asked_of(credential).value
    assert len(endpoint.asked) == 1
    endpoint.life = 299  # less than the five minutes that azure-identity wants
    short = managed_identity()
    assert asked_of(short).value != asked_of(short).value


@asynchronous
async def test_it_opens_the_control_channel_and_the_senders_way_and_the_relay_judges_it(endpoint: Endpoint) -> None:
    judged: list[str] = []

    def judge(token: str) -> bool:
        judged.append(token)
        return True

    async with emulator(accepts_bearer=judge) as relay:
        text = f"Endpoint=sb://127.0.0.1:{relay.port}/;Authentication=Managed Identity;UseDevelopmentEmulator=true"
        connection = ConnectionString.parse(text).hybrid_connection("actions")
        async with listening(connection) as listener:
            assert await Sender(connection).send("hello") == "hello"
            assert listener.status().proven_by == "echo"
    assert judged
    assert all(claims(token) for token in judged), "the bare JWT, without the word Bearer"


@pytest.mark.slow
@asynchronous
async def test_a_real_credential_is_renewed_on_the_open_channel(endpoint: Endpoint) -> None:
    """Lives under five minutes are never kept by azure-identity: each question brings a newer token."""
    endpoint.life = 3
    async with emulator(accepts_bearer=lambda _token: True, token_grace=0) as relay:
        namespace = Namespace("127.0.0.1", relay.port, secure=False)
        connection = HybridConnection(namespace, "actions", managed_identity())
        async with listening(connection) as listener:
            while relay.log.count("renew", 200) < 2:
                assert await Sender(connection).send("hello") == "hello"
            assert listener.status().reconnects == 0
    assert relay.log.count("connect", 404) == 0


# --- what fails


def test_an_endpoint_that_gives_none_is_named_with_what_to_do_and_without_what_it_said(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    endpoint.fault = 500
    error = refusal(managed_identity())
    assert "the managed identity has no token to give (CredentialUnavailableError" in error.message
    assert "Azure Arc" in error.remedy
    assert "eyJ" not in str(error)
    assert "eyJ" not in str([record.getMessage() for record in caplog.records])


def test_an_endpoint_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Endpoint(port=1).environment.items():
        monkeypatch.setenv(name, value)
    error = refusal(managed_identity())
    assert "cannot be reached (ServiceRequestError)" in error.message
    assert "way to the issuer" in error.remedy


def test_an_endpoint_that_never_answers_is_left_within_the_time_of_the_phase(endpoint: Endpoint) -> None:
    endpoint.hold.clear()
    hasty = managed_identity(access=IssuerAccess(seconds=1))
    assert "cannot be reached (ServiceResponseTimeoutError)" in refusal(hasty).message
    assert len(endpoint.asked) == 1, "one try: whoever needs the token tries again at its own pace"


def azure_error(kind: str, message: str, status: int | None = None) -> Exception:
    from azure import identity
    from azure.core import exceptions

    made: Exception = (getattr(exceptions, kind, None) or getattr(identity, kind))(message=message)
    made.status_code = status
    return made


class Refusing:
    """A credential of azure-identity that raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_token(self, *scopes: str) -> object:
        raise self.error


SECRET = "AADSTS7000215: Invalid client secret 'topsecret-eyJhbGciOi' provided. Trace ID: 1"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (("ClientAuthenticationError", SECRET), "refuses it (ClientAuthenticationError, AADSTS7000215)"),
        (("ClientAuthenticationError", "no", 400), "refuses it (ClientAuthenticationError)"),
        (("ClientAuthenticationError", "tried them all"), "it has no token to give (ClientAuthenticationError)"),
        (("CredentialUnavailableError", SECRET), "it has no token to give (CredentialUnavailableError, AADSTS7000215)"),
        (("ServiceResponseError", SECRET), "cannot be reached (ServiceResponseError, AADSTS7000215)"),
    ],
)
def test_what_azure_raises_is_told_by_kind_code_and_status_and_never_by_its_text(
    error: tuple[str, str, int], told: str
) -> None:
    failure = refusal(EntraCredential(Refusing(azure_error(*error)), "it", "Do this."))
    assert told in failure.message
    assert failure.status == (400 if 400 in error else None)
    assert "topsecret" not in str(failure)


def test_any_other_error_is_told_by_its_kind() -> None:
    assert "(OSError)" in refusal(EntraCredential(Refusing(OSError("topsecret")), "it", "Do this.")).message


def test_without_azure_identity_it_says_which_extra_to_install_and_the_rest_of_relay_works() -> None:
    script = """
import sys
for name in ("azure", "azure.identity", "azure.core", "trustme"):
    sys.modules[name] = None
import relay, relay.emulator
for make in (relay.entra.managed_identity, relay.entra.default_chain):
    try:
        make()
    except relay.ConfigurationError as error:
        print(error.code, error.remedy)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["entra_missing Install worklist-gateway[entra]."] * 2


def test_relay_imports_neither_of_its_extras_by_itself() -> None:
    script = "import sys, relay, relay.emulator; print({'azure', 'msal', 'trustme'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "set()", done.stderr


def test_surroundings_that_contradict_themselves_are_ours_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "http://login.example")
    with pytest.raises(ConfigurationError) as caught:
        default_chain()
    assert "AZURE_AUTHORITY_HOST" in caught.value.remedy


# --- the loop, the process, the clock


@asynchronous
async def test_an_issuer_that_hangs_holds_up_nobody_and_is_asked_once_for_all(
    endpoint: Endpoint,
) -> None:
    endpoint.hold.clear()
    credential = EntraCredential(ManagedIdentityCredential(), "the managed identity", patience=0.3)
    asking = [asyncio.create_task(credential.issue("http://host/actions")) for _ in range(5)]
    turns = 0
    while not all(task.done() for task in asking):
        turns += 1
        await asyncio.sleep(0.01)
    assert turns >= 10
    assert all("gave no token within 0.3 s" in str(task.exception()) for task in asking)
    endpoint.hold.set()
    assert claims((await credential.issue("http://host/actions")).value)
    assert len(endpoint.asked) == 1, "the late answer was for whoever asked next"


@asynchronous
async def test_giving_up_the_wait_does_not_hurt_those_who_wait_on(endpoint: Endpoint) -> None:
    endpoint.hold.clear()
    credential = managed_identity()
    patient, hasty = (asyncio.create_task(credential.issue("http://host/actions")) for _ in range(2))
    await until(lambda: endpoint.asked)
    hasty.cancel()
    endpoint.hold.set()
    assert claims((await patient).value)


@asynchronous
async def test_a_failure_that_nobody_waits_for_any_more_is_not_an_unhandled_one(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.hold.clear()
    endpoint.fault = 500
    credential = managed_identity()
    asking = asyncio.create_task(credential.issue("http://host/actions"))
    await until(lambda: endpoint.asked)
    asking.cancel()
    await asyncio.wait({asking})
    endpoint.hold.set()
    await until(lambda: credential._asking and credential._asking.done())
    credential._asking = None  # asyncio complains where the last reference goes
    assert caplog.records == []


def test_the_end_of_the_process_does_not_wait_for_the_issuer(endpoint: Endpoint) -> None:
    endpoint.hold.clear()
    script = """
import asyncio, sys
from relay.entra import managed_identity

async def main():
    asyncio.create_task(managed_identity().issue("http://host/actions"))
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True) as process:
        try:
            asyncio.run(until(lambda: endpoint.asked))
            told_to_end = time.monotonic()
            process.communicate("\n", timeout=10)
            assert (process.returncode, len(endpoint.asked)) == (0, 1)
        finally:
            process.kill()
    assert time.monotonic() - told_to_end < 6, "the endpoint would answer after 20 s"


def test_one_credential_serves_one_event_loop_after_the_other(endpoint: Endpoint) -> None:
    credential = managed_identity()
    assert {asked_of(credential).value for _ in range(3)} == {asked_of(credential).value}


# --- the way to the issuer


def test_the_machines_own_endpoint_is_never_asked_through_a_proxy(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert asked_of(managed_identity())
    assert asked_of(managed_identity(access=IssuerAccess(proxy="http://127.0.0.1:1")))
    assert asked_of(managed_identity(access=IssuerAccess(proxy=None)))
    assert len(endpoint.asked) == 3


@asynchronous
async def test_microsoft_entra_is_asked_through_the_proxy_and_the_given_authorities_are_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service principal by the default chain; the proxy inspects TLS, as hospitals have it."""
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, CLIENT_ID)
    authority = trustme.CA()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    trusted = len(tls.get_ca_certs())
    async with inspecting_proxy(authority) as (proxy, asked):
        token = await default_chain(access=IssuerAccess(proxy, tls)).issue("http://host/actions")
        assert claims(token.value)
        assert {line.split()[1] for line in asked if line.startswith("CONNECT")} == {"login.microsoftonline.com:443"}
        assert any("scope=https%3A%2F%2Frelay.azure.net%2F.default" in line for line in asked)
        with pytest.raises(DialError) as caught:
            await default_chain(access=IssuerAccess(proxy)).issue("http://host/actions")
        assert "asked EnvironmentCredential" in caught.value.message
        monkeypatch.setenv("https_proxy", proxy)
        assert (await default_chain(access=IssuerAccess(tls=tls)).issue("http://host/actions")).value
    assert len(tls.get_ca_certs()) == trusted, "and nobody else: the relay's connections share these settings"


@asynccontextmanager
async def inspecting_proxy(authority: trustme.CA) -> AsyncIterator[tuple[str, list[str]]]:
    """A CONNECT proxy that plays Microsoft Entra itself, with a certificate of that authority."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("login.microsoftonline.com").configure_cert(tls)
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.start_tls(tls)
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"(?i)content-length: (\d+)", head)
                content = await reader.readexactly(int(length[1]) if length else 0)
                asked.extend([head.splitlines()[0], content.decode()])
                body = json.dumps(entra_says(head)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (OSError, EOFError):
            pass  # they have gone
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def entra_says(head: str) -> dict[str, object]:
    """The tenant's OpenID configuration, or a token."""
    tenant = f"https://login.microsoftonline.com/{CLIENT_ID}"
    if "openid-configuration" in head:
        return {
            "issuer": f"{tenant}/v2.0",
            "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
            "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        }
    return {"token_type": "Bearer", "expires_in": 3599, "access_token": jwt(expires=time.time() + 3599)}


def test_the_proxys_password_is_not_printed() -> None:
    assert "topsecret" not in repr(IssuerAccess(proxy="http://user:topsecret@proxy:3128"))


def test_azure_identity_is_silenced_before_it_says_anything() -> None:
    script = """
import logging, os
logging.basicConfig(level=logging.DEBUG)
from relay.entra import default_chain, managed_identity
managed_identity()
default_chain()
"""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("AZURE_")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True, env=surroundings
    )
    assert [line for line in done.stderr.splitlines() if ":azure" in line or ":msal" in line] == []


@pytest.mark.parametrize("seconds", [20.0, 60.0])
def test_the_time_of_the_phase_is_shared_out_and_the_error_that_knows_more_comes_first(
    seconds: float, endpoint: Endpoint
) -> None:
    transport = IssuerAccess(seconds=seconds).arguments()["transport"].connection_config
    credential = managed_identity(access=IssuerAccess(seconds=seconds))
    assert transport.timeout + transport.read_timeout < credential.patience < seconds
    assert (transport.timeout, transport.read_timeout) == pytest.approx((seconds / 4, seconds * 0.4))
    assert asked_of(credential)
