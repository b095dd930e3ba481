"""Modality Performed Procedure Step (PS3.4 Annex F.7): from the bytes of an N-CREATE or N-SET to what it reports.

Strict with type 1 of the create, for the standard leaves it to us to refuse (PS3.4 5.4); lenient with everything that a
refusal would only make a unit repeat for days: it is taken with a warning, which is kept with the step. The bytes go
into the event as they came; only what decides is decoded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.dicom import character_sets, data_set
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.data_set import DataSet, Element, Undecodable, tag_name
from gateway.dicom.status import (
    INVALID_ATTRIBUTE_VALUE,
    INVALID_OBJECT_INSTANCE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    PROCESSING_FAILURE,
    RequestRefused,
)
from gateway.domain import values
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import Reference, StepChange, StepReport
from gateway.errors import InvalidValue

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"

ACCESSION_NUMBER = 0x00080050
MODALITY = 0x00080060
CODE_VALUE = 0x00080100
PATIENT_NAME = 0x00100010
PATIENT_ID = 0x00100020
STUDY_INSTANCE_UID = 0x0020000D
SCHEDULED_PROCEDURE_STEP_ID = 0x00400009
PERFORMED_STATION_AE_TITLE = 0x00400241
START_DATE = 0x00400244
START_TIME = 0x00400245
END_DATE = 0x00400250
END_TIME = 0x00400251
STATUS = 0x00400252
PERFORMED_PROCEDURE_STEP_ID = 0x00400253
SCHEDULED_STEP_ATTRIBUTES_SEQUENCE = 0x00400270
DISCONTINUATION_REASON_CODE_SEQUENCE = 0x00400281
PERFORMED_SERIES_SEQUENCE = 0x00400340
REQUESTED_PROCEDURE_ID = 0x00401001

CREATE_TYPE_1 = (
    MODALITY,
    PERFORMED_STATION_AE_TITLE,
    START_DATE,
    START_TIME,
    STATUS,
    PERFORMED_PROCEDURE_STEP_ID,
    SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
)
"""Type 1 for the SCU of an N-CREATE (PS3.4 Table F.7.2-1)."""

FINAL_TYPE_1 = (END_DATE, END_TIME, PERFORMED_SERIES_SEQUENCE)
"""To be filled when the step becomes final (same table, last column)."""

SET_NOT_ALLOWED = frozenset(
    {
        MODALITY,
        PATIENT_NAME,
        PATIENT_ID,
        0x00081120,  # Referenced Patient Sequence
        0x00100030,  # Patient's Birth Date
        0x00100040,  # Patient's Sex
        0x00200010,  # Study ID
        PERFORMED_STATION_AE_TITLE,
        0x00400242,  # Performed Station Name
        0x00400243,  # Performed Location
        START_DATE,
        START_TIME,
        PERFORMED_PROCEDURE_STEP_ID,
        SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
    }
)
"""Fixed by the create (same table, column N-SET)."""

_SETTABLE = {status.value: status for status in (StepStatus.IN_PROGRESS, StepStatus.COMPLETED, StepStatus.DISCONTINUED)}
_FINAL = (StepStatus.COMPLETED, StepStatus.DISCONTINUED)


def read_create(sop_instance_uid: str, data: bytes, transfer_syntax: str) -> StepReport:
    """What an N-CREATE reports. Raises `RequestRefused` with the status and its fields (PS3.4 F.7.2.1)."""
    attributes = _Attributes.of(data, transfer_syntax)
    attributes.warn_of_uid(sop_instance_uid)
    _require_type_1(attributes)
    status = attributes.text(STATUS)
    if status != StepStatus.IN_PROGRESS:
        raise _bad_status(attributes, transfer_syntax, "a step is created IN PROGRESS")
    return StepReport(
        sop_instance_uid=sop_instance_uid,
        references=_references(attributes),
        patient_id=attributes.text(PATIENT_ID),
        patient_name=attributes.text(PATIENT_NAME),
        performed_station_ae_title=attributes.text(PERFORMED_STATION_AE_TITLE),
        performed_procedure_step_id=attributes.text(PERFORMED_PROCEDURE_STEP_ID),
        started=attributes.moment(START_DATE, START_TIME),
        modality=attributes.text(MODALITY),
        attribute_list=data,
        transfer_syntax=transfer_syntax,
        warnings=tuple(attributes.warnings),
    )


def read_set(sop_instance_uid: str, data: bytes, transfer_syntax: str) -> StepChange:
    """What an N-SET reports. Raises `RequestRefused` only for a data set or a status that nobody can understand."""
    attributes = _Attributes.of(data, transfer_syntax)
    status = _new_status(attributes, transfer_syntax)
    fixed = sorted(attributes.data_set.keys() & SET_NOT_ALLOWED)
    if fixed:
        attributes.warn(f"ignored, fixed by the create: {_names(fixed)}")
    if status in _FINAL:
        missing = [tag for tag in FINAL_TYPE_1 if not attributes.filled(tag)]
        if missing:
            attributes.warn(f"final without: {_names(missing)}")
    return StepChange(
        sop_instance_uid=sop_instance_uid,
        status=status,
        discontinuation_reason=_discontinuation_reason(attributes),
        ended=attributes.moment(END_DATE, END_TIME),
        attribute_list=data,
        transfer_syntax=transfer_syntax,
        warnings=tuple(attributes.warnings),
    )


def require_uid(sop_instance_uid: str) -> None:
    """Raise `RequestRefused` (0x0117) for an instance that no UID names; leading zeros are left to a warning."""
    if not re.fullmatch(r"[0-9.]{1,64}", sop_instance_uid):
        raise RequestRefused(INVALID_OBJECT_INSTANCE, "the SOP Instance UID is no UID")


def _require_type_1(attributes: _Attributes) -> None:
    """Type 1 of the create; the Scheduled Step Attributes Sequence has its own, more lenient rule."""
    missing = [tag for tag in CREATE_TYPE_1 if tag not in attributes.data_set]
    if missing:
        raise RequestRefused(MISSING_ATTRIBUTE, f"missing: {_names(missing)}", tags=tuple(missing))
    empty = [tag for tag in CREATE_TYPE_1 if not attributes.filled(tag)]
    if empty == [SCHEDULED_STEP_ATTRIBUTES_SEQUENCE] and attributes.filled(PATIENT_ID):
        attributes.warn("the Scheduled Step Attributes Sequence is empty")
    elif empty:
        raise RequestRefused(MISSING_ATTRIBUTE_VALUE, f"empty: {_names(empty)}", tags=tuple(empty))


def _references(attributes: _Attributes) -> tuple[Reference, ...]:
    items = attributes.items(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
    return tuple(reference for item in items if (reference := _reference(item)))


def _reference(item: _Attributes) -> Reference | None:
    """One item. Its Study Instance UID is type 1; an Accession Number will do, since it too finds the appointment."""
    reference = Reference(
        study_instance_uid=item.text(STUDY_INSTANCE_UID),
        accession_number=item.text(ACCESSION_NUMBER),
        scheduled_procedure_step_id=item.text(SCHEDULED_PROCEDURE_STEP_ID),
        requested_procedure_id=item.text(REQUESTED_PROCEDURE_ID),
    )
    if reference.study_instance_uid:
        return reference
    if reference.accession_number:
        item.warn("a scheduled step has no Study Instance UID")
        return reference
    empty = STUDY_INSTANCE_UID in item.data_set
    raise RequestRefused(
        MISSING_ATTRIBUTE_VALUE if empty else MISSING_ATTRIBUTE,
        f"{'empty' if empty else 'missing'}: {tag_name(STUDY_INSTANCE_UID)} of a scheduled step",
        tags=(STUDY_INSTANCE_UID,),
    )


def _new_status(attributes: _Attributes, transfer_syntax: str) -> StepStatus | None:
    """The status an N-SET brings; without one the step goes on (type 3 for the SCU)."""
    text = attributes.text(STATUS)
    if not text:
        if STATUS in attributes.data_set:
            attributes.warn("the status is empty")
        return None
    if text not in _SETTABLE:
        raise _bad_status(attributes, transfer_syntax, "the status is none of IN PROGRESS, COMPLETED, DISCONTINUED")
    return _SETTABLE[text]


def _discontinuation_reason(attributes: _Attributes) -> str | None:
    """The code value (CID 9300)."""
    codes = (item.text(CODE_VALUE) for item in attributes.items(DISCONTINUATION_REASON_CODE_SEQUENCE))
    return next((code for code in codes if code), None)


def _bad_status(attributes: _Attributes, transfer_syntax: str, comment: str) -> RequestRefused:
    element = attributes.data_set[STATUS]
    bad = data_set.encode([Element(STATUS, "CS", element.value)], transfer_syntax)
    return RequestRefused(INVALID_ATTRIBUTE_VALUE, comment, tags=(STATUS,), attribute_list=bad)


def _names(tags: Iterable[int]) -> str:
    return " ".join(tag_name(tag) for tag in tags)


class _Attributes:
    """A decoded attribute list or one of its items, and the warnings about all of it."""

    def __init__(self, elements: DataSet, character_set: CharacterSet, warnings: list[str]) -> None:
        self.data_set = elements
        self.character_set = character_set
        self.warnings = warnings

    @classmethod
    def of(cls, data: bytes, transfer_syntax: str) -> _Attributes:
        try:
            elements = data_set.decode(data, transfer_syntax)
        except Undecodable as error:
            raise RequestRefused(PROCESSING_FAILURE, f"attribute list: {error.message}") from None
        return cls(elements, character_sets.declared(elements), [])

    def warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def warn_of_uid(self, uid: str) -> None:
        if not values.is_uid(uid):
            self.warn("the SOP Instance UID has a component with a leading zero, or an empty one")

    def filled(self, tag: int) -> bool:
        element = self.data_set.get(tag)
        return element is not None and bool(element.items or element.value.strip(b" \0"))

    def text(self, tag: int) -> str:
        """The value without padding. Text outside its declared set is read as ISO_IR 100 rather than lost."""
        element = self.data_set.get(tag)
        if element is None:
            return ""
        value, vr = element.value.rstrip(b"\0"), data_set.vr_of(tag)
        try:
            return self.character_set.decode(value, vr).strip(" ")
        except (UnicodeError, LookupError):
            self.warn(f"{tag_name(tag)} is not in the declared character set")
            return value.decode("latin-1").strip(" ")

    def items(self, tag: int) -> list[_Attributes]:
        element = self.data_set.get(tag)
        found = element.items if element else ()
        return [_Attributes(item, character_sets.declared(item, self.character_set), self.warnings) for item in found]

    def moment(self, date_tag: int, time_tag: int) -> str:
        """Date and time as `YYYYMMDDHHMMSS`, or "" when either can't be read."""
        day, time = self.text(date_tag), self.text(time_tag).partition(".")[0]
        if not (day and time):
            return ""
        try:
            return values.date_of(day, "date") + values.time_of(time.ljust(4, "0"), "time")
        except InvalidValue:
            self.warn(f"{tag_name(date_tag)} or {tag_name(time_tag)} can't be read")
            return ""
