"""What must survive a power cut is on the disk before it has its name, and the name before anybody relies on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.eventstore.backup import take
from gateway.eventstore.files import put_in_place
from gateway.eventstore.sequence_mark import SequenceMark

Steps = list[tuple[str, ...]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Each sync and each renaming by Python, in their order; SQLite's own are not seen."""
    noted: Steps = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        noted.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def renamed(whole: Path, path: Path) -> Path:
        noted.append(("rename", whole.name, path.name))
        return replace(whole, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    return noted


def test_a_file_s_new_name_is_synced_by_its_folder(tmp_path: Path, steps: Steps) -> None:
    (tmp_path / "whole").touch()
    put_in_place(tmp_path / "whole", tmp_path / "place")
    assert steps == [("rename", "whole", "place"), ("sync", tmp_path.name)]


def test_a_backup_is_synced_then_named_then_its_folder_is_synced(
    gateway: Gateway, path: Path, tmp_path: Path, steps: Steps
) -> None:
    schedule(gateway)
    steps.clear()
    taken = take(path, tmp_path / "backups")
    [(_, partial), *rest] = steps
    assert partial.startswith(".gateway-")
    assert partial.endswith(".partial")
    assert rest == [("rename", partial, taken.file.name), ("sync", "backups")]


def test_the_high_water_mark_is_synced_then_named_then_its_folder_is_synced(
    path: Path, tmp_path: Path, steps: Steps
) -> None:
    SequenceMark(path).raise_to(1000)
    partial = f".{path.name}.sequence.partial"
    assert steps == [("sync", partial), ("rename", partial, f"{path.name}.sequence"), ("sync", tmp_path.name)]
