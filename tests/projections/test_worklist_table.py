"""The worklist table: the proof of concept's, its queries, and our typed ones (design §3.12)."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import projections.worklist
from bench.synthetic import (
    appointment,
    change,
    completed,
    discontinued,
    naming,
    participant,
    request,
    schedule,
    start,
    step_uid,
)
from gateway.application import Gateway
from gateway.domain.lifecycle import Status
from projections.worklist import TextFilter, WorklistFilter

COLUMNS = {
    "accession_number": ("TEXT", 0, None, 1),
    "patient_id": ("TEXT", 1, None, 0),
    "patient_name": ("TEXT", 1, None, 0),
    "patient_birth_date": ("TEXT", 1, None, 0),
    "patient_sex": ("TEXT", 0, None, 0),
    "scheduled_date": ("TEXT", 1, None, 0),
    "scheduled_time": ("TEXT", 1, None, 0),
    "modality": ("TEXT", 1, None, 0),
    "study_description": ("TEXT", 0, None, 0),
    "procedure_code": ("TEXT", 0, None, 0),
    "status": ("TEXT", 0, "'SCHEDULED'", 0),
    "study_instance_uid": ("TEXT", 0, None, 0),
    "mpps_instance_uid": ("TEXT", 0, None, 0),
    "created_at": ("TEXT", 0, "CURRENT_TIMESTAMP", 0),
    "updated_at": ("TEXT", 0, "CURRENT_TIMESTAMP", 0),
    "source_message_id": ("TEXT", 0, None, 0),
}
"""Type, NOT NULL, default, place in the primary key: `scripts/init_db.sql` of the proof of concept."""

INDEXES = {
    "idx_worklist_date_modality": ["scheduled_date", "modality"],
    "idx_worklist_status": ["status"],
    "idx_worklist_study_uid": ["study_instance_uid"],
    "idx_worklist_patient_id": ["patient_id"],
}


def test_the_first_columns_are_the_proof_of_concept_s(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        rows = connection.execute("PRAGMA table_info(worklist_items)").fetchall()
    assert {r["name"]: (r["type"], r["notnull"], r["dflt_value"], r["pk"]) for r in rows[:16]} == COLUMNS


def test_the_columns_we_add_may_be_left_out_of_an_insert(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        rows = connection.execute("PRAGMA table_info(worklist_items)").fetchall()
    assert all(not row["notnull"] or row["dflt_value"] is not None for row in rows[16:])


def test_the_indexes_of_the_proof_of_concept_are_there(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        found = {
            row["name"]: [c["name"] for c in connection.execute(f"PRAGMA index_info({row['name']})")]
            for row in connection.execute("PRAGMA index_list(worklist_items)")
            if not row["name"].startswith("sqlite_")
        }
    assert found.items() >= INDEXES.items()


@pytest.fixture
def sample(gateway: Gateway) -> Gateway:
    """The proof of concept's three women, with synthetic numbers."""
    for number, (name, clock) in enumerate(
        (("SMITH^JOHN", "100000"), ("SMITH^JANE", "100000"), ("JONES^MARY", "110000"))
    ):
        schedule(gateway, f"ACC00{number}", **{**participant(number), "patient_name": name}, scheduled_time=clock)
    return gateway


