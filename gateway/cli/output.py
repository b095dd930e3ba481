"""What verbs share: the settings, the database, tables, JSON, masking."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.domain import masking
from gateway.errors import InvalidValue, StoreUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.application import Gateway
    from gateway.settings import Settings

HIDDEN = masking.HIDDEN
masked_name, masked_id, masked_key = masking.masked_name, masking.masked_id, masking.masked_key

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Show names and ids of persons in full.")]

_NOT_PRINTABLE = "\ufffd"


def settings() -> Settings:
    """The settings in force, logging at warnings on stderr."""
    from gateway import log
    from gateway.settings import load

    loaded = load()
    log.configure(loaded.gateway_log_format)
    return loaded


@contextmanager
def database(*, create: bool = False) -> Iterator[Gateway]:
    """The application over the configured database; a look into one that is not there creates none."""
    from gateway.application import is_missing, make_folder, opened

    loaded = settings()
    path = loaded.worklist_db_path
    if create and is_missing(path):
        make_folder(path)
    elif not create:
        existing(path)
    with opened(
        path,
        report_wrong_entry=loaded.gateway_report_wrong_entry,
        sealing=loaded.gateway_sealing,
        keys_path=loaded.gateway_keys_path,
    ) as gateway:
        yield gateway


def existing(path: Path) -> Path:
    """The path of a database that is there. Raises `StoreUnusable`."""
    from gateway.application import is_missing

    if is_missing(path):
        raise StoreUnusable(
            f"there is no database at {path}", remedy="gateway serve creates it; or set WORKLIST_DB_PATH"
        )
    return path


def say(text: str = "") -> None:
    """Talk, on stderr."""
    sys.stderr.write(text + "\n")


def put(text: str = "") -> None:
    """Data, on stdout."""
    sys.stdout.write(text + "\n")


def put_json(value: Any) -> None:  # noqa: ANN401  any JSON value
    """JSON, on stdout."""
    put(json.dumps(value, indent=2, ensure_ascii=False))


def put_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be, on stdout."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(heading), *(len(row[i]) for row in texts)]) for i, heading in enumerate(headings)]
    for line in [[heading.upper() for heading in headings], *texts]:
        put("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    """As one line: what others wrote, a reason say, can't steer the terminal."""
    return printable("–" if value is None or value == "" else str(value))


def printable(text: str) -> str:
    """A text that others wrote, without what steers a terminal."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _NOT_PRINTABLE for sign in text)


def day(text: str, *, zone: Any = None) -> str:  # noqa: ANN401  a time zone or None
    """A date as `YYYYMMDD`, from `YYYYMMDD`, `YYYY-MM-DD` or `today` (the site's)."""
    from gateway.domain.values import date_of

    if text.strip().lower() == "today":
        return datetime.now(zone or settings().zone).strftime("%Y%m%d")
    return date_of(text.strip().replace("-", ""), "date")


def site_clock(instant: str | None, *, zone: Any) -> str:  # noqa: ANN401  a time zone
    """An instant of the log on the site's wall clock, to the millisecond."""
    if not instant:
        return ""
    return datetime.fromisoformat(instant).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def moment(written: str, field: str, *, first_run: bool = False) -> str:
    """A moment that a person wrote, as the log writes its instants; "" for none. What had to be decided is said.

    With `first_run` an hour that came twice is its first run: where a span begins.
    """
    from gateway.domain.moments import moment_of

    if not written:
        return ""
    found = moment_of(written, settings().zone, field=field, first_run=first_run)
    if found.decided:
        say(found.decided)
    return found.text


def user() -> str:
    """Who runs this command, as the operating system knows them."""
    from gateway.audit.activities import this_user

    return this_user()


def revealed(gateway: Gateway, verb: str, subjects: Sequence[str], **details: str) -> None:
    """Keep that this user is about to see names and ids of persons in full; they are not shown when it can't be kept.

    `subjects` are the accession numbers, or the UIDs of steps and studies, that are shown; `as_of` among the details is
    the moment that is shown of them, when it is not now. Raises `GatewayError`.
    """
    from gateway.audit import activities

    activities.looked(gateway, user(), verb, subjects, **details)


def require_text(value: str, field: str) -> str:
    """A text that says something."""
    if not value.strip():
        raise InvalidValue(f"{field}: must not be empty", field=field)
    return value.strip()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A line on stderr while something long runs: how far, how fast, how long yet; only where a person is watching."""
    watching = sys.stderr.isatty()
    began = time.monotonic()

    def advance(done: int, total: int | None) -> None:
        if watching:
            sys.stderr.write(f"\r{what}: {_how_far(done, total, time.monotonic() - began)}\033[K")
            sys.stderr.flush()

    try:
        yield advance
    finally:
        if watching:
            sys.stderr.write("\r\033[K")


_BAR = 20


def _how_far(done: int, total: int | None, seconds: float) -> str:
    """`25,000 of 100,000 events [#####···············] 25%, 50,000/s, 2 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"{done:,} events, {rate:,.0f}/s"
    share = min(1.0, done / total)
    bar = "#" * round(share * _BAR)
    left = f", {_duration((total - done) / rate)} left" if rate else ""
    return f"{done:,} of {total:,} events [{bar.ljust(_BAR, '·')}] {share:.0%}, {rate:,.0f}/s{left}"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < _MINUTE else f"{whole // _MINUTE} min {whole % _MINUTE} s"


_MINUTE = 60


def put_now(text: str) -> None:
    """Data, on stdout, at once: somebody is watching."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
