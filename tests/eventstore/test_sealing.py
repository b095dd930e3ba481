"""What identifies a person is sealed with a key per patient, in a file apart (AES-GCM)."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import (
    PERSON,
    appointment,
    change,
    completed,
    create_request,
    naming,
    participant,
    request,
    schedule,
    start,
    step_uid,
)
from gateway.application import Gateway, opened
from gateway.domain.performed_procedure_step import PerformedProcedureStep
from gateway.domain.worklist_item import WorklistItem
from gateway.errors import EventUnreadable, InvalidValue, KeyLost, KeysUnusable, StoreUnusable
from gateway.eventstore import keys
from tests.eventstore.everything import everything_happened
from tests.eventstore.test_envelope import IDENTIFYING, SECRETS

OTHER = participant(7)


@pytest.fixture
def sealed(path: Path) -> Iterator[Gateway]:
    with opened(path, sealing=True) as gateway:
        yield gateway


def key_file(path: Path) -> Path:
    return path.with_name(path.name + ".keys")


def envelopes(gateway: Gateway) -> list[tuple[str, dict[str, Any] | None]]:
    with gateway.reading() as connection:
        rows = connection.execute("SELECT topic, state FROM stored_events ORDER BY rowid").fetchall()
    return [(topic, json.loads(state).get("envelope")) for topic, state in rows]


def key_ids(gateway: Gateway, *topics: str) -> list[str | None]:
    return [envelope["key_id"] for topic, envelope in envelopes(gateway) if envelope and topic in topics]


def log_bytes(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT originator_id || topic, state FROM stored_events").fetchall()
    return b"".join(text.encode() + state for text, state in rows)


# --- what is sealed


def test_every_identifying_field_that_holds_something_is_sealed(sealed: Gateway) -> None:
    everything_happened(sealed)
    fields = {event.TOPIC: names for event, names in IDENTIFYING.items()}
    for topic, envelope in envelopes(sealed):
        assert (envelope is not None) == bool(fields.get(topic)), topic
        if envelope:
            empty = envelope["key_id"] is None and not any(envelope["sealed"].values())
            assert empty or isinstance(envelope["sealed"], str), topic


def test_no_stored_event_holds_a_name_or_an_id_in_plain_text(sealed: Gateway, path: Path) -> None:
    everything_happened(sealed)
    stored = log_bytes(path)
    assert [secret for secret in SECRETS if len(secret) > 1 and secret.encode() in stored] == []
    assert b"another hall" not in stored
    assert b"a phantom" not in stored


def test_what_was_sealed_is_read_as_it_was_saved(sealed: Gateway, path: Path) -> None:
    everything_happened(sealed)
    [started, *_] = sealed.events.get(PerformedProcedureStep.create_id(step_uid(1)))
    assert started.attribute_list == bytes(range(256)) * 3
    assert started.patient == {"patient_id": PERSON["patient_id"], "patient_name": PERSON["patient_name"]}
    item = sealed.load(WorklistItem, WorklistItem.create_id("ACC001"))
    assert item
    assert item.appointment == appointment("ACC001", patient_sex=None)


def test_tables_and_chain_are_as_well_as_without_sealing(sealed: Gateway) -> None:
    everything_happened(sealed)
    assert sealed.verify_projections() == []
    assert sealed.verify_chain().intact


def test_the_chain_is_over_the_sealed_bytes(sealed: Gateway, path: Path) -> None:
    schedule(sealed)
    with closing(sqlite3.connect(path)) as prompt, prompt:
        [state] = prompt.execute("SELECT state FROM stored_events WHERE rowid = 1").fetchone()
        at = state.index(b'"sealed":"') + 20
        prompt.execute(
            "UPDATE stored_events SET state = ? WHERE rowid = 1",
            (state[:at] + (b"A" if state[at : at + 1] != b"A" else b"B") + state[at + 1 :],),
        )
    assert sealed.verify_chain().position == 1
    with pytest.raises(EventUnreadable):
        list(sealed.events.get(WorklistItem.create_id("ACC001")))


def test_a_sealed_envelope_can_not_be_opened_at_another_place_of_the_log(sealed: Gateway) -> None:
    """Stream, version and topic are authenticated with it."""
    schedule(sealed, "ACC001")
    schedule(sealed, "ACC002")
    stored = [sealed.mapper.to_stored_event(e) for e in sealed.events.get(WorklistItem.create_id("ACC001"))]
    there = WorklistItem.create_id("ACC002")
    moved = type(stored[0])(there, stored[0].originator_version, stored[0].topic, stored[0].state)
    with pytest.raises(EventUnreadable):
        sealed.mapper.to_domain_event(moved)


# --- with which key


def test_all_of_one_patient_has_one_key_and_another_patient_another(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    schedule(sealed, "ACC002")
    schedule(sealed, "ACC003", **OTHER)
    first, second, third = (key_ids(sealed, "WorklistItem.Scheduled")[n] for n in range(3))
    assert first == second != third
    assert key_ids(sealed, "RelayAction.Accepted") == [first, second, third]


def test_what_names_no_patient_has_the_key_of_its_stream(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    [key] = key_ids(sealed, "WorklistItem.Scheduled")
    sealed.amend("ACC001", lambda _: {"patient_name": "SMITH^JANET"}, request=request("a"))
    sealed.cancel("ACC001", "did not attend", request=request("c"))
    assert set(key_ids(sealed, "WorklistItem.Amended", "WorklistItem.Cancelled", "RelayAction.Accepted")) == {key}


def test_an_item_of_another_patient_from_here_on_has_that_patient_s_key_from_here_on(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    schedule(sealed, "ACC002", **OTHER)
    sealed.amend("ACC001", lambda _: {"patient_id": OTHER["patient_id"]})
    sealed.cancel("ACC001", "a mistake")
    mine, others = key_ids(sealed, "WorklistItem.Scheduled")
    assert key_ids(sealed, "WorklistItem.Amended", "WorklistItem.Cancelled") == [others, others]
    assert mine != others


def test_a_linked_step_and_what_follows_have_the_patient_s_key(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    start(sealed, step_uid(1), naming("ACC001"), patient_id="")
    change(sealed, completed(step_uid(1)))
    [key] = key_ids(sealed, "WorklistItem.Scheduled")
    assert key_ids(sealed, "PerformedProcedureStep.Started", "PerformedProcedureStep.Completed") == [key, key]


def test_an_unmatched_step_has_a_key_of_its_own_also_when_it_names_a_patient(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    start(sealed, step_uid(1), naming("ACC999"))
    change(sealed, completed(step_uid(1)))
    [key] = key_ids(sealed, "WorklistItem.Scheduled")
    first, second = key_ids(sealed, "PerformedProcedureStep.Started", "PerformedProcedureStep.Completed")
    assert first == second != key


def test_a_refused_message_has_the_key_of_the_participant_in_it(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    schedule(sealed, "ACC002", **OTHER)
    wanted = appointment("ACC001", **OTHER)
    assert sealed.schedule(wanted, request=create_request("conflict", wanted)).status == "error"
    assert key_ids(sealed, "RelayAction.Rejected") == [key_ids(sealed, "WorklistItem.Scheduled")[1]]


def test_a_message_that_can_not_be_read_has_a_key_of_its_own(sealed: Gateway) -> None:
    schedule(sealed, "ACC001")
    for _ in range(2):
        sealed.reject_unidentified(request(""), InvalidValue("not JSON"))
    first, second = key_ids(sealed, "RelayAction.Rejected")
    assert len({first, second, *key_ids(sealed, "WorklistItem.Scheduled")}) == 3


def test_the_index_of_keys_names_nobody(sealed: Gateway) -> None:
    """Patient IDs stand in it as HMACs; their secret is in the key file."""
    everything_happened(sealed)
    with sealed.reading() as connection:
        rows = [tuple(row) for row in connection.execute("SELECT * FROM patient_keys")]
    assert rows
    assert PERSON["patient_id"] not in str(rows)
    assert all(len(patient) == 32 for _, patient, _ in rows)


# --- on and off


def test_nothing_is_sealed_and_no_key_file_is_made_by_default(gateway: Gateway, path: Path) -> None:
    everything_happened(gateway)
    assert {envelope["key_id"] for _, envelope in envelopes(gateway) if envelope} == {None}
    assert not key_file(path).exists()


def test_plain_and_sealed_events_live_side_by_side_whatever_is_switched_when(path: Path) -> None:
    for number, sealing in enumerate([False, True, False, True], start=1):
        with opened(path, sealing=sealing) as gateway:
            schedule(gateway, f"ACC00{number}")
    with opened(path) as gateway:
        assert [key is not None for key in key_ids(gateway, "WorklistItem.Scheduled")] == [False, True, False, True]
        assert gateway.verify_projections() == []
        for number in range(1, 5):
            item = gateway.load(WorklistItem, WorklistItem.create_id(f"ACC00{number}"))
            assert item
            assert item.appointment == appointment(f"ACC00{number}")


def test_a_process_that_does_not_seal_reads_what_another_begins_to_seal(path: Path) -> None:
    with opened(path) as plain:
        with opened(path, sealing=True) as other:
            schedule(other)
        item = plain.load(WorklistItem, WorklistItem.create_id("ACC001"))
    assert item
    assert item.appointment == appointment("ACC001")


# --- the key file


def test_the_key_file_is_its_owner_s_alone_and_flushes_each_commit(sealed: Gateway, path: Path) -> None:
    schedule(sealed)
    assert key_file(path).stat().st_mode & 0o777 == 0o600
    ring = sealed.sealing.keys
    assert ring
    settings = [ring._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "secure_delete")]  # fmt: skip
    assert settings == ["wal", 2, 1]


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="there is no sqlite3 command here")
def test_the_documented_copy_of_the_key_file_is_its_owner_s_alone(sealed: Gateway, path: Path) -> None:
    schedule(sealed)
    [command] = re.findall(r"^\* `(.*FILE.*)`, never", Path("docs/audit.md").read_text("utf-8"), re.MULTILINE)
    copy = path.with_name("copy.keys")
    before = os.umask(0o022)
    try:
        filled_in = command.replace("FILE", str(key_file(path))).replace("COPY", str(copy))
        subprocess.run(["sh", "-c", filled_in], check=True)
    finally:
        os.umask(before)
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(keys.KeyFile(copy)) as ring:
        assert sealed.sealing.keys
        assert ring.states() == sealed.sealing.keys.states()


def test_a_batch_of_keys_is_made_with_one_commit_and_lasts_for_256_patients(sealed: Gateway) -> None:
    ring = sealed.sealing.keys
    assert ring
    ring.make_ready()
    before = len(ring.states())
    for _ in range(keys.BATCH):
        ring.fresh()
    assert len(ring.states()) == before == keys.BATCH
    ring.fresh()
    assert len(ring.states()) == 2 * keys.BATCH


def test_when_the_batch_is_used_up_in_the_middle_of_a_save_the_next_one_is_made(sealed: Gateway) -> None:
    for number in range(12):  # more than the first batch of a command
        schedule(sealed, f"ACC{number:03d}", **participant(number))
    assert len(set(key_ids(sealed, "WorklistItem.Scheduled"))) == 12
    assert sealed.verify_projections() == []


def test_a_process_makes_keys_of_its_own_and_takes_over_none_that_another_left_unused(path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
        assert gateway.sealing.keys
        left = set(gateway.sealing.keys.states())
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC002", **OTHER)
        assert key_ids(gateway, "WorklistItem.Scheduled")[1] not in left


def test_first_saves_of_two_processes_at_once_may_give_a_patient_two_keys_and_both_are_known(path: Path) -> None:
    with opened(path, sealing=True) as one, opened(path, sealing=True) as other:
        patient = one.sealing.pseudonym(PERSON["patient_id"])
        other.sealing._patients(patient)  # chosen, and not yet saved
        schedule(one, "ACC001")
        schedule(other, "ACC002")
        with one.reading() as connection:
            known = [r[0] for r in connection.execute("SELECT key_id FROM patient_keys WHERE patient = ?", (patient,))]
        assert len(known) == 2
        assert set(known) == set(key_ids(one, "WorklistItem.Scheduled"))
        assert one.verify_projections() == []


@pytest.mark.parametrize("trouble", ["PRAGMA query_only=1", "PRAGMA max_page_count=1"], ids=["read-only", "full"])
def test_a_key_file_that_can_not_be_written_refuses_the_save_and_leaks_nothing(
    sealed: Gateway, path: Path, trouble: str
) -> None:
    ring = sealed.sealing.keys
    assert ring
    ring._next_batch = keys.BATCH
    ring._connection.execute(trouble)
    with pytest.raises(KeysUnusable, match="nothing was saved") as refused:
        schedule(sealed, "ACC001")
    assert "key file" in refused.value.remedy
    assert refused.value.retryable
    assert log_bytes(path) == b""
    assert b"SMITH" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    with pytest.raises(StoreUnusable, match="saves fail"):
        sealed.check_store()
    ring._connection.execute("PRAGMA query_only=0")
    ring._connection.execute("PRAGMA max_page_count=100000")
    assert sealed.check_store() == 0
    schedule(sealed, "ACC001")


@pytest.mark.parametrize("fate", ["deleted", "moved", "replaced by a copy"])
def test_a_key_file_that_is_taken_away_under_the_running_service_ends_saving_and_health_says_so(
    sealed: Gateway, path: Path, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of old patients too, and although there are keys in hand: a restart could not read what they seal."""
    monkeypatch.setattr(keys, "_BELIEVED", 0.0)
    sealed.sealing.make_ready()
    schedule(sealed, "ACC001")
    away = path.with_name("away.keys")
    if fate == "replaced by a copy":
        shutil.copy(key_file(path), away)
        away.replace(key_file(path))
    elif fate == "moved":
        key_file(path).rename(away)
    else:
        key_file(path).unlink()
    before = log_bytes(path)
    with pytest.raises(StoreUnusable, match=r"saves fail: the key file .* was taken away or replaced") as unwell:
        sealed.check_store()
    assert "put its newest copy there" in unwell.value.remedy
    for person in ({}, participant(2)):
        with pytest.raises(KeysUnusable, match="taken away or replaced; nothing was saved") as refused:
            schedule(sealed, "ACC002", **person)
        assert refused.value.remedy == unwell.value.remedy
    assert log_bytes(path) == before
    with pytest.raises(KeysUnusable, match="taken away or replaced"):
        sealed.sealing.fresh()
    ring = sealed.sealing.keys
    assert ring
    with pytest.raises(KeysUnusable, match="taken away or replaced"):
        ring.destroy([])


