"""Modality Worklist C-FIND (PS3.4 K.4): from the bytes of an identifier to the responses, without a network.

One response per scheduled procedure step, with exactly the requested keys: nested ones too, a zero-length sequence as
a whole, what we do not hold at zero length. Every response is 0xFF00: with each optional key returned, if only empty,
none is unsupported for existence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gateway.dicom import character_sets, data_set, keys
from gateway.dicom.data_set import DataSet, Element
from gateway.dicom.identifier import Identifier, Key
from gateway.dicom.status import CANCELLED, PENDING, SUCCESS
from projections.worklist import WorklistRow

_LIMITS = {"AE": 16, "CS": 16, "SH": 16, "LO": 64, "DA": 8, "TM": 14, "UI": 64}
_PN_GROUP_LIMIT = 64
_WHOLE_STEP = tuple(Key(tag, attribute.vr, attribute) for tag, attribute in keys.STEP.items())


@dataclass(frozen=True, slots=True)
class FindResponse:
    """One C-FIND response. `identifier` is encoded in the transfer syntax of the request; only pending ones have it."""

    status: int
    identifier: bytes | None = None
    error_comment: str = ""
    offending_elements: tuple[int, ...] = ()


def answerable(row: WorklistRow) -> bool:
    """Whether the item has all its type 1 values; without a Study Instance UID a unit would invent one."""
    return all((row.study_instance_uid, row.patient_id, row.patient_name, row.scheduled_date, row.scheduled_time))


def responses(
    rows: Iterable[WorklistRow],
    identifier: Identifier,
    transfer_syntax: str,
    *,
    caller_ae_title: str,
    is_cancelled: Callable[[], bool],
) -> Iterator[FindResponse]:
    """Pending responses and the final one; a C-CANCEL is looked for before each (PS3.7 9.1.2.1.7)."""
    station = _station(identifier, caller_ae_title)
    for row in rows:
        if is_cancelled():
            yield FindResponse(CANCELLED)
            return
        yield FindResponse(PENDING, answer(row, identifier, transfer_syntax, station=station))
    yield FindResponse(SUCCESS)


def answer(row: WorklistRow, identifier: Identifier, transfer_syntax: str, *, station: str) -> bytes:
    """The identifier of one response, in the first character set that holds all of its text."""
    for name, codec in character_sets.answers(identifier.character_set):
        try:
            elements = _Answer(row, codec, station).elements(identifier.keys)
        except UnicodeEncodeError:
            continue
        if name:
            tag = character_sets.SPECIFIC_CHARACTER_SET
            elements[tag] = Element(tag, "CS", name.encode("ascii"))
        return data_set.encode(elements.values(), transfer_syntax)
    raise AssertionError("UTF-8 holds every text")


def _station(identifier: Identifier, caller_ae_title: str) -> str:
    """What an item without a station answers: the title asked for, or the caller's own (design §3.15)."""
    asked = next((key.text for key in identifier.step if key.tag == keys.SCHEDULED_STATION_AE_TITLE), "")
    return caller_ae_title if not asked or any(c in asked for c in "*?\\") or len(asked) > _LIMITS["AE"] else asked


class _Answer:
    """Renders one row in one character set."""

    def __init__(self, row: WorklistRow, codec: str, station: str) -> None:
        self.row = row
        self.codec = codec
        self.station = station

    def elements(self, asked: Iterable[Key]) -> DataSet:
        found = (self._element(key) for key in asked)
        return {element.tag: element for element in found if element}

    def _element(self, key: Key) -> Element | None:
        if key.vr == "SQ":
            return Element(key.tag, "SQ", items=self._items(key))
        values = self._values(key)
        return Element(key.tag, key.vr, "\\".join(values).encode(self.codec))

    def _values(self, key: Key) -> keys.Values:
        values = key.attribute.values(self.row) if key.attribute and key.attribute.values else ()
        if not values and key.tag == keys.SCHEDULED_STATION_AE_TITLE:
            values = (self.station,)
        return tuple(value for value in values if _fits(value, key.vr))

    def _items(self, key: Key) -> tuple[DataSet, ...]:
        if key.tag == keys.SCHEDULED_PROCEDURE_STEP_SEQUENCE:
            return (self.elements(key.keys or _WHOLE_STEP),)
        if key.tag in keys.CODE_SEQUENCES:
            return self._code(key)
        return ()

    def _code(self, key: Key) -> tuple[DataSet, ...]:
        """The procedure code as far as it was asked for; an incomplete code is none (PS3.3 8.8)."""
        asked = {nested.tag for nested in key.keys} or keys.code_of(self.row).keys()
        code = {tag: text for tag, text in keys.code_of(self.row).items() if tag in asked}
        elements = {tag: Element(tag, data_set.vr_of(tag), text.encode(self.codec)) for tag, text in code.items()}
        return (elements,) if elements else ()


def _fits(value: str, vr: str) -> bool:
    """Whether a strict unit takes the value (PS3.5 6.2); what does not fit is better unknown than refused."""
    if vr == "PN":
        return all(len(group) <= _PN_GROUP_LIMIT for group in value.split("="))
    return len(value) <= _LIMITS.get(vr, len(value))
