"""The AsyncAPI document hangs together, and what is checked in under docs/contract is what the code says today."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract_support import DOCS, ROOT
from jsonschema import Draft7Validator, Draft202012Validator

from gateway import __version__
from gateway.actions.messages import MODELS
from gateway.actions.replies import ERROR_CODES
from gateway.contract.asyncapi import document
from gateway.contract.catalogue import MESSAGES, Kind
from gateway.contract.files import texts
from gateway.delivery.messages import EVENTS, WORDS

DOCUMENT = document()


def test_what_is_checked_in_is_not_stale_run_gateway_contract_write_docs_contract() -> None:
    checked_in = {str(file.relative_to(DOCS)): file.read_text("utf-8") for file in DOCS.rglob("*") if file.is_file()}
    assert checked_in == texts()


def resolved(reference: str) -> Any:
    place: Any = DOCUMENT
    for word in reference.removeprefix("#/").split("/"):
        place = place[word]
    return place


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def test_each_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 40
    for reference in found:
        assert resolved(reference)


def test_it_is_of_this_version_of_the_gateway() -> None:
    assert (DOCUMENT["asyncapi"], DOCUMENT["info"]["version"]) == ("3.0.0", __version__)


def test_each_action_that_the_door_knows_and_each_event_that_leaves_is_in_it() -> None:
    types = {
        word
        for message in MESSAGES
        if message.kind is Kind.ACTION
        for sent in DOCUMENT["components"]["messages"][message.name]["examples"]
        for word in [sent["payload"]["action_type"]]
    }
    assert types == {*MODELS, "echo", "health"}
    assert {message.name for message in MESSAGES if message.kind is Kind.EVENT} == set(EVENTS)


def test_both_hybrid_connections_carry_a_request_and_its_reply_at_one_rendezvous() -> None:
    operations = DOCUMENT["operations"]
    assert {name: told["action"] for name, told in operations.items()} == {
        "answerAction": "receive",
        "tellEvent": "send",
    }
    for told in operations.values():
        assert told["channel"] == told["reply"]["channel"]
        carried = resolved(told["channel"]["$ref"])["messages"]
        asked, answered = told["messages"], told["reply"]["messages"]
        assert {each["$ref"].rsplit("/", 1)[1] for each in [*asked, *answered]} == set(carried)
        assert all(
            resolved(each["$ref"]) == {"$ref": f"#/components/messages/{each['$ref'].rsplit('/', 1)[1]}"}
            for each in asked
        )


def test_each_error_code_and_each_word_of_an_acknowledgement_is_told() -> None:
    channels = DOCUMENT["channels"]
    assert set(channels["actions"]["x-error-codes"]) == set(ERROR_CODES)
    assert set(channels["events"]["x-acknowledgements"]) == set(WORDS)


@pytest.mark.parametrize("dialect", [Draft7Validator, Draft202012Validator], ids=lambda kind: kind.__name__)
def test_its_schemas_are_read_alike_by_the_draft_that_asyncapi_builds_on_and_by_the_newest(dialect: Any) -> None:
    for message in DOCUMENT["components"]["messages"].values():
        schema = {"$ref": message["payload"]["$ref"], "components": DOCUMENT["components"]}
        for example in message["examples"]:
            assert list(dialect(schema).iter_errors(example["payload"])) == []
        assert list(dialect(schema).iter_errors({}))


def test_the_samples_in_it_are_of_nobody_real() -> None:
    numbers = re.findall(r'"nhs_number": "(\d+)"', json.dumps(DOCUMENT))
    assert numbers
    assert all(number.startswith("999") for number in numbers)


# --- the command


def told(*words: str) -> str:
    command = [str(Path(sys.executable).with_name("gateway")), "contract", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.slow
def test_the_command_prints_the_document_and_each_schema_and_writes_them_all(tmp_path: Path) -> None:
    assert json.loads(told("asyncapi")) == DOCUMENT
    assert json.loads(told("schema", "worklist.create_item"))["title"] == "worklist.create_item"
    listed = told("schema").splitlines()[1:]
    assert [line.split()[0] for line in listed] == [message.name for message in MESSAGES]
    told("write", str(tmp_path / "made"))
    assert {
        str(f.relative_to(tmp_path / "made")): f.read_text("utf-8") for f in (tmp_path / "made").rglob("*.json")
    } == texts()


@pytest.mark.slow
def test_a_message_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        told("schema", "nothing")
    assert failed.value.returncode == 1
    assert failed.value.stderr.startswith("gateway: not_found: there is no message nothing → there are worklist.create")
