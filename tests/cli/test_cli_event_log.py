"""`gateway events list|show|export|replay|archive`, as a person and as a program use them."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest
from cli_support import GATEWAY, Command, environment, in_a_process
from test_cli_json import SECTIONS, is_documented

from bench.synthetic import EXPLICIT_LITTLE_ENDIAN, naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.audit import activities, export
from gateway.audit.event_log import Wanted
from gateway.audit.replay import replay
from gateway.dicom.data_set import Element, encode
from gateway.eventstore import chain
from projections.worklist import WorklistFilter
from tests.audit.audit_support import on_days

DAYS = ("2026-11-20", "2026-11-21", "2026-11-22")


@pytest.fixture
def clinic(story: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The story, as if it had happened on three days."""
    built = replay(on_days(list(export.lines(story, Wanted())), *DAYS), tmp_path / "clinic")
    monkeypatch.setenv("WORKLIST_DB_PATH", str(built.database))
    return built.database


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# --- list


def test_events_are_listed_with_their_place_time_kind_and_source_the_newest_last(story: Gateway, run: Command) -> None:
    found = run("events", "list", "--accession", "ACC001")
    lines = found.out.splitlines()
    assert lines[0].split() == ["POSITION", "COMMITTED", "AT", "KIND", "ACCESSION", "SOURCE", "AE"]
    assert re.fullmatch(r"1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  WorklistItem.Scheduled +ACC001 +relay +–", lines[1])
    assert re.search(r"^3 .*PerformedProcedureStep.Started +ACC001 +mpps +MAMMO1$", found.out, re.MULTILINE)
    positions = [int(line.split()[0]) for line in lines[1:]]
    assert positions == sorted(positions)
    assert found.err == f"{len(positions)} events\n"


def test_a_list_names_nobody(story: Gateway, run: Command) -> None:
    for arguments in ((), ("--json",)):
        assert not re.search("SMITH|JANE|9990000018|19650315", run("events", "list", *arguments).out)


def test_a_list_is_the_newest_hundred_unless_asked(gateway: Gateway, run: Command, examined: object) -> None:
    for number in range(16):
        examined(number)  # type: ignore[operator]
    found = run("events", "list")
    total = gateway.verify_chain().events
    assert total > 100
    assert len(found.out.splitlines()) == 101
    assert found.err == f"100 events, the newest of {total}; --limit shows more\n"
    assert len(run("events", "list", "--limit", "1000").out.splitlines()) == total + 1


@pytest.mark.slow
def test_a_list_is_narrowed_by_kind_position_and_moment(clinic: Path, run: Command) -> None:
    def positions(*options: str) -> list[int]:
        return [event["position"] for event in run("events", "list", *options, "--json").json]

    every = positions()
    assert positions("--kind", "StatusUpdate.Parked", "--kind", "WorklistItem.Scheduled") != every
    assert positions("--from-position", "3", "--to-position", "5") == [3, 4, 5]
    first, middle, last = (positions("--since", day, "--until", day) for day in DAYS)
    assert [*first, *middle, *last] == every
    assert min(map(len, (first, middle, last))) > 3
    assert positions("--since", DAYS[1]) == [*middle, *last]
    assert positions("--until", DAYS[1]) == [*first, *middle]
    assert positions("--until", f"{DAYS[1]} 00:00") == first
    assert positions("--since", f"{DAYS[1]}T12:00:00Z", "--until", f"{DAYS[1]}T12:00:01Z") == middle


def test_what_had_to_be_decided_about_a_moment_is_said(story: Gateway, run: Command) -> None:
    found = run("events", "list", "--since", "2026-10-25 01:30")
    assert "--since: 01:30 came twice that day; taken is the first" in found.err
    found = run("events", "list", "--until", "2026-10-25 01:30")
    assert "--until: 01:30 came twice that day; taken is the second" in found.err


@pytest.mark.parametrize(
    "options", [("--kind", "Nothing"), ("--since", "yesterday"), ("--until", "2026-13-01"), ("--limit", "0")]
)
def test_a_misused_filter_ends_with_2(story: Gateway, run: Command, options: tuple[str, str]) -> None:
    found = run("events", "list", *options)
    assert (found.code, found.out) == (2, "")


# --- show


