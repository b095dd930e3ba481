"""What the emulator's commands share: ``python -m relay.emulator``, and whoever offers the same under another name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.emulator.faults import in_words
from relay.emulator.remote import RemoteEmulator
from relay.emulator.server import Emulator
from relay.errors import ConfigurationError, RelayError
from relay.tokens import claims

DEFAULT_KEY_NAME: Final = "RootManageSharedAccessKey"
"""The policy that every namespace of Azure Relay has from the beginning."""


# --- running an emulator


def is_web_token(token: str) -> bool:
    """Whether a bearer token is a JSON web token; the emulator does not look who signed it."""
    return claims(token) is not None


async def serve_until_stopped(emulator: Emulator, started: Callable[[], None]) -> None:
    """Run an emulator until SIGTERM or Ctrl-C; ``started`` is called once it is bound.

    Raises:
        RelayError: with the code ``port_unusable``, if it cannot listen there.
    """
    port = emulator.port
    try:
        await emulator.start()
    except (OSError, UnicodeError) as error:
        raise _unbound(error, emulator.host, port) from error
    try:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises there
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
        started()
        await stop.wait()
    finally:
        await emulator.stop()


def _unbound(error: OSError | UnicodeError, host: str, port: int) -> RelayError:
    if isinstance(error, UnicodeError | socket.gaierror):
        message, remedy = f"there is no host {host}", "Choose another --host."
    elif error.errno == errno.EADDRNOTAVAIL:
        message, remedy = f"{host} is no address of this machine", "Choose another --host; 0.0.0.0 is all of them."
    else:  # asyncio's own text repeats the address in words of its own
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        message, remedy = f"port {port} can't be listened at on {host}: {why}", "Choose another --port."
    return RelayError(message, code="port_unusable", remedy=remedy)


# --- faults


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultCommand:
    """What was said of a fault on a command line.

    Attributes:
        name: Which; without one the catalogue is asked for, or the end of all.
        words: Its parameters, as ``PARAMETER=VALUE``.
        path: The hybrid connection it is kept to.
        times: How often it strikes.
        lasting: Seconds after which it ends.
        end: Whether it is to end instead of to begin.
    """

    name: str | None
    words: Sequence[str] = ()
    path: str | None = None
    times: int | None = None
    lasting: float | None = None
    end: bool = False

    def carry_out(self, emulator: RemoteEmulator) -> dict[str, Any]:
        """Have it begin or end, and tell ``begun`` (where something was), ``in_force`` and ``catalogue``.

        Raises:
            ConfigurationError: if it cannot be said so, or the emulator refuses it.
            DialError: if no emulator answers.
        """
        parameters = self._parameters()
        begun: dict[str, Any] = {}
        if parameters and (self.end or self.name is None):
            raise ConfigurationError(
                f"{', '.join(parameters)}: only a fault that begins takes that",
                code="bad_fault",
                remedy="--end ends the faults of a name, or all, whatever they are kept to.",
            )
        if self.end:
            emulator.end(self.name)
        elif self.name is not None:
            begun = {"begun": emulator.begin(self.name, **parameters)["begun"]}
        return begun | emulator.faults()

    def _parameters(self) -> dict[str, Any]:
        """As `Faults.begin` takes them."""
        given: dict[str, Any] = dict(word.partition("=")[::2] for word in self.words)
        limits = {"path": self.path, "times": self.times, "lasting": self.lasting}
        for name in limits.keys() & given.keys():
            raise ConfigurationError(
                f"{name} is an option and no parameter", code="bad_fault", remedy=f"Say --{name} {given[name]}".rstrip()
            )
        return given | {name: value for name, value in limits.items() if value is not None}


def told(answer: dict[str, Any]) -> list[str]:
    """What was done and what is in force, in lines for people."""
    begun = answer.get("begun")
    happened = [_happened(begun)] if begun is not None and begun["times"] == 0 else []
    return happened + ([f"in force: {_in_force(fault)}" for fault in answer["in_force"]] or ["in force: none"])


def _happened(fault: dict[str, Any]) -> str:
    struck = fault["struck"]
    channels = "1 control channel" if struck == 1 else f"{struck} control channels"
    return f"{fault['name']}: {channels}" + ("" if struck else ", for nobody listens there")


def _in_force(fault: dict[str, Any]) -> str:
    limits = {name: fault[name] for name in ("path", "times") if fault[name] is not None} | {"struck": fault["struck"]}
    details = {name: value for name, value in fault.items() if name not in {"name", "path", "times", "struck"}}
    return " ".join([fault["name"], *in_words(details), *in_words(limits)])
