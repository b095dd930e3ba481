"""What the contract's tests share: schemas that judge, and the samples by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from gateway.contract import catalogue
from gateway.contract.catalogue import MESSAGES, Kind
from gateway.contract.schemas import schema_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "contract"
SAMPLES = ROOT / "gateway" / "contract" / "samples"
VALIDATORS = {message.name: Draft202012Validator(schema_of(message)) for message in MESSAGES}
REPLIES = [message.name for message in MESSAGES if message.kind is Kind.REPLY]


def findings(name: str, value: Any) -> list[str]:
    """What the schema of this message has against it."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATORS[name].iter_errors(value)]


def names(value: Any) -> list[str]:
    """Which of the replies it is, by its shape alone: always exactly one."""
    return [name for name in REPLIES if not findings(name, value)]


def sample(name: str, message: str) -> dict[str, Any]:
    """A sample of a message, by the name of its file."""
    return catalogue.sample(catalogue.message(message).kind, name)
