"""The service's own life is on record: starts, stops, and that it was killed; so are looks at persons."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.harness import GatewayProcess

pytestmark = pytest.mark.slow

BEGINNING = ("--since", "2020-01-01")
PERSON = ("--patient-id", "9990000018", "--patient-name", "SMITH^JANE", "--patient-birth-date", "19650315")


def acts(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.look("audit", "list", *BEGINNING)
    return found


def test_a_killed_service_is_told_of_at_its_next_start(lonely: GatewayProcess) -> None:
    gateway = lonely.start()
    gateway.kill()
    gateway.start()
    assert gateway.said("previous_ended_without_stop")
    assert gateway.stop() == 0
    gateway.start()
    assert [act["act"] for act in acts(gateway)] == [
        "service started",
        "service started",
        "service stopped",
        "service started",
    ]
    told = [act["details"].get("previous_ended_without_stop") for act in acts(gateway)]
    assert [bool(latest) for latest in told] == [False, True, False, False]
    exported = gateway.command("audit", "export").stdout
    assert exported.count('originalText="Application Start"') == 3
    assert exported.count('originalText="Application Stop"') == 2
    assert exported.count('EventOutcomeIndicator="8"') == 1


def test_a_look_at_a_name_beside_the_running_service_is_on_record(lonely: GatewayProcess) -> None:
    gateway = lonely.start()
    gateway.command("worklist", "add", "ACC001", *PERSON, "--scheduled-time", "100000")
    assert "SMITH" in gateway.command("worklist", "list", "--reveal").stdout
    found = gateway.look("audit", "list", "--accession", "ACC001")
    assert [(act["act"], act["about"]) for act in found] == [("listed", ["ACC001"]), ("looked", ["ACC001"])]
    assert found[0]["who"] == found[1]["who"] != ""
