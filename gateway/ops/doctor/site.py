"""What the checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.application import Gateway
from gateway.rehearsal.modality import Modality
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Site:
    """The service's settings, its database, and an emulated modality that calls as a test caller at its port."""

    settings: Settings
    gateway: Gateway
    unit: Modality

    @property
    def today(self) -> str:
        """The site's date, `YYYYMMDD`."""
        return datetime.now(self.settings.zone).strftime("%Y%m%d")


def now() -> datetime:
    """This instant."""
    return datetime.now(UTC)
