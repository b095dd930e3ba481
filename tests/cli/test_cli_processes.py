"""Verbs that run until they are stopped, and what only a process of its own can show."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_support import GATEWAY, environment, in_a_process

from gateway.cli import UNREACHABLE
from relay import ConnectionString, Listener, ListenerOptions, ListenerState, ListenerStatus, Message, Sender

pytestmark = pytest.mark.slow
KEY = "bm90LWEtcmVhbC1rZXk="


@contextmanager
def running(folder: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`gateway …` until the block ends."""
    process = subprocess.Popen(
        [GATEWAY, *arguments],
        cwd=folder,
        env=environment(folder, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line of its data, which a reader of a pipe gets at once."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready, "nothing came"
    return process.stdout.readline().strip()


async def conversation(string: str) -> str:
    """Listen and send by this connection string."""
    connection = ConnectionString.parse(string).hybrid_connection("actions")
    hears = asyncio.Event()

    async def repeat(message: Message) -> str:
        return f"heard {message.data}"

    def noted(status: ListenerStatus) -> None:
        if status.state is ListenerState.HEARING:
            hears.set()

    listener = Listener(connection, repeat, options=ListenerOptions(on_state=noted))
    listening = asyncio.create_task(listener.run())
    async with asyncio.timeout(20):
        await hears.wait()
        answer = await Sender(connection).send("hello")
    await listener.stop(1)
    await listening
    return answer


EMULATE = ("relay", "emulate", "--port", "0", "--hybrid-connection", "actions", "--hybrid-connection", "events")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_the_emulator_prints_a_connection_string_that_works_and_stops_on_sigterm(tmp_path: Path, host: str) -> None:
    with running(tmp_path, *EMULATE, "--host", host) as process:
        string = line(process)
        assert string.endswith(";UseDevelopmentEmulator=true")
        assert asyncio.run(conversation(string)) == "heard hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_with_a_key_from_the_environment_the_string_hides_it_and_works_with_it(tmp_path: Path) -> None:
    variables = {"AZURE_RELAY_KEY_NAME": "listen-and-send", "AZURE_RELAY_SHARED_ACCESS_KEY": KEY}
    with running(tmp_path, *EMULATE, **variables) as process:
        string = line(process)
        assert "SharedAccessKeyName=listen-and-send;SharedAccessKey=***;" in string
        assert asyncio.run(conversation(string.replace("***", KEY))) == "heard hello"


def test_a_port_that_is_taken_exits_1_and_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        outcome = in_a_process(tmp_path, "relay", "emulate", "--port", port, "--hybrid-connection", "a")
    assert (outcome.code, outcome.out) == (1, "")
    assert f"port {port} can't be listened at" in outcome.err
    assert "--port" in outcome.err


def test_exit_codes_are_those_of_the_process(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    codes = [
        in_a_process(tmp_path, *words).code
        for words in (("--help",), ("timeline", "ACC001"), ("sing",), ("modality", "echo", "-p", port))
    ]
    assert codes == [0, 1, 2, UNREACHABLE]


def test_a_reader_that_leaves_is_not_answered_with_a_traceback(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [GATEWAY, "config", "show"],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr


def test_serve_without_relay_settings_says_so_serves_and_stops_on_sigint(tmp_path: Path) -> None:
    variables = {
        "GATEWAY_DICOM_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_DICOM_HOST": "127.0.0.1",
        "GATEWAY_LOG_FORMAT": "json",
    }
    with running(tmp_path, "serve", **variables) as process:
        assert process.stderr
        started = next(text for text in process.stderr if "gateway_started" in text)
        assert "not configured: DICOM only" in started
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stdout
        assert process.stdout.read() == ""
    assert (tmp_path / "data" / "gateway.db").exists()


def test_serve_with_a_port_that_is_taken_exits_1_and_names_the_setting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        outcome = in_a_process(
            tmp_path, "serve", GATEWAY_DICOM_PORT="0", GATEWAY_OPS_PORT=port, GATEWAY_DICOM_HOST="127.0.0.1"
        )
    assert outcome.code == 1
    assert "GATEWAY_OPS_PORT" in outcome.err.splitlines()[-1]
