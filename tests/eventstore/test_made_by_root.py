"""What a command run as root makes first, in a folder of the service's user, is the service's: it must start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.application import opened
from gateway.eventstore import aside, replay
from gateway.eventstore.anchors import keep
from gateway.eventstore.chain import Anchor

SERVICE = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")


def owners(*files: Path) -> set[tuple[int, int]]:
    return {(file.stat().st_uid, file.stat().st_gid) for file in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The service's own."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, SERVICE, SERVICE)
    return folder


def test_the_key_file_and_what_sqlite_puts_beside_it(folder: Path) -> None:
    with opened(folder / "gateway.db", sealing=True) as gateway:
        gateway.sealing.make_ready()
        beside = [*folder.glob("gateway.db.keys*")]
        assert len(beside) == 3
        assert owners(*beside) == {(SERVICE, SERVICE)}


def test_the_anchors_file(folder: Path) -> None:
    keep(folder / "gateway.db.anchors", Anchor(1, bytes(32)))
    assert owners(folder / "gateway.db.anchors") == {(SERVICE, SERVICE)}


def test_the_lock_of_a_rebuild(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves it there."""
    found: list[set[tuple[int, int]]] = []
    build: Callable[..., object] = aside.opened

    def noted(*of: object) -> object:
        found.append(owners(folder / "gateway.db.rebuild"))
        return build(*of)

    with opened(folder / "gateway.db") as gateway:
        monkeypatch.setattr(replay.aside, "opened", noted)
        gateway.rebuild_projections()
    assert set().union(*found) == {(SERVICE, SERVICE)}
