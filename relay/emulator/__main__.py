"""The emulator on its own: ``python -m relay.emulator serve`` runs it, ``… fault`` has something go wrong in it."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from relay.emulator.certificates import AUTHORITY, self_made
from relay.emulator.commands import DEFAULT_KEY_NAME, FaultCommand, is_web_token, serve_until_stopped, told
from relay.emulator.faults import in_words
from relay.emulator.remote import DEFAULT_ADDRESS, RemoteEmulator
from relay.emulator.server import Emulator, EmulatorOptions
from relay.errors import ConfigurationError, DialError, RelayError
from relay.tokens import SharedAccessKey

WELL, UNWELL, MISUSED, UNREACHABLE = range(4)
"""Exit codes."""

_HIGHEST_PORT: Final = 65_535


def main(arguments: list[str] | None = None) -> int:
    """Do what the arguments say; the exit code: 0 well, 1 unwell, 2 misused, 3 nobody answers."""
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
    except RelayError as error:
        sys.stderr.write(f"relay.emulator: {error.code}: {error}\n")
        if isinstance(error, ConfigurationError):
            return MISUSED
        return UNREACHABLE if isinstance(error, DialError) else UNWELL
    return WELL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m relay.emulator",
        description="A local Azure Relay.",
        epilog="Exit codes: 0 well, 1 unwell, 2 misused, 3 nobody answers.",
    )
    verbs = parser.add_subparsers(required=True)
    serve = verbs.add_parser(
        "serve",
        help="run it until Ctrl-C",
        epilog="Example: python -m relay.emulator serve --hybrid-connection actions --hybrid-connection events",
    )
    serve.add_argument("--hybrid-connection", action="append", required=True, metavar="NAME", help="may be repeated")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=9080, help="0 takes any free one")
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
    fault.add_argument("--key-name", default=DEFAULT_KEY_NAME)
    fault.add_argument("--key", help="a shared access key with the right Manage, where it runs on another machine")
    fault.set_defaults(run=_fault)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST_PORT):
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to {_HIGHEST_PORT}")
    return int(text)


def _serve(given: argparse.Namespace) -> None:
    key = secrets.token_urlsafe(32) if given.key is None else given.key
    tls = self_made(given.tls, given.host) if given.tls else None
    options = EmulatorOptions(tls=tls, accepts_bearer=is_web_token if given.bearer else None)
    emulator = Emulator(
        given.host, given.port, hybrid_connections=given.hybrid_connection, keys={given.key_name: key}, options=options
    )

    def started() -> None:
        print(emulator.connection_string(given.key_name), flush=True)  # noqa: T201 - this is the command's output

    asyncio.run(serve_until_stopped(emulator, started))


def _fault(given: argparse.Namespace) -> None:
    key = SharedAccessKey(given.key_name, given.key) if given.key else None
    command = FaultCommand(
        name=given.name,
        words=given.parameters,
        path=given.path,
        times=given.times,
        lasting=given.lasting,
        end=given.end,
    )
    answer = command.carry_out(RemoteEmulator(given.at, given.ca, key))
    catalogue = [] if given.name or given.end else [_line(kind) for kind in answer["catalogue"]]
    print("\n".join(catalogue + told(answer)))  # noqa: T201 - this is the command's output


def _line(kind: dict[str, Any]) -> str:
    return "  ".join([f"{kind['name']:<13}", kind["summary"], *in_words(kind["parameters"])])


if __name__ == "__main__":
    sys.exit(main())
