"""Modality Performed Procedure Step and its Retrieve (PS3.4 Annex F) as a provider: requests in, responses out, logged.

Nothing is answered before the application has kept it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4

from gateway.dicom import mpps, performed
from gateway.dicom.caller import Caller, comment, failed
from gateway.dicom.data_set import DataSet, Undecodable
from gateway.dicom.status import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_SOP_INSTANCE,
    MAY_NO_LONGER_BE_UPDATED,
    NO_SUCH_SOP_INSTANCE,
    OPTIONAL_ATTRIBUTES_NOT_SUPPORTED,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
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
from gateway.errors import Contention, DiskFull, GatewayError
from gateway.log import get_logger

_log = get_logger(__name__)

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
    def alerts(self) -> tuple[str, ...]:
        """What a person should look at."""


class PerformedSteps(Protocol):
    """What is needed of `gateway.application.Gateway` to keep and retrieve performed steps."""

    def start_step(self, report: StepReport, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """Keep an N-CREATE. Raises `StepExists`."""

    def change_step(self, change: StepChange, *, calling_ae_title: str, received_at: datetime) -> StepOutcome:
        """Keep an N-SET. Raises `StepUnknown`, `StepFinal`."""

    def performed_step(self, sop_instance_uid: str) -> StepRecord | None:
        """All that was reported about a performed step, or None when there is no such step."""


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


@dataclass(frozen=True, slots=True)
class StepScp:
    """Answers N-CREATE, N-SET and N-GET."""

    application: PerformedSteps

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
                sop_instance_uid=uid if mpps.is_uid(uid) else "not a UID",
                status=f"0x{response.status:04X}",
                reason=response.error_comment,
            )
            return response
        except (DiskFull, Contention) as error:
            failed("performed step", caller, error)
            return NResponse(RESOURCE_LIMITATION, uid, "the step can't be stored now, send it again")
        except Exception as error:  # noqa: BLE001  whatever fails, the modality gets an answer and tries again
            failed("performed step", caller, error)
            return NResponse(PROCESSING_FAILURE, uid, "the step can't be kept or read now; ask again")


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
            return NResponse(error.status, uid, comment(error.comment), None, error.tags, error.attribute_list)
        case StepExists():
            return NResponse(DUPLICATE_SOP_INSTANCE, uid, "this performed procedure step exists already")
        case StepUnknown():
            return NResponse(NO_SUCH_SOP_INSTANCE, uid, "there is no such performed procedure step")
        case _:
            final = "Performed Procedure Step Object may no longer be updated"
            return NResponse(PROCESSING_FAILURE, uid, final, MAY_NO_LONGER_BE_UPDATED)