def test_one_event_is_shown_whole_and_masked(story: Gateway, run: Command) -> None:
    found = run("events", "show", "1")
    assert "patient_name" in found.out
    assert re.search(r"^person.patient_name +S•+ J•+$", found.out, re.MULTILINE)
    assert re.search(r"^person.patient_id +•+018$", found.out, re.MULTILINE)
    assert re.search(r"^person.patient_birth_date +•••$", found.out, re.MULTILINE)
    assert re.search(r"^step.modality +MG$", found.out, re.MULTILINE)
    assert re.search(r"^link +[0-9a-f]{64}$", found.out, re.MULTILINE)
    assert "SMITH" not in run("events", "show", "2", "--json").out
    revealed = run("events", "show", "1", "--reveal")
    assert re.search(r"^person.patient_name +SMITH\^JANE$", revealed.out, re.MULTILINE)
    assert "SMITH^JANE" in run("events", "show", "2", "--reveal").out


def test_what_a_modality_sent_is_shown_by_its_attributes(gateway: Gateway, run: Command) -> None:
    data = encode([Element(0x00080060, "CS", b"MG"), Element(0x00100010, "PN", b"SMITH^JANE")], EXPLICIT_LITTLE_ENDIAN)
    start(gateway, step_uid(1), naming(), attribute_list=data)
    start(gateway, step_uid(2), naming(), attribute_list=b"SMITH")
    found = run("events", "show", "1")
    assert re.search(r"^ *Modality +MG$", found.out, re.MULTILINE)
    assert re.search(r"^ *PatientName +S•+ J•+$", found.out, re.MULTILINE)
    assert "SMITH^JANE" in run("events", "show", "1", "--reveal").out
    assert re.search(r"^attribute_list +5 bytes, no data set", run("events", "show", "2", "--reveal").out, re.MULTILINE)


def test_a_position_without_an_event_is_said(story: Gateway, run: Command) -> None:
    found = run("events", "show", "999")
    assert (found.code, found.out) == (1, "")
    assert found.err.startswith("gateway: not_found: there is no event at position 999")


# --- export and replay


def test_an_export_goes_to_stdout_or_to_a_file_of_its_owner(story: Gateway, run: Command, tmp_path: Path) -> None:
    found = run("events", "export")
    to_file = run("events", "export", "out.jsonl", "--since", "2000-01-01")
    assert (to_file.code, to_file.out) == (0, "")
    assert to_file.err == (
        f"exported {len(found.out.splitlines()) - 1} events to out.jsonl\n"
        "it holds names and ids of persons; --redact writes one without\n"
    )
    written = (tmp_path / "out.jsonl").read_text()
    assert written.splitlines()[1:] == found.out.splitlines()[1:]
    assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600
    assert names(tmp_path) == ["data", "out.jsonl"]


def test_a_file_that_is_there_is_left_alone(story: Gateway, run: Command, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    found = run("events", "export", "out.jsonl")
    assert (found.code, (tmp_path / "out.jsonl").read_text()) == (2, "mine")
    assert "out.jsonl is there already: name a new file" in found.err


@pytest.mark.parametrize("verb", [("events", "export"), ("audit", "export", "--reveal")])
def test_whoever_may_write_the_folder_gets_no_persons_by_a_file_or_link_put_there_before(
    story: Gateway, run: Command, tmp_path: Path, verb: tuple[str, ...]
) -> None:
    other = tmp_path / "others"
    other.touch(0o666)
    (tmp_path / ".out.part").symlink_to(other)
    assert run(*verb, "out").code == 0
    assert "SMITH" in (tmp_path / "out").read_text()
    assert not (tmp_path / "out").is_symlink()
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert other.read_text() == ""
    assert names(tmp_path) == [".out.part", "data", "others", "out"]


def test_half_an_export_is_none(story: Gateway, database: Path, run: Command, tmp_path: Path) -> None:
    with sqlite3.connect(database) as prompt:
        prompt.execute("UPDATE stored_events SET state = ? WHERE rowid = 9", (b"{",))
    found = run("events", "export", "out.jsonl")
    assert found.code == 1
    assert "event_unreadable: the event at position 9 can't be read → gateway events verify names" in found.err
    assert names(tmp_path) == ["data"]


def test_a_redacted_export_names_nobody(story: Gateway, run: Command) -> None:
    found = run("events", "export", "--redact")
    assert json.loads(found.out.splitlines()[0])["redacted"] is True
    assert not re.search("SMITH|JANE|9990000018|19650315", found.out)
    assert "names" not in found.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["incident.jsonl", "incident.jsonl.gz"])
