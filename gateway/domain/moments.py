"""Moments as people write them, on the site's wall clock or with an offset."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from gateway.errors import InvalidValue

_EARLIEST = 1900
"""Before standard time a zone's wall clock is off by odd seconds, and no record of ours is that old."""

_WRITTEN = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?) ?(?P<offset>Z|[+-]\d{2}:?\d{2})?)?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant in UTC, and what had to be decided to know it ("" when nothing had)."""

    instant: datetime
    decided: str = ""

    @property
    def text(self) -> str:
        """As the log writes its own instants: the two compare as texts."""
        return self.instant.isoformat(timespec="microseconds")


def moment_of(written: str, zone: ZoneInfo, *, field: str = "moment", first_run: bool = False) -> Moment:
    """The moment of `2026-11-23 10:42`, with seconds and their fractions, `Z` or an offset (`+01:00`) if wanted.

    Without an offset it is the site's wall clock. An hour that was repeated (October) is its second run, or with
    `first_run` its first: whichever leaves out nothing that the clock may have meant, so the first where a span begins.
    One that was skipped (March) is read as if the clocks had not been put forward. Both are said in `decided`. A date
    alone is the beginning of that day. Raises `InvalidValue`, also of a moment before 1900.
    """
    match = _WRITTEN.fullmatch(written.strip())
    if match is None:
        raise InvalidValue(
            f"{field}: must be like 2026-11-23, 2026-11-23 10:42, 2026-11-23 10:42:05.250 or 2026-11-23T10:42Z",
            field=field,
        )
    offset = (match["offset"] or "").replace("Z", "+00:00")
    try:
        clock = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}{offset}")
        moment = Moment(clock.astimezone(UTC)) if offset else _on_the_wall(clock, zone, first_run=first_run)
    except (ValueError, OverflowError):
        raise InvalidValue(f"{field}: there is no such date or time", field=field) from None
    if moment.instant.year < _EARLIEST:
        raise InvalidValue(f"{field}: moments before {_EARLIEST} are not known", field=field)
    return moment


def _on_the_wall(clock: datetime, zone: ZoneInfo, *, first_run: bool) -> Moment:
    first, second = (clock.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    earlier, later = first.astimezone(UTC), second.astimezone(UTC)
    if first.utcoffset() == second.utcoffset():
        return Moment(earlier)
    if earlier < later:
        runs = [("first", earlier), ("second", later)]
        (taken, instant), (other, another) = runs if first_run else reversed(runs)
        told = f"{clock:%H:%M} came twice that day; taken is the {taken}, {instant.astimezone(zone).isoformat(' ')}"
        return Moment(instant, f"{told}; the {other} is {another.astimezone(zone).isoformat(' ')}")
    return Moment(earlier, f"{clock:%H:%M} was skipped that day; taken is {earlier.astimezone(zone).isoformat(' ')}")
