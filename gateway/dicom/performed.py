"""A performed procedure step as its data sets tell it: counts and dose, the instance they amount to, its retrieval.

What the web app is told (`StepReport.performed`, `StepChange.performed`), only where a data set holds it:

    key                          number   from
    series_count                 integer  items of Performed Series Sequence (0040,0340)
    image_count                  integer  items of Referenced Image Sequence (0008,1140), over all series
    non_image_count              integer  items of Referenced Non-Image Composite SOP Instance Sequence (0040,0220)
    exposure_count               integer  Total Number of Exposures (0040,0301)
    fluoroscopy_seconds          integer  Total Time of Fluoroscopy (0040,0300)
    entrance_dose_mgy            number   Entrance Dose in mGy (0040,8302), else 100 × Entrance Dose (0040,0302), in dGy
    organ_dose_mgy               number   100 × Organ Dose (0040,0316), in dGy
    area_dose_product_dgycm2     number   Image and Fluoroscopy Area Dose Product (0018,115E), in dGy·cm²

Units are those of PS3.3 C.4.16. A number that can't be read is left out, and named in the step's warnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gateway.dicom import character_sets, data_set
from gateway.dicom.attribute_list import AttributeList, text_of
from gateway.dicom.character_sets import ASCII, UTF_8, CharacterSet
from gateway.dicom.data_set import DataSet, Element
from gateway.dicom.step_attributes import (
    PERFORMED_SERIES_SEQUENCE,
    REFERENCED_IMAGE_SEQUENCE,
    REFERENCED_NON_IMAGE_SEQUENCE,
    RETURNED_EMPTY,
    SET_NOT_ALLOWED,
    SPECIFIC_CHARACTER_SET,
)

_MGY_IN_A_DGY = 100
_FIRST_GROUP = 0x0008
"""Groups below it are those of commands and file meta information, no part of a data set (PS3.5 7.1)."""


# --- counts and dose


def counts_and_dose(attributes: AttributeList) -> dict[str, int | float]:
    """What this data set says about counts and dose; the table above."""
    series = attributes.items(PERFORMED_SERIES_SEQUENCE) if PERFORMED_SERIES_SEQUENCE in attributes.data_set else None
    entrance = attributes.number(0x00408302)
    if entrance is None:
        entrance = _in_mgy(attributes.number(0x00400302))
    told: dict[str, int | float | None] = {
        "series_count": None if series is None else len(series),
        "image_count": _count(series, REFERENCED_IMAGE_SEQUENCE),
        "non_image_count": _count(series, REFERENCED_NON_IMAGE_SEQUENCE),
        "exposure_count": _whole(attributes.number(0x00400301)),
        "fluoroscopy_seconds": _whole(attributes.number(0x00400300)),
        "entrance_dose_mgy": entrance,
        "organ_dose_mgy": _in_mgy(attributes.number(0x00400316)),
        "area_dose_product_dgycm2": attributes.number(0x0018115E),
    }
    return {key: number for key, number in told.items() if number is not None}


def _count(series: list[AttributeList] | None, sequence: int) -> int | None:
    """The items of a sequence over all series; None without series, for they replace earlier ones as a whole."""
    return None if series is None else sum(len(item.items(sequence)) for item in series)


def _in_mgy(dgy: float | None) -> float | None:
    return None if dgy is None else round(dgy * _MGY_IN_A_DGY, 6)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


# --- the instance


@dataclass(frozen=True, slots=True)
class Held:
    """An element and the character set that its data set declared."""

    element: Element
    character_set: CharacterSet


def instance(data_sets: Sequence[tuple[bytes, str]]) -> dict[int, Held]:
    """The instance's attributes: those of the create, each replaced as a whole by what later N-SETs brought.

    `data_sets` are pairs of bytes and transfer syntax, the N-CREATE first. Raises `Undecodable`.
    """
    held: dict[int, Held] = {}
    for number, (data, transfer_syntax) in enumerate(data_sets):
        elements = data_set.decode(data, transfer_syntax)
        declared = character_sets.declared(elements)
        for tag, element in elements.items():
            fixed = number > 0 and tag in SET_NOT_ALLOWED
            if not fixed and tag != SPECIFIC_CHARACTER_SET and tag >> 16 >= _FIRST_GROUP:
                held[tag] = Held(element, declared)
    return held


def in_one_set(held: Iterable[Held]) -> tuple[list[Element], CharacterSet]:
    """The elements with their text in one character set, which is not among them.

    Text stays as it came where all of it is in the set it declares and all declare the same; else it is UTF-8.
    """
    held = list(held)
    used = {use for one in held for use in _sets_used(one.element, one.character_set)}
    if not used:
        return [one.element for one in held], ASCII
    if len(used) == 1 and (common := next(iter(used))) is not None:
        return [one.element for one in held], common
    return [in_utf_8(one.element, one.character_set) for one in held], UTF_8


def _sets_used(element: Element, character_set: CharacterSet) -> Iterator[CharacterSet | None]:
    """The sets of all text that is not plain ASCII; None for text that is not in the set it declares."""
    for item in element.items:
        governing = character_sets.declared(item, character_set)
        for nested in item.values():
            yield from _sets_used(nested, governing)
    if character_sets.governs(element.vr) and not (element.value.isascii() and b"\x1b" not in element.value):
        yield character_set if text_of(element, character_set, element.vr)[1] else None


def in_utf_8(element: Element, character_set: CharacterSet) -> Element:
    """The element with its text in UTF-8, that of its items too."""
    if element.items:
        items = tuple(_item_in_utf_8(item, character_sets.declared(item, character_set)) for item in element.items)
        return element._replace(items=items)
    if not character_sets.governs(element.vr):
        return element
    return element._replace(value=text_of(element, character_set, element.vr)[0].encode("utf-8"))


def _item_in_utf_8(item: DataSet, character_set: CharacterSet) -> DataSet:
    return {tag: in_utf_8(e, character_set) for tag, e in item.items() if tag != SPECIFIC_CHARACTER_SET}


# --- retrieval (PS3.4 F.8.2)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answer to an N-GET: the encoded attributes, and the requested ones that this instance does not hold."""

    attribute_list: bytes
    not_held: tuple[int, ...]


