"""The keys of the Modality Worklist information model (PS3.4 Table K.6-1): one row each, with the source of its values.

Matching (`matching`), answers (`find`) and the conformance statement all read these tables; nothing else knows a tag.
An attribute without `values` is known and returned empty: the worklist holds nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gateway.dicom.data_set import vr_of
from projections.worklist import WorklistRow

Values = tuple[str, ...]
"""The values of an attribute; none is *unknown*."""


class Matching(Enum):
    """How a key is matched (PS3.4 C.2.2.2, K.2.2.1)."""

    NONE = "not matched"
    TEXT = "single value, wildcard"
    NAME = "single value, wildcard; case and accents do not count"
    DATE = "single value, range"
    TIME = "single value, range; with a date range one period"
    UID = "single value, list of UID"
    STATION = "single value, wildcard; an item without a station matches every key"
    STATUS = "single value, wildcard; only some statuses are listed when not asked"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One row of the table. `returned` is the return key type, "" where the table has none."""

    tag: int
    keyword: str
    returned: str
    matching: Matching = Matching.NONE
    values: Callable[[WorklistRow], Values] | None = None

    @property
    def vr(self) -> str:
        """The value representation (PS3.6)."""
        return vr_of(self.tag)

    @property
    def matching_type(self) -> str:
        """R: matching is required; R+: by IHE RAD-5 too; O: it is optional (PS3.4 Table K.6-1)."""
        return "R" if self.tag in _REQUIRED else "R+" if self.tag in _REQUIRED_BY_IHE else "O"


def _one(value: str | None) -> Values:
    return (value,) if value else ()


def _accession_number(row: WorklistRow) -> Values:
    """Also the Requested Procedure ID and the Scheduled Procedure Step ID: one accession number is one step."""
    return _one(row.accession_number)


def _description(row: WorklistRow) -> Values:
    return _one((row.study_description or "")[:64].strip())


def _location(row: WorklistRow) -> Values:
    return _one((row.location or "")[:16].strip())


CODE_VALUE, CODING_SCHEME_DESIGNATOR, CODING_SCHEME_VERSION, CODE_MEANING = (
    0x00080100,
    0x00080102,
    0x00080103,
    0x00080104,
)
SCHEDULED_PROCEDURE_STEP_SEQUENCE = 0x00400100
SCHEDULED_STATION_AE_TITLE = 0x00400001
START_DATE = 0x00400002
START_TIME = 0x00400003
STATUS = 0x00400020

ACCESSION_NUMBER = 0x00080050
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
PATIENT_BIRTH_DATE = 0x00100030
PATIENT_SEX = 0x00100040
STUDY_INSTANCE_UID = 0x0020000D
MODALITY = 0x00080060
PERFORMING_PHYSICIAN = 0x00400006
SCHEDULED_PROCEDURE_STEP_DESCRIPTION = 0x00400007
SCHEDULED_PROCEDURE_STEP_ID = 0x00400009
SCHEDULED_PROCEDURE_STEP_LOCATION = 0x00400011
REQUESTED_PROCEDURE_DESCRIPTION = 0x00321060
REQUESTED_PROCEDURE_ID = 0x00401001

TIMEZONE_OFFSET_FROM_UTC = 0x00080201

_REQUIRED = frozenset(
    {
        SCHEDULED_PROCEDURE_STEP_SEQUENCE,
        SCHEDULED_STATION_AE_TITLE,
        START_DATE,
        START_TIME,
        MODALITY,
        0x00400006,  # Scheduled Performing Physician's Name
        0x00100010,  # Patient's Name
        PATIENT_ID,
    }
)
_REQUIRED_BY_IHE = frozenset({ACCESSION_NUMBER, REQUESTED_PROCEDURE_ID})

QUERY_RETRIEVE_LEVEL = 0x00080052
"""No key of this model; some units send it. Ignored and not returned."""

_M = Matching


def _table(*attributes: Attribute) -> dict[int, Attribute]:
    return {attribute.tag: attribute for attribute in attributes}


