"""Who stands at the ops port, and what they may do.

Three ways in. A *token* (at the sign-in page, or as `Authorization: Bearer`) gives its role. A *trusted proxy* names
who asks in a header. And while neither is configured, whoever asks from this machine may do everything: nobody else
may. A browser keeps a session by cookie; every act carries that session's own secret and comes from our own pages
(OWASP: session management, cross-site request forgery prevention).
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from gateway.audit.activities import this_user
from gateway.errors import GatewayError
from gateway.settings import Settings

LONGEST_NAME = 64


class Role(StrEnum):
    """What a visitor may do."""

    VIEWER = "viewer"
    """Look, names masked."""
    OPERATOR = "operator"
    """Act on appointments and status events, and reveal names."""
    AUDITOR = "auditor"
    """Reveal names."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: the name that goes into the record, and the roles."""

    name: str
    roles: frozenset[Role]

    @property
    def may_act(self) -> bool:
        """Whether acts are theirs."""
        return Role.OPERATOR in self.roles

    @property
    def may_reveal(self) -> bool:
        """Whether names may be shown to them."""
        return bool(self.roles & {Role.OPERATOR, Role.AUDITOR})


class Refused(GatewayError):
    """Not for this visitor. `status` is HTTP's: 401 who has to sign in, 403 who may not, 429 who tries too often."""

    code = "access_refused"

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


def _now() -> float:
    return time.monotonic()


_NEVER: tuple[float, frozenset[str]] = 0.0, frozenset()


@dataclass(slots=True)
class Session:
    """What we remember of one browser: its secret for acts, who signed in, and what was revealed to it until when."""

    visitor: Visitor
    has_signed_in: bool = False
    """By a token: the session then says who asks. Else each request says so itself, and the session only goes along."""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    began: float = field(default_factory=_now)
    used: float = field(default_factory=_now)
    is_ended: bool = False
    """Signed out."""
    revealed: dict[str, tuple[float, frozenset[str]]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def may_watch(self) -> bool:
        """Whether a list that was opened with it may go on: who only watches is not idle."""
        return not self.is_ended and _now() - self.began <= LONGEST_SECONDS

    def reveal(self, subject: str, numbers: Iterable[str], seconds: float) -> None:
        """From now on, for so long, names of these of the subject are shown."""
        self.revealed[subject] = _now() + seconds, frozenset(numbers)

    def hide(self) -> None:
        """All names are masked again."""
        self.revealed.clear()

    def seconds_revealed(self, subject: str) -> float:
        """How long names of this subject are shown yet; 0.0: they are masked."""
        return max(0.0, self.revealed.get(subject, _NEVER)[0] - _now())

    def reveals(self, subject: str, number: str) -> bool:
        """Whether this of the subject is among what was kept as looked at."""
        until, numbers = self.revealed.get(subject, _NEVER)
        return until > _now() and number in numbers


@dataclass(frozen=True, slots=True)
class Asked:
    """What access has to know of a request; header names are in lower case."""

    address: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]


IDLE_SECONDS = 3600.0
LONGEST_SECONDS = 12 * 3600.0
_MOST_SESSIONS = 1000
_MOST_FAILURES = 10
_FAILURES_SECONDS = 60.0

_EVERY_ROLE = frozenset(Role)
_ROLES = {
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.VIEWER, Role.OPERATOR}),
    Role.AUDITOR: frozenset({Role.VIEWER, Role.AUDITOR}),
}


class Access:
    """Decides who a visitor is. Used by the event loop's threads; what it keeps are single dict operations."""

    def __init__(self, settings: Settings, own_token: str | None = None) -> None:
        """Tokens, proxy and names come from the settings; `own_token` is an operator's (`gateway.ops.own_token`)."""
        given = {
            Role.VIEWER: settings.gateway_ops_viewer_token,
            Role.OPERATOR: settings.gateway_ops_operator_token,
            Role.AUDITOR: settings.gateway_ops_auditor_token,
        }
        self._tokens = {role: token.get_secret_value().encode() for role, token in given.items() if token}
        if own_token:
            self._tokens[Role.OPERATOR] = own_token.encode()
        self._header = (settings.gateway_ops_identity_header or "").lower()
        self._proxies = [ipaddress.ip_network(one, strict=False) for one in settings.gateway_ops_trusted_proxies]
        self._operators = frozenset(settings.gateway_ops_operators)
        self._auditors = frozenset(settings.gateway_ops_auditors)
        self._sessions: dict[str, Session] = {}
        self._failures: list[float] = []

    @property
    def takes_tokens(self) -> bool:
        """Whether there is a sign-in page."""
        return bool(self._tokens)

    # --- who asks

    def visitor(self, asked: Asked) -> Visitor:
        """Who asks. Raises `Refused`."""
        named = self._named_by_proxy(asked)
        if named:
            return named
        bearer = _bearer(asked.headers.get("authorization", ""))
        if bearer:
            role = self._role_of(bearer)
            return Visitor(f"{role} by token", _ROLES[role])
        session = self.session(asked)
        if session and session.has_signed_in:
            return session.visitor
        if not self._tokens and not self._header:
            return _somebody_here(asked)
        if self._header and not self._tokens:
            raise Refused(
                "the proxy did not say who you are",
                status=401,
                remedy=f"come through the proxy, and let it set {self._header} to the name of who has signed in there",
            )
        raise Refused("sign in to see this", status=401, remedy="with the token that hospital IT has given you")

    def knows(self, asked: Asked) -> bool:
        """Whether this visitor may look."""
        try:
            self.visitor(asked)
        except Refused:
            return False
        return True

    def _named_by_proxy(self, asked: Asked) -> Visitor | None:
        """Whom a trusted proxy names; its word is for this request, and goes before all else that it brings."""
        name = _plain(asked.headers.get(self._header, "")) if self._header and self._is_proxy(asked.address) else ""
        if not name:
            return None
        roles = {Role.VIEWER}
        roles |= {Role.OPERATOR} if name in self._operators else set()
        roles |= {Role.AUDITOR} if name in self._auditors else set()
        return Visitor(name, frozenset(roles))

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ipaddress.ip_address(address) in network for network in self._proxies)
        except ValueError:
            return False

    def is_https(self, asked: Asked) -> bool:
        """Whether the visitor's browser speaks TLS: a trusted proxy says so."""
        return self._is_proxy(asked.address) and asked.headers.get("x-forwarded-proto", "") == "https"

    # --- signing in

    def sign_in(self, token: str, name: str) -> tuple[str, Session]:
        """A new session for who has this token and gives this name. Raises `Refused`."""
        role = self._role_of(token)
        if not _plain(name):
            raise Refused("say who you are", status=400, remedy="your name or initials: they stand beside what you do")
        key, session = self.begin(Visitor(_plain(name), _ROLES[role]))
        session.has_signed_in = True
        return key, session

    def _role_of(self, token: str) -> Role:
        """Raises `Refused` for an unknown token; who knows one is let in whatever others try."""
        found = [role for role, known in self._tokens.items() if hmac.compare_digest(known, token.encode())]
        if found:
            return found[-1]
        now = _now()
        self._failures = [at for at in self._failures if now - at < _FAILURES_SECONDS]
        if len(self._failures) >= _MOST_FAILURES:
            raise Refused("too many wrong tokens were tried", status=429, remedy="wait a minute")
        self._failures.append(now)
        raise Refused("this token is not known", status=401, remedy="ask hospital IT for yours")

    # --- sessions

    def begin(self, visitor: Visitor) -> tuple[str, Session]:
        """A new session and the value of its cookie."""
        self._forget_old()
        key, session = secrets.token_urlsafe(32), Session(visitor)
        self._sessions[key] = session
        return key, session

    def end(self, asked: Asked) -> None:
        """Sign out."""
        session = self._sessions.pop(self._key(asked), None)
        if session:
            session.is_ended = True

    def session(self, asked: Asked) -> Session | None:
        """The browser's session, while it lasts."""
        session = self._sessions.get(self._key(asked))
        if session is None or self._is_over(session):
            return None
        session.used = _now()
        return session

    def require_own_form(self, asked: Asked, secret: str) -> None:
        """That an act was sent from our own page by who is signed in there, not by another site. Raises `Refused`.

        A bearer token is no browser's: nothing sends it unasked.
        """
        if _bearer(asked.headers.get("authorization", "")):
            return
        session = self.session(asked)
        own = session is not None and hmac.compare_digest(session.secret.encode(), secret.encode())
        if not own or not _same_origin(asked.headers):
            raise Refused(
                "this did not come from a page of this window, or the page was too old",
                status=403,
                remedy="load the page again and repeat it",
            )

    @staticmethod
    def _key(asked: Asked) -> str:
        return asked.cookies.get(SECURE_COOKIE) or asked.cookies.get(COOKIE, "")

    def _forget_old(self) -> None:
        for key in [key for key, session in list(self._sessions.items()) if self._is_over(session)]:
            self._sessions.pop(key, None)
        while len(self._sessions) >= _MOST_SESSIONS:
            oldest, _ = min(list(self._sessions.items()), key=lambda one: one[1].used)
            self._sessions.pop(oldest, None)

    @staticmethod
    def _is_over(session: Session) -> bool:
        now = _now()
        return now - session.used > IDLE_SECONDS or now - session.began > LONGEST_SECONDS


COOKIE = "gateway_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Where the browser speaks TLS: the prefix lets no other host or path set it."""


def is_program(asked: Asked) -> bool:
    """Whether it brings a token of its own with each request, as no browser does."""
    return bool(_bearer(asked.headers.get("authorization", "")))


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _plain(name: str) -> str:
    """A name as one short printable line."""
    return "".join(sign for sign in name if sign.isprintable()).strip()[:LONGEST_NAME]


_OF_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""What says that somebody else asks, through a proxy of this machine."""


def _somebody_here(asked: Asked) -> Visitor:
    if is_straight_from_here(asked):
        return Visitor(f"{this_user()} at this machine", _EVERY_ROLE)
    raise Refused(
        "the window opens only on the gateway's own machine",
        status=403,
        remedy="set GATEWAY_OPS_OPERATOR_TOKEN (and VIEWER, AUDITOR), or GATEWAY_OPS_IDENTITY_HEADER behind a proxy",
    )


def is_straight_from_here(asked: Asked) -> bool:
    """Whether it comes from this machine, by its own name, and not through a proxy on it.

    Behind a proxy anybody may stand; and a page of another site that leads here (DNS rebinding) names that site.
    """
    is_proxied = any(name in asked.headers for name in _OF_PROXIES)
    return is_loopback(asked.address) and not is_proxied and _names_this_machine(asked.headers.get("host", ""))


def _names_this_machine(authority: str) -> bool:
    try:
        host = urlsplit(f"//{authority}").hostname or ""
    except ValueError:  # a bracket without its other
        return False
    return host == "localhost" or is_loopback(host)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _same_origin(headers: Mapping[str, str]) -> bool:
    """What the browser itself says of where an act comes from; one that says nothing is old, and has the secret."""
    site = headers.get("sec-fetch-site", "")
    if site:  # the browser's own word; a proxy that rewrites Host does not touch it
        return site in ("same-origin", "none")
    origin = headers.get("origin", "")
    return not origin or urlsplit(origin).netloc == headers.get("host", "")
