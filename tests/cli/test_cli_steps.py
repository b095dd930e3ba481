"""`gateway steps`: what a person sees of performed steps, and what a person decides about them."""

from __future__ import annotations

import pytest
from cli_support import Command
from test_cli_json import is_documented

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway

LOST, OPEN = step_uid(9), step_uid(8)
WHY = ("--reason", "typed wrongly at the unit")


@pytest.fixture
def steps(gateway: Gateway) -> Gateway:
    """One finished step that named an unknown item, and one that was begun long ago and never finished."""
    schedule(gateway, "ACC003")
    schedule(gateway, "ACC004")
    start(gateway, LOST, naming("ACC009"))
    change(gateway, completed(LOST))
    start(gateway, OPEN, naming("ACC003"))
    return gateway


def test_unmatched_steps_are_listed_with_what_they_named_and_names_masked(steps: Gateway, run: Command) -> None:
    shown = run("steps", "unmatched")
    assert (shown.code, shown.err) == (0, "1 step\n")
    for word in ("MAMMO1", "COMPLETED", "ACC009", "no item has the accession number", LOST, "S•••• J•••"):
        assert word in shown.out
    assert "SMITH" not in shown.out
    assert "SMITH^JANE" in run("steps", "unmatched", "--reveal").out


def test_a_linked_step_completes_its_item_and_leaves_the_list(steps: Gateway, run: Command) -> None:
    assert run("steps", "link", LOST, "ACC004", *WHY).out == f"{LOST} linked to ACC004, which is COMPLETED\n"
    assert run("steps", "unmatched", "--json").json == []
    assert "typed wrongly at the unit" in run("timeline", "ACC004", "--reveal").out


def test_a_link_to_another_patient_s_item_is_refused_and_says_how_to_insist(gateway: Gateway, run: Command) -> None:
    schedule(gateway, "ACC004", patient_id="9990000026")
    start(gateway, LOST, naming("ACC009"))
    refused = run("steps", "link", LOST, "ACC004", *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("gateway: other_patient: ")
    assert "--despite-other-patient" in refused.err
    assert run("steps", "link", LOST, "ACC004", *WHY, "--despite-other-patient").code == 0


def test_a_phantom_is_dismissed(steps: Gateway, run: Command) -> None:
    assert run("steps", "dismiss", LOST, "--reason", "a phantom").out == f"{LOST} dismissed\n"
    assert run("steps", "unmatched", "--json").json == []


def test_unfinished_steps_are_listed_after_the_hours_that_are_set(steps: Gateway, run: Command) -> None:
    assert [row["sop_instance_uid"] for row in run("steps", "unfinished", "--json").json] == [OPEN]
    assert run("steps", "unfinished", "--hours", "1000000", "--json").json == []


def test_an_item_is_completed_or_cancelled_by_hand(steps: Gateway, run: Command) -> None:
    assert run("steps", "complete", "ACC003", *WHY).out == "ACC003 IN PROGRESS → COMPLETED\n"
    assert run("steps", "cancel", "ACC004", *WHY).out == "ACC004 SCHEDULED → CANCELLED\n"
    assert run("steps", "unfinished", "--json").json == []
    again = run("steps", "cancel", "ACC003", *WHY)
    assert (again.code, again.err.split(": ")[1]) == (1, "illegal_transition")


@pytest.mark.parametrize("verb", ["link", "dismiss", "complete", "cancel"])
def test_nothing_is_decided_without_a_reason(steps: Gateway, run: Command, verb: str) -> None:
    words = {"link": (LOST, "ACC004"), "dismiss": (LOST,)}.get(verb, ("ACC003",))
    assert run("steps", verb, *words).code == 2
    assert run("steps", verb, *words, "--reason", "  ").code == 2
    assert len(steps.unmatched_steps()) == 1


def test_json_is_as_documented(steps: Gateway, run: Command) -> None:
    is_documented(run("steps", "unmatched", "--json").json, "steps unmatched")
    is_documented(run("steps", "unfinished", "--json").json, "steps unfinished")
    is_documented(run("steps", "link", LOST, "ACC004", *WHY, "--json").json, "steps link")
    is_documented(run("steps", "complete", "ACC003", *WHY, "--json").json, "steps complete")
    start(steps, step_uid(7))
    is_documented(run("steps", "dismiss", step_uid(7), *WHY, "--json").json, "steps dismiss")
    schedule(steps, "ACC005")
    is_documented(run("steps", "cancel", "ACC005", *WHY, "--json").json, "steps cancel")
