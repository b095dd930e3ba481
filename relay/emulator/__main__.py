"""The emulator on its own: ``python -m relay.emulator serve`` runs it, ``… fault`` has something go wrong in it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from relay.emulator.certificates import AUTHORITY, self_made
from relay.emulator.faults import in_words
from relay.emulator.remote import DEFAULT_ADDRESS, RemoteEmulator
from relay.emulator.server import Emulator, EmulatorOptions
from relay.errors import RelayError
from relay.tokens import claims

DEFAULT_KEY_NAME: Final = "RootManageSharedAccessKey"


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code: 0 well, 1 unwell, 2 misused."""
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
    except RelayError as error:
        sys.stderr.write(f"relay.emulator: {error.code}: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"relay.emulator: port {given.port} can't be listened at: {error.strerror}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m relay.emulator", description="A local Azure Relay.")
    verbs = parser.add_subparsers(required=True)
    serve = verbs.add_parser(
        "serve",
        help="run it until Ctrl-C",
        epilog="Example: python -m relay.emulator serve --hybrid-connection actions --hybrid-connection events",
    )
    serve.add_argument("--hybrid-connection", action="append", required=True, metavar="NAME", help="may be repeated")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=9080, help="0 takes any free one")
    serve.add_argument("--key-name", default=DEFAULT_KEY_NAME)
    serve.add_argument("--key", help="its shared access key; without one it is made up and shown")
    serve.add_argument("--tls", type=Path, metavar="FOLDER", help=f"serve wss; {AUTHORITY} in there is to be trusted")
    serve.add_argument(
        "--bearer", action="store_true", help="take every Microsoft Entra token of good audience and age"
    )
    serve.set_defaults(run=_serve)
    fault = verbs.add_parser(
        "fault",
        help="have something go wrong; without a name: what there is",
        epilog="Example: python -m relay.emulator fault reject status=429 retry_after=5 --path actions --times 3",
    )
    fault.add_argument("name", nargs="?")
    fault.add_argument("parameters", nargs="*", metavar="PARAMETER=VALUE", default=[])
    fault.add_argument("--path", help="the hybrid connection it is kept to")
    fault.add_argument("--times", type=int, help="how often it strikes")
    fault.add_argument("--lasting", type=float, metavar="SECONDS")
    fault.add_argument("--end", action="store_true", help="end it; without a name: all")
    fault.add_argument("--at", default=DEFAULT_ADDRESS, metavar="ADDRESS")
    fault.add_argument("--ca", type=Path, metavar="FILE", help=f"the emulator's {AUTHORITY}, for https")
    fault.set_defaults(run=_fault)
    return parser


def _serve(given: argparse.Namespace) -> None:
    key = given.key or secrets.token_urlsafe(32)
    tls = self_made(given.tls, given.host) if given.tls else None
    options = EmulatorOptions(tls=tls, accepts_bearer=is_web_token if given.bearer else None)
    emulator = Emulator(
        given.host, given.port, hybrid_connections=given.hybrid_connection, keys={given.key_name: key}, options=options
    )

    def started() -> None:
        print(emulator.connection_string(given.key_name), flush=True)  # noqa: T201 - this is the command's output

    asyncio.run(serve_until_stopped(emulator, started))


def is_web_token(token: str) -> bool:
    """Whether a bearer token is a JSON web token; the emulator does not look who signed it."""
    return claims(token) is not None


async def serve_until_stopped(emulator: Emulator, started: Callable[[], None]) -> None:
    """Run an emulator until SIGTERM or Ctrl-C; ``started`` is called once it is bound.

    Raises:
        OSError: if the port cannot be bound.
    """
    async with emulator:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises there
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        started()
        await stop.wait()


def _fault(given: argparse.Namespace) -> None:
    emulator = RemoteEmulator(given.at, given.ca)
    if given.end:
        emulator.end(given.name)
    elif given.name:
        emulator.begin(given.name, **parameters(given.parameters, given.path, given.times, given.lasting))
    faults = emulator.faults()
    lines = [] if given.name or given.end else [_line(kind) for kind in faults["catalogue"]]
    lines += [f"in force: {_in_force(fault)}" for fault in faults["in_force"]] or ["in force: none"]
    print("\n".join(lines))  # noqa: T201 - this is the command's output


def _line(kind: dict[str, Any]) -> str:
    return "  ".join([f"{kind['name']:<13}", kind["summary"], *in_words(kind["parameters"])])


def _in_force(fault: dict[str, Any]) -> str:
    return " ".join([fault["name"], *in_words({key: value for key, value in fault.items() if key != "name" and value})])


def parameters(words: list[str], path: str | None, times: int | None, lasting: float | None) -> dict[str, Any]:
    """What is said of a fault on a command line, as `Faults.begin` takes it."""
    given: dict[str, Any] = dict(word.partition("=")[::2] for word in words)
    limits = {"path": path, "times": times, "lasting": lasting}
    return given | {name: value for name, value in limits.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
