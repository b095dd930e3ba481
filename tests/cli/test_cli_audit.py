"""`gateway audit list` and `export`: who saw whom, and nobody named unless asked; looks at names are on record."""

from __future__ import annotations

import base64
import getpass
import json
import stat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cli_support import Command

from bench.synthetic import schedule, start, step_uid
from gateway.application import Gateway
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Caller, Responder
from gateway.domain.lifecycle import Status

PERSON = ("SMITH", "9990000018", "19650315")


def key(group: int, element: int, value: bytes) -> bytes:
    return group.to_bytes(2, "little") + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


@pytest.fixture
def seen(story: Gateway) -> Gateway:
    """The story, asked by a unit that named her, and somebody refused."""
    book = QueryRecord(story)
    responder = Responder(story, record=book)
    asked = key(0x0010, 0x0010, b"SMITH*") + key(0x0010, 0x0020, b"9990000018")
    answers = list(responder.find(Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000), asked, "1.2.840.10008.1.2", no))
    assert answers[0].accession_number == "ACC003"
    responder.association_refused(Caller("MAMO1", "GATEWAY", "192.0.2.9", 50001), reason="Called AE title unknown")
    book.start()
    book.close()
    return story


def no() -> bool:
    return False


def test_of_a_patient_the_lines_say_who_was_shown_from_where_by_which_keys_and_name_nobody(
    seen: Gateway, run: Command
) -> None:
    outcome = run("audit", "list", "--patient", "9990000018")
    assert outcome.code == 0
    [line] = [line for line in outcome.out.splitlines() if "was shown" in line]
    assert "MAMMO1       192.0.2.7  ACC003" in line
    assert "PatientName=S••••* PatientID=•••••••018" in line
    assert "1 answered, 0x0000 success" in line
    assert "MAMO1" not in outcome.out
    assert not any(secret in outcome.out + outcome.err for secret in PERSON)
    assert "queries are kept since " in outcome.err


def test_of_a_time_refusals_are_told_with_their_reason(seen: Gateway, run: Command) -> None:
    lines = run("audit", "list", "--since", "2020-01-01").out.splitlines()
    [line] = [line for line in lines if "was refused" in line]
    assert "MAMO1" in line
    assert line.endswith("Called AE title unknown")


def test_revealed_keys_are_shown_and_the_look_is_on_record(seen: Gateway, run: Command) -> None:
    revealed = run("audit", "list", "--accession", "ACC003", "--reveal").out
    assert "PatientName=SMITH* PatientID=9990000018" in revealed
    assert "looked" not in revealed
    last = run("audit", "list", "--accession", "ACC003").out.splitlines()[-1]
    assert last.split("  ")[-1].startswith("by gateway audit list, ")
    assert getpass.getuser() in last


LOOKS = [
    (("worklist", "list"), ["--reveal", "--json"]),
    (("worklist", "explain", "--from", "MAMMO1"), ["--reveal"]),
    (("timeline", "ACC001"), ["--reveal"]),
    (("steps", "unmatched"), ["--reveal", "--json"]),
    (("steps", "unfinished", "--hours", "0"), ["--reveal", "--json"]),
    (("events", "show", "1"), ["--reveal"]),
]


@pytest.mark.parametrize(
    ("words", "option"), [(words, option) for words, options in LOOKS for option in options], ids=str
)
def test_each_verb_that_shows_names_in_full_leaves_a_look_and_none_without(
    seen: Gateway, run: Command, words: tuple[str, ...], option: str
) -> None:
    start(seen, step_uid(7))
    run(*words)
    assert looks(run) == []
    assert any(secret in run(*words, option).out for secret in PERSON) or words[0] == "timeline"
    [look] = looks(run)
    verb = " ".join(words[:2]) if words[0] != "timeline" else "timeline"
    assert (look["who"], look["details"]["verb"]) == (getpass.getuser(), verb)
    assert look["about"]


def looks(run: Command) -> list[dict[str, Any]]:
    return [one for one in run("audit", "list", "--since", "2020-01-01", "--json").json if one["act"] == "looked"]


def test_a_look_at_an_earlier_moment_is_on_record_with_that_moment(seen: Gateway, run: Command) -> None:
    then = seen.timeline("ACC003")[-1].committed_at
    run("worklist", "list", "--accession", "ACC003", "--reveal", "--as-of", then)
    run("worklist", "list", "--accession", "ACC003", "--reveal")
    assert [one["details"].get("as_of") for one in looks(run)] == [then, None]


def test_a_patient_that_nobody_knows_exits_1(seen: Gateway, run: Command) -> None:
    outcome = run("audit", "list", "--patient", "9990000099")
    assert outcome.code == 1
    assert "no item and no performed step of this patient is known" in outcome.err


