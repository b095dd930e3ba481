"""For any history: each event about an accession number is in its story exactly once, and the latencies sum up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from gateway.audit import story
from gateway.domain.performed_procedure_step import PerformedProcedureStep as Step
from gateway.errors import Refusal
from gateway.eventstore import replay
from tests.properties.test_any_history import AnyHistory as _AnyHistory
from tests.properties.test_any_history import accession_numbers, uids


class AnyStory(_AnyHistory):
    """Any history, steps linked by hand included; its stories are held against the log itself."""

    @rule(uid=uids, number=accession_numbers, despite=st.booleans())
    def an_operator_links(self, uid: str, number: str, despite: bool) -> None:
        try:
            self.gateway.link_step(uid, number, reason="by hand", operator="night shift", despite_other_patient=despite)
        except Refusal:
            return

    @rule()
    def the_stories_are_read(self) -> None:
        with self.gateway.reading() as connection:
            log = [(one.position, one.domain_event) for one in replay.read(connection, self.gateway.mapper)]
        for number in ("ACC001", "ACC002", "ACC003"):
            hops = story.of_accession(self.gateway, number)
            told = [hop.position for hop in hops if hop.position is not None]
            assert told == sorted(told) or _a_receipt_was_put_first(told, hops)
            assert sorted(told) == about(number, log)
            self._latencies_sum_up(hops)

    def _latencies_sum_up(self, hops: list[story.Hop]) -> None:
        if hops:
            whole = (datetime.fromisoformat(hops[-1].at) - datetime.fromisoformat(hops[0].at)).total_seconds()
            assert sum(hop.after_seconds or 0.0 for hop in hops) == pytest.approx(whole)
            assert hops[-1].since_first_seconds == whole

    def teardown(self) -> None:
        try:
            self.the_stories_are_read()
        finally:
            super().teardown()


def about(number: str, log: list[tuple[int, Any]]) -> list[int]:
    """The positions of the events about a number, by the events' own words."""
    linked = {
        event.sop_instance_uid for _, event in log if isinstance(event, Step.Linked) and number in event.concerned
    }
    return [
        position
        for position, event in log
        if getattr(event, "accession_number", None) == number
        or number in getattr(event, "concerned", ())
        or getattr(event, "sop_instance_uid", None) in linked
    ]


def _a_receipt_was_put_first(told: list[int], hops: list[story.Hop]) -> bool:
    """Only receipts stand before the events of their own save."""
    rest = [hop.position for hop in hops if hop.position is not None and not (hop.kind or "").startswith("RelayAction")]
    return rest == sorted(rest, key=lambda position: position or 0)


AnyStory.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyStory = pytest.mark.slow(AnyStory.TestCase)