README_QUERIES = {
    "SELECT accession_number, patient_name, scheduled_time, status FROM worklist_items;": [
        "ACC000|SMITH^JOHN|100000|SCHEDULED",
        "ACC001|SMITH^JANE|100000|SCHEDULED",
        "ACC002|JONES^MARY|110000|SCHEDULED",
    ],
    "SELECT status, COUNT(*) FROM worklist_items GROUP BY status;": ["SCHEDULED|3"],
    "SELECT accession_number FROM worklist_items WHERE scheduled_date = '20261123';": ["ACC000", "ACC001", "ACC002"],
    "SELECT accession_number, status FROM worklist_items;": [
        "ACC000|SCHEDULED",
        "ACC001|SCHEDULED",
        "ACC002|SCHEDULED",
    ],
}


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 prompt is not installed")
@pytest.mark.parametrize(("query", "answer"), README_QUERIES.items())
def test_the_documented_queries_are_answered_at_the_sqlite3_prompt(
    sample: Gateway, path: Path, query: str, answer: list[str]
) -> None:
    done = subprocess.run(["sqlite3", str(path), query], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == answer


def test_the_documented_insert_still_works_and_verify_reports_its_row(sample: Gateway, path: Path) -> None:
    with closing(sqlite3.connect(path)) as prompt, prompt:
        prompt.execute(
            "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date, patient_sex,"
            " scheduled_date, scheduled_time, modality, study_description, procedure_code) VALUES ('ACC123',"
            " '9990000026', 'SMITH^JOHN', '19800101', 'M', strftime('%Y%m%d', 'now'), '143000', 'MG',"
            " 'Screening Mammography', 'MAMMO_SCREENING')"
        )
    assert len(sample.find_items(WorklistFilter())) == 4
    [found] = sample.verify_projections()
    assert (found.table, found.key) == ("worklist_items", "ACC123")
    assert "no event explains it" in found.finding


def numbers(gateway: Gateway, **wanted: Any) -> list[str]:
    return [row.accession_number for row in gateway.find_items(WorklistFilter(**wanted))]


@pytest.fixture
def clinic(gateway: Gateway) -> Gateway:
    schedule(gateway, "C", scheduled_date="20261124", scheduled_time="090000", modality="US", **participant(3))
    schedule(gateway, "B", scheduled_date="20261123", scheduled_time="110000", **participant(2))
    schedule(gateway, "A", scheduled_date="20261123", scheduled_time="110000", **participant(1))
    schedule(gateway, "D", scheduled_date="20261123", scheduled_time="080000", **participant(4))
    start(gateway, step_uid(1), naming("D"), patient_id="")
    gateway.schedule(appointment("T"), is_test=True)
    return gateway


def study_of(gateway: Gateway, accession_number: str) -> Any:
    [row] = gateway.find_items(WorklistFilter(accession_number=accession_number))
    return row.study_instance_uid


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["D", "T", "A", "B", "C"]),
        ({"accession_number": "B"}, ["B"]),
        ({"accession_number": "b"}, []),
        ({"patient_id": participant(3)["patient_id"]}, ["C"]),
        ({"modalities": ("US",)}, ["C"]),
        ({"modalities": ("US", "MG"), "is_test": False}, ["D", "A", "B", "C"]),
        ({"dates": ("20261124", "20261124")}, ["C"]),
        ({"dates": ("20261124", "")}, ["C"]),
        ({"dates": ("", "20261123"), "is_test": False}, ["D", "A", "B"]),
        ({"statuses": (Status.IN_PROGRESS,)}, ["D"]),
        (
            {"statuses": (Status.IN_PROGRESS, Status.SCHEDULED), "modalities": ("MG",), "is_test": False},
            ["D", "A", "B"],
        ),
        ({"statuses": (Status.COMPLETED,)}, []),
        ({"is_test": True}, ["T"]),
        ({"limit": 2}, ["D", "T"]),
        ({"limit": 0}, []),
        ({"accession_number": "' OR 1=1 --"}, []),
    ],
)
def test_items_are_found_by_any_of_their_keys_in_the_order_of_the_day(
    clinic: Gateway, wanted: dict[str, Any], found: list[str]
) -> None:
    assert numbers(clinic, **wanted) == found


def test_items_are_found_by_any_of_several_study_instance_uids(clinic: Gateway) -> None:
    assert numbers(clinic, study_instance_uids=(study_of(clinic, "A"), study_of(clinic, "C"), "1.2.3")) == ["A", "C"]


def test_statistics_leave_test_items_and_empty_statuses_out(clinic: Gateway) -> None:
    assert clinic.count_by_status() == {"IN PROGRESS": 1, "SCHEDULED": 3}
    assert clinic.count_by_status(is_test=True) == {"SCHEDULED": 1}


def test_a_row_says_when_it_was_made_and_changed_and_by_which_version_of_its_stream(gateway: Gateway) -> None:
    schedule(gateway)
    [fresh] = gateway.find_items(WorklistFilter())
    start(gateway, step_uid(1), naming())
    change(gateway, completed(step_uid(1)))
    [row] = gateway.find_items(WorklistFilter())
    assert fresh.created_at == fresh.updated_at == row.created_at < row.updated_at
    assert (fresh.row_version, row.row_version) == (1, 3)


def test_every_field_of_the_appointment_is_in_its_row(gateway: Gateway) -> None:
    wanted = schedule(
        gateway,
        procedure_code="MAMMO_SCREENING",
        procedure_code_scheme="99BSS",
        procedure_code_meaning="Screening Mammography",
        station_ae_titles=("MAMMO1", "MAMMO2"),
        location="ROOM 2",
        performing_physician="PATEL^ANITA",
    )
    [row] = gateway.find_items(WorklistFilter())
    assert {name: getattr(row, name) for name in vars(wanted)} == vars(wanted)


