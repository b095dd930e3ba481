"""What the pages look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from gateway.application import Gateway
from gateway.dicom.explain import Site
from gateway.ops.doctor.checklist import Checklist
from gateway.ops.health import Health


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The parts of a running gateway that are shown. All are asked off the event loop."""

    gateway: Gateway
    site: Site
    zone: ZoneInfo
    health: Health
    relay: Callable[[], dict[str, Any]] = lambda: {"state": "not configured"}
    """The listener's state in plain JSON values."""
    delivery: Callable[[], dict[str, Any]] = lambda: {"state": "not configured"}
    """The courier's state in plain JSON values."""
    checklist: Checklist = field(default_factory=lambda: Checklist(list))
    """The doctor's list, asked of ourselves."""
    unfinished_after: timedelta = timedelta(hours=2)
    """How long a performed step may be in progress until it is told of."""

    def clock(self, instant: str | None, form: str = "%H:%M:%S") -> str:
        """An instant of the record on the site's wall clock; "" for none."""
        if not instant:
            return ""
        return datetime.fromisoformat(instant).astimezone(self.zone).strftime(form)

    def now(self) -> datetime:
        """The site's wall clock."""
        return datetime.now(self.zone)

    def start_of(self, day: str) -> str:
        """The instant at which a day (`YYYYMMDD`) begins at the site, as the record writes its own."""
        begins = datetime.strptime(day, "%Y%m%d").replace(tzinfo=self.zone)
        return begins.astimezone(UTC).isoformat(timespec="microseconds")
