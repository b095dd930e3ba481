"""A simulated mammography unit: C-ECHO, worklist C-FIND, and an examination reported by MPPS, over real associations.

It behaves as a careful unit does (IHE RAD-5, RAD-6, RAD-7): it copies what the worklist gave it into the performed
step, fills every type 1 and 2 attribute, and reports what it performed: protocol, operator, one series of four views
and their dose.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    Verification,
)

from gateway.errors import GatewayError
from gateway.rehearsal.requestor import associate

# as in gateway.dicom: what pynetdicom logs of identifiers and handlers names patients
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
_config.LOG_HANDLER_LEVEL = "none"
config.settings.reading_validation_mode = config.IGNORE  # pydicom's warnings quote the value
config.settings.writing_validation_mode = config.IGNORE

_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)
_MAMMOGRAM = "1.2.840.10008.5.1.4.1.1.1.2"
"""Digital Mammography X-Ray Image Storage – For Presentation."""
_VIEWS = ("R CC", "L CC", "R MLO", "L MLO")
_PROTOCOL = ("24623002", "Screening mammography")
"""Of SNOMED CT."""
_OPERATOR = "RADIOGRAPHER^DEMO"
_UNSPECIFIED = ("110513", "Discontinued for unspecified reason")
_WRONG_ENTRY = ("110514", "Incorrect worklist entry selected")


class ModalityError(GatewayError):
    """The simulated unit did not get what it asked for."""

    code = "modality"


class Unreachable(ModalityError):
    """Nobody accepts connections at this host and port."""

    code = "unreachable"


class AssociationRejected(ModalityError):
    """The provider rejected the association; `result`, `source` and `reason` are its words (PS3.8 9.3.4)."""

    code = "association_rejected"

    def __init__(self, *, result: str, source: str, reason: str) -> None:
        super().__init__(
            f"association rejected: {reason} ({result}, {source})",
            remedy="check the called and the calling AE title",
        )
        self.result = result
        self.source = source
        self.reason = reason


class AssociationLost(ModalityError):
    """The provider aborted, fell silent, or closed the connection."""

    code = "association_lost"


class RequestFailed(ModalityError):
    """The provider answered with a status that is no success."""

    code = "request_failed"

    def __init__(self, operation: str, status: int, comment: str = "") -> None:
        super().__init__(f"{operation} failed with status 0x{status:04X}{f': {comment}' if comment else ''}")
        self.operation = operation
        self.status = status
        self.comment = comment


class NotOnWorklist(ModalityError):
    """The worklist that this unit sees has no such item."""

    code = "not_on_worklist"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistEntry:
    """One line of the worklist as this unit shows it."""

    accession_number: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    scheduled_date: str
    scheduled_time: str
    modality: str
    station_ae_title: str
    description: str
    location: str
    performing_physician: str
    status: str
    study_instance_uid: str
    requested_procedure_id: str
    scheduled_procedure_step_id: str
    requested_procedure_description: str


@dataclass(frozen=True, slots=True)
class Examination:
    """One performed procedure step: its UID, its item, and how far it is (`IN PROGRESS` …)."""

    sop_instance_uid: str
    entry: WorklistEntry
    status: str
    images: int = 0


class Modality:
    """A mammography unit that knows one worklist provider. Each operation has an association of its own.

    Every method raises `Unreachable`, `AssociationRejected`, `AssociationLost` or `RequestFailed`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        called_ae_title: str,
        calling_ae_title: str = "MAMMO1",
        *,
        timeout: float = 10.0,
    ) -> None:
        self.host = host
        self.port = port
        self.called_ae_title = called_ae_title
        self.calling_ae_title = calling_ae_title
        self.timeout = timeout

    def echo(self) -> None:
        """C-ECHO."""
        with self._association(Verification) as association:
            _require_success("C-ECHO", association.send_c_echo())

    def find(
        self,
        *,
        modality: str = "",
        date: str = "",
        accession_number: str = "",
        patient_name: str = "",
        patient_id: str = "",
        station: str = "",
        status: str = "",
    ) -> list[WorklistEntry]:
        """C-FIND of the worklist. Keys are DICOM's: `date` may be a range, names may hold `*` and `?`."""
        query = _query()
        query.AccessionNumber = accession_number
        query.PatientName = patient_name
        query.PatientID = patient_id
        step = query.ScheduledProcedureStepSequence[0]
        step.Modality = modality
        step.ScheduledProcedureStepStartDate = date
        step.ScheduledStationAETitle = station
        step.ScheduledProcedureStepStatus = status
        with self._association(ModalityWorklistInformationFind) as association:
            return list(_entries(association.send_c_find(query, ModalityWorklistInformationFind)))

    def accession_numbers(self, date: str) -> list[str]:
        """The accession numbers alone of what is scheduled on a date: who it is for is not asked."""
        query, step = Dataset(), Dataset()
        query.AccessionNumber = ""
        step.ScheduledProcedureStepStartDate = date
        query.ScheduledProcedureStepSequence = [step]
        with self._association(ModalityWorklistInformationFind) as association:
            responses = association.send_c_find(query, ModalityWorklistInformationFind)
            return [str(identifier.AccessionNumber) for identifier in _identifiers(responses)]

    def perform(
        self,
        item: WorklistEntry | str,
        *,
        discontinue: bool = False,
        wrong_entry: bool = False,
        on_step: Callable[[Examination], None] | None = None,
    ) -> Examination:
        """Examine somebody: start the step, then complete it, or discontinue it (`wrong_entry`: as 110514).

        `item` is a worklist entry or an accession number to look up. `on_step` is called after each answer.
        Raises `NotOnWorklist` when there is nothing to look up.
        """
        examination = self.start(self._entry(item) if isinstance(item, str) else item)
        if on_step:
            on_step(examination)
        finished = self.finish(examination, discontinue=discontinue or wrong_entry, wrong_entry=wrong_entry)
        if on_step:
            on_step(finished)
        return finished

    def start(self, entry: WorklistEntry) -> Examination:
        """N-CREATE: the step is in progress."""
        examination = Examination(_new_uid(), entry, "IN PROGRESS")
        with self._association(ModalityPerformedProcedureStep) as association:
            status, _ = association.send_n_create(
                _created(entry, self.calling_ae_title), ModalityPerformedProcedureStep, examination.sop_instance_uid
            )
        _require_success("N-CREATE", status)
        return examination

    def finish(self, examination: Examination, *, discontinue: bool = False, wrong_entry: bool = False) -> Examination:
        """N-SET: the step is completed, or discontinued."""
        finished = replace(
            examination,
            status="DISCONTINUED" if discontinue else "COMPLETED",
            images=0 if discontinue else len(_VIEWS),
        )
        with self._association(ModalityPerformedProcedureStep) as association:
            status, _ = association.send_n_set(
                _finished(finished, wrong_entry=wrong_entry),
                ModalityPerformedProcedureStep,
                examination.sop_instance_uid,
            )
        _require_success("N-SET", status)
        return finished

    def _entry(self, accession_number: str) -> WorklistEntry:
        found = self.find(accession_number=accession_number)
        if not found:
            raise NotOnWorklist(
                f"accession number {accession_number} is not on the worklist of {self.calling_ae_title}",
                remedy="it may be for another day, finished, cancelled, or a test item",
            )
        return found[0]

    @contextmanager
    def _association(self, sop_class: str) -> Iterator[Any]:
        """An established association that offers the SOP class, released at the end."""
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)  # what fails is raised, with what to do
        entity = AE(ae_title=self.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = self.timeout
        entity.add_requested_context(sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
        connected: list[bool] = []
        began = time.monotonic()
        rejections: list[A_ASSOCIATE_RJ] = []
        association = associate(
            entity,
            self.host,
            self.port,
            ae_title=self.called_ae_title,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _connected, [connected]),
                (evt.EVT_PDU_RECV, _received, [rejections]),
            ],
        )
        for rejection in rejections:
            raise AssociationRejected(
                result=rejection.result_str, source=rejection.source_str, reason=rejection.reason_str
            )
        self._require_established(association, connected=bool(connected), seconds=time.monotonic() - began)
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def _require_established(
        self,
        association: Any,  # noqa: ANN401  pynetdicom is untyped
        *,
        connected: bool,
        seconds: float,
    ) -> None:
        if association.is_established:
            return
        if not connected:
            raise Unreachable(
                f"nobody accepts connections at {self.host}, port {self.port}",
                remedy="check host, port and firewall, and that the gateway runs",
            )
        if association.rejected_contexts:
            raise AssociationLost("the provider does not offer this service", remedy="check the port")
        if seconds >= self.timeout:
            raise AssociationLost(
                f"{self.host}, port {self.port}, takes the connection and says nothing within {self.timeout:g} s",
                remedy="does the gateway's process run, or does it hang? A restart of the service helps",
            )
        raise AssociationLost(
            f"{self.host}, port {self.port}, answers, but not as a DICOM provider", remedy="check the port"
        )


