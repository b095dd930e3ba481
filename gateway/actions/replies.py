"""What the web app is answered, as types: the door builds its replies of them, and the published contract is written
from them.

Keys that are `NotRequired` came after the first contract; but for `duplicate` and, where nothing is named by it,
`accession_number` they are always there. Keys are only ever added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from gateway.actions.messages import DEEPEST, MAXIMUM_SIZE


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """Why something could not be done: what it means, whether asking again can help, and what to do."""

    meaning: str
    remedy: str
    retryable: bool = False


ERROR_CODES = {
    "malformed": ErrorCode(
        f"not a JSON object in a text frame, larger than {MAXIMUM_SIZE} bytes, or nested more than {DEEPEST} deep",
        "correct the program that sends it",
    ),
    "unsupported_version": ErrorCode(
        "a schema_version whose major number is not 1", "send version 1, or have the gateway updated"
    ),
    "unsupported_action": ErrorCode("there is no such action_type", "correct it, or have the gateway updated"),
    "validation": ErrorCode(
        "a value is missing or breaks a rule; field says which", "correct the value, and send it with a new action_id"
    ),
    "action_id_conflict": ErrorCode(
        "this action_id was used before for other content; nothing was changed", "send it with a new action_id"
    ),
    "accession_conflict": ErrorCode(
        "the accession number is taken: by another patient, other content, or an item that is over; field says by what",
        "send another accession number, or change the item there is by worklist.update_item",
    ),
    "not_found": ErrorCode("there is no item with this accession number", "create it first"),
    "illegal_transition": ErrorCode(
        "the item's status does not allow it: amended and cancelled are items that are SCHEDULED",
        "take the item's status over from the gateway; message names it",
    ),
    "internal": ErrorCode(
        "the gateway could not do it now; whether it happened is open",
        "send the very same message again, with the same action_id: it is done once",
        retryable=True,
    ),
}
"""Every code there is. A final error is kept and repeated to the same action_id, a retryable one is not."""

ActionIdBack = Annotated[str | None, Field(description="That of the request; null where it had none that is a text.")]
AccessionNumberBack = Annotated[str, Field(description="The item it was about.")]
ReceivedAt = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "When the request came in, UTC; of a repeat when the first one did.",
        }
    ),
]
Version = Annotated[str, Field(description="The gateway's version.")]
Duplicate = Annotated[Literal[True], Field(description="Only on a repeat: this was answered before, and done once.")]


class _Reply(TypedDict):
    action_id: ActionIdBack
    duplicate: NotRequired[Duplicate]
    received_at: NotRequired[ReceivedAt | None]
    gateway_version: NotRequired[Version]


class Done(_Reply):
    """It is done and committed: `created`, `exists` (the same item was there), `updated` or `cancelled`."""

    status: Annotated[str, WithJsonSchema({"enum": ["created", "exists", "updated", "cancelled"]})]
    accession_number: NotRequired[AccessionNumberBack]


class Failed(_Reply):
    """It is not done, or nobody knows: `code` says why."""

    status: Literal["error"]
    message: Annotated[str | None, Field(description="For people; repeats no value of the message.")]
    code: Annotated[str, WithJsonSchema({"enum": [*ERROR_CODES]})]
    field: Annotated[str | None, Field(description="Path of the value at fault, such as parameters.worklist_item.…")]
    retryable: Annotated[bool, Field(description="Whether the same message, sent again, may succeed.")]


class Echoed(TypedDict):
    """The answer to `echo`: the whole request."""

    status: Literal["echo"]
    payload: dict[str, Any]


_CHECK = {
    "type": "object",
    "required": ["ok"],
    "properties": {
        "ok": {"type": "boolean"},
        "error": {"type": "string", "description": "What is wrong."},
        "warning": {"type": "string", "description": "What is doubtful."},
    },
}


class HealthReport(TypedDict):
    """How the gateway is."""

    healthy: Annotated[bool, Field(description="False: the store or DICOM fails, or the relay is not hearing.")]
    version: Version
    listener_uptime_seconds: int
    checks: Annotated[
        dict[str, dict[str, Any]],
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": _CHECK,
                "description": "store, dicom, relay, outbox, steps, disk …, each with details of its own.",
            }
        ),
    ]
    restored_from: NotRequired[Annotated[dict[str, Any] | None, Field(description="The backup it goes on from.")]]
    warnings: NotRequired[Annotated[list[str], Field(description="All that a person should look at.")]]
    anchor: NotRequired[Annotated[dict[str, Any] | None, Field(description="The head of the event log.")]]


class HealthTold(TypedDict):
    """The answer to `health`."""

    status: Literal["ok"]
    action_id: ActionIdBack
    health: HealthReport
    received_at: NotRequired[ReceivedAt]
    gateway_version: NotRequired[Version]


Reply = Done | Failed | Echoed | HealthTold

TRY_AGAIN = "the gateway could not do it now: ask again"
"""The message of `internal`."""

UNANSWERED: Failed = {
    "status": "error",
    "action_id": None,
    "message": TRY_AGAIN,
    "code": "internal",
    "field": None,
    "retryable": True,
}
"""What the listener says in the door's place, when the door took too long."""
