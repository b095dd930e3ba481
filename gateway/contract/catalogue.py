"""Every message between the web app and the gateway: its model, which way it goes, and samples of it.

A further event is an entry of `gateway.delivery.messages.EVENTS` and a sample `samples/events/TYPE.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from gateway.actions import messages as actions
from gateway.actions import replies
from gateway.delivery import messages as events
from gateway.errors import NotFound

_SAMPLES = Path(__file__).with_name("samples")


class Kind(StrEnum):
    """What a message is: a request or its answer, on one of the two hybrid connections."""

    ACTION = "actions"
    REPLY = "replies"
    EVENT = "events"
    ACKNOWLEDGEMENT = "acks"


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the contract. `model` is a pydantic model or a typed dictionary; `samples` are names of files."""

    name: str
    kind: Kind
    model: Any
    samples: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What it is, in a paragraph: its model's docstring."""
        return " ".join((self.model.__doc__ or "").split())


def _action(name: str, model: type, *samples: str) -> Message:
    return Message(name, Kind.ACTION, model, samples or (name,))


def _reply(name: str, model: type, *samples: str) -> Message:
    return Message(name, Kind.REPLY, model, samples or (name,))


MESSAGES = (
    _action(
        "worklist.create_item",
        actions.CreateItem,
        "worklist.create_item",
        "worklist.create_item.extended",
        "worklist.create_test_item",
    ),
    _action("worklist.update_item", actions.UpdateItem),
    _action("worklist.update_status", actions.UpdateStatus),
    _action("worklist.cancel_item", actions.CancelItem),
    _action("echo", actions.Echo),
    _action("health", actions.AskHealth),
    _reply("done", replies.Done, "created", "created.duplicate", "exists", "updated", "cancelled"),
    _reply("failed", replies.Failed, "error", "malformed"),
    _reply("echoed", replies.Echoed, "echo"),
    _reply("health_told", replies.HealthTold, "health"),
    *(Message(name, Kind.EVENT, model, (name,)) for name, model in events.EVENTS.items()),
    Message("event_acknowledged", Kind.ACKNOWLEDGEMENT, events.EventAcknowledged, tuple(events.WORDS)),
)


def message(name: str) -> Message:
    """The message of this name. Raises `NotFound`."""
    for found in MESSAGES:
        if found.name == name:
            return found
    raise NotFound(f"there is no message {name}", remedy=f"there are {', '.join(m.name for m in MESSAGES)}")


def sample(kind: Kind, name: str) -> dict[str, Any]:
    """A sample, such as `created` of the replies."""
    text = (_SAMPLES / kind / f"{name}.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))