STEP = _table(
    Attribute(MODALITY, "Modality", "1", _M.TEXT, lambda row: _one(row.modality)),
    Attribute(0x00321070, "RequestedContrastAgent", "2C"),
    Attribute(
        SCHEDULED_STATION_AE_TITLE, "ScheduledStationAETitle", "1", _M.STATION, lambda row: row.station_ae_titles
    ),
    Attribute(START_DATE, "ScheduledProcedureStepStartDate", "1", _M.DATE, lambda row: _one(row.scheduled_date)),
    Attribute(START_TIME, "ScheduledProcedureStepStartTime", "1", _M.TIME, lambda row: _one(row.scheduled_time)),
    Attribute(
        PERFORMING_PHYSICIAN,
        "ScheduledPerformingPhysicianName",
        "2",
        _M.NAME,
        lambda row: _one(row.performing_physician),
    ),
    Attribute(SCHEDULED_PROCEDURE_STEP_DESCRIPTION, "ScheduledProcedureStepDescription", "1C", _M.TEXT, _description),
    Attribute(0x00400008, "ScheduledProtocolCodeSequence", "1C"),
    Attribute(SCHEDULED_PROCEDURE_STEP_ID, "ScheduledProcedureStepID", "1", _M.TEXT, _accession_number),
    Attribute(0x00400010, "ScheduledStationName", "2"),
    Attribute(SCHEDULED_PROCEDURE_STEP_LOCATION, "ScheduledProcedureStepLocation", "2", _M.TEXT, _location),
    Attribute(0x00400012, "PreMedication", "2C"),
    Attribute(STATUS, "ScheduledProcedureStepStatus", "3", _M.STATUS, lambda row: _one(row.status)),
)
"""The Scheduled Procedure Step module, inside (0040,0100)."""

ROOT = _table(
    Attribute(ACCESSION_NUMBER, "AccessionNumber", "2", _M.TEXT, _accession_number),
    Attribute(0x00080090, "ReferringPhysicianName", "2"),
    Attribute(TIMEZONE_OFFSET_FROM_UTC, "TimezoneOffsetFromUTC", "3"),
    Attribute(0x00081110, "ReferencedStudySequence", "2"),
    Attribute(0x00081120, "ReferencedPatientSequence", "2"),
    Attribute(PATIENT_NAME, "PatientName", "1", _M.NAME, lambda row: _one(row.patient_name)),
    Attribute(PATIENT_ID, "PatientID", "1", _M.TEXT, lambda row: _one(row.patient_id)),
    Attribute(0x00100021, "IssuerOfPatientID", "3"),
    Attribute(PATIENT_BIRTH_DATE, "PatientBirthDate", "2", _M.DATE, lambda row: _one(row.patient_birth_date)),
    Attribute(PATIENT_SEX, "PatientSex", "2", _M.TEXT, lambda row: _one(row.patient_sex)),
    Attribute(0x00101002, "OtherPatientIDsSequence", "3"),
    Attribute(0x00101030, "PatientWeight", "2"),
    Attribute(0x00102000, "MedicalAlerts", "2"),
    Attribute(0x00102110, "Allergies", "2"),
    Attribute(0x001021C0, "PregnancyStatus", "2"),
    Attribute(STUDY_INSTANCE_UID, "StudyInstanceUID", "1", _M.UID, lambda row: _one(row.study_instance_uid)),
    Attribute(0x00321032, "RequestingPhysician", "2"),
    Attribute(REQUESTED_PROCEDURE_DESCRIPTION, "RequestedProcedureDescription", "1C", _M.TEXT, _description),
    Attribute(0x00321064, "RequestedProcedureCodeSequence", "1C"),
    Attribute(0x00380010, "AdmissionID", "2"),
    Attribute(0x00380050, "SpecialNeeds", "2"),
    Attribute(0x00380300, "CurrentPatientLocation", "2"),
    Attribute(0x00380500, "PatientState", "2"),
    Attribute(SCHEDULED_PROCEDURE_STEP_SEQUENCE, "ScheduledProcedureStepSequence", "1"),
    Attribute(REQUESTED_PROCEDURE_ID, "RequestedProcedureID", "1", _M.TEXT, _accession_number),
    Attribute(0x00401003, "RequestedProcedurePriority", "2"),
    Attribute(0x00401004, "PatientTransportArrangements", "2"),
    Attribute(0x00403001, "ConfidentialityConstraintOnPatientDataDescription", "2"),
)
"""The modules of patient, visit, requested procedure and imaging service request."""

CODE_SEQUENCES = frozenset({0x00400008, 0x00321064})
"""Both hold the item's one procedure code."""


def code_of(row: WorklistRow) -> dict[int, str]:
    """The procedure code as a code sequence item (PS3.3 8.8), or {} when it is not complete.

    A unit drops the row, or the whole list, over a code without scheme or meaning.
    """
    meaning = row.procedure_code_meaning or row.study_description
    if not (row.procedure_code and row.procedure_code_scheme and meaning):
        return {}
    if len(row.procedure_code) > 16 or len(row.procedure_code_scheme) > 16:
        return {}
    return {
        CODE_VALUE: row.procedure_code,
        CODING_SCHEME_DESIGNATOR: row.procedure_code_scheme,
        CODE_MEANING: meaning[:64].strip(),
    }
