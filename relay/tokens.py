"""Tokens: made for the relay, and checked by the emulator.

A shared access signature is ``SharedAccessSignature sr=E&sig=S&se=UNIX&skn=NAME`` where E is the URL-encoded resource
and S the URL-encoded Base64 of HMAC-SHA256 over ``E + "\\n" + se``. The key is used as text, not Base64-decoded, and
the HMAC covers E exactly as it was sent (Azure documentation, *Control access with shared access signatures*).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, runtime_checkable
from urllib.parse import quote, unquote, urlsplit

from relay.errors import Phase, TokenRejected

SCHEME: Final = "SharedAccessSignature"
TOKEN_HEADER: Final = "ServiceBusAuthorization"  # noqa: S105 - the name of a header
"""Where the token travels. Not in the address: addresses land in logs."""

DEFAULT_LIFETIME: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Token:
    """What is shown to the relay.

    Attributes:
        value: The token as it goes into the header ``ServiceBusAuthorization``. Never printed.
        expires_at: When the relay stops taking it; ``None`` when that is unknown.
        renewable: Whether its source will have another one, now or later. False: it is the only one there ever is.
    """

    value: str = field(repr=False)
    expires_at: datetime | None
    renewable: bool = True


@runtime_checkable
class TokenSource(Protocol):
    """Whatever gives tokens: a shared access key, a ready signature, Microsoft Entra (`relay.entra`).

    A source may give the same token again until it has a newer one.
    """

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        """A token for this resource, as fresh as this source can make it."""
        ...


@dataclass(frozen=True, slots=True)
class SharedAccessKey:
    """A named key that signs its own tokens.

    Attributes:
        name: Name of the shared access policy.
        key: The key as text, as the portal shows it. Never printed.
    """

    name: str
    key: str = field(repr=False)

    def token(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME, now: datetime | None = None) -> Token:
        """Sign a token for ``resource_uri`` (``http://HOST/PATH``) that lives for ``lifetime`` from ``now``."""
        expires = int(((now or datetime.now(UTC)) + lifetime).timestamp())
        resource = quote(resource_uri, safe="")
        signature = quote(_sign(self.key, resource, str(expires)), safe="")
        value = f"{SCHEME} sr={resource}&sig={signature}&se={expires}&skn={quote(self.name, safe='')}"
        return Token(value, datetime.fromtimestamp(expires, UTC))

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:
        """A token signed now."""
        return self.token(resource_uri, lifetime)


@dataclass(frozen=True, slots=True)
class SharedAccessSignature:
    """A token somebody else signed. It cannot be renewed: when it expires, the relay refuses us.

    Attributes:
        signature: The whole token, starting ``SharedAccessSignature``. Never printed.
    """

    signature: str = field(repr=False)

    async def issue(self, resource_uri: str, lifetime: timedelta = DEFAULT_LIFETIME) -> Token:  # noqa: ARG002 - it is what it is
        """Always the same token."""
        try:
            expires_at = datetime.fromtimestamp(int(_fields(self.signature)["se"]), UTC)
        except (KeyError, ValueError, OverflowError, OSError, TokenRejected):
            expires_at = None
        return Token(self.signature, expires_at, renewable=False)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a valid token grants: who signed it, and until when."""

    key_name: str
    expires_at: datetime


def verify(token: str, *, keys: Mapping[str, str], path: str, now: datetime | None = None) -> Verified:
    """Check a shared access signature as Azure does.

    Scheme, port and host of ``sr`` are not compared, and letter case and a trailing slash make no difference:
    Microsoft's clients disagree on all of them. ``sr`` covers ``path`` when it is the namespace, the path, or a leading
    part of it by whole segments.

    Args:
        token: The token as received.
        keys: Name → key of the policies known here.
        path: The hybrid connection it is shown for.
        now: The time to compare with; the clock's when not given.

    Raises:
        TokenRejected: 401, with the reason in ``code``.
    """
    fields = _fields(token)
    missing = {"sr", "sig", "se", "skn"} - fields.keys()
    if missing:
        raise _rejected("MalformedToken", "the token lacks a part")
    name = unquote(fields["skn"])
    expected = _sign(keys.get(name, ""), fields["sr"], fields["se"])
    if name not in keys or not hmac.compare_digest(expected.encode(), unquote(fields["sig"]).encode(errors="replace")):
        raise _rejected("InvalidSignature", "the token has an invalid signature")
    expires_at = _expiry(fields["se"])
    if expires_at <= (now or datetime.now(UTC)):
        raise _rejected("ExpiredToken", "the token is expired")
    if not covers(unquote(fields["sr"]), path):
        raise _rejected("InvalidAudience", "the token is for another resource")
    return Verified(name, expires_at)


def claims(jwt: str) -> dict[str, object] | None:
    """What a JSON web token (RFC 7519) says, its signature unchecked; ``None`` when it is no such token."""
    parts = jwt.split(".")
    if len(parts) != 3:
        return None
    try:
        said = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def check_claims(said: Mapping[str, object], *, audience: str, now: datetime) -> datetime:
    """Check audience and expiry of a JSON web token; returns when it expires.

    A slash at the end of the audience makes no difference: Microsoft Entra repeats the one it was asked for.

    Raises:
        TokenRejected: 401, with the reason in ``code``.
    """
    meant = said.get("aud")
    meant_for = meant if isinstance(meant, list) else [meant]
    if audience.rstrip("/") not in [str(each).rstrip("/") for each in meant_for]:
        raise _rejected("InvalidAudience", "the token is for another audience")
    expires_at = _expiry(said.get("exp"))
    if expires_at <= now:
        raise _rejected("ExpiredToken", "the token is expired")
    return expires_at


def covers(resource: str, path: str) -> bool:
    """Whether the resource of a token includes the hybrid connection ``path``."""
    try:
        granted = urlsplit(resource).path
    except ValueError:
        return False
    wanted_segments, granted_segments = _segments(path), _segments(granted)
    return wanted_segments[: len(granted_segments)] == granted_segments


def _segments(path: str) -> list[str]:
    segments = [segment for segment in unquote(path).lower().split("/") if segment]
    return segments[1:] if segments[:1] == ["$hc"] else segments


def _fields(token: str) -> dict[str, str]:
    scheme, _, rest = token.strip().partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise _rejected("MalformedToken", "the token is not a SharedAccessSignature")
    return {name.strip(): value for name, _, value in (part.partition("=") for part in rest.split("&"))}


def _expiry(moment: object) -> datetime:
    try:
        return datetime.fromtimestamp(moment if isinstance(moment, float) else int(str(moment)), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _rejected("MalformedToken", "the token's expiry is not a time") from error


def _sign(key: str, resource: str, expires: str) -> str:
    digest = hmac.new(key.encode(), f"{resource}\n{expires}".encode(errors="replace"), hashlib.sha256).digest()
    return base64.b64encode(digest).decode("ascii")


def _rejected(code: str, message: str) -> TokenRejected:
    return TokenRejected(message, phase=Phase.UPGRADE, status=401, code=code)
