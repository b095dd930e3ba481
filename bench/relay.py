"""The relay on this machine: echoes without it and through it, actions, and the gateway's memory in a burst.

`python -m bench.relay [--quick]`. Emulator, gateway and both echoes are processes of their own; the senders are this
one. Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve

from bench.figures import Figure, percentile, table
from bench.synthetic import appointment, create_request, participant
from relay import ConnectionString, HybridConnection, Listener, Message, Namespace, RelayError, Sender

SENDERS = (1, 16, 64)
ROUNDS = 7
BURST = 1000
BURSTS = 3
OPEN = 500
_PER_ROUND = {1: 100, 16: 320, 64: 640}
_TIMES_WHEN_KEPT = 5
_KEY_NAME, _KEY = "bench", "YmVuY2gtYmVuY2gtYmVuY2g="
_PATIENCE = 30.0

_GATEWAY = (sys.executable, "-c", "from gateway.cli import main; main()")
_OURS = (sys.executable, "-m", "bench.relay")

Say = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Way:
    """A way messages take: to whom, through which processes, and whether a sender keeps one connection for all."""

    sender: Sender
    processes: tuple[int, ...] = ()
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """What one round showed: messages a second, the seconds of each, and those of all CPUs together for one."""

    rate: float
    seconds: list[float]
    cpu: float

    def milliseconds(self, part: float) -> float:
        return percentile(self.seconds, part) * 1000


class Taken(list[Round]):
    """All rounds on one way with one number of senders."""

    def __str__(self) -> str:
        rate = statistics.median(each.rate for each in self)
        p50, p99 = (statistics.median(each.milliseconds(part) for each in self) for part in (0.5, 0.99))
        return f"{rate:,.0f}/s, p50 / p99 {p50:.2f} / {p99:.2f} ms"

    def beside(self, floor: Taken) -> str:
        """The ratios to the floor, each the median over the rounds of that round's own."""
        pairs = list(zip(self, floor, strict=True))
        slower = statistics.median(mine.milliseconds(0.5) / its.milliseconds(0.5) for mine, its in pairs)
        fewer = statistics.median(its.rate / mine.rate for mine, its in pairs)
        dearer = statistics.median(mine.cpu / its.cpu for mine, its in pairs)
        return f"time at p50 ×{slower:.2f}, rate ÷{fewer:.2f}, CPU ×{dearer:.2f}"


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the relay."""
    load = _load()
    with _stage() as stage, _gateway(stage) as gateway, _echo(stage) as echo, _direct(stage) as direct:
        measured = asyncio.run(_measure(_ways(stage, gateway, echo, direct), rounds=1 if quick else ROUNDS))
    figures = [figure for senders in SENDERS for figure in _figures(senders, measured)]
    if sys.platform == "linux":  # elsewhere there is no /proc
        figures += _memory(bursts=1 if quick else BURSTS)
    figures.append(Figure("load average, before / after", f"{load} / {_load()}", "the bench makes up to 2 of it"))
    return figures


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _ways(stage: Stage, gateway: int, echo: int, direct: tuple[str, int]) -> dict[str, Way]:
    relayed, bare = ConnectionString.parse(stage.string), ConnectionString.parse(direct[0])
    actions, through = (Sender(relayed.hybrid_connection(name)) for name in ("actions", "echo"))
    floor = Sender(HybridConnection(bare.namespace, "echo", through.connection.credential))
    ways = {
        "direct": Way(floor, (direct[1],)),
        "echo": Way(through, (stage.emulator, echo)),
        "actions": Way(actions, (stage.emulator, gateway)),
    }
    return ways | {f"{name}, kept": replace(ways[name], kept=True) for name in ("direct", "echo")}


def _figures(senders: int, measured: dict[tuple[str, int], Taken]) -> list[Figure]:
    who = f"{senders} sender{'' if senders == 1 else 's'}"
    direct, echo, actions, direct_kept, echo_kept = (taken for (_, many), taken in measured.items() if many == senders)
    return [
        Figure(f"{who}: direct echo, no relay", str(direct), "the floor: dial, one message, close"),
        Figure(f"{who}: bare echo through the relay", str(echo), f"of the direct echo: {echo.beside(direct)}"),
        Figure(f"{who}: `worklist.create_item`, stored", str(actions), f"of the bare echo: {actions.beside(echo)}"),
        Figure(f"{who}, connection kept: direct echo", str(direct_kept), "the floor: one message"),
        Figure(f"{who}, connection kept: echo", str(echo_kept), f"of that floor: {echo_kept.beside(direct_kept)}"),
    ]


async def _measure(ways: dict[str, Way], *, rounds: int) -> dict[tuple[str, int], Taken]:
    """All ways in turns, round by round, so that they share whatever else the machine does."""
    for way in ways.values():
        await _until_answered(way.sender)
    measured = {(name, many): Taken() for name in ways for many in SENDERS}
    numbers = count(1)
    for number in range(rounds + 1):
        for many in SENDERS:
            for name, way in ways.items():
                messages = _PER_ROUND[many] * (_TIMES_WHEN_KEPT if way.kept else 1)
                one = await _round(way, [_action(next(numbers)) for _ in range(messages)], many)
                if number:  # the first is a warm-up
                    measured[name, many].append(one)
    return measured


async def _round(way: Way, texts: list[str], many: int) -> Round:
    """Send all texts by so many senders."""
    left = iter(texts)
    seconds: list[float] = []

    async def work(say: Say) -> None:
        for text in left:
            began = time.perf_counter()
            answer = await say(text)
            seconds.append(time.perf_counter() - began)
            assert answer == text or _is_created(answer), answer

    async with AsyncExitStack() as stack:
        voices = [await stack.enter_async_context(_voice(way)) for _ in range(many)]
        began, cpu = time.perf_counter(), _cpu(way.processes)
        await asyncio.gather(*(work(say) for say in voices))
        took, cpu = time.perf_counter() - began, _cpu(way.processes) - cpu
    return Round(len(texts) / took, seconds, cpu / len(texts))


def _cpu(processes: tuple[int, ...]) -> float:
    """Seconds that these and ourselves have computed so far; ourselves alone where there is no /proc."""
    threads = [thread for process in processes for thread in Path(f"/proc/{process}/task").glob("*/schedstat")]
    return time.process_time() + sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@asynccontextmanager
async def _voice(way: Way) -> AsyncIterator[Say]:
    """What one sender says its messages with."""
    if not way.kept:
        yield way.sender.send
        return
    async with await way.sender.open() as websocket:

        async def say(text: str) -> str:
            await websocket.send(text)
            return str(await websocket.recv())

        yield say


def _action(number: int) -> str:
    """A create action of the n-th synthetic woman."""
    accession_number = f"ACC{number:09d}"
    return create_request(f"create-{accession_number}", appointment(accession_number, **participant(number))).text


def _is_created(answer: str) -> bool:
    return bool(json.loads(answer)["status"] == "created")


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


# --- memory


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the gateway in MB: before, at most, and after."""

    before: float
    peak: float
    after: float

    def __str__(self) -> str:
        return f"{self.before:.1f} → {self.peak:.1f} → {self.after:.1f} MB"


