"""Run something in processes that are killed, each at another moment: the n-th time Python touches a file.

    python -m tests.audit.killing FOLDER FUNCTION

`FOLDER/template` is copied to `FOLDER/1`, `FOLDER/2` …; in each a process of its own calls the function with that
folder and is ended by SIGKILL before its n-th access; the last one comes through. Prints how many there were.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.audit.restore import restore
from gateway.eventstore.backup import take

ACCESSES = ("open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "sqlite3.connect", "shutil.copyfile")
"""Audit events of the interpreter; an `os.fsync` has none, and is followed by one of these."""


def back_up(place: Path) -> None:
    """Take a backup."""
    take(place / "gateway.db", place / "backups")


def put_back(place: Path) -> None:
    """Restore the backup that lies beside."""
    assert restore(place / "gateway.db", place / "backup.db", operator="night shift", agreed=lambda _: True)


def killed_at_each_access(folder: Path, function: Callable[[Path], object]) -> int:
    """From the test: the number of processes, the last of which was not killed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.audit.killing", str(folder), function.__name__],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout)


def main(folder: Path, name: str) -> None:
    """All of them, one after the other."""
    called = {"back_up": back_up, "put_back": put_back}[name]
    number = 1
    while True:
        place = folder / str(number)
        shutil.copytree(folder / "template", place)
        child = os.fork()
        if child == 0:
            _run(called, place, number)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            if os.WEXITSTATUS(status):
                raise SystemExit(f"the process failed at {number}")
            print(number)
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        number += 1


def _run(called: Callable[[Path], object], place: Path, number: int) -> None:
    accesses = 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal accesses
        if event in ACCESSES and str(place) in str(arguments):
            accesses += 1
            if accesses == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    try:
        called(place)
    except BaseException as error:  # noqa: BLE001  a forked process must end here, whatever happens
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
