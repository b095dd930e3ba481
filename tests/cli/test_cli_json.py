"""What `--json` prints is what docs/cli-json.md says: the same keys in the same order, and values of the same kinds."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_support import Command

from gateway.application import Gateway
from gateway.cli import app
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Caller, Responder
from gateway.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "cli-json.md").read_text(encoding="utf-8")
SECTIONS = {
    title: [json.loads(sample) for sample in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    for title, text in re.findall(r"^## `gateway (.*?)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}

CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
IMPLICIT = "1.2.840.10008.1.2"
BY_NAME = b"\x10\x00\x10\x00\x06\x00\x00\x00SMITH*"
PERSON = ("--patient-id", "BS123456", "--patient-name", "SMITH^JOHN", "--patient-birth-date", "19800101")
ADD = ("worklist", "add", "ACC123", *PERSON, "--scheduled-time", "143000")


def kind(value: Any) -> str:
    return {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}[type(value)]


def like(value: Any, sample: Any) -> bool:
    """Whether both are of one kind, keys in one order; null stands for any kind."""
    if value is None or sample is None:
        return True
    if kind(value) != kind(sample):
        return False
    if isinstance(sample, list):
        return all(any(like(one, other) for other in sample) for one in value)
    if isinstance(sample, dict):
        return list(value) == list(sample) and all(like(value[name], sample[name]) for name in sample)
    return True


def is_documented(value: Any, title: str) -> None:
    assert any(like(value, sample) for sample in SECTIONS[title]), (title, value)


def verbs(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every verb by its words."""
    if not hasattr(group, "commands"):
        return {path: group}
    found = {} if path != ("demo",) else {path: group}
    for name, command in group.commands.items():
        found |= verbs(command, (*path, name))
    return found


VERBS = verbs(typer.main.get_command(app))
SPEAKS_JSON = {" ".join(path) for path, command in VERBS.items() if any("--json" in p.opts for p in command.params)}


def test_the_page_has_a_section_for_each_verb_with_json_and_for_no_other() -> None:
    assert SECTIONS.keys() == SPEAKS_JSON


def test_each_section_has_a_sample() -> None:
    assert [title for title, samples in SECTIONS.items() if not samples] == []


def test_the_samples_are_of_nobody_real() -> None:
    ids = re.findall(r'"patient_id": "(.*?)"', PAGE)
    assert ids
    assert all(number.startswith("999") for number in ids)


