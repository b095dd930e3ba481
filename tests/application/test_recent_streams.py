"""A step in progress and its item are kept in memory for the message that ends them, and the log has the last word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.synthetic import change, completed, naming, progressing, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.domain.lifecycle import Status
from gateway.domain.performed_procedure_step import PerformedProcedureStep, StepFinal
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.recent import Recent

STEP = step_uid(1)
STEP_ID, ITEM_ID = PerformedProcedureStep.create_id(STEP), WorklistItem.create_id("ACC001")


def told(gateway: Gateway) -> list[str]:
    return [row.kind for row in gateway.timeline("ACC001")]


def test_what_is_kept_of_a_step_and_its_item_is_what_the_log_says(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, STEP, naming("ACC001"))
    change(gateway, progressing(STEP))
    for stream, stream_id in ((PerformedProcedureStep, STEP_ID), (WorklistItem, ITEM_ID)):
        kept = gateway._recent.take(stream_id)
        assert kept == gateway.load(stream, stream_id)


def test_what_has_ended_is_not_kept(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, STEP, naming("ACC001"))
    change(gateway, completed(STEP))
    assert gateway._recent.take(STEP_ID) is gateway._recent.take(ITEM_ID) is None


MEANWHILE: dict[str, Callable[[Gateway], object]] = {
    "the step goes on": lambda other: change(other, progressing(STEP)),
    "another step is begun": lambda other: start(other, step_uid(2), naming("ACC001")),
    "somebody corrects the item": lambda other: other.correct_status(
        "ACC001", Status.DISCONTINUED, reason="fell ill", operator="ward"
    ),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_what_another_process_saved_meanwhile_is_built_on(
    gateway: Gateway, path: Path, meanwhile: Callable[[Gateway], object]
) -> None:
    schedule(gateway)
    start(gateway, STEP, naming("ACC001"))
    with opened(path) as other:
        meanwhile(other)
    before = told(gateway)
    change(gateway, completed(STEP))
    assert told(gateway)[: len(before)] == before
    assert gateway.count_by_status() == {"COMPLETED": 1}
    sequences = [update.sequence for update in gateway.find_updates()]
    assert sequences == [*range(1, len(sequences) + 1)]
    assert gateway.verify_projections() == []


def test_a_step_linked_by_hand_in_another_process_ends_for_that_item_too(gateway: Gateway, path: Path) -> None:
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002")
    start(gateway, STEP, naming("ACC001"))
    with opened(path) as other:
        other.link_step(STEP, "ACC002", reason="two breasts, two numbers", operator="ward")
    assert change(gateway, completed(STEP)).accession_numbers == ("ACC001", "ACC002")
    assert gateway.count_by_status() == {"COMPLETED": 2}


def test_a_step_that_another_process_ended_is_not_ended_again(gateway: Gateway, path: Path) -> None:
    """PS3.4 F.7.2.2.2."""
    schedule(gateway)
    start(gateway, STEP, naming("ACC001"))
    with opened(path) as other:
        change(other, completed(STEP))
    before = told(gateway)
    with pytest.raises(StepFinal):
        change(gateway, completed(STEP))
    assert told(gateway) == before


def test_the_oldest_makes_room_and_nothing_is_handed_out_twice() -> None:
    recent = Recent(2)
    first, second, third = (PerformedProcedureStep.create_id(step_uid(number)) for number in range(3))
    for stream_id, stream in ((first, "1"), (second, "2"), (first, "1 again"), (third, "3")):
        recent.keep(stream_id, stream)
    assert [recent.take(each) for each in (first, second, third, third)] == ["1 again", None, "3", None]
    recent.keep(first, "1")
    recent.clear()
    assert recent.take(first) is None
