"""Faults the emulator can show on request: a catalogue, and which of them are in force.

A fault either *happens* once, to the control channels that are open now, or *lasts*: until it is ended, until it has
struck a number of ``times``, or for ``lasting`` seconds. Each may be kept to one hybrid connection (``path``).

What a fault does is written where it strikes: `relay.emulator.server`, `control` and `tampering`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from relay.errors import ConfigurationError

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One entry of the catalogue.

    Attributes:
        name: What it is called.
        summary: What whoever uses the relay sees of it.
        lasts: Whether it lasts, or happens once.
        details: Its parameters with the values they have when not given; a value's type is the parameter's.
    """

    name: str
    summary: str
    lasts: bool
    details: Mapping[str, Value] = field(default_factory=dict)


_KINDS: Final = (
    # what happens once, to the control channels that are open now
    FaultKind("deaf", "listeners stay connected, their pings are answered, and they are told of nobody again", False),
    FaultKind(
        "deregister",
        "listeners stay connected, their pings are answered, and the relay counts them no more: senders get 404",
        False,
    ),
    FaultKind("silent", "listeners keep their TCP connection and nothing else: what they say is not heard", False),
    FaultKind("cut", "the control channels' TCP connections are reset, without a close frame", False),
    FaultKind("hang-up", "the control channels' TCP connections are closed, without a close frame", False),
    FaultKind(
        "close",
        "the control channels are closed politely with a close code",
        False,
        {"code": 1011, "reason": "InternalServerError: NameRenewalFailed"},
    ),
    FaultKind("expire", "the tokens of the open control channels have expired, and so has their grace: 1008", False),
    FaultKind(
        "garbage",
        "the control channels carry a frame that is no message",
        False,
        {"frame": "{nonsense", "binary": False},
    ),
    # what lasts
    FaultKind(
        "reject",
        "requests are refused with a status; `on` is listen, connect or accept",
        True,
        {"on": "listen", "status": 503, "retry_after": 0},
    ),
    FaultKind("hang", "handshakes are left unanswered; `on` is listen, connect or accept", True, {"on": "listen"}),
    FaultKind("withhold", "no listener is told of anybody, those that come later neither: the deaf relay", True),
    FaultKind("delay", "listeners are told of each sender late", True, {"seconds": 2.0}),
    FaultKind("dead-address", "the addresses of accepts lead to a port where nobody is", True),
    FaultKind("stray-address", "the addresses of accepts lead out of the relay", True),
    FaultKind("repeat-accept", "each accept is told twice; its address works once", True),
    FaultKind("gone-sender", "senders are gone before the listener comes", True),
    FaultKind("duplicate", "each sender's first frame is delivered a second time, at a rendezvous of its own", True),
    FaultKind(
        "lost-reply",
        "what the listener answers is lost, and the sender's connection cut; with cut=false it waits in vain",
        True,
        {"cut": True},
    ),
    FaultKind("late-reply", "what the listener answers comes late", True, {"seconds": 2.0}),
    FaultKind("late-message", "what senders say first comes late", True, {"seconds": 2.0}),
    FaultKind(
        "vain-renewal",
        "renewed tokens are taken without an answer, and the control channel is closed when the old one ends: 1008",
        True,
    ),
    FaultKind("skewed-clock", "the relay's clock is ahead: tokens are expired for it, and its Date says so", True,
              {"seconds": 7200.0}),
)  # fmt: skip


