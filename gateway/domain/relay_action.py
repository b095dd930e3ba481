"""The receipt of an action that came over the relay: what was asked, and the answer that was given, for ever."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from uuid import UUID, uuid4

from gateway.domain.events import Stream
from gateway.domain.identity import relay_action_id, worklist_item_id
from gateway.errors import ActionIdConflict, Refusal


@dataclass(frozen=True, kw_only=True)
class ActionRequest:
    """An action as the door received it.

    `digest` is taken over `action_type` and `parameters` as canonical JSON; `text` is the message as received.
    """

    action_id: str
    action_type: str
    digest: str
    text: str
    received_at: str


@dataclass(frozen=True, kw_only=True)
class ActionReply:
    """The answer, in our words; `field` is the domain's name of a value or a path into the message."""

    status: str
    accession_number: str | None = None
    code: str | None = None
    message: str | None = None
    field: str | None = None
    retryable: bool = False
    duplicate: bool = False
    received_at: str | None = None
    """When the request that is answered came in; a repeat says when the first one did."""

    @classmethod
    def refused(cls, refusal: Refusal) -> ActionReply:
        """The answer to what can't be done."""
        return cls(status="error", code=refusal.code, message=refusal.message, field=refusal.field)


class RelayAction(Stream):
    """A receipt. Its one event is the truth about what the web app was answered."""

    TOPIC = "RelayAction"

    class Created(Stream.Created):
        """Base of the two receipts. `request` is the message as received (identifying: it holds the participant)."""

        TOPIC = "RelayAction.Created"
        IDENTIFYING: ClassVar[tuple[str, ...]] = ("request",)
        action_id: str
        action_type: str
        digest: str
        request: str
        reply: dict[str, Any]
        accession_number: str | None
        received_at: str

        def relatives(self) -> Sequence[UUID]:
            """The item it is about."""
            return [worklist_item_id(self.accession_number)] if self.accession_number else []

    class Accepted(Created):
        """Done; the effect is in the same transaction."""

        TOPIC = "RelayAction.Accepted"

    class Rejected(Created):
        """Refused, with code and field."""

        TOPIC = "RelayAction.Rejected"

        def subject(self) -> str:
            """The participant in the message, who need not be the item's patient: that may be why it was refused."""
            return _participant(self.request)

    def __init__(self, action_id: str, digest: str, reply: dict[str, Any]) -> None:
        self.action_id = action_id
        self.digest = digest
        self.reply = ActionReply(**reply)

    @staticmethod
    def create_id(action_id: str) -> UUID:
        """The stream of this action_id."""
        return relay_action_id(action_id)

    @classmethod
    def answer(cls, request: ActionRequest, reply: ActionReply, *, accession_number: str | None) -> RelayAction:
        """The receipt for this answer."""
        return cls._create(
            event_class=cls.Rejected if reply.status == "error" else cls.Accepted,
            id=relay_action_id(request.action_id),
            action_id=request.action_id,
            action_type=request.action_type,
            digest=request.digest,
            request=request.text,
            reply=dict(vars(replace(reply, received_at=request.received_at))),
            accession_number=accession_number,
            received_at=request.received_at,
        )

    @classmethod
    def reject_unidentified(
        cls, request: ActionRequest, reply: ActionReply, *, accession_number: str | None = None
    ) -> RelayAction:
        """The record of a message that has no usable action_id of its own: under a random one."""
        unidentified = replace(request, action_id=f"unidentified-{uuid4()}")
        return cls.answer(unidentified, reply, accession_number=accession_number)

    def repeat(self, request: ActionRequest) -> ActionReply:
        """The same answer again; raises `ActionIdConflict` when the content is another."""
        if request.digest != self.digest:
            raise ActionIdConflict("the action_id was used before for another action", field="action_id")
        return replace(self.reply, duplicate=True)


def _participant(text: str) -> str:
    """The NHS number in a message that nobody has checked; "" when it can't be read or there is none."""
    try:
        number = json.loads(text)["parameters"]["worklist_item"]["participant"]["nhs_number"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return number.strip(" ") if isinstance(number, str) else ""
