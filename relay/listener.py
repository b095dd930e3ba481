"""The listener: one control channel that is always open, and a meeting with each sender that knocks.

Laws:

1. It never gives up: every close code and every refusal, 404 included, leads to another dial, within `pace`'s limits.
2. A token is renewed on the open channel between 50 and 80 % of its life, so that no sender notices.
3. Whatever the control channel says, the listener survives it.
4. ``hearing`` is entered in one place, `Listener._hear`; what counts as proof of hearing is decided there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from relay.connection_string import HybridConnection
from relay.dial import DialOptions, dial, fresh_token
from relay.errors import ChannelError, ConfigurationError, ControlMessageError, Phase, RelayError
from relay.pace import JITTER, Backoff, DialRate, Limit
from relay.protocol import MAX_CONTROL_MESSAGE, ControlChannel, RenewToken, Response, explain_close, tracking_id
from relay.rendezvous import Handler, RendezvousDesk, RendezvousOptions
from relay.tokens import DEFAULT_LIFETIME, TOKEN_HEADER

LOG: Final = logging.getLogger("relay.listener")


class ListenerState(StrEnum):
    """What the listener can truthfully say of itself. *Connected* and *hearing* are two things."""

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
        token_expires_at: When the relay stops honouring the present token.
        last_proof: When something last arrived through the relay.
        round_trip_ms: Last measured ping round trip to the relay, milliseconds.
        rendezvous_in_progress: Meetings going on.
        rendezvous_queued: Accepts waiting for a place.
        rendezvous_served: Meetings that ended well since the start.
        rendezvous_failed: Meetings that did not.
    """

    state: ListenerState
    since: datetime
    connected_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    reconnects: int = 0
    token_expires_at: datetime | None = None
    last_proof: datetime | None = None
    round_trip_ms: float | None = None
    rendezvous_in_progress: int = 0
    rendezvous_queued: int = 0
    rendezvous_served: int = 0
    rendezvous_failed: int = 0


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
        healthy_after: How long a channel must live for the waits to start small again.
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
    healthy_after: float = 60.0
    dial_limits: tuple[Limit, ...] = (Limit(3, 1.1), Limit(8, 10.5))  # 3 in 1 s, 8 in 10 s, seen from the relay too
    garbage_interval: float = 60.0
    on_state: Callable[[ListenerStatus], None] | None = None


