"""`gateway relay fault`, and the same without the gateway: `python -m relay.emulator`."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cli_support import Command
from test_cli_json import SECTIONS, is_documented

from relay import DialError, Phase
from relay.emulator import CATALOGUE
from relay.emulator.commands import FaultCommand, told
from relay.emulator.remote import RemoteEmulator
from tests.end_to_end.harness import LocalRelay, environment
from tests.relay.raw import raw_listener
from tests.relay.support import asynchronous
from tests.relay.support import emulator as relay_in_this_loop

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
    in_force = "in force: reject on=listen status=429 retry_after=0 path=actions times=3 struck=0\n"
    assert (begun.code, begun.err) == (0, in_force)
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
        assert (refused.returncode, refused.stdout) == (2, "")
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
        assert process.wait(10) == 2
        assert process.stderr is not None
        assert process.stderr.read().startswith("relay.emulator: bad_folder: ")


def test_json_of_the_faults_is_the_same_by_every_way(run: Command, relay: LocalRelay) -> None:
    remote = RemoteEmulator(f"http://127.0.0.1:{relay.port}")
    assert json.loads(run("relay", "fault", *at(relay), "--json").out) == remote.faults()


# --- what a command answers, by either way


def by_either_way(run: Command, folder: Path, relay: LocalRelay, *words: str) -> list[tuple[int, str]]:
    """Exit code and talk of both commands."""
    ours = run("relay", "fault", *words, *at(relay))
    alone = fault(folder, *words, "--at", f"http://127.0.0.1:{relay.port}")
    return [(ours.code, ours.err), (alone.returncode, alone.stdout + alone.stderr)]


def test_both_commands_say_in_the_same_words_what_they_did(run: Command, tmp_path: Path, relay: LocalRelay) -> None:
    nobody = "cut: 0 control channels, for nobody listens there\nin force: none\n"
    assert by_either_way(run, tmp_path, relay, "cut", "--path", "actions") == [(0, nobody)] * 2
    begun = by_either_way(run, tmp_path, relay, "lost-reply", "cut=false")
    assert begun[0] == (0, "in force: lost-reply cut=false struck=0\n")
    assert begun[1] == (0, "in force: lost-reply cut=false struck=0\n" * 2), "the second way has begun it once more"


@asynchronous
async def test_what_happened_once_is_told_with_what_it_struck() -> None:
    async with relay_in_this_loop() as relay, raw_listener(relay):
        remote = RemoteEmulator(f"http://127.0.0.1:{relay.port}")
        answer = await asyncio.to_thread(FaultCommand(name="deaf").carry_out, remote)
        assert told(answer) == ["deaf: 1 control channel", "in force: none"]
        assert list(answer) == ["begun", "in_force", "catalogue"]


def test_what_was_begun_is_in_the_json_as_documented(run: Command, relay: LocalRelay) -> None:
    answer = run("relay", "fault", "cut", "--path", "actions", *at(relay), "--json").json
    assert list(answer) == list(SECTIONS["relay fault"][1])
    assert answer.pop("begun") == SECTIONS["relay fault"][1]["begun"] | {"struck": 0}
    is_documented(answer, "relay fault")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("cut", "--path", "nowhere"), "no such hybrid connection"),
        (("reject", "times=3"), "--times 3"),
        (("reject", "lasting=3"), "--lasting 3"),
        (("cut", "path=actions"), "--path actions"),
        (("reject", "--times", "0"), "times is a number"),
        (("reject", "--lasting", "nan"), "lasting"),
        (("reject", "--end", "--times", "3"), "--end"),
        (("reject", "status=429", "--end"), "--end"),
        (("--end", "--path", "actions"), "--end"),
        (("--times", "3"), "only a fault that begins"),
        (("garbage", "frame=\udcff"), "frame"),
    ],
)
def test_what_is_said_wrongly_is_misuse_in_one_line_and_nothing_begins(
    run: Command, tmp_path: Path, relay: LocalRelay, words: tuple[str, ...], says: str
) -> None:
    for code, said in by_either_way(run, tmp_path, relay, *words):
        assert (code, said.count("\n")) == (2, 1), said
        assert says in said
    assert relay.emulator.faults.in_force == ()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_misuse_in_one_line(
    run: Command, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    ours = run("relay", "fault", "--emulator", "https://127.0.0.1:1", "--ca", str(tmp_path / "ca.pem"))
    alone = fault(tmp_path, "--at", "https://127.0.0.1:1", "--ca", str(tmp_path / "ca.pem"))
    for code, said in ((ours.code, ours.err), (alone.returncode, alone.stderr)):
        assert (code, said.count("\n")) == (2, 1), said
        assert "ca.pem cannot be read" in said


# --- who answers, or does not


class Other(BaseHTTPRequestHandler):
    """Some web server that is no emulator: it answers JSON, and the status that the path ends with."""

    status = 404

    def do_GET(self) -> None:
        body = b'{"detail": "Not Found"}'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the library calls them so

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("status", [200, 404])
def test_another_web_server_is_no_emulator(run: Command, status: int) -> None:
    server = HTTPServer(("127.0.0.1", 0), type("Answering", (Other,), {"status": status}))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        for words in ((), ("cut",), ("--end",)):
            outcome = run("relay", "fault", *words, "--emulator", f"http://127.0.0.1:{server.server_port}")
            assert outcome.code == 3
            assert "what answers is no emulator" in outcome.err
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_tls_that_is_not_trusted_or_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    with emulator(tmp_path, "--tls", str(tmp_path / "tls")) as (_, string):
        for address, remedy in (("https", "--ca FILE"), ("http", "begins https://")):
            with pytest.raises(DialError) as caught:
                RemoteEmulator(f"{address}://127.0.0.1:{port_of(string)}").faults()
            assert remedy in caught.value.remedy
    with emulator(tmp_path) as (_, string):
        with pytest.raises(DialError) as caught:
            RemoteEmulator(f"https://127.0.0.1:{port_of(string)}").faults()
        assert (caught.value.phase, "begins http://" in caught.value.remedy) == (Phase.TLS, True)


def own_address() -> str:
    """This machine's address as another one sees it; asking for the way sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("198.51.100.1", 9))
        return str(probe.getsockname()[0])


