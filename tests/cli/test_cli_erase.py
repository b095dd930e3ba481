"""`gateway erase`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_support import Command, in_a_process
from test_cli_json import is_documented

from bench.synthetic import PERSON, change, completed, naming, participant, schedule, start, step_uid
from gateway.application import opened
from gateway.dicom import data_set, record
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN, Element

JANE = PERSON["patient_id"]
WHY = ("--reason", "request 114")


@pytest.fixture
def sealed(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jane, whose appointment was cancelled."""
    monkeypatch.setenv("GATEWAY_SEALING", "true")
    database.parent.mkdir()
    with opened(database, sealing=True) as gateway:
        schedule(gateway)
        gateway.cancel("ACC001", "did not attend")
    return database


def test_a_person_is_erased_and_it_is_said_what_is_left_to_prune(sealed: Path, run: Command) -> None:
    outcome = run("erase", "--patient", JANE, *WHY, "--yes")
    assert outcome.code == 0
    assert outcome.out.startswith("erased: 3 events in 2 streams can't be read any more; items: ACC001\n")
    assert "backups" in outcome.err
    listed = run("worklist", "list", "--status", "CANCELLED", "--reveal", "--json").json
    assert [(row["accession_number"], row["patient_id"], row["patient_name"]) for row in listed] == [("ACC001", "", "")]
    assert run("events", "verify").code == 0
    assert run("projections", "verify").code == 0


def test_the_timeline_of_an_erased_examination_still_tells_its_course(sealed: Path, run: Command) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002")
        start(gateway, step_uid(1), naming("ACC002"))
        change(gateway, completed(step_uid(1)))
    run("erase", "--patient", JANE, *WHY, "--yes")
    for words in (("--data-set",), ("--reveal",), ("--json", "--reveal")):
        told = run("timeline", "ACC002", *words)
        assert told.code == 0, told.err
        assert "erased" in told.out
        assert "COMPLETED" in told.out
        assert "SMITH" not in told.out


def test_json_is_as_documented(sealed: Path, run: Command) -> None:
    done = run("erase", "--patient", JANE, *WHY, "--yes", "--json")
    assert (done.code, done.json["events"]) == (0, 3)
    is_documented(done.json, "erase")


def test_nobody_to_ask_and_no_yes_exits_2_and_does_nothing(sealed: Path, run: Command) -> None:
    outcome = run("erase", "--patient", JANE, *WHY)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--yes" in outcome.err
    assert JANE in run("worklist", "list", "--status", "CANCELLED", "--reveal").out


def test_a_reason_that_names_the_person_exits_2(sealed: Path, run: Command) -> None:
    assert run("erase", "--patient", JANE, "--reason", "Jane wrote", "--yes").code == 2


def test_a_reason_with_a_spaced_patient_id_exits_2(sealed: Path, run: Command) -> None:
    assert run("erase", "--patient", JANE, "--reason", "id 999 000 0018", "--yes").code == 2


def test_what_still_names_the_person_is_told_and_exits_1(sealed: Path, run: Command) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002", study_description=f"Ms SMITH {JANE}")
        gateway.cancel("ACC002", "did not attend")
    told = run("erase", "--patient", JANE, *WHY, "--yes", "--json")
    assert (told.code, {one["place"] for one in told.json["remaining"]}) == (1, {"events", "worklist_items"})
    assert told.json["remaining"][0]["positions"] == [4]
    is_documented(told.json, "erase")
    again = run("erase", "--patient", JANE, *WHY, "--yes")
    assert again.code == 1
    assert "still named, which this can't erase:\n  1 events (positions 4): in a field that is never" in again.err


def test_an_item_that_is_another_s_by_now_is_said(sealed: Path, run: Command) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002")
        other = participant(7)
        gateway.amend("ACC002", lambda _: {"patient_id": other["patient_id"], "patient_name": other["patient_name"]})
        gateway.cancel("ACC002", "a mix-up")
    outcome = run("erase", "--patient", JANE, *WHY, "--yes")
    assert outcome.code == 0, outcome.err
    assert "another patient's, whose name the erasure takes from the item as well: ACC002" in outcome.out


@pytest.mark.parametrize("patient", ["9990000999", "SMITH"])
def test_a_person_of_whom_nothing_is_known_exits_1(sealed: Path, run: Command, patient: str) -> None:
    outcome = run("erase", "--patient", patient, *WHY, "--yes")
    assert outcome.code == 1
    assert outcome.err.startswith("gateway: not_found: ")
    assert patient not in outcome.err


def test_what_is_not_sealed_exits_1_with_the_number_of_events(run: Command, database: Path) -> None:
    database.parent.mkdir()
    with opened(database) as gateway:
        schedule(gateway)
        gateway.cancel("ACC001")
    outcome = run("erase", "--patient", JANE, *WHY, "--yes")
    assert outcome.code == 1
    assert outcome.err.startswith("gateway: not_sealed: 2 events hold this person in plain text")


def test_what_is_not_over_exits_1_and_says_what_to_do(sealed: Path, run: Command) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002")
    outcome = run("erase", "--patient", JANE, *WHY, "--yes")
    assert outcome.code == 1
    assert outcome.err.startswith("gateway: not_over: item ACC002 is SCHEDULED; nothing was erased → ")


def test_every_verb_that_reads_events_says_when_the_key_file_is_lost(sealed: Path, run: Command) -> None:
    sealed.with_name("gateway.db.keys").unlink()
    for words in (("worklist", "list"), ("events", "list"), ("timeline", "ACC001")):
        outcome = run(*words)
        assert outcome.code == 1
        assert outcome.err.startswith("gateway: key_lost: the key file ")