def test_an_amended_row_is_found_by_its_new_keys_only(gateway: Gateway) -> None:
    old, new = participant(1)["patient_id"], participant(2)["patient_id"]
    schedule(gateway, patient_id=old)
    gateway.amend("ACC001", lambda _: {"patient_id": new}, request=request("2"))
    assert (numbers(gateway, patient_id=old), numbers(gateway, patient_id=new)) == ([], ["ACC001"])


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"names": (("yamada*",),)}, ["Y"]),
        ({"names": (("山*",),)}, ["Y"]),
        ({"names": (("やまだ^たろう",),)}, ["Y"]),
        ({"names": (("yam*", "山*"),)}, ["Y"]),
        ({"names": (("yam*", "川*"),)}, []),
        ({"names": (("", "山*"),)}, ["Y"]),
        ({"names": (("muller*",), ("yamada*",))}, ["M", "Y"]),
        ({"names": (("*ller^zo?",),)}, ["M"]),
        ({"names": (("Müller*",),)}, []),
        ({"names": (("o[]*",),)}, ["O"]),
        ({"names": (("*[]*",),)}, ["O"]),
        ({"names": (("\ud7ff*",),)}, ["S"]),
        ({"texts": (TextFilter("location", ("ROOM [1]?",)),)}, ["O"]),
        ({"texts": (TextFilter("location", ("room*",)),)}, []),
        ({"texts": (TextFilter("accession_number", ("M", "O*")),)}, ["M", "O"]),
        ({"texts": (TextFilter("performing_physician", ("*",)),)}, ["M"]),
        ({"times": ("100000", "")}, ["M", "O", "S", "Y"]),
        ({"times": ("100001", "")}, ["Y"]),
        ({"times": ("", "100000")}, ["M", "O", "S"]),
    ],
)
def test_items_are_found_by_names_texts_and_times(gateway: Gateway, wanted: dict[str, Any], found: list[str]) -> None:
    schedule(gateway, "M", patient_name="Müller^Zoë", performing_physician="PATEL^ANITA")
    schedule(gateway, "O", patient_name="O[]", location="ROOM [1]A")
    schedule(gateway, "S", patient_name="\ud7ff山")
    schedule(gateway, "Y", patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう", scheduled_time="110000")
    assert numbers(gateway, **wanted) == found


def test_an_amended_name_is_found_by_its_new_groups_only(gateway: Gateway) -> None:
    schedule(gateway, patient_name="Yamada^Tarou=山田^太郎")
    gateway.amend("ACC001", lambda _: {"patient_name": "SMITH^JANE"}, request=request("2"))
    assert numbers(gateway, names=(("山*",),)) == []
    assert numbers(gateway, names=(("smith*",),)) == ["ACC001"]


def test_a_row_written_by_hand_is_a_candidate_for_every_name_and_for_times_if_its_own_is_odd(
    gateway: Gateway, path: Path
) -> None:
    """Nobody has folded its name or checked its time; whoever asks compares them as they are."""
    schedule(gateway, patient_name="JONES^MARY")
    with closing(sqlite3.connect(path)) as prompt, prompt:
        prompt.execute(
            "INSERT INTO worklist_items (accession_number, patient_id, patient_name, patient_birth_date,"
            " scheduled_date, scheduled_time, modality)"
            " VALUES ('ACC9', '1', 'SMITH^JOHN', '19800101', '20261123', '14:30', 'MG')"
        )
    assert numbers(gateway, names=(("smith*",),)) == ["ACC9"]
    assert numbers(gateway, times=("120000", "130000")) == ["ACC9"]


def test_the_query_of_a_modality_for_a_day_uses_the_index(gateway: Gateway) -> None:
    with gateway.reading() as connection:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        wanted = WorklistFilter(dates=("20261123", "20261123"), modalities=("MG",), statuses=("SCHEDULED",))
        list(projections.worklist.find(connection, wanted))
        connection.set_trace_callback(None)
        plan = " ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}"))
    assert "USING INDEX" in plan


def test_a_status_that_is_none_is_refused_by_the_table_itself(gateway: Gateway, path: Path) -> None:
    schedule(gateway)
    with closing(sqlite3.connect(path)) as prompt, pytest.raises(sqlite3.IntegrityError):
        prompt.execute("UPDATE worklist_items SET status = 'DONE'")


def test_a_completed_item_keeps_the_step_that_completed_it(gateway: Gateway) -> None:
    schedule(gateway)
    for number in (1, 2):
        start(gateway, step_uid(number), naming())
    change(gateway, completed(step_uid(1)))
    change(gateway, discontinued(step_uid(2)))
    [row] = gateway.find_items(WorklistFilter())
    assert (row.status, row.mpps_instance_uid) == ("COMPLETED", step_uid(1))


def test_an_item_that_was_put_back_has_no_step(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    change(gateway, discontinued(step_uid(1), "110514"))
    [row] = gateway.find_items(WorklistFilter())
    assert (row.status, row.mpps_instance_uid) == ("SCHEDULED", None)
