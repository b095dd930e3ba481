"""Microsoft's own relay clients from npm, for whoever wants to test against them.

``hyco`` is a pytest fixture; import it into a ``conftest.py``. It installs the packages once, whoever comes first, and
says where the scripts are. Without node or npm the test is skipped, except in CI, where that is a failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop.npm import installed

HERE = Path(__file__).parent
LINE_LIMIT = 32 * 1024 * 1024


@dataclass(frozen=True)
class Hyco:
    """Where the scripts are, and how to run them."""

    node: str
    listener: Path = HERE / "listener.js"
    sender: Path = HERE / "sender.js"
    http_listener: Path = HERE / "http-listener.js"
    http_sender: Path = HERE / "http-sender.js"

    @asynccontextmanager
    async def run(
        self, script: Path, namespace: str, path: str, *arguments: str, key: tuple[str, str], ca: Path | None = None
    ) -> AsyncIterator[Node]:
        """Run a script against the relay at ``ws://HOST:PORT``, or at ``wss://HOST:443``, until the block ends.

        ``ca`` is the certificate authority it trusts besides the usual ones.
        """
        trusted = {"NODE_EXTRA_CA_CERTS": str(ca)} if ca else {}
        process = await asyncio.create_subprocess_exec(
            self.node, str(script), namespace, path, *arguments,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, env=environment(*key) | trusted, limit=LINE_LIMIT,
        )  # fmt: skip
        try:
            yield Node(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


class Node:
    """A running script: JSON lines out, text lines in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def event(self, kind: str, *, timeout: float = 20.0) -> dict[str, Any]:
        """The next event of this kind; others before it are passed over."""
        async with asyncio.timeout(timeout):
            while True:
                event = await self._next()
                assert event is not None, f"the script ended before it said {kind}"
                if event["type"] == kind:
                    return event

    async def events(self, *, timeout: float = 60.0) -> list[dict[str, Any]]:
        """All that is left to come, until the script ends."""
        found = []
        async with asyncio.timeout(timeout):
            while (event := await self._next()) is not None:
                found.append(event)
        return found

    async def say(self, *lines: str) -> None:
        """Give it all its input, and the end of it."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.process.stdin.write_eof()
        await self.process.stdin.drain()

    async def _next(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        return json.loads(line) if line else None


def environment(key_name: str, key: str) -> dict[str, str]:
    """The environment of a script: ours, with the key and without proxies."""
    ours = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**ours, "AZURE_RELAY_KEY_NAME": key_name, "AZURE_RELAY_SHARED_ACCESS_KEY": key}


@pytest.fixture(scope="session")
def hyco() -> Hyco:
    """Microsoft's clients, installed."""
    return Hyco(installed(HERE, "Microsoft's relay clients"))
