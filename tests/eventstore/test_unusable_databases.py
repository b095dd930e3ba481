"""A file that can't be our database: refused at once, with what to do, and left as it was."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.errors import StoreUnusable

NOBODY = 65534


def refused(path: Path) -> StoreUnusable:
    with pytest.raises(StoreUnusable) as refusal:
        Gateway(path)
    assert refusal.value.remedy
    assert not refusal.value.retryable
    return refusal.value


@pytest.mark.parametrize("application_id", [0, 0x4F525448])
def test_a_database_of_another_program_is_refused_and_not_touched(tmp_path: Path, application_id: int) -> None:
    path = tmp_path / "worklist.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE worklist_items (accession_number TEXT PRIMARY KEY)")
        other.execute(f"PRAGMA application_id={application_id}")
    before = path.read_bytes()
    assert "another program" in str(refused(path))
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_an_empty_database_of_nobody_is_taken(path: Path) -> None:
    path.touch()
    with opened(path) as gateway:
        schedule(gateway)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "folder" in refused(tmp_path).remedy


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "create the folder" in refused(tmp_path / "missing" / "gateway.db").remedy


def test_a_text_file_is_refused_and_not_touched(path: Path) -> None:
    path.write_text("accession_number,patient_name\n" * 100)
    assert "not a database" in str(refused(path))
    assert path.read_text() == "accession_number,patient_name\n" * 100


def test_a_database_cut_off_in_the_middle_is_refused(path: Path) -> None:
    with opened(path) as gateway:
        schedule(gateway)
    path.write_bytes(path.read_bytes()[:4096])
    refused(path)


def _open_as_nobody(path: Path, answer: Connection) -> None:
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        Gateway(path)
    except BaseException as error:  # noqa: BLE001  whatever it is, the test wants to see it
        answer.send((type(error).__name__, str(error), getattr(error, "remedy", "")))
    else:
        answer.send(("opened", "", ""))


def opened_as_nobody(path: Path) -> tuple[str, str, str]:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_open_as_nobody, args=(path, theirs))
    child.start()
    answer: tuple[str, str, str] = ours.recv()
    child.join()
    return answer


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that another user can enter."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("folder_mode", [0o755, 0o777], ids=["in a folder of others", "in one's own folder"])
def test_a_file_that_may_only_be_read_is_refused(reachable: Path, folder_mode: int) -> None:
    path = reachable / "data" / "gateway.db"
    path.parent.mkdir()
    with opened(path) as gateway:
        schedule(gateway)
    path.chmod(0o444)
    path.parent.chmod(folder_mode)
    name, message, remedy = opened_as_nobody(path)
    assert (name, "may write" in remedy) == ("StoreUnusable", True), message


def test_a_folder_that_may_only_be_read_is_refused(reachable: Path) -> None:
    (reachable / "data").mkdir(mode=0o755)
    name, message, remedy = opened_as_nobody(reachable / "data" / "gateway.db")
    assert (name, "may write" in remedy) == ("StoreUnusable", True), message
