"""The outbox: in order per accession number, in parallel across, parked ones overtaken (design §3.8)."""

from __future__ import annotations

import pytest

from bench.synthetic import appointment, change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway
from projections.outbox import OutboxCounts, OutboxRow


@pytest.fixture
def owing(gateway: Gateway) -> Gateway:
    """Three updates of ACC001 and ACC002: IN PROGRESS of both, then COMPLETED of the first."""
    for number in (1, 2):
        schedule(gateway, f"ACC00{number}")
        start(gateway, step_uid(number), naming(f"ACC00{number}"))
    change(gateway, completed(step_uid(1)))
    return gateway


def keys(rows: list[OutboxRow]) -> list[tuple[str, int]]:
    return [(row.accession_number, row.sequence) for row in rows]


def event_id(gateway: Gateway, accession_number: str, sequence: int) -> str:
    [found] = [r for r in gateway.find_updates(accession_number=accession_number) if r.sequence == sequence]
    return found.event_id


def acknowledge(gateway: Gateway, accession_number: str, sequence: int) -> None:
    gateway.acknowledge_update(event_id(gateway, accession_number, sequence), answer="updated", attempts=1)


def park(gateway: Gateway, accession_number: str, sequence: int) -> str:
    parked = event_id(gateway, accession_number, sequence)
    gateway.park_update(parked, reason="appointment_not_found", attempts=1)
    return parked


def test_one_update_of_each_accession_number_is_due_the_oldest_first(owing: Gateway) -> None:
    assert keys(owing.due_updates()) == [("ACC001", 1), ("ACC002", 1)]


def test_the_next_one_is_due_when_the_one_before_it_is_acknowledged(owing: Gateway) -> None:
    acknowledge(owing, "ACC001", 1)
    assert keys(owing.due_updates()) == [("ACC002", 1), ("ACC001", 2)]


def test_a_parked_update_is_overtaken(owing: Gateway) -> None:
    park(owing, "ACC001", 1)
    assert keys(owing.due_updates()) == [("ACC002", 1), ("ACC001", 2)]


def test_a_requeued_update_goes_before_those_that_came_after_it(owing: Gateway) -> None:
    parked = park(owing, "ACC001", 1)
    owing.requeue_update(parked, reason="try again")
    assert keys(owing.due_updates()) == [("ACC001", 1), ("ACC002", 1)]


def test_unsettled_updates_are_listed_and_acknowledged_ones_when_asked_for(owing: Gateway) -> None:
    acknowledge(owing, "ACC002", 1)
    park(owing, "ACC001", 1)
    assert keys(owing.find_updates()) == [("ACC001", 1), ("ACC001", 2)]
    assert keys(owing.find_updates(state="parked")) == [("ACC001", 1)]
    assert keys(owing.find_updates(state="waiting")) == [("ACC001", 2)]
    assert keys(owing.find_updates(state="acknowledged")) == [("ACC002", 1)]
    assert keys(owing.find_updates(accession_number="ACC002")) == []


def test_the_outbox_in_three_figures(owing: Gateway) -> None:
    oldest = owing.find_updates()[0].requested_at
    assert owing.count_updates() == OutboxCounts(3, oldest, 0)
    park(owing, "ACC001", 1)
    assert owing.count_updates().waiting == 2
    assert owing.count_updates().parked == 1


def test_an_empty_outbox_owes_nothing(gateway: Gateway) -> None:
    assert gateway.count_updates() == OutboxCounts(0, None, 0)
    assert gateway.due_updates() == []


def test_a_rebuild_sends_nothing_again(owing: Gateway) -> None:
    acknowledge(owing, "ACC002", 1)
    park(owing, "ACC001", 1)
    before = [owing.find_updates(state=state) for state in ("waiting", "parked", "acknowledged")]
    owing.rebuild_projections()
    assert [owing.find_updates(state=state) for state in ("waiting", "parked", "acknowledged")] == before


def test_updates_of_test_items_are_due_like_others_and_counted_and_listed_apart(owing: Gateway) -> None:
    before = owing.count_updates()
    owing.schedule(appointment("TEST"), is_test=True)
    start(owing, step_uid(9), naming("TEST"))
    assert keys(owing.due_updates())[-1] == ("TEST", 1)
    assert owing.count_updates() == before
    assert "TEST" not in dict(keys(owing.find_updates()))
    [update] = owing.find_updates(is_test=True)
    owing.park_update(update.event_id, reason="action_not_found", attempts=1)
    assert owing.count_updates() == before
    [parked] = owing.find_updates(state="parked", is_test=None)
    assert (parked.is_test, parked.answer) == (True, "action_not_found")


def test_when_the_web_app_last_acknowledged_one_is_known(owing: Gateway) -> None:
    assert owing.last_acknowledged() is None
    acknowledge(owing, "ACC001", 1)
    [settled] = owing.find_updates(state="acknowledged")
    assert owing.last_acknowledged() == settled.settled_at
