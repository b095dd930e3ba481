"""MPPS Retrieve (PS3.4 F.8): dcmjs-dimse reads a performed step back by N-GET."""

from __future__ import annotations

import pytest

from gateway.application import Gateway
from gateway.dicom.engines import AssociationServer
from projections.worklist import WorklistFilter
from tests.interop.dcmjs.dcmjs_client import MPPS, Dcmjs, changed, create, created, echo, modify, retrieve

pytestmark = pytest.mark.slow

UID = "1.2.826.0.1.3680043.9.2"
STATUS, STATION, END_DATE, DESCRIPTION = (
    "PerformedProcedureStepStatus",
    "PerformedStationAETitle",
    "PerformedProcedureStepEndDate",
    "PerformedProcedureStepDescription",
)


@pytest.fixture
def study_instance_uid(gateway: Gateway, items: None) -> str:
    (row,) = gateway.find_items(WorklistFilter(accession_number="ACC001"))
    assert row.study_instance_uid
    return row.study_instance_uid


def test_requested_attributes_come_back_as_they_are_now(
    dcmjs: Dcmjs, server: AssociationServer, study_instance_uid: str
) -> None:
    conversation = dcmjs.talk(
        server,
        create(UID, created("ACC001", study_instance_uid)),
        retrieve(UID, STATUS, STATION),
        modify(UID, changed("COMPLETED", PerformedProcedureStepDescription="two views")),
        retrieve(UID, STATUS, DESCRIPTION, END_DATE),
    )
    assert conversation.statuses() == [[0x0000]] * 4
    assert conversation.responses[1][0].command["AffectedSOPInstanceUID"] == UID
    (started,), (ended,) = conversation.answers(1), conversation.answers(3)
    assert {key: value for key, value in started.items() if key != "_vrMap"} == {
        STATION: "DCMJS",
        STATUS: "IN PROGRESS",
    }
    assert {key: value for key, value in ended.items() if key != "_vrMap"} == {
        END_DATE: "20261123",
        STATUS: "COMPLETED",
        DESCRIPTION: "two views",
    }


def test_an_n_set_replaces_a_sequence_as_a_whole_and_leaves_others(
    dcmjs: Dcmjs, server: AssociationServer, study_instance_uid: str
) -> None:
    first = [
        {"ProtocolName": "one", "SeriesInstanceUID": "1.2.1"},
        {"ProtocolName": "two", "SeriesInstanceUID": "1.2.2"},
    ]
    conversation = dcmjs.talk(
        server,
        create(UID, created("ACC001", study_instance_uid, PerformedSeriesSequence=first)),
        modify(UID, {"PerformedSeriesSequence": [{"ProtocolName": "three", "SeriesInstanceUID": "1.2.3"}]}),
        retrieve(UID, "PerformedSeriesSequence", "PerformedProcedureStepID"),
    )
    assert conversation.statuses() == [[0x0000]] * 3
    (answer,) = conversation.answers(2)
    assert [series["SeriesInstanceUID"] for series in answer["PerformedSeriesSequence"]] == ["1.2.3"]
    assert answer["PerformedProcedureStepID"] == "PPS1"


def test_without_a_list_all_attributes_come_back_ps3_7_10_1_2_1_5(
    dcmjs: Dcmjs, server: AssociationServer, study_instance_uid: str
) -> None:
    attributes = created("ACC001", study_instance_uid)
    conversation = dcmjs.talk(server, create(UID, attributes), modify(UID, changed("DISCONTINUED")), retrieve(UID))
    assert conversation.statuses() == [[0x0000]] * 3
    (answer,) = conversation.answers(2)
    assert answer.keys() >= attributes.keys() | changed("DISCONTINUED").keys()
    assert (answer[STATUS], answer["Modality"]) == ("DISCONTINUED", "MG")


def test_an_unknown_instance_is_0112(dcmjs: Dcmjs, server: AssociationServer) -> None:
    conversation = dcmjs.talk(server, retrieve(UID, STATUS), echo())
    assert conversation.statuses() == [[0x0112], [0x0000]]
    assert conversation.responses[0][0].command["AffectedSOPInstanceUID"] == UID


def test_an_n_get_on_the_class_that_only_creates_and_sets_is_0211(
    dcmjs: Dcmjs, server: AssociationServer, study_instance_uid: str
) -> None:
    conversation = dcmjs.talk(
        server, create(UID, created("ACC001", study_instance_uid)), retrieve(UID, STATUS, sop_class=MPPS), echo()
    )
    assert conversation.statuses() == [[0x0000], [0x0211], [0x0000]]
