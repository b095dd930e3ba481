"""A modality's data set without what identifies a person: other names and ids inside the same encoding.

What identifies is what `gateway.dicom.readable` masks. All else stays as it is, but for the encoding's own freedoms:
order of elements, defined and undefined lengths, group lengths.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.dicom import character_sets, data_set
from gateway.dicom.attribute_list import ONE_VALUE, text_of
from gateway.dicom.character_sets import ASCII, CharacterSet
from gateway.dicom.data_set import DataSet, Element, Undecodable
from gateway.dicom.readable import identifies
from gateway.dicom.step_attributes import PATIENT_ID
from gateway.domain.pseudonyms import Pseudonyms, shape_of

_OTHER_PATIENT_IDS = 0x00101000
_TEXTS = frozenset({"AE", "AS", "CS", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UR", "UT"})
_OF_THE_STANDARD = "1.2.840.10008."
"""How UIDs begin that name a class or a syntax, not an instance."""


def redacted(
    data: bytes, transfer_syntax: str, pseudonyms: Pseudonyms, without_persons: Callable[[str], str] = str
) -> bytes:
    """The data set with pseudonyms; as many zeros where the bytes are no data set.

    `without_persons` makes of a description what may stay of it.
    """
    try:
        elements = data_set.decode(data, transfer_syntax)
        return data_set.encode(
            _Redaction(pseudonyms, without_persons).items(elements, ASCII, hidden=False).values(), transfer_syntax
        )
    except Undecodable:
        return bytes(len(data))


class _Redaction:
    def __init__(self, pseudonyms: Pseudonyms, without_persons: Callable[[str], str]) -> None:
        self._pseudonyms = pseudonyms
        self._without_persons = without_persons

    def items(self, elements: DataSet, inherited: CharacterSet, *, hidden: bool) -> DataSet:
        character_set = character_sets.declared(elements, inherited)
        return {tag: self._element(element, character_set, hidden=hidden) for tag, element in elements.items()}

    def _element(self, element: Element, character_set: CharacterSet, *, hidden: bool) -> Element:
        if element.tag == character_sets.SPECIFIC_CHARACTER_SET:
            return element
        hidden = hidden or identifies(element)
        if element.vr == "SQ":
            items = tuple(self.items(item, character_set, hidden=hidden) for item in element.items)
            return Element(element.tag, "SQ", items=items)
        if hidden:
            return Element(element.tag, element.vr, self._value(element, character_set))
        return self._description(element, character_set) if element.vr == "LO" else element

    def _description(self, element: Element, character_set: CharacterSet) -> Element:
        text, _ = text_of(element, character_set, element.vr)
        told = self._without_persons(text)
        return element if told == text else Element(element.tag, "LO", _encoded(told, character_set, "LO"))

    def _value(self, element: Element, character_set: CharacterSet) -> bytes:
        replace = self._replacement(element)
        if replace is None:
            return bytes(len(element.value))
        text, _ = text_of(element, character_set, element.vr)
        parts = [text] if element.vr in ONE_VALUE else text.split("\\")
        return _encoded("\\".join(map(replace, parts)), character_set, element.vr)

    def _replacement(self, element: Element) -> Callable[[str], str] | None:
        """What makes another text of a value; None where the value is no text."""
        if element.tag in (PATIENT_ID, _OTHER_PATIENT_IDS):
            return self._pseudonyms.patient_id
        if element.vr == "PN":
            return self._pseudonyms.name
        if element.vr == "DA":
            return self._pseudonyms.birth_date
        if element.vr == "UI":
            return self._uid
        return shape_of if element.vr in _TEXTS else None

    def _uid(self, value: str) -> str:
        return value if value.startswith(_OF_THE_STANDARD) else self._pseudonyms.uid(value)


def _encoded(text: str, character_set: CharacterSet, vr: str) -> bytes:
    """In its set; signs that the set has not become `X`."""
    try:
        return character_set.encode(text, vr)
    except UnicodeEncodeError:
        return "".join(sign if sign.isascii() else "X" for sign in text).encode("ascii")
