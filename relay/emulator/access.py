"""Who may do what: keys, their rights, and the token in a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from relay.emulator.calls import Call, Refusal
from relay.entra import AUDIENCE
from relay.errors import TokenRejected
from relay.tokens import DEFAULT_LIFETIME, SCHEME, TOKEN_HEADER, check_claims, claims, verify


class Right(StrEnum):
    """What a shared access policy may grant. Manage includes the others."""

    LISTEN = "Listen"
    SEND = "Send"
    MANAGE = "Manage"


ALL_RIGHTS: Final = frozenset(Right)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """The key of a shared access policy and its rights."""

    key: str = field(repr=False)
    rights: frozenset[Right] = ALL_RIGHTS


@dataclass(frozen=True, slots=True)
class Grant:
    """Until when somebody may do what was asked, and what the relay's clock said when that was judged."""

    expires_at: datetime
    judged_at: datetime

    @property
    def left(self) -> float:
        """Seconds that were left of it."""
        return (self.expires_at - self.judged_at).total_seconds()


class Gatekeeper:
    """Checks tokens.

    Args:
        keys: Policies by name; a bare text is a key with all rights.
        accepts_bearer: Judges Microsoft Entra tokens, bare and without the word ``Bearer``; without it none is valid.
        clock: The relay's clock as it goes for a hybrid connection; it is looked at once for each call.
    """

    def __init__(
        self,
        keys: Mapping[str, str | AccessKey],
        accepts_bearer: Callable[[str], bool] | None,
        clock: Callable[[str], datetime],
    ) -> None:
        self._policies = {name: key if isinstance(key, AccessKey) else AccessKey(key) for name, key in keys.items()}
        self._accepts_bearer = accepts_bearer
        self._clock = clock

    def check(self, call: Call, right: Right, now: datetime | None = None) -> Grant:
        """Let a call pass; ``now`` stands for the relay's clock.

        Raises:
            Refusal: 401 without a valid token, 403 without the right.
        """
        token = token_of(call)
        if not token:
            raise Refusal(401, "MissingToken: The request carries no token", at=now or self._clock(call.path))
        return self.check_token(token, call.path, right, now)

    def check_token(self, token: str, path: str, right: Right, now: datetime | None = None) -> Grant:
        """Let the bearer of this token do what ``right`` names, on ``path``.

        Raises:
            Refusal: 401 if it is not valid, 403 without the right.
        """
        now = now or self._clock(path)
        word, _, rest = token.strip().partition(" ")
        try:
            if word.lower() == SCHEME.lower():
                return self._check_signature(token, path, right, now)
            return self._check_bearer(rest.strip() if word.lower() == "bearer" else token.strip(), now)
        except TokenRejected as error:
            text = f"{error.code}: {error.message[0].upper()}{error.message[1:]}"
            raise Refusal(401, text, at=now) from error

    def _check_signature(self, token: str, path: str, right: Right, now: datetime) -> Grant:
        keys = {name: policy.key for name, policy in self._policies.items()}
        verified = verify(token, keys=keys, path=path, now=now)
        rights = self._policies[verified.key_name].rights
        if right not in rights and Right.MANAGE not in rights:
            raise Refusal(403, f"Unauthorized: '{right}' claim is required", at=now)
        return Grant(verified.expires_at, now)

    def _check_bearer(self, token: str, now: datetime) -> Grant:
        """A JSON web token is judged by its audience and expiry too; any other text lives for an hour."""
        if self._accepts_bearer is None:
            raise Refusal(401, "InvalidToken: Bearer tokens are not taken here", at=now)
        said = claims(token)
        expires_at = now + DEFAULT_LIFETIME if said is None else check_claims(said, audience=AUDIENCE, now=now)
        if not self._accepts_bearer(token):
            raise Refusal(401, "InvalidToken: The bearer token is not valid here", at=now)
        return Grant(expires_at, now)


def token_of(call: Call) -> str | None:
    """The token of a request: query before ``ServiceBusAuthorization`` before ``Authorization``."""
    return call.argument("sb-hc-token") or call.headers.get(TOKEN_HEADER) or call.headers.get("Authorization")