def test_yesterday_s_incident_runs_on_a_laptop(story: Gateway, run: Command, tmp_path: Path, name: str) -> None:
    assert run("events", "export", name, "--redact").code == 0
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")
    built = run("events", "replay", name, "--into", "laptop")
    assert (built.code, built.out) == (0, f"replayed {story.verify_chain().events} events into laptop/gateway.db\n")
    assert "it holds 1 status event still to be sent" in built.err
    there = in_a_process(tmp_path, "timeline", "ACC002", WORKLIST_DB_PATH="laptop/gateway.db")
    here = run("timeline", "ACC002").out.splitlines()
    assert there.out.splitlines() == [line for line in here if "  told  " not in line]  # attempts are no events
    verified = in_a_process(tmp_path, "projections", "verify", WORKLIST_DB_PATH="laptop/gateway.db")
    assert (verified.code, verified.out) == (0, "equal: what is served is what the events say\n")


def test_an_export_is_replayed_from_stdin(story: Gateway, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    text = run("events", "export").out
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert run("events", "replay", "-", "--into", "laptop").code == 0
    assert Path("laptop/gateway.db").exists()


def test_a_part_of_the_log_is_said_to_be_one(story: Gateway, run: Command) -> None:
    run("events", "export", "part.jsonl", "--from-position", "8")
    built = run("events", "replay", "part.jsonl", "--into", "laptop")
    assert "the export holds a part of the log: the events are numbered anew" in built.err
    assert re.search(r"[1-9]\d* streams? began before the export", built.err)


def test_what_can_not_be_replayed_is_told_in_one_line_and_leaves_nothing(
    story: Gateway, run: Command, tmp_path: Path
) -> None:
    run("events", "export", "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines[:5], "{", *lines[6:]]))
    (tmp_path / "other.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "other.jsonl.gz").write_bytes(b"PK")
    for name, code, told in (
        ("bad.jsonl", 1, "export_unreadable: line 6: it is no JSON object → export it again"),
        ("other.jsonl", 2, "validation: other.jsonl can't be read: it is damaged, or no UTF-8 text"),
        ("other.jsonl.gz", 2, "validation: other.jsonl.gz can't be read"),
        ("nowhere.jsonl", 2, "validation: nowhere.jsonl can't be read: No such file or directory"),
    ):
        found = run("events", "replay", name, "--into", "laptop")
        assert (found.code, found.out, found.err.count("\n")) == (code, "", 1)
        assert found.err.startswith(f"gateway: {told}")
    assert not (tmp_path / "laptop").exists()
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "left"), [(signal.SIGKILL, 1), (signal.SIGINT, 0)], ids=["kill", "ctrl-c"])
def test_a_replay_that_is_ended_half_way_leaves_no_folder_that_looks_whole(
    story: Gateway, run: Command, tmp_path: Path, sign: signal.Signals, left: int
) -> None:
    text = run("events", "export").out
    command = [GATEWAY, "events", "replay", "-", "--into", "laptop"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        process.stdin.write(text)
        process.stdin.flush()  # and no end: it waits for more
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".laptop-*/gateway.db")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(sign)
        assert process.wait(30) != 0
    assert not (tmp_path / "laptop").exists()
    assert len(list(tmp_path.glob(".laptop-*"))) == left


# --- archives


def test_closed_days_are_archived_and_the_archives_join_and_prove_themselves(
    clinic: Path, run: Command, tmp_path: Path
) -> None:
    first = run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl", "--json").json
    second = run("events", "archive", "--until", DAYS[2], "--after", "1.jsonl", "--into", "2.jsonl.gz", "--json").json
    assert second["first_position"] == first["last_position"] + 1
    with opened(clinic) as gateway:
        head = gateway.verify_chain()
    assert (second["last_position"], second["head"]) == (head.events, head.head.hex())
    clinic.unlink()  # they need no database
    found = run("events", "verify-archive", "1.jsonl", "2.jsonl.gz")
    assert (found.code, found.out) == (
        0,
        f"intact: {head.events} events in 2 files, head {head.events}:{head.head.hex()}\n",
    )


def test_an_altered_archive_is_named_by_file_line_and_position(clinic: Path, run: Command, tmp_path: Path) -> None:
    run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl")
    run("events", "archive", "--until", DAYS[1], "--after", "1.jsonl", "--into", "2.jsonl")
    text = (tmp_path / "2.jsonl").read_text().splitlines()
    event = json.loads(text[2])
    event["state"] = event["state"].replace("ACC", "ACD")
    (tmp_path / "2.jsonl").write_text("\n".join([*text[:2], json.dumps(event), *text[3:]]))
    found = run("events", "verify-archive", "1.jsonl", "2.jsonl")
    assert found.code == 1
    assert found.out == (
        f"NOT intact: 2.jsonl, line 3, position {event['position']}: the event is missing, or was altered or inserted\n"
    )


def test_an_archive_is_held_against_anchors_from_elsewhere(clinic: Path, run: Command) -> None:
    told = run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl", "--json").json
    anchor = f"{told['last_position']}:{told['head']}"
    found = run("events", "verify-archive", "1.jsonl", "--anchor", anchor, "--anchor", f"999:{'00' * 32}")
    assert found.code == 0
    assert f"anchors that hold: 1, the newest at position {told['last_position']}\n" in found.out
    assert "the anchor at position 999 is not in these archives" in found.err
    Path("anchors").write_text(f"# kept elsewhere\n{anchor} 2026-11-20T12:00:00+00:00\n")
    assert "anchors that hold: 1" in run("events", "verify-archive", "1.jsonl", "--anchors", "anchors").out
    found = run("events", "verify-archive", "1.jsonl", "--anchor", f"3:{'00' * 32}")
    assert found.code == 1
    assert found.out.startswith("NOT intact: 1.jsonl, line 4, position 3: an anchor from elsewhere does not hold")
    assert run("events", "verify-archive", "1.jsonl", "--anchor", "3").code == 2
    assert "made up as a whole" in run("events", "verify-archive", "1.jsonl").err


def test_an_archive_is_held_against_each_of_two_anchors_at_one_position(clinic: Path, run: Command) -> None:
    told = run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl", "--json").json
    good, bad = (f"{told['last_position']}:{link}" for link in (told["head"], "00" * 32))
    for anchors in ((good, bad), (bad, good)):
        found = run("events", "verify-archive", "1.jsonl", "--anchor", anchors[0], "--anchor", anchors[1])
        assert found.code == 1
        assert "two anchors from elsewhere contradict each other" in found.out


@pytest.mark.parametrize("verb", [("verify",), ("verify-archive", "1.jsonl")])
def test_a_file_without_a_single_anchor_is_refused_and_a_line_that_is_none_is_told(
    clinic: Path, run: Command, verb: tuple[str, ...]
) -> None:
    told = run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl", "--json").json
    for text in ("", "# nothing\n", "SMITH^JANE\n"):
        Path("anchors").write_text(text)
        found = run("events", *verb, "--anchors", "anchors")
        assert (found.code, found.out) == (2, "")
        assert "anchors holds no anchor" in found.err
        assert "SMITH" not in found.err
    Path("anchors").write_text(f"nothing\n{told['last_position']}:{told['head']}\n")
    found = run("events", *verb, "--anchors", "anchors")
    assert (found.code, "line 1 of it is no anchor" in found.err) == (0, True)


def looks(database: Path) -> list[str]:
    with opened(database) as gateway, gateway.reading() as connection:
        return [act.details["verb"] for act in activities.find(connection) if act.activity == activities.LOOKED]


def test_an_archive_of_what_was_never_sealed_is_a_look_at_persons(clinic: Path, run: Command, tmp_path: Path) -> None:
    found = run("events", "archive", "--until", DAYS[2], "--into", "1.jsonl")
    assert "it holds names and ids of persons: what was saved before GATEWAY_SEALING was on" in found.err
    assert "SMITH" in (tmp_path / "1.jsonl").read_text()
    assert looks(clinic) == ["events archive"]


def test_an_archive_in_which_everything_is_sealed_is_none_and_is_replayed_with_the_keys(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "sealed.db"
    with opened(database, sealing=True) as gateway:
        schedule(gateway, "ACC001")
        gateway.cancel("ACC001", "Mrs. Smith rang")
    as_if_on(database, DAYS[0])
    monkeypatch.setenv("WORKLIST_DB_PATH", str(database))
    found = run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl")
    assert (found.code, "names" in found.err, looks(database)) == (0, False, [])
    assert "mith" not in (tmp_path / "1.jsonl").read_text()
    assert run("events", "replay", "1.jsonl", "--into", "laptop").code == 0
    monkeypatch.setenv("WORKLIST_DB_PATH", str(tmp_path / "elsewhere.db"))
    found = run("events", "replay", "1.jsonl", "--into", "again")
    assert found.code == 1
    assert "export_unreadable: line 2: the event is sealed, and can't be opened: the key file" in found.err
    monkeypatch.setenv("GATEWAY_KEYS_PATH", str(tmp_path / "sealed.db.keys"))
    assert run("events", "replay", "1.jsonl", "--into", "again").code == 0
    with opened(tmp_path / "again" / "gateway.db") as copy:
        assert [row.patient_name for row in copy.find_items(WorklistFilter())] == ["SMITH^JANE"]


def as_if_on(database: Path, day: str) -> None:
    """The log as if it had been written on that day, links and all."""
    with sqlite3.connect(database) as prompt:
        rows = prompt.execute(
            "SELECT rowid, originator_id, originator_version, topic, state FROM stored_events ORDER BY rowid"
        ).fetchall()
        link = chain.GENESIS
        for position, stream, version, topic, state in rows:
            at = f"{day}T12:00:00.{position:06d}+00:00"
            link = chain.link(link, position, stream, version, topic, at, state)
            prompt.execute("UPDATE event_chain SET committed_at = ?, link = ? WHERE position = ?", (at, link, position))


def test_a_day_that_is_not_over_is_not_archived(story: Gateway, run: Command) -> None:
    found = run("events", "archive", "--until", "today", "--into", "1.jsonl")
    assert found.code == 2
    assert "--until: that day is not over on the site's clock" in found.err


def test_where_nothing_is_to_archive_no_file_is_made(clinic: Path, run: Command, tmp_path: Path) -> None:
    found = run("events", "archive", "--until", "2026-11-19", "--into", "1.jsonl")
    assert (found.code, found.err) == (1, "nothing to archive up to 2026-11-19\n")
    assert not (tmp_path / "1.jsonl").exists()


def test_an_archive_of_another_database_is_not_gone_on_from(clinic: Path, story: Gateway, run: Command) -> None:
    run("events", "archive", "--until", DAYS[0], "--into", "1.jsonl")
    with sqlite3.connect(clinic) as prompt:
        prompt.execute("UPDATE event_chain SET link = zeroblob(32) WHERE committed_at < '2026-11-21'")
    found = run("events", "archive", "--until", DAYS[1], "--after", "1.jsonl", "--into", "2.jsonl")
    assert found.code == 1
    assert "archive_unusable: the log does not go on from that archive" in found.err


def test_the_log_keeps_what_was_archived(clinic: Path, run: Command) -> None:
    before = run("events", "list", "--json").json
    run("events", "archive", "--until", DAYS[2], "--into", "1.jsonl")
    assert run("events", "list", "--json").json == before


# --- for programs


def test_what_the_verbs_print_as_json_is_documented(story: Gateway, clinic: Path, run: Command) -> None:
    def is_like_its_sample(verb: str, *arguments: str) -> None:
        is_documented(run("events", verb, *arguments, "--json").json, f"events {verb}")

    is_like_its_sample("list", "--limit", "5")
    is_like_its_sample("export", "whole.jsonl")
    is_like_its_sample("replay", "whole.jsonl", "--into", "laptop")
    is_like_its_sample("archive", "--until", DAYS[0], "--into", "1.jsonl")
    is_like_its_sample("verify-archive", "1.jsonl")
    is_like_its_sample("show", "1")
    shown, [sample] = run("events", "show", "3", "--json").json, SECTIONS["events show"]
    assert list(shown) == list(sample)
    assert list(shown["metadata"]) == list(sample["metadata"])


def test_an_export_to_stdout_is_json_already(story: Gateway, run: Command) -> None:
    assert run("events", "export", "--json").code == 2
