"""`gateway relay fault`, and the same without the gateway: `python -m relay.emulator`."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_support import Command
from test_cli_json import is_documented

from relay.emulator import CATALOGUE
from relay.emulator.remote import RemoteEmulator
from tests.end_to_end.harness import LocalRelay, environment

pytestmark = pytest.mark.slow


@pytest.fixture
def relay() -> Iterator[LocalRelay]:
    emulator = LocalRelay().start()
    yield emulator
    emulator.close()


def at(relay: LocalRelay) -> tuple[str, str]:
    return ("--emulator", f"http://127.0.0.1:{relay.port}")


def test_without_a_name_it_lists_every_fault_with_its_parameters(run: Command, relay: LocalRelay) -> None:
    outcome = run("relay", "fault", *at(relay))
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out.splitlines()[1:]] == list(CATALOGUE)
    assert "on=listen status=503 retry_after=0" in outcome.out
    assert outcome.err == "in force: none\n"


def test_a_fault_begins_and_ends_and_its_json_is_the_documented_one(run: Command, relay: LocalRelay) -> None:
    begun = run("relay", "fault", "reject", "status=429", "--path", "actions", "--times", "3", *at(relay))
    assert (begun.code, begun.err) == (0, "in force: reject on actions\n")
    [fault] = relay.emulator.faults.in_force
    assert (fault.details["status"], fault.left, fault.path) == (429, 3, "actions")
    listed = run("relay", "fault", *at(relay), "--json")
    is_documented(listed.json, "relay fault")
    assert run("relay", "fault", "reject", "--end", *at(relay)).err == "in force: none\n"
    assert relay.emulator.faults.in_force == ()


@pytest.mark.parametrize(
    "words", [("nonsense",), ("reject", "status=200"), ("cut", "--times", "2"), ("cut", "--emulator", "ftp://x")]
)
def test_what_cannot_be_asked_for_is_misuse(run: Command, relay: LocalRelay, words: tuple[str, ...]) -> None:
    outcome = run("relay", "fault", *at(relay), *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "gateway: " in outcome.err


def test_no_emulator_is_unreachable_and_something_else_is_none(run: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outcome = run("relay", "fault", "cut", "--emulator", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert outcome.code == 3
    assert "is it running" in outcome.err.lower()


# --- without the gateway


@contextmanager
def emulator(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m relay.emulator serve`, and its connection string."""
    words = [
        sys.executable,
        "-m",
        "relay.emulator",
        "serve",
        "--port",
        "0",
        "--hybrid-connection",
        "actions",
        *arguments,
    ]
    with subprocess.Popen(
        [*words, *arguments], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def fault(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "relay.emulator", "fault", *arguments]
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=30, check=False)


def port_of(string: str) -> str:
    found = re.search(r"Endpoint=sb://127\.0\.0\.1:(\d+)/", string)
    assert found is not None
    return found.group(1)


def test_the_emulator_runs_on_its_own_and_shows_faults(tmp_path: Path) -> None:
    with emulator(tmp_path, "--key", "a-key") as (process, string):
        assert string.endswith("SharedAccessKey=a-key;UseDevelopmentEmulator=true")
        at = f"http://127.0.0.1:{port_of(string)}"
        assert "in force: none" in fault(tmp_path, "--at", at).stdout
        assert "in force: delay seconds=3.0" in fault(tmp_path, "delay", "seconds=3", "--at", at).stdout
        assert fault(tmp_path, "delay", "--end", "--at", at).stdout == "in force: none\n"
        refused = fault(tmp_path, "dance", "--at", at)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "unknown_fault" in refused.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_serves_tls_with_an_authority_of_its_own_that_stays_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    authorities = []
    for _ in range(2):
        with emulator(tmp_path, "--tls", str(folder)) as (_, string):
            assert "UseDevelopmentEmulator" not in string
            remote = RemoteEmulator(f"https://127.0.0.1:{port_of(string)}", folder / "ca.pem")
            assert remote.overview()["hybrid_connections"] == [{"path": "actions", "listeners": 0}]
        authorities.append((folder / "ca.pem").read_bytes())
    assert authorities[0] == authorities[1]
    assert stat.S_IMODE((folder / "ca-key.pem").stat().st_mode) == 0o600


def test_a_folder_that_cannot_hold_certificates_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with emulator(tmp_path, "--tls", str(tmp_path / "file" / "tls")) as (process, string):
        assert string == ""
        assert process.wait(10) == 1
        assert process.stderr is not None
        assert process.stderr.read().startswith("relay.emulator: bad_folder: ")


def test_json_of_the_faults_is_the_same_by_every_way(run: Command, relay: LocalRelay) -> None:
    remote = RemoteEmulator(f"http://127.0.0.1:{relay.port}")
    assert json.loads(run("relay", "fault", *at(relay), "--json").out) == remote.faults()
