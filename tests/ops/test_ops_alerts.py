"""docs/alerts: each rule is over metrics that a real scrape has, and each has its section of the runbook."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ops_support import asynchronous, fetch, running
from prometheus_client.parser import text_string_to_metric_families

from gateway.settings import Settings
from relay.emulator import Emulator

Make = Callable[..., Settings]
DOCS = Path(__file__).parents[2] / "docs"
FILE = DOCS / "alerts" / "worklist-gateway.rules.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
PAGE = (DOCS / "alerts.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)

by_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"worklist_gateway_\w+", expression))


@by_rule
def test_a_rule_has_all_that_prometheus_and_a_person_need(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"[1-9]\d*[mh]", rule.get("for", "1m"))
    assert rule["annotations"].keys() == {"summary", "runbook"}
    assert metrics_of(rule["expr"])


@by_rule
def test_a_rule_has_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["alert"] in SECTIONS
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{rule['alert'].lower()}"


def test_there_is_no_section_without_a_rule_and_no_rule_twice() -> None:
    assert [rule["alert"] for rule in RULES] == SECTIONS


@pytest.mark.slow
@asynchronous
async def test_each_metric_of_the_rules_is_in_a_real_scrape(
    own_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator(hybrid_connections=["actions"], keys={"k": "secret"}) as emulator:
        settings = own_settings(
            azure_relay_connection_string=emulator.connection_string("k"),
            azure_relay_hybrid_connection="actions",
            gateway_backup_at=time(3),
        )
        async with running(settings, monkeypatch) as (service, port):
            await service.hearing.wait()
            text = (await fetch(port, "/metrics")).body.decode()
    told = {family.name for family in text_string_to_metric_families(text)}
    assert {name for rule in RULES for name in metrics_of(rule["expr"])} <= told


def test_no_placeholder_of_a_summary_is_a_label_that_there_is_not() -> None:
    labels = {word for rule in RULES for word in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])}
    assert labels == {"ae_title", "projection"}
