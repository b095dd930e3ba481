"""Whether a service runs on a database: verifying is gentle then."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from gateway.errors import StoreUnusable
from gateway.eventstore import ownership
from gateway.eventstore.ownership import Ownership, is_served


def test_a_database_is_served_as_long_as_somebody_owns_it(path: Path) -> None:
    assert not is_served(path)
    owner = Ownership(path)
    assert is_served(path)
    assert is_served(path)
    owner.release()
    assert not is_served(path)


def test_a_look_makes_no_file(path: Path) -> None:
    assert not is_served(path)
    assert list(path.parent.iterdir()) == []


def test_where_nobody_may_look_a_service_is_taken_to_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert is_served(path)


def test_a_look_keeps_no_service_from_starting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock for a moment; here it lets go while the owner-to-be waits."""
    Ownership(path).release()
    look = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    monkeypatch.setattr(ownership.time, "sleep", lambda _: os.close(look))
    Ownership(path).release()


def test_a_second_owner_is_refused_though_he_tries_twice(path: Path) -> None:
    owner = Ownership(path)
    try:
        with pytest.raises(StoreUnusable, match="another gateway serves"):
            Ownership(path)
    finally:
        owner.release()
