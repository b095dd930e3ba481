"""Actions through the relay: how many a second, and how long one takes, beside a bare echo on the same way.

`python -m bench.relay [--quick]`. Emulator, gateway and echo are processes of their own; the senders are this one.
Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.figures import Figure, percentile, table
from bench.synthetic import appointment, create_request, participant
from relay import ConnectionString, Listener, Message, RelayError, Sender

SENDERS = (1, 16, 64)
ROUNDS = 5
_PER_ROUND = {1: 100, 16: 320, 64: 320}
_KEY_NAME, _KEY = "bench", "YmVuY2gtYmVuY2gtYmVuY2g="
_PATIENCE = 30.0

_GATEWAY = (sys.executable, "-c", "from gateway.cli import main; main()")
_ECHO = (sys.executable, "-m", "bench.relay", "--echo")


@dataclass
class Taken:
    """What was measured on one way with one number of senders: for each round its rate, and each action's seconds."""

    rates: list[float] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def milliseconds(self, part: float) -> float:
        return statistics.median(percentile(one, part) for one in self.seconds) * 1000


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the relay."""
    with tempfile.TemporaryDirectory(prefix="bench-relay-") as folder, ExitStack() as stack:
        string = stack.enter_context(_emulator(Path(folder)))
        stack.enter_context(_listening(Path(folder), string, *_GATEWAY, "serve"))
        stack.enter_context(_listening(Path(folder), string, *_ECHO))
        measured = asyncio.run(_measure(string, rounds=1 if quick else ROUNDS))
    return [figure for senders in SENDERS for figure in _figures(senders, measured)]


def _figures(senders: int, measured: dict[tuple[str, int], Taken]) -> list[Figure]:
    actions, echo = measured["actions", senders], measured["echo", senders]
    who = f"{senders} sender{'' if senders == 1 else 's'}"
    slower = actions.milliseconds(0.5) / echo.milliseconds(0.5)
    return [
        Figure(f"{who}: bare echo", f"{echo.rate:,.0f}/s, p50 / p99 {_times(echo)}", "the floor: the way itself"),
        Figure(
            f"{who}: `worklist.create_item`, stored",
            f"{actions.rate:,.0f}/s, p50 / p99 {_times(actions)}",
            f"×{actions.rate / echo.rate:.2f} of the echo's rate, ×{slower:.2f} of its time at p50",
        ),
    ]


def _times(taken: Taken) -> str:
    return f"{taken.milliseconds(0.5):.1f} / {taken.milliseconds(0.99):.1f} ms"


async def _measure(string: str, *, rounds: int) -> dict[tuple[str, int], Taken]:
    """Both ways in turns, round by round, so that they share whatever else the machine does."""
    connection = ConnectionString.parse(string)
    senders = {name: Sender(connection.hybrid_connection(name)) for name in ("actions", "echo")}
    for sender in senders.values():
        await _until_answered(sender)
    measured = {(name, many): Taken() for name in senders for many in SENDERS}
    numbers = count(1)
    for number in range(rounds + 1):
        for many in SENDERS:
            for name, sender in senders.items():
                texts = [_action(next(numbers)) for _ in range(_PER_ROUND[many])]
                rate, seconds = await _round(sender, texts, many, name)
                if number:  # the first is a warm-up
                    measured[name, many].rates.append(rate)
                    measured[name, many].seconds.append(seconds)
    return measured


async def _round(sender: Sender, texts: list[str], many: int, name: str) -> tuple[float, list[float]]:
    """Send all texts by so many senders; the rate, and the seconds of each."""
    left, seconds = iter(texts), []

    async def work() -> None:
        for text in left:
            began = time.perf_counter()
            answer = json.loads(await sender.send(text))
            seconds.append(time.perf_counter() - began)
            assert name == "echo" or answer["status"] == "created", answer

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(many)))
    return len(texts) / (time.perf_counter() - began), seconds


def _action(number: int) -> str:
    """A create action of the n-th synthetic woman."""
    accession_number = f"ACC{number:09d}"
    return create_request(f"create-{accession_number}", appointment(accession_number, **participant(number))).text


async def _until_answered(sender: Sender) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                await sender.send('{"action_type": "echo"}')
            except RelayError:
                await asyncio.sleep(0.05)
            else:
                return


# --- the other processes


@contextmanager
def _emulator(folder: Path) -> Iterator[str]:
    """A relay; gives its connection string."""
    paths = [word for name in ("actions", "echo") for word in ("--hybrid-connection", name)]
    arguments = [*_GATEWAY, "relay", "emulate", "--port", "0", *paths]
    environment = _environment(folder, AZURE_RELAY_KEY_NAME=_KEY_NAME, AZURE_RELAY_SHARED_ACCESS_KEY=_KEY)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(arguments, env=environment, cwd=folder, text=True, **pipes) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip().replace("***", _KEY)
        finally:
            process.terminate()


@contextmanager
def _listening(folder: Path, string: str, *arguments: str) -> Iterator[None]:
    """A listener of the relay until the block ends."""
    environment = _environment(
        folder,
        AZURE_RELAY_CONNECTION_STRING=string,
        AZURE_RELAY_HYBRID_CONNECTION="actions",
        WORKLIST_DB_PATH=str(folder / "gateway.db"),
        GATEWAY_DICOM_HOST="127.0.0.1",
        GATEWAY_DICOM_PORT="0",
        GATEWAY_OPS_PORT="0",
    )
    with (folder / f"{arguments[-1]}.log").open("wb") as log:
        process = subprocess.Popen(arguments, env=environment, cwd=folder, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    ours = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(folder)} | variables


async def _echo() -> None:
    """Answer everything with itself, until stopped."""
    string = os.environ["AZURE_RELAY_CONNECTION_STRING"]

    async def repeat(message: Message) -> str:
        return str(message.data)

    await Listener(ConnectionString.parse(string).hybrid_connection("echo"), repeat).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: does it still run?")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(_echo())
    else:
        print(table(run(quick=options.quick)))