def test_a_key_file_that_was_moved_away_and_is_back_lets_saves_go_on(
    sealed: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_BELIEVED", 0.0)
    key_file(path).rename(path.with_name("away.keys"))
    with pytest.raises(KeysUnusable, match="taken away or replaced"):
        schedule(sealed)
    path.with_name("away.keys").rename(key_file(path))
    assert sealed.check_store() == 0
    schedule(sealed)


def test_saves_look_at_the_key_file_once_a_second_and_again_as_long_as_it_is_away(
    sealed: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(keys.time, "monotonic", lambda: now)
    sealed.sealing.make_ready()
    ring = sealed.sealing.keys
    assert ring
    key_file(path).rename(path.with_name("away.keys"))
    ring.require_file()
    now += 1.0
    for _ in range(2):
        with pytest.raises(KeysUnusable):
            ring.require_file()
    path.with_name("away.keys").rename(key_file(path))
    ring.require_file()


# --- what is destroyed is gone


def test_the_log_of_the_key_file_is_not_said_to_be_cut_off_while_somebody_reads_from_it(
    sealed: Gateway, path: Path
) -> None:
    """What was destroyed still stands in it."""
    ring = sealed.sealing.keys
    assert ring
    ring._connection.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(key_file(path), isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM keys").fetchone()
        ring.destroy([ring.fresh()])
        with pytest.raises(KeysUnusable, match="another process reads from it without end") as refused:
            ring.cut_log()
        assert "sqlite3 prompt" in refused.value.remedy
    ring.cut_log()


def test_the_key_file_overwrites_what_it_deletes_also_where_sqlite_does_not_by_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def without(*of: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*of, **options)
        connection.execute("PRAGMA secure_delete=OFF")
        return connection

    monkeypatch.setattr(keys.sqlite3, "connect", without)
    with closing(keys.KeyFile(key_file(path), create=True)) as ring:
        assert ring._connection.execute("PRAGMA secure_delete").fetchone()[0] == 1


def test_only_so_many_keys_are_kept_in_memory_and_the_others_are_read_again(
    sealed: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_MOST_CIPHERS", 5)
    ring = sealed.sealing.keys
    assert ring
    made = {}
    for _ in range(30):
        key_id = ring.fresh()
        made[key_id] = sealed.sealing.seal(key_id, b"plain", "a place")
        assert len(ring._ciphers) <= 5
    for key_id, text in made.items():
        assert sealed.sealing.unseal(key_id, text, "a place") == b"plain"
        assert len(ring._ciphers) <= 5


def test_health_drops_a_key_from_memory_that_another_process_has_destroyed(
    sealed: Gateway, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is idle uses none, and would keep it."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN", 0.0)
    ring = sealed.sealing.keys
    assert ring
    key_id = ring.fresh()
    sealed.check_store()
    assert key_id in ring._ciphers
    with closing(keys.KeyFile(key_file(path))) as other:
        other.destroy([key_id])
    sealed.check_store()
    assert key_id not in ring._ciphers


# --- lost is not erased


def test_a_missing_key_file_is_said_at_start_with_what_to_do(path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway)
    key_file(path).unlink()
    for sealing in (True, False):
        with pytest.raises(KeyLost, match="is missing") as lost:
            Gateway(path, sealing=sealing)
        assert "backup" in lost.value.remedy
        assert "GATEWAY_KEYS_PATH" in lost.value.remedy
        assert not key_file(path).exists(), "a new one would hide the loss"


def test_the_key_file_of_another_database_is_said_at_start(path: Path, tmp_path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway)
    with opened(tmp_path / "other.db", sealing=True) as gateway:
        schedule(gateway)
    with pytest.raises(KeyLost, match="belongs to another database"):
        Gateway(path, keys_path=tmp_path / "other.db.keys")


def test_a_key_file_older_than_the_database_is_said_at_start(path: Path, tmp_path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
    shutil.copy(key_file(path), tmp_path / "old.keys")
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC002", **OTHER)
    with pytest.raises(KeyLost, match="lacks 1 keys of this database"):
        Gateway(path, keys_path=tmp_path / "old.keys")


@pytest.mark.parametrize("what", ["a text", "a database", "a folder"])
def test_what_is_no_key_file_is_refused_and_left_as_it_is(path: Path, what: str) -> None:
    wrong = key_file(path)
    if what == "a text":
        wrong.write_text("hello, this is no database at all, only a text of some length\n" * 20)
    elif what == "a folder":
        wrong.mkdir()
    else:
        with opened(path.with_name("other.db")) as _:
            pass
        shutil.copy(path.with_name("other.db"), wrong)
    before = wrong.read_bytes() if wrong.is_file() else b""
    with pytest.raises(StoreUnusable, match="key file"):
        Gateway(path, sealing=True)
    assert (wrong.read_bytes() if wrong.is_file() else b"") == before


def test_the_keys_may_stand_elsewhere(path: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "vault"
    elsewhere.mkdir()
    with opened(path, sealing=True, keys_path=elsewhere / "site.keys") as gateway:
        schedule(gateway)
    assert not key_file(path).exists()
    with opened(path, keys_path=elsewhere / "site.keys") as gateway:
        assert gateway.verify_projections() == []
