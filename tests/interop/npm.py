"""Clients from npm for interoperability tests: each folder beside this file has its own lock file.

Without node or npm the tests are skipped by name, except in CI, where that is a failure.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def installed(folder: Path, whose: str) -> str:
    """Install the packages of the folder's lock file, unless that was done; says where node is.

    Parallel test workers wait for each other. `whose` names the clients to whom a missing tool matters.
    """
    node, npm = _tool("node", whose), _tool("npm", whose)
    done = folder / "node_modules" / ".package-lock.json"
    with (folder / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts"]
            result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            if result.returncode:
                pytest.fail(f"npm ci failed in {folder}:\n{result.stderr[-2000:]}")
            os.utime(done)
    return node


def _tool(name: str, whose: str) -> str:
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: {whose} cannot run"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
