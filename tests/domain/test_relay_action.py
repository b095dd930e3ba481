"""The receipt: the same request gets the same answer, for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.synthetic import request
from gateway.domain.relay_action import ActionReply, RelayAction
from gateway.errors import AccessionConflict, ActionIdConflict

CREATED = ActionReply(status="created", accession_number="ACC001")
REFUSED = ActionReply.refused(AccessionConflict("it is taken", field="patient_id"))


@pytest.mark.parametrize(
    ("reply", "event"), [(CREATED, RelayAction.Accepted), (REFUSED, RelayAction.Rejected)], ids=["done", "refused"]
)
def test_a_receipt_is_one_event_that_says_whether_it_was_done(reply: ActionReply, event: type) -> None:
    assert [type(e) for e in RelayAction.answer(request("1"), reply, accession_number=None).collect_events()] == [event]


@pytest.mark.parametrize("reply", [CREATED, REFUSED], ids=["done", "refused"])
def test_a_repeat_gets_the_same_answer_marked_as_duplicate(reply: ActionReply) -> None:
    receipt = RelayAction.answer(request("1"), reply, accession_number="ACC001")
    assert receipt.repeat(request("1")) == replace(receipt.reply, duplicate=True)
    assert replace(receipt.reply, received_at=None) == reply


def test_a_repeat_that_was_sent_later_in_other_words_is_the_same_request() -> None:
    receipt = RelayAction.answer(request("1"), CREATED, accession_number="ACC001")
    again = replace(request("1"), text="{ }", received_at="2026-11-24T00:00:00+00:00")
    assert receipt.repeat(again).status == "created"


def test_other_content_under_the_same_action_id_conflicts() -> None:
    receipt = RelayAction.answer(request("1"), CREATED, accession_number="ACC001")
    with pytest.raises(ActionIdConflict) as conflict:
        receipt.repeat(request("1", other="content"))
    assert conflict.value.field == "action_id"


def test_a_refusal_is_answered_with_its_code_and_field() -> None:
    assert (REFUSED.status, REFUSED.code, REFUSED.field) == ("error", "accession_conflict", "patient_id")


def test_what_has_no_usable_action_id_is_kept_under_one_of_its_own_each_time() -> None:
    one, two = (RelayAction.reject_unidentified(request(""), REFUSED) for _ in range(2))
    assert one.id != two.id
    assert one.action_id.startswith("unidentified-")
