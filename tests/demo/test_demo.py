"""`gateway demo`: the whole journey of an appointment, told, with nothing left behind and no real relay touched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from relay.emulator import CATALOGUE

pytestmark = pytest.mark.slow
GATEWAY = str(Path(sys.executable).parent / "gateway")

HOPS = [
    ("relay", "the emulator listens"),
    ("gateway", "serves ORTHANC_MWL on port"),
    ("web app", "schedules ACC000 for today 10:00 → gateway answers created"),
    ("web app", "schedules ACC001 for today 10:00 → gateway answers created"),
    ("web app", "schedules ACC002 for today 11:00 → gateway answers created"),
    ("modality", "MAMMO1 asks for today's worklist → ACC000, ACC001, ACC002"),
    ("modality", "MAMMO1 begins ACC001"),
    ("web app", "hears that ACC001 is IN PROGRESS, and acknowledges it"),
    ("modality", "MAMMO1 is done"),
    ("web app", "hears that ACC001 is COMPLETED, and acknowledges it"),
    ("demo", "the web app heard both statuses"),
]


def environment(folder: Path, **variables: str) -> dict[str, str]:
    ours = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"TMPDIR": str(folder)} | variables


def demo(tmp_path: Path, *arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run it in an empty folder; gives how it ended, and what is in its temporary folder after that."""
    temporary, work = tmp_path / "temporary", tmp_path / "work"
    temporary.mkdir()
    work.mkdir()
    done = subprocess.run(
        [GATEWAY, "demo", *arguments],
        cwd=work,
        env=environment(temporary, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, [str(left) for folder in (temporary, work) for left in folder.iterdir()]


def test_one_examination_is_told_hop_by_hop_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done, left = demo(tmp_path, "--once")
    assert (done.returncode, done.stderr, left) == (0, "", [])
    lines = iter(done.stdout.splitlines())
    for who, what in HOPS:
        assert any(f"  {who:<9} {what}" in told for told in lines), (who, what, done.stdout)


def test_it_says_what_it_was_told_to_be(tmp_path: Path) -> None:
    done, _ = demo(tmp_path, "--once", GATEWAY_AE_TITLE="CLINIC", GATEWAY_SCHEDULED_TIMES="utc")
    assert done.returncode == 0
    assert "serves CLINIC on port" in done.stdout


@pytest.mark.parametrize("fault", CATALOGUE)
def test_a_fault_is_played_and_nothing_is_lost(tmp_path: Path, fault: str) -> None:
    done, left = demo(tmp_path, "--fault", fault)
    assert (done.returncode, done.stderr, left) == (0, "", []), done.stdout
    told = done.stdout.splitlines()
    assert any(f"  relay     {fault}: {CATALOGUE[fault].summary}" in line for line in told)
    assert re.search(rf"  demo      {fault} struck [1-9]\d* times?$", told[-3])
    assert "3 appointments answered, 3 stored; 2 statuses told" in told[-2]
    assert told[-1].endswith("  demo      nothing was lost, nothing happened twice")


def test_the_faults_are_listed_and_another_one_is_misuse(tmp_path: Path) -> None:
    listed, _ = demo(tmp_path, "--fault", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == list(CATALOGUE)
    (tmp_path / "other").mkdir()
    refused, _ = demo(tmp_path / "other", "--fault", "earthquake")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "skewed-clock" in refused.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"AZURE_RELAY_NAMESPACE": "contoso"},
        {"AZURE_RELAY_SHARED_ACCESS_KEY": "c2VjcmV0"},
        {"AZURE_RELAY_CONNECTION_STRING": "Endpoint=sb://contoso.servicebus.windows.net/"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_relay_settings_are_refused_with_exit_code_2(tmp_path: Path, variables: dict[str, str]) -> None:
    done, left = demo(tmp_path, "--once", **variables)
    assert (done.returncode, done.stdout, left) == (2, "", [])
    assert "the demo never talks to a real relay" in done.stderr
    assert "c2VjcmV0" not in done.stderr


def test_relay_settings_in_dot_env_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AZURE_RELAY_NAMESPACE=contoso\n")
    done = subprocess.run(
        [GATEWAY, "demo", "--once"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_without_once_it_keeps_serving_what_it_says_can_be_asked(tmp_path: Path, number: int) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [GATEWAY, "demo"],
        cwd=tmp_path,
        env=environment(temporary, GATEWAY_DICOM_PORT="0", GATEWAY_OPS_PORT="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(50, process.kill)
    watchdog.start()
    try:
        assert process.stdout
        told = []
        for text in process.stdout:
            told.append(text.strip())
            if text.startswith("Ctrl-C"):
                break
        perform = next(text for text in told if "gateway modality perform" in text).split()
        performed = subprocess.run(
            [GATEWAY, *perform[1:]], env=environment(tmp_path), capture_output=True, text=True, timeout=30, check=False
        )
        assert performed.returncode == 0, performed.stderr
        heard = [next(process.stdout) for _ in range(2)]
        assert ["IN PROGRESS" in heard[0], "COMPLETED" in heard[1]] == [True, True]
        timeline = next(text for text in told if "gateway timeline" in text).split()
        name, _, database = timeline[0].partition("=")
        looked = subprocess.run(
            [GATEWAY, *timeline[2:]],
            env=environment(tmp_path, **{name: database}),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "acknowledged" in looked.stdout
        process.send_signal(number)
        assert process.wait(20) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    assert list(temporary.iterdir()) == []


def test_the_site_s_way_out_is_not_the_demo_s(tmp_path: Path) -> None:
    way_out = {"GATEWAY_RELAY_PROXY": "http://127.0.0.1:1", "GATEWAY_RELAY_CA_FILE": str(tmp_path / "ca.pem")}
    (tmp_path / "ca.pem").write_text("")
    done, _ = demo(tmp_path, "--once", **way_out)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("fault", "says"), [("garbage", "stayed open"), ("cut", "opened anew once")])
def test_the_account_says_what_became_of_the_control_channel(tmp_path: Path, fault: str, says: str) -> None:
    done, _ = demo(tmp_path, "--fault", fault)
    assert says in done.stdout.splitlines()[-2]
