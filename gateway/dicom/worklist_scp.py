"""Modality Worklist (PS3.4 Annex K) as a provider: the bytes of a C-FIND in, responses out, logged and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pydicom.datadict import keyword_for_tag

from gateway.dicom import find, identifier, matching
from gateway.dicom.caller import Caller, comment, failed
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.find import FindResponse, Writing
from gateway.dicom.known_queries import LONGEST, MOST_FOUND, Found, KnownQueries, KnownQuery, Question
from gateway.dicom.prepared import Form, PreparedItem, PreparedItems
from gateway.dicom.profiles import Profiles
from gateway.dicom.record import LONGEST_IDENTIFIER, MOST_NUMBERS, Query, QueryRecord, now
from gateway.dicom.status import OUT_OF_RESOURCES, PENDING, SUCCESS, UNABLE_TO_PROCESS, RequestRefused
from gateway.errors import TooMuchAsked
from gateway.log import get_logger
from projections.worklist import Version, WorklistFilter, WorklistRow, is_indexed, is_of_few

_log = get_logger(__name__)

_NAMED = 20
"""At most so many items are named in one line of the log."""

_FEW = 75
"""Items looked at for a short answer: at a hundred, long answers begin to rest (`Gateway.worklist`)."""

_NO_TIME = 0.001
"""Seconds of computing before the first item of a quick query."""

_WRITING_EVENTS = {Writing.TRANSLITERATED: "answer_transliterated", Writing.BEYOND: "answer_beyond_character_set"}


Thing = TypeVar("Thing")


class Worklist(Protocol):
    """What is needed of `gateway.application.Gateway` to answer queries."""

    def worklist(
        self, wanted: WorklistFilter, known: Callable[[Version], Thing | None]
    ) -> Iterator[WorklistRow | Thing]:
        """Worklist items by date, time and accession number, read while they are taken. Raises `TooMuchAsked`.

        What `known` has for one at its present version comes in its place.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistScp:
    """Answers queries. `listed_statuses`, `test_ae_titles`, `profiles`, `zone` and `record` as of `Responder`."""

    application: Worklist
    listed_statuses: tuple[str, ...]
    test_ae_titles: frozenset[str]
    profiles: Profiles
    record: QueryRecord | None
    items: PreparedItems
    queries: KnownQueries = field(default_factory=KnownQueries)

    def find(
        self, caller: Caller, data: bytes | None, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        """The responses to a C-FIND, the last one final. `data` is the identifier as received."""
        began = time.perf_counter()
        question = (data or b"", transfer_syntax, caller.ae_title)
        query: KnownQuery | None = None
        answered: list[str] = []
        unlike: dict[Writing, list[str]] = {}
        last = FindResponse(SUCCESS)
        try:
            query = self._query(question)
            found = self._found(question, query, is_cancelled)
            for response in find.responses(found, profile=query.profile, is_cancelled=is_cancelled):
                if response.status == PENDING:
                    answered.append(response.accession_number)
                    if response.writing is not Writing.WHOLE:
                        unlike.setdefault(response.writing, []).append(response.accession_number)
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
            if query:
                _tell(caller, query, last, unlike)
            self._answered(caller, question, query.keywords if query else (), answered, last, began)

    def is_quick(self, caller: Caller, data: bytes | None, transfer_syntax: str) -> bool:
        """As of `Responder`."""
        if len(data or b"") > LONGEST:
            return False
        try:
            query = self._query((data or b"", transfer_syntax, caller.ae_title))
        except RequestRefused:
            return True
        wanted = query.plan.wanted
        return is_indexed(wanted) and (is_of_few(wanted) if query.is_quick is None else query.is_quick)

    def _query(self, question: Question) -> KnownQuery:
        return self.queries.of(question, lambda: self._read(*question))

    def _read(self, data: bytes, transfer_syntax: str, ae_title: str) -> KnownQuery:
        """The query that these bytes are. Raises `RequestRefused`."""
        profile = self.profiles.of(ae_title)
        asked = identifier.read(data, transfer_syntax, CharacterSet.of(profile.character_set))
        plan = matching.plan(
            asked, listed_statuses=self.listed_statuses, test_items=ae_title in self.test_ae_titles, profile=profile
        )
        form = Form.of(asked, transfer_syntax, profile)
        return KnownQuery(asked, profile, plan, form, tuple(keyword_for_tag(key.tag) for key in asked.matched()))

    def _found(self, question: Question, query: KnownQuery, is_cancelled: Callable[[], bool]) -> Iterator[FindResponse]:
        """The responses about the items that match, those that were found before as they were then."""
        found: dict[Version, Found] = {}
        lost: list[str] = []
        number, computed, began = 0, 0.0, time.thread_time()
        known: Callable[[Version], PreparedItem | Found | None] = query.found.get if query.found else self.items.get
        things: Iterator[WorklistRow | PreparedItem | Found] = self.application.worklist(query.plan.wanted, known)
        try:
            for number, thing in enumerate(things, 1):
                computed = computed or time.thread_time() - began
                if is_cancelled():
                    return
                met = thing if isinstance(thing, tuple) else self._look(query, thing, lost, kept=number <= MOST_FOUND)
                if met is None:
                    continue
                version, response = met
                if version[1] and number <= MOST_FOUND:
                    found[version] = met
                if response:
                    yield response
            query.is_quick = number < _FEW and computed < _NO_TIME
        finally:
            self.queries.remember(question, query, found)
        if lost:
            _log.warning("items_incomplete", accession_numbers=lost)

    def _look(
        self, query: KnownQuery, thing: WorklistRow | PreparedItem, lost: list[str], *, kept: bool
    ) -> Found | None:
        """What an item is to a query; None when it can't be answered, which is `lost`."""
        row = thing if isinstance(thing, WorklistRow) else thing.row
        version = row.accession_number, row.row_version
        if not query.plan.matches(row):
            return version, None
        if not find.answerable(row):
            if len(lost) < _NAMED and not row.is_erased:
                lost.append(row.accession_number)
            return None
        item = self.items.of(row, kept=kept) if isinstance(thing, WorklistRow) else thing
        return version, find.pending(item, query.form)

    def _answered(
        self,
        caller: Caller,
        question: Question,
        keywords: tuple[str, ...],
        accession_numbers: Sequence[str],
        last: FindResponse,
        began: float,
    ) -> None:
        """Log and record a query that is over."""
        data, transfer_syntax, _ = question
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        _log.info(
            "query_answered",
            **caller.logged(),
            status=f"0x{last.status:04X}",
            answers=len(accession_numbers),
            keys=list(keywords),
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
                    keys=keywords,
                    identifier=data if len(data) <= LONGEST_IDENTIFIER else None,
                    transfer_syntax=transfer_syntax,
                    status=last.status,
                    error_comment=last.error_comment,
                    answers=len(accession_numbers),
                    accession_numbers=tuple(accession_numbers[:MOST_NUMBERS]),
                    milliseconds=milliseconds,
                )
            )


def _tell(caller: Caller, query: KnownQuery, last: FindResponse, unlike: dict[Writing, list[str]]) -> None:
    """Log that a list was cut, and whose text is not as it is stored or may not be readable."""
    if last.is_cut:
        _log.warning("answers_cut", **caller.logged(), reason="answer_limit of its profile")
    for writing, numbers in unlike.items():
        _log.warning(
            _WRITING_EVENTS[writing],
            **caller.logged(),
            items=len(numbers),
            accession_numbers=numbers[:_NAMED],
            character_set=str(query.form.character_sets[-1]) or "ISO_IR 6",
        )


def _reason(comment: str) -> dict[str, str]:
    return {"reason": comment} if comment else {}