def test_the_chain_is_verified_without_any_key(sealed: Path, run: Command) -> None:
    sealed.with_name("gateway.db.keys").unlink()
    assert run("events", "verify").code == 0


def rows(database: Path) -> dict[str, list[object]]:
    with closing(sqlite3.connect(database)) as prompt:
        tables = ("worklist_items", "outbox", "timeline", "performed_steps")
        return {table: sorted(prompt.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables}


@pytest.mark.parametrize("erased", [False, True])
def test_an_export_is_in_plain_text_and_shows_no_erased_person_and_replays_to_the_same_tables(
    sealed: Path, tmp_path: Path, run: Command, erased: bool
) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002", **participant(7))
        start(gateway, step_uid(1), naming("ACC002"), patient_id=participant(7)["patient_id"])
        change(gateway, completed(step_uid(1)))
    if erased:
        assert run("erase", "--patient", JANE, *WHY, "--yes").code == 0
    assert run("events", "export", "record.jsonl").code == 0
    text = (tmp_path / "record.jsonl").read_text()
    assert (JANE in text) == (not erased)
    assert participant(7)["patient_id"] in text
    replayed = run("events", "replay", "record.jsonl", "--into", "elsewhere")
    assert replayed.code == 0, replayed.err
    assert rows(tmp_path / "elsewhere" / "gateway.db") == rows(sealed)
    shown = [run("worklist", "list", "--status", "CANCELLED", "--reveal", "--position", "3").out]
    assert (JANE in shown[0]) == (not erased)


@pytest.mark.slow
def test_it_is_a_process_like_any_other_beside_one_that_serves(sealed: Path, tmp_path: Path) -> None:
    with opened(sealed, sealing=True) as serving:
        outcome = in_a_process(tmp_path, "erase", "--patient", JANE, *WHY, "--yes", GATEWAY_SEALING="true")
        assert outcome.code == 0, outcome.err
        schedule(serving, "ACC002")
        assert serving.verify_projections() == []


def test_a_restored_backup_of_before_an_erasure_shows_nobody(sealed: Path, run: Command) -> None:
    """With the key file of after it; the tables in the backup are plain text, and are built anew."""
    taken = run("backup", "now", "--json").json
    assert run("erase", "--patient", JANE, *WHY, "--yes").code == 0
    [backup] = sorted(sealed.parent.glob("backups/*.db"))
    assert JANE.encode() in backup.read_bytes(), taken
    restored = run("backup", "restore", str(backup), "--yes", "--sequence-floor", "1000")
    assert restored.code == 0, restored.err
    listed = run("worklist", "list", "--status", "CANCELLED", "--reveal", "--json").json
    assert [(row["accession_number"], row["patient_id"]) for row in listed] == [("ACC001", "")]
    assert run("projections", "verify").code == 0


def asked(database: Path, tag: int, vr: str, value: str, *accession_numbers: str) -> None:
    """A unit asked for this, and was answered with these items."""
    query = record.Query(
        at="2026-11-23T09:00:00.000+00:00",
        calling_ae_title="MAMMO1",
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.7",
        keys=("PatientID",) if tag == 0x00100020 else ("PatientName",),
        identifier=data_set.encode([Element(tag, vr, value.encode())], IMPLICIT_VR_LITTLE_ENDIAN),
        transfer_syntax=IMPLICIT_VR_LITTLE_ENDIAN,
        status=0,
        error_comment="",
        answers=len(accession_numbers),
        accession_numbers=accession_numbers,
        milliseconds=1.0,
    )
    with opened(database, sealing=True) as gateway:
        book = record.QueryRecord(gateway)
        book.add(query)
        book.start()
        book.close()


@pytest.mark.parametrize(
    ("tag", "vr", "value", "numbers"),
    [(0x00100020, "LO", JANE, ()), (0x00100010, "PN", "SMITH^JANE", ("ACC001",))],
    ids=["by Patient ID", "by name, answered with her item"],
)
def test_a_query_that_comes_back_with_a_backup_is_erased_again(
    sealed: Path, run: Command, tag: int, vr: str, value: str, numbers: tuple[str, ...]
) -> None:
    """The log has nothing of her then that anybody could read."""
    asked(sealed, tag, vr, value, *numbers)
    assert run("backup", "now").code == 0
    assert run("erase", "--patient", JANE, *WHY, "--yes", "--json").json["queries"] == 1
    [backup] = sorted(sealed.parent.glob("backups/*.db"))
    assert run("backup", "restore", str(backup), "--yes", "--sequence-floor", "1000").code == 0
    assert value in run("worklist", "explain", "--query", "1", "--reveal").out
    again = run("erase", "--patient", JANE, "--reason", "again", "--yes")
    assert (again.code, again.err.count("not_found")) == (0, 0), again.err
    assert "queries that named the person: 1" in again.out
    assert "looked for by the Patient ID alone" in again.err
    assert value not in run("worklist", "explain", "--query", "1", "--reveal").out
    once_more = run("erase", "--patient", JANE, "--reason", "again", "--yes")
    assert (once_more.code, "nothing is left: erased" in once_more.out) == (0, True)


def test_a_sealed_query_is_found_by_the_patient_it_asked_for_until_that_patient_is_erased(
    sealed: Path, run: Command
) -> None:
    asked(sealed, 0x00100020, "LO", JANE)
    assert "MAMMO1" in run("audit", "list", "--patient", JANE).out
    assert run("erase", "--patient", JANE, *WHY, "--yes", "--json").json["queries"] == 1
    assert "MAMMO1" not in run("audit", "list", "--patient", JANE).out
    assert "MAMMO1" in run("audit", "list", "--ae", "MAMMO1").out
