"""Killed (SIGKILL) between key and event, and at each stage of an erasure: nothing leaks, nothing stays half done."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bench.synthetic import PERSON, schedule
from gateway.application import opened
from gateway.audit import erasure
from gateway.eventstore.keys import KeyFile
from projections.worklist import WorklistFilter

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
JANE = PERSON["patient_id"]

DIE = """
import os, signal, sys
from pathlib import Path
from gateway.application import opened
from bench.synthetic import schedule
from gateway.audit import erasure
from gateway.eventstore import erasing, recorder
from gateway.eventstore.keys import KeyFile

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(method):
    def called(*arguments, **named):
        method(*arguments, **named)
        die()
    return called

path = Path(sys.argv[1])
"""

SAVE = """
recorder.Recorder._insert_events = die
with opened(path, sealing=True) as gateway:
    schedule(gateway, "ACC009")
"""

ERASE = """
{where}
with opened(path, sealing=True) as gateway:
    found = erasure.find(gateway, "9990000018")
    erasure.erase(gateway, "9990000018", found, reason="request 114", operator="dpo")
"""

STAGES = {
    "inside the commit of the order": "recorder.Recorder.insert_within = then_die(recorder.Recorder.insert_within)",
    "after it, before the keys are destroyed": "KeyFile.destroy = die",
    "when the keys are destroyed, before their log is cut": "KeyFile.cut_log = die",
    "before the database's log is cut": "erasing.leave_no_trace = die",
}


def killed(script: str, path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIE + script, str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def traces(path: Path) -> list[str]:
    return [f.name for f in path.parent.iterdir() if any(s in f.read_bytes() for s in (JANE.encode(), b"SMITH"))]


def test_a_key_that_no_event_came_to_use_harms_nobody(path: Path) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
    killed(SAVE, path)
    with closing(sqlite3.connect(path)) as prompt:
        assert prompt.execute("SELECT COUNT(*) FROM stored_events").fetchone()[0] == 2
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC009")
        assert gateway.verify_projections() == []


@pytest.mark.parametrize("stage", STAGES)
def test_an_erasure_that_was_killed_is_finished_at_the_next_start_or_by_repeating_it(path: Path, stage: str) -> None:
    with opened(path, sealing=True) as gateway:
        schedule(gateway, "ACC001")
        gateway.cancel("ACC001", "Mrs. SMITH rang")
    killed(ERASE.format(where=STAGES[stage]), path)
    with opened(path, sealing=True) as gateway:
        decided = gateway.find_items(WorklistFilter(patient_id=JANE)) == []
        assert decided == (stage != "inside the commit of the order")
        assert gateway.keys_destroyed == int(stage == "after it, before the keys are destroyed")
        assert gateway.verify_projections() == []
        assert gateway.verify_chain().intact
        done = erasure.erase(gateway, JANE, erasure.find(gateway, JANE), reason="request 114", operator="dpo")
        assert done.erased_at
        assert gateway.verify_projections() == []
    assert traces(path) == []
    with closing(KeyFile(path.with_name("gateway.db.keys"))) as keys:
        assert sum(keys.states().values()) == 1
