"""Running verbs as `gateway` does, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway import cli

GATEWAY = str(Path(sys.executable).parent / "gateway")


@dataclass(frozen=True)
class Outcome:
    """How a verb ended: its exit code, its data and its talk."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Command:
    """`gateway …`, by its own entry point and on its real streams."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *arguments: str) -> Outcome:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["gateway", *arguments])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
        captured = self.capsys.readouterr()
        return Outcome(int(code or 0), captured.out, captured.err)


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """An environment without settings, but for these, that keeps its temporary files in the folder."""
    ours = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"TMPDIR": str(folder), "COLUMNS": "200"} | variables


def in_a_process(folder: Path, *arguments: str, **variables: str) -> Outcome:
    """Run `gateway …` to its end, in a process of its own."""
    done = subprocess.run(
        [GATEWAY, *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
