"""What a modality says, encoded once by pynetdicom, and how to read what it is answered: plain bytes both ways."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_ECHO_RQ, C_ECHO_RSP, C_FIND_RQ, C_FIND_RSP, N_CREATE_RQ, N_SET_RQ, N_SET_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, N_CREATE, N_SET
from pynetdicom.dsutils import encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ, A_RELEASE_RP, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind, Verification

from bench.dicom_items import CALLED, DAY, accession_number, numbered, step_uid, study_uid

CALLING = "MAMMO1"
ECHO_CONTEXT, WORKLIST_CONTEXT, STEP_CONTEXT = 1, 3, 5
_SOP_CLASSES = (Verification, ModalityWorklistInformationFind, ModalityPerformedProcedureStep)
_PDU_LENGTH = 16_384
_IMPLEMENTATION = "1.2.826.0.1.3680043.8.498.1"

_PENDING = (0xFF00, 0xFF01)
_P_DATA = 0x04
_COMMAND, _LAST = 0x01, 0x02
"""Bits of a message control header (PS3.8 E.2)."""
_NO_DATA_SET = 0x0101


# --- what is said


def association() -> bytes:
    """An A-ASSOCIATE-RQ for the three services, in Implicit VR Little Endian."""
    request = A_ASSOCIATE_RQ()
    request.from_primitive(_association())
    return bytes(request.encode())


def _association() -> A_ASSOCIATE:
    wanted = A_ASSOCIATE()
    wanted.application_context_name = "1.2.840.10008.3.1.1.1"
    wanted.calling_ae_title, wanted.called_ae_title = CALLING, CALLED
    contexts = []
    for number, sop_class in zip((ECHO_CONTEXT, WORKLIST_CONTEXT, STEP_CONTEXT), _SOP_CLASSES, strict=True):
        context = build_context(sop_class, ImplicitVRLittleEndian)
        context.context_id = number
        contexts.append(context)
    wanted.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = _PDU_LENGTH, _IMPLEMENTATION
    wanted.user_information = [length, implementation]
    return wanted


def release() -> bytes:
    """An A-RELEASE-RQ."""
    return bytes(A_RELEASE_RQ().encode())


def echo() -> bytes:
    """A C-ECHO-RQ."""
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = 1, Verification
    return _message(C_ECHO_RQ(), request, ECHO_CONTEXT)


def find() -> bytes:
    """A C-FIND-RQ by date and modality, with the return keys that a mammography unit asks for."""
    step = Dataset()
    for keyword in (
        "ScheduledStationAETitle",
        "ScheduledProcedureStepStartTime",
        "ScheduledPerformingPhysicianName",
        "ScheduledProcedureStepDescription",
        "ScheduledProcedureStepID",
    ):
        setattr(step, keyword, "")
    step.Modality, step.ScheduledProcedureStepStartDate = "MG", DAY
    identifier = Dataset()
    for keyword in (
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "RequestedProcedureID",
        "RequestedProcedureDescription",
    ):
        setattr(identifier, keyword, "")
    identifier.ScheduledProcedureStepSequence = [step]
    request = C_FIND()
    request.MessageID, request.AffectedSOPClassUID, request.Priority = 1, ModalityWorklistInformationFind, 0
    request.Identifier = _encoded(identifier)
    return _message(C_FIND_RQ(), request, WORKLIST_CONTEXT)


def performed(number: int) -> tuple[bytes, bytes]:
    """The N-CREATE-RQ and the N-SET-RQ (COMPLETED) of a step for the n-th item."""
    created, completed = _PERFORMED
    return numbered(created, number), numbered(completed, number)


def _created() -> bytes:
    reference = Dataset()
    reference.StudyInstanceUID = study_uid(0)
    reference.ReferencedStudySequence = []
    reference.AccessionNumber = reference.ScheduledProcedureStepID = reference.RequestedProcedureID = accession_number(
        0
    )
    reference.RequestedProcedureDescription = reference.ScheduledProcedureStepDescription = "Bilateral Mammography"
    reference.ScheduledProtocolCodeSequence = []
    step = Dataset()
    step.ScheduledStepAttributesSequence = [reference]
    step.PatientID, step.PatientName = "9990000000", f"SMITH^JANE^{accession_number(0)[3:]}"
    step.PatientBirthDate, step.PatientSex = "19650315", "F"
    step.ReferencedPatientSequence = step.PerformedSeriesSequence = step.PerformedProtocolCodeSequence = []
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "PPS1", CALLING
    step.PerformedStationName = step.PerformedLocation = step.StudyID = ""
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = DAY, "100500"
    step.PerformedProcedureStepStatus, step.Modality = "IN PROGRESS", "MG"
    step.PerformedProcedureStepDescription = step.PerformedProcedureTypeDescription = "Bilateral Mammography"
    step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
    step.ProcedureCodeSequence = []
    request = N_CREATE()
    request.MessageID, request.AffectedSOPClassUID = 1, ModalityPerformedProcedureStep
    request.AffectedSOPInstanceUID, request.AttributeList = step_uid(0), _encoded(step)
    return _message(N_CREATE_RQ(), request, STEP_CONTEXT)


def _completed() -> bytes:
    series = Dataset()
    series.SeriesInstanceUID, series.ProtocolName = f"{study_uid(0)}.1", "Screening mammography"
    series.PerformingPhysicianName = series.OperatorsName = series.SeriesDescription = ""
    series.RetrieveAETitle = CALLING
    series.ReferencedImageSequence = series.ReferencedNonImageCompositeSOPInstanceSequence = []
    changes = Dataset()
    changes.PerformedProcedureStepStatus = "COMPLETED"
    changes.PerformedProcedureStepEndDate, changes.PerformedProcedureStepEndTime = DAY, "101500"
    changes.PerformedSeriesSequence = [series]
    request = N_SET()
    request.MessageID, request.RequestedSOPClassUID = 1, ModalityPerformedProcedureStep
    request.RequestedSOPInstanceUID, request.ModificationList = step_uid(0), _encoded(changes)
    return _message(N_SET_RQ(), request, STEP_CONTEXT)


def _encoded(identifier: Dataset) -> BytesIO:
    encoded = encode(identifier, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return BytesIO(encoded)


def _message(message: Any, primitive: Any, context: int) -> bytes:
    message.primitive_to_message(primitive)
    encoded = b""
    for data in message.encode_msg(context, _PDU_LENGTH):
        pdu = P_DATA_TF()
        pdu.from_primitive(data)
        encoded += pdu.encode()
    return encoded


_PERFORMED = (_created(), _completed())


# --- what the floor answers


def accepted() -> bytes:
    """The A-ASSOCIATE-AC to `association()`."""
    accepted = _association()
    accepted.result = 0x00
    contexts = accepted.presentation_context_definition_list
    for context in contexts:
        context.result = 0x00
    accepted.presentation_context_definition_list = []
    accepted.presentation_context_definition_results_list = contexts
    response = A_ASSOCIATE_AC()
    response.from_primitive(accepted)
    return bytes(response.encode())


def released() -> bytes:
    """An A-RELEASE-RP."""
    return bytes(A_RELEASE_RP().encode())


def echoed() -> bytes:
    """The C-ECHO-RSP to `echo()`."""
    response = C_ECHO()
    response.MessageIDBeingRespondedTo, response.AffectedSOPClassUID, response.Status = 1, Verification, 0x0000
    return _message(C_ECHO_RSP(), response, ECHO_CONTEXT)


def changed() -> bytes:
    """The N-SET-RSP to an N-SET-RQ, a success."""
    response = N_SET()
    response.MessageIDBeingRespondedTo, response.AffectedSOPClassUID = 1, ModalityPerformedProcedureStep
    response.AffectedSOPInstanceUID, response.Status = step_uid(0), 0x0000
    return _message(N_SET_RSP(), response, STEP_CONTEXT)


def found(identifiers: Iterable[Dataset]) -> bytes:
    """The C-FIND-RSPs to `find()`: a pending one for each identifier, and success."""
    pending = b"".join(_found(0xFF00, _encoded(identifier)) for identifier in identifiers)
    return pending + _found(0x0000, None)


def _found(status: int, identifier: BytesIO | None) -> bytes:
    response = C_FIND()
    response.MessageIDBeingRespondedTo, response.AffectedSOPClassUID = 1, ModalityWorklistInformationFind
    response.Status, response.Identifier = status, identifier
    return _message(C_FIND_RSP(), response, WORKLIST_CONTEXT)


# --- what is answered


@dataclass(frozen=True, slots=True)
class Answer:
    """All responses to one request: the final status, and the data sets as they are encoded."""

    status: int
    data_sets: tuple[bytes, ...]

    def accession_numbers(self) -> list[str]:
        """Of each data set, in their order; "" where it holds none."""
        return [_value(data_set, 0x0008, 0x0050) for data_set in self.data_sets]


def read_answer(received: bytes | bytearray) -> Answer | None:
    """What was answered, once the final response is there as a whole; None before.

    Raises ValueError when anything but P-DATA-TF comes, or more than the final response.
    """
    command, data_set = b"", b""
    data_sets: list[bytes] = []
    status, is_over = -1, False
    for header, fragment in _fragments(received):
        if is_over:
            raise ValueError("more came after the final response")
        if header & _COMMAND:
            command += fragment
        else:
            data_set += fragment
        if header == _COMMAND | _LAST:
            status, has_data_set = _status(command)
            command = b""
            is_over = status not in _PENDING and not has_data_set
        elif header == _LAST:
            data_sets.append(data_set)
            data_set = b""
            is_over = status not in _PENDING
    return Answer(status, tuple(data_sets)) if is_over else None


def _fragments(received: bytes | bytearray) -> Iterable[tuple[int, bytes]]:
    """Message control header and fragment of each presentation data value in the PDUs that are whole (PS3.8 9.3.5)."""
    at = 0
    while len(received) - at >= 6:
        kind, length = struct.unpack_from(">BxI", received, at)
        if kind != _P_DATA:
            raise ValueError(f"a PDU of type 0x{kind:02X} came in the middle")
        end = at + 6 + length
        if end > len(received):
            return
        value = at + 6
        while value < end:
            (size,) = struct.unpack_from(">I", received, value)
            yield received[value + 5], bytes(received[value + 6 : value + 4 + size])
            value += 4 + size
        at = end


def _status(command: bytes) -> tuple[int, bool]:
    """The status of a response (PS3.7 E.1), and whether a data set follows."""
    status, data_set = (_element(command, 0x0000, element) for element in (0x0900, 0x0800))
    if status is None or data_set is None:
        raise ValueError("the command set of a response lacks its status")
    return struct.unpack("<H", status)[0], struct.unpack("<H", data_set)[0] != _NO_DATA_SET


def _value(data_set: bytes, group: int, element: int) -> str:
    return (_element(data_set, group, element) or b"").decode("ascii").strip()


def _element(data_set: bytes, group: int, element: int) -> bytes | None:
    """The value of an element in Implicit VR Little Endian; none of undefined length may stand before it."""
    at = 0
    while at + 8 <= len(data_set):
        tag_group, tag_element, length = struct.unpack_from("<HHI", data_set, at)
        at += 8
        if (tag_group, tag_element) == (group, element):
            return data_set[at : at + length]
        at += length
    return None
