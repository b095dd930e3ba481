"""Backups: taken while saves go on, one checked file each; what is not to be relied on is found and named."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.synthetic import examine, schedule
from gateway.application import Gateway, opened
from gateway.errors import BackupUnusable
from gateway.eventstore import chain
from gateway.eventstore.backup import Checked, Pace, check, listed, newest_sound, origin, prune, take
from tests.audit.killing import back_up, killed_at_each_access

OURS, OTHERS = "1f6c02ab", "00c0ffee"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def history(gateway: Gateway) -> Gateway:
    for number in range(1, 40):
        examine(gateway, number)
    return gateway


def at_the_prompt(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as prompt, prompt:
        for statement in statements:
            prompt.execute(statement)


def named(folder: Path, days_ago: float, position: int = 1, suffix: str = "", of: str = OURS) -> Path:
    """A file with a backup's name."""
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    folder.mkdir(exist_ok=True)
    file = folder / f"gateway-{moment:%Y%m%dT%H%M%SZ}-{position}-{of}{suffix}.db"
    file.touch()
    return file


# --- taking one


def test_a_backup_is_one_private_file_named_by_time_position_and_log(
    history: Gateway, path: Path, folder: Path
) -> None:
    taken = take(path, folder)
    with history.reading() as connection:
        first_link = connection.execute("SELECT link FROM event_chain WHERE position = 1").fetchone()[0].hex()[:8]
    assert taken.origin == origin(path) == first_link
    assert [*folder.iterdir()] == [taken.file]
    assert re.fullmatch(rf"gateway-\d{{8}}T\d{{6}}Z-{history.check_store()}-{first_link}\.db", taken.file.name)
    assert oct(taken.file.stat().st_mode & 0o777) == "0o600"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_a_backup_needs_no_file_beside_it(history: Gateway, path: Path, folder: Path) -> None:
    """Its header says so: 1 is the rollback journal, 2 would be WAL."""
    assert take(path, folder).file.read_bytes()[18:20] == b"\x01\x01"


def test_a_backup_is_the_log_the_chain_and_the_tables(history: Gateway, path: Path, folder: Path) -> None:
    taken = take(path, folder)
    assert (taken.position, taken.head) == (history.check_store(), history.verify_chain().head)
    with opened(taken.file) as copy:
        assert copy.caught_up == {}
        assert copy.verify_chain().head == taken.head
        assert copy.verify_projections() == []


