"""The contract's document is valid by the AsyncAPI Initiative's own JSON Schema of AsyncAPI 3.0.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from gateway.contract.asyncapi import document
from tests.interop.npm import installed

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def specification() -> Draft7Validator:
    installed(HERE, "AsyncAPI's own schema")
    schema = HERE / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    return Draft7Validator(json.loads(schema.read_text(encoding="utf-8")))


def test_the_document_is_an_asyncapi_document(specification: Draft7Validator) -> None:
    assert [f"{error.json_path}: {error.message[:300]}" for error in specification.iter_errors(document())] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("channels.actions.address", 7),
        ("operations.answerAction.action", "publish"),
        ("servers.relay.protocol", None),
        ("components.securitySchemes.entra.type", "nothing"),
        ("components.messages.echo.examples", [{"of": "nothing"}]),
    ],
)
def test_that_schema_looks_into_every_corner(specification: Draft7Validator, place: str, value: Any) -> None:
    spoilt = document()
    *parents, last = place.split(".")
    within = spoilt
    for name in parents:
        within = within[name]
    within[last] = value
    assert list(specification.iter_errors(spoilt))
