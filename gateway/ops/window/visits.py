"""One request of one visitor: who it is, their session, what is shown to them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from gateway.audit import activities
from gateway.errors import InvalidValue
from gateway.ops.access import (
    COOKIE,
    LONGEST_SECONDS,
    SECURE_COOKIE,
    Access,
    Asked,
    Refused,
    Session,
    Visitor,
    is_program,
)
from gateway.ops.window.sources import Sources

REVEALED_SECONDS = 300.0
LONGEST_REASON = 200
_LONGEST_FORM = 16 * 1024


@dataclass(slots=True)
class Visit:
    """A request that was let in.

    `cookie` is to be set when the session is new; without `is_lasting` the session ends with the request.
    """

    visitor: Visitor
    session: Session
    cookie: str | None
    is_https: bool
    is_lasting: bool = True

    def shows(self, subject: str, number: str) -> bool:
        """Whether this browser was given this name of the subject: what came later was not looked at yet."""
        return self.visitor.may_reveal and self.session.reveals(subject, number)

    def reveals(self, subject: str) -> bool:
        """Whether this browser was given the names of this subject, a few minutes ago at most."""
        return self.visitor.may_reveal and self.session.seconds_revealed(subject) > 0

    def seconds_revealed(self, subject: str) -> int:
        """For how many seconds yet the names of this subject are shown to this browser; 0: they are masked."""
        return math.ceil(self.session.seconds_revealed(subject)) if self.visitor.may_reveal else 0

    def take_notices(self) -> list[str]:
        """What is to be said once."""
        told, self.session.notices = self.session.notices, []
        return told

    def dress(self, response: Response) -> None:
        """Give the browser its cookie, and let it come by TLS only if it came so."""
        if self.is_https:
            response.headers["strict-transport-security"] = "max-age=31536000"
        if self.cookie:
            response.set_cookie(
                SECURE_COOKIE if self.is_https else COOKIE,
                self.cookie,
                max_age=int(LONGEST_SECONDS),
                path="/",
                secure=self.is_https,
                httponly=True,
                samesite="strict",
            )


def asked(request: Request) -> Asked:
    """What access has to know."""
    address = request.client.host if request.client else ""
    return Asked(address, {name.lower(): value for name, value in request.headers.items()}, request.cookies)


def visit(access: Access, request: Request) -> Visit:
    """Let in whoever may look. Raises `Refused`."""
    told = asked(request)
    visitor, session, cookie = access.visitor(told), access.session(told), None
    is_lasting = True
    if session is None or session.visitor.name != visitor.name:
        if is_program(told) or request.url.path.endswith((".json", ".csv")):
            session, is_lasting = Session(visitor), False  # lives as long as the request
        else:
            cookie, session = access.begin(visitor)
    session.visitor = visitor
    return Visit(visitor, session, cookie, access.is_https(told), is_lasting)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises `InvalidValue` for one that is too large or none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise InvalidValue("form: too large")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        raise InvalidValue("form: must be application/x-www-form-urlencoded in UTF-8") from None


def reason_of(form: dict[str, str]) -> str:
    """Why somebody does what they do. Raises `InvalidValue`."""
    reason = form.get("reason", "").strip()
    if not reason:
        raise InvalidValue("say why: it is kept for ever, with your name", field="reason")
    if len(reason) > LONGEST_REASON:
        raise InvalidValue(f"at most {LONGEST_REASON} characters, and these are {len(reason)}", field="reason")
    if not reason.isprintable():
        raise InvalidValue("one line, without signs that can't be seen: type it anew", field="reason")
    return reason


def reveal(
    sources: Sources, given: Visit, subject: str, numbers: Sequence[str], names: Sequence[str], reason: str
) -> None:
    """Show names to this browser for a few minutes, once that is kept in the record of looks.

    The reason stands in that record, which names nobody: one that holds a name is refused. Raises `Refused`,
    `InvalidValue`, `Contention`, `OutcomeUnknown`.
    """
    if not given.visitor.may_reveal:
        raise Refused("names are shown to operators and auditors only", status=403, remedy="sign in with another token")
    if not given.is_lasting:  # else a look would be kept that nobody has had
        raise Refused("names are shown to browsers only", status=403, remedy="open the window, and sign in there")
    if not numbers:
        raise InvalidValue("there is nobody here whose name could be shown")
    held = {word for name in names for word in _words(name) | _days(name)}
    if held.intersection(_words(reason)):
        raise InvalidValue("say why without naming the participant: reasons are kept for ever", field="reason")
    activities.looked(sources.gateway, given.visitor.name, f"window {subject}", numbers, reason=reason)
    given.session.reveal(subject, numbers, REVEALED_SECONDS)


_SHORTEST_WORD = 3


def _days(text: str) -> set[str]:
    """A date (DICOM DA) as it is written in this country, without what stands between."""
    return {f"{text[6:8]}{text[4:6]}{text[:4]}"} if re.fullmatch(r"\d{8}", text) else set()


def _words(text: str) -> set[str]:
    """What is compared: words without accents and case, and numbers without the blanks that people put into them."""
    decomposed = unicodedata.normalize("NFKD", text)
    plain = "".join(sign for sign in decomposed if not unicodedata.combining(sign)).casefold()
    joined = re.sub(r"(?<=\d)[\W_]+(?=\d)", "", plain)
    return {word for word in re.findall(r"\w+", f"{plain} {joined}") if len(word) >= _SHORTEST_WORD}


def require_operator(given: Visit) -> None:
    """Raises `Refused`."""
    if not given.visitor.may_act:
        raise Refused("only operators may do this", status=403, remedy="sign in with the operator's token")
