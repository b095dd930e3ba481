"""How the emulator judges tokens of Microsoft Entra."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus

from relay.emulator import Emulator
from relay.entra import AUDIENCE
from relay.protocol import RenewToken
from relay.tokens import claims
from tests import patient_loop
from tests.relay.entra_support import jwt
from tests.relay.raw import knock
from tests.relay.support import asynchronous, emulator

LISTEN = "/$hc/actions?sb-hc-action=listen"


async def refused(relay: Emulator, target: str, **options: object) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await knock(relay, target, **options)
    return caught.value.response.status_code, caught.value.response.reason_phrase


@pytest.mark.parametrize("word", ["", "Bearer ", "bearer ", "BEARER  "])
@asynchronous
async def test_the_word_bearer_is_optional_in_all_three_places_and_its_case_makes_no_difference(word: str) -> None:
    bearer = word + jwt(expires=time.time() + 60)
    async with emulator(accepts_bearer=lambda text: text.startswith("ey")) as relay:
        for headers in ({"Authorization": bearer}, {"ServiceBusAuthorization": bearer}):
            await (await knock(relay, LISTEN, headers=headers)).close()
        await (await knock(relay, f"{LISTEN}&sb-hc-token={quote(bearer)}", headers={})).close()


@pytest.mark.parametrize(
    ("bearer", "word"),
    [
        (jwt(expires=1), "ExpiredToken"),
        (jwt(expires=2e9, audience="https://vault.azure.net"), "InvalidAudience"),
        (jwt(expires=2e9, audience=None), "InvalidAudience"),
        (jwt(expires=2e9, audience=["https://vault.azure.net"]), "InvalidAudience"),
        (jwt(expires=float("nan")), "MalformedToken"),
        (jwt(expires=2e9, audience="https://relay.azure.net/", who="a stranger"), "InvalidToken"),
        ("not.a.token", "InvalidToken"),
    ],
)
@asynchronous
async def test_a_bearer_token_is_judged_by_audience_expiry_and_whoever_vouches_for_it(bearer: str, word: str) -> None:
    def knows(token: str) -> bool:
        said = claims(token)
        return said is not None and "who" not in said

    async with emulator(accepts_bearer=knows) as relay:
        for headers in ({"Authorization": f"Bearer {bearer}"}, {"ServiceBusAuthorization": bearer}):
            status, reason = await refused(relay, LISTEN, headers=headers)
            assert (status, word in reason) == (401, True), reason
        await (await knock(relay, LISTEN, headers={"Authorization": jwt(expires=2e9, audience=[AUDIENCE])})).close()


@asynchronous
async def test_without_somebody_to_vouch_no_bearer_token_is_valid() -> None:
    async with emulator() as relay:
        assert "InvalidToken" in (await refused(relay, LISTEN, headers={"Authorization": jwt(expires=2e9)}))[1]


@asynchronous
async def test_a_control_channel_outlives_its_bearer_token_by_the_grace_and_no_longer() -> None:
    async with emulator(accepts_bearer=lambda _text: True, token_grace=0.2) as relay:
        now = patient_loop.clock_of_day()  # that of the emulator too
        expires = now().timestamp() + 0.3
        channel = await knock(relay, LISTEN, headers={"ServiceBusAuthorization": jwt(expires=expires)})
        await channel.wait_closed()
        assert channel.close_code == 1008
        assert expires + 0.2 <= now().timestamp() + 0.01
        renewed = await knock(relay, LISTEN, headers={"ServiceBusAuthorization": jwt(expires=time.time() + 60)})
        await renewed.send(RenewToken(jwt(expires=1)).to_text())
        await renewed.wait_closed()
        assert (renewed.close_code, "ExpiredToken" in (renewed.close_reason or "")) == (1008, True)


@pytest.mark.parametrize("bearer", [jwt(expires=1), jwt(expires=2e9, audience="https://vault.azure.net"), "no-jwt"])
@asynchronous
async def test_where_no_bearer_token_is_taken_none_is_read(bearer: str) -> None:
    async with emulator() as relay:
        status, reason = await refused(relay, LISTEN, headers={"Authorization": f"Bearer {bearer}"})
    assert (status, "Bearer tokens are not taken here" in reason) == (401, True)