def _connected(event: Any, connected: list[bool]) -> None:  # noqa: ANN401
    connected.append(True)
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _received(event: Any, rejections: list[A_ASSOCIATE_RJ]) -> None:  # noqa: ANN401
    """Keep a rejection as it comes: pynetdicom's threads may lose one that comes at once."""
    if isinstance(event.pdu, A_ASSOCIATE_RJ):
        rejections.append(event.pdu)


def _require_success(operation: str, status: Dataset) -> None:
    if "Status" not in status:
        raise AssociationLost(f"no answer to {operation}", remedy="see the gateway's log")
    if status.Status != _SUCCESS:
        raise RequestFailed(operation, int(status.Status), str(status.get("ErrorComment", "")))


def _entries(responses: Any) -> Iterator[WorklistEntry]:  # noqa: ANN401
    return map(_entry_of, _identifiers(responses))


def _identifiers(responses: Any) -> Iterator[Dataset]:  # noqa: ANN401
    for status, identifier in responses:
        if identifier is not None and status.get("Status") in _PENDING:
            yield identifier
        else:
            _require_success("C-FIND", status)


def _entry_of(identifier: Dataset) -> WorklistEntry:
    step = identifier.ScheduledProcedureStepSequence[0]
    return WorklistEntry(
        accession_number=_text(identifier, "AccessionNumber"),
        patient_id=_text(identifier, "PatientID"),
        patient_name=_text(identifier, "PatientName"),
        patient_birth_date=_text(identifier, "PatientBirthDate"),
        patient_sex=_text(identifier, "PatientSex"),
        scheduled_date=_text(step, "ScheduledProcedureStepStartDate"),
        scheduled_time=_text(step, "ScheduledProcedureStepStartTime"),
        modality=_text(step, "Modality"),
        station_ae_title=_text(step, "ScheduledStationAETitle"),
        description=_text(step, "ScheduledProcedureStepDescription"),
        location=_text(step, "ScheduledProcedureStepLocation"),
        performing_physician=_text(step, "ScheduledPerformingPhysicianName"),
        status=_text(step, "ScheduledProcedureStepStatus"),
        study_instance_uid=_text(identifier, "StudyInstanceUID"),
        requested_procedure_id=_text(identifier, "RequestedProcedureID"),
        scheduled_procedure_step_id=_text(step, "ScheduledProcedureStepID"),
        requested_procedure_description=_text(identifier, "RequestedProcedureDescription"),
    )


