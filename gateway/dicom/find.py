"""Modality Worklist C-FIND (PS3.4 K.4): from the bytes of an identifier to the responses, without a network.

One response per scheduled procedure step, with exactly the requested keys: nested ones too, a zero-length sequence as
a whole, what we do not hold at zero length. Every response is 0xFF00: with each optional key returned, if only empty,
none is unsupported for existence. Private elements are nobody's optional keys: they are left out (PS3.5 7.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from enum import Enum

from gateway.dicom.character_sets import UTF_8, CharacterSet
from gateway.dicom.identifier import Identifier
from gateway.dicom.prepared import Form, PreparedItem
from gateway.dicom.profiles import DEFAULT, Profile
from gateway.dicom.status import CANCELLED, OUT_OF_RESOURCES, PENDING, SUCCESS
from projections.worklist import WorklistRow


class Writing(Enum):
    """How the text of an item fared on its way into what the asker can read."""

    WHOLE = "each character as it is"
    TRANSLITERATED = "into the letters of the asker's character set"
    BEYOND = "in ISO_IR 192, which the asker may not read: nothing else has the characters"


@dataclass(frozen=True, slots=True)
class FindResponse:
    """One C-FIND response. `identifier` is encoded in the transfer syntax of the request; only pending ones have it.

    `accession_number` is that of the item which a pending response is about; `is_cut` says of the final one that the
    caller's answer limit left items out.
    """

    status: int
    identifier: bytes | None = None
    error_comment: str = ""
    offending_elements: tuple[int, ...] = ()
    accession_number: str = ""
    writing: Writing = Writing.WHOLE
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One item as it is sent: the encoded identifier and what became of its text."""

    identifier: bytes
    writing: Writing = Writing.WHOLE


def answerable(row: WorklistRow) -> bool:
    """Whether the item has all its type 1 values; without a Study Instance UID a unit would invent one."""
    return all((row.study_instance_uid, row.patient_id, row.patient_name, row.scheduled_date, row.scheduled_time))


def responses(
    found: Iterable[FindResponse], *, profile: Profile, is_cancelled: Callable[[], bool]
) -> Iterator[FindResponse]:
    """The pending responses that were found and the final one; a C-CANCEL is looked for before each (PS3.7 9.1.2.1.7).

    `profile` is the caller's; of more responses than it takes, the last are cut.
    """
    for number, response in enumerate(found):
        if is_cancelled():
            break
        if number == profile.answer_limit:
            yield _cut(profile)
            return
        yield response
    yield FindResponse(CANCELLED if is_cancelled() else SUCCESS)


def _cut(profile: Profile) -> FindResponse:
    """The end of a list that was cut, as the profile wants it: there is no status for *more exist*."""
    if profile.limit_status == "success":
        return FindResponse(SUCCESS, is_cut=True)
    comment = f"more items match: {profile.answer_limit} shown, narrow the query"
    return FindResponse(OUT_OF_RESOURCES, None, comment, is_cut=True)


def pending(item: PreparedItem, form: Form) -> FindResponse:
    """The response about one item."""
    found = filled(form, item)
    return FindResponse(PENDING, found.identifier, accession_number=item.row.accession_number, writing=found.writing)


def answer(
    row: WorklistRow,
    identifier: Identifier,
    transfer_syntax: str,
    *,
    profile: Profile = DEFAULT,
    zone: tzinfo | None = None,
) -> Answer:
    """One item as the answer to a query; `profile` is the caller's, `zone` the site's."""
    return filled(Form.of(identifier, transfer_syntax, profile), PreparedItem(row, zone))


def filled(form: Form, item: PreparedItem) -> Answer:
    """What a form wants of an item, in the plainest character set that the asker reads and that holds its text."""
    for written, character_set, writing in _writings(item, form):
        try:
            return Answer(written.joined(form, character_set), writing)
        except UnicodeEncodeError:
            continue
    raise AssertionError("UTF-8 holds every text")


def _writings(item: PreparedItem, form: Form) -> Iterator[tuple[PreparedItem, CharacterSet, Writing]]:
    """The ways to write an item, best first."""
    own = form.character_sets
    for character_set in own:
        yield item, character_set, Writing.WHOLE
    if form.reads_utf8:
        yield item, UTF_8, Writing.WHOLE
    fitted = item.fitted(own[-1])
    for character_set in own:
        yield fitted, character_set, Writing.TRANSLITERATED
    yield item, UTF_8, Writing.BEYOND