def in_words(details: Mapping[str, Value]) -> list[str]:
    """Parameters as they are said on a command line: ``on=listen``, ``cut=true``."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in details.items()}
    return [f"{name}={text!r}" if " " in text else f"{name}={text}" for name, text in texts.items()]


CATALOGUE: Final[Mapping[str, FaultKind]] = {kind.name: kind for kind in _KINDS}
"""Every fault by its name."""


class Fault:
    """A fault that happened, or that lasts.

    Attributes:
        kind: What it is.
        path: The hybrid connection it is kept to; ``None`` for all.
        details: Its parameters.
        left: How often it will still strike; ``None`` for always, 0 for one that happened.
        struck: How often it has struck so far; of one that happened, how many control channels.
        over: Set when its time has come or somebody has ended it.
    """

    def __init__(self, kind: FaultKind, path: str | None, details: Mapping[str, Value], left: int | None) -> None:
        self.kind = kind
        self.path = path
        self.details = details
        self.left = left
        self.struck = 0
        self.over = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None

    def concerns(self, path: str, on: str | None) -> bool:
        """Whether it is about this hybrid connection (or what lies below it), and this action."""
        if on is not None and self.details.get("on", on) != on:
            return False
        return self.path is None or (path.strip("/") + "/").lower().startswith(self.path + "/")

    def seconds(self) -> float:
        """Its parameter ``seconds``."""
        return float(self.details["seconds"])

    def number(self, name: str) -> int:
        """One of its parameters that is a whole number."""
        return int(self.details[name])

    def as_json(self) -> dict[str, Any]:
        """For people and programs."""
        limits = {"path": self.path, "times": self.left, "struck": self.struck}
        return {"name": self.kind.name, **limits, **self.details}


class ControlChannelEnd(Protocol):
    """The relay's end of a control channel, as far as faults need it."""

    @property
    def path(self) -> str:
        """The hybrid connection it listens on, as asked for."""
        ...

    async def suffer(self, fault: str, details: Mapping[str, Value]) -> None:
        """Have this happen to it."""
        ...


class Faults:
    """What goes wrong. Everything is off at first. To be used on the emulator's event loop.

    Args:
        channels: The control channels that are open now.
        leads_somewhere: Whether a path leads to a hybrid connection.

    Attributes:
        accept_address: Rewrites the address of every accept; a hook for what the catalogue does not have.
    """

    def __init__(
        self, channels: Callable[[], Iterable[ControlChannelEnd]], leads_somewhere: Callable[[str], bool]
    ) -> None:
        self._channels = channels
        self._leads_somewhere = leads_somewhere
        self._in_force: list[Fault] = []
        self.accept_address: Callable[[str], str] | None = None

    @property
    def in_force(self) -> tuple[Fault, ...]:
        """The faults that will strike."""
        return tuple(fault for fault in self._in_force if fault.left != 0)

    async def begin(
        self,
        name: str,
        /,
        *,
        path: str | None = None,
        times: int | None = None,
        lasting: float | None = None,
        **details: Value,
    ) -> Fault:
        """Have a fault happen, or begin to last.

        Args:
            name: One of `CATALOGUE`.
            path: The hybrid connection it is kept to.
            times: How often it strikes before it ends by itself; only for one that lasts.
            lasting: Seconds after which it ends by itself; only for one that lasts.
            details: Its parameters, as the catalogue names them.

        Returns:
            The fault, which is in force now; of one that only happened it tells how many control channels it struck.

        Raises:
            ConfigurationError: if there is no such fault, hybrid connection or parameter, or a value cannot be used.
        """
        kind = _known(name)
        given = {**kind.details, **{key: _converted(kind, key, value) for key, value in details.items()}}
        fault = Fault(kind, self._where(path), given, times if kind.lasts else 0)
        if not kind.lasts:
            if times is not None or lasting is not None:
                raise ConfigurationError(f"{name} happens once: it takes neither times nor lasting", code="bad_fault")
            await self._happen(fault)
            return fault
        _check_limits(times, lasting)
        self._in_force.append(fault)
        if lasting is not None:
            fault.timer = asyncio.get_running_loop().call_later(lasting, self._end, fault)
        return fault

    def _where(self, path: str | None) -> str | None:
        where = (path or "").strip("/").lower()
        if where and not self._leads_somewhere(where):
            raise ConfigurationError(
                "there is no such hybrid connection",
                code="unknown_path",
                remedy="The path is the name of one of the emulator's; without a path a fault is about all of them.",
            )
        return where or None

    def end(self, name: str | None = None) -> None:
        """End the faults of this name, or all of them.

        Raises:
            ConfigurationError: if there is no such fault.
        """
        if name is not None:
            _known(name)
        for fault in list(self._in_force):  # those that have struck for the last time still hold somebody up
            if name is None or fault.kind.name == name:
                self._end(fault)

    def looming(self, name: str, path: str, *, on: str | None = None) -> Fault | None:
        """The fault of this name that would strike here now."""
        return next((each for each in self.in_force if each.kind.name == name and each.concerns(path, on)), None)

    def strike(self, name: str, path: str, *, on: str | None = None) -> Fault | None:
        """The fault of this name that strikes here now, if one does; it has struck once more then."""
        fault = self.looming(name, path, on=on)
        if fault is not None:
            fault.struck += 1
            fault.left = None if fault.left is None else fault.left - 1
        return fault

    def _end(self, fault: Fault) -> None:
        if fault in self._in_force:
            self._in_force.remove(fault)
        if fault.timer is not None:
            fault.timer.cancel()
        fault.over.set()

    async def _happen(self, fault: Fault) -> None:
        channels = [channel for channel in self._channels() if fault.concerns(channel.path, None)]
        fault.struck = len(channels)
        await asyncio.gather(*(channel.suffer(fault.kind.name, fault.details) for channel in channels))