@pytest.mark.parametrize(
    "words",
    [
        ("worklist", "list"),
        ("worklist", "statistics"),
        ("outbox", "list"),
        ("outbox", "list", "--state", "all"),
        ("events", "verify"),
        ("events", "anchor"),
        ("projections", "verify"),
        ("projections", "rebuild"),
        ("config", "show"),
    ],
    ids=" ".join,
)
def test_a_look_prints_json_as_documented_and_nothing_else(
    story: Gateway, run: Command, words: tuple[str, ...]
) -> None:
    outcome = run(*words, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json
    is_documented(outcome.json, " ".join(words[:2]))


def test_a_timeline_is_documented_but_for_the_details_of_each_kind(story: Gateway, run: Command) -> None:
    sample = SECTIONS["timeline"][0][0]
    rows = run("timeline", "ACC002", "--json").json
    assert [row["kind"] for row in rows if not row["position"]] == ["received", "told"]
    assert len(rows) == 11
    for row in rows:
        assert list(row) == list(sample)
        assert like(row | {"details": None, "spans": None}, sample)
        assert isinstance(row["details"], dict)
        assert all(isinstance(seconds, float) for seconds in row["spans"].values())
    kinds = {row["kind"]: row["details"] for row in rows}
    for row in SECTIONS["timeline"][0]:
        assert list(kinds[row["kind"]]) == list(row["details"])


def test_who_saw_whom_is_documented(story: Gateway, run: Command) -> None:
    book = QueryRecord(story)
    list(Responder(story, record=book).find(CALLER, BY_NAME, IMPLICIT, lambda: False))
    book.start()
    book.close()
    [row] = run("audit", "list", "--accession", "ACC003", "--json").json
    [sample] = SECTIONS["audit list"][0]
    assert like({**row, "details": None}, {**sample, "details": None})
    assert list(row["details"]) == list(sample["details"])
    assert (row["act"], row["about"]) == ("was shown", ["ACC003"])


def test_a_timeline_of_nothing_is_an_empty_list_and_exit_code_1(story: Gateway, run: Command) -> None:
    outcome = run("timeline", "ACC999", "--json")
    assert (outcome.code, outcome.json) == (1, [])


def test_adding_and_setting_a_status_are_documented(gateway: Gateway, run: Command) -> None:
    added = run(*ADD, "--json")
    is_documented(added.json, "worklist add")
    changed = run("worklist", "set-status", "ACC123", "completed", "--reason", "unit has no MPPS", "--json")
    is_documented(changed.json, "worklist set-status")
    assert changed.json == {"accession_number": "ACC123", "before": "SCHEDULED", "status": "COMPLETED"}


def test_the_modality_s_verbs_are_documented(port: str, run: Command) -> None:
    is_documented(run("modality", "echo", "-p", port, "--json").json, "modality echo")
    found = run("modality", "find", "-p", port, "--json").json
    assert [entry["accession_number"] for entry in found] == ["ACC003"]
    is_documented(found, "modality find")
    is_documented(run("modality", "perform", "ACC003", "-p", port, "--json").json, "modality perform")


def test_what_verify_finds_is_documented(story: Gateway, database: Path, run: Command) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute("UPDATE worklist_items SET patient_name = 'X' WHERE accession_number = 'ACC001'")
    is_documented(run("projections", "verify", "--json").json, "projections verify")
    with sqlite3.connect(database) as prompt:
        prompt.execute("UPDATE stored_events SET topic = topic || ' ' WHERE rowid = 3")
    found = run("events", "verify", "--json")
    assert (found.code, found.json["intact"], found.json["position"]) == (1, False, 3)
    is_documented(found.json, "events verify")


def test_what_anchors_say_is_documented(story: Gateway, run: Command) -> None:
    head = run("events", "anchor", "--json").json["anchor"]
    found = run("events", "verify", "--anchor", head, "--anchor", f"999:{'0' * 64}", "--json")
    assert (found.code, [each["verdict"] for each in found.json["anchors"]]) == (1, ["holds", "beyond"])
    is_documented(found.json, "events verify")


def test_the_profiles_of_modalities_are_documented(run: Command, tmp_path: Path) -> None:
    is_documented(run("config", "modalities", "--json").json, "config modalities")
    text = '[[modality]]\nae_title = "MAMMO1"\naddresses = ["10.1.2.3"]\nstations = ["B"]\nomit_keys = ["PatientSex"]\n'
    file = tmp_path / "modalities.toml"
    file.write_text(text, encoding="utf-8")
    found = run("config", "modalities", str(file), "--json").json
    is_documented(found, "config modalities")
    assert [entry["addresses"] for entry in found["modalities"]] == [["10.1.2.3/32"]]
    assert found["strangers"]["admitted"] is False


def test_the_settings_are_all_there(run: Command) -> None:
    assert list(run("config", "show", "--json").json) == [name.upper() for name in Settings.model_fields]


def test_an_error_leaves_stdout_empty(run: Command) -> None:
    for words in (("worklist", "list"), ("timeline", "ACC001"), ("outbox", "list"), ("events", "verify")):
        outcome = run(*words, "--json")
        assert (outcome.code, outcome.out) == (1, "")
        assert re.fullmatch(r"gateway: store_unusable: .* → .*\n", outcome.err)


def test_what_the_doctor_finds_is_documented(story: Gateway, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs: what can be asked without a service is asked all the same."""
    monkeypatch.setenv("GATEWAY_DICOM_PORT", "1")
    monkeypatch.setenv("GATEWAY_OPS_PORT", "1")
    for options, verdict in (((), None), (("--clinic", "--no-rehearse"), "NO-GO: service, dicom, worklist")):
        found = run("doctor", *options, "--json")
        assert (found.code, found.err, found.json["verdict"]) == (3, "", verdict)
        is_documented(found.json, "doctor")


def test_what_a_rehearsal_finds_is_documented(story: Gateway, run: Command, port: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("GATEWAY_DICOM_PORT", port)
    found = run("rehearse", "--json")
    assert (found.code, found.json["well"]) == (0, True)
    is_documented(found.json, "rehearse")
