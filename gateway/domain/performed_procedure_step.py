"""One performed procedure step (MPPS): what a modality reported, whole, and the items it was performed for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from gateway.domain import lifecycle
from gateway.domain.events import Stream
from gateway.domain.identity import performed_step_id
from gateway.domain.lifecycle import StepStatus
from gateway.errors import GatewayError, IllegalTransition

WRONG_WORKLIST_ENTRY = "110514"
"""Discontinuation reason *incorrect worklist entry selected* (CID 9300, scheme DCM)."""


class StepFinal(GatewayError):
    """The performed procedure step may no longer be updated (PS3.4 F.7.2.2.2: 0x0110 with Error ID 0xA710)."""

    code = "step_final"


class StepExists(GatewayError):
    """A performed procedure step with this SOP Instance UID exists (PS3.7 10.1.5.1.6: 0x0111)."""

    code = "step_exists"


class StepUnknown(GatewayError):
    """There is no performed procedure step with this SOP Instance UID (PS3.7 10.1.3.1.9: 0x0112)."""

    code = "step_unknown"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One item of the Scheduled Step Attributes Sequence: what the step says it was performed for. "" is absent."""

    study_instance_uid: str = ""
    accession_number: str = ""
    scheduled_procedure_step_id: str = ""
    requested_procedure_id: str = ""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What an N-CREATE says, decoded as far as decisions need it, and the whole data set as received.

    `attribute_list` is the encoded data set, `transfer_syntax` its UID; `warnings` what was odd about it.
    """

    sop_instance_uid: str
    references: tuple[Reference, ...]
    patient_id: str = ""
    patient_name: str = ""
    performed_station_ae_title: str = ""
    performed_procedure_step_id: str = ""
    started: str = ""
    """Performed Procedure Step Start Date and Time, `YYYYMMDDHHMMSS`, the modality's wall clock."""
    modality: str = ""
    attribute_list: bytes = b""
    transfer_syntax: str = ""
    warnings: tuple[str, ...] = ()
    performed: dict[str, Any] = field(default_factory=dict)
    """What this data set says about counts and dose, as the web app is told; only what it holds. Names nobody."""


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """What an N-SET says. `status` None: it holds none, the step goes on."""

    sop_instance_uid: str
    status: StepStatus | None = None
    discontinuation_reason: str | None = None
    """Code value of the Performed Procedure Step Discontinuation Reason Code Sequence."""
    ended: str = ""
    attribute_list: bytes = b""
    transfer_syntax: str = ""
    warnings: tuple[str, ...] = ()
    performed: dict[str, Any] = field(default_factory=dict)
    """As in `StepReport`; replaces what earlier data sets said, key by key."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """All that is kept of one performed step: the data sets of its N-CREATE and N-SETs, in order, as received.

    `data_sets` are pairs of encoded bytes and transfer syntax UID.
    """

    sop_instance_uid: str
    status: StepStatus
    accession_numbers: tuple[str, ...]
    data_sets: tuple[tuple[bytes, str], ...]


def _upcast_without_performed(state: dict[str, Any]) -> None:
    """Version 1 did not say what was performed in figures; the data set it holds still does."""
    state["performed"] = {}


class PerformedProcedureStep(Stream):
    """An MPPS instance: its status and the accession numbers it was linked to."""

    TOPIC = "PerformedProcedureStep"

    class Event(Stream.Event):
        """Base of the step's events. `concerned`: all accession numbers it is about, named ones without an item too."""

        TOPIC = "PerformedProcedureStep.Event"
        sop_instance_uid: str
        concerned: list[str]

    class Started(Event, Stream.Created):
        """N-CREATE. `accession_numbers` are the items it was linked to, `unmatched` why others were not.

        `performed` is what the web app is told of counts and dose.
        """

        TOPIC = "PerformedProcedureStep.Started"
        class_version = 2
        upcast_v1_v2 = staticmethod(_upcast_without_performed)
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("patient", "attribute_list")
        patient: dict[str, str]
        attribute_list: bytes
        transfer_syntax: str
        details: dict[str, str]
        references: list[dict[str, str]]
        accession_numbers: list[str]
        unmatched: list[str]
        warnings: list[str]
        received_at: str
        performed: dict[str, Any]

    class Changed(Event):
        """Base of what N-SET brings."""

        TOPIC = "PerformedProcedureStep.Changed"
        class_version = 2
        upcast_v1_v2 = staticmethod(_upcast_without_performed)
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("attribute_list",)
        attribute_list: bytes
        transfer_syntax: str
        accession_numbers: list[str]
        warnings: list[str]
        received_at: str
        performed: dict[str, Any]

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """What was performed, key by key."""
            aggregate.performed = {**aggregate.performed, **self.performed}

    class Updated(Changed):
        """N-SET while the step goes on."""

        TOPIC = "PerformedProcedureStep.Updated"

    class Completed(Changed):
        """N-SET COMPLETED."""

        TOPIC = "PerformedProcedureStep.Completed"
        ended: str

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """The step is final."""
            super().apply(aggregate)
            aggregate.finished(StepStatus.COMPLETED, self.received_at)

    class Discontinued(Changed):
        """N-SET DISCONTINUED."""

        TOPIC = "PerformedProcedureStep.Discontinued"
        ended: str
        reason: str | None

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """The step is final."""
            super().apply(aggregate)
            wrong = self.reason == WRONG_WORKLIST_ENTRY
            aggregate.finished(StepStatus.WITHDRAWN if wrong else StepStatus.DISCONTINUED, self.received_at)
            aggregate.discontinuation_reason = self.reason

    class Linked(Event):
        """An operator said for which item it was performed: `accession_number`; `accession_numbers` are all of them."""

        TOPIC = "PerformedProcedureStep.Linked"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)  # what people write may name somebody
        accession_number: str
        accession_numbers: list[str]
        reason: str

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """One item more."""
            aggregate.accession_numbers = self.accession_numbers
            aggregate.concerned = self.concerned
            aggregate.waits_for_person = False

    class Dismissed(Event):
        """An operator said that what no item explains of it is nobody's, such as a phantom's exposure."""

        TOPIC = "PerformedProcedureStep.Dismissed"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("reason",)
        reason: str

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """No person needs to look at it any more."""
            aggregate.waits_for_person = False

    def __init__(
        self,
        sop_instance_uid: str,
        accession_numbers: list[str],
        concerned: list[str],
        patient: dict[str, str],
        unmatched: list[str],
        received_at: str,
        performed: dict[str, Any],
    ) -> None:
        self.sop_instance_uid = sop_instance_uid
        self.accession_numbers = accession_numbers
        self.concerned = concerned
        self.patient_id = patient.get("patient_id", "")
        self.waits_for_person = bool(unmatched)
        self.started_at = received_at
        self.ended_at: str | None = None
        self.performed = performed
        self.status = StepStatus.IN_PROGRESS
        self.discontinuation_reason: str | None = None

    @staticmethod
    def create_id(sop_instance_uid: str) -> UUID:
        """The stream of this SOP Instance UID."""
        return performed_step_id(sop_instance_uid)

    @classmethod
    def start(
        cls, report: StepReport, *, accession_numbers: list[str], unmatched: list[str], received_at: str
    ) -> PerformedProcedureStep:
        """The step that an N-CREATE reports."""
        named = (reference.accession_number for reference in report.references)
        return cls._create(
            event_class=cls.Started,
            sop_instance_uid=report.sop_instance_uid,
            patient={"patient_id": report.patient_id, "patient_name": report.patient_name},
            attribute_list=report.attribute_list,
            transfer_syntax=report.transfer_syntax,
            details={
                "performed_station_ae_title": report.performed_station_ae_title,
                "performed_procedure_step_id": report.performed_procedure_step_id,
                "started": report.started,
                "modality": report.modality,
            },
            references=[dict(vars(reference)) for reference in report.references],
            accession_numbers=accession_numbers,
            concerned=list(dict.fromkeys([*accession_numbers, *filter(None, named)])),
            unmatched=unmatched,
            warnings=list(report.warnings),
            received_at=received_at,
            performed=report.performed,
        )

    def change(self, change: StepChange, received_at: str) -> None:
        """Take an N-SET over. Raises `StepFinal` when the step is completed or discontinued."""
        if lifecycle.is_final(self.status):
            raise StepFinal("the performed procedure step may no longer be updated")
        common: dict[str, Any] = {
            "sop_instance_uid": self.sop_instance_uid,
            "attribute_list": change.attribute_list,
            "transfer_syntax": change.transfer_syntax,
            "accession_numbers": self.accession_numbers,
            "concerned": self.concerned,
            "warnings": list(change.warnings),
            "received_at": received_at,
            "performed": change.performed,
        }
        if change.status is StepStatus.COMPLETED:
            self.trigger_event(self.Completed, ended=change.ended, **common)
        elif change.status is StepStatus.DISCONTINUED:
            self.trigger_event(self.Discontinued, ended=change.ended, reason=change.discontinuation_reason, **common)
        else:
            self.trigger_event(self.Updated, **common)

    def finished(self, status: StepStatus, received_at: str) -> None:
        """Take the final status over; called by the events only."""
        self.status = status
        self.ended_at = received_at

    def link(self, accession_number: str, reason: str) -> None:
        """Say for which item it was performed. Raises `IllegalTransition` when that can't be."""
        if accession_number in self.accession_numbers:
            raise IllegalTransition(f"the step is linked to {accession_number} already", field="accession_number")
        if self.status is StepStatus.WITHDRAWN:
            raise IllegalTransition(
                "the step was discontinued as wrong worklist entry: it is no item's", field="sop_instance_uid"
            )
        self.trigger_event(
            self.Linked,
            sop_instance_uid=self.sop_instance_uid,
            accession_number=accession_number,
            accession_numbers=[*self.accession_numbers, accession_number],
            concerned=list(dict.fromkeys([*self.concerned, accession_number])),
            reason=reason,
        )

    def dismiss(self, reason: str) -> None:
        """Say that what no item explains of it is nobody's. Raises `IllegalTransition` when no person is asked."""
        if not self.waits_for_person:
            raise IllegalTransition("no person is asked about this step", field="sop_instance_uid")
        self.trigger_event(
            self.Dismissed, sop_instance_uid=self.sop_instance_uid, concerned=self.concerned, reason=reason
        )
