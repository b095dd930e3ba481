"""`gateway images` and `gateway routes`: lists, masks, decisions, and the check of a file of routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_support import Command
from test_cli_json import is_documented

from bench.synthetic import RECEIVED, orthanc_id, place, schedule, study, study_uid
from gateway.application import Gateway
from gateway.audit import activities
from gateway.domain.received_study import Route

ROUTES = [Route(rule="mammograms", target="PACS")]


@pytest.fixture
def received(gateway: Gateway) -> Gateway:
    """One study of ACC001 that can't be sent on, one of nobody on the list, and one that could not be read."""
    schedule(gateway, "ACC001")
    gateway.begin_feed(reason="the first that is followed", database="")
    gateway.receive_study(study(1), place(1), received_at=RECEIVED, routes=ROUTES, tell_web_app=True)
    gateway.route_failed(orthanc_id(1), "PACS", error="Connection refused")
    gateway.receive_study(study(2, "ACC999", patient_id="9990000026"), place(2), received_at=RECEIVED)
    gateway.park_study("25ff8090-fc0a45ab", "study: Orthanc answers 500", place(3))
    return gateway


def test_what_each_prints_as_json_is_documented(received: Gateway, run: Command) -> None:
    for words in (("images", "list"), ("images", "unmatched"), ("images", "parked"), ("routes", "list")):
        outcome = run(*words, "--json")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.json
        is_documented(outcome.json, " ".join(words))
    is_documented(run("outbox", "list", "--json").json, "outbox list")
    is_documented(run("images", "dismiss", study_uid(2), "--reason", "a phantom", "--json").json, "images dismiss")
    abandoned = run("routes", "abandon", study_uid(1), "PACS", "--reason", "sent by hand", "--json")
    is_documented(abandoned.json, "routes abandon")
    assert run("images", "unmatched", "--json").json == run("routes", "list", "--open", "--json").json == []


def test_names_are_masked_unless_somebody_asks_and_then_it_is_kept_who_did(received: Gateway, run: Command) -> None:
    hidden = run("images", "unmatched")
    assert ("SMITH" in hidden.out, "S•••• J•••" in hidden.out, "no item has the accession" in hidden.out) == (
        False,
        True,
        True,
    )
    assert "SMITH^JANE" in run("images", "unmatched", "--reveal").out
    with received.reading() as connection:
        [look] = activities.find(connection)
    assert (look.details["verb"], look.subjects) == ("images unmatched", (study_uid(2),))


def test_the_studies_of_one_appointment(received: Gateway, run: Command) -> None:
    assert [row["study_instance_uid"] for row in run("images", "list", "--accession", "ACC001", "--json").json] == [
        study_uid(1)
    ]
    assert run("images", "list", "--accession", "ACC002", "--json").json == []


def test_a_table_says_what_could_not_be_sent_and_why(received: Gateway, run: Command) -> None:
    out = run("routes", "list").out
    assert ("failing" in out, "Connection refused" in out, "mammograms" in out) == (True, True, True)
    assert "4 images" in run("outbox", "list").out


def test_the_hops_of_images_stand_in_the_timeline(received: Gateway, run: Command) -> None:
    out = run("timeline", "ACC001").out
    assert "MG 4 images in 1 series, by accession number" in out
    assert "4 images #1" in out
    assert "not routed yet" in out


def test_what_can_t_be_done_is_said(received: Gateway, run: Command) -> None:
    refused = run("images", "dismiss", study_uid(1), "--reason", "a phantom")
    assert (refused.code, refused.err) == (1, "gateway: illegal_transition: no person is asked about this study\n")
    assert run("images", "dismiss", study_uid(2), "--reason", " ").code == 2
    assert "must be one of Orthanc's ids" in run("images", "retry", "../x").err
    assert "set GATEWAY_ORTHANC_URL" in run("images", "retry", study().orthanc_id).err


def test_a_file_of_routes_is_checked(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "routes.toml"
    file.write_text('[[route]]\nname = "mammograms"\nmodality = "MG"\nto = "PACS"\n', encoding="utf-8")
    checked = run("routes", "check", str(file), "--json")
    assert checked.code == 0
    is_documented(checked.json, "routes check")
    file.write_text("[[route]]\n", encoding="utf-8")
    refused = run("routes", "check", str(file))
    assert (refused.code, refused.out) == (2, "")
    assert "[[route]] 1 to: is missing: where is the study to be sent?" in refused.err
    assert "nothing is sent on" in run("routes", "check").err
    file.write_text("# all were taken out\n", encoding="utf-8")
    assert "holds no rule: nothing is sent on" in run("routes", "check", str(file)).err