def test_saves_go_on_while_a_backup_is_taken_and_it_does_not_begin_again(
    history: Gateway, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step waits until another save is in: without a snapshot of its own the copy would begin anew each time."""
    monkeypatch.setattr("gateway.eventstore.backup._PAGES", 16)
    before, steps = history.check_store(), 0

    def save() -> bool:
        nonlocal steps
        steps += 1
        assert steps < 200, "the copy began again"
        saving = threading.Thread(target=schedule, args=(history, f"DURING{steps}"))
        saving.start()
        saving.join(5)
        assert not saving.is_alive(), "a save waited for the backup"
        return False

    taken = take(path, folder, pace=Pace(stopping=save))
    assert steps >= 5
    assert taken.position == before
    assert not taken.finding
    assert history.check_store() == before + 2 * steps
    assert history.verify_chain().intact


def test_only_one_backup_at_a_time_is_put_into_a_folder(history: Gateway, path: Path, folder: Path) -> None:
    def another() -> bool:
        with pytest.raises(BackupUnusable, match="another backup is being put into"):
            take(path, folder)
        return False

    assert not take(path, folder, pace=Pace(stopping=another)).finding


def test_a_backup_that_is_given_up_leaves_nothing(history: Gateway, path: Path, folder: Path) -> None:
    with pytest.raises(BackupUnusable, match="given up"):
        take(path, folder, pace=Pace(stopping=lambda: True))
    assert [*folder.iterdir()] == []


def test_where_there_is_no_database_none_is_made(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BackupUnusable, match="there is no database"):
        take(tmp_path / "other.db", folder)
    assert not (tmp_path / "other.db").exists()


def test_a_folder_that_can_t_be_written_is_named(history: Gateway, path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupUnusable, match="no backup can be put into"):
        take(path, tmp_path / "file" / "backups")


@pytest.mark.slow
def test_a_backup_killed_at_any_moment_leaves_no_file_with_a_backup_s_name_that_is_none(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    with opened(template / "gateway.db") as gateway:
        examine(gateway, 1)
    moments = killed_at_each_access(tmp_path, back_up)
    assert moments >= 8
    for number in range(1, moments + 1):
        folder = tmp_path / str(number) / "backups"
        for backup in listed(folder, "gateway"):
            assert not check(backup.file).finding
        back_up(tmp_path / str(number))
        left = [file for file in folder.iterdir() if file not in {backup.file for backup in listed(folder, "gateway")}]
        assert left == [], "the next backup clears away what was left"


# --- checking one


@pytest.fixture
def backup(history: Gateway, path: Path, folder: Path) -> Checked:
    return take(path, folder)


def test_a_check_says_position_head_and_time_of_the_last_event(backup: Checked, history: Gateway) -> None:
    found = check(backup.file)
    assert found == backup
    assert found.anchor == f"{history.check_store()}:{history.verify_chain().head.hex()}"
    with history.reading() as connection:
        assert chain.head(connection) == (found.position, found.committed_at, found.head)
    assert set(found.projections.values()) == {found.position}


def test_a_check_writes_nothing(backup: Checked, folder: Path) -> None:
    before = backup.file.read_bytes(), backup.file.stat().st_mtime_ns
    backup.file.chmod(0o400)
    folder.chmod(0o500)
    check(backup.file)
    folder.chmod(0o700)
    assert (backup.file.read_bytes(), backup.file.stat().st_mtime_ns) == before
    assert [*folder.iterdir()] == [backup.file]


ALTERED: dict[str, tuple[str, str]] = {
    "an altered event": ("UPDATE stored_events SET topic = topic || ' ' WHERE rowid = 7", "at position 7"),
    "a missing event": ("DELETE FROM stored_events WHERE rowid = 9", "at position 9"),
    "a table ahead of the log": ("UPDATE projection_positions SET position = 9999 WHERE name = 'outbox'", "outbox"),
}


@pytest.mark.parametrize("alteration", ALTERED)
def test_what_was_altered_in_a_backup_is_found_and_named(backup: Checked, alteration: str) -> None:
    statement, told = ALTERED[alteration]
    at_the_prompt(backup.file, statement)
    assert told in check(backup.file).finding


def test_a_tail_cut_from_log_and_tables_is_found_by_sqlite_s_own_count(backup: Checked) -> None:
    at_the_prompt(
        backup.file,
        "DELETE FROM stored_events WHERE rowid > 10",
        "DELETE FROM event_chain WHERE position > 10",
        "UPDATE projection_positions SET position = 10",
    )
    assert "at position 11" in check(backup.file).finding


def overwritten(file: Path) -> None:
    with file.open("r+b") as bytes_of_it:
        bytes_of_it.seek(5 * 4096)
        bytes_of_it.write(b"\xff" * 3 * 4096)


def cut_short(file: Path) -> None:
    with file.open("r+b") as bytes_of_it:
        bytes_of_it.truncate(file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [overwritten, cut_short])
def test_a_damaged_backup_is_found(backup: Checked, damage: Callable[[Path], None]) -> None:
    damage(backup.file)
    found = check(backup.file)
    assert found.damage
    assert "the file is damaged" in found.finding


def test_a_file_that_is_not_there_not_a_database_or_another_program_s_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("not a database, but long enough to have a header of a hundred bytes" * 9)
    at_the_prompt(other, "CREATE TABLE t (x)")
    for file, told in ((tmp_path / "none.db", "no file"), (text, "not a database"), (other, "not a database of this")):
        with pytest.raises(BackupUnusable, match=told):
            check(file)


def test_a_database_in_use_is_no_backup(history: Gateway, path: Path) -> None:
    """Part of it is in its -wal: a plain copy of the one file lacks that."""
    with pytest.raises(BackupUnusable, match="a database in use"):
        check(path)


def test_a_log_whose_chain_is_broken_is_backed_up_under_a_name_that_says_so(
    history: Gateway, path: Path, folder: Path
) -> None:
    at_the_prompt(path, "UPDATE stored_events SET topic = topic || ' ' WHERE rowid = 7")
    taken = take(path, folder)
    assert "at position 7" in taken.finding
    assert taken.file.name.endswith(".unsound.db")
    assert [backup.sound for backup in listed(folder, "gateway")] == [False]
    assert newest_sound(listed(folder, "gateway")) is None


# --- those there are


def test_backups_are_listed_by_time_and_other_files_are_not(folder: Path) -> None:
    second, first = named(folder, 1), named(folder, 2, suffix=".unsound")
    for name in (
        "gateway.db",
        f"gateway-20261399T990000Z-1-{OURS}.db",
        f"other-20261123T030000Z-1-{OURS}.db",
        "gateway-x-1.db",
    ):
        (folder / name).touch()
    assert [(found.file, found.sound) for found in listed(folder, "gateway")] == [(first, False), (second, True)]
    assert listed(folder / "none", "gateway") == []


def test_backups_older_than_the_days_are_removed_and_no_other_file(folder: Path) -> None:
    old, young, other = named(folder, 31), named(folder, 29), folder / f"other-20200101T000000Z-1-{OURS}.db"
    other.touch()
    assert prune(folder, "gateway", OURS, kept_days=30) == [old]
    assert {*folder.iterdir()} == {young, other}


def test_the_newest_good_backup_is_never_removed_however_old_it_is(folder: Path) -> None:
    oldest, good, bad = named(folder, 300), named(folder, 200), named(folder, 100, suffix=".unsound")
    assert prune(folder, "gateway", OURS, kept_days=30) == [oldest, bad]
    assert [*folder.iterdir()] == [good]


def test_backups_of_other_databases_in_the_folder_are_neither_ours_nor_removed(folder: Path) -> None:
    """They may have the same name. Whoever does not know which log it is sees them all."""
    others, ours, young = named(folder, 40, of=OTHERS), named(folder, 39), named(folder, 1)
    assert [found.file for found in listed(folder, "gateway", OURS)] == [ours, young]
    assert [found.origin for found in listed(folder, "gateway")] == [OTHERS, OURS, OURS]
    assert prune(folder, "gateway", OURS, kept_days=30) == [ours]
    assert {*folder.iterdir()} == {others, young}


def test_a_backup_stamped_later_than_now_does_not_make_the_good_one_superfluous(folder: Path) -> None:
    good, future = named(folder, 100), named(folder, -100)
    assert prune(folder, "gateway", OURS, kept_days=30) == []
    assert {*folder.iterdir()} == {good, future}


def test_a_log_without_events_has_an_origin_of_zeros_and_so_has_one_that_is_not_there(
    gateway: Gateway, path: Path, folder: Path
) -> None:
    assert origin(path) == take(path, folder).origin == origin(path.with_name("none.db")) == "00000000"
    assert not path.with_name("none.db").exists()
