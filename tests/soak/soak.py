"""The soak: a gateway, a relay, a web app and modalities, and rounds of trouble with calm in between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relay import ListenerOptions, ListenerState
from tests.end_to_end.evidence import Span
from tests.end_to_end.examiner import Examiner
from tests.end_to_end.harness import GatewayProcess, RelayProcess, running
from tests.end_to_end.witnesses import Habits, Witnesses
from tests.soak import memory
from tests.soak.bad_peers import BadPeers
from tests.soak.logs import complaints_about, leaks_in, refused_dials
from tests.soak.record import Record, Round, Struck
from tests.soak.relay_watch import RelayWatch
from tests.soak.trouble import Act, Dealer, Trouble

SCALED: dict[str, object] = {
    "gateway_relay_echo_seconds": 0.5,
    "gateway_relay_echo_timeout_seconds": 1,
    "gateway_relay_ping_seconds": 1,
    "gateway_relay_ping_timeout_seconds": 1,
    "gateway_relay_token_seconds": 20,
    "gateway_relay_token_margin_seconds": 2,
    "gateway_relay_first_retry_seconds": 0.1,
    "gateway_relay_longest_retry_seconds": 2,
    "gateway_relay_healthy_after_seconds": 1,
    "gateway_relay_event_longest_retry_seconds": 5,
}
"""The gateway's times, a hundred times shorter than its defaults: deafness is noticed within 2.5 s."""

LISTENING = ListenerOptions(
    echo_interval=(0.25, 0.5),
    echo_timeout=1.0,
    ping_interval=1.0,
    ping_timeout=1.0,
    token_lifetime=timedelta(seconds=20),
    token_margin=2.0,
    first_retry=0.1,
    longest_retry=2.0,
    healthy_after=1.0,
)
"""The web app's, alike."""

HABITS = Habits(senders=8, units=4, backlog=40, listening=LISTENING, delays=(0, 0, 0, 0.01, 0.05, 0.3, 2.0))

_GIVEN_UP = 60.0
"""Seconds after which nobody waits for health any more."""

_SETTLED_WITHIN = 150.0
"""Seconds for the last status events: one whose rendezvous hangs takes 30, and so may the next one of its item."""

_HELD_UP = 2.0
"""Seconds by which an answer may be late when it gets lost."""

_LATEST_REPEAT = 30.0
"""Seconds for which the emulator goes on trying to deliver a frame a second time."""


class StoppedByComplaint(Exception):
    """Something was seen that must never be: no use in going on."""


