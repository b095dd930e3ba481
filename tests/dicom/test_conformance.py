"""The conformance statement says what the code does, and the page in docs/ says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from gateway.dicom import association, keys, status, step_attributes
from gateway.dicom.association import SOP_CLASSES
from gateway.dicom.conformance import statement
from gateway.dicom.data_set import TRANSFER_SYNTAXES, tag_name
from gateway.dicom.responder import Responder
from gateway.rehearsal.requestor import associate
from tests.dicom.dicom_samples import InMemory
from tests.serving import serving

PAGE = Path(__file__).parents[2] / "docs" / "conformance-statement.md"
TEXT = statement()


def section(title: str) -> str:
    found = re.search(rf"^#+ [0-9.]+ {re.escape(title)}.*?\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_the_page_is_what_gateway_conformance_prints() -> None:
    assert PAGE.read_text(encoding="utf-8") == TEXT, "run `gateway conformance > docs/conformance-statement.md`"


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "$" not in TEXT
    assert "None" not in TEXT


@pytest.mark.parametrize("attribute", [*keys.ROOT.values(), *keys.STEP.values()], ids=lambda a: a.keyword)
def test_each_key_of_the_worklist_stands_in_it_with_its_types(attribute: keys.Attribute) -> None:
    row = f"{attribute.keyword} | {tag_name(attribute.tag)} | {attribute.vr} | {attribute.matching_type} |"
    assert f"{row} {attribute.returned} |" in section("Keys")


def test_the_required_matching_keys_are_those_of_table_k_6_1() -> None:
    required = {a.keyword for a in (*keys.ROOT.values(), *keys.STEP.values()) if a.matching_type == "R"}
    assert required == {
        "ScheduledProcedureStepSequence",
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartDate",
        "ScheduledProcedureStepStartTime",
        "Modality",
        "ScheduledPerformingPhysicianName",
        "PatientName",
        "PatientID",
    }


@pytest.mark.parametrize("attribute", step_attributes.TABLE, ids=lambda a: a.keyword)
def test_each_attribute_of_a_performed_step_stands_in_it_with_its_types(attribute: step_attributes.Attribute) -> None:
    row = f"| {attribute.keyword} | {tag_name(attribute.tag)} | {attribute.create} | {attribute.set} |"
    assert row in section("Attributes")


STATUSES = {name: value for name, value in vars(status).items() if name.isupper() and isinstance(value, int)}


@pytest.mark.parametrize("name", STATUSES)
def test_each_status_that_we_know_stands_in_it(name: str) -> None:
    assert f"0x{STATUSES[name]:04X}" in TEXT


def test_the_server_offers_what_it_says_and_nothing_else() -> None:
    with serving(Responder(InMemory())) as server:
        unit = AE(ae_title="MAMMO1")
        for sop_class in SOP_CLASSES:
            for syntax in TRANSFER_SYNTAXES:
                unit.add_requested_context(sop_class.uid, syntax)
        unit.add_requested_context("1.2.840.10008.5.1.4.1.2.2.1")  # Study Root Query/Retrieve – FIND
        peer = associate(unit, "127.0.0.1", server.port, ae_title="ORTHANC_MWL")
        assert {context.abstract_syntax for context in peer.accepted_contexts} == {each.uid for each in SOP_CLASSES}
        assert [context.abstract_syntax for context in peer.rejected_contexts] == ["1.2.840.10008.5.1.4.1.2.2.1"]
        acceptor = peer.acceptor
        assert acceptor.implementation_class_uid == association.IMPLEMENTATION_CLASS_UID
        assert acceptor.implementation_version_name == association.IMPLEMENTATION_VERSION_NAME
        assert acceptor.maximum_length == association.ANNOUNCED_PDU_LENGTH
        peer.release()


def test_an_extended_negotiation_item_is_not_answered() -> None:
    with serving(Responder(InMemory())) as server:
        from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

        item = SOPClassExtendedNegotiation()
        item.sop_class_uid = ModalityWorklistInformationFind
        item.service_class_application_information = b"\x01\x01\x01"
        unit = AE(ae_title="MAMMO1")
        unit.add_requested_context(ModalityWorklistInformationFind)
        peer = associate(unit, "127.0.0.1", server.port, ae_title="ORTHANC_MWL", ext_neg=[item])
        assert peer.is_established
        assert peer.acceptor.sop_class_extended == {}
        peer.release()