def _text(data_set: Dataset, keyword: str) -> str:
    return str(data_set.get(keyword) or "")


def _query() -> Dataset:
    """The return keys of a broad worklist query (IHE RAD-5)."""
    query = Dataset()
    query.SpecificCharacterSet = "ISO_IR 192"
    for keyword in (
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(query, keyword, "")
    step = Dataset()
    for keyword in (
        "ScheduledProcedureStepStartTime",
        "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepID",
        "ScheduledProcedureStepLocation",
    ):
        setattr(step, keyword, "")
    query.ScheduledProcedureStepSequence = [step]
    return query


def _created(entry: WorklistEntry, station_ae_title: str) -> Dataset:
    """The attribute list of the N-CREATE: all of type 1 and 2 (PS3.4 Table F.7.2-1)."""
    now = datetime.now().astimezone()
    attributes = Dataset()
    attributes.SpecificCharacterSet = "ISO_IR 192"
    attributes.ScheduledStepAttributesSequence = [_scheduled_step(entry)]
    attributes.PatientName = entry.patient_name
    attributes.PatientID = entry.patient_id
    attributes.PatientBirthDate = entry.patient_birth_date
    attributes.PatientSex = entry.patient_sex
    attributes.ReferencedPatientSequence = []
    attributes.PerformedProcedureStepID = entry.scheduled_procedure_step_id
    attributes.PerformedStationAETitle = station_ae_title
    attributes.PerformedStationName = "MAMMOGRAPHY"
    attributes.PerformedLocation = ""
    attributes.PerformedProcedureStepStartDate = now.strftime("%Y%m%d")
    attributes.PerformedProcedureStepStartTime = now.strftime("%H%M%S")
    attributes.PerformedProcedureStepStatus = "IN PROGRESS"
    attributes.PerformedProcedureStepDescription = entry.description
    attributes.PerformedProcedureTypeDescription = ""
    attributes.ProcedureCodeSequence = []
    attributes.PerformedProcedureStepEndDate = ""
    attributes.PerformedProcedureStepEndTime = ""
    attributes.PerformedProcedureStepDiscontinuationReasonCodeSequence = []
    attributes.Modality = entry.modality
    attributes.StudyID = entry.requested_procedure_id
    attributes.PerformedProtocolCodeSequence = []
    attributes.PerformedSeriesSequence = []
    return attributes


def _scheduled_step(entry: WorklistEntry) -> Dataset:
    step = Dataset()
    step.StudyInstanceUID = entry.study_instance_uid
    step.ReferencedStudySequence = []
    step.AccessionNumber = entry.accession_number
    step.RequestedProcedureID = entry.requested_procedure_id
    step.RequestedProcedureDescription = entry.requested_procedure_description
    step.ScheduledProcedureStepID = entry.scheduled_procedure_step_id
    step.ScheduledProcedureStepDescription = entry.description
    step.ScheduledProtocolCodeSequence = []
    return step


def _finished(examination: Examination, *, wrong_entry: bool) -> Dataset:
    """The modification list of the final N-SET, with what a final state requires."""
    now = datetime.now().astimezone()
    changes = Dataset()
    changes.PerformedProcedureStepStatus = examination.status
    changes.PerformedProcedureStepEndDate = now.strftime("%Y%m%d")
    changes.PerformedProcedureStepEndTime = now.strftime("%H%M%S")
    changes.PerformedProtocolCodeSequence = [_code(*_PROTOCOL, scheme="SCT")]
    changes.PerformedSeriesSequence = [_series(examination.images)]
    if examination.status == "DISCONTINUED":
        reason = _code(*(_WRONG_ENTRY if wrong_entry else _UNSPECIFIED), scheme="DCM")
        changes.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    else:
        changes.TotalNumberOfExposures = examination.images
        changes.EntranceDoseInmGy = "5.8"
        changes.OrganDose = "0.0187"
        changes.HalfValueLayer = "0.54"
        changes.ExposureDoseSequence = [_exposure() for _ in range(examination.images)]
    return changes


def _series(images: int) -> Dataset:
    series = Dataset()
    series.PerformingPhysicianName = ""
    series.ProtocolName = "Screening mammography"
    series.OperatorsName = _OPERATOR
    series.SeriesInstanceUID = _new_uid()
    series.SeriesDescription = ", ".join(_VIEWS[:images])
    series.RetrieveAETitle = ""
    series.ReferencedImageSequence = [_image() for _ in range(images)]
    series.ReferencedNonImageCompositeSOPInstanceSequence = []
    return series


def _image() -> Dataset:
    image = Dataset()
    image.ReferencedSOPClassUID = _MAMMOGRAM
    image.ReferencedSOPInstanceUID = _new_uid()
    return image


def _exposure() -> Dataset:
    """A plausible exposure of one view."""
    exposure = Dataset()
    exposure.RadiationMode = "PULSED"
    exposure.KVP = "29"
    exposure.ExposureTime = "900"
    return exposure


def _code(value: str, meaning: str, *, scheme: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = meaning
    return code


def _new_uid() -> str:
    return f"2.25.{uuid4().int}"
