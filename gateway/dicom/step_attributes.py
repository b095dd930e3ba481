"""The attributes of a Modality Performed Procedure Step (PS3.4 Table F.7.2-1): one row each.

The rules (`mpps`), the retrieval (`performed`) and the conformance statement all read this table; nothing else knows
which attribute is of which type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.dicom.data_set import tag_name, vr_of

NOT_ALLOWED = "–"
"""The type of an attribute that this operation may not hold: fixed by the create."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row. `create` and `set` are the types of N-CREATE and N-SET as SCU/SCP, `final` that of a final state.

    `items` are the rows of a sequence's items; their types hold where there is an item. "" is no requirement.
    """

    tag: int
    keyword: str
    create: str
    set: str
    final: str = ""
    items: tuple[Attribute, ...] = ()

    @property
    def vr(self) -> str:
        """The value representation (PS3.6)."""
        return vr_of(self.tag)


SPECIFIC_CHARACTER_SET = 0x00080005
ACCESSION_NUMBER = 0x00080050
MODALITY = 0x00080060
CODE_VALUE = 0x00080100
CODING_SCHEME_DESIGNATOR = 0x00080102
CODE_MEANING = 0x00080104
SERIES_DESCRIPTION = 0x0008103E
PERFORMING_PHYSICIAN_NAME = 0x00081050
OPERATORS_NAME = 0x00081070
REFERENCED_IMAGE_SEQUENCE = 0x00081140
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
PROTOCOL_NAME = 0x00181030
STUDY_INSTANCE_UID = 0x0020000D
SERIES_INSTANCE_UID = 0x0020000E
SCHEDULED_PROCEDURE_STEP_ID = 0x00400009
REFERENCED_NON_IMAGE_SEQUENCE = 0x00400220
PERFORMED_STATION_AE_TITLE = 0x00400241
START_DATE = 0x00400244
START_TIME = 0x00400245
END_DATE = 0x00400250
END_TIME = 0x00400251
STATUS = 0x00400252
PERFORMED_PROCEDURE_STEP_ID = 0x00400253
PERFORMED_PROTOCOL_CODE_SEQUENCE = 0x00400260
SCHEDULED_STEP_ATTRIBUTES_SEQUENCE = 0x00400270
DISCONTINUATION_REASON_CODE_SEQUENCE = 0x00400281
PERFORMED_SERIES_SEQUENCE = 0x00400340
REQUESTED_PROCEDURE_ID = 0x00401001

_SCHEDULED_STEP = (
    Attribute(STUDY_INSTANCE_UID, "StudyInstanceUID", "1/1", NOT_ALLOWED),
    Attribute(0x00081110, "ReferencedStudySequence", "2/2", NOT_ALLOWED),
    Attribute(ACCESSION_NUMBER, "AccessionNumber", "2/2", NOT_ALLOWED),
    Attribute(REQUESTED_PROCEDURE_ID, "RequestedProcedureID", "2/2", NOT_ALLOWED),
    Attribute(0x00321060, "RequestedProcedureDescription", "2/2", NOT_ALLOWED),
    Attribute(SCHEDULED_PROCEDURE_STEP_ID, "ScheduledProcedureStepID", "2/2", NOT_ALLOWED),
    Attribute(0x00400007, "ScheduledProcedureStepDescription", "2/2", NOT_ALLOWED),
    Attribute(0x00400008, "ScheduledProtocolCodeSequence", "2/2", NOT_ALLOWED),
)

_PERFORMED_SERIES = (
    Attribute(PROTOCOL_NAME, "ProtocolName", "1/1", "1/1"),
    Attribute(SERIES_INSTANCE_UID, "SeriesInstanceUID", "1/1", "1/1"),
    Attribute(PERFORMING_PHYSICIAN_NAME, "PerformingPhysicianName", "2/2", "2/2"),
    Attribute(OPERATORS_NAME, "OperatorsName", "2/2", "2/2"),
    Attribute(SERIES_DESCRIPTION, "SeriesDescription", "2/2", "2/2"),
    Attribute(0x00080054, "RetrieveAETitle", "2/2", "2/2"),
    Attribute(REFERENCED_IMAGE_SEQUENCE, "ReferencedImageSequence", "2/2", "2/2"),
    Attribute(REFERENCED_NON_IMAGE_SEQUENCE, "ReferencedNonImageCompositeSOPInstanceSequence", "2/2", "2/2"),
)

TABLE = (
    Attribute(SPECIFIC_CHARACTER_SET, "SpecificCharacterSet", "1C/1C", "1C/1C"),
    Attribute(
        SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
        "ScheduledStepAttributesSequence",
        "1/1",
        NOT_ALLOWED,
        items=_SCHEDULED_STEP,
    ),
    Attribute(PATIENT_NAME, "PatientName", "2/2", NOT_ALLOWED),
    Attribute(PATIENT_ID, "PatientID", "2/2", NOT_ALLOWED),
    Attribute(0x00100030, "PatientBirthDate", "2/2", NOT_ALLOWED),
    Attribute(0x00100040, "PatientSex", "2/2", NOT_ALLOWED),
    Attribute(0x00081120, "ReferencedPatientSequence", "2/2", NOT_ALLOWED),
    Attribute(PERFORMED_PROCEDURE_STEP_ID, "PerformedProcedureStepID", "1/1", NOT_ALLOWED),
    Attribute(PERFORMED_STATION_AE_TITLE, "PerformedStationAETitle", "1/1", NOT_ALLOWED),
    Attribute(0x00400242, "PerformedStationName", "2/2", NOT_ALLOWED),
    Attribute(0x00400243, "PerformedLocation", "2/2", NOT_ALLOWED),
    Attribute(START_DATE, "PerformedProcedureStepStartDate", "1/1", NOT_ALLOWED),
    Attribute(START_TIME, "PerformedProcedureStepStartTime", "1/1", NOT_ALLOWED),
    Attribute(STATUS, "PerformedProcedureStepStatus", "1/1", "3/1", final="1"),
    Attribute(0x00400254, "PerformedProcedureStepDescription", "2/2", "3/2"),
    Attribute(0x00400255, "PerformedProcedureTypeDescription", "2/2", "3/2"),
    Attribute(0x00081032, "ProcedureCodeSequence", "2/2", "3/2"),
    Attribute(END_DATE, "PerformedProcedureStepEndDate", "2/2", "3/1", final="1"),
    Attribute(END_TIME, "PerformedProcedureStepEndTime", "2/2", "3/1", final="1"),
    Attribute(
        DISCONTINUATION_REASON_CODE_SEQUENCE,
        "PerformedProcedureStepDiscontinuationReasonCodeSequence",
        "2/2",
        "3/2",
    ),
    Attribute(MODALITY, "Modality", "1/1", NOT_ALLOWED),
    Attribute(0x00200010, "StudyID", "2/2", NOT_ALLOWED),
    Attribute(PERFORMED_PROTOCOL_CODE_SEQUENCE, "PerformedProtocolCodeSequence", "2/2", "3/2"),
    Attribute(
        PERFORMED_SERIES_SEQUENCE,
        "PerformedSeriesSequence",
        "2/2",
        "3/1",
        final="1",
        items=_PERFORMED_SERIES,
    ),
    Attribute(0x0040030E, "ExposureDoseSequence", "3/3", "3/3"),
    Attribute(0x00400300, "TotalTimeOfFluoroscopy", "3/3", "3/3"),
    Attribute(0x00400301, "TotalNumberOfExposures", "3/3", "3/3"),
    Attribute(0x00400302, "EntranceDose", "3/3", "3/3"),
    Attribute(0x00408302, "EntranceDoseInmGy", "3/3", "3/3"),
    Attribute(0x00400316, "OrganDose", "3/3", "3/3"),
    Attribute(0x0018115E, "ImageAndFluoroscopyAreaDoseProduct", "3/3", "3/3"),
    Attribute(0x00400310, "CommentsOnRadiationDose", "3/3", "3/3"),
)
"""What else a data set holds is of type 3: kept and returned like the rest."""

BY_TAG = {attribute.tag: attribute for attribute in TABLE}

SET_NOT_ALLOWED = frozenset(attribute.tag for attribute in TABLE if attribute.set == NOT_ALLOWED)
"""Fixed by the create: an N-SET does not change them."""

FINAL_TYPE_1 = tuple(attribute.tag for attribute in TABLE if attribute.final == "1" and attribute.tag != STATUS)
"""To be filled when a step is final; the status itself is what makes it so."""

RETURNED_EMPTY = frozenset(attribute.tag for attribute in TABLE if attribute.create[0] in "12")
"""Mandatory in an instance: without a value they are returned at zero length. Others are optional (PS3.4 F.8.2)."""


def of_type(rows: Iterable[Attribute], kind: str, *, setting: bool = False) -> Iterator[int]:
    """The tags that are of this type for the SCU of an N-CREATE, or of an N-SET."""
    return (row.tag for row in rows if (row.set if setting else row.create).partition("/")[0] == kind)


def names(tags: Iterable[int]) -> str:
    """Tags as a warning or an Error Comment has them; never a value."""
    return " ".join(tag_name(tag) for tag in tags)
