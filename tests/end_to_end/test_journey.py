"""One appointment from the web app to the modality and back, with everybody's own tools around the real process."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.end_to_end.harness import (
    AE_TITLE,
    CONTRACT,
    KEY,
    KEY_NAME,
    GatewayProcess,
    LocalRelay,
    Relay,
    RelayProcess,
    create_item,
    running,
    today,
    tool,
)
from tests.end_to_end.unit import Unit, finished, new_uid, started
from tests.end_to_end.web_app import WebApp
from tests.interop.hyco.clients import Hyco, Node

pytestmark = pytest.mark.slow

ACTIONS = {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in CONTRACT.glob("actions/*.json")}
REPLIES = {path.name.removesuffix(".json"): json.loads(path.read_text()) for path in CONTRACT.glob("replies/*.json")}
EVENT = json.loads((CONTRACT / "events" / "mpps.status_update.json").read_text())

ADDED = {"received_at", "gateway_version"}
"""What we add to every reply but echo's."""


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 90))

    return run


def findscu(gateway: GatewayProcess, folder: Path, *keys: str) -> list[Dataset]:
    """What DCMTK's findscu is answered."""
    folder.mkdir()
    wanted = [part for key in keys for part in ("-k", key)]
    subprocess.run(
        [
            tool("findscu", "/usr/bin/findscu"),
            *("-W", "-X", "-od", str(folder), "-aet", "MAMMO1", "-aec", AE_TITLE),
            *wanted,
            *("127.0.0.1", str(gateway.dicom_port)),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    return [dcmread(path, force=True) for path in sorted(folder.iterdir())]


def keywords(data_set: Dataset) -> set[str]:
    """The keywords of a data set and of all that is nested in it, with dots."""
    found = set()
    for element in data_set:
        found.add(element.keyword)
        if element.VR == "SQ":
            found |= {f"{element.keyword}.{nested}" for item in element.value for nested in keywords(item)}
    return found


async def _replies(hyco: Hyco, relay: Relay, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """The replies to messages that hyco-ws sends."""
    async with hyco.run(hyco.sender, relay.address, "actions", key=(KEY_NAME, KEY)) as sender:
        await sender.say(*(json.dumps(message) for message in messages))
        events = await sender.events()
    assert events[-1] == {"type": "done", "failed": 0}, events
    return [json.loads(event["data"]) for event in events if event["type"] == "reply"]


async def _told(listener: Node) -> dict[str, Any]:
    """The next event that a hyco-ws listener received, once its rendezvous is over."""
    event = json.loads((await listener.event("message"))["data"])
    assert (await listener.event("closed"))["code"] == 1000
    return event


@asynchronous
async def test_an_appointment_scheduled_by_hyco_ws_is_listed_by_findscu_performed_and_told_back_to_hyco_ws(
    hyco: Hyco, relay_process: RelayProcess, tmp_path: Path
) -> None:
    relay, gateway = relay_process, GatewayProcess(tmp_path / "gateway", relay_process)
    with running(gateway):
        await asyncio.to_thread(gateway.start)
        await _travel(hyco, relay, gateway, tmp_path)


async def _travel(hyco: Hyco, relay: RelayProcess, gateway: GatewayProcess, tmp_path: Path) -> None:
    acknowledgement = '{"status": "updated", "action_id": {{data.action_id}}, "event_id": {{event_id}}}'
    action = create_item("ACC20261124A1", participant={"name": "O'CONNOR^ZOË^^MS", "nhs_number": "9990000026"})
    unit = Unit(gateway.dicom_port)
    async with hyco.run(
        hyco.listener, relay.address, "events", "--reply", acknowledgement, key=(KEY_NAME, KEY)
    ) as listener:
        await listener.event("listening")

        [reply] = await _replies(hyco, relay, action)
        assert reply["status"] == "created"
        assert reply["action_id"] == action["action_id"]

        [answer] = await asyncio.to_thread(
            findscu, gateway, tmp_path / "found", "SpecificCharacterSet=ISO_IR 192", "PatientName", "AccessionNumber",
            "StudyInstanceUID", "ScheduledProcedureStepSequence[0].Modality=MG",
            f"ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate={today()}",
        )  # fmt: skip
        assert keywords(answer) == {
            "SpecificCharacterSet",
            "PatientName",
            "AccessionNumber",
            "StudyInstanceUID",
            "ScheduledProcedureStepSequence",
            "ScheduledProcedureStepSequence.Modality",
            "ScheduledProcedureStepSequence.ScheduledProcedureStepStartDate",
        }
        assert (answer.AccessionNumber, str(answer.PatientName)) == ("ACC20261124A1", "O'CONNOR^ZOË^^MS")

        [entry] = await asyncio.to_thread(unit.find, AccessionNumber="ACC20261124A1")
        assert entry.StudyInstanceUID == answer.StudyInstanceUID
        uid = new_uid()
        assert await asyncio.to_thread(unit.create, uid, started(entry)) == 0
        first = await _told(listener)
        assert await asyncio.to_thread(unit.find, AccessionNumber="ACC20261124A1") == []
        assert await asyncio.to_thread(unit.set, uid, finished()) == 0
        second = await _told(listener)

    for event, sequence, status in ((first, 1, "IN PROGRESS"), (second, 2, "COMPLETED")):
        assert event.keys() == EVENT.keys()
        assert event["data"].keys() - {"performed"} == EVENT["data"].keys()  # the added key: docs/status-events.md
        assert {key: event[key] for key in ("schema_version", "event_type", "source_system")} == {
            key: EVENT[key] for key in ("schema_version", "event_type", "source_system")
        }
        assert (event["sequence"], event["attempt"]) == (sequence, 1)
        assert event["data"]["action_id"] == action["action_id"]
        assert event["data"]["accession_number"] == "ACC20261124A1"
        assert event["data"]["status"] == status
        assert event["data"]["mpps_instance_uid"] == uid
        sent, occurred = (datetime.fromisoformat(text) for text in (event["timestamp"], event["data"]["occurred_at"]))
        assert timedelta(seconds=-1) < sent - occurred < timedelta(minutes=1)  # one is in whole seconds
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", event["timestamp"])

    await asyncio.to_thread(gateway.until_said, "status_update_acknowledged", event_id=second["event_id"])
    await asyncio.to_thread(_assert_that_every_window_tells_the_same_story, gateway, action, uid, [first, second])


def _assert_that_every_window_tells_the_same_story(
    gateway: GatewayProcess, action: dict[str, Any], uid: str, events: list[dict[str, Any]]
) -> None:
    """The commands look at the live database while the service goes on."""
    number = action["parameters"]["worklist_item"]["accession_number"]
    assert gateway.look("outbox", "list") == []
    settled = gateway.look("outbox", "list", "--state", "acknowledged")
    assert [(row["event_id"], row["sequence"], row["answer"], row["attempts"]) for row in settled] == [
        (event["event_id"], event["sequence"], "updated", 1) for event in events
    ]
    hops = gateway.look("timeline", number)
    timeline = [row for row in hops if row["position"]]
    assert {row["hop"] for row in hops if not row["position"]} >= {"received", "told"}
    assert [row["kind"] for row in timeline] == [
        "RelayAction.Accepted",
        "WorklistItem.Scheduled",
        "PerformedProcedureStep.Started",
        "WorklistItem.StepStarted",
        "StatusUpdate.Requested",
        "StatusUpdate.Acknowledged",
        "PerformedProcedureStep.Completed",
        "WorklistItem.StepCompleted",
        "StatusUpdate.Requested",
        "StatusUpdate.Acknowledged",
    ]
    assert [row["details"]["event_id"] for row in timeline if row["kind"] == "StatusUpdate.Acknowledged"] == [
        event["event_id"] for event in events
    ]
    assert timeline[2]["ae_title"] == "MAMMO1"
    assert "9990000026" not in json.dumps(timeline)
    assert "CONNOR" not in json.dumps(timeline)
    [row] = gateway.look("worklist", "list", "--accession", number)
    assert (row["status"], row["mpps_instance_uid"]) == ("COMPLETED", uid)
    assert row["source_message_id"] == action["action_id"]
    assert "CONNOR" not in gateway.command("worklist", "list").stdout
    assert "O'CONNOR^ZOË^^MS" in gateway.command("worklist", "list", "--reveal").stdout
    assert gateway.look("worklist", "statistics") == {"items": {"COMPLETED": 1}, "test_items": {}}
    assert gateway.look("events", "verify")["intact"] is True
    assert gateway.look("projections", "verify") == {"equal": True, "differences": []}
    health = gateway.health()
    assert health is not None
    assert health[0] == 200
    assert health[1]["checks"]["outbox"] == {"ok": True, "waiting": 0, "parked": 0}


@asynchronous
async def test_every_sample_of_the_contract_is_answered_with_the_keys_of_the_contract_over_hyco_ws(
    hyco: Hyco, relay: LocalRelay, gateway: GatewayProcess
) -> None:
    expected = {
        "echo": "echo",
        "health": "health",
        "worklist.create_item": "created",
        "worklist.create_item.extended": "created",
        "worklist.create_test_item": "created",
        "worklist.update_item": "updated",
    }
    replies = await _replies(hyco, relay, *(ACTIONS[name] for name in expected))
    for name, reply in zip(expected, replies, strict=True):
        _assert_like(reply, REPLIES[expected[name]], name)
    assert replies[0] == {"status": "echo", "payload": ACTIONS["echo"]}
    assert replies[1]["health"]["checks"].keys() >= REPLIES["health"]["health"]["checks"].keys()
    for check, sample in REPLIES["health"]["health"]["checks"].items():
        assert sample.keys() <= replies[1]["health"]["checks"][check].keys()
    assert replies[1]["health"]["healthy"] is True

    [repeated] = await _replies(hyco, relay, ACTIONS["worklist.create_item"])
    _assert_like(repeated, REPLIES["created.duplicate"], "the same again")
    assert {**repeated, "duplicate": None} == {**replies[2], "duplicate": None}
    [exists] = await _replies(hyco, relay, ACTIONS["worklist.create_item.extended"] | {"action_id": "another"})
    _assert_like(exists, REPLIES["exists"], "the same item under another action_id")

    [updated] = await _replies(hyco, relay, ACTIONS["worklist.update_status"])
    _assert_like(updated, REPLIES["updated"], "worklist.update_status")
    [error] = await _replies(hyco, relay, ACTIONS["worklist.cancel_item"])
    _assert_like(error, REPLIES["error"], "a cancellation of what is in progress")
    assert (error["code"], error["retryable"]) == ("illegal_transition", False)

    number = ACTIONS["worklist.create_item.extended"]["parameters"]["worklist_item"]["accession_number"]
    cancel = ACTIONS["worklist.cancel_item"] | {"action_id": "a third"}
    cancel = cancel | {"parameters": {"worklist_item": {"accession_number": number, "reason": "did not attend"}}}
    [cancelled] = await _replies(hyco, relay, cancel)
    _assert_like(cancelled, REPLIES["cancelled"], "worklist.cancel_item")

    item = await asyncio.to_thread(gateway.item, "ACC20260424A1B2")
    assert (item.scheduled_time, item.patient_name, item.status) == ("143000", "SMITH^JANE^MARY", "IN PROGRESS")
    extended = await asyncio.to_thread(gateway.item, "ACC20260424A1B3")
    assert (extended.scheduled_date, extended.scheduled_time) == ("20260424", "110000")
    assert (extended.station_ae_titles, extended.status) == (("MAMMO1", "MAMMO2"), "CANCELLED")
    assert await asyncio.to_thread(gateway.owed) == []
    await asyncio.to_thread(gateway.assert_sound)


def _assert_like(reply: dict[str, Any], sample: dict[str, Any], name: str) -> None:
    """The same status and at least the sample's keys; what is more we may add."""
    assert reply["status"] == sample["status"], f"{name}: {reply}"
    assert sample.keys() <= reply.keys(), name
    extra = reply.keys() - sample.keys()
    assert extra <= ADDED | {"accession_number"} | ({"duplicate"} if sample["status"] == "error" else set()), name
    if sample["status"] != "echo":
        assert reply.keys() >= ADDED, name


def test_a_step_that_is_discontinued_is_told_as_such(gateway: GatewayProcess, listening: WebApp, unit: Unit) -> None:
    gateway.ask(create_item("ACC1"))
    unit.perform("ACC1", "DISCONTINUED")
    events = listening.until_told("ACC1", "IN PROGRESS", "DISCONTINUED")
    assert [event["sequence"] for event in events] == [1, 2]
    assert gateway.status("ACC1") == "DISCONTINUED"


def test_what_the_web_app_was_answered_is_in_the_very_next_query(gateway: GatewayProcess, unit: Unit) -> None:
    for number in range(20):
        accession_number = f"NEXT{number:02d}"
        assert gateway.ask(create_item(accession_number))["status"] == "created"
        assert unit.numbers(AccessionNumber=accession_number) == [accession_number]
    assert unit.numbers(date=today(), modality="MG") == [f"NEXT{number:02d}" for number in range(20)]
    gateway.ask({**create_item("NEXT00"), "action_type": "worklist.cancel_item"})
    assert "NEXT00" not in unit.numbers(date=today())


def test_http_through_the_relay_answers_echo_and_health_like_the_actions(
    relay: LocalRelay, gateway: GatewayProcess
) -> None:
    from http.client import HTTPConnection

    def get(path: str) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", relay.port, timeout=10)
        hybrid = relay.connection("actions")
        token = hybrid.credential.token(hybrid.resource_uri).value  # type: ignore[attr-defined]
        connection.request("GET", path, headers={"ServiceBusAuthorization": token})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    assert get("/actions/echo") == (200, {"status": "echo", "payload": {"action_type": "echo"}})
    status, health = get("/actions/health")
    assert (status, health["status"], health["health"]["healthy"]) == (200, "ok", True)
    status, refused = get("/actions/elsewhere")
    assert (status, refused["code"]) == (501, "unsupported_action")


def test_the_simulated_unit_of_the_command_line_performs_an_examination(
    gateway: GatewayProcess, listening: WebApp
) -> None:
    gateway.ask(create_item("ACC7"))
    port = ("-H", "127.0.0.1", "-p", str(gateway.dicom_port))
    gateway.command("modality", "echo", *port)
    assert "ACC7" in gateway.command("modality", "find", "-m", "MG", "-d", today(), *port).stdout
    gateway.command("modality", "perform", "ACC7", *port)
    listening.until_told("ACC7", "IN PROGRESS", "COMPLETED")
    gateway.until_settled()