@dataclass
class Soak:
    """One soak in a folder of its own; `tell` is given a line for people, now and then."""

    folder: Path
    seed: int
    minutes: float
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self.record = Record()
        self.relay = RelayProcess(self.folder / "relay")
        self.gateway = GatewayProcess(self.folder / "gateway", self.relay, **SCALED)
        self.watch = RelayWatch(self.relay, self.record)
        self.witnesses = Witnesses(self.relay, self.gateway.dicom_port, self.seed, HABITS)
        self.examiner = Examiner(self.witnesses, self.gateway, self.folder / "copy")
        self.state = "starting"
        self.kills = self.deaths = self.relay_deaths = 0
        self._dice = random.Random(self.seed)
        self._dealer = Dealer(self._dice)
        self._bad_peers = BadPeers(self.gateway.dicom_port, random.Random(self.seed))
        self._born = 0.0
        self._began = time.monotonic()
        self._over = threading.Event()

    # --- from beginning to end

    def run(self) -> None:
        """Play it; what was complained of is in `complaints` afterwards."""
        reporting = threading.Thread(target=self._report, name="report", daemon=True)
        with running(self.relay, self.gateway):
            try:
                self.watch.begin()
                self._launch()
                self.gateway.until_health(lambda report: report["healthy"], "the gateway is up", _GIVEN_UP)
                self.witnesses.begin()
                reporting.start()
                self._make_trouble()
                self._conclude()
            except StoppedByComplaint:
                self.tell("stopped at the first complaint")
            finally:
                self._over.set()
                self.witnesses.end()

    @property
    def complaints(self) -> list[str]:
        """What must never be, and was seen."""
        return self.witnesses.known.complaints

    def _make_trouble(self) -> None:
        """Of all kinds; in the second half the gateway is not killed any more, and must hold no more in the end."""
        ends = self._began + 60 * self.minutes
        calm_since = self._calm()
        while time.monotonic() < ends:
            number = len(self.record.rounds) + 1
            self.state = f"round {number}"
            began = time.monotonic()
            self._close_round(calm_since, began)
            self._play(self._dealer.round(kills=ends - began > 30 * self.minutes), began)
            calm_since = self._recover(Span(began, time.monotonic()))
        self._close_round(calm_since, time.monotonic())

    def _calm(self) -> Round:
        now = time.monotonic()
        return Round(Span(now, now), now, now, now)

    def _close_round(self, last: Round, until: float) -> None:
        self.record.rounds.append(Round(last.trouble, last.healthy_at, last.web_app_healthy_at, until))
        self._stop_if_anybody_complains()

    def _stop_if_anybody_complains(self) -> None:
        if self.complaints:
            raise StoppedByComplaint

    # --- a round

    def _play(self, troubles: list[Trouble], began: float) -> None:
        over = began
        for trouble in troubles:
            _sleep_until(began + trouble.at)
            self._require_that_it_runs()
            match trouble.act:
                case Act.FAULT:
                    over = max(over, self._strike(trouble))
                case Act.BAD_PEERS:
                    over = max(over, self._let_in(trouble))
                case Act.KILL_GATEWAY:
                    self._kill_gateway()
                case Act.KILL_RELAY:
                    self._kill_relay(trouble)
        _sleep_until(over)
        self.watch.remote.end()
        self._bad_peers.end()

    def _strike(self, trouble: Trouble) -> float:
        """Have a fault happen or begin; when it is over."""
        began = time.monotonic()
        self.watch.remote.begin(trouble.name, **trouble.parameters())
        over = time.monotonic() + (trouble.lasting or 0.0)
        self.record.struck.append(Struck(trouble, Span(began, over)))
        return over

    def _let_in(self, trouble: Trouble) -> float:
        """Have bad peers come; when they leave."""
        began = time.monotonic()
        self._bad_peers.begin(trouble.name)
        over = time.monotonic() + (trouble.lasting or 0.0)
        self.record.struck.append(Struck(trouble, Span(began, over)))
        return over

    def _kill_gateway(self) -> None:
        self.gateway.kill()
        self.kills += 1
        self._note_death()
        self._look(everything=self.deaths % 10 == 0)
        self._launch()

    def _note_death(self) -> None:
        self.deaths += 1
        self.record.lives.append(Span(self._born, time.monotonic()))

    def _launch(self) -> None:
        self._born = time.monotonic()
        self.gateway.launch()

    def _kill_relay(self, trouble: Trouble) -> None:
        """The faults that are in force die with it."""
        self.relay_deaths += 1
        began = time.monotonic()
        self.watch.kill_relay()
        time.sleep(self._dice.uniform(0, 1.5))
        self.watch.start_relay()
        self.record.struck.append(Struck(trouble, Span(began, time.monotonic())))

    def _require_that_it_runs(self) -> None:
        if not self.gateway.running:
            self._complain(f"the gateway has ended by itself:\n{self.gateway.tail()}")
            raise StoppedByComplaint

    def _recover(self, trouble: Span) -> Round:
        """Wait until both sides have proven anew that they hear, then leave them in peace for a while."""
        self.state = f"{self.state}, recovering"
        since = datetime.now(UTC)
        gateway_at = web_app_at = 0.0
        while not (gateway_at and web_app_at):
            now = time.monotonic()
            if not gateway_at and self._gateway_proven_since(since):
                gateway_at = time.monotonic()
            if not web_app_at and self._web_app_proven_since(since):
                web_app_at = time.monotonic()
            if now - trouble.end > _GIVEN_UP:
                self._complain(f"deaf: not healthy {_GIVEN_UP:.0f} s after {self._last_troubles(trouble)}")
                raise StoppedByComplaint
            self._require_that_it_runs()
            time.sleep(0.02)
        self.state = self.state.removesuffix(", recovering") + ", calm"
        calm = Round(trouble, gateway_at, web_app_at, web_app_at)
        self._note_slowness(calm)
        time.sleep(self._dice.uniform(0.5, 2))
        self._look_at_memory()
        return calm

    def _look_at_memory(self) -> None:
        if self.gateway.process and (moment := memory.look_at(self.gateway.process.pid, time.monotonic(), self.deaths)):
            self.record.moments.append(moment)

    def _note_slowness(self, calm: Round) -> None:
        slowest = max(calm.healthy_at, calm.web_app_healthy_at) - calm.trouble.end
        if slowest > 5:
            self.tell(f"  healthy only after {slowest:.1f} s: {self._last_troubles(calm.trouble)}")

    def _last_troubles(self, span: Span) -> str:
        return "; ".join(str(each.trouble) for each in self.record.struck if span.begin <= each.span.begin <= span.end)

    def _gateway_proven_since(self, moment: datetime) -> bool:
        answer = self.gateway.health()
        if answer is None or not answer[1]["healthy"]:
            return False
        proof = answer[1]["checks"]["relay"]["last_proof"]
        return proof is not None and datetime.fromisoformat(proof) > moment

    def _web_app_proven_since(self, moment: datetime) -> bool:
        status = self.witnesses.listener.status()
        return bool(status.state is ListenerState.HEARING and status.last_proof and status.last_proof > moment)

    # --- the end

    def _conclude(self) -> None:
        self.state = "finishing what was begun"
        self.witnesses.finish_what_was_begun()
        self.state = "the last events are delivered"
        self._stop_politely()
        self._launch()
        self.gateway.until_health(lambda report: report["healthy"], "the gateway is up again", _GIVEN_UP)
        self.gateway.until_settled(_SETTLED_WITHIN)
        self.state = "examined"
        self.watch.end()
        self._explain_repeats()
        self.examiner.conclude()
        self.record.lives.append(Span(self._born, time.monotonic()))
        self._read_logs()
        self.record.answers = sorted(self.witnesses.known.answers)
        self.complaints.extend(self.record.complaints())
        if self.watch.gaps:
            self._complain(f"the relay's log was not followed without gaps: {self.watch.gaps}")

    def _stop_politely(self) -> None:
        code = self.gateway.stop()
        self._note_death()
        if code != 0:
            self._complain(f"asked to stop, the gateway ended with {code}:\n{self.gateway.tail()}")
        self._look(everything=True)

    def _look(self, *, everything: bool) -> None:
        self._explain_repeats()
        self.examiner.look(everything=everything)

    def _explain_repeats(self) -> None:
        """When the relay may have lost answers or said things twice: whatever else there was is no excuse."""
        struck = self.record.struck
        self.examiner.losing = [
            Span(each.span.begin - _HELD_UP, each.span.end) for each in struck if _loses_answers(each.trouble)
        ]
        self.examiner.repeating = _repeating(struck, "events")
        self.examiner.resending = _repeating(struck, "actions")

    def _complain(self, complaint: str) -> None:
        self.complaints.append(complaint)

    def _read_logs(self) -> None:
        log = self.gateway.err.read_text("utf-8", "replace")
        self.record.refused = refused_dials(log)
        self.complaints.extend(complaints_about(log, deaths=self.deaths))
        for process in (self.gateway, self.relay):
            self.complaints.extend(f"{process.name}: {leak}" for leak in leaks_in(process.output()))

    # --- telling

    def _report(self) -> None:
        while not self._over.wait(10):
            self.tell(self.progress())

    def progress(self) -> str:
        """Where it stands, in one line."""
        known, faults = self.witnesses.known, sum(each.trouble.act is Act.FAULT for each in self.record.struck)
        messages = sum(len(step.created) + len(step.finished) for step in list(known.steps))
        return (
            f"{time.monotonic() - self._began:5.0f} s  {len(known.answers)} answers to actions, {messages} MPPS, "
            f"{len(known.settled())} events acknowledged, {faults} faults, {self.kills} kills of the gateway, "
            f"{self.relay_deaths} of the relay, {self._holds()}: {self.state}"
        )

    def _holds(self) -> str:
        moment = next(reversed(self.record.moments), None)
        return f"{moment.resident_mib:.0f} MiB, {moment.descriptors} open files" if moment else "not yet looked at"


def _loses_answers(trouble: Trouble) -> bool:
    """Whether an answer of the web app may get lost by it."""
    return trouble.act is Act.KILL_RELAY or (trouble.name == "lost-reply" and trouble.concerns("events"))


def _repeating(struck: list[Struck], path: str) -> list[Span]:
    """When a frame may have been delivered twice."""
    spans = [each.span for each in struck if each.trouble.name == "duplicate" and each.trouble.concerns(path)]
    return [Span(span.begin, span.end + _LATEST_REPEAT) for span in spans]


def _sleep_until(moment: float) -> None:
    """The pauses between troubles are meant to be out of step with everybody."""
    time.sleep(max(0.0, moment - time.monotonic()))
