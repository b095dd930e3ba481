"""What an erasure does not reach is looked for, and told with its reason; what can be told to be hers goes with her."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import appointment, create_request, naming, participant, request, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.audit import erasure, remaining
from gateway.audit.erasure import Erased
from gateway.dicom import data_set
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN, Element
from gateway.errors import InvalidValue

HER = {"patient_id": "9990000042", "patient_name": "MÜLLERSTEIN^ANNA", "patient_birth_date": "19700101"}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "gateway.db", sealing=True) as opened_gateway:
        schedule(opened_gateway, "ACC007", **participant(7))
        yield opened_gateway


def examined(gateway: Gateway, number: str = "ACC001", action_id: str = "create-1", **changes: Any) -> None:
    wanted = appointment(number, **HER, **changes)
    gateway.schedule(wanted, request=create_request(action_id, wanted))
    gateway.cancel(number, "Ms Müllerstein rang")


def erase(gateway: Gateway) -> Erased:
    found = erasure.find(gateway, HER["patient_id"])
    told = erasure.still_named(gateway, HER["patient_id"], found, lambda _done, _all: None)
    done = erasure.erase(gateway, HER["patient_id"], found, reason="request 114", operator="dpo")
    assert [one for one in done.remaining if one.place == "events"] == told  # said before is what is left after
    return done


def left(done: Erased) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {one.place: (one.why, one.positions) for one in done.remaining}


def test_nothing_is_told_where_nothing_is_left(gateway: Gateway) -> None:
    examined(gateway)
    assert erase(gateway).remaining == ()


@pytest.mark.parametrize("text", ["Ms MÜLLERSTEIN 9990000042", "for müllerstein", "for Mullerstein", "999 000 0042"])
def test_a_description_that_names_her_is_told_with_its_place(gateway: Gateway, text: str) -> None:
    examined(gateway, study_description=text)
    told = left(erase(gateway))
    assert told["events"] == (remaining.NOT_SEALED, (3,))
    assert told["worklist_items"] == (remaining.SHOWN, ())


def test_a_uid_that_holds_the_digits_of_her_id_names_nobody(gateway: Gateway) -> None:
    examined(gateway)
    schedule(gateway, "ACC008", **participant(8), study_description="1.2.826.9990000042.1 and 19990000042")
    assert erase(gateway).remaining == ()


def test_her_id_among_another_s_is_told(gateway: Gateway) -> None:
    """As in the Other Patient IDs of a step that is another's."""
    examined(gateway)
    content = data_set.encode([Element(0x00101000, "LO", b"9990000042")], IMPLICIT_VR_LITTLE_ENDIAN)
    start(gateway, step_uid(3), naming("ACC999"), patient_id="9990000777", patient_name="BROWN^EVE",
          attribute_list=content, transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)  # fmt: skip
    gateway.dismiss_step(step_uid(3), reason="nobody knows", operator="night shift")
    assert left(erase(gateway))["events"][0] == remaining.NOT_THEIRS


def test_an_action_id_that_names_her_is_told(gateway: Gateway) -> None:
    examined(gateway, action_id="book-Mullerstein-1")
    told = left(erase(gateway))
    assert told["events"][0] == remaining.NOT_SEALED
    assert {"timeline", "worklist_items"} <= told.keys()


def test_a_reason_in_an_action_that_was_refused_is_told(gateway: Gateway) -> None:
    examined(gateway)
    refused = request("cancel-9", "worklist.cancel", accession_number="ACC999", reason="Anna Müllerstein rang")
    gateway.reject_unidentified(refused, InvalidValue("nobody's"))
    half = replace(request(""), text='{ half a message about "M\\u00fcllerstein"')
    gateway.reject_unidentified(half, InvalidValue("not JSON"))
    [told] = erase(gateway).remaining
    assert (told.why, told.count) == (remaining.NOT_THEIRS, 2)


def test_a_reason_about_her_at_another_s_appointment_is_told(gateway: Gateway) -> None:
    examined(gateway)
    gateway.cancel("ACC007", "she came instead of Ms Müllerstein")
    told = left(erase(gateway))
    assert told["events"][0] == remaining.NOT_THEIRS
    assert "timeline" in told


def test_who_is_called_like_her_is_somebody_else(gateway: Gateway) -> None:
    examined(gateway)
    schedule(gateway, "ACC008", **(participant(8) | {"patient_name": HER["patient_name"]}))
    gateway.cancel("ACC008", "Anna Müllerstein rang")
    assert erase(gateway).remaining == ()


def nameless(gateway: Gateway, **elements: bytes) -> None:
    """A step without Patient ID that is of nobody's item, as dismissed at once."""
    tags = {"name": (0x00100010, "PN"), "birth_date": (0x00100030, "DA")}
    content = data_set.encode([Element(*tags[name], value) for name, value in elements.items()],
                              IMPLICIT_VR_LITTLE_ENDIAN)  # fmt: skip
    start(gateway, step_uid(1), naming("ACC999"), patient_id="", patient_name="Müllerstein^Anna",
          attribute_list=content, transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN)  # fmt: skip
    gateway.dismiss_step(step_uid(1), reason="a repeat", operator="night shift")


@pytest.mark.parametrize("first", [True, False])
def test_a_step_without_patient_id_that_has_her_name_and_birth_date_goes_with_her(
    gateway: Gateway, first: bool
) -> None:
    if first:
        examined(gateway)
    nameless(gateway, birth_date=b"19700101")
    if not first:
        examined(gateway)
    done = erase(gateway)
    assert (done.performed_steps, done.remaining) == (1, ())
    step = gateway.performed_step(step_uid(1))
    assert step
    assert step.data_sets == ((b"", IMPLICIT_VR_LITTLE_ENDIAN),)
    assert gateway.verify_projections() == []


@pytest.mark.parametrize("elements", [{}, {"birth_date": b"19800101"}], ids=str)
def test_with_her_name_alone_it_is_told_and_not_erased(gateway: Gateway, elements: dict[str, bytes]) -> None:
    examined(gateway)
    nameless(gateway, **elements)
    done = erase(gateway)
    assert done.performed_steps == 0
    assert left(done)["events"][0] == remaining.NO_PATIENT_ID
    assert "performed_steps" in left(done)


def test_an_item_that_is_another_s_by_now_is_named(gateway: Gateway) -> None:
    wanted = appointment("ACC001", **HER)
    gateway.schedule(wanted, request=create_request("create-1", wanted))
    other = participant(9)
    gateway.amend("ACC001", lambda _: {"patient_id": other["patient_id"], "patient_name": other["patient_name"]})
    gateway.cancel("ACC001", "a mix-up")
    assert erasure.items_of_others(gateway, HER["patient_id"], erasure.find(gateway, HER["patient_id"])) == ("ACC001",)
    assert erase(gateway).items_of_others == ("ACC001",)
