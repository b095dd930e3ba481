"""What this worklist and MPPS provider answers: plain data in, plain data out. Engines drive it; it knows none of them.

An engine hands over what it took from the wire (bytes, UIDs, who calls) and sends what comes back. Every method may be
called from many threads and returns or yields an answer for anything: nothing raises. Logged are AE titles, addresses,
accession numbers, UIDs and keywords; never what identifies a patient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from traceback import extract_tb
from typing import Protocol
from uuid import uuid4

import structlog
from pydicom.datadict import keyword_for_tag

from gateway.dicom import character_sets, find, identifier, matching, mpps, performed
from gateway.dicom.character_sets import CharacterSet
from gateway.dicom.data_set import DataSet, Undecodable
from gateway.dicom.find import FindResponse, Writing
from gateway.dicom.identifier import Identifier
from gateway.dicom.profiles import EVERYBODY, Profile, Profiles, Rejection
from gateway.dicom.record import LONGEST_IDENTIFIER, MOST_NUMBERS, Query, QueryRecord, RefusedAssociation, now
from gateway.dicom.status import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_SOP_INSTANCE,
    MAY_NO_LONGER_BE_UPDATED,
    NO_SUCH_SOP_INSTANCE,
    OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
    OUT_OF_RESOURCES,
    PENDING,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNABLE_TO_PROCESS,
    UNRECOGNISED_OPERATION,
    RequestRefused,
)
from gateway.dicom.step_attributes import names
from gateway.domain import lifecycle
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import (
    StepChange,
    StepExists,
    StepFinal,
    StepRecord,
    StepReport,
    StepUnknown,
)
from gateway.errors import Contention, DiskFull, GatewayError, TooMuchAsked
from projections.worklist import WorklistFilter, WorklistRow

_log = structlog.get_logger(__name__)

_COMMENT_LIMIT = 64
"""Error Comment is LO (PS3.7 E.1)."""

_NAMED = 20
"""At most so many items are named in one line of the log."""

_ASK_THE_WORKLIST = "ask by the Modality Worklist information model (findscu -W), not by Query/Retrieve"

_WRITING_EVENTS = {Writing.TRANSLITERATED: "answer_transliterated", Writing.BEYOND: "answer_beyond_character_set"}

_CHANGED: dict[StepStatus | None, str] = {
    StepStatus.COMPLETED: "step_completed",
    StepStatus.DISCONTINUED: "step_discontinued",
}


class StepOutcome(Protocol):
    """What became of a performed procedure step."""

    @property
    def accession_numbers(self) -> tuple[str, ...]:
        """The items it was linked to."""

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Why others were not."""

    @property
    def alerts(self) -> tuple[str, ...]:
        """What a person should look at."""


