"""For any history, whoever writes it: what a service answers from what it has kept is what a fresh one answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from bench.synthetic import participant
from gateway.audit import erasure
from gateway.audit.erasure import NotOver
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import TRANSFER_SYNTAXES
from gateway.dicom.find import FindResponse
from gateway.dicom.responder import Responder
from gateway.errors import NotFound
from tests.dicom.dicom_samples import query, to_bytes
from tests.properties.test_any_erasure import AnyErasure, patients
from tests.properties.test_any_history import AnyHistory, accession_numbers

CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
WANTED = {"AccessionNumber": "", "PatientName": "", "RequestedProcedureDescription": ""}
PLACE = {"ScheduledProcedureStepLocation": "", "ScheduledStationAETitle": "", "ScheduledProcedureStepStatus": ""}
QUERIES = (
    query({**PLACE, "ScheduledProcedureStepStartDate": "20261122-20261124"}, **WANTED),
    query(PLACE, **{**WANTED, "AccessionNumber": "ACC001"}),
    query({"ScheduledProcedureStepStatus": ["IN PROGRESS", "COMPLETED", "CANCELLED"]}, PatientID=""),
    query({}, **{**WANTED, "PatientID": participant(1)["patient_id"]}),
)

AT_THE_PROMPT = (
    "UPDATE worklist_items SET patient_name = 'BY^HAND' WHERE accession_number = ?",
    "UPDATE worklist_items SET status = 'SCHEDULED' WHERE accession_number = ?",
    "DELETE FROM worklist_items WHERE accession_number = ?",
)


class AnyAnswer(AnyErasure):
    """One process serves and keeps, another one writes; somebody also writes at the prompt, and rebuilds."""

    def __init__(self) -> None:
        super().__init__()
        self.serving = self.opened()
        self.warm = Responder(self.serving)

    def teardown(self) -> None:
        self.serving.close()
        AnyHistory.teardown(self)

    @rule(number=accession_numbers, statement=st.sampled_from(AT_THE_PROMPT))
    def somebody_writes_at_the_prompt(self, number: str, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as prompt, prompt:
            prompt.execute(statement, (number,))

    @rule()
    def it_is_rebuilt(self) -> None:
        self.gateway.rebuild_projections()

    @rule()
    def it_is_reopened(self) -> None:
        self.gateway.close()
        self.gateway = self.opened()

    @rule(patient_id=patients, in_earnest=st.booleans())
    def a_person_is_erased(self, patient_id: str, in_earnest: bool) -> None:
        with suppress(NotFound, NotOver):
            found = erasure.find(self.gateway, patient_id)
            if in_earnest:
                self.end_everything(found)
                found = erasure.find(self.gateway, patient_id)
            erasure.erase(self.gateway, patient_id, found, reason="request 114", operator="dpo")

    def the_tables_are_what_the_events_say(self) -> None:
        """Not after somebody wrote at the prompt."""

    def the_chain_is_intact_and_grows(self) -> None:
        """That is another test's."""

    def updates_are_numbered_without_gaps_and_at_most_one_is_due_per_item(self) -> None:
        """That is another test's."""

    @invariant()
    def what_is_kept_makes_no_difference(self) -> None:
        for asked in QUERIES:
            for syntax in TRANSFER_SYNTAXES:
                data = to_bytes(asked, syntax)
                assert answers(self.warm, data, syntax) == answers(Responder(self.serving), data, syntax)


def answers(responder: Responder, data: bytes, syntax: str) -> list[FindResponse]:
    return list(responder.find(CALLER, data, syntax, lambda: False))


AnyAnswer.TestCase.settings = settings(
    max_examples=6, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyAnswer = pytest.mark.slow(AnyAnswer.TestCase)