def test_by_an_address_that_is_not_loopback_the_emulator_s_key_is_asked_for(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with emulator(tmp_path, "--host", "0.0.0.0", "--key", "a-key") as (_, string):
        address = f"http://{own_address()}:{port_of(string)}"
        assert fault(tmp_path, "--at", address).returncode == 3
        assert "does not let us in" in fault(tmp_path, "--at", address, "--key", "another").stderr
        assert fault(tmp_path, "delay", "--at", address, "--key", "a-key").stdout.startswith("in force: delay")
        refused = run("relay", "fault", "--emulator", address)
        assert (refused.code, "right Manage" in refused.err) == (3, True)
        monkeypatch.setenv("AZURE_RELAY_SHARED_ACCESS_KEY", "a-key")
        assert run("relay", "fault", "--end", "--emulator", address).code == 0


# --- what cannot be served


@pytest.mark.parametrize("port", ["99999", "-1", "http", "²"])
def test_a_port_that_is_none_is_misuse(tmp_path: Path, port: str) -> None:
    refused = serve(tmp_path, "--port", port)
    assert refused.returncode == 2
    assert "a port is a number from 0 to 65535" in refused.stderr
    assert "Traceback" not in refused.stderr


def serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m relay.emulator serve` where it is to end by itself."""
    words = [sys.executable, "-m", "relay.emulator", "serve", "--hybrid-connection", "actions", *arguments]
    return subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("host", "says", "remedy"),
    [
        ("nowhere.invalid", "there is no host nowhere.invalid", "another --host"),
        ("a..b", "there is no host a..b", "another --host"),
        ("203.0.113.7", "203.0.113.7 is no address of this machine", "another --host"),
        ("127.0.0.1", "can't be listened at on 127.0.0.1: Address already in use", "another --port"),
    ],
)
def test_what_cannot_be_listened_at_is_told_in_its_own_words(
    run: Command, tmp_path: Path, host: str, says: str, remedy: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = ("--host", host, "--port", str(taken.getsockname()[1]))
        ours = run("relay", "emulate", "--hybrid-connection", "actions", *where)
        alone = serve(tmp_path, *where)
    for code, said in ((ours.code, ours.err), (alone.returncode, alone.stderr)):
        assert (code, said.count("\n")) == (1, 1), said
        assert "port_unusable" in said
        assert says in said
        assert remedy in said


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--hybrid-connection", ""), "bad_name"),
        (("--hybrid-connection", "a b?c"), "bad_name"),
        (("--hybrid-connection", "_/faults"), "bad_name"),
        (("--key", "a;b"), "bad_key"),
        (("--key", ""), "bad_key"),
        (("--key-name", "a;b"), "bad_key_name"),
    ],
)
def test_names_and_keys_that_cannot_work_are_refused(tmp_path: Path, words: tuple[str, ...], code: str) -> None:
    refused = serve(tmp_path, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"relay.emulator: {code}: ")
    assert "a;b" not in refused.stderr


def test_the_gateway_s_command_refuses_them_too(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("relay", "emulate", "--hybrid-connection", "a b?c", "--port", "0").code == 2
    monkeypatch.setenv("AZURE_RELAY_SHARED_ACCESS_KEY", "half;of-it")
    refused = run("relay", "emulate", "--hybrid-connection", "actions", "--port", "0")
    assert (refused.code, "half" in refused.err) == (2, False)
