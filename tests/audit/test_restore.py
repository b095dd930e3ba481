"""A restore: the old or the new database whole at any moment, a new epoch, a waiting outbox, what may be lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import (
    PERSON,
    appointment,
    change,
    completed,
    create_request,
    examine,
    naming,
    participant,
    request,
    schedule,
    start,
    step_uid,
)
from gateway.application import Gateway, opened
from gateway.audit import erasure
from gateway.audit.restore import Plan, note_restore, restore, still_lost
from gateway.domain.lifecycle import Status
from gateway.errors import BackupUnusable, IllegalTransition, InvalidValue, KeyLost, NotFound, StoreUnusable
from gateway.eventstore import anchors, chain
from gateway.eventstore.backup import Checked, take
from gateway.eventstore.ownership import Ownership, Use
from gateway.eventstore.sequence_mark import SequenceMark
from projections.outbox import OutboxRow
from tests.audit.killing import killed_at_each_access, put_back


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Checked:
    """ACC001 is examined and the web app was told of its start; ACC002 is scheduled. Then the backup is taken."""
    path.parent.mkdir()
    with opened(path) as gateway:
        for number in ("ACC001", "ACC002"):
            wanted = appointment(number)
            gateway.schedule(wanted, request=create_request(f"create-{number}", wanted))
        start(gateway, step_uid(1), naming("ACC001"))
        change(gateway, completed(step_uid(1)))
        [first, *_] = gateway.find_updates()
        gateway.acknowledge_update(first.event_id, answer="updated", attempts=1)
        return take(path, tmp_path / "backups")


@pytest.fixture
def future(backup: Checked, path: Path) -> Path:
    """What happened after it: the web app heard all about ACC001 and ACC002, and asked for ACC003."""
    with opened(path) as gateway:
        start(gateway, step_uid(2), naming("ACC002"))
        change(gateway, completed(step_uid(2)))
        wanted = appointment("ACC003")
        gateway.schedule(wanted, request=create_request("create-ACC003", wanted))
        for update in gateway.find_updates():
            gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)
    return path


def restored(path: Path, backup: Checked, **options: Any) -> Plan:
    plan = restore(path, backup.file, operator="night shift", **{"agreed": lambda _: True, **options})
    assert plan is not None
    return plan


def all_updates(gateway: Gateway) -> list[OutboxRow]:
    return [row for state in ("waiting", "parked", "acknowledged") for row in gateway.find_updates(state=state)]


def files(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir()}


def heads(file: Path) -> tuple[int, bytes]:
    with closing(sqlite3.connect(file)) as connection:
        position, _, link = chain.head(connection)
    return position, link


# --- the database's place


def test_the_backup_takes_the_database_s_place_and_the_log_goes_on(future: Path, backup: Checked) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        assert gateway.check_store() == backup.position + 1
        assert gateway.count_by_status() == {"COMPLETED": 1, "SCHEDULED": 1}
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []
        schedule(gateway, "ACC004")
        assert gateway.verify_chain().intact
    assert oct(future.stat().st_mode & 0o777) == "0o600"


def test_the_replaced_database_is_kept_whole_with_its_wal_in_it(future: Path, backup: Checked) -> None:
    """Its latest events were in the -wal alone, as after a power cut."""
    with after_a_crash(future) as (head, _):
        plan = restored(future, backup)
    assert plan.replaced
    kept = future.with_name(plan.replaced)
    assert heads(kept) == head
    assert kept.read_bytes()[18:20] == b"\x01\x01"
    assert files(future) == {"gateway.db", kept.name, *SIDE}


SIDE = {"gateway.db.lock", "gateway.db.use", "gateway.db.sequence"}


@contextmanager
def after_a_crash(path: Path) -> Iterator[tuple[tuple[int, bytes], int]]:
    """The database as a killed process leaves it: with a -wal. Gives its head, and the size of the -wal."""
    script = (
        "import os, sys; from pathlib import Path; from gateway.application import Gateway;"
        "from bench.synthetic import schedule;"
        "gateway = Gateway(Path(sys.argv[1])); schedule(gateway, 'LATE1'); schedule(gateway, 'LATE2');"
        "print(gateway.check_store(), gateway.verify_chain().head.hex(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    position, head = done.stdout.split()
    size = path.with_name("gateway.db-wal").stat().st_size
    assert size
    yield (int(position), bytes.fromhex(head)), size


def test_a_stale_wal_is_not_applied_to_the_restored_file(future: Path, backup: Checked) -> None:
    """It lies beside a database that can't be read, and would bring its pages back."""
    with after_a_crash(future) as (_, size):
        future.write_bytes(b"damaged" * 10_000)
        future.with_name("gateway.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 512)
        plan = restored(future, backup)
    assert plan.replaced
    assert heads(future)[0] == backup.position + 1
    with opened(future) as gateway:
        assert gateway.verify_chain().intact
        assert gateway.verify_projections() == []
    assert future.with_name(plan.replaced + "-wal").stat().st_size == size, "it is kept with its own"


def test_where_the_database_is_gone_its_wal_is_not_applied_either(future: Path, backup: Checked) -> None:
    with after_a_crash(future):
        future.unlink()
        plan = restored(future, backup)
    assert plan.replaced is None
    assert heads(future)[0] == backup.position + 1


@pytest.mark.slow
def test_killed_at_any_moment_the_old_or_the_new_database_is_in_place_whole(
    future: Path, backup: Checked, tmp_path: Path
) -> None:
    with after_a_crash(future) as (old, _):
        template = tmp_path / "template"
        template.mkdir()
        for name in ("gateway.db", "gateway.db-wal", "gateway.db.sequence"):
            shutil.copy(future.with_name(name), template / name)
    shutil.copy(backup.file, template / "backup.db")
    moments = killed_at_each_access(tmp_path, put_back)
    assert moments >= 15
    found = set()
    for number in range(1, moments + 1):
        place = tmp_path / str(number) / "gateway.db"
        with opened(place) as gateway:
            position, epoch = gateway.check_store(), gateway.restored()
            assert gateway.verify_chain().intact
            assert gateway.verify_projections() == []
            assert (position, gateway.verify_chain().head) == old or (position == backup.position + 1 and epoch)
        found.add(position)
        put_back(place.parent)
        left = {name for name in files(place) if not name.startswith("gateway.db") and name != "backup.db"}
        assert left == set(), "the next restore clears away what was left"
        kept = [file for file in place.parent.glob("gateway.db.replaced-*") if not file.samefile(place)]
        assert old in {heads(file) for file in kept}, "the replaced database is kept"
        assert len(kept) == len([*place.parent.glob("gateway.db.replaced-*")])
        assert len({file.stat().st_ino for file in kept}) == len(kept), "each once"
    assert found == {old[0], backup.position + 1}, "some were killed before, some after"


def test_two_restores_in_one_second_keep_both_databases(future: Path, backup: Checked) -> None:
    plans = [restored(future, backup) for _ in range(3)]
    kept = {plan.replaced for plan in plans}
    assert len(kept) == 3
    assert kept <= files(future)


# --- what is refused


def test_a_service_that_runs_is_to_be_stopped_first(future: Path, backup: Checked) -> None:
    service = Ownership(future)
    with pytest.raises(StoreUnusable, match="stop the service"):
        restored(future, backup)
    service.release()
    restored(future, backup)


def test_a_command_that_has_the_database_open_is_waited_for_by_the_person(future: Path, backup: Checked) -> None:
    with opened(future), pytest.raises(StoreUnusable, match="a command has the database"):
        restored(future, backup)
    restored(future, backup)


def test_a_sqlite3_prompt_that_has_the_database_open_is_refused_and_nothing_is_changed(
    future: Path, backup: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.eventstore.replacing._PATIENCE", 0.1)
    before = heads(future)
    with closing(sqlite3.connect(future)) as prompt:
        prompt.execute("SELECT COUNT(*) FROM stored_events").fetchone()
        with pytest.raises(StoreUnusable, match="another program has the database"):
            restored(future, backup)
    assert heads(future) == before
    assert not {name for name in files(future) if "replaced" in name or "restoring" in name}


def test_while_a_restore_goes_on_no_command_opens_the_database(future: Path) -> None:
    alone = Use(future, alone=True)
    with pytest.raises(StoreUnusable, match="a backup is being restored"):
        Gateway(future)
    alone.release()
    Gateway(future).close()


def test_a_damaged_backup_an_altered_one_and_the_database_itself_are_refused_and_named(
    future: Path, backup: Checked
) -> None:
    before = heads(future)
    altered = backup.file.with_name("altered.db")
    shutil.copy(backup.file, altered)
    with closing(sqlite3.connect(altered)) as prompt, prompt:
        prompt.execute("UPDATE stored_events SET topic = topic || ' ' WHERE rowid = 3")
    damaged = backup.file.with_name("damaged.db")
    damaged.write_bytes(backup.file.read_bytes()[: backup.size // 2])
    for file, told in (
        (altered, "altered.db is not restored.*at position 3.*--despite-chain"),
        (damaged, "damaged.db is not restored.*damaged"),
        (future, "is the database itself"),
        (backup.file.with_name("none.db"), "there is no file"),
    ):
        with pytest.raises(BackupUnusable, match=told):
            restore(future, file, operator="night shift", agreed=lambda _: True)
    assert heads(future) == before


def test_a_backup_whose_chain_is_broken_may_be_better_than_none(future: Path, backup: Checked) -> None:
    with closing(sqlite3.connect(backup.file)) as prompt, prompt:
        prompt.execute("UPDATE event_chain SET link = zeroblob(32) WHERE position = 3")
    restored(future, backup, despite_chain=True)
    with opened(future) as gateway:
        assert gateway.verify_chain().position == 3


def test_another_program_s_file_in_the_database_s_place_is_not_replaced(tmp_path: Path, backup: Checked) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as prompt, prompt:
        prompt.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreUnusable, match="another program"):
        restore(other, backup.file, operator="x", agreed=lambda _: True, sequence_floor=9)


def test_a_person_who_does_not_agree_changes_nothing(future: Path, backup: Checked) -> None:
    before = heads(future)
    assert restore(future, backup.file, operator="night shift", agreed=lambda _: False) is None
    assert heads(future) == before
    assert not {name for name in files(future) if "replaced" in name or "restoring" in name}


# --- a new epoch


def test_a_restore_is_an_event_that_says_what_when_by_whom_and_where_it_was_cut(future: Path, backup: Checked) -> None:
    plan = restored(future, backup)
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert (epoch.number, epoch.backup, epoch.position) == (2, backup.file.name, backup.position)
        assert (epoch.head, epoch.backed_up_to) == (backup.head.hex(), backup.committed_at)
        assert (epoch.operator, epoch.replaced) == ("night shift", plan.replaced)
        assert epoch.restored_at == plan.restored_at.isoformat(timespec="microseconds")
        assert epoch.sequence_floor == plan.sequence_floor == SequenceMark(future).read()
        assert plan.present
        assert epoch.replaced_position == plan.present.position
        assert epoch.resumed_at is None
        [row] = [row for row in gateway.timeline("ACC003") if row.kind == "Epoch.Restored"]
        assert (row.source, row.details["backup"]) == ("operator", backup.file.name)


def test_no_epoch_has_the_number_of_another_even_when_the_same_backup_is_restored_again(
    future: Path, backup: Checked
) -> None:
    assert [restored(future, backup).epoch for _ in range(3)] == [2, 3, 4]


def test_a_database_that_was_never_restored_is_in_no_such_epoch(gateway: Gateway) -> None:
    assert gateway.restored() is None
    with pytest.raises(IllegalTransition, match="no backup was restored"):
        gateway.resume_delivery(operator="night shift")


# --- the outbox waits


def test_nothing_is_due_until_a_person_resumes_and_that_is_an_event(future: Path, backup: Checked) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        assert gateway.count_updates().waiting == 1
        gateway.correct_status("ACC002", Status.COMPLETED, reason="on paper", operator="night shift")
        assert gateway.due_updates() == []
    with opened(future) as gateway, opened(future) as beside:
        assert gateway.due_updates() == []
        assert beside.resume_delivery(operator="day shift") == 2
        assert [row.accession_number for row in gateway.due_updates()] == ["ACC001", "ACC002"]
        [row] = [row for row in gateway.timeline("") if row.kind == "Epoch.DeliveryResumed"]
        assert row.details == {"operator": "day shift", "waiting": 2}
        with pytest.raises(IllegalTransition, match="does not wait"):
            gateway.resume_delivery(operator="day shift")


# --- sequences and event ids


def test_each_later_sequence_is_above_all_that_the_web_app_may_have_seen(future: Path, backup: Checked) -> None:
    with opened(future) as gateway:
        seen = {row.accession_number: row.sequence for row in all_updates(gateway)}
    plan = restored(future, backup)
    with opened(future) as gateway:
        known = {row.event_id for row in all_updates(gateway)}
        gateway.correct_status("ACC002", Status.DISCONTINUED, reason="by hand", operator="night shift")
        schedule(gateway, "ACC003")  # it was lost, and the web app sends it again
        start(gateway, step_uid(3), naming("ACC003"))
        new = [row for row in all_updates(gateway) if row.event_id not in known]
        assert {row.accession_number for row in new} == {"ACC002", "ACC003"}
        for row in new:
            assert row.sequence == plan.sequence_floor + 1 > seen.get(row.accession_number, 0)
        assert gateway.verify_projections() == [], "a replay gives the same: the sequence stands in the event"
        change(gateway, completed(step_uid(3)))
        assert max(row.sequence for row in all_updates(gateway)) == plan.sequence_floor + 2
    assert SequenceMark(future).read() > plan.sequence_floor + 2


def test_a_step_reported_again_after_a_restore_is_the_same_event_and_what_a_person_does_is_another(
    future: Path, backup: Checked
) -> None:
    with opened(future) as gateway:
        before = {(row.accession_number, row.status): row.event_id for row in all_updates(gateway)}
    restored(future, backup)
    with opened(future) as gateway:
        start(gateway, step_uid(2), naming("ACC002"))
        again = {(row.accession_number, row.status): row.event_id for row in all_updates(gateway)}
        assert again["ACC002", "IN PROGRESS"] == before["ACC002", "IN PROGRESS"]
        gateway.correct_status("ACC002", Status.COMPLETED, reason="on paper", operator="night shift")
        again = {(row.accession_number, row.status): row.event_id for row in all_updates(gateway)}
        assert again["ACC002", "COMPLETED"] not in before.values()


def test_without_the_high_water_mark_it_is_refused_unless_the_floor_is_told(future: Path, backup: Checked) -> None:
    mark = SequenceMark(future)
    for spoil in (mark.path.unlink, lambda: mark.path.write_text("12 deadbeef\n")):
        spoil()
        with pytest.raises(BackupUnusable, match="--sequence-floor"):
            restored(future, backup)
    assert restored(future, backup, sequence_floor=5000).sequence_floor == 5000
    assert mark.read() == 5000


def test_where_there_never_was_a_status_event_no_floor_is_asked_for(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    with opened(path) as gateway:
        schedule(gateway, "ACC001")
        backup = take(path, tmp_path / "backups")
    assert not SequenceMark(path).path.exists()
    assert restored(path, backup).sequence_floor == 0
    SequenceMark(path).path.write_text("12 deadbeef\n")
    with pytest.raises(BackupUnusable, match="--sequence-floor"):
        restored(path, backup)


def test_a_floor_that_is_told_too_low_does_not_count(future: Path, backup: Checked) -> None:
    mark = SequenceMark(future).read()
    assert restored(future, backup, sequence_floor=1).sequence_floor == mark
    SequenceMark(future).path.unlink()
    assert restored(future, backup, sequence_floor=1).sequence_floor >= 2, "what the databases know counts"


# --- what may be lost


def test_what_was_acknowledged_after_the_backup_is_listed(future: Path, backup: Checked) -> None:
    plan = restored(future, backup)
    assert plan.losses is not None
    lost = plan.losses
    assert lost.complete
    assert [(a["action_id"], a["accession_number"], a["status"]) for a in lost.actions.values()] == [
        ("create-ACC003", "ACC003", "created")
    ]
    assert lost.accession_numbers == ["ACC002", "ACC003"]
    assert [(s["sop_instance_uid"], s["accession_numbers"], s["last"]) for s in lost.performed_steps.values()] == [
        (step_uid(2), ["ACC002"], "Completed")
    ]
    assert [(e["accession_number"], e["state"]) for e in lost.status_events.values()] == [
        ("ACC001", "acknowledged"),
        ("ACC002", "acknowledged"),
        ("ACC002", "acknowledged"),
    ]
    assert "SMITH" not in json.dumps([lost.actions, lost.performed_steps, lost.status_events])


def test_the_log_keeps_how_much_was_lost_and_of_which_appointments(future: Path, backup: Checked) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        epoch = gateway.restored()
    assert epoch is not None
    assert epoch.lost == {
        "known": True,
        "actions": 1,
        "items": 2,
        "performed_steps": 1,
        "status_events": 3,
        "erasures": 0,
        "accession_numbers": ["ACC002", "ACC003"],
    }


def test_what_was_sent_again_is_no_longer_lost(future: Path, backup: Checked) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert [*still_lost(future, epoch).actions] == ["create-ACC003"]
        wanted = appointment("ACC003")
        reply = gateway.schedule(wanted, request=create_request("create-ACC003", wanted))
        assert (reply.status, reply.duplicate) == ("created", False)
        lost = still_lost(future, epoch)
        assert (lost.actions, lost.accession_numbers) == ({}, ["ACC002"])
        assert epoch.replaced
        future.with_name(epoch.replaced).unlink()
        with pytest.raises(NotFound):
            still_lost(future, epoch)


def test_restoring_twice_hides_nothing_of_what_the_first_restore_lost(future: Path, backup: Checked) -> None:
    first = restored(future, backup)
    assert first.losses
    for opened_between in (False, True):
        if opened_between:
            Gateway(future).close()
        again = restored(future, backup)
        assert again.losses == first.losses
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert {name: number for name, number in epoch.lost.items() if name != "earlier"} == first.lost()
        assert epoch.lost["earlier"][0] == first.replaced
        assert len(epoch.lost["earlier"]) == 2
        assert still_lost(future, epoch) == first.losses
        gateway.schedule(wanted := appointment("ACC003"), request=create_request("create-ACC003", wanted))
        assert still_lost(future, epoch).actions == {}
        future.with_name(epoch.lost["earlier"][1]).unlink()
        assert not still_lost(future, epoch).complete, "one of the files is gone"


def test_an_older_backup_that_knows_nothing_of_the_first_restore_does_not_hide_it_either(
    future: Path, backup: Checked, tmp_path: Path
) -> None:
    """Between the two restores another appointment came in, and a backup of that time is there too."""
    first = restored(future, backup)
    with opened(future) as gateway:
        gateway.schedule(wanted := appointment("ACC005"), request=create_request("create-ACC005", wanted))
        later = take(future, tmp_path / "backups")
    assert restored(future, backup).earlier == (first.replaced,)
    plan = restored(future, later)
    assert plan.earlier[0] == first.replaced
    assert plan.losses
    assert [*plan.losses.actions] == ["create-ACC003"], "ACC005 is in this backup"
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert [*still_lost(future, epoch).actions] == ["create-ACC003"]


def test_what_a_person_has_looked_at_is_not_told_again_by_the_next_restore(future: Path, backup: Checked) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        gateway.resume_delivery(operator="day shift")
    plan = restored(future, backup)
    assert plan.earlier == ()
    assert plan.losses
    assert not any(plan.losses.counts().values())


def test_of_a_database_that_can_t_be_read_the_losses_of_earlier_restores_are_still_told(
    future: Path, backup: Checked, tmp_path: Path
) -> None:
    first = restored(future, backup)
    with opened(future):
        later = take(future, tmp_path / "backups")
    future.write_bytes(b"\0" * 100_000)
    plan = restored(future, later)
    assert (plan.earlier, plan.lost()["known"]) == ((first.replaced,), False)
    assert plan.losses
    assert [*plan.losses.actions] == ["create-ACC003"]


def test_a_lost_change_stays_lost_whatever_else_happens_to_the_item(backup: Checked, path: Path) -> None:
    """Another event then has the lost one's stream and version."""
    amend = request("amend", "worklist.update_item", number="ACC002")
    with opened(path) as gateway:
        schedule(gateway, "ACC006")
        backup = take(path, backup.file.parent)
        gateway.amend("ACC002", lambda _: {"location": "HALL 2"}, request=amend)
        gateway.correct_status("ACC006", Status.DISCONTINUED, reason="by hand", operator="night shift")
    restored(path, backup)
    with opened(path) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        gateway.amend("ACC002", lambda _: {"location": "HALL 3"})
        gateway.correct_status("ACC006", Status.COMPLETED, reason="by hand", operator="night shift")
        lost = still_lost(path, epoch)
        assert ([*lost.actions], lost.accession_numbers) == (["amend"], ["ACC002", "ACC006"])
        gateway.amend("ACC002", lambda _: {"location": "HALL 2"}, request=amend)
        lost = still_lost(path, epoch)
        assert ([*lost.actions], lost.accession_numbers) == ([], ["ACC006"]), "sent again; what was done by hand stays"


def test_a_step_and_a_status_event_are_lost_until_just_that_is_reported_and_settled_again(
    future: Path, backup: Checked
) -> None:
    restored(future, backup)
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        before = still_lost(future, epoch)
        start(gateway, step_uid(2), naming("ACC002"))
        lost = still_lost(future, epoch)
        assert [step["last"] for step in lost.performed_steps.values()] == ["Completed"]
        assert lost.status_events == before.status_events, "it waits, and nobody has acknowledged it anew"
        change(gateway, completed(step_uid(2)))
        lost = still_lost(future, epoch)
        assert (lost.performed_steps, lost.accession_numbers) == ({}, ["ACC003"])
        for update in gateway.find_updates():
            gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)
        assert still_lost(future, epoch).status_events == {}


# --- keys


@pytest.fixture
def sealed(path: Path) -> Path:
    """ACC001 is over, and sealed."""
    path.parent.mkdir()
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
        gateway.cancel("ACC001")
    return path


def erased(path: Path, reason: str) -> None:
    with opened(path, sealing=True) as gateway:
        found = erasure.find(gateway, PERSON["patient_id"])
        erasure.erase(gateway, PERSON["patient_id"], found, reason=reason, operator="dpo")


def test_a_lost_erasure_is_named_as_such_until_it_is_repeated(sealed: Path, tmp_path: Path) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002")
        start(gateway, step_uid(2), naming("ACC002"))
        change(gateway, completed(step_uid(2)))
    backup = take(sealed, tmp_path / "backups")
    erased(sealed, "request 114")
    plan = restored(sealed, backup, sequence_floor=1000)
    assert plan.losses
    assert plan.losses.counts() == {
        "actions": 0,
        "items": 0,
        "performed_steps": 0,
        "status_events": 0,
        "erasures": 1,
    }
    [lost] = plan.losses.erasures.values()
    assert (lost["accession_numbers"], lost["reason"], lost["operator"]) == (["ACC001", "ACC002"], "request 114", "dpo")
    assert plan.lost()["accession_numbers"] == ["ACC001", "ACC002"]
    with opened(sealed, sealing=True) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert len(still_lost(sealed, epoch).erasures) == 1
    erased(sealed, "request 114 again")
    assert still_lost(sealed, epoch).erasures == {}
    erased(sealed, "request 114 once more")


def test_a_lost_erasure_is_repeated_also_where_the_key_file_is_of_before_it(sealed: Path, tmp_path: Path) -> None:
    keys = sealed.with_name("gateway.db.keys")
    backup = take(sealed, tmp_path / "backups")
    shutil.copy(keys, tmp_path / "before.keys")
    erased(sealed, "request 114")
    shutil.copy(tmp_path / "before.keys", keys)
    restored(sealed, backup, sequence_floor=1000)
    with opened(sealed, sealing=True) as gateway:
        assert erasure.find(gateway, PERSON["patient_id"]).items == {"ACC001": None}
    erased(sealed, "request 114 again")
    with opened(sealed, sealing=True) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert still_lost(sealed, epoch).erasures == {}
        assert erasure.find(gateway, PERSON["patient_id"]).items == {}


@pytest.mark.parametrize("wrong", ["missing", "of another database", "older", "elsewhere"])
def test_a_backup_whose_keys_are_not_at_hand_is_refused_before_anything_is_replaced(
    sealed: Path, tmp_path: Path, wrong: str
) -> None:
    keys = sealed.with_name("gateway.db.keys")
    older = tmp_path / "older.keys"
    shutil.copy(keys, older)
    with opened(sealed, sealing=True) as gateway:
        for number in range(40):  # more than the keys that were made ahead
            schedule(gateway, f"ACC1{number:02}", **participant(number))
        backup = take(sealed, tmp_path / "backups")
    before = heads(sealed)
    kept = keys.rename(tmp_path / "kept.keys")
    if wrong == "of another database":
        other = tmp_path / "other" / "gateway.db"
        other.parent.mkdir()
        with opened(other, sealing=True) as gateway:
            schedule(gateway, "ACC009")
        shutil.copy(other.with_name(keys.name), keys)
    elif wrong == "older":
        shutil.copy(older, keys)
    options = {"keys_path": tmp_path / "nowhere.keys"} if wrong == "elsewhere" else {}
    with pytest.raises(KeyLost) as refused:
        restored(sealed, backup, sequence_floor=1000, **options)
    assert "put the" in str(refused.value.remedy)
    assert heads(sealed) == before
    assert not {name for name in files(sealed) if "replaced" in name or "restoring" in name}
    assert restored(sealed, backup, sequence_floor=1000, keys_path=kept)
    with opened(sealed, sealing=True, keys_path=kept) as gateway:
        assert gateway.verify_projections() == []


def test_of_an_altered_sealed_backup_it_is_said_before_what_can_t_be_read(sealed: Path, tmp_path: Path) -> None:
    with opened(sealed, sealing=True) as gateway:
        schedule(gateway, "ACC002", **participant(2))
        last = gateway.check_store()
    backup = take(sealed, tmp_path / "backups")
    with closing(sqlite3.connect(backup.file)) as prompt, prompt:
        state = json.loads(prompt.execute("SELECT state FROM stored_events WHERE rowid = ?", (last,)).fetchone()[0])
        text = state["envelope"]["sealed"]
        state["envelope"]["sealed"] = ("A" if text[0] != "A" else "B") + text[1:]
        prompt.execute("UPDATE stored_events SET state = ? WHERE rowid = ?", (json.dumps(state).encode(), last))
    told: list[str] = []

    def agreed(plan: Plan) -> bool:
        told.append(plan.unreadable)
        return False

    options: dict[str, Any] = {"operator": "night shift", "sequence_floor": 1000, "despite_chain": True}
    restore(sealed, backup.file, agreed=agreed, **options)
    assert f"position {last}" in told[0]
    erased(sealed, "request 114")
    with pytest.raises(BackupUnusable, match=f"erased since.*position {last}"):
        restore(sealed, backup.file, agreed=agreed, **options)
    assert len(told) == 1, "nobody could open it afterwards: it is refused, not asked"


# --- of a database that can't be read


def test_of_a_database_that_can_t_be_read_the_time_is_what_is_known(future: Path, backup: Checked) -> None:
    future.write_bytes(b"\0" * 100_000)
    plan = restored(future, backup)
    assert plan.losses is None
    with opened(future) as gateway:
        epoch = gateway.restored()
    assert epoch is not None
    assert (epoch.lost["known"], epoch.replaced_position) == (False, None)
    assert epoch.backed_up_to < epoch.restored_at


def test_of_a_database_that_can_t_be_read_the_last_anchor_is_known(future: Path, backup: Checked) -> None:
    file = future.with_name("gateway.db.anchors")
    with opened(future) as gateway, gateway.reading() as connection:
        newest = chain.newest(connection)
    assert newest
    anchors.keep(file, newest)
    future.write_bytes(b"\0" * 100_000)
    plan = restored(future, backup, anchors_path=file)
    assert (plan.last_anchor, plan.replaced_position) == (newest, newest.position)


def test_the_anchors_file_tells_which_anchors_are_of_the_replaced_log(future: Path, backup: Checked) -> None:
    file = future.with_name("gateway.db.anchors")
    with opened(future) as gateway, gateway.reading() as connection:
        newest = chain.newest(connection)
    assert newest
    before = chain.Anchor(backup.position, backup.head, backup.committed_at)
    anchors.keep(file, before)
    anchors.keep(file, newest)
    restored(future, backup, anchors_path=file)
    kept = anchors.read(file)
    assert (kept.anchors, kept.replaced) == ((before,), (newest,))
    with opened(future) as gateway:
        epoch = gateway.restored()
        assert epoch
        note_restore(file, epoch)
        with gateway.reading() as connection:
            assert chain.verify(connection, anchors=kept.anchors).intact
    assert file.read_text().count("# restored to") == 1, "noted once"


def test_of_a_database_with_damaged_places_what_can_be_read_is_listed(future: Path, backup: Checked) -> None:
    with opened(future) as gateway:
        for number in range(1, 60):
            examine(gateway, 100 + number)
    with closing(sqlite3.connect(future)) as prompt:
        pages = prompt.execute("SELECT MAX(pageno) FROM dbstat WHERE name = 'stored_events'").fetchone()[0]
        prompt.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with future.open("r+b") as bytes_of_it:
        bytes_of_it.seek((pages - 1) * 4096)
        bytes_of_it.write(b"\xff" * 4096)
    plan = restored(future, backup)
    assert plan.losses is None or not plan.losses.complete
    with opened(future) as gateway:
        assert gateway.verify_chain().intact


def test_an_action_that_was_refused_is_listed_with_its_answer(backup: Checked, path: Path) -> None:
    with opened(path) as gateway:
        gateway.cancel("ACC009", None, request=request("cancel-ACC009", "worklist.cancel_item"))
    plan = restored(path, backup)
    assert plan.losses
    assert [(a["action_id"], a["status"]) for a in plan.losses.actions.values()] == [("cancel-ACC009", "error")]


def test_a_message_that_nobody_could_read_is_listed_too(backup: Checked, path: Path) -> None:
    with opened(path) as gateway:
        gateway.reject_unidentified(request(""), InvalidValue("not JSON"))
    plan = restored(path, backup)
    assert plan.losses
    assert plan.losses.complete
    assert [name.partition("-")[0] for name in plan.losses.actions] == ["unidentified"]
    with opened(path) as gateway:
        epoch = gateway.restored()
        assert epoch is not None
        assert still_lost(path, epoch) == plan.losses


# --- elsewhere


def test_a_backup_is_restored_on_a_machine_that_has_nothing_else(backup: Checked, tmp_path: Path) -> None:
    other = tmp_path / "other" / "gateway.db"
    other.parent.mkdir()
    with pytest.raises(BackupUnusable, match="--sequence-floor"):
        restored(other, backup)
    plan = restored(other, backup, sequence_floor=1_000_000)
    assert (plan.replaced, plan.losses) == (None, None)
    with opened(other) as gateway:
        gateway.correct_status("ACC002", Status.COMPLETED, reason="on paper", operator="night shift")
        assert max(row.sequence for row in all_updates(gateway)) == 1_000_001


def test_a_backup_taken_by_sqlite_s_own_prompt_is_as_good(backup: Checked, path: Path, tmp_path: Path) -> None:
    """It is in WAL mode by its header."""
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    assert restore(path, copy, operator="night shift", agreed=lambda _: True)
    with opened(path) as gateway:
        assert gateway.verify_projections() == []
    assert {file.name for file in tmp_path.iterdir() if file.is_file()} == {"copy.db"}
