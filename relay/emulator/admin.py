"""The emulator's own door for people and programs: what it does, and what shall go wrong.

Plain HTTP below ``/-/``, where no hybrid connection can be (their names begin with a letter or a digit):

==============================  =====================================================================================
``GET /-/``                     hybrid connections with their listeners, the faults in force, counts of what happened
``GET /-/faults``               the catalogue, and the faults in force
``POST /-/faults/NAME``         have a fault happen or begin; JSON: ``path``, ``times``, ``lasting``, its parameters.
                                Tells it (``begun``; ``struck``: how many control channels) and the faults in force
``DELETE /-/faults[/NAME]``     end the faults of that name, or all
``GET /-/log``                  the last things that happened, oldest first; ``?after=NUMBER``: the first ones after
                                that, so that a long run can be followed without gaps
==============================  =====================================================================================

From this machine it needs no token, from another one a namespace-wide token with the right Manage.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from relay.emulator.access import Right
from relay.emulator.calls import Call, Refusal
from relay.emulator.faults import CATALOGUE, FaultKind
from relay.emulator.http import Exchange
from relay.emulator.log import Entry
from relay.errors import ConfigurationError
from relay.protocol import Response

if TYPE_CHECKING:
    from relay.emulator.server import Emulator

PREFIX: Final = "-/"

LOG_LENGTH: Final = 1000
"""Entries that one answer holds."""


class Admin:
    """Answers for one emulator."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def answer(self, call: Call, exchange: Exchange) -> None:
        """Answer a request.

        Raises:
            Refusal: 401 or 403 to a stranger, 404 to whoever asks for what is not there.
        """
        if not self._is_from_here(call):
            self._emulator.check(call, Right.MANAGE)
        what, _, name = call.path.removeprefix(PREFIX).strip("/").partition("/")
        try:
            status, answer = 200, await self._do(call, what, name, exchange.body)
        except ConfigurationError as error:
            status, answer = 400, {"code": error.code, "message": error.message, "remedy": error.remedy}
        body = json.dumps(answer, indent=2).encode() + b"\n"
        exchange.respond(Response(exchange.id, status, "", {"Content-Type": "application/json"}, True), body)

    async def _do(self, call: Call, what: str, name: str, body: bytes) -> Any:  # noqa: ANN401 - JSON
        faults = self._emulator.faults
        match call.method, what:
            case "GET", "":
                return self._overview()
            case "GET", "log":
                return [asdict(entry) for entry in self._happened(call.argument("after"))]
            case "GET", "faults":
                return {"in_force": self._in_force(), "catalogue": [as_json(kind) for kind in CATALOGUE.values()]}
            case "POST", "faults":
                begun = await faults.begin(name, **_parameters(body))
                return {"begun": begun.as_json(), "in_force": self._in_force()}
            case "DELETE", "faults":
                faults.end(name or None)
            case _:
                raise Refusal(404, "NotFound: The emulator answers at /-/, /-/faults, /-/faults/NAME and /-/log")
        return {"in_force": self._in_force()}

    def _is_from_here(self, call: Call) -> bool:
        try:
            return ip_address(call.remote.address).is_loopback
        except ValueError:
            return False

    def _in_force(self) -> list[dict[str, Any]]:
        return [fault.as_json() for fault in self._emulator.faults.in_force]

    def _happened(self, after: str | None) -> list[Entry]:
        """What the log answers: what came after that number, or the last things without one."""
        log = self._emulator.log
        if after is None:
            return list(log.entries)[-LOG_LENGTH:]
        if not (after.isascii() and after.isdigit()):
            raise ConfigurationError("after is the number of an entry, or 0", code="bad_number")
        return log.after(int(after), LOG_LENGTH)

    def _overview(self) -> dict[str, Any]:
        emulator = self._emulator
        counts = Counter(f"{entry.what} {entry.status}" for entry in emulator.log.entries)
        return {
            "hybrid_connections": [{"path": path, "listeners": emulator.listeners(path)} for path in emulator.paths],
            "in_force": self._in_force(),
            "happened": dict(sorted(counts.items())),
        }


def as_json(kind: FaultKind) -> dict[str, Any]:
    """An entry of the catalogue."""
    return {"name": kind.name, "summary": kind.summary, "lasts": kind.lasts, "parameters": dict(kind.details)}


def _parameters(body: bytes) -> dict[str, Any]:
    """The JSON object of a request."""
    try:
        given = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or not all(_is_usable(key, value) for key, value in given.items()):
        raise ConfigurationError(
            "the parameters are no JSON object with values of the right kinds",
            code="bad_fault",
            remedy='Such as {"path": "actions", "times": 3, "lasting": 2.5}.',
        )
    return given


def _is_usable(key: str, value: object) -> bool:
    kinds = {"path": str, "times": int, "lasting": int | float}
    if isinstance(value, float) and not math.isfinite(value):
        return False  # JSON has no such numbers; Python reads them
    return isinstance(value, kinds.get(key, str | int | float)) and not (key in kinds and isinstance(value, bool))
