"""Killed over and over under load from all sides: nothing that was acknowledged is lost, nothing happens twice.

The gateway gets SIGKILL at random moments, also while it starts, always on the same database. `Witnesses` remember what
each of them was told; `Examiner` compares that with the database after each death and with what comes afterwards.

GATEWAY_CRASH_KILLS (50) and GATEWAY_CRASH_SEED (made up and printed) may be set for longer runs and for repeating one.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.end_to_end.examiner import Examiner
from tests.end_to_end.harness import GatewayProcess, RelayProcess, running
from tests.end_to_end.witnesses import Witnesses

LONGEST_LIFE = 1.4
"""Seconds between the moment health is good and the kill."""


def _kill_over_and_over(folder: Path, kills: int, seed: int, *, verify_every: int, **settings: object) -> str:
    dice = random.Random(seed)
    relay = RelayProcess(folder / "relay")
    gateway = GatewayProcess(folder / "gateway", relay, **settings)
    with running(relay, gateway):
        relay.start()
        gateway.start()
        witnesses = Witnesses(relay, gateway.dicom_port, seed)
        examiner = Examiner(witnesses, gateway, folder / "copy")
        try:
            witnesses.begin()
            for number in range(kills):
                if dice.random() < 0.15:
                    _wait(gateway, dice.uniform(0, 0.8))
                else:
                    gateway.until_health(lambda report: report["healthy"], "it is back")
                    _wait(gateway, dice.uniform(0, LONGEST_LIFE))
                gateway.kill()
                examiner.look(everything=number % verify_every == verify_every - 1)
                witnesses.testify()
                gateway.launch()
            gateway.until_health(lambda report: report["healthy"], "it is back")
            witnesses.finish_what_was_begun()
            gateway.until_settled(60)
            examiner.conclude()
            witnesses.testify()
            return f"{kills} kills, seed {seed}: {examiner.summary()}"
        finally:
            witnesses.end()


def _wait(gateway: GatewayProcess, seconds: float) -> None:
    """Let it live for a random time, the one thing here that is meant to be out of step; it must not end by itself."""
    time.sleep(seconds)
    assert gateway.running, gateway.tail()


def _seed() -> int:
    return int(os.environ.get("GATEWAY_CRASH_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.mark.slow
def test_five_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    seed = _seed()
    print(f"seed {seed}")
    print(_kill_over_and_over(tmp_path, 5, seed, verify_every=1))


@pytest.mark.slow
def test_nor_do_they_while_what_identifies_a_person_is_sealed(tmp_path: Path) -> None:
    seed = _seed()
    print(f"seed {seed}")
    print(_kill_over_and_over(tmp_path, 5, seed, verify_every=1, gateway_sealing="true"))


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_fifty_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    seed, kills = _seed(), int(os.environ.get("GATEWAY_CRASH_KILLS") or 50)
    print(f"seed {seed}")
    print(_kill_over_and_over(tmp_path, kills, seed, verify_every=5))
