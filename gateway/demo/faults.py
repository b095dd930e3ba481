"""`gateway demo --fault NAME`: something goes wrong while an appointment travels, and nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from gateway.demo.story import PATIENCE, Hospital, Narrator, Tell, examine, hospital
from gateway.demo.web_app import SAMPLES, Participant
from gateway.errors import InvalidValue
from gateway.settings import Settings
from projections.outbox import OutboxRow
from projections.worklist import WorklistFilter
from relay import ListenerState, ListenerStatus, RelayError
from relay.emulator import CATALOGUE, EmulatorOptions, Fault

SCALED: Final = {
    "gateway_relay_echo_seconds": 1.0,
    "gateway_relay_echo_timeout_seconds": 1.0,
    "gateway_relay_ping_seconds": 1.0,
    "gateway_relay_ping_timeout_seconds": 1.0,
}
"""The demo looks for deafness every second instead of every minute, so that nobody has to wait for it."""

_RELAY: Final = EmulatorOptions(accept_window=2.0, token_grace=1.0)
_WEB_APP_PATIENCE: Final = 2.0
_PAUSE: Final = 0.3


@dataclass(frozen=True)
class _Plot:
    """How a fault is shown: with which parameters on which hybrid connection, and whether the control channel is cut.

    `scaled` are settings of the gateway's without which nobody would live to see it.

    One that strikes frames strikes the gateway's own echoes too: so it lasts, where a number of times might miss what
    the web app says.
    """

    actions: dict[str, Any] = field(default_factory=dict)
    events: dict[str, Any] | None = None
    cut: bool = False
    scaled: dict[str, float] = field(default_factory=dict)


_PLOTS: Final[dict[str, _Plot]] = {
    "reject": _Plot({"times": 2}, cut=True),
    "hang": _Plot({"lasting": 2.0}, cut=True),
    "withhold": _Plot({"lasting": 3.0}),
    "delay": _Plot({"seconds": 1.0, "lasting": 3.0}),
    "dead-address": _Plot({"lasting": 1.0}),
    "stray-address": _Plot({"lasting": 1.0}),
    "repeat-accept": _Plot({"lasting": 1.0}),
    "gone-sender": _Plot({"lasting": 1.0}),
    "duplicate": _Plot({"lasting": 1.0}, {"times": 1}),
    "lost-reply": _Plot({"lasting": 0.5}, {"times": 1}),
    "late-reply": _Plot({"seconds": 2.5, "lasting": 0.5}, {"seconds": 2.5, "times": 1}),
    "late-message": _Plot({"seconds": 0.5, "lasting": 1.0}),
    "vain-renewal": _Plot({"lasting": 4.0}, scaled={"gateway_relay_token_seconds": 2.0}),
    "skewed-clock": _Plot({"lasting": 2.0}, cut=True),
}
"""Of the faults that last. What happens once, happens to the actions' control channel."""


async def play_fault(settings: Settings, name: str, tell: Tell) -> bool:
    """Play one fault of `relay.emulator.CATALOGUE`; returns whether nothing was lost. Raises `InvalidValue`."""
    if name not in CATALOGUE:
        raise InvalidValue(f"--fault: there is {', '.join(CATALOGUE)}", field="fault")
    narrator, scaled = Narrator(tell), SCALED | _plot(name).scaled
    async with hospital(settings, narrator, any_port=True, relay=_RELAY, patience=_WEB_APP_PATIENCE, **scaled) as staff:
        hearing = _Hearing(staff, narrator)
        replies = [await _schedule(staff, narrator, SAMPLES[0])]
        faults = await _begin(staff, narrator, name)
        replies += [await _schedule(staff, narrator, participant) for participant in SAMPLES[1:]]
        told = await examine(staff, narrator, SAMPLES[1].accession_number)
        well = await hearing.until_well()
        struck = sum(fault.struck for fault in faults)
        narrator.hop("demo", f"{name} struck {struck} time{'' if struck == 1 else 's'}")
        return _account(staff, narrator, replies) and told and well


def _plot(name: str) -> _Plot:
    return _PLOTS.get(name, _Plot())


async def _begin(staff: Hospital, narrator: Narrator, name: str) -> list[Fault]:
    plot = _plot(name)
    narrator.hop("relay", f"{name}: {CATALOGUE[name].summary}")
    faults = [await staff.emulator.faults.begin(name, path="actions", **plot.actions)]
    if plot.events is not None:
        faults.append(await staff.emulator.faults.begin(name, path="events", **plot.events))
    if plot.cut:
        narrator.hop("relay", "cuts the gateway's control channel, so that it has to come again")
        await staff.emulator.faults.begin("cut", path="actions")
    return faults


async def _schedule(staff: Hospital, narrator: Narrator, participant: Participant) -> dict[str, Any]:
    """The web app says it with the same action_id until it is answered."""
    action_id = str(uuid4())
    while True:
        try:
            reply = await staff.web_app.schedule(participant, staff.date, action_id)
        except RelayError as error:
            narrator.hop(
                "web app", f"has no answer for {participant.accession_number} ({error.phase}: {error.message})"
            )
            await asyncio.sleep(_PAUSE)
        else:
            narrator.scheduled(participant, reply)
            return reply


class _Hearing:
    """Tells what the gateway says of its control channel."""

    def __init__(self, staff: Hospital, narrator: Narrator) -> None:
        self._staff = staff
        self._narrator = narrator
        staff.service.on_relay_state = self._note

    def _note(self, status: ListenerStatus) -> None:
        why = f": {status.last_error}" if status.state in {ListenerState.DEAF, ListenerState.BACKING_OFF} else ""
        self._narrator.hop("gateway", f"is {status.state}{why}")

    async def until_well(self) -> bool:
        """Wait until the fault is over, the gateway is heard, and the web app is owed nothing; then tell no more."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await asyncio.to_thread(self._is_well):  # noqa: ASYNC110  three things, no one event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return False
        finally:
            self._staff.service.on_relay_state = lambda _: None
        return True

    def _is_well(self) -> bool:
        listener = self._staff.service.listener
        heard = listener is not None and listener.state is ListenerState.HEARING
        return heard and not self._staff.emulator.faults.in_force and not _owed(self._staff)


def _owed(staff: Hospital) -> list[OutboxRow]:
    return staff.service.gateway.find_updates(state="waiting")


def _account(staff: Hospital, narrator: Narrator, replies: list[dict[str, Any]]) -> bool:
    """What was asked, stored and told, and whether that is the same."""
    stored = staff.service.gateway.find_items(WorklistFilter())
    events = staff.web_app.received
    whole = (
        [reply["status"] for reply in replies] == ["created"] * len(SAMPLES)
        and len(stored) == len(SAMPLES)
        and [event["sequence"] for event in events] == [1, 2]
        and not _owed(staff)
    )
    status = staff.service.listener.status() if staff.service.listener else None
    narrator.hop(
        "demo",
        f"{len(replies)} appointments answered, {len(stored)} stored; {len(events)} statuses told, "
        f"{staff.web_app.repeats} came again and changed nothing; control channel "
        f"{_became(status.reconnects if status else 0)}",
    )
    narrator.hop(
        "demo", "nothing was lost, nothing happened twice" if whole else "something was LOST or happened TWICE"
    )
    return whole


def _became(reconnects: int) -> str:
    """What became of the control channel."""
    if reconnects == 0:
        return "stayed open"
    return "opened anew " + ("once" if reconnects == 1 else f"{reconnects} times")
