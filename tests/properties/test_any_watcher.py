"""For any history: who watches today's list and takes in what is sent has what who loads the page anew has."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from gateway.dicom.explain import Site
from gateway.ops.health import Health
from gateway.ops.window.clinic import Chosen, Item, items_of
from gateway.ops.window.live import Live
from gateway.ops.window.sources import Sources
from tests.properties.test_any_history import AnyHistory

LONDON = ZoneInfo("Europe/London")


class ThatDay(Site):
    """A site on whose clock it is the day of most appointments."""

    def today(self) -> str:
        return "20261123"


class AnyWatcher(AnyHistory):
    """Somebody to whom changes are sent one by one, or many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.watching: list[str] = []
        self.due = 0
        self.watched: Any = None
        self.live: Live | None = None

    def sources(self) -> Sources:
        return Sources(gateway=self.gateway, site=ThatDay(zone=LONDON), zone=LONDON, health=Health({}))

    def fresh(self) -> list[Item]:
        return items_of(self.sources(), Chosen("20261123", None))

    @rule(after=st.integers(1, 6))
    def much_happens_at_once(self, after: int) -> None:
        self.due = after

    @invariant()
    def a_watcher_has_the_list(self) -> None:
        self.due -= 1
        if self.due > 0:
            return
        if self.live is None or self.watched is not self.gateway:  # the gateway was opened anew
            self.live, self.watched = Live(self.sources(), repr, str), self.gateway
        for change in self.live.changes():
            apply(self.watching, change, self.fresh())
        assert self.watching == [repr(item) for item in self.fresh()]
        assert [line.item for line in self.live.present()[1]] == self.fresh()


def apply(rows: list[str], change: dict[str, Any], fresh: list[Item]) -> None:
    """What `window.js` does with a change."""
    if change.get("reload"):
        rows[:] = [repr(item) for item in fresh]
        return
    rows[:] = [row for row in rows if f"accession_number='{change['accession_number']}'" not in row]
    if change["html"] is not None:
        places = [row for row in rows if f"accession_number='{change['before']}'" in row]
        rows.insert(rows.index(places[0]) if places else len(rows), change["html"])


AnyWatcher.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAnyWatcher = pytest.mark.slow(AnyWatcher.TestCase)