def test_an_hour_that_came_twice_is_decided_and_said(seen: Gateway, run: Command) -> None:
    outcome = run("audit", "list", "--since", "2026-10-25 01:30")
    assert outcome.err.startswith("01:30 came twice that day; taken is the first, ")
    until = run("audit", "export", "--until", "2026-10-25 01:30")
    assert until.err.startswith("01:30 came twice that day; taken is the second, ")


def test_an_export_of_events_with_names_leaves_a_look_and_a_redacted_one_none(seen: Gateway, run: Command) -> None:
    run("events", "export", "--redact")
    assert looks(run) == []
    run("events", "export")
    run("events", "export", "--accession", "ACC001")
    assert [one["about"] for one in looks(run)] == [["*"], ["ACC001"]]


# --- export


def test_messages_are_written_one_a_line_to_stdout_and_name_nobody(seen: Gateway, run: Command) -> None:
    outcome = run("audit", "export")
    lines = outcome.out.splitlines()
    assert outcome.err == f"{len(lines)} messages\n"
    assert {ET.fromstring(line).tag for line in lines} == {"AuditMessage"}
    assert not any(secret in outcome.out for secret in PERSON)
    as_json = [json.loads(line) for line in run("audit", "export", "--format", "jsonl").out.splitlines()]
    assert len(as_json) == len(lines)
    assert all(list(one) == ["AuditMessage"] for one in as_json)


def test_revealed_messages_go_to_a_file_that_is_ours_alone_and_leave_a_look(
    seen: Gateway, run: Command, tmp_path: Path
) -> None:
    file = tmp_path / "day.xml"
    assert run("audit", "export", "--reveal", "--site", "Example Hospital", str(file)).code == 0
    text = file.read_text(encoding="utf-8")
    assert 'ParticipantObjectID="9990000018"' in text
    assert 'AuditEnterpriseSiteID="Example Hospital"' in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    [look] = looks(run)
    assert (look["details"]["verb"], look["about"]) == ("audit export", ["*"])


def test_a_file_that_can_not_be_written_is_misuse(seen: Gateway, run: Command, tmp_path: Path) -> None:
    outcome = run("audit", "export", str(tmp_path / "nowhere" / "day.xml"))
    assert (outcome.code, outcome.out) == (2, "")


def test_a_file_that_is_there_is_never_overwritten(seen: Gateway, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "day.xml"
    file.write_text("yesterday", encoding="utf-8")
    outcome = run("audit", "export", str(file))
    assert outcome.code == 2
    assert "is there already" in outcome.err
    assert file.read_text(encoding="utf-8") == "yesterday"


def test_an_export_is_of_a_span_and_of_one_unit(seen: Gateway, run: Command) -> None:
    assert run("audit", "export", "--until", "2020-01-01").err == "0 messages\n"
    of_unit = run("audit", "export", "--ae", "MAMO1").out.splitlines()
    assert len(of_unit) == 1
    assert "Security Alert" in of_unit[0]


def test_what_an_operator_wrote_is_told_only_when_revealed(seen: Gateway, run: Command) -> None:
    seen.correct_status("ACC003", Status.CANCELLED, reason="asked by SMITH", operator="night shift")
    listing, whole = ("audit", "list", "--accession", "ACC003"), ("audit", "export", "--format", "jsonl")
    coded = base64.b64encode(b"asked by SMITH").decode()
    for masked in (run(*listing), run(*listing, "--json"), run(*whole)):
        assert "asked by SMITH" not in masked.out
        assert coded not in masked.out
    assert "asked by SMITH" in run(*listing, "--reveal").out
    assert "asked by SMITH" in run(*listing, "--json", "--reveal").out
    assert coded in run(*whole, "--reveal").out


# --- the timeline's other questions


def test_an_action_a_step_and_what_named_nobody_have_their_timelines(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    start(gateway, step_uid(1))
    by_action = run("timeline", "--action", "create-ACC001")
    assert [line in by_action.out for line in ("received", "accepted", "listed")] == [True] * 3
    by_step = run("timeline", "--step", step_uid(1))
    assert "unmatched=the step names no scheduled step" in by_step.out
    nameless = run("timeline", "--rejected")
    assert step_uid(1) in nameless.out
    assert nameless.err == "1 that named no accession number\n"
    assert run("timeline", "--rejected", "--since", "2099-01-01").err == "0 that named no accession number\n"
    assert run("timeline", "--action", "another").code == 1
    assert run("timeline", "--step", "1.2.3").code == 1


def test_a_step_linked_late_shows_each_of_its_data_sets(gateway: Gateway, run: Command) -> None:
    schedule(gateway)
    start(gateway, step_uid(1))
    gateway.link_step(step_uid(1), "ACC001", reason="typed wrongly", operator="night shift")
    rows = run("timeline", "ACC001", "--json").json
    assert [row["hop"] for row in rows if "data_set" in row["details"]] == ["started"]
