"""The listener: one control channel that is always open, and a meeting with each sender that knocks.

Laws:

1. It never gives up: every close code and every refusal, 404 included, leads to another dial, within `pace`'s limits.
2. A token is renewed on the open channel between 50 and 80 % of its life, so that no sender notices, and the renewal is
   proven by an echo. While the credential has no newer one (Microsoft Entra's gives the same until shortly before its
   end), or none at all, it is asked again and again, at 50 to 80 % of what is left. What is not proven shortly before
   the old token's end gets a second channel.
3. Whatever the control channel says, the listener survives it.
4. *Connected* is not *hearing*: that is proven by an echo through the relay, again and again (`relay.proof`). Two tries
   that are missed in a row are deafness: a new channel is opened first, then the deaf one is dropped. A channel that is
   told of any sender meanwhile is not deaf: the echoes were for another listener of this hybrid connection, which is.
5. Waits between dials start small again only after health was proven for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, Literal, NoReturn

from websockets.exceptions import ConnectionClosed

from relay.channel import MISSES, Channel
from relay.connection_string import HybridConnection
from relay.dial import CLOSE_TIMEOUT, DialOptions, dial, fresh_token
from relay.errors import ChannelError, ConfigurationError, ControlMessageError, Phase, RelayError
from relay.failures import Failure, Failures
from relay.pace import JITTER, Backoff, DialRate, Limit
from relay.proof import INSISTENT, Echoes, Finding, Verdict
from relay.protocol import MAX_CONTROL_MESSAGE, RenewToken, clock_skew
from relay.rendezvous import Handler, RendezvousDesk, RendezvousOptions
from relay.tokens import DEFAULT_LIFETIME, TOKEN_HEADER

LOG: Final = logging.getLogger("relay.listener")

_TRIES: Final = 5
"""Echoes in quick succession that may reach somebody else before we go on without knowing."""

_SOON: Final = 2.0
"""Seconds until it is tried again when there is no proof yet: among 25 listeners, ours is chosen within a minute."""

_NO_ROOM: Final = 429
"""Status of a control channel that is one too many: the deaf one may be among those that are counted."""

_LONG_PAUSE: Final = 20
"""How many times rarer we try an echo that is not allowed: the right may be given any day."""

_LEAST_PAUSE: Final = 0.05

_DEAF_CLOSE_TIMEOUT: Final = 1.0
"""Seconds a deaf channel has to close politely: while it stands, the relay may still choose it for senders."""


class ListenerState(StrEnum):
    """What the listener can truthfully say of itself. *Connected* and *hearing* are two things.

    ``connecting`` lasts until the first proof, ``deaf`` is connected without proof, ``backing off`` waits to dial. What
    says nothing (an echo that reached another listener, one for which there is no token) changes no state.
    """

    CONNECTING = "connecting"
    HEARING = "hearing"
    DEAF = "deaf"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """The listener at one moment.

    Attributes:
        state: What it is doing.
        since: When it began to (UTC).
        connected_at: When the present control channel was opened; ``None`` without one.
        last_error: The last failure with its phase and remedy; kept after recovery. No secrets in it.
        last_error_at: When that was.
        reconnects: Control channels opened after the first one.
        token_since: When the present token was first shown to the relay.
        token_expires_at: When the relay stops honouring the present token.
        renewal_error: Why the last try to renew it failed, and what to do; ``None`` when it went well.
        last_proof: When an echo to ourselves last came back through the relay; ``None`` where no echo is possible.
        round_trip_ms: How long that echo took, milliseconds; of a ping where no echo is possible.
        proven_by: ``echo``, or ``pings`` where the credential may not send or echoes are switched off.
        rendezvous_in_progress: Meetings going on.
        rendezvous_queued: Accepts waiting for a place.
        rendezvous_served: Meetings that ended well since the start.
        rendezvous_failed: Meetings that did not.
        clock_skew: Seconds by which our clock was ahead of the relay's when the present control channel was opened;
            ``None`` where its answer did not tell.
        errors_by_phase: How often each phase failed since the start, of the control channel and of meetings.
        latest_failures: The latest of these, the newest first. No secrets in them.
    """

    state: ListenerState
    since: datetime
    connected_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    reconnects: int = 0
    token_since: datetime | None = None
    token_expires_at: datetime | None = None
    renewal_error: str | None = None
    last_proof: datetime | None = None
    round_trip_ms: float | None = None
    proven_by: Literal["echo", "pings"] = "echo"
    rendezvous_in_progress: int = 0
    rendezvous_queued: int = 0
    rendezvous_served: int = 0
    rendezvous_failed: int = 0
    clock_skew: float | None = None
    errors_by_phase: Mapping[str, int] = field(default_factory=dict)
    latest_failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions(RendezvousOptions):
    """How a listener behaves; times in seconds. The defaults are meant for production.

    Attributes:
        dial: Time-outs, proxy and TLS of control channel and rendezvous.
        token_lifetime: Life of the tokens asked for.
        renew_between: Part of a token's life after which it is renewed, chosen at random between these two.
        ping_interval: Between pings on the control channel. Azure's load balancers forget flows silent for 4 minutes.
        ping_timeout: Wait for a pong before the channel counts as cut.
        first_retry: Ceiling of the first wait after a failure; the ceiling doubles each time.
        longest_retry: Ceiling of all waits.
        healthy_after: How long health must be proven for the waits to start small again.
        echo_interval: Between echoes to ourselves, chosen at random between these two; ``None``: rely on pings alone.
        echo_timeout: Time for an echo to come back.
        token_margin: A renewal that is not proven so long before the old token ends gets a second channel; at most a
            tenth of a token's life.
        dial_limits: Hard ceilings on dials of the control channel, whatever happens.
        garbage_interval: Unreadable control messages are logged once in this time.
        on_state: Called with each change of state; must not block.
    """

    dial: DialOptions = field(default_factory=DialOptions)
    token_lifetime: timedelta = DEFAULT_LIFETIME
    renew_between: tuple[float, float] = (0.5, 0.8)
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 10.0
    first_retry: float = 0.5
    longest_retry: float = 30.0
    healthy_after: float = 5.0
    echo_interval: tuple[float, float] | None = (30.0, 60.0)
    echo_timeout: float = 10.0
    token_margin: float = 60.0
    dial_limits: tuple[Limit, ...] = (Limit(3, 1.5), Limit(8, 12.0))  # 3 in 1 s, 8 in 10 s, however uneven the way
    garbage_interval: float = 60.0
    on_state: Callable[[ListenerStatus], None] | None = None


class Listener:
    """Listens on one hybrid connection and answers what senders say.

    Args:
        connection: The hybrid connection, with a credential that has the Listen right, and Send for the proof of life.
        handle: Called with each frame; what it returns is the reply. It should turn its own errors into replies; when
            it raises, ``options.failure_reply`` is sent.
        options: Bounds and times.
    """

    def __init__(
        self, connection: HybridConnection, handle: Handler, *, options: ListenerOptions | None = None
    ) -> None:
        self.connection = connection
        self.options = options or ListenerOptions()
        self._echoes = Echoes(connection, self.options.dial, self.options.echo_timeout)
        self._failures = Failures(self.options.now)
        self._desk = RendezvousDesk(
            connection, handle, self.options, self.options.dial, self._echoes, self._failures.note
        )
        self._attempts = DialRate(self.options.dial_limits)
        self._arrivals = DialRate(self.options.dial_limits)
        self._backoff = Backoff(self.options.first_retry, self.options.longest_retry)
        self._garbage = _Garbage(self.options.garbage_interval)
        self._channel: Channel | None = None
        self._open_channels: set[Channel] = set()
        self._parting: dict[Channel, asyncio.Task[None]] = {}
        self._channels_opened = 0
        self._state = ListenerState.STOPPED
        self._since = self.options.now()
        self._last_error: RelayError | None = None
        self._last_error_at: datetime | None = None
        self._clock_skew: float | None = None
        self._last_proof: datetime | None = None
        self._round_trip: float | None = None
        self._may_send = True
        self._put_off_until = 0.0
        self._stop_asked = asyncio.Event()
        self._ended = asyncio.Event()
        self._running = False
        self._deadline = 0.0

    @property
    def state(self) -> ListenerState:
        """What it is doing now."""
        return self._state

    def status(self) -> ListenerStatus:
        """Everything there is to know, at this moment."""
        channel = self._channel
        ping = channel.websocket.latency * 1000 if channel else 0.0
        return ListenerStatus(
            state=self._state,
            since=self._since,
            connected_at=channel.opened_at if channel else None,
            last_error=str(self._last_error) if self._last_error else None,
            last_error_at=self._last_error_at,
            reconnects=max(0, self._channels_opened - 1),
            token_since=channel.token_since if channel else None,
            token_expires_at=channel.token.expires_at if channel else None,
            renewal_error=channel.renewal_error if channel else None,
            last_proof=self._last_proof,
            round_trip_ms=self._round_trip if self._proves_by_echo else round(ping, 3) or None,
            proven_by="echo" if self._proves_by_echo else "pings",
            rendezvous_in_progress=self._desk.in_progress,
            rendezvous_queued=self._desk.queued,
            rendezvous_served=self._desk.served,
            rendezvous_failed=self._desk.failed,
            clock_skew=self._clock_skew,
            errors_by_phase=self._failures.by_phase(),
            latest_failures=self._failures.latest(),
        )

    async def run(self) -> None:
        """Listen until stopped or cancelled. Never raises for anything the relay or a sender does. May be run again.

        Raises:
            ConfigurationError: if it is running already.
        """
        if self._running:
            raise ConfigurationError("this listener is running already")
        self._running = True
        self._ended.clear()
        listening = asyncio.create_task(self._keep_listening())
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        try:
            done, _ = await asyncio.wait({listening, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if listening in done:
                await listening  # it only ends by a fault of ours: let it be seen
            await _cancel(listening)
            self._enter(ListenerState.STOPPED)
            await self._desk.finish(max(0.0, self._deadline - asyncio.get_running_loop().time()))
        finally:
            await _cancel(listening)
            await _cancel(stop_asked)
            await self._desk.abandon()
            self._running = False
            self._stop_asked.clear()
            self._enter(ListenerState.STOPPED)
            self._ended.set()

    async def stop(self, deadline: float = 10.0) -> None:
        """Close the control channel, let meetings in progress end for at most ``deadline`` seconds, then return.

        Before the first run it ends that run at once; on a listener that has ended it does nothing.
        """
        if self._ended.is_set():
            return
        self._deadline = asyncio.get_running_loop().time() + deadline
        self._stop_asked.set()
        if self._running:
            await self._ended.wait()

    # the control channel, over and over

    async def _keep_listening(self) -> None:
        while True:
            error = await self._listen_once()
            self._note_error(error)
            wait = self._wait_after(error)
            self._enter(ListenerState.BACKING_OFF)
            await asyncio.sleep(wait)

    async def _listen_once(self) -> RelayError:
        """Open a control channel and serve it, and those that take its place, to the end, which is returned."""
        self._enter(ListenerState.CONNECTING)
        try:
            channel = await self._open()
        except RelayError as error:
            LOG.warning("listener_cannot_connect", extra=self._named(error.details))
            return error
        try:
            return await self._serve(channel)
        finally:
            self._channel = None
            self._part_from(self._open_channels)
            await asyncio.gather(*self._parting.values())

    async def _open(self) -> Channel:
        """Open a control channel, beside the one there may be, and begin to read it."""
        await self._attempts.turn()
        token = await fresh_token(self.connection, self.options.token_lifetime, self.options.dial)
        websocket = await dial(
            self.connection.listen_address(),
            self.options.dial,
            headers={TOKEN_HEADER: token.value},
            max_size=MAX_CONTROL_MESSAGE,
            ping_interval=self.options.ping_interval,
            ping_timeout=self.options.ping_timeout,
            before_upgrade=self._arrivals.turn,
        )
        self._clock_skew = clock_skew(websocket.response.headers.get("Date")) if websocket.response else None
        channel = Channel(websocket, self.options.now(), token)
        channel.reading = asyncio.create_task(channel.read(partial(self._take, channel)))
        self._open_channels.add(channel)
        self._channels_opened += 1
        return channel

    async def _drop(self, channel: Channel) -> None:
        """Close a channel. What it heard until then is still answered."""
        try:
            async with asyncio.timeout(_DEAF_CLOSE_TIMEOUT if channel.disproven else CLOSE_TIMEOUT):
                await channel.websocket.close()
                await asyncio.wait({channel.reading})
        except TimeoutError:
            channel.websocket.transport.abort()
        finally:
            await _cancel(channel.reading)
            self._open_channels.discard(channel)
            self._parting.pop(channel, None)

    async def _serve(self, channel: Channel) -> ChannelError:
        """Serve a channel and those that take its place, until the last one ends by itself."""
        while True:
            self._channel = channel
            minding = asyncio.create_task(self._mind(channel))
            try:
                await asyncio.wait({channel.reading, minding}, return_when=asyncio.FIRST_COMPLETED)
                successor = minding.result() if minding.done() else None
            finally:
                await _cancel(minding)
            if successor is None:
                error = self._note_end(channel, channel.reading.result())
                successor = self._other_that_is_open(channel)
                if successor is None:
                    return error
            LOG.info("control_channel_replaced", extra=self._named({"state": str(self._state)}))
            self._part_from(self._open_channels - {successor})
            channel = successor

    def _other_that_is_open(self, channel: Channel) -> Channel | None:
        """The one that was to take this one's place, and was still being proven when this one ended."""
        others = self._open_channels - {channel} - self._parting.keys()
        return next((each for each in others if not each.reading.done()), None)

    def _part_from(self, channels: set[Channel]) -> None:
        """Drop channels while their successor is minded: a dead one takes its time to close."""
        for channel in channels - self._parting.keys():
            self._parting[channel] = asyncio.create_task(self._drop(channel))

    def _note_end(self, channel: Channel, error: ChannelError) -> ChannelError:
        error.address = channel.websocket.where
        healthy = channel.healthy_for() if self._proves_by_echo else channel.age()
        if healthy >= self.options.healthy_after:
            self._backoff.reset()
        expected = error.close_code in {1000, 1001, 1011}  # Azure recycles every listener about once a day
        LOG.log(
            logging.INFO if expected else logging.WARNING, "control_channel_closed", extra=self._named(error.details)
        )
        return error

    def _take(self, channel: Channel, frame: str | bytes) -> None:
        try:
            call = channel.protocol.receive(frame)
        except ControlMessageError as error:
            self._garbage.note(error, len(frame))
            return
        if call is not None:
            channel.told += 1
            self._desk.admit(call, channel)

    async def _mind(self, channel: Channel) -> Channel:
        """Watch over a channel; returns the one that shall take its place, if it ever comes to that."""
        watches = [asyncio.create_task(watch(channel)) for watch in (self._keep_proving, self._keep_token_fresh)]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            await asyncio.gather(*(_cancel(watch) for watch in watches))

    # proof of life

    @property
    def _proves_by_echo(self) -> bool:
        return self._may_send and self.options.echo_interval is not None

    async def _keep_proving(self, channel: Channel) -> Channel:
        """Prove that a channel hears, again and again; returns another one when it is deaf."""
        if self.options.echo_interval is None:
            self._enter(ListenerState.HEARING)  # by pings alone: their failure ends the channel
            return await _never()
        while True:
            if await self._is_heard(channel):
                await channel.until_doubted(self._pause(channel))
                continue
            self._enter(ListenerState.DEAF)
            if await self._is_heard_within(channel, self._wait_for_another()):
                continue
            successor = await self._opened_another()
            if successor is not None:
                return successor
            if self._last_error is not None and self._last_error.status == _NO_ROOM:
                LOG.warning("deaf_channel_dropped_first", extra=self._named({"status": _NO_ROOM}))
                await channel.websocket.close()  # it takes the very place that another one needs
                return await _never()

    async def _is_heard_within(self, channel: Channel, seconds: float) -> bool:
        """Whether a deaf channel is heard again while we wait to dial another; it may be the relay that had a cold."""
        deadline = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while seconds > _SOON:
                    await asyncio.sleep(_SOON)
                    if await self._is_heard(channel):
                        return True
        await asyncio.sleep(deadline - asyncio.get_running_loop().time())
        return False

    async def _is_heard(self, channel: Channel) -> bool:
        """Whether an echo comes back, or nothing can be said; false when one too many was missed."""
        while channel.misses < MISSES:
            suspected, told = channel.misses > 0 and not channel.disproven, channel.told
            finding = await self._echoes.prove(channel, INSISTENT if suspected else 1)
            if suspected and finding.was_told_to_nobody and channel.told > told:
                channel.misses = 0  # it was told of others meanwhile: whoever is deaf, it is not this channel
                finding = Finding(Verdict.UNKNOWN, reason=finding.reason)
            if finding.verdict is not Verdict.MISSED:
                if channel.disproven and finding.verdict is not Verdict.HEARD:
                    return False  # neither what a neighbour hears nor a refusal acquits this channel
                self._note_finding(channel, finding)
                return True
            channel.misses += 1
            self._note_miss(channel, finding.reason)
        channel.disprove()
        return False

    def _note_miss(self, channel: Channel, reason: RelayError | None) -> None:
        if reason is None:
            return
        self._note_error(reason)
        LOG.warning("echo_missed", extra=self._named({**reason.details, "misses": channel.misses}))

    def _note_finding(self, channel: Channel, finding: Finding) -> None:
        """What was not missed: proof, no right to ask, or nothing that can be said, which changes no state."""
        verdict = finding.verdict
        channel.put_off = (finding.reason.retry_after if finding.reason else None) or 0.0
        if verdict is Verdict.UNKNOWN:
            channel.unknown += 1
            if channel.unknown == _TRIES and self._seems_not_to_send(finding):
                verdict = Verdict.FORBIDDEN
        if verdict is Verdict.UNKNOWN:
            if channel.unknown == _TRIES:
                channel.vouched.set()
                self._say_unproven(finding.reason)
            return
        channel.unknown = 0
        if verdict is Verdict.HEARD:
            self._last_proof, self._round_trip = self.options.now(), round(finding.seconds * 1000, 3)
            channel.misses, channel.disproven = 0, False
            if channel.proven_for() >= self.options.healthy_after:
                self._backoff.reset()
        elif self._may_send:
            LOG.warning("echo_not_allowed", extra=self._named({"remedy": _NOT_ALLOWED}))
        self._may_send = verdict is Verdict.HEARD
        channel.vouched.set()
        self._enter(ListenerState.HEARING)

    def _seems_not_to_send(self, finding: Finding) -> bool:
        """Refused with 401 again and again while it listens, and never heard: most likely the right is missing."""
        refusal = finding.reason
        refused = refusal is not None and (refusal.phase, refusal.status) == (Phase.UPGRADE, 401)
        return refused and self._last_proof is None

    def _say_unproven(self, reason: RelayError | None) -> None:
        """Tell once in a row why there is no proof; a neighbour's answers need no word while we are known to hear."""
        if self._state != ListenerState.HEARING:
            reason = _not_proven(reason)
        if reason is not None:
            self._note_error(reason)
            LOG.warning("listener_not_proven", extra=self._named(reason.details))

    def _pause(self, channel: Channel) -> float:
        pause = JITTER.uniform(*(self.options.echo_interval or (0.0, 0.0)))
        if not self._may_send and self._last_proof is None:  # else it was allowed, and is refused only now
            return pause * _LONG_PAUSE
        if 0 < channel.unknown < _TRIES:
            return max(_LEAST_PAUSE, channel.put_off)
        soon = channel.unknown and self._state != ListenerState.HEARING
        return max(min(pause, _SOON) if soon else pause, channel.put_off)

    def _wait_for_another(self) -> float:
        """Seconds to wait before a second channel is dialled. The first one in a row is dialled at once."""
        is_first = self._backoff.attempt == 0
        wait = self._backoff.next()
        return max(0.0 if is_first else wait, self._put_off_until - asyncio.get_running_loop().time())

    async def _opened_another(self) -> Channel | None:
        """A second control channel; ``None`` when it cannot be had."""
        try:
            return await self._open()
        except RelayError as error:
            self._note_error(error)
            LOG.warning("listener_cannot_connect", extra=self._named(error.details))
            self._put_off_until = asyncio.get_running_loop().time() + (error.retry_after or 0.0)
            return None

    def _note_error(self, error: RelayError) -> None:
        self._last_error, self._last_error_at = error, self.options.now()
        self._failures.note(error)

    def _wait_after(self, error: RelayError) -> float:
        first_of_a_row = self._backoff.attempt == 0
        wait = self._backoff.next()
        put_off = self._put_off_until - asyncio.get_running_loop().time()
        if error.close_code == 1008 and first_of_a_row:
            return max(0.0, put_off)  # our token was refused: the next dial brings a new one
        return max(wait, put_off, error.retry_after or 0.0)

    # tokens

    async def _keep_token_fresh(self, channel: Channel) -> Channel:
        """Renew the token for ever; returns another channel when a renewal could not be made, or not be proven."""
        while channel.token.expires_at is not None:
            left = self._left(channel.token.expires_at)
            margin = min(self.options.token_margin, max(left, 0.0) / 10)
            try:
                async with asyncio.timeout(max(left - margin, _LEAST_PAUSE)):
                    if not await self._renew_and_prove(channel, margin):
                        break
            except TimeoutError:
                LOG.warning("token_renewal_not_proven", extra=self._named({}))
                return await self._second_channel()
        return await _never()

    def _left(self, moment: datetime) -> float:
        return (moment - self.options.now()).total_seconds()

    async def _renew_and_prove(self, channel: Channel, margin: float) -> bool:
        """Renew when it is time, as often as it takes; true when an echo came back since, false if it cannot be."""
        token, spared = channel.token, 0.0
        while channel.token is token and token.expires_at is not None:
            # from the second try on the margin is spared: tries come closer to it, and never wait beyond it
            wait = (self._left(token.expires_at) - spared) * JITTER.uniform(*self.options.renew_between)
            await asyncio.sleep(max(_LEAST_PAUSE, wait))
            spared = margin
            try:
                if not await self._renew(channel):
                    return False
            except RelayError as error:
                channel.renewal_error = str(error)
                LOG.warning("token_not_renewed", extra=self._named(error.details))
            except ConnectionClosed:
                return False  # the reader says why
        if self._proves_by_echo:
            channel.doubt()
            await channel.vouched.wait()
        return True

    async def _renew(self, channel: Channel) -> bool:
        """Show the relay a newer token, if there is one by now; false when there never will be."""
        token = await fresh_token(self.connection, self.options.token_lifetime, self.options.dial)
        channel.renewal_error = None
        if token.value == channel.token.value:
            if not token.renewable:
                LOG.warning("token_cannot_be_renewed", extra=self._named({}))
            return token.renewable
        await channel.send(RenewToken(token.value).to_text())
        channel.token, channel.token_since = token, self.options.now()
        LOG.debug("token_renewed", extra=self._named({}))
        return True

    async def _second_channel(self) -> Channel:
        """Another channel, proven if that is possible while the old one may hear our echoes in its place."""
        successor = None
        while successor is None:
            await asyncio.sleep(self._wait_for_another())
            successor = await self._opened_another()
        for _ in range(_TRIES if self._proves_by_echo else 0):
            if (await self._echoes.prove(successor)).verdict is not Verdict.UNKNOWN:
                break
        return successor

    # telling

    def _enter(self, state: ListenerState) -> None:
        if state == self._state:
            return
        self._state, self._since = state, self.options.now()
        LOG.info("listener_state", extra=self._named({"state": str(state)}))
        if self.options.on_state is not None:
            try:
                self.options.on_state(self.status())
            except Exception:
                LOG.exception("on_state_failed")

    def _named(self, keys: dict[str, str | int | float]) -> dict[str, str | int | float]:
        return {"hybrid_connection": self.connection.path, **keys}


