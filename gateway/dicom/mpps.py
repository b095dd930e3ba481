"""Modality Performed Procedure Step (PS3.4 Annex F.7): from the bytes of an N-CREATE or N-SET to what it reports.

Strict with type 1 of the create, for the standard leaves it to us to refuse (PS3.4 5.4); lenient with everything that a
refusal would only make a unit repeat for days: it is taken with a warning, which is kept with the step. The bytes go
into the event as they came; only what decides, and what the web app is told, is decoded here. Which attribute is of
which type stands in `step_attributes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from gateway.dicom import data_set, performed
from gateway.dicom.attribute_list import AttributeList
from gateway.dicom.data_set import DataSet, Element, Undecodable
from gateway.dicom.status import (
    INVALID_ATTRIBUTE_VALUE,
    INVALID_OBJECT_INSTANCE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    PROCESSING_FAILURE,
    RequestRefused,
)
from gateway.dicom.step_attributes import (
    ACCESSION_NUMBER,
    BY_TAG,
    CODE_VALUE,
    CODING_SCHEME_DESIGNATOR,
    DISCONTINUATION_REASON_CODE_SEQUENCE,
    END_DATE,
    END_TIME,
    FINAL_TYPE_1,
    MODALITY,
    PATIENT_ID,
    PATIENT_NAME,
    PERFORMED_PROCEDURE_STEP_ID,
    PERFORMED_SERIES_SEQUENCE,
    PERFORMED_STATION_AE_TITLE,
    REQUESTED_PROCEDURE_ID,
    SCHEDULED_PROCEDURE_STEP_ID,
    SCHEDULED_STEP_ATTRIBUTES_SEQUENCE,
    SET_NOT_ALLOWED,
    START_DATE,
    START_TIME,
    STATUS,
    STUDY_INSTANCE_UID,
    TABLE,
    names,
    of_type,
)
from gateway.domain import values
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import WRONG_WORKLIST_ENTRY, Reference, StepChange, StepReport

SOP_CLASS = "1.2.840.10008.3.1.2.3.3"
RETRIEVE_SOP_CLASS = "1.2.840.10008.3.1.2.3.4"

OPERATIONS = {"N-CREATE": SOP_CLASS, "N-SET": SOP_CLASS, "N-GET": RETRIEVE_SOP_CLASS}
"""Each operation and the SOP class that has it (PS3.4 F.7.1, F.8.1). The classes share their instances."""

_MOST_SCHEDULED_STEPS = 100
"""Scheduled steps of one performed step that are looked up; more than any clinic groups."""

_TYPE_1, _TYPE_2 = (tuple(sorted(of_type(TABLE, kind))) for kind in "12")
_STEP_TYPE_2 = tuple(of_type(BY_TAG[SCHEDULED_STEP_ATTRIBUTES_SEQUENCE].items, "2"))
_SERIES_TYPE_1, _SERIES_TYPE_2 = (tuple(of_type(BY_TAG[PERFORMED_SERIES_SEQUENCE].items, kind)) for kind in "12")
"""The attributes of these types for the SCU of an N-CREATE."""

_SETTABLE = {status.value: status for status in (StepStatus.IN_PROGRESS, StepStatus.COMPLETED, StepStatus.DISCONTINUED)}
_FINAL = (StepStatus.COMPLETED, StepStatus.DISCONTINUED)


def read_create(sop_instance_uid: str, data: bytes, transfer_syntax: str) -> StepReport:
    """What an N-CREATE reports. Raises `RequestRefused` with the status and its fields (PS3.4 F.7.2.1)."""
    attributes = _decoded(data, transfer_syntax)
    _require_type_1(attributes)
    if attributes.text(STATUS) != StepStatus.IN_PROGRESS:
        raise _bad_status(attributes, transfer_syntax, "a step is created IN PROGRESS")
    _warn_of_create(sop_instance_uid, attributes)
    told = performed.counts_and_dose(attributes)
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
        warnings=attributes.warnings.told(),
        performed={key: number for key, number in told.items() if number},  # its zeros only mean: not yet
    )


def read_set(
    sop_instance_uid: str, data: bytes, transfer_syntax: str, *, earlier: Callable[[], DataSet] = dict
) -> StepChange:
    """What an N-SET reports. Raises `RequestRefused` only for a data set or a status that nobody can understand.

    `earlier` gives the instance as it was before; it is asked only when a final state lacks something.
    """
    attributes = _decoded(data, transfer_syntax)
    status = _new_status(attributes, transfer_syntax)
    _warn_of_set(attributes)
    before = cache(lambda: AttributeList(earlier(), attributes.character_set, attributes.warnings))
    if status in _FINAL:
        _warn_of_final(attributes, before)
    told = performed.counts_and_dose(attributes)
    return StepChange(
        sop_instance_uid=sop_instance_uid,
        status=status,
        discontinuation_reason=_discontinuation_reason(attributes, before)
        if status is StepStatus.DISCONTINUED
        else None,
        ended=attributes.moment(END_DATE, END_TIME),
        attribute_list=data,
        transfer_syntax=transfer_syntax,
        warnings=attributes.warnings.told(),
        performed=told,
    )


def is_uid(text: str) -> bool:
    """Whether it may be one, leading zeros aside (PS3.5 9.1); what is none may be anything, a name too."""
    return bool(re.fullmatch(r"[0-9.]{1,64}", text))


def require_uid(sop_instance_uid: str) -> None:
    """Raise `RequestRefused` (0x0117) for an instance that no UID names; leading zeros are left to a warning."""
    if not is_uid(sop_instance_uid):
        raise RequestRefused(INVALID_OBJECT_INSTANCE, "the SOP Instance UID is no UID")


# --- what is refused


def _decoded(data: bytes, transfer_syntax: str) -> AttributeList:
    try:
        return AttributeList.of(data, transfer_syntax)
    except Undecodable as error:
        raise RequestRefused(PROCESSING_FAILURE, f"attribute list: {error.message}") from None


def _require_type_1(attributes: AttributeList) -> None:
    """Type 1 of the create, that of the scheduled steps included (PS3.4 Table F.7.2-1)."""
    missing = [tag for tag in _TYPE_1 if tag not in attributes.data_set]
    empty = [tag for tag in _TYPE_1 if tag in attributes.data_set and not attributes.filled(tag)]
    if empty == [SCHEDULED_STEP_ATTRIBUTES_SEQUENCE] and not missing and attributes.filled(PATIENT_ID):
        empty = []  # an unscheduled step, badly put; `_warn_of_create` says so
    nameless = [item for item in attributes.items(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE) if not _names_its_step(item)]
    if any(STUDY_INSTANCE_UID not in item.data_set for item in nameless):
        missing.append(STUDY_INSTANCE_UID)
    elif nameless:
        empty.append(STUDY_INSTANCE_UID)
    if missing:
        raise RequestRefused(MISSING_ATTRIBUTE, f"missing: {names(missing)}", tags=tuple(missing))
    if empty:
        raise RequestRefused(MISSING_ATTRIBUTE_VALUE, f"empty: {names(empty)}", tags=tuple(empty))


def _names_its_step(item: AttributeList) -> bool:
    """Its Study Instance UID is type 1; an Accession Number will do, since it too finds the appointment."""
    return item.filled(STUDY_INSTANCE_UID) or item.filled(ACCESSION_NUMBER)


def _bad_status(attributes: AttributeList, transfer_syntax: str, comment: str) -> RequestRefused:
    element = attributes.data_set[STATUS]
    bad = data_set.encode([Element(STATUS, "CS", element.value)], transfer_syntax)
    return RequestRefused(INVALID_ATTRIBUTE_VALUE, comment, tags=(STATUS,), attribute_list=bad)


# --- what is taken with a warning


def _warn_of_create(sop_instance_uid: str, attributes: AttributeList) -> None:
    warnings = attributes.warnings
    if not values.is_uid(sop_instance_uid):
        warnings.say("the SOP Instance UID has a component with a leading zero, or an empty one")
    if not attributes.filled(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE):
        warnings.say("the Scheduled Step Attributes Sequence is empty")
    steps = attributes.items(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)
    if len(steps) > _MOST_SCHEDULED_STEPS:
        warnings.say(f"only the first {_MOST_SCHEDULED_STEPS} scheduled steps are looked up")
    if not all(item.filled(STUDY_INSTANCE_UID) for item in steps):
        warnings.say("a scheduled step has no Study Instance UID")
    if not attributes.filled(PATIENT_ID):
        warnings.say("the step names no Patient ID")
    if attributes.filled(DISCONTINUATION_REASON_CODE_SEQUENCE):
        warnings.say(f"filled although the step only starts: {names([DISCONTINUATION_REASON_CODE_SEQUENCE])}")
    absent = [tag for tag in _TYPE_2 if tag not in attributes.data_set]
    if absent:
        warnings.say(f"missing (type 2): {names(absent)}")
    absent = [tag for tag in _STEP_TYPE_2 if any(tag not in item.data_set for item in steps)]
    if absent:
        warnings.say(f"missing (type 2) in a scheduled step: {names(absent)}")
    _warn_of_series(attributes)
    attributes.examine()


def _warn_of_set(attributes: AttributeList) -> None:
    warnings = attributes.warnings
    if STATUS in attributes.data_set and not attributes.filled(STATUS):
        warnings.say("the status is empty")
    fixed = sorted(attributes.data_set.keys() & SET_NOT_ALLOWED)
    if fixed:
        warnings.say(f"ignored, fixed by the create: {names(fixed)}")
    _warn_of_series(attributes)
    attributes.examine()


def _warn_of_final(attributes: AttributeList, before: Callable[[], AttributeList]) -> None:
    """A final state needs its end and a series, be it one without an image; an earlier N-SET may have brought them."""
    missing = [tag for tag in FINAL_TYPE_1 if not attributes.filled(tag)]
    missing = [tag for tag in missing if tag in attributes.data_set or not before().filled(tag)]
    if missing:
        attributes.warnings.say(f"final without: {names(missing)}")


def _warn_of_series(attributes: AttributeList) -> None:
    series = attributes.items(PERFORMED_SERIES_SEQUENCE)
    empty = [tag for tag in _SERIES_TYPE_1 if not all(item.filled(tag) for item in series)]
    if empty:
        attributes.warnings.say(f"missing or empty (type 1) in a series: {names(empty)}")
    absent = [tag for tag in _SERIES_TYPE_2 if not all(tag in item.data_set for item in series)]
    if absent:
        attributes.warnings.say(f"missing (type 2) in a series: {names(absent)}")


# --- what is read


def _references(attributes: AttributeList) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            study_instance_uid=item.text(STUDY_INSTANCE_UID),
            accession_number=item.text(ACCESSION_NUMBER),
            scheduled_procedure_step_id=item.text(SCHEDULED_PROCEDURE_STEP_ID),
            requested_procedure_id=item.text(REQUESTED_PROCEDURE_ID),
        )
        for item in attributes.items(SCHEDULED_STEP_ATTRIBUTES_SEQUENCE)[:_MOST_SCHEDULED_STEPS]
    )


def _new_status(attributes: AttributeList, transfer_syntax: str) -> StepStatus | None:
    """The status an N-SET brings; without one the step goes on (type 3 for the SCU)."""
    text = attributes.text(STATUS)
    if not text:
        return None
    if text not in _SETTABLE:
        raise _bad_status(attributes, transfer_syntax, "the status is none of IN PROGRESS, COMPLETED, DISCONTINUED")
    return _SETTABLE[text]


def _discontinuation_reason(attributes: AttributeList, before: Callable[[], AttributeList]) -> str | None:
    """The code value (CID 9300), with its scheme where that is not DCM's, of this N-SET or else of an earlier message.

    A wrong worklist entry counts wherever it stands among several reasons.
    """
    tag = DISCONTINUATION_REASON_CODE_SEQUENCE
    source = attributes if tag in attributes.data_set else before()
    codes = [_code(item) for item in source.items(tag) if item.filled(CODE_VALUE)]
    return WRONG_WORKLIST_ENTRY if WRONG_WORKLIST_ENTRY in codes else next(iter(codes), None)


def _code(item: AttributeList) -> str:
    value, scheme = item.text(CODE_VALUE), item.text(CODING_SCHEME_DESIGNATOR)
    return value if scheme in ("", "DCM") else f"{value} ({scheme})"
