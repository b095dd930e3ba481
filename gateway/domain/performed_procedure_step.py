"""One performed procedure step (MPPS): what a modality reported, whole, and the items it was performed for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from gateway.domain import lifecycle
from gateway.domain.events import Stream
from gateway.domain.identity import performed_step_id
from gateway.domain.lifecycle import StepStatus
from gateway.errors import GatewayError

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


class PerformedProcedureStep(Stream):
    """An MPPS instance: its status and the accession numbers it was linked to."""

    TOPIC = "PerformedProcedureStep"

    class Event(Stream.Event):
        """Base of the step's events."""

        TOPIC = "PerformedProcedureStep.Event"
        sop_instance_uid: str

    class Started(Event, Stream.Created):
        """N-CREATE. `accession_numbers` are the items it was linked to, `unmatched` why others were not.

        `concerned` holds also the accession numbers it named without being linked to them.
        """

        TOPIC = "PerformedProcedureStep.Started"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("patient", "attribute_list")
        patient: dict[str, str]
        attribute_list: bytes
        transfer_syntax: str
        details: dict[str, str]
        references: list[dict[str, str]]
        accession_numbers: list[str]
        concerned: list[str]
        unmatched: list[str]
        warnings: list[str]
        received_at: str

    class Changed(Event):
        """Base of what N-SET brings."""

        TOPIC = "PerformedProcedureStep.Changed"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("attribute_list",)
        attribute_list: bytes
        transfer_syntax: str
        accession_numbers: list[str]
        concerned: list[str]
        warnings: list[str]
        received_at: str

    class Updated(Changed):
        """N-SET while the step goes on."""

        TOPIC = "PerformedProcedureStep.Updated"

    class Completed(Changed):
        """N-SET COMPLETED."""

        TOPIC = "PerformedProcedureStep.Completed"
        ended: str

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """The step is final."""
            aggregate.status = StepStatus.COMPLETED

    class Discontinued(Changed):
        """N-SET DISCONTINUED."""

        TOPIC = "PerformedProcedureStep.Discontinued"
        ended: str
        reason: str | None

        def apply(self, aggregate: PerformedProcedureStep) -> None:
            """The step is final."""
            wrong = self.reason == WRONG_WORKLIST_ENTRY
            aggregate.status = StepStatus.WITHDRAWN if wrong else StepStatus.DISCONTINUED

    def __init__(self, sop_instance_uid: str, accession_numbers: list[str], concerned: list[str]) -> None:
        self.sop_instance_uid = sop_instance_uid
        self.accession_numbers = accession_numbers
        self.concerned = concerned
        self.status = StepStatus.IN_PROGRESS

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
        }
        if change.status is StepStatus.COMPLETED:
            self.trigger_event(self.Completed, ended=change.ended, **common)
        elif change.status is StepStatus.DISCONTINUED:
            self.trigger_event(self.Discontinued, ended=change.ended, reason=change.discontinuation_reason, **common)
        else:
            self.trigger_event(self.Updated, **common)
