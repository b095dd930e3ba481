"""What a request is answered: from a whole message, through the `Responder`, to the PDUs of the responses.

Where an operation runs is the engine's business; `place` says what it may be asked to bear.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum

from gateway.dicom import command_set, message
from gateway.dicom.association import PERFORMED_STEP, RETRIEVE, VERIFICATION, WORKLIST
from gateway.dicom.caller import Caller
from gateway.dicom.command_set import C_ECHO, C_FIND, N_CREATE, N_EVENT_REPORT, N_GET, N_SET, Command
from gateway.dicom.find import FindResponse
from gateway.dicom.message import Message
from gateway.dicom.negotiation import Context
from gateway.dicom.responder import Responder
from gateway.dicom.status import DUPLICATE_INVOCATION, MISTYPED_ARGUMENT, PENDING, SOP_CLASS_NOT_SUPPORTED
from gateway.dicom.step_scp import NResponse

_STEP_OPERATIONS = (N_CREATE, N_SET, N_GET)


class Place(Enum):
    """What an operation needs while it is answered."""

    HERE = "a moment, wherever it is"
    SCAN = "a thread, for as long as a long answer takes"
    COMMIT = "a thread, until the store has kept or found it"


Responses = Generator[tuple[bytes, bool], None, None]
"""The PDUs of each response, and whether it is the final one; what comes after that one is nothing for the peer."""


@dataclass(eq=False, slots=True)
class Operation:
    """One request that waits or is being answered. `maximum_length` is that of the peer's PDUs in bytes."""

    caller: Caller
    context: Context
    message: Message
    maximum_length: int
    is_duplicate: bool = False
    """Whether a request with its message ID was in progress when it came (PS3.7 C.5.9)."""
    is_cancelled: bool = False
    """Whether nobody waits for more answers."""

    @property
    def command(self) -> Command:
        """The request's command set."""
        return self.message.command


def place(operation: Operation, responder: Responder) -> Place:
    """What it needs."""
    command, context = operation.command, operation.context
    if _is_improper(operation):
        return Place.HERE
    if _serves(operation, C_FIND, WORKLIST.uid) and command.sop_class_uid == WORKLIST.uid:
        quick = responder.is_quick(operation.caller, operation.message.data_set, context.transfer_syntax)
        return Place.HERE if quick else Place.SCAN
    return Place.COMMIT if _is_of_a_step(operation) else Place.HERE


def responses(operation: Operation, responder: Responder) -> Responses:
    """Answer it."""
    is_query = _serves(operation, C_FIND, WORKLIST.uid) and not _is_improper(operation)
    return _find(operation, responder) if is_query else _answer(operation, responder)


def _is_improper(operation: Operation) -> bool:
    return operation.is_duplicate or operation.command.is_mistyped


def _answer(operation: Operation, responder: Responder) -> Responses:
    yield _response(operation, responder), True


def _response(operation: Operation, responder: Responder) -> bytes:
    """The one response of what is no query."""
    command = operation.command
    if operation.is_duplicate:
        return _refused(operation, DUPLICATE_INVOCATION, "a request with this message ID is in progress")
    if command.is_mistyped:
        return _refused(operation, MISTYPED_ARGUMENT, "a value of the command set can't be read")
    if command.field == C_ECHO:
        return _echo(operation, responder)
    if _is_of_a_step(operation):
        return _n_response(operation, _step(operation, responder))
    return _n_response(operation, _unrecognised(operation, responder))


def _serves(operation: Operation, field: int, sop_class_uid: str) -> bool:
    return operation.command.field == field and operation.context.sop_class_uid == sop_class_uid


def _is_of_a_step(operation: Operation) -> bool:
    in_place = operation.context.sop_class_uid in (PERFORMED_STEP.uid, RETRIEVE.uid)
    return in_place and operation.command.field in _STEP_OPERATIONS


def _pdus(operation: Operation, command: bytes, data_set: bytes | None = None) -> bytes:
    return message.pdus(operation.message.context_id, command, data_set, operation.maximum_length)


def _refused(operation: Operation, status: int, comment: str) -> bytes:
    return _pdus(operation, command_set.response(operation.command, status, error_comment=comment))


def _echo(operation: Operation, responder: Responder) -> bytes:
    """A C-ECHO is answered in whichever context it comes: a unit that asks whether we are there is told so."""
    if operation.command.sop_class_uid != VERIFICATION.uid:
        return _refused(operation, SOP_CLASS_NOT_SUPPORTED, "C-ECHO is of Verification")
    return _pdus(operation, command_set.response(operation.command, responder.echo(operation.caller)))


def _find(operation: Operation, responder: Responder) -> Responses:
    command = operation.command
    if command.sop_class_uid != WORKLIST.uid:
        yield _final(operation, responder.find_of_another_class(operation.caller)), True
        return
    pending = command_set.response(command, PENDING, has_data_set=True)  # the same for all of them
    answers = responder.find(
        operation.caller,
        operation.message.data_set,
        operation.context.transfer_syntax,
        lambda: operation.is_cancelled,
    )
    with closing(answers):  # type: ignore[type-var]  # it is a generator, and has a log line to write
        for answer in answers:
            if answer.status == PENDING:
                yield _pdus(operation, pending, answer.identifier), False
            else:
                yield _final(operation, answer), True


def _final(operation: Operation, answer: FindResponse) -> bytes:
    command = command_set.response(
        operation.command,
        answer.status,
        error_comment=answer.error_comment,
        offending_elements=answer.offending_elements,
    )
    return _pdus(operation, command)


def _step(operation: Operation, responder: Responder) -> NResponse:
    command, data_set, caller = operation.command, operation.message.data_set, operation.caller
    syntax = operation.context.transfer_syntax
    uid = command.sop_instance_uid
    if command.field == N_CREATE:
        return responder.n_create(caller, command.sop_class_uid, uid or None, data_set, syntax)
    if command.field == N_SET:
        return responder.n_set(caller, command.sop_class_uid, uid, data_set, syntax)
    return responder.n_get(caller, command.sop_class_uid, uid, command.attribute_identifiers, syntax)


def _unrecognised(operation: Operation, responder: Responder) -> NResponse:
    """An operation that the SOP class of its context does not have (PS3.7 C.5.23)."""
    command, name = operation.command, command_set.NAMES[operation.command.field]
    of_steps = operation.context.sop_class_uid in (PERFORMED_STEP.uid, RETRIEVE.uid)
    if of_steps and command.field >= N_EVENT_REPORT:
        return responder.unrecognised(operation.caller, name, command.sop_instance_uid)
    return responder.out_of_place(operation.caller, name, operation.context.sop_class_name, command.sop_instance_uid)


def _n_response(operation: Operation, answer: NResponse) -> bytes:
    command = command_set.response(
        operation.command,
        answer.status,
        has_data_set=bool(answer.attribute_list),
        sop_instance_uid=answer.sop_instance_uid,
        error_comment=answer.error_comment,
        error_id=answer.error_id,
        attribute_identifiers=answer.attribute_identifier_list,
    )
    return _pdus(operation, command, answer.attribute_list)
