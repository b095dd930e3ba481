"""The contract as files: what is checked in under docs/contract."""

from __future__ import annotations

import json
from typing import Any

from gateway.contract.asyncapi import document
from gateway.contract.catalogue import MESSAGES
from gateway.contract.schemas import schema_of


def texts() -> dict[str, str]:
    """The text of each file, by its name within the folder."""
    schemas = {f"schemas/{message.name}.json": _text(schema_of(message)) for message in MESSAGES}
    return {"asyncapi.json": _text(document()), **schemas}


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