def retrieve(data_sets: Sequence[tuple[bytes, str]], requested: Sequence[int], transfer_syntax: str) -> Retrieved:
    """The requested attributes of an instance, or all of them without a request; sequences whole.

    What every instance has (types 1 and 2) comes back at zero length where the unit never said it.
    Raises `Undecodable`.
    """
    held = instance(data_sets)
    wanted = [*dict.fromkeys(tag for tag in requested if tag != SPECIFIC_CHARACTER_SET)] if requested else [*held]
    elements, character_set = in_one_set(held[tag] for tag in wanted if tag in held)
    elements += [Element(tag, data_set.vr_of(tag)) for tag in wanted if tag not in held and tag in RETURNED_EMPTY]
    if character_set.values:
        elements.append(Element(SPECIFIC_CHARACTER_SET, "CS", "\\".join(character_set.values).encode("ascii")))
    not_held = tuple(tag for tag in wanted if tag not in held and tag not in RETURNED_EMPTY)
    return Retrieved(data_set.encode(elements, transfer_syntax), not_held)


# --- repeats


def differences(first: tuple[bytes, str], second: tuple[bytes, str]) -> tuple[int, ...]:
    """The attributes in which two data sets differ: by their text and numbers, not by how they are encoded.

    Raises `Undecodable`.
    """
    one, other = (instance([encoded]) for encoded in (first, second))
    return tuple(sorted(tag for tag in one.keys() | other.keys() if _content(one.get(tag)) != _content(other.get(tag))))


def _content(held: Held | None) -> object:
    if held is None:
        return None
    element, character_set = held.element, held.character_set
    if element.items:
        return [
            {
                tag: _content(Held(nested, character_sets.declared(item, character_set)))
                for tag, nested in item.items()
                if tag != SPECIFIC_CHARACTER_SET
            }
            for item in element.items
        ]
    if data_set.vr_of(element.tag) in _BYTES:
        return element.value
    return text_of(element, character_set, data_set.vr_of(element.tag))[0]


_BYTES = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "US", "SS", "UL", "SL", "FL", "FD", "AT", "UV", "SV"})
