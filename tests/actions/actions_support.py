"""What the tests of the door share: messages as the web app sends them, and asking."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from gateway.actions.door import ActionDoor

CONTRACT = Path(__file__).parents[2] / "gateway" / "contract" / "samples"

Message = dict[str, Any]


def sample(name: str) -> Message:
    """A message of the wire contract, such as `actions/echo.json`."""
    return json.loads((CONTRACT / name).read_text())


def ask(door: ActionDoor, message: Any) -> Message:
    """Send a message and read the reply."""
    return json.loads(door.answer(message if isinstance(message, str | bytes) else json.dumps(message)))


def create(action_id: str = "create-1", accession_number: str = "ACC001", **sections: dict[str, Any]) -> Message:
    """A create action; `participant`, `scheduled` and `procedure` are taken over the sample's."""
    message = sample("actions/worklist.create_item.json")
    message["action_id"] = action_id
    item = message["parameters"]["worklist_item"]
    item["accession_number"] = accession_number
    for section, values in sections.items():
        item[section].update(values)
    return message


def action(action_id: str, verb: str, **item: Any) -> Message:
    """Any worklist action over ACC001."""
    return {
        "action_id": action_id,
        "action_type": f"worklist.{verb}",
        "parameters": {"worklist_item": {"accession_number": "ACC001", **item}},
    }


def replaced(message: Message, path: str, value: Any) -> Message:
    """A copy with another value at a dotted path, from `parameters` or the top."""
    changed = copy.deepcopy(message)
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place[name]
    place[last] = value
    return changed


def without(message: Message, path: str) -> Message:
    """A copy without the key at a dotted path."""
    changed = copy.deepcopy(message)
    *parents, last = path.split(".")
    place = changed
    for name in parents:
        place = place[name]
    del place[last]
    return changed