def _memory(*, bursts: int) -> list[Figure]:
    """How a gateway that has just started grows: by rendezvous that stay open, and in bursts."""
    with _stage() as stage, _gateway(stage) as gateway:
        sender = Sender(ConnectionString.parse(stage.string).hybrid_connection("actions"))
        return asyncio.run(_grow(sender, gateway, stage.emulator, bursts))


async def _grow(sender: Sender, gateway: int, emulator: int, bursts: int) -> list[Figure]:
    await _until_answered(sender)
    texts = map(_action, count(1))
    await _round(Way(sender), list(islice(texts, BURST // 2)), 16)  # now all of its code is loaded
    held = await _hold_open(sender, gateway)
    each = (held.peak - held.before) * 1000 / OPEN
    figures = [Figure(f"gateway's memory: {OPEN} rendezvous open, nobody speaks", str(held), f"{each:.0f} kB each")]
    for number in range(1, bursts + 1):
        memory, seconds = await _burst(sender, gateway, emulator, list(islice(texts, BURST)))
        what = f"gateway's memory: {BURST:,} accepts at once, burst {number}"
        figures.append(Figure(what, str(memory), f"all {BURST:,} `created`, within {seconds:.1f} s"))
    return figures


async def _hold_open(sender: Sender, gateway: int) -> Memory:
    before = _memory_of(gateway)
    async with AsyncExitStack() as stack:
        for _ in range(OPEN):
            await stack.enter_async_context(await sender.open())
        peak = _memory_of(gateway)
    return Memory(before, peak, _memory_of(gateway))


async def _burst(sender: Sender, gateway: int, emulator: int, texts: list[str]) -> tuple[Memory, float]:
    """Stop the gateway's process until all senders have knocked, so that it finds all their accepts in one moment."""
    before = _memory_of(gateway)
    Path(f"/proc/{gateway}/clear_refs").write_text("5")  # forget the highest so far, see proc(5)
    os.kill(gateway, signal.SIGSTOP)
    try:
        sending = [asyncio.create_task(sender.send(text)) for text in texts]
        async with asyncio.timeout(_PATIENCE):
            while _open_files(emulator) < BURST:
                await asyncio.sleep(0.01)
    finally:
        os.kill(gateway, signal.SIGCONT)
    began = time.perf_counter()
    assert all(_is_created(answer) for answer in await asyncio.gather(*sending))
    return Memory(before, _memory_of(gateway, "VmHWM"), _memory_of(gateway)), time.perf_counter() - began


def _memory_of(process: int, which: str = "VmRSS") -> float:
    """Resident memory of a process in MB; with ``VmHWM`` the highest."""
    found = re.search(rf"{which}:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found, which
    return int(found[1]) / 1000


def _open_files(process: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


# --- the other processes


@dataclass(frozen=True, slots=True)
class Stage:
    """A running emulator: its process id, its connection string, and a folder for the files of everybody."""

    emulator: int
    string: str
    folder: Path


@contextmanager
def _stage() -> Iterator[Stage]:
    paths = [word for name in ("actions", "echo") for word in ("--hybrid-connection", name)]
    key = {"AZURE_RELAY_KEY_NAME": _KEY_NAME, "AZURE_RELAY_SHARED_ACCESS_KEY": _KEY}
    with (
        tempfile.TemporaryDirectory(prefix="bench-relay-") as folder,
        _running(Path(folder), *_GATEWAY, "relay", "emulate", "--port", "0", *paths, says=True, **key) as process,
    ):
        yield Stage(process.pid, _first_line(process).replace("***", _KEY), Path(folder))


@contextmanager
def _gateway(stage: Stage) -> Iterator[int]:
    """The real gateway; gives its process id."""
    settings = {
        "AZURE_RELAY_CONNECTION_STRING": stage.string,
        "AZURE_RELAY_HYBRID_CONNECTION": "actions",
        "WORKLIST_DB_PATH": str(stage.folder / "gateway.db"),
        "GATEWAY_DICOM_HOST": "127.0.0.1",
        "GATEWAY_DICOM_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
    }
    with _running(stage.folder, *_GATEWAY, "serve", **settings) as process:
        yield process.pid


@contextmanager
def _echo(stage: Stage) -> Iterator[int]:
    """A listener that repeats what it is told; gives its process id."""
    with _running(stage.folder, *_OURS, "--echo", AZURE_RELAY_CONNECTION_STRING=stage.string) as process:
        yield process.pid


@contextmanager
def _direct(stage: Stage) -> Iterator[tuple[str, int]]:
    """A websocket server that repeats what it is told; gives a connection string for it and its process id."""
    with _running(stage.folder, *_OURS, "--direct", says=True) as process:
        yield _first_line(process), process.pid


@contextmanager
def _running(folder: Path, *arguments: str, says: bool = False, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process until the block ends; one that ``says`` something is read from its output."""
    environment = _environment(folder, **variables)
    output = subprocess.PIPE if says else subprocess.DEVNULL
    with (folder / "processes.log").open("a") as log:
        process = subprocess.Popen(arguments, env=environment, cwd=folder, text=True, stdout=output, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=_PATIENCE)


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _environment(folder: Path, **variables: str) -> dict[str, str]:
    ours = ("GATEWAY_", "AZURE_RELAY_", "WORKLIST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(folder)} | variables


async def _repeat_behind_the_relay() -> None:
    """Answer everything with itself, until stopped."""
    string = os.environ["AZURE_RELAY_CONNECTION_STRING"]

    async def repeat(message: Message) -> str:
        return str(message.data)

    await Listener(ConnectionString.parse(string).hybrid_connection("echo"), repeat).run()


async def _repeat_directly() -> None:
    """The same without a relay: the websockets library's own server."""

    async def repeat(websocket: ServerConnection) -> None:
        async for frame in websocket:
            await websocket.send(frame)

    async with serve(repeat, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(ConnectionString(Namespace("127.0.0.1", port, secure=False)).format(), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round: does it still run?")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--direct", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(_repeat_behind_the_relay())
    elif options.direct:
        asyncio.run(_repeat_directly())
    else:
        print(table(run(quick=options.quick)))
