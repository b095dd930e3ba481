"""The service's own backup, once a day at a settled site time, and what health says of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as wall_clock
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from gateway.errors import GatewayError, StoreUnusable
from gateway.eventstore.backup import Checked, Listed, Pace, listed, newest_sound, origin, prune, take, taken_until
from gateway.log import get_logger

_RETRY_SECONDS = 600.0
_TOO_OLD = timedelta(hours=26)
_REST = 0.02
"""Seconds of rest after each MB copied: saves and queries go before."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan:
    """When and where to, and how long they are kept."""

    database: Path
    folder: Path
    kept_days: int
    at: wall_clock
    zone: ZoneInfo


class DailyBackup:
    """Takes a backup when one is due; at start one that is overdue. Those of other databases don't count."""

    def __init__(self, plan: BackupPlan, *, retry_seconds: float = _RETRY_SECONDS) -> None:
        self.plan = plan
        self._retry_seconds = retry_seconds
        self._failure: str | None = None
        self._stopping = threading.Event()

    async def run(self) -> None:
        """Until cancelled; a backup under way is then given up."""
        try:
            while True:
                now = datetime.now(self.plan.zone)
                if not any(backup.taken_at >= self._last_due(now) for backup in taken_until(self._listed(), now)):
                    await self._take()
                wait = self._retry_seconds if self._failure else 60.0  # in short naps: clocks are set, machines sleep
                await asyncio.sleep(wait)
        finally:
            self._stopping.set()

    def check(self) -> dict[str, Any]:
        """For health. Never a failure: the service serves without a backup; a warning tells of it."""
        backups = self._listed()
        past = taken_until(backups, datetime.now(UTC))
        newest = newest_sound(past)
        told = [self._doubt(past, newest)]
        if len(past) < len(backups):
            told.append(
                f"{backups[-1].file.name} is stamped later than now and does not count: "
                "compare this machine's clock, and remove the file when the clock is right"
            )
        warning = "; ".join(filter(None, told))
        found: dict[str, Any] = {"ok": True, "last": newest.taken_at.isoformat() if newest else None}
        return found | ({"warning": warning} if warning else {})

    def _doubt(self, backups: Sequence[Listed], newest: Listed | None) -> str:
        if self._failure:
            return f"the last backup failed: {self._failure}"
        if newest is None:
            return "there is no backup yet"
        if backups[-1].taken_at > newest.taken_at:
            return "the last backup is not sound: gateway backup verify says why"
        age = datetime.now(UTC) - newest.taken_at
        return f"the last backup is {age.total_seconds() / 3600:.0f} h old" if age > _TOO_OLD else ""

    async def _take(self) -> None:
        began = time.monotonic()
        try:
            taken, pruned = await asyncio.to_thread(self._take_and_prune)
        except GatewayError as error:
            self._failure = str(error)
            log.error("backup_failed", code=error.code, error=str(error), retry_in_seconds=self._retry_seconds)
            return
        except Exception as error:
            self._failure = f"unexpected {type(error).__name__}: look at the log"
            log.exception("backup_failed", retry_in_seconds=self._retry_seconds)
            return
        self._failure = taken.finding or None
        told = {
            "file": str(taken.file),
            "position": taken.position,
            "head": taken.head.hex(),
            "bytes": taken.size,
            "pruned": [file.name for file in pruned],
            "seconds": round(time.monotonic() - began, 1),
        }
        if taken.finding:
            log.error("backup_unsound", **told, finding=taken.finding, remedy="gateway events verify")
        else:
            log.info("backup_taken", **told)

    def _take_and_prune(self) -> tuple[Checked, list[Path]]:
        plan = self.plan
        taken = take(plan.database, plan.folder, pace=Pace(rest=_REST, stopping=self._stopping.is_set))
        return taken, prune(plan.folder, plan.database.stem, taken.origin, kept_days=plan.kept_days)

    def _listed(self) -> list[Listed]:
        """Those of this log; none where it can't be known: the next attempt to take one says why."""
        try:
            return listed(self.plan.folder, self.plan.database.stem, origin(self.plan.database))
        except (OSError, StoreUnusable):
            return []

    def _last_due(self, now: datetime) -> datetime:
        due = datetime.combine(now.date(), self.plan.at, self.plan.zone)
        return due if now >= due else due - timedelta(days=1)