def _known(name: str) -> FaultKind:
    kind = CATALOGUE.get(name)
    if kind is None:
        known = ", ".join(CATALOGUE)
        raise ConfigurationError("there is no such fault", code="unknown_fault", remedy=f"There are: {known}.")
    return kind


_ACTIONS: Final = ("listen", "connect", "accept")

_DAY: Final = 86_400
_OFTEN: Final = 1_000_000


def _check_limits(times: int | None, lasting: float | None) -> None:
    """Whether a fault can be kept to that; no comparison holds for what is not a number."""
    if times is not None and not 1 <= times <= _OFTEN:
        raise ConfigurationError(f"times is a number from 1 to {_OFTEN}", code="bad_fault")
    if lasting is not None and not 0 < lasting <= _DAY:
        raise ConfigurationError(f"lasting is a number of seconds, more than 0 and at most {_DAY}", code="bad_fault")


def _converted(kind: FaultKind, key: str, value: Value) -> Value:
    """A parameter's value in the type that the catalogue gives it; texts are read."""
    if key not in kind.details:
        known = ", ".join(kind.details) or "none"
        raise ConfigurationError(
            f"{kind.name} has no parameter {key}", code="bad_fault", remedy=f"Its parameters: {known}."
        )
    try:
        converted = _read(type(kind.details[key]), value)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"the {key} of {kind.name} cannot be used", code="bad_fault") from None
    if not _is_possible(key, converted):
        raise ConfigurationError(f"the {key} of {kind.name} is out of range", code="bad_fault")
    return converted


def _read(wanted: type, value: Value) -> Value:
    if wanted is bool:
        words = {"true": True, "false": False}
        if str(value).lower() not in words:
            raise ValueError
        return words[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - one answer for whatever cannot be used
    if wanted is str:
        return _sendable(str(value))
    return _whole(value) if wanted is int else _finite(value)


def _sendable(text: str) -> str:
    """The text, if it can be written to the wire: half a surrogate pair, which JSON can carry, cannot."""
    text.encode()
    return text


def _finite(value: Value) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _whole(value: Value) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError
    return number


def _is_possible(key: str, value: Value) -> bool:
    match key:
        case "on":
            return value in _ACTIONS
        case "status":
            return 400 <= int(value) <= 599
        case "code":
            return 1000 <= int(value) <= 4999 and value not in {1004, 1005, 1006, 1015}
        case "retry_after" | "seconds":
            return 0 <= float(value) <= _DAY
    return True
