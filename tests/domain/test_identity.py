"""Ids come from business keys, so that the same thing is the same stream in any process and any year."""

from __future__ import annotations

from uuid import UUID

import pytest

from gateway.domain import identity, values

PINNED = {
    identity.worklist_item_id: "e4b9ceb2-7d1d-5e0b-bc0c-8d44a1800773",
    identity.performed_step_id: "53c2c565-f662-5341-912f-fe558a96147c",
    identity.relay_action_id: "1468aef6-1322-501b-97de-9ac554fcf992",
    identity.status_update_id: "d884de9d-d848-5d5c-a368-dae27058b79e",
}


@pytest.mark.parametrize(("make", "pinned"), PINNED.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_a_stream_id_is_the_one_that_is_in_the_logs_already(make, pinned: str) -> None:
    assert make("ACC001") == UUID(pinned)


def test_the_same_key_names_different_streams_for_different_things() -> None:
    assert len({make("ACC001") for make in PINNED}) == len(PINNED)


def test_a_status_event_id_is_the_one_that_the_web_app_knows_already() -> None:
    assert identity.status_event_id("1.2.3", "ACC001", "COMPLETED") == "b81be2c4-5cba-50fa-9297-7315862de559"


@pytest.mark.parametrize(
    "other", [("1.2.4", "ACC001", "COMPLETED"), ("1.2.3", "ACC002", "COMPLETED"), ("1.2.3", "ACC001", "DISCONTINUED")]
)
def test_another_cause_item_or_status_is_another_status_event(other: tuple[str, str, str]) -> None:
    assert identity.status_event_id(*other) != identity.status_event_id("1.2.3", "ACC001", "COMPLETED")


def test_a_new_study_instance_uid_is_a_uid_and_no_other() -> None:
    made = {identity.new_study_instance_uid() for _ in range(100)}
    assert len(made) == 100
    assert all(values.is_uid(uid) and uid.startswith("2.25.") for uid in made)
