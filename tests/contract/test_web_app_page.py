"""docs/for-the-web-app-team.md: both programs run as they stand, against the real emulator and gateway."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract_support import ROOT, findings, names

from gateway.actions.messages import ACTION_ID_LIMIT, DEEPEST, MAXIMUM_SIZE, MODELS
from gateway.actions.replies import ERROR_CODES
from gateway.contract.catalogue import Kind, sample
from gateway.delivery.messages import EVENTS, WORDS
from tests.end_to_end.harness import (
    KEY,
    KEY_NAME,
    GatewayProcess,
    LocalRelay,
    ask,
    environment,
    running,
    today,
    until,
)

PAGE = (ROOT / "docs" / "for-the-web-app-team.md").read_text(encoding="utf-8")
SENDER, LISTENER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


class Listener:
    """The page's listener as a process."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.said, self.errors = folder / "listener.out", folder / "listener.err"
        with self.said.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen([sys.executable, "-c", LISTENER], env=settings, stdout=out, stderr=err)

    def until_listening(self, times: int = 1) -> None:
        until(lambda: self.errors.read_text("utf-8").count("listening") >= times, "the page's listener listens")

    def until_heard(self, *lines: str) -> None:
        until(lambda: self.said.read_text("utf-8").splitlines() == [*lines], f"it hears {lines}")


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    emulator = LocalRelay().start()
    yield emulator
    emulator.close()


@pytest.fixture
def gateway(tmp_path: Path, relay: LocalRelay) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "gateway", relay)
    with running(process):
        yield process.start()


@pytest.fixture
def settings(relay: LocalRelay) -> dict[str, str]:
    return environment(relay=relay.address, relay_key_name=KEY_NAME, relay_key=KEY)


@pytest.fixture
def listener(tmp_path: Path, settings: dict[str, str]) -> Iterator[Listener]:
    listening = Listener(tmp_path, settings)
    listening.until_listening()
    yield listening
    listening.process.kill()
    listening.process.wait(10)


def sent(folder: Path, settings: dict[str, str], action: str) -> subprocess.CompletedProcess[str]:
    (folder / "action.json").write_text(action, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-c", SENDER, "action.json"],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def first_action(gateway: GatewayProcess) -> str:
    """The sample that the page begins with, dated today as the page says."""
    assert "gateway contract sample worklist.create_item > action.json" in PAGE
    printed = json.loads(gateway.command("contract", "sample", "worklist.create_item").stdout)
    printed["parameters"]["worklist_item"]["scheduled"]["date"] = today()
    return json.dumps(printed)


def perform(gateway: GatewayProcess) -> None:
    assert "gateway modality perform ACC20260424A1B2" in PAGE
    gateway.command("modality", "perform", "ACC20260424A1B2", "-p", str(gateway.dicom_port))


@pytest.mark.slow
def test_an_appointment_goes_out_by_the_page_s_sender_and_its_statuses_come_to_the_page_s_listener(
    gateway: GatewayProcess, listener: Listener, settings: dict[str, str], tmp_path: Path
) -> None:
    action = first_action(gateway)
    first, again = sent(tmp_path, settings, action), sent(tmp_path, settings, action)
    assert (first.returncode, first.stderr) == (0, "")
    replies = [json.loads(each.stdout) for each in (first, again)]
    assert [reply["status"] for reply in replies] == ["created", "created"]
    assert [reply.get("duplicate") for reply in replies] == [None, True]
    assert [names(reply) for reply in replies] == [["done"], ["done"]]
    perform(gateway)
    listener.until_heard("ACC20260424A1B2 1 IN PROGRESS", "ACC20260424A1B2 2 COMPLETED")
    gateway.until_settled()


@pytest.mark.slow
def test_a_lost_reply_costs_the_page_s_sender_a_second_try_and_nothing_is_done_twice(
    relay: LocalRelay, gateway: GatewayProcess, settings: dict[str, str], tmp_path: Path
) -> None:
    relay.begin("lost-reply", path="actions", times=1)
    done = sent(tmp_path, settings, first_action(gateway))
    assert done.stderr.startswith("attempt 1: ")
    assert json.loads(done.stdout)["duplicate"] is True
    assert gateway.item_count() == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", EVENTS)
def test_the_page_s_listener_takes_every_event_of_the_contract(
    relay: LocalRelay, listener: Listener, name: str
) -> None:
    event = sample(Kind.EVENT, name)
    assert ask(relay.connection("events"), event) == {"status": "updated", "event_id": event["event_id"]}
    said = event["data"].get("status", event["event_type"])
    listener.until_heard(f"{event['data']['accession_number']} {event['sequence']} {said}")


@pytest.mark.slow
def test_the_page_s_listener_comes_back_when_its_connection_is_cut(
    relay: LocalRelay, gateway: GatewayProcess, listener: Listener, settings: dict[str, str], tmp_path: Path
) -> None:
    relay.begin("cut", path="events")
    listener.until_listening(times=2)
    sent(tmp_path, settings, first_action(gateway))
    perform(gateway)
    listener.until_heard("ACC20260424A1B2 1 IN PROGRESS", "ACC20260424A1B2 2 COMPLETED")


@pytest.mark.slow
def test_the_running_gateway_s_own_replies_and_its_health_are_of_the_contract(gateway: GatewayProcess) -> None:
    for message in ({"action_type": "echo"}, {"action_type": "health"}, {"action_type": "no"}, "[]"):
        assert len(names(gateway.ask(message))) == 1
    assert findings("health_told", gateway.ask({"action_type": "health"})) == []


# --- what the page says


@pytest.mark.parametrize("program", [SENDER, LISTENER], ids=["sender", "listener"])
def test_a_program_is_short_and_imports_nothing_of_ours_nor_what_it_does_not_use(program: str) -> None:
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 36
    assert max(len(line) for line in lines) <= 120
    imported = [
        (node.module if isinstance(node, ast.ImportFrom) else alias.name, alias.name)
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    for module, name in imported:
        top = str(module).partition(".")[0]
        assert top == "websockets" or top in sys.stdlib_module_names
        assert len(re.findall(rf"\b{name}\b", program)) > 1, name


def rows(title: str) -> list[list[str]]:
    section = PAGE.split(title, 1)[1].split("|---|", 1)[1]
    table = section.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_the_table_of_codes_is_the_code_s() -> None:
    assert rows("### When it can't be done") == [
        [f"`{code}`", told.meaning, told.remedy, "yes" if told.retryable else "no"]
        for code, told in ERROR_CODES.items()
    ]


def test_the_table_of_acknowledgements_is_the_code_s() -> None:
    assert rows("## Status events") == [[f"`{word}`", meaning] for word, meaning in WORDS.items()]


def test_each_action_is_told_of() -> None:
    words = {word for row in rows("## Actions") for word in re.findall(r"`([a-z_.]+)`", row[0])}
    assert words == {*MODELS, "echo", "health"}


def test_the_limits_are_the_code_s() -> None:
    limits = PAGE.split("## Limits", 1)[1]
    assert f"{MAXIMUM_SIZE // 1024} KiB" in limits
    assert f"{DEEPEST} deep" in limits
    assert f"{ACTION_ID_LIMIT} characters" in limits