class _Garbage:
    """Logs unreadable frames once in a while: how many and why, never what they held."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._silent_until = 0.0
        self._suppressed = 0

    def note(self, error: ControlMessageError, size: int) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            self._suppressed += 1
            return
        LOG.warning(
            "control_message_unreadable", extra={"reason": error.message, "size": size, "suppressed": self._suppressed}
        )
        self._silent_until, self._suppressed = now + self._interval, 0


def _not_proven(reason: RelayError | None) -> ChannelError:
    """Why a connected listener does not say that it hears."""
    if reason is None or reason.phase is None:
        return ChannelError(
            "not proven yet: our echoes reach other listeners of this hybrid connection",
            phase=Phase.CONTROL,
            code="not_proven",
            remedy="It is tried again every two seconds; see in the portal who else listens.",
        )
    return ChannelError(
        f"not proven yet: {reason.phase}: {reason.message}",
        phase=Phase.CONTROL,
        inner_phase=reason.phase,
        **reason.facts,
        code="not_proven",
        remedy=reason.remedy,
    )


_NOT_ALLOWED: Final = (
    "Give the policy Send (an identity: Azure Relay Sender) as well: without it only pings are left, and they do not "
    "notice deafness."
)


async def _never() -> NoReturn:
    """Wait to be cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has gone."""
    task.cancel()
    await asyncio.wait({task})
