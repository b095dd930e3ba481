"""How often each modality asks, from the record of queries, and whether its silence is longer than that explains.

Consoles poll: once a minute, every five, or when somebody presses a key. Nobody has to say which: the usual interval is
the median of the intervals of the last days. A pause of hours, at night say, is none of them. A silence counts in the
clinic's hours only, which are those of the day's list.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

from gateway.application import Gateway
from gateway.dicom.record import Asked, RefusedAssociation, asked_since, has_record, refused_associations
from gateway.domain.lifecycle import Status
from projections.worklist import WorklistFilter, WorklistRow

LOOKED_BACK = timedelta(days=14)
_LONGEST_INTERVAL = 4 * 3600.0
"""Seconds; a longer pause is a night or a day off."""
_FEWEST_INTERVALS = 5
"""From fewer nobody can tell a rhythm."""
_TOO_MANY_TIMES = 5
"""So many times its usual interval a unit may be silent."""
_SHORTEST_SILENCE = 300.0
"""Seconds; a shorter one is never told of: a console may be restarting."""
_REFUSALS_TOLD = timedelta(hours=24)
_MOST_REFUSALS = 1000
_MARGIN = timedelta(minutes=30)
"""Before the first and after the last appointment of the day."""

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often one AE title asks. `last_seen` None: it was only ever refused. Seconds.

    `usual_seconds` is None when it has asked too seldom to tell. `refused` counts refusals within the last day and
    after it was seen last; `refusal` is why the latest of them was.
    """

    ae_title: str
    address: str
    last_seen: datetime | None
    usual_seconds: float | None
    silent_for: float | None
    refused: int = 0
    refusal: str = ""

    def overdue_for(self, now: datetime, clinic: Span | None) -> float:
        """Seconds of silence within the clinic's hours, when they are more than its rhythm explains; else 0."""
        if clinic is None or self.last_seen is None or self.usual_seconds is None or not clinic[0] <= now <= clinic[1]:
            return 0.0
        silence = (now - max(self.last_seen, clinic[0])).total_seconds()
        return silence if silence > max(_TOO_MANY_TIMES * self.usual_seconds, _SHORTEST_SILENCE) else 0.0


def rhythms(connection: sqlite3.Connection, now: datetime, *, leave_out: Collection[str] = ()) -> list[Rhythm]:
    """The rhythm of each AE title that asked, or was refused, within the last fortnight, by its name.

    `leave_out` are titles that are no modalities: test callers.
    """
    if not has_record(connection):
        return []
    asked = {
        title: list(rows)
        for title, rows in groupby(
            asked_since(connection, (now - LOOKED_BACK).isoformat()), lambda row: row.calling_ae_title
        )
    }
    refusals = refused_associations(connection, since=_as_kept(now - _REFUSALS_TOLD), limit=_MOST_REFUSALS)
    titles = asked.keys() | {refusal.calling_ae_title for refusal in refusals if refusal.calling_ae_title}
    return [
        _rhythm(title, asked.get(title, []), [one for one in refusals if one.calling_ae_title == title], now)
        for title in sorted(titles - set(leave_out))
    ]


def clinic_hours(gateway: Gateway, zone: ZoneInfo, now: datetime) -> Span | None:
    """From half an hour before the first to half an hour after the last appointment of the day; None without any."""
    local = now.astimezone(zone)
    starts = sorted(_starts(clinic_of(gateway, local.strftime("%Y%m%d")), zone))
    return (starts[0] - _MARGIN, starts[-1] + _MARGIN) if starts else None


def clinic_of(gateway: Gateway, day: str) -> list[WorklistRow]:
    """The appointments of a day (`YYYYMMDD`) that were not called off, test items left out."""
    rows = gateway.find_items(WorklistFilter(dates=(day, day), is_test=False))
    return [row for row in rows if row.status not in (Status.CANCELLED, Status.EXPIRED)]


def usual_interval(asked: Sequence[Asked]) -> float | None:
    """The median of a caller's intervals in seconds; None when there are too few to tell."""
    weighed = sorted((seconds, times) for seconds, times in _intervals(asked) if 0 < seconds <= _LONGEST_INTERVAL)
    total = sum(times for _, times in weighed)
    if total < _FEWEST_INTERVALS:
        return None
    passed = 0
    for seconds, times in weighed:
        passed += times
        if 2 * passed >= total:
            return seconds
    raise AssertionError("unreachable: the last one passes the middle")


def _intervals(asked: Sequence[Asked]) -> Iterator[tuple[float, int]]:
    """(seconds, how often): within the rows, which stand for equal queries, and between one and the next."""
    for row in asked:
        if row.times > 1:
            yield _seconds(row.at, row.last_at) / (row.times - 1), row.times - 1
    for before, after in pairwise(asked):
        yield _seconds(before.last_at, after.at), 1


def _rhythm(ae_title: str, asked: list[Asked], refusals: list[RefusedAssociation], now: datetime) -> Rhythm:
    latest = max(asked, key=lambda row: row.last_at, default=None)
    last_seen = datetime.fromisoformat(latest.last_at) if latest else None
    later = [one for one in refusals if latest is None or one.last_at > latest.last_at]  # the newest first
    return Rhythm(
        ae_title=ae_title,
        address=latest.address if latest else later[0].address,
        last_seen=last_seen,
        usual_seconds=usual_interval(asked),
        silent_for=max(0.0, (now - last_seen).total_seconds()) if last_seen else None,
        refused=sum(one.times for one in later),
        refusal=later[0].reason if later else "",
    )


def _starts(rows: Iterable[WorklistRow], zone: ZoneInfo) -> Iterator[datetime]:
    for row in rows:
        if row.scheduled_date and row.scheduled_time:
            digits = (row.scheduled_date + row.scheduled_time[:6]).ljust(14, "0")
            yield datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=zone)


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _as_kept(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
