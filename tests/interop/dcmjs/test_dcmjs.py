"""A DICOM client from another house, npm's dcmjs-dimse, asks the worklist and reports performed steps."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from projections.worklist import WorklistFilter
from tests.interop.awaiting_cancel import AwaitingCancel
from tests.interop.dcmjs.dcmjs_client import Dcmjs, changed, create, created, echo, find, modify
from tests.serving import serving

pytestmark = pytest.mark.slow

UID = "1.2.826.0.1.3680043.9.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
TODAY = {"Modality": "MG", "ScheduledProcedureStepStartDate": "20261123"}


def numbers(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["AccessionNumber"] for answer in answers]


def found(dcmjs: Dcmjs, server: AssociationServer, step: dict[str, Any] | None = None, **keys: Any) -> list[str]:
    elements = {"SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": "", **keys}
    return numbers(dcmjs.talk(server, find({**elements, "ScheduledProcedureStepSequence": [step or {}]})).answers())


def row(gateway: Gateway, accession_number: str) -> Any:
    (found,) = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return found


# --- Verification and the worklist


def test_an_echo_is_answered(dcmjs: Dcmjs, server: AssociationServer) -> None:
    conversation = dcmjs.talk(server, echo())
    assert conversation.statuses() == [[0x0000]]
    assert [event["event"] for event in conversation.events] == ["accepted", "released"]


def test_a_wrong_called_ae_title_is_rejected_source_1_reason_7_ps3_8_9_3_4(
    dcmjs: Dcmjs, server: AssociationServer
) -> None:
    conversation = dcmjs.talk(server, echo(), called="NOBODY")
    assert conversation.events == [{"event": "rejected", "result": 1, "source": 1, "reason": 7}]


def test_its_own_worklist_query_of_the_day_is_answered_in_order_with_the_keys_it_asks_for(
    dcmjs: Dcmjs, server: AssociationServer
) -> None:
    conversation = dcmjs.talk(server, find({"ScheduledProcedureStepSequence": [TODAY]}, stock=True))
    assert conversation.statuses() == [[0xFF00] * 4 + [0x0000]]
    answers = conversation.answers()
    assert numbers(answers) == ["ACC000", "ACC001", "ACC002", "ACC003"]
    for answer in answers:
        assert answer["ScheduledProcedureStepSequence"] == [{"_vrMap": {}, **TODAY}]
        assert answer["RequestedProcedureDescription"] == "Bilateral Mammography"
        assert answer["StudyInstanceUID"].startswith("2.25.")
        for known_empty in ("PatientComments", "AdmissionID", "IssuerOfPatientID", "StudyDescription"):
            assert answer[known_empty] == ""


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_keys_come_back_nested_as_they_were_asked_k_2_2_1_2(
    dcmjs: Dcmjs, server: AssociationServer, syntax: str
) -> None:
    code = {"CodeValue": "", "CodingSchemeDesignator": "", "CodeMeaning": ""}
    step = {**TODAY, "ScheduledProcedureStepID": "", "ScheduledProtocolCodeSequence": [code]}
    asked = {"AccessionNumber": "ACC001", "ScheduledProcedureStepSequence": [step]}
    (answer,) = dcmjs.talk(server, find(asked, syntax=syntax)).answers()
    assert answer.keys() - {"_vrMap"} == asked.keys()
    (got,) = answer["ScheduledProcedureStepSequence"]
    assert got.keys() - {"_vrMap"} == step.keys()
    assert got["ScheduledProcedureStepID"] == "ACC001"
    (coded,) = got["ScheduledProtocolCodeSequence"]
    assert {key: coded[key] for key in code} == {
        "CodeValue": "XMAMB",
        "CodingSchemeDesignator": "LOCAL",
        "CodeMeaning": "Bilateral Mammography",
    }


def test_a_zero_length_sequence_brings_the_whole_step_c_2_2_2_6(dcmjs: Dcmjs, server: AssociationServer) -> None:
    asked = {"AccessionNumber": "ACC001", "ScheduledProcedureStepSequence": []}
    (answer,) = dcmjs.talk(server, find(asked)).answers()
    (step,) = answer["ScheduledProcedureStepSequence"]
    assert step["ScheduledStationAETitle"] == "DCMJS"
    assert step["ScheduledProcedureStepStartTime"] == "103000"
    assert step["ScheduledProcedureStepStatus"] == "SCHEDULED"
    assert step["ScheduledStationName"] == ""


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"PatientName": "smith*"}, ["ACC000", "ACC001"]),
        ({"PatientName": "Müller^Zoë"}, ["ACC002"]),
        ({"PatientName": "muller*"}, ["ACC002"]),
        ({"PatientName": "=山田*"}, ["ACC003"]),
        ({"PatientID": "9990000069"}, ["ACC004"]),
        ({"RequestedProcedureID": "ACC00?"}, ["ACC000", "ACC001", "ACC002", "ACC003", "ACC004"]),
        ({"PatientID": "999"}, []),
    ],
    ids=str,
)
def test_keys_of_the_patient_and_the_procedure(
    dcmjs: Dcmjs, server: AssociationServer, keys: dict[str, Any], expected: list[str]
) -> None:
    assert found(dcmjs, server, **keys) == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"ScheduledProcedureStepStartDate": "20261124-"}, ["ACC004"]),
        ({"ScheduledProcedureStepStartDate": "-20261123", "ScheduledProcedureStepStartTime": "1100-"},
         ["ACC000", "ACC001", "ACC002", "ACC003"]),
        ({"ScheduledProcedureStepStartDate": "20261123", "ScheduledProcedureStepStartTime": "1100-"},
         ["ACC002", "ACC003"]),
        ({"ScheduledProcedureStepStartDate": "20261123-20261124", "ScheduledProcedureStepStartTime": "1130-1200"},
         ["ACC003", "ACC004"]),
        ({"Modality": "US"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_keys_of_the_step_a_date_range_and_a_time_range_are_one_period(
    dcmjs: Dcmjs, server: AssociationServer, step: dict[str, Any], expected: list[str]
) -> None:
    assert found(dcmjs, server, step) == expected


def test_names_in_any_script_arrive_whole_and_declared(dcmjs: Dcmjs, server: AssociationServer) -> None:
    asked = {"SpecificCharacterSet": "ISO_IR 192", "AccessionNumber": "", "PatientName": ""}
    answers = dcmjs.talk(server, find(asked)).answers()
    names = {answer["AccessionNumber"]: answer["PatientName"][0] for answer in answers}
    assert names["ACC000"] == {"Alphabetic": "SMITH^JOHN"}
    assert names["ACC002"] == {"Alphabetic": "MÜLLER^ZOË"}
    assert names["ACC003"] == {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}


@pytest.mark.parametrize(
    ("declared", "name"),
    [({}, "MULLER^ZOE"), ({"SpecificCharacterSet": "ISO_IR 100"}, "MÜLLER^ZOË")],
    ids=["none", "ISO_IR 100"],
)
def test_a_name_comes_in_the_letters_of_the_set_that_was_asked_in(
    dcmjs: Dcmjs, server: AssociationServer, declared: dict[str, str], name: str
) -> None:
    asked = {**declared, "AccessionNumber": "ACC002", "PatientName": ""}
    (answer,) = dcmjs.talk(server, find(asked)).answers()
    assert answer["PatientName"] == [{"Alphabetic": name}]


def test_a_refused_query_says_which_element_and_why_and_the_association_goes_on(
    dcmjs: Dcmjs, server: AssociationServer
) -> None:
    bad = {"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "20260230"}]}
    conversation = dcmjs.talk(server, find(bad), echo())
    assert conversation.statuses() == [[0xA900], [0x0000]]
    ((refused,), _) = conversation.responses
    assert refused.command["OffendingElement"] == 0x00400002
    assert refused.command["ErrorComment"] == "(0040,0002) is no date and no range of them"
    assert refused.elements is None


def test_a_cancel_after_the_first_answer_ends_in_fe00_without_identifier(
    dcmjs: Dcmjs, gateway: Gateway, items: None
) -> None:
    with serving(AwaitingCancel(gateway)) as server:
        conversation = dcmjs.talk(server, find({"AccessionNumber": ""}, cancelAfter=1), echo())
    assert conversation.statuses() == [[0xFF00, 0xFE00], [0x0000]]
    assert conversation.responses[0][-1].elements is None


def test_a_cancel_that_comes_after_the_last_answer_is_ignored(dcmjs: Dcmjs, server: AssociationServer) -> None:
    one = find({"AccessionNumber": "ACC000"}, cancelAfter=2)
    assert dcmjs.talk(server, one, echo()).statuses() == [[0xFF00, 0x0000], [0x0000]]


# --- performed steps


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_the_worklist_and_the_life_of_a_step_on_one_association(
    dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway, syntax: str
) -> None:
    attributes = created("ACC001", row(gateway, "ACC001").study_instance_uid)
    everything = find({"AccessionNumber": ""})
    conversation = dcmjs.talk(
        server,
        create(UID, attributes, syntax=syntax),
        everything,
        modify(UID, {"PerformedProcedureStepDescription": "second view"}, syntax=syntax),
        modify(UID, {"PerformedProcedureStepStatus": "IN PROGRESS"}, syntax=syntax),
        modify(UID, changed("COMPLETED"), syntax=syntax),
    )
    statuses = conversation.statuses()
    assert [statuses[index] for index in (0, 2, 3, 4)] == [[0x0000]] * 4
    assert numbers(conversation.answers(1)) == ["ACC000", "ACC002", "ACC003", "ACC004"]
    assert (row(gateway, "ACC001").status, row(gateway, "ACC001").mpps_instance_uid) == ("COMPLETED", UID)
    for index in (0, 2, 3, 4):
        assert conversation.responses[index][0].command["AffectedSOPInstanceUID"] == UID


def test_a_discontinued_step_keeps_its_reason_and_a_wrong_entry_puts_the_item_back(
    dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway
) -> None:
    def reason(code: str) -> dict[str, Any]:
        return {"CodeValue": code, "CodingSchemeDesignator": "DCM", "CodeMeaning": "why"}

    gave_up, wrong = f"{UID}.1", f"{UID}.2"
    conversation = dcmjs.talk(
        server,
        create(gave_up, created("ACC000", row(gateway, "ACC000").study_instance_uid, PatientID="9990000026")),
        create(wrong, created("ACC001", row(gateway, "ACC001").study_instance_uid)),
        modify(
            gave_up, changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason("110515")])
        ),
        modify(
            wrong, changed("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[reason("110514")])
        ),
    )
    assert conversation.statuses() == [[0x0000]] * 4
    assert row(gateway, "ACC000").status == "DISCONTINUED"
    assert row(gateway, "ACC001").status == "SCHEDULED"


def test_a_create_again_after_a_lost_reply_is_0111(dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway) -> None:
    attributes = created("ACC001", row(gateway, "ACC001").study_instance_uid)
    conversation = dcmjs.talk(server, create(UID, attributes), create(UID, attributes))
    assert conversation.statuses() == [[0x0000], [0x0111]]
    assert conversation.responses[1][0].command["AffectedSOPInstanceUID"] == UID
    assert row(gateway, "ACC001").status == "IN PROGRESS"


@pytest.mark.parametrize("again", ["COMPLETED", "DISCONTINUED", "IN PROGRESS"])
def test_a_final_step_may_no_longer_be_updated_0110_with_error_id_a710_table_f_7_2_2(
    dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway, again: str
) -> None:
    attributes = created("ACC001", row(gateway, "ACC001").study_instance_uid)
    conversation = dcmjs.talk(
        server, create(UID, attributes), modify(UID, changed("COMPLETED")), modify(UID, changed(again))
    )
    assert conversation.statuses() == [[0x0000], [0x0000], [0x0110]]
    command = conversation.responses[2][0].command
    assert command["ErrorID"] == 0xA710
    assert command["ErrorComment"] == "Performed Procedure Step Object may no longer be updated"
    assert row(gateway, "ACC001").status == "COMPLETED"


def test_an_n_set_of_an_unknown_instance_is_0112(dcmjs: Dcmjs, server: AssociationServer) -> None:
    conversation = dcmjs.talk(server, modify(UID, changed("COMPLETED")))
    assert conversation.statuses() == [[0x0112]]
    command = conversation.responses[0][0].command
    assert command["AffectedSOPInstanceUID"] == UID
    assert "ErrorID" not in command


def test_a_create_that_is_not_in_progress_is_0106_with_the_bad_value_f_7_2_1_3(
    dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway
) -> None:
    attributes = created("ACC001", "1.2.3", PerformedProcedureStepStatus="COMPLETED")
    conversation = dcmjs.talk(server, create(UID, attributes))
    assert conversation.statuses() == [[0x0106]]
    (refused,) = conversation.responses[0]
    assert refused.elements is not None
    assert refused.elements["PerformedProcedureStepStatus"] == "COMPLETED"
    assert row(gateway, "ACC001").status == "SCHEDULED"


def test_a_create_without_a_type_1_attribute_is_0120_and_names_it(dcmjs: Dcmjs, server: AssociationServer) -> None:
    attributes = created("ACC001", "1.2.3")
    del attributes["Modality"]
    conversation = dcmjs.talk(server, create(UID, attributes))
    assert conversation.statuses() == [[0x0120]]
    assert conversation.responses[0][0].command["AttributeIdentifierList"] == 0x00080060


def test_a_group_of_scheduled_steps_follows_the_one_performed_step(
    dcmjs: Dcmjs, server: AssociationServer, gateway: Gateway
) -> None:
    both = ("ACC000", "ACC001")
    steps = [
        {"StudyInstanceUID": row(gateway, number).study_instance_uid, "AccessionNumber": number} for number in both
    ]
    attributes = created("", "", PatientID="", ScheduledStepAttributesSequence=steps)
    conversation = dcmjs.talk(server, create(UID, attributes), modify(UID, changed("COMPLETED")))
    assert conversation.statuses() == [[0x0000], [0x0000]]
    assert [row(gateway, number).status for number in (*both, "ACC002")] == [
        "COMPLETED",
        "COMPLETED",
        "SCHEDULED",
    ]
