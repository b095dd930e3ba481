"""One service to a database (two would deliver the same status events twice)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.errors import StoreUnusable
from gateway.eventstore.ownership import Ownership

HOLD = (
    "import sys; from pathlib import Path; from gateway.eventstore.ownership import Ownership; "
    "held = Ownership(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)


def test_a_second_service_on_the_same_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    first = Ownership(tmp_path / "gateway.db")
    with pytest.raises(StoreUnusable, match="another gateway serves"):
        Ownership(tmp_path / "gateway.db")
    first.release()
    Ownership(tmp_path / "gateway.db").release()


def test_a_killed_service_lets_go_of_its_database(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "gateway.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreUnusable):
            Ownership(tmp_path / "gateway.db")
        holder.kill()
        holder.wait()
    Ownership(tmp_path / "gateway.db").release()
