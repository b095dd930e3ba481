"""The window's web application: routes to pages, what is common to all answers, errors as pages.

A page is a function of a visit and a request that returns its data, and a template of that data. With `.json` behind
its path the data itself is answered.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.errors import (
    Contention,
    GatewayError,
    IllegalTransition,
    InvalidValue,
    NotFound,
    OtherPatient,
    Refusal,
)
from gateway.log import get_logger
from gateway.ops.access import COOKIE, SECURE_COOKIE, Access, Refused, Session
from gateway.ops.window import (
    checklist,
    clinic,
    docs,
    events,
    health,
    images,
    modalities,
    outbox,
    relay,
    rendering,
    step,
    unmatched,
)
from gateway.ops.window.live import Live, Strip
from gateway.ops.window.pace import Pace
from gateway.ops.window.page import Act, Page, Table
from gateway.ops.window.sources import Sources
from gateway.ops.window.spreadsheet import csv_of
from gateway.ops.window.visits import Visit, asked, form_of, reason_of, reveal, visit
from projections.outbox import OutboxCounts

_TROUBLES_SECONDS = 5.0
"""So long what health said stands on every page; asking it anew for each change would be most of the work."""

STATIC = Path(__file__).parent / "static"
_EVENTS = "text/event-stream"
_READING = ("GET", "HEAD")
"""HEAD is GET without a body (RFC 9110 9.3.2)."""


class _WrongMethod(Refusal):
    """The page is there, and can't be asked like this."""

    code = "wrong_method"


_STATUS: tuple[tuple[type[GatewayError], int], ...] = (
    (NotFound, 404),
    (_WrongMethod, 405),
    (InvalidValue, 400),
    (IllegalTransition, 409),
    (OtherPatient, 409),
    (Contention, 503),
)

log = get_logger(__name__)

_MODULES = (step, modalities, relay, outbox, unmatched, images, events, health, checklist, docs)

PAGES: tuple[Page, ...] = tuple(page for module in _MODULES for page in module.PAGES)
"""The pages besides the clinic."""

ACTS: dict[str, Act] = {path: act for module in _MODULES for path, act in getattr(module, "ACTS", {}).items()}
"""What is done by a form, by its path."""


def _nothing(*_: object) -> None:
    """An error page looks at nothing: it is told what failed."""


_ERROR = Page("", "error.html", "That did not work", _nothing)


