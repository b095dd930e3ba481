"""What the web app's dates and times mean on the site's wall clock (design §3.13)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from gateway.errors import InvalidValue

_FORMAT = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True)
class SiteClock:
    """The site's time zone, and whether the web app's `date` and `time` are UTC."""

    zone: ZoneInfo
    scheduled_times_are_utc: bool = False

    def wall_clock(self, date: str, time: str) -> tuple[str, str]:
        """The site's date and time for what a message says."""
        if not self.scheduled_times_are_utc:
            return date, time
        return self.at(datetime.strptime(date + time, _FORMAT).replace(tzinfo=UTC))

    def at(self, instant: datetime) -> tuple[str, str]:
        """The site's date and time at an instant."""
        return _read_off(instant, self.zone)

    def as_sent(self, date: str, time: str) -> tuple[str, str]:
        """The other way round: what a message would say for the site's date and time."""
        if not self.scheduled_times_are_utc:
            return date, time
        return _read_off(datetime.strptime(date + time, _FORMAT).replace(tzinfo=self.zone), UTC)


def _read_off(instant: datetime, zone: tzinfo) -> tuple[str, str]:
    """Date and time at an instant; strftime's own year has fewer than four digits before 1000."""
    try:
        clock = instant.astimezone(zone)
    except OverflowError:
        raise InvalidValue("scheduled_date: is out of reach in the site's time zone", field="scheduled_date") from None
    return f"{clock.year:04d}{clock:%m%d}", f"{clock:%H%M%S}"