class Application(Protocol):
    """What the modalities' door needs of `gateway.application.Gateway`."""

    def worklist(self, wanted: WorklistFilter) -> Iterator[WorklistRow]:
        """Worklist items by date, time and accession number, read while they are taken. Raises `TooMuchAsked`."""

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """Keep an N-CREATE. Raises `StepExists`."""

    def change_step(self, change: StepChange, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """Keep an N-SET. Raises `StepUnknown`, `StepFinal`."""

    def performed_step(self, sop_instance_uid: str) -> StepRecord | None:
        """All that was reported about a performed step, or None when there is no such step."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The other side of an association."""

    ae_title: str
    called_ae_title: str
    address: str
    port: int

    def logged(self) -> dict[str, object]:
        """The keys under which it appears in the log."""
        return {"calling_ae": self.ae_title, "called_ae": self.called_ae_title, "address": self.address}


@dataclass(frozen=True, slots=True)
class NResponse:
    """The response to an N-CREATE, N-SET or N-GET.

    `attribute_list` is encoded; an N-GET that succeeds has one, and a refusal for bad values.
    """

    status: int
    sop_instance_uid: str
    error_comment: str = ""
    error_id: int | None = None
    attribute_identifier_list: tuple[int, ...] = ()
    attribute_list: bytes | None = None


class Responder:
    """Verification, Modality Worklist and MPPS over the application.

    `listed_statuses` are what a query sees unless it asks by status; `test_ae_titles` the callers that see test items,
    beside the real ones; `profiles` how each caller is served; `zone` the site's. `record` is told of each query and
    each refused association.
    """

    def __init__(
        self,
        application: Application,
        *,
        listed_statuses: Sequence[str] = ("SCHEDULED",),
        test_ae_titles: Iterable[str] = ("REHEARSAL",),
        profiles: Profiles = EVERYBODY,
        zone: tzinfo | None = None,
        record: QueryRecord | None = None,
    ) -> None:
        self.application = application
        self.listed_statuses = tuple(listed_statuses)
        self.test_ae_titles = frozenset(test_ae_titles)
        self.profiles = profiles
        self.zone = zone
        self.record = record

    # --- associations

    def rejection(self, caller: Caller) -> Rejection | None:
        """Why this association must be rejected; None when it may be accepted. An engine asks before it answers."""
        return self.profiles.rejection(caller.ae_title, caller.address)

    def association_accepted(self, caller: Caller, *, refused_contexts: Sequence[str] = ()) -> None:
        """An association was accepted; `refused_contexts` are the abstract syntaxes that were not."""
        _log.info("association_accepted", **caller.logged())
        if refused_contexts:
            finds = [name for name in refused_contexts if "FIND" in name]
            remedy = {"remedy": _ASK_THE_WORKLIST} if finds else {}
            _log.warning("contexts_refused", **caller.logged(), abstract_syntaxes=list(refused_contexts), **remedy)
            if finds:
                self._record_refusal(caller, f"{', '.join(finds)} is not supported: {_ASK_THE_WORKLIST}")

    def association_refused(self, caller: Caller, *, reason: str, remedy: str = "") -> None:
        """An association was rejected (PS3.8 9.3.4)."""
        _log.warning("association_refused", **caller.logged(), reason=reason, **({"remedy": remedy} if remedy else {}))
        self._record_refusal(caller, f"{reason}; {remedy}" if remedy else reason)

    def connection_broken(self, address: str, *, reason: str) -> None:
        """A peer sent what is no DICOM, or stopped halfway."""
        _log.warning("connection_broken", address=address, reason=reason)
        self._record_refusal(Caller("", "", address, 0), reason)

    def _record_refusal(self, caller: Caller, reason: str) -> None:
        if self.record:
            self.record.add(
                RefusedAssociation(
                    at=now(),
                    calling_ae_title=caller.ae_title,
                    called_ae_title=caller.called_ae_title,
                    address=caller.address,
                    reason=reason,
                )
            )

    # --- Verification (PS3.4 Annex A)

    def echo(self, caller: Caller) -> int:
        """The status of a C-ECHO."""
        _log.info("echo_answered", **caller.logged())
        return SUCCESS

    # --- Modality Worklist (PS3.4 Annex K)

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
            last = FindResponse(refused.status, None, _comment(refused.comment), refused.tags)
            yield last
        except TooMuchAsked as error:
            last = FindResponse(OUT_OF_RESOURCES, None, _comment(error.message))
            yield last
        except Exception as error:  # noqa: BLE001  whatever fails, the modality gets an answer
            _failed("query", caller, error)
            last = FindResponse(UNABLE_TO_PROCESS, None, "the worklist can't be read now")
            yield last
        finally:
            self._answered(caller, data, transfer_syntax, asked, answered, last, began)

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
        lost: list[str] = []
        responses = find.responses(
            _answerable(filter(plan.matches, self.application.worklist(plan.wanted)), lost),
            asked,
            transfer_syntax,
            profile=profile,
            is_cancelled=is_cancelled,
            zone=self.zone,
        )
        yield from _noting(responses, caller, asked)
        if lost:
            _log.warning("items_incomplete", accession_numbers=lost)

    # --- Modality Performed Procedure Step (PS3.4 Annex F)

    def n_create(
        self,
        caller: Caller,
        sop_class_uid: str,
        sop_instance_uid: str | None,
        data: bytes | None,
        transfer_syntax: str,
    ) -> NResponse:
        """The response to an N-CREATE. Without an instance UID in the request, one is assigned (PS3.7 10.1.5.1.4)."""
        received_at = datetime.now(UTC)
        uid = sop_instance_uid or f"2.25.{uuid4().int}"

        def start() -> NResponse:
            self._require("N-CREATE", sop_class_uid, uid)
            try:
                report = mpps.read_create(uid, data or b"", transfer_syntax)
                outcome = self.application.start_step(report, calling_ae_title=caller.ae_title, received_at=received_at)
            except (RequestRefused, StepExists) as error:
                record = self.application.performed_step(uid)
                if record is None:
                    raise
                _log_repeat(caller, record, data or b"", transfer_syntax)
                raise StepExists("the performed procedure step exists") from error
            return _kept("step_started", caller, uid, report.warnings, outcome)

        return self._answer(caller, uid, start)

    def n_set(
        self, caller: Caller, sop_class_uid: str, sop_instance_uid: str, data: bytes | None, transfer_syntax: str
    ) -> NResponse:
        """The response to an N-SET."""
        received_at = datetime.now(UTC)
        uid = sop_instance_uid

        def change() -> NResponse:
            self._require("N-SET", sop_class_uid, uid)
            try:
                change = mpps.read_set(uid, data or b"", transfer_syntax, earlier=lambda: self._instance(uid))
            except RequestRefused:
                self._require_changeable(uid)
                raise
            outcome = self.application.change_step(change, calling_ae_title=caller.ae_title, received_at=received_at)
            return _kept(_CHANGED.get(change.status, "step_updated"), caller, uid, change.warnings, outcome)

        return self._answer(caller, uid, change)

    def n_get(
        self,
        caller: Caller,
        sop_class_uid: str,
        sop_instance_uid: str,
        requested: Sequence[int],
        transfer_syntax: str,
    ) -> NResponse:
        """The response to an N-GET (MPPS Retrieve, PS3.4 F.8.2); `requested` is the Attribute Identifier List."""
        uid = sop_instance_uid

        def get() -> NResponse:
            self._require("N-GET", sop_class_uid, uid)
            record = self.application.performed_step(uid)
            if record is None:
                raise StepUnknown("there is no such performed procedure step")
            found = performed.retrieve(record.data_sets, requested, transfer_syntax)
            _log.info("step_retrieved", **caller.logged(), sop_instance_uid=uid, not_held=len(found.not_held))
            status = OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if found.not_held else SUCCESS
            return NResponse(status, uid, "", None, found.not_held, found.attribute_list)

        return self._answer(caller, uid, get)

    def unrecognised(self, caller: Caller, operation: str, sop_instance_uid: str) -> NResponse:
        """The response to an operation that this SOP class does not have (PS3.7 C.5.23)."""
        _log.warning("operation_unrecognised", **caller.logged(), operation=operation)
        return NResponse(UNRECOGNISED_OPERATION, sop_instance_uid, f"{operation} is not supported")

    def _require(self, operation: str, sop_class_uid: str, sop_instance_uid: str) -> None:
        """Raise `RequestRefused` unless this SOP class has the operation and the instance is named by a UID."""
        if mpps.OPERATIONS[operation] != sop_class_uid:
            if sop_class_uid in mpps.OPERATIONS.values():
                raise RequestRefused(UNRECOGNISED_OPERATION, f"{operation} is not supported in this SOP class")
            if self.application.performed_step(sop_instance_uid):
                raise RequestRefused(CLASS_INSTANCE_CONFLICT, "the instance is a performed procedure step")
            raise RequestRefused(SOP_CLASS_NOT_SUPPORTED, "only Modality Performed Procedure Step is supported")
        mpps.require_uid(sop_instance_uid)

    def _require_changeable(self, uid: str) -> None:
        """Raise `StepUnknown` or `StepFinal`: they come before what is wrong with the N-SET itself (PS3.4 F.7.2.2)."""
        record = self.application.performed_step(uid)
        if record is None:
            raise StepUnknown("there is no such performed procedure step")
        if lifecycle.is_final(record.status):
            raise StepFinal("the performed procedure step may no longer be updated")

    def _instance(self, uid: str) -> DataSet:
        record = self.application.performed_step(uid)
        held = performed.instance(record.data_sets) if record else {}
        return {tag: one.element for tag, one in held.items()}

    def _answer(self, caller: Caller, uid: str, act: Callable[[], NResponse]) -> NResponse:
        try:
            return act()
        except (RequestRefused, StepExists, StepUnknown, StepFinal) as error:
            response = _refusal(uid, error)
            _log.warning(
                "step_refused",
                **caller.logged(),
                sop_instance_uid=uid,
                status=f"0x{response.status:04X}",
                reason=response.error_comment,
            )
            return response
        except (DiskFull, Contention) as error:
            _failed("performed step", caller, error)
            return NResponse(RESOURCE_LIMITATION, uid, "the step can't be stored now, send it again")
        except Exception as error:  # noqa: BLE001  whatever fails, the modality gets an answer and tries again
            _failed("performed step", caller, error)
            return NResponse(PROCESSING_FAILURE, uid, "the step can't be kept or read now; ask again")


def _answerable(rows: Iterable[WorklistRow], lost: list[str]) -> Iterator[WorklistRow]:
    for row in rows:
        if find.answerable(row):
            yield row
        elif len(lost) < _NAMED and not row.is_erased:
            lost.append(row.accession_number)


def _kept(event: str, caller: Caller, uid: str, warnings: tuple[str, ...], outcome: StepOutcome) -> NResponse:
    """Success, once the step is in the log."""
    if warnings:
        _log.warning("step_odd", **caller.logged(), sop_instance_uid=uid, warnings=warnings)
    _log.info(event, **caller.logged(), sop_instance_uid=uid, accession_numbers=outcome.accession_numbers)
    for alert in outcome.alerts:
        _log.warning("step_alert", sop_instance_uid=uid, alert=alert)
    return NResponse(SUCCESS, uid)


def _log_repeat(caller: Caller, record: StepRecord, data: bytes, transfer_syntax: str) -> None:
    """A create again: most often its reply was lost. If it says something else, that is worth a look."""
    try:
        differing = names(performed.differences(record.data_sets[0], (data, transfer_syntax)))
    except Undecodable:
        differing = "it can't be decoded"
    if differing:
        _log.warning(
            "step_created_differently",
            **caller.logged(),
            sop_instance_uid=record.sop_instance_uid,
            differing=differing,
        )


def _refusal(uid: str, error: RequestRefused | GatewayError) -> NResponse:
    """The status of a refusal with its fields (PS3.7 10.1.3 and 10.1.5, PS3.4 Table F.7.2-2)."""
    match error:
        case RequestRefused():
            return NResponse(error.status, uid, _comment(error.comment), None, error.tags, error.attribute_list)
        case StepExists():
            return NResponse(DUPLICATE_SOP_INSTANCE, uid, "this performed procedure step exists already")
        case StepUnknown():
            return NResponse(NO_SUCH_SOP_INSTANCE, uid, "there is no such performed procedure step")
        case _:
            comment = "Performed Procedure Step Object may no longer be updated"
            return NResponse(PROCESSING_FAILURE, uid, comment, MAY_NO_LONGER_BE_UPDATED)


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
                _log.warning(event, **caller.logged(), accession_numbers=numbers, character_set=character_set)


def _comment(text: str) -> str:
    return text if len(text) <= _COMMENT_LIMIT else text[: _COMMENT_LIMIT - 3] + "..."


def _reason(comment: str) -> dict[str, str]:
    return {"reason": comment} if comment else {}


def _failed(phase: str, caller: Caller, error: Exception) -> None:
    """Log our own failure. Only our errors are known to name nobody; of others, the type and the place are logged."""
    frame = extract_tb(error.__traceback__)[-1]
    what = {"code": error.code, "message": str(error)} if isinstance(error, GatewayError) else {}
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    _log.error("request_failed", phase=phase, **caller.logged(), error=type(error).__name__, where=where, **what)