class Window:
    """The pages over these sources, for those whom `access` lets in."""

    def __init__(self, sources: Sources, access: Access) -> None:
        """Compile the templates that are rendered without being asked."""
        self.sources = sources
        self.access = access
        self._pace = Pace()
        self._templates = rendering.environment(sources)
        self._row = rendering.renderer(self._templates, "clinic_row.html", "item")
        strip = rendering.renderer(self._templates, "strip.html", "strip")
        self.live = Live(sources, self._row, lambda: strip(self._strip()))
        self._render_strip = strip
        self._known_troubles: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._troubles_until = 0.0

    async def run(self) -> None:
        """Tell those who watch what changes, until cancelled."""
        self.sources.gateway.on_commit(self.live.wake)
        await self.live.run()

    def application(self) -> Starlette:
        """The ASGI application."""
        routes: list[BaseRoute] = [
            Route("/", self._home),
            Route("/clinic/live", self._watch),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/clinic/item", self._clinic_item),
            Mount("/static", StaticFiles(directory=STATIC)),
            *(Route(f"/docs/{{name:path}}{suffix}", self._picture) for suffix in docs.PICTURES),
        ]
        acts = {"/clinic/reveal": _reveal_clinic, "/hide": _hide, **ACTS}
        routes += [Route(path, self._act(act), methods=["POST"]) for path, act in acts.items()]
        for page in (Page("/clinic", "clinic.html", "Clinic", self._clinic, _clinic_table), *PAGES):
            routes += [Route(f"{page.path}.json", self._json(page)), Route(page.path, self._html(page))]
            routes += [Route(f"{page.path}.csv", self._csv(page.table, page))] if page.table else []
        web = Starlette(
            routes=routes,
            exception_handlers={
                GatewayError: self._failed,
                404: self._not_found,
                405: self._wrong_method,
                Exception: self._broken,
            },
        )
        web.router.redirect_slashes = False  # a redirect would repeat whatever host the asker named
        return web

    # --- how a page is answered

    def _html(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._pace.make(self._page, page, request)

        return answer

    def _page(self, page: Page, request: Request) -> Response:
        given = visit(self.access, request)
        shown = page.look(self.sources, given, request)
        return self._rendered(given, request, page, shown, getattr(shown, "http_status", 200))

    def _json(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        def answered(request: Request) -> Response:
            return _as_json(page.look(self.sources, visit(self.access, request), request))

        async def answer(request: Request) -> Response:
            return await self._pace.make(answered, request)

        return answer

    def _csv(self, table: Table, page: Page) -> Callable[[Request], Awaitable[Response]]:
        name = f"{page.path.strip('/')}.csv"

        def answered(request: Request) -> Response:
            text = csv_of(table(page.look(self.sources, visit(self.access, request), request)))
            as_file = {"content-disposition": f'attachment; filename="{name}"'}
            return Response(text, media_type="text/csv", headers=as_file)

        async def answer(request: Request) -> Response:
            return await self._pace.make(answered, request)

        return answer

    def _rendered(self, given: Visit, request: Request, page: Page, shown: object, status: int = 200) -> Response:
        path, query = _path(request), f"?{request.url.query}" if request.url.query else ""
        text = self._templates.get_template(page.template).render(
            page=shown,
            title=page.title,
            visitor=given.visitor,
            secret=given.session.secret,
            signs_out=self.access.takes_tokens,
            notices=given.take_notices(),
            path=path,
            query=request.url.query,
            json_path=f"{path}.json{query}" if page.path else "",  # an error has none
            csv_path=f"{path}.csv{query}" if page.table else "",
            strip=self._render_strip(self._strip()),
            row=self._row,
        )
        response = Response(text, status, media_type="text/html")
        revealed = getattr(shown, "seconds_revealed", 0)
        if revealed:  # names leave the screen, too
            response.headers["refresh"] = str(math.ceil(revealed))
        given.dress(response)
        return response

    def _act(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        """An act: our own form, a reason, then back to the page it was on."""

        async def answer(request: Request) -> Response:
            request.state.form = form = await form_of(request)
            return await run_in_threadpool(self._acted, act, request, form)

        return answer

    def _acted(self, act: Act, request: Request, form: dict[str, str]) -> Response:
        given = visit(self.access, request)
        self.access.require_own_form(asked(request), form.get("secret", ""))
        told = act(self.sources, given, form)
        if _wants_json(request):
            return JSONResponse({"done": told})
        given.session.notices += [told] if told else []
        return RedirectResponse(_own_path(form.get("back", "")), status_code=303)

    async def _picture(self, request: Request) -> Response:
        self.access.visitor(asked(request))
        return FileResponse(docs.picture(request.url.path))

    # --- errors

    async def _failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)  # noqa: S101  what it is registered for
        return await run_in_threadpool(self._error, request, error)

    def _error(self, request: Request, error: GatewayError) -> Response:
        status = error.status if isinstance(error, Refused) else _status_of(error)
        told = {"status": status, "code": error.code, "message": error.message, "remedy": error.remedy}
        told["field"] = getattr(error, "field", None)
        if _wants_json(request):
            return JSONResponse(told, status)
        if status == HTTPStatus.UNAUTHORIZED and self.access.takes_tokens and request.method in _READING:
            return RedirectResponse(f"/sign-in?next={quote(_with_query(request))}", status_code=303)
        return self._error_page(request, told, status)

    def _error_page(self, request: Request, told: dict[str, Any], status: int) -> Response:
        try:
            given = visit(self.access, request)
        except Refused:
            text = self._templates.get_template("refused.html").render(page=told, title="Not shown", path="")
            return Response(text, status, media_type="text/html")
        form: dict[str, str] = getattr(request.state, "form", {})
        back = {"back": _own_path(form.get("back", "")), "written": form.get("reason", "").strip()} if form else {}
        return self._rendered(given, request, _ERROR, told | back, status)

    async def _not_found(self, request: Request, _: Exception) -> Response:
        error = NotFound("there is no such page", remedy="the pages are named above; or /health")
        return await run_in_threadpool(self._error, request, error)

    async def _wrong_method(self, request: Request, _: Exception) -> Response:
        allowed = ", ".join(_methods_of(request))
        error = _WrongMethod(f"this page does not take {request.method}", remedy=f"it takes {allowed}")
        response = await run_in_threadpool(self._error, request, error)
        response.headers["allow"] = allowed  # RFC 9110 15.5.6
        return response

    async def _broken(self, request: Request, _: Exception) -> Response:
        """Starlette raises it again once this is answered: it is in the log with its traceback."""
        error = GatewayError(
            "something failed inside the gateway", remedy="look at its log, and tell who looks after it"
        )
        return await run_in_threadpool(self._error, request, error)

    # --- signing in

    async def _home(self, _: Request) -> Response:
        return RedirectResponse("/clinic", status_code=303)

    async def _sign_in(self, request: Request) -> Response:
        if request.method in _READING:
            return self._sign_in_page(_own_path(request.query_params.get("next", "")))
        form = await form_of(request)
        back = _own_path(form.get("next", ""))
        try:
            key, session = self.access.sign_in(form.get("token", "").strip(), form.get("name", ""))
        except Refused as error:
            log.warning("sign_in_refused", address=asked(request).address, code=error.code, status=error.status)
            return self._sign_in_page(back, error)
        self.access.end(asked(request))  # whoever was signed in here before
        response = RedirectResponse(back, status_code=303)
        Visit(session.visitor, session, key, self.access.is_https(asked(request))).dress(response)
        return response

    def _sign_in_page(self, back: str, error: Refused | None = None) -> Response:
        template = self._templates.get_template("sign_in.html")
        text = template.render(next=back, title="Sign in", error=error, path="")
        return Response(text, error.status if error else 200, media_type="text/html")

    async def _sign_out(self, request: Request) -> Response:
        form = await form_of(request)
        self.access.require_own_form(asked(request), form.get("secret", ""))
        self.access.end(asked(request))
        response = RedirectResponse("/sign-in" if self.access.takes_tokens else "/clinic", status_code=303)
        for cookie in (COOKIE, SECURE_COOKIE):
            response.delete_cookie(cookie, path="/", secure=cookie == SECURE_COOKIE, httponly=True, samesite="strict")
        return response

    # --- what stands on every page

    def _strip(self) -> Strip:
        gateway = self.sources.gateway
        relay = self.sources.relay()
        try:
            counts, unmatched = gateway.count_updates(), len(gateway.unmatched_steps())
        except GatewayError:  # the page, or its error, says what is wrong
            counts, unmatched = OutboxCounts(0, None, 0), 0
        proof = self.sources.clock(relay.get("last_proof"))
        state = f"{relay['state']}, proven {proof}" if proof else str(relay["state"])
        failures, warnings = self._troubles()
        return Strip(state, counts.waiting, counts.parked, unmatched, failures, warnings)

    def _troubles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the checks of health say, a few seconds old at most."""
        if time.monotonic() >= self._troubles_until:
            report = self.sources.health.report()
            told = report["checks"].items()
            failures = tuple(f"{name}: {check.get('error', 'not well')}" for name, check in told if not check["ok"])
            self._known_troubles = failures, tuple(report["warnings"])
            self._troubles_until = time.monotonic() + _TROUBLES_SECONDS
        return self._known_troubles

    # --- the clinic

    def _clinic(self, _: Sources, given: Visit, request: Request) -> _ClinicPage:
        asked_for = request.query_params
        chosen = clinic.choose(
            self.sources,
            day=asked_for.get("day", ""),
            at=asked_for.get("at", ""),
            minute=asked_for.get("minute", ""),
        )
        subject = _clinic_subject(chosen.day)
        reveals = given.reveals(subject)
        if chosen.standing is None and chosen.day == self.sources.site.today() and not reveals:
            version, lines = self.live.present()
            shown = clinic.clinic(self.sources, chosen, [line.item for line in lines])
            rows = "".join(line.html for line in lines)
        else:
            version, items = 0, clinic.items_of(self.sources, chosen, reveals=partial(given.shows, subject))
            shown, rows = clinic.clinic(self.sources, chosen, items), "".join(map(self._row, items))
        return _ClinicPage(shown, rows, version, given.seconds_revealed(subject))

    async def _clinic_item(self, request: Request) -> Response:
        return await self._pace.make(self._one_item, request)

    def _one_item(self, request: Request) -> Response:
        """One row of today's list, for a browser to which names are shown while the list changes."""
        given, day = visit(self.access, request), self.sources.site.today()
        items = clinic.items_of(
            self.sources, clinic.Chosen(day, None), reveals=partial(given.shows, _clinic_subject(day))
        )
        number = request.query_params.get("accession", "")
        for item in items:
            if item.accession_number == number:
                return Response(self._row(item), media_type="text/html")
        raise NotFound("it is not on today's list")

    async def _watch(self, request: Request) -> Response:
        self.access.visitor(asked(request))
        if request.method == "HEAD":
            return Response(media_type=_EVENTS)
        session = self.access.session(asked(request))
        return StreamingResponse(self._watched(session), media_type=_EVENTS, headers={"x-accel-buffering": "no"})

    async def _watched(self, session: Session | None) -> AsyncIterator[bytes]:
        """What changes, until the browser signs out or its session's time is over."""
        async with aclosing(self.live.watch()) as messages:
            async for message in messages:
                if session and not session.may_watch():
                    return
                yield message


@dataclass(frozen=True, slots=True)
class _ClinicPage:
    """The clinic, and its rows already rendered."""

    clinic: clinic.Clinic
    rows: str
    version: int
    seconds_revealed: int


def _clinic_table(page: _ClinicPage) -> list[tuple[object, ...]]:
    return clinic.table(page.clinic)


def _clinic_subject(day: str) -> str:
    return f"clinic {day}"


def _reveal_clinic(sources: Sources, given: Visit, form: dict[str, str]) -> str:
    chosen = clinic.choose(sources, day=form.get("day", ""), at=form.get("at", ""))
    items = clinic.items_of(sources, chosen, reveals=clinic.everybody)
    held = [value for item in items for value in (item.participant, item.patient_id)]
    numbers = [item.accession_number for item in items]
    reveal(sources, given, _clinic_subject(chosen.day), numbers, held, reason_of(form))
    return "Names are shown to you for five minutes. That, and your reason, is kept."


def _hide(_: Sources, given: Visit, __: dict[str, str]) -> str:
    given.session.hide()
    return "Names are masked again."


def _status_of(error: GatewayError) -> int:
    if type(error) is GatewayError:
        return 500
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 503)


def _methods_of(request: Request) -> list[str]:
    """What the path can be asked by, of all routes that have it: an act may lie where a page does."""
    bare = {"type": "http", "path": request.scope["path"], "method": request.method}
    found = [route for route in request.app.routes if route.matches(bare)[0] != Match.NONE]
    return sorted({method for route in found for method in getattr(route, "methods", _READING)})


def _wants_json(request: Request) -> bool:
    """A browser says that it takes HTML; who does not say so is a program."""
    return request.url.path.endswith(".json") or "text/html" not in request.headers.get("accept", "")


def _as_json(shown: object) -> Response:
    if isinstance(shown, _ClinicPage):
        shown = shown.clinic
    value = asdict(shown) if is_dataclass(shown) and not isinstance(shown, type) else shown
    return Response(json.dumps(value, indent=2, ensure_ascii=False), media_type="application/json")


def _path(request: Request) -> str:
    """As it was asked for: decoded, a slash of an accession number would be one of the address."""
    return str(request.scope["raw_path"].decode())


def _with_query(request: Request) -> str:
    return f"{_path(request)}?{request.url.query}" if request.url.query else _path(request)


def _own_path(path: str) -> str:
    """A path of ours to go back to: no other site's, whatever the form says."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/clinic"
