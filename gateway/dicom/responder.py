"""What this worklist and MPPS provider answers: plain data in, plain data out. Engines drive it; it knows none of them.

An engine hands over what it took from the wire (bytes, UIDs, who calls) and sends what comes back. Every method may be
called from many threads and returns or yields an answer for anything: nothing raises. Logged are AE titles, addresses,
accession numbers, UIDs and keywords; never what identifies a patient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Protocol
from uuid import uuid4

import structlog
from pydicom.datadict import keyword_for_tag

from gateway.dicom import find, identifier, matching, mpps
from gateway.dicom.find import FindResponse
from gateway.dicom.identifier import Identifier
from gateway.dicom.status import (
    DUPLICATE_SOP_INSTANCE,
    MAY_NO_LONGER_BE_UPDATED,
    NO_SUCH_SOP_INSTANCE,
    OUT_OF_RESOURCES,
    PENDING,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNABLE_TO_PROCESS,
    UNRECOGNISED_OPERATION,
    RequestRefused,
)
from gateway.domain.lifecycle import StepStatus
from gateway.domain.performed_procedure_step import StepChange, StepExists, StepFinal, StepReport, StepUnknown
from gateway.errors import GatewayError, TooMuchAsked
from projections.worklist import WorklistFilter, WorklistRow

_log = structlog.get_logger(__name__)

_COMMENT_LIMIT = 64
"""Error Comment is LO (PS3.7 E.1)."""

_NAMED = 20
"""At most so many items are named in one line of the log."""

_ASK_THE_WORKLIST = "ask by the Modality Worklist information model (findscu -W), not by Query/Retrieve"

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
    """The response to an N-CREATE or N-SET. `attribute_list` is encoded; only a refusal for bad values has one."""

    status: int
    sop_instance_uid: str
    error_comment: str = ""
    error_id: int | None = None
    attribute_identifier_list: tuple[int, ...] = ()
    attribute_list: bytes | None = None


class Responder:
    """Verification, Modality Worklist and MPPS over the application.

    `listed_statuses` are what a query sees unless it asks by status; `test_ae_titles` the callers that see test items,
    beside the real ones.
    """

    def __init__(
        self,
        application: Application,
        *,
        listed_statuses: Sequence[str] = ("SCHEDULED",),
        test_ae_titles: Iterable[str] = ("REHEARSAL",),
    ) -> None:
        self.application = application
        self.listed_statuses = tuple(listed_statuses)
        self.test_ae_titles = frozenset(test_ae_titles)

    # --- associations

    def association_accepted(self, caller: Caller, *, refused_contexts: Sequence[str] = ()) -> None:
        """An association was accepted; `refused_contexts` are the abstract syntaxes that were not."""
        _log.info("association_accepted", **caller.logged())
        if refused_contexts:
            remedy = {"remedy": _ASK_THE_WORKLIST} if any("FIND" in name for name in refused_contexts) else {}
            _log.warning("contexts_refused", **caller.logged(), abstract_syntaxes=list(refused_contexts), **remedy)

    def association_refused(self, caller: Caller, *, reason: str) -> None:
        """An association was rejected (PS3.8 9.3.4)."""
        _log.warning("association_refused", **caller.logged(), reason=reason)

    def connection_broken(self, address: str, *, reason: str) -> None:
        """A peer sent what is no DICOM, or stopped halfway."""
        _log.warning("connection_broken", address=address, reason=reason)

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
        pending, last = 0, FindResponse(SUCCESS)
        try:
            asked = identifier.read(data, transfer_syntax)
            for response in self._find(caller, asked, transfer_syntax, is_cancelled):
                pending, last = pending + (response.status == PENDING), response
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
            _log.info(
                "query_answered",
                **caller.logged(),
                status=f"0x{last.status:04X}",
                answers=pending,
                keys=[keyword_for_tag(key.tag) for key in asked.matched()] if asked else [],
                **_reason(last.error_comment),
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
            )

    def _find(
        self, caller: Caller, asked: Identifier, transfer_syntax: str, is_cancelled: Callable[[], bool]
    ) -> Iterator[FindResponse]:
        plan = matching.plan(
            asked, listed_statuses=self.listed_statuses, test_items=caller.ae_title in self.test_ae_titles
        )
        lost: list[str] = []
        yield from find.responses(
            _answerable(filter(plan.matches, self.application.worklist(plan.wanted)), lost),
            asked,
            transfer_syntax,
            caller_ae_title=caller.ae_title,
            is_cancelled=is_cancelled,
        )
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

        def start() -> tuple[str, StepOutcome]:
            _require(sop_class_uid, uid)
            report = mpps.read_create(uid, data or b"", transfer_syntax)
            _warn(caller, uid, report.warnings)
            outcome = self.application.start_step(report, calling_ae_title=caller.ae_title, received_at=received_at)
            return "step_started", outcome

        return self._answer(caller, uid, start)

    def n_set(
        self, caller: Caller, sop_class_uid: str, sop_instance_uid: str, data: bytes | None, transfer_syntax: str
    ) -> NResponse:
        """The response to an N-SET."""
        received_at = datetime.now(UTC)

        def change() -> tuple[str, StepOutcome]:
            _require(sop_class_uid, sop_instance_uid)
            change = mpps.read_set(sop_instance_uid, data or b"", transfer_syntax)
            _warn(caller, sop_instance_uid, change.warnings)
            outcome = self.application.change_step(change, calling_ae_title=caller.ae_title, received_at=received_at)
            return _CHANGED.get(change.status, "step_updated"), outcome

        return self._answer(caller, sop_instance_uid, change)

    def unrecognised(self, caller: Caller, operation: str, sop_instance_uid: str) -> NResponse:
        """The response to an operation that this SOP class does not have (PS3.7 C.5.23)."""
        _log.warning("operation_unrecognised", **caller.logged(), operation=operation)
        return NResponse(UNRECOGNISED_OPERATION, sop_instance_uid, f"{operation} is not supported")

    def _answer(self, caller: Caller, uid: str, act: Callable[[], tuple[str, StepOutcome]]) -> NResponse:
        try:
            event, outcome = act()
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
        except Exception as error:  # noqa: BLE001  whatever fails, the modality gets an answer and tries again
            _failed("performed step", caller, error)
            return NResponse(PROCESSING_FAILURE, uid, "the step can't be kept now; send it again")
        _log.info(event, **caller.logged(), sop_instance_uid=uid, accession_numbers=outcome.accession_numbers)
        for alert in outcome.alerts:
            _log.warning("step_alert", sop_instance_uid=uid, alert=alert)
        return NResponse(SUCCESS, uid)


def _answerable(rows: Iterable[WorklistRow], lost: list[str]) -> Iterator[WorklistRow]:
    for row in rows:
        if find.answerable(row):
            yield row
        elif len(lost) < _NAMED:
            lost.append(row.accession_number)


def _require(sop_class_uid: str, sop_instance_uid: str) -> None:
    if sop_class_uid != mpps.SOP_CLASS:
        raise RequestRefused(SOP_CLASS_NOT_SUPPORTED, "only Modality Performed Procedure Step is supported")
    mpps.require_uid(sop_instance_uid)


def _warn(caller: Caller, uid: str, warnings: tuple[str, ...]) -> None:
    if warnings:
        _log.warning("step_odd", **caller.logged(), sop_instance_uid=uid, warnings=warnings)


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