class Listener:
    """Listens on one hybrid connection and answers what senders say.

    Args:
        connection: The hybrid connection, with a credential that has the Listen right.
        handle: Called with each frame; what it returns is the reply. It should turn its own errors into replies; when
            it raises, ``options.failure_reply`` is sent.
        options: Bounds and times.
    """

    def __init__(
        self, connection: HybridConnection, handle: Handler, *, options: ListenerOptions | None = None
    ) -> None:
        self.connection = connection
        self.options = options or ListenerOptions()
        self._desk = RendezvousDesk(connection, handle, self.options, self.options.dial)
        self._rate = DialRate(self.options.dial_limits)
        self._backoff = Backoff(self.options.first_retry, self.options.longest_retry)
        self._garbage = _Garbage(self.options.garbage_interval)
        self._channel: _Channel | None = None
        self._channels_opened = 0
        self._state = ListenerState.STOPPED
        self._since = self.options.now()
        self._last_error: RelayError | None = None
        self._last_error_at: datetime | None = None
        self._last_proof: datetime | None = None
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
        latency = channel.websocket.latency if channel else 0.0
        return ListenerStatus(
            state=self._state,
            since=self._since,
            connected_at=channel.opened_at if channel else None,
            last_error=str(self._last_error) if self._last_error else None,
            last_error_at=self._last_error_at,
            reconnects=max(0, self._channels_opened - 1),
            token_expires_at=channel.token_expires_at if channel else None,
            last_proof=self._last_proof,
            round_trip_ms=round(latency * 1000, 3) if latency else None,
            rendezvous_in_progress=self._desk.in_progress,
            rendezvous_queued=self._desk.queued,
            rendezvous_served=self._desk.served,
            rendezvous_failed=self._desk.failed,
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
            await self._desk.finish(self._deadline)
        finally:
            await _cancel(listening)
            await _cancel(stop_asked)
            await self._desk.abandon()
            self._running = False
            self._stop_asked.clear()
            self._enter(ListenerState.STOPPED)
            self._ended.set()

    async def stop(self, deadline: float = 10.0) -> None:
        """Close the control channel, let meetings in progress end for at most ``deadline`` seconds, then return."""
        self._deadline = deadline
        self._stop_asked.set()
        if self._running:
            await self._ended.wait()

    # the control channel, over and over

    async def _keep_listening(self) -> None:
        while True:
            error = await self._listen_once()
            self._last_error, self._last_error_at = error, self.options.now()
            wait = self._wait_after(error)
            self._enter(ListenerState.BACKING_OFF)
            await asyncio.sleep(wait)

    async def _listen_once(self) -> RelayError:
        """Open a control channel and serve it to its end, which is returned."""
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
            await channel.websocket.close()

    async def _open(self) -> _Channel:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rate.wait(loop.time()))
        self._rate.dialled(loop.time())
        token = await fresh_token(self.connection, self.options.token_lifetime)
        websocket = await dial(
            self.connection.listen_address(),
            self.options.dial,
            headers={TOKEN_HEADER: token.value},
            max_size=MAX_CONTROL_MESSAGE,
            ping_interval=self.options.ping_interval,
            ping_timeout=self.options.ping_timeout,
        )
        return _Channel(websocket, self.options.now(), token.expires_at)

    async def _serve(self, channel: _Channel) -> ChannelError:
        self._channel = channel
        self._channels_opened += 1
        self._hear()
        renewing = asyncio.create_task(self._keep_token_fresh(channel))
        opened = asyncio.get_running_loop().time()
        try:
            error = await self._read(channel)
        finally:
            await _cancel(renewing)
        lived = asyncio.get_running_loop().time() - opened
        if lived >= self.options.healthy_after:
            self._backoff.reset()
        expected = error.close_code in {1000, 1001, 1011}  # Azure recycles every listener about once a day
        LOG.log(
            logging.INFO if expected else logging.WARNING, "control_channel_closed", extra=self._named(error.details)
        )
        return error

    async def _read(self, channel: _Channel) -> ChannelError:
        try:
            async for frame in channel.websocket:
                self._take(channel, frame)
        except ConnectionClosed as error:
            return _ending(error)
        return _polite_ending(channel.websocket)

    def _take(self, channel: _Channel, frame: str | bytes) -> None:
        try:
            call = channel.protocol.receive(frame)
        except ControlMessageError as error:
            self._garbage.note(error, len(frame))
            return
        if call is not None:
            self._last_proof = self.options.now()
            self._desk.admit(call, channel)

    def _hear(self) -> None:
        """The one door to *hearing*: here a proof of life by echo will have its say."""
        self._enter(ListenerState.HEARING)

    def _wait_after(self, error: RelayError) -> float:
        first_of_a_row = self._backoff.attempt == 0
        wait = self._backoff.next()
        if error.close_code == 1008 and first_of_a_row:
            return 0.0  # our token was refused: the next dial brings a new one
        return max(wait, error.retry_after or 0.0)

    # tokens

    async def _keep_token_fresh(self, channel: _Channel) -> None:
        while channel.token_expires_at is not None:
            left = (channel.token_expires_at - self.options.now()).total_seconds()
            await asyncio.sleep(max(0.05, left * JITTER.uniform(*self.options.renew_between)))
            try:
                if not await self._renew(channel):
                    return
            except RelayError as error:
                LOG.warning("token_not_renewed", extra=self._named(error.details))
            except ConnectionClosed:
                return  # the reader says why

    async def _renew(self, channel: _Channel) -> bool:
        token = await fresh_token(self.connection, self.options.token_lifetime)
        if token.expires_at is not None and channel.token_expires_at and token.expires_at <= channel.token_expires_at:
            LOG.warning("token_cannot_be_renewed", extra=self._named({}))
            return False
        await channel.send(RenewToken(token.value).to_text())
        channel.token_expires_at = token.expires_at
        LOG.debug("token_renewed", extra=self._named({}))
        return True

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


class _Channel:
    """One open control channel."""

    def __init__(self, websocket: ClientConnection, opened_at: datetime, token_expires_at: datetime | None) -> None:
        self.websocket = websocket
        self.opened_at = opened_at
        self.token_expires_at = token_expires_at
        self.protocol = ControlChannel()
        self._sending = asyncio.Lock()

    async def send(self, *frames: str | bytes) -> None:
        """Send frames that belong together, nothing in between."""
        async with self._sending:
            for frame in frames:
                await self.websocket.send(frame)

    async def respond(self, response: Response, body: bytes) -> None:
        """Send a response and, if it has one, its body."""
        await self.send(response.to_text(), *([body] if response.body else []))


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


def _ending(error: ConnectionClosed) -> ChannelError:
    if error.sent is not None and error.rcvd is None and "ping" in error.sent.reason:
        return ChannelError(
            "the relay answers no pings: the connection is dead",
            phase=Phase.CONTROL,
            close_code=1006,
            code="silent",
            remedy="A firewall or load balancer may drop idle connections; a shorter ping interval helps.",
        )
    frame = error.rcvd or error.sent
    return _closed(frame.code if frame else 1006, frame.reason if frame else "")


def _polite_ending(websocket: ClientConnection) -> ChannelError:
    return _closed(websocket.close_code or 1006, websocket.close_reason or "")


def _closed(code: int, reason: str) -> ChannelError:
    meaning = explain_close(code)
    return ChannelError(
        meaning.meaning,
        phase=Phase.CONTROL,
        close_code=code,
        code=meaning.code,
        tracking_id=tracking_id(reason),
        remedy="It is dialled again.",
    )


async def _cancel(task: asyncio.Task[object] | asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has gone."""
    task.cancel()
    await asyncio.wait({task})
