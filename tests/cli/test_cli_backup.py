"""`gateway backup` and `gateway outbox resume`: exit codes, data and talk, and JSON as documented."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli_support import Command, in_a_process
from test_cli_json import is_documented

from bench.synthetic import appointment, change, completed, create_request, naming, start, step_uid
from gateway.application import Gateway, opened
from gateway.eventstore.backup import origin


@pytest.fixture
def backup(story: Gateway, run: Command) -> Path:
    """Taken of the story."""
    return Path(run("backup", "now", "--json").json["file"])


@pytest.fixture
def future(story: Gateway, backup: Path, database: Path) -> Path:
    """Then ACC003 is examined and the web app hears of it; ACC004 comes in. The service has stopped."""
    start(story, step_uid(3), naming("ACC003"))
    change(story, completed(step_uid(3)))
    for update in story.find_updates(accession_number="ACC003"):
        story.acknowledge_update(update.event_id, answer="updated", attempts=1)
    wanted = appointment("ACC004")
    story.schedule(wanted, request=create_request("create-ACC004", wanted))
    story.close()
    return backup


def test_now_puts_a_checked_file_beside_the_database_and_says_that_it_is_the_same_disk(
    story: Gateway, run: Command, database: Path
) -> None:
    outcome = run("backup", "now")
    assert outcome.code == 0
    [file] = (database.parent / "backups").iterdir()
    assert outcome.out.startswith(f"data/backups/{file.name}: {story.check_store()} events, head ")
    assert "the database's own disk" in outcome.err


def test_now_removes_backups_that_are_too_old_but_none_where_it_was_told_to_put_it(
    story: Gateway, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_BACKUP_FOLDER", str(tmp_path / "kept"))
    old = f"gateway-20250101T030000Z-1-{origin(story.path)}.db"
    for folder in ("kept", "away"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / old).touch()
    found = run("backup", "now", "--json").json
    is_documented(found, "backup now")
    assert found["pruned"] == [old]
    assert run("backup", "now", "--into", str(tmp_path / "away"), "--json").json["pruned"] == []
    assert len([*(tmp_path / "kept").iterdir()]) == 1
    assert len([*(tmp_path / "away").iterdir()]) == 2


def test_list_shows_time_age_position_size_and_what_was_found(backup: Path, run: Command) -> None:
    outcome = run("backup", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(rf"0 h 0 min +\d+ +\d+ +yes +[0-9a-f]{{8}} +{backup}", outcome.out)
    is_documented(run("backup", "list", "--json").json, "backup list")
    assert run("backup", "list", "--from", "nowhere", "--json").json == []


def test_list_exits_1_when_one_of_them_is_not_sound(backup: Path, run: Command) -> None:
    backup.with_name("gateway-20251127T030000Z-12-1f6c02ab.unsound.db").touch()
    outcome = run("backup", "list")
    assert (outcome.code, " NO " in outcome.out) == (1, True)
    found = run("backup", "list", "--json")
    assert (found.code, [one["sound"] for one in found.json]) == (1, [False, True])


def test_restoring_twice_says_twice_what_was_lost(future: Path, run: Command) -> None:
    for words in ((), ("--despite-chain",)):
        outcome = run("backup", "restore", str(future), "--yes", *words)
        assert "1 actions, 1 performed steps, 2 settled status events; changes of 2 appointments" in outcome.out
    assert "before gateway.db.replaced-" in outcome.out
    plan = run("backup", "restore", str(future), "--yes", "--json")
    assert len(plan.json["earlier"]) == 2
    is_documented({**plan.json, "lost": None}, "backup restore")


def test_verify_says_sound_with_an_anchor_or_what_is_wrong(backup: Path, run: Command) -> None:
    outcome = run("backup", "verify", str(backup))
    assert (outcome.code, outcome.err) == (0, "")
    head = run("events", "verify", "--json").json
    assert f"head {head['events']}:{head['head']}" in outcome.out
    assert "sound: the file is whole" in outcome.out
    is_documented(run("backup", "verify", str(backup), "--json").json, "backup verify")
    with closing(sqlite3.connect(backup)) as prompt, prompt:
        prompt.execute("UPDATE stored_events SET topic = topic || ' ' WHERE rowid = 3")
    outcome = run("backup", "verify", str(backup))
    assert (outcome.code, "NOT sound: the chain is not intact: at position 3" in outcome.out) == (1, True)
    found = run("backup", "verify", str(backup), "--json")
    assert (found.code, found.json["sound"]) == (1, False)
    is_documented(found.json, "backup verify")


def test_verify_of_what_is_no_backup_is_one_line_with_the_remedy(run: Command) -> None:
    outcome = run("backup", "verify", "nothing.db")
    assert (outcome.code, outcome.out) == (1, "")
    assert re.fullmatch(r"gateway: backup_unusable: there is no file nothing.db → .*\n", outcome.err)


def test_restore_asks_and_where_nobody_can_be_asked_it_is_misuse(future: Path, tmp_path: Path) -> None:
    outcome = in_a_process(tmp_path, "backup", "restore", str(future))
    assert (outcome.code, outcome.out) == (2, "")
    assert "say --yes" in outcome.err


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_restore_tells_what_may_be_lost_before_it_asks(
    future: Path, database: Path, run: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer == "y")
    outcome = run("backup", "restore", str(future))
    assert outcome.code == code
    assert "1 actions, 1 performed steps, 2 settled status events; changes of 2 appointments" in outcome.out
    assert re.search(r"ACC004 +worklist.create_item +created .* create-ACC004", outcome.out)
    assert re.search(rf"ACC003 +performed step +Completed .* {step_uid(3)}", outcome.out)
    assert ("restored: epoch 2" in outcome.out) == (answer == "y")
    with opened(database) as gateway:
        assert bool(gateway.restored()) == (answer == "y")


def test_restore_lost_and_resume_are_documented(future: Path, database: Path, run: Command) -> None:
    plan = run("backup", "restore", str(future), "--yes", "--json")
    assert plan.code == 0
    is_documented({**plan.json, "lost": None}, "backup restore")
    is_documented(plan.json["lost"], "backup lost")
    assert "SMITH" not in plan.out
    lost = run("backup", "lost", "--json")
    assert (lost.code, lost.json) == (1, plan.json["lost"])
    assert "ACC004" in run("backup", "lost").out
    assert run("outbox", "resume").code == 2
    resumed = run("outbox", "resume", "--after-restore", "--json")
    is_documented(resumed.json, "outbox resume")
    assert resumed.json["waiting"] == 1
    again = run("outbox", "resume", "--after-restore")
    assert (again.code, "illegal_transition" in again.err) == (1, True)


def test_lost_where_nothing_was_restored_says_so(story: Gateway, run: Command) -> None:
    outcome = run("backup", "lost")
    assert (outcome.code, "no backup was ever restored" in outcome.err) == (1, True)


def test_restore_without_a_readable_database_tells_the_time(future: Path, database: Path, run: Command) -> None:
    database.write_bytes(b"\0" * 9000)
    outcome = run("backup", "restore", str(future), "--yes")
    assert outcome.code == 0
    assert "not known: what was acknowledged after" in outcome.out
    is_documented(run("backup", "restore", str(future), "--yes", "--json").json, "backup restore")
