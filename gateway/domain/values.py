"""Values with DICOM's limits (PS3.5 6.2). Each function returns the value as we keep it or raises `InvalidValue`.

Messages name the rule and never repeat the value: values identify people.
"""

from __future__ import annotations

import re
from datetime import date, time

import nhs_number

from gateway.errors import InvalidValue

_CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}")
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
_PN_GROUPS = 3
_PN_COMPONENTS = 5


def accession_number(value: str) -> str:
    """Accession Number: SH, 1 to 16 characters."""
    return _text(value, "accession_number", vr="SH", limit=16)


def patient_id(value: str) -> str:
    """Patient ID: LO, 1 to 64 characters; here the NHS number, or a local id."""
    return _text(value, "patient_id", vr="LO", limit=64)


def patient_id_warning(value: str) -> str | None:
    """What is odd about this Patient ID as an NHS number, or None: a warning, never a refusal."""
    if not re.fullmatch(r"[0-9]{10}", value):
        return "the patient id is not ten digits"
    if not nhs_number.is_valid(value):
        return "the patient id has a wrong NHS number check digit"
    return None


def person_name(value: str, field: str = "patient_name") -> str:
    """Person Name: up to three groups of 64 characters, five components each (PS3.5 6.2.1)."""
    text = value.strip(" ")
    if not text.strip("^= "):
        raise InvalidValue(f"{field}: must not be empty", field=field)
    _forbid_control(text, field)
    groups = text.split("=")
    if len(groups) > _PN_GROUPS:
        raise InvalidValue(f"{field}: at most three groups (DICOM PN)", field=field)
    for group in groups:
        if len(group) > 64:
            raise InvalidValue(f"{field}: at most 64 characters in a group (DICOM PN)", field=field)
        if group.count("^") >= _PN_COMPONENTS:
            raise InvalidValue(f"{field}: at most five components (DICOM PN)", field=field)
    return text


def date_of(value: str, field: str) -> str:
    """A date `YYYYMMDD` that exists (DICOM DA)."""
    if not re.fullmatch(r"[0-9]{8}", value):
        raise InvalidValue(f"{field}: must be YYYYMMDD (DICOM DA)", field=field)
    try:
        date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        raise InvalidValue(f"{field}: there is no such date", field=field) from None
    return value


def time_of(value: str, field: str) -> str:
    """A time `HHMM` or `HHMMSS`, kept as `HHMMSS` (DICOM TM)."""
    if not re.fullmatch(r"[0-9]{4}([0-9]{2})?", value):
        raise InvalidValue(f"{field}: must be HHMM or HHMMSS (DICOM TM)", field=field)
    text = value.ljust(6, "0")
    try:
        time(int(text[:2]), int(text[2:4]), int(text[4:]))
    except ValueError:
        raise InvalidValue(f"{field}: there is no such time", field=field) from None
    return text


def sex(value: str) -> str:
    """Patient's Sex: M, F or O."""
    text = value.strip(" ").upper()
    if text not in ("M", "F", "O"):
        raise InvalidValue("patient_sex: must be M, F or O", field="patient_sex")
    return text


def code_string(value: str, field: str) -> str:
    """A Code String: up to 16 of A–Z, 0–9, space and underscore; lower case is raised (DICOM CS)."""
    text = value.strip(" ").upper()
    if not _CODE_STRING.fullmatch(text):
        raise InvalidValue(f"{field}: 1 to 16 of A-Z, 0-9, space and underscore (DICOM CS)", field=field)
    return text


def short_string(value: str, field: str) -> str:
    """SH, 1 to 16 characters."""
    return _text(value, field, vr="SH", limit=16)


def long_string(value: str, field: str) -> str:
    """LO, 1 to 64 characters."""
    return _text(value, field, vr="LO", limit=64)


def ae_title(value: str, field: str = "scheduled_station_ae_title") -> str:
    """An application entity title: 1 to 16 printable ASCII characters (DICOM AE)."""
    text = _text(value, field, vr="AE", limit=16)
    if not text.isascii():
        raise InvalidValue(f"{field}: ASCII only (DICOM AE)", field=field)
    return text


def is_uid(value: str) -> bool:
    """Whether this is a UID: up to 64 digits and dots, no leading zeros (PS3.5 9.1)."""
    return len(value) <= 64 and bool(_UID.fullmatch(value))


def _text(value: str, field: str, *, vr: str, limit: int) -> str:
    text = value.strip(" ")
    if not text:
        raise InvalidValue(f"{field}: must not be empty", field=field)
    if len(text) > limit:
        raise InvalidValue(f"{field}: at most {limit} characters (DICOM {vr})", field=field)
    _forbid_control(text, field)
    return text


def _forbid_control(text: str, field: str) -> None:
    if "\\" in text or any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise InvalidValue(f"{field}: no backslash and no control characters (DICOM)", field=field)
