"""The whole life of a scheduled procedure step. Every rule about a status lives here, nowhere else.

What a modality reports (MPPS, PS3.4 F.7.2) is reduced to one verdict over all steps performed for the item; the verdict
and the item's status give the new status:

    PERFORMED            STARTED       COMPLETED    DISCONTINUED    WITHDRAWN
    SCHEDULED            IN PROGRESS   COMPLETED    DISCONTINUED    SCHEDULED
    IN PROGRESS          IN PROGRESS   COMPLETED    DISCONTINUED    SCHEDULED
    DISCONTINUED         IN PROGRESS   COMPLETED    DISCONTINUED    (stays)
    CANCELLED, EXPIRED   IN PROGRESS   COMPLETED    DISCONTINUED    (stays)         and somebody is alerted
    COMPLETED            never left: a second performed step adds to its record

A withdrawn step gives an item that was cancelled or expired before it that status back, instead of SCHEDULED;
what somebody corrected meanwhile stays as corrected.

What the web app and people may do is in `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from gateway.errors import IllegalTransition, InvalidValue


class Status(StrEnum):
    """The status of a worklist item, in DICOM's words (PS3.4 F.7.2) and two of ours."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    CANCELLED = "CANCELLED"
    """The web app withdrew the appointment."""
    EXPIRED = "EXPIRED"
    """Its day passed and nobody came."""


class StepStatus(StrEnum):
    """What became of one performed procedure step."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    WITHDRAWN = "WITHDRAWN"
    """Discontinued as *wrong worklist entry* (110514, CID 9300): it was never this item's."""


class Verdict(StrEnum):
    """What all the steps performed for one item amount to."""

    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    WITHDRAWN = "WITHDRAWN"


class Command(StrEnum):
    """What may be asked of an item by somebody who is not a modality."""

    AMEND = "amend"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REPORT_STATUS = "report its status"
    """The web app's `worklist.update_status`."""
    CORRECT_STATUS = "correct its status"
    """An operator's `gateway worklist set-status`."""


_S = Status


def _row(*, withdrawn: Status) -> dict[Verdict, Status]:
    return {
        Verdict.STARTED: _S.IN_PROGRESS,
        Verdict.COMPLETED: _S.COMPLETED,
        Verdict.DISCONTINUED: _S.DISCONTINUED,
        Verdict.WITHDRAWN: withdrawn,
    }


PERFORMED: dict[Status, dict[Verdict, Status]] = {
    _S.SCHEDULED: _row(withdrawn=_S.SCHEDULED),
    _S.IN_PROGRESS: _row(withdrawn=_S.SCHEDULED),
    _S.DISCONTINUED: _row(withdrawn=_S.DISCONTINUED),
    _S.CANCELLED: _row(withdrawn=_S.CANCELLED),
    _S.EXPIRED: _row(withdrawn=_S.EXPIRED),
    _S.COMPLETED: dict.fromkeys(Verdict, _S.COMPLETED),
}

_ANY = frozenset(_S)

COMMANDS: dict[Command, dict[Status, frozenset[Status]]] = {
    Command.AMEND: {_S.SCHEDULED: frozenset({_S.SCHEDULED})},
    Command.CANCEL: {_S.SCHEDULED: frozenset({_S.CANCELLED})},
    Command.EXPIRE: {_S.SCHEDULED: frozenset({_S.EXPIRED})},
    Command.REPORT_STATUS: {
        _S.SCHEDULED: frozenset({_S.IN_PROGRESS}),
        _S.IN_PROGRESS: frozenset({_S.COMPLETED, _S.DISCONTINUED}),
    },
    Command.CORRECT_STATUS: {status: _ANY - {status} for status in _S if status is not _S.COMPLETED},
}

FINISHED = frozenset({_S.COMPLETED, _S.DISCONTINUED, _S.CANCELLED, _S.EXPIRED})
"""An accession number in one of these is not scheduled again."""

OVER = frozenset({_S.CANCELLED, _S.EXPIRED})
"""Nobody should be examined for these: a step performed all the same is alerted."""

_FINAL_STEPS = frozenset({StepStatus.COMPLETED, StepStatus.DISCONTINUED, StepStatus.WITHDRAWN})


def status_of(word: str) -> Status:
    """The status that a person or the web app means: any case, an underscore for the space.

    Raises `InvalidValue` for any other word.
    """
    try:
        return Status(word.strip().upper().replace("_", " "))
    except ValueError:
        raise InvalidValue(f"status: must be one of {', '.join(Status)}", field="status") from None


def is_final(step: StepStatus) -> bool:
    """Whether a performed procedure step may no longer be updated (PS3.4 F.7.2.2.2)."""
    return step in _FINAL_STEPS


def verdict_of(steps: Iterable[StepStatus]) -> Verdict:
    """What the steps performed for an item amount to: completed if any is, discontinued only if all are."""
    counted = [step for step in steps if step is not StepStatus.WITHDRAWN]
    if not counted:
        return Verdict.WITHDRAWN
    if StepStatus.COMPLETED in counted:
        return Verdict.COMPLETED
    return Verdict.STARTED if StepStatus.IN_PROGRESS in counted else Verdict.DISCONTINUED


def performed(status: Status, verdict: Verdict, *, before: Status) -> Status:
    """The status after a modality's report; `before` is what it was before reports made it IN PROGRESS."""
    put_back = verdict is Verdict.WITHDRAWN and status is Status.IN_PROGRESS
    return before if put_back and before in OVER else PERFORMED[status][verdict]


def require(command: Command, status: Status, target: Status | None = None) -> None:
    """Raise `IllegalTransition` unless an item in `status` allows the command (and, if given, the target status)."""
    targets = COMMANDS[command].get(status, frozenset())
    if not targets:
        raise IllegalTransition(f"the item is {status}: cannot {command}", field="status")
    if target is not None and target not in targets:
        allowed = ", ".join(sorted(targets))
        raise IllegalTransition(f"the item is {status}: it can become {allowed}, not {target}", field="status")
