"""JSON Schema (2020-12) of the contract's messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from gateway.contract.catalogue import Message, sample

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Without what is of use only to the program: titles made of names, and defaults that stand for an absent key."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002  pydantic's own signature
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema_of(message: Message) -> dict[str, Any]:
    """The schema of one message, complete in itself, with its samples as examples."""
    schema = TypeAdapter(message.model).json_schema(schema_generator=_Generator)
    return {
        "$schema": DIALECT,
        "$id": f"urn:worklist-gateway:contract:{message.name}",
        "title": message.name,
        **_plain(schema),
        "examples": [sample(message.kind, name) for name in message.samples],
    }


def shared_schemas(messages: Sequence[Message], place: str) -> tuple[dict[str, str], dict[str, Any]]:
    """All schemas in one: where each message's stands (`$ref`), and the definitions by name, which stand at `place`."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (message.name, "validation", TypeAdapter(message.model)) for message in messages
    ]
    found, definitions = TypeAdapter.json_schemas(
        inputs, schema_generator=_Generator, ref_template=f"{place}/{{model}}"
    )
    references = {name: schema["$ref"] for (name, _), schema in found.items()}
    return references, {name: _plain(schema) for name, schema in definitions["$defs"].items()}


def _plain(schema: Any) -> Any:  # noqa: ANN401  any JSON value
    """Docstrings on one line, and no titles that repeat the names of classes."""
    if isinstance(schema, dict):
        kept = {name: _plain(value) for name, value in schema.items() if name != "title" or not isinstance(value, str)}
        if isinstance(kept.get("description"), str):
            kept["description"] = " ".join(kept["description"].split())
        return kept
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema
