"""Data sets of a performed procedure step for people and programs: the DICOM JSON model (PS3.18 Annex F), and rows.

Whatever was stored can be shown: a value that its VR does not allow comes as text or as bytes, and only bytes that are
no data set at all raise `Undecodable`. With a mask, names and the Patient ID are passed through it, and whatever else
identifies a person, or might, is hidden.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydicom import config
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import Tag

from gateway.dicom import character_sets, data_set, performed
from gateway.dicom.attribute_list import ONE_VALUE, AttributeList, Warnings
from gateway.dicom.character_sets import ASCII
from gateway.dicom.data_set import Element, tag_name
from gateway.dicom.step_attributes import (
    CODE_MEANING,
    CODE_VALUE,
    CODING_SCHEME_DESIGNATOR,
    DISCONTINUATION_REASON_CODE_SEQUENCE,
    END_DATE,
    END_TIME,
    OPERATORS_NAME,
    PATIENT_ID,
    PERFORMED_PROTOCOL_CODE_SEQUENCE,
    PERFORMED_SERIES_SEQUENCE,
    PERFORMED_STATION_AE_TITLE,
    PERFORMING_PHYSICIAN_NAME,
    PROTOCOL_NAME,
    REFERENCED_IMAGE_SEQUENCE,
    REFERENCED_NON_IMAGE_SEQUENCE,
    SERIES_DESCRIPTION,
    SERIES_INSTANCE_UID,
    START_DATE,
    START_TIME,
    STATUS,
)

config.settings.reading_validation_mode = config.IGNORE  # pydicom's warnings quote the value

Mask = Callable[[str, str], str]
"""From the VR and the text of a name or an id to what may be shown of it."""

Model = dict[str, Any]
"""A data set in the DICOM JSON model: attributes by their tag as eight hexadecimal digits."""

Rows = list[tuple[str, str]]

_PATIENT_GROUP = 0x0010
_OPEN = frozenset({0x00100040})
"""Patient's Sex: of the patient, but no identity."""
_ADMISSION_ID = 0x00380010
_IDENTIFYING_VRS = frozenset({"PN", "LT", "ST", "UT", "UC", "UN"})
"""Names, and what may hold one: free text and what nobody knows to read."""
_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV", "AT"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_HIDDEN = "•••"

_DOSE = {
    "exposure_count": "{} exposures",
    "fluoroscopy_seconds": "{} s of fluoroscopy",
    "entrance_dose_mgy": "entrance dose {} mGy",
    "organ_dose_mgy": "organ dose {} mGy",
    "area_dose_product_dgycm2": "area dose product {} dGy·cm²",
}

DISCONTINUATION_REASONS = {
    "110500": "Doctor canceled procedure",
    "110501": "Equipment failure",
    "110502": "Incorrect procedure ordered",
    "110503": "Patient allergic to media/contrast",
    "110504": "Patient died",
    "110505": "Patient refused to continue procedure",
    "110506": "Patient taken for treatment or surgery",
    "110507": "Patient did not arrive",
    "110508": "Patient pregnant",
    "110509": "Change of procedure for correct charging",
    "110510": "Duplicate order",
    "110511": "Nursing unit cancel",
    "110512": "Incorrect side ordered",
    "110513": "Discontinued for unspecified reason",
    "110514": "Incorrect worklist entry selected",
    "110515": "Patient condition prevented continuing",
    "110516": "Equipment change",
}
"""Procedure discontinuation reasons of scheme DCM that concern an examination (PS3.16 CID 9300)."""


def model(data_sets: Sequence[tuple[bytes, str]], mask: Mask | None = None) -> Model:
    """One data set, or the instance that several amount to, in the DICOM JSON model. Raises `Undecodable`."""
    held = performed.instance(data_sets).values()
    return _model((performed.in_utf_8(one.element, one.character_set) for one in held), mask, hidden=False)


def step(data_sets: Sequence[tuple[bytes, str]], mask: Mask | None = None) -> Rows:
    """What a performed step says of itself, as labels and texts. Raises `Undecodable`."""
    told = model(data_sets, mask)
    elements = {tag: one.element for tag, one in performed.instance(data_sets).items()}
    numbers = performed.counts_and_dose(AttributeList(elements, ASCII, Warnings()))
    dose = ", ".join(_DOSE[key].format(number) for key, number in numbers.items() if key in _DOSE)
    rows = [
        ("status", _text(told, STATUS)),
        ("station", _text(told, PERFORMED_STATION_AE_TITLE)),
        ("started", f"{_text(told, START_DATE)} {_text(told, START_TIME)}".strip()),
        ("ended", f"{_text(told, END_DATE)} {_text(told, END_TIME)}".strip()),
        *((f"series {n}", _series(item)) for n, item in enumerate(_items(told, PERFORMED_SERIES_SEQUENCE), 1)),
        ("dose", dose),
        *(("protocol", _code(item)) for item in _items(told, PERFORMED_PROTOCOL_CODE_SEQUENCE)),
        *(("discontinued", _reason(item)) for item in _items(told, DISCONTINUATION_REASON_CODE_SEQUENCE)),
    ]
    return [(label, text) for label, text in rows if text]


