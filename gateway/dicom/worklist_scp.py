"""Modality Worklist (PS3.4 Annex K) as a provider: the bytes of a C-FIND in, responses out, logged and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from itertools import takewhile
from typing import Protocol

from pydicom.datadict import keyword_for_tag

from gateway.dicom import character_sets, find, identifier, matching
from gateway.dicom.caller import Caller, comment, failed
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.find import FindResponse, Writing
from gateway.dicom.identifier import Identifier
from gateway.dicom.profiles import Profile, Profiles
from gateway.dicom.record import LONGEST_IDENTIFIER, MOST_NUMBERS, Query, QueryRecord, now
from gateway.dicom.status import OUT_OF_RESOURCES, PENDING, SUCCESS, UNABLE_TO_PROCESS, RequestRefused
from gateway.errors import TooMuchAsked
from gateway.log import get_logger
from projections.worklist import WorklistFilter, WorklistRow

_log = get_logger(__name__)

_NAMED = 20
"""At most so many items are named in one line of the log."""

_WRITING_EVENTS = {Writing.TRANSLITERATED: "answer_transliterated", Writing.BEYOND: "answer_beyond_character_set"}


class Worklist(Protocol):
    """What is needed of `gateway.application.Gateway` to answer queries."""

    def worklist(self, wanted: WorklistFilter) -> Iterator[WorklistRow]:
        """Worklist items by date, time and accession number, read while they are taken. Raises `TooMuchAsked`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistScp:
    """Answers queries. `listed_statuses`, `test_ae_titles`, `profiles`, `zone` and `record` as of `Responder`."""

    application: Worklist
    listed_statuses: tuple[str, ...]
    test_ae_titles: frozenset[str]
    profiles: Profiles
    zone: tzinfo | None
    record: QueryRecord | None

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        """The responses to a C-FIND, the last one final. `data` is the identifier as received."""
        began = time.perf_counter()
        asked: Identifier | None = None
        answered: list[str] = []
        last = FindResponse(SUCCESS)
        try:
            profile = self.profiles.of(caller.ae_title)
            asked = identifier.read(data, transfer_syntax, CharacterSet.of(profile.character_set))
            for response in self._find(caller, profile, asked, transfer_syntax, is_cancelled):
                if response.status == PENDING:
                    answered.append(response.accession_number)
                last = response
                yield response
        except RequestRefused as refused:
            last = FindResponse(refused.status, None, comment(refused.comment), refused.tags)
            yield last
        except TooMuchAsked as error:
            last = FindResponse(OUT_OF_RESOURCES, None, comment(error.message))
            yield last
        except Exception as error:  # noqa: BLE001  whatever fails, the modality gets an answer
            failed("query", caller, error)
            last = FindResponse(UNABLE_TO_PROCESS, None, "the worklist can't be read now")
            yield last
        finally:
            self._answered(caller, data, transfer_syntax, asked, answered, last, began)

    def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:  # noqa: ARG002  to be refined
        """As of `Responder`."""
        return False

    def _answered(
        self,
        caller: Caller,
        data: bytes | None,
        transfer_syntax: str,
        asked: Identifier | None,
        accession_numbers: Sequence[str],
        last: FindResponse,
        began: float,
    ) -> None:
        """Log and record a query that is over."""
        keys = tuple(keyword_for_tag(key.tag) for key in asked.matched()) if asked else ()
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        _log.info(
            "query_answered",
            **caller.logged(),
            status=f"0x{last.status:04X}",
            answers=len(accession_numbers),
            keys=list(keys),
            **_reason(last.error_comment),
            milliseconds=milliseconds,
        )
        if self.record:
            self.record.add(
                Query(
                    at=now(),
                    calling_ae_title=caller.ae_title,
                    called_ae_title=caller.called_ae_title,
                    address=caller.address,
                    keys=keys,
                    identifier=data or b"" if len(data or b"") <= LONGEST_IDENTIFIER else None,
                    transfer_syntax=transfer_syntax,
                    status=last.status,
                    error_comment=last.error_comment,
                    answers=len(accession_numbers),
                    accession_numbers=tuple(accession_numbers[:MOST_NUMBERS]),
                    milliseconds=milliseconds,
                )
            )

    def _find(
        self,
        caller: Caller,
        profile: Profile,
        asked: Identifier,
        transfer_syntax: str,
        is_cancelled: Callable[[], bool],
    ) -> Iterator[FindResponse]:
        plan = matching.plan(
            asked,
            listed_statuses=self.listed_statuses,
            test_items=caller.ae_title in self.test_ae_titles,
            profile=profile,
        )
        rows = self.application.worklist(plan.wanted)
        lost: list[str] = []
        responses = find.responses(
            _answerable(filter(plan.matches, takewhile(lambda _: not is_cancelled(), rows)), lost),
            asked,
            transfer_syntax,
            profile=profile,
            is_cancelled=is_cancelled,
            zone=self.zone,
        )
        yield from _noting(responses, caller, asked)
        if lost:
            _log.warning("items_incomplete", accession_numbers=lost)


def _answerable(rows: Iterable[WorklistRow], lost: list[str]) -> Iterator[WorklistRow]:
    for row in rows:
        if find.answerable(row):
            yield row
        elif len(lost) < _NAMED and not row.is_erased:
            lost.append(row.accession_number)


def _noting(responses: Iterable[FindResponse], caller: Caller, asked: Identifier) -> Iterator[FindResponse]:
    """The responses; it is logged whose text is not as it is stored or may not be readable, and that a list was cut."""
    unlike: dict[Writing, list[str]] = {Writing.TRANSLITERATED: [], Writing.BEYOND: []}
    try:
        for response in responses:
            if response.writing in unlike:
                unlike[response.writing].append(response.accession_number)
            if response.is_cut:
                _log.warning("answers_cut", **caller.logged(), reason="answer_limit of its profile")
            yield response
    finally:
        character_set = str(character_sets.sets_of(asked.character_set)[-1]) or "ISO_IR 6"
        for writing, numbers in unlike.items():
            if numbers:
                event = _WRITING_EVENTS[writing]
                _log.warning(
                    event,
                    **caller.logged(),
                    items=len(numbers),
                    accession_numbers=numbers[:_NAMED],
                    character_set=character_set,
                )


def _reason(comment: str) -> dict[str, str]:
    return {"reason": comment} if comment else {}