def tree(told: Model, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every attribute of a model, items indented: keyword (or tag) and value."""
    indent = "  " * depth
    for tag, attribute in told.items():
        name = keyword_for_tag(tag) or tag_name(int(tag, 16))
        if attribute["vr"] != "SQ":
            yield indent + name, _shown(attribute)
            continue
        items = attribute.get("Value", [])
        yield indent + name, f"{len(items)} item{'' if len(items) == 1 else 's'}"
        for number, item in enumerate(items, 1):
            yield f"{indent}  item {number}", ""
            yield from tree(item, depth + 2)


# --- the model


def _model(elements: Iterable[Element], mask: Mask | None, *, hidden: bool) -> Model:
    ordered = sorted(elements, key=lambda element: element.tag)
    return {f"{element.tag:08X}": _attribute(element, mask, hidden=hidden) for element in ordered}


def _attribute(element: Element, mask: Mask | None, *, hidden: bool) -> dict[str, Any]:
    hidden = hidden or identifies(element)
    if element.vr == "SQ":
        items = [_model(item.values(), mask, hidden=hidden) for item in element.items]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    padding = b"" if element.vr in _NUMBERS | _BYTES else b" \0"
    if not element.value.strip(padding):
        return {"vr": element.vr}
    if mask and hidden:
        return {"vr": element.vr, "Value": [_masked(element, mask)]}
    if character_sets.governs(element.vr):
        return _of_text(element)
    if element.vr not in _NUMBERS | _BYTES and not (element.value.isascii() and b"\x1b" not in element.value):
        return _as_it_came(element)  # pydicom would try it as text of other VRs, and replace what does not fit
    try:
        attribute = _by_pydicom(element)
    except Exception:  # noqa: BLE001  whatever pydicom makes of a malformed value, it is shown as it came
        return _as_it_came(element)
    finite = all(not isinstance(one, float) or math.isfinite(one) for one in attribute.get("Value", []))
    return attribute if finite else _as_it_came(element)


def identifies(element: Element) -> bool:
    """Whether its value, or what is in its items, may identify a person."""
    return (
        (element.tag >> 16 == _PATIENT_GROUP and element.tag not in _OPEN)
        or element.tag == _ADMISSION_ID
        or element.vr in _IDENTIFYING_VRS
        or data_set.is_private(element.tag)
    )


def _masked(element: Element, mask: Mask) -> Any:  # noqa: ANN401  a text, or the object that a name is
    if element.vr == "PN":
        return {"Alphabetic": mask("PN", _decoded(element))}
    return mask(element.vr, _decoded(element)) if element.tag == PATIENT_ID else _HIDDEN


def _of_text(element: Element) -> dict[str, Any]:
    """Text in UTF-8; pydicom would look for escape sequences in it."""
    text = _decoded(element)
    values = [text] if element.vr in ONE_VALUE else [part.strip(" ") for part in text.split("\\")]
    if element.vr == "PN":
        groups = (value.split("=", 2) for value in values)
        return {"vr": "PN", "Value": [dict(zip(_NAME_GROUPS, group, strict=False)) for group in groups]}
    return {"vr": element.vr, "Value": [value or None for value in values]}


def _by_pydicom(element: Element) -> dict[str, Any]:
    raw = RawDataElement(Tag(element.tag), element.vr, len(element.value), element.value, 0, False, True)
    attribute: dict[str, Any] = convert_raw_data_element(raw, encoding=["utf8"]).to_json_dict(None, 0)
    return attribute


def _as_it_came(element: Element) -> dict[str, Any]:
    if element.vr in _BYTES or element.vr in _NUMBERS:
        return {"vr": element.vr, "InlineBinary": base64.b64encode(element.value).decode("ascii")}
    return {"vr": element.vr, "Value": _decoded(element).split("\\")}


def _decoded(element: Element) -> str:
    try:
        return element.value.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:  # a VR that no character set governs
        return element.value.decode("latin-1").strip(" \0")


# --- the rows


def _items(told: Model, tag: int) -> list[Model]:
    attribute = told.get(f"{tag:08X}", {})
    return attribute.get("Value", []) if attribute.get("vr") == "SQ" else []


def _text(told: Model, tag: int) -> str:
    attribute = told.get(f"{tag:08X}")
    return _shown(attribute) if attribute and attribute["vr"] != "SQ" else ""


def _shown(attribute: dict[str, Any]) -> str:
    if "InlineBinary" in attribute:
        return f"{len(base64.b64decode(attribute['InlineBinary']))} bytes"
    return "\\".join(_one(value) for value in attribute.get("Value", []))


def _one(value: Any) -> str:  # noqa: ANN401  what the model has for any VR
    if isinstance(value, dict):
        return "=".join(str(value.get(group) or "") for group in _NAME_GROUPS).rstrip("=")
    return "" if value is None else str(value)


def _series(item: Model) -> str:
    images = len(_items(item, REFERENCED_IMAGE_SEQUENCE))
    others = len(_items(item, REFERENCED_NON_IMAGE_SEQUENCE))
    parts = [
        _text(item, PROTOCOL_NAME),
        _text(item, SERIES_DESCRIPTION),
        f"{images} image{'' if images == 1 else 's'}",
        f"{others} other objects" if others else "",
        _labelled("operators", _text(item, OPERATORS_NAME)),
        _labelled("physician", _text(item, PERFORMING_PHYSICIAN_NAME)),
        _labelled("UID", _text(item, SERIES_INSTANCE_UID)),
    ]
    return " · ".join(part for part in parts if part)


def _labelled(label: str, text: str) -> str:
    return f"{label} {text}" if text else ""


def _code(item: Model, meaning: str = "") -> str:
    scheme = _text(item, CODING_SCHEME_DESIGNATOR)
    parts = (_text(item, CODE_VALUE), f"({scheme})" if scheme else "", meaning or _text(item, CODE_MEANING))
    return " ".join(part for part in parts if part)


def _reason(item: Model) -> str:
    known = _text(item, CODING_SCHEME_DESIGNATOR) in ("DCM", "")
    return _code(item, DISCONTINUATION_REASONS.get(_text(item, CODE_VALUE), "") if known else "")
