"""What can go wrong between us and a relay, and whose move it is.

::

    RelayError                     everything this package raises; says in which phase, and what to do
    ├── ConfigurationError         ours: a path, an option or an address that cannot be used
    │   └── ConnectionStringError  ours: the connection string does not say what is needed
    ├── DialError                  the connection itself failed: token, dns, tcp, proxy, tls or upgrade
    ├── ChannelError               the open control channel was closed, or carried what nobody can read
    │   └── ControlMessageError    theirs: a control message that is not one
    ├── RendezvousError            the rendezvous opened and the other side fell short: accept-dial … ack
    └── TokenRejected              the emulator's verdict on a token

No message, ``repr`` or attribute of these ever holds a token, a key, a signature or what a frame carried.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypedDict


class Phase(StrEnum):
    """The steps of a conversation through the relay, in their order. Every error names one."""

    TOKEN = "token"  # noqa: S105 - the name of a phase
    DNS = "dns"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    UPGRADE = "upgrade"
    CONTROL = "control"
    ACCEPT_DIAL = "accept-dial"
    FIRST_MESSAGE = "first-message"
    HANDLE = "handle"
    REPLY = "reply"
    ACK = "ack"


class Facts(TypedDict):
    """What an error knows besides its own sentence."""

    status: int | None
    tracking_id: str | None
    address: str | None
    clock_skew: float | None
    retry_after: float | None


def clock_words(skew: float) -> str:
    """Which way our clock is off and how far, such as ``120 s behind``."""
    return f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"


class RelayError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: What happened, in one sentence without secrets.
        phase: The step in which it happened; ``None`` for errors of configuration.
        status: HTTP status of the refused handshake, if there was one.
        close_code: Websocket close code (RFC 6455 section 7.4), if there was one.
        tracking_id: The relay's own id of the failure; Azure's support asks for it.
        address: ``host:port`` that was dialled, with the resolved IP address where known.
        clock_skew: Seconds by which our clock is ahead of the relay's, when its answer told.
        retry_after: Seconds the relay asks us to wait.
        inner_phase: How far a dial came that was part of this phase: in ``accept-dial`` that of the rendezvous, in
            ``token`` that of the issuer.
        remedy: What a person can do about it.
        code: A stable word for programs.
    """

    default_code = "relay_error"

    def __init__(
        self,
        message: str,
        *,
        phase: Phase | None = None,
        status: int | None = None,
        close_code: int | None = None,
        tracking_id: str | None = None,
        address: str | None = None,
        clock_skew: float | None = None,
        retry_after: float | None = None,
        inner_phase: Phase | None = None,
        remedy: str = "",
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.phase = phase
        self.status = status
        self.close_code = close_code
        self.tracking_id = tracking_id
        self.address = address
        self.clock_skew = clock_skew
        self.retry_after = retry_after
        self.inner_phase = inner_phase
        self.remedy = remedy
        self.code = code or self.default_code

    @property
    def connection_failed(self) -> bool:
        """Whether no connection came about (nobody listens, refused, timed out): any other message would fail too."""
        return False

    @property
    def facts(self) -> Facts:
        """What the other side told, for an error that tells of this one as a part of something larger."""
        return {
            "status": self.status,
            "tracking_id": self.tracking_id,
            "address": self.address,
            "clock_skew": self.clock_skew,
            "retry_after": self.retry_after,
        }

    @property
    def details(self) -> dict[str, str | int | float]:
        """Everything that is known, as keys for a log line."""
        known = {
            "code": self.code,
            "error": self.message,
            "phase": self.phase and str(self.phase),
            "inner_phase": self.inner_phase and str(self.inner_phase),
            "status": self.status,
            "close_code": self.close_code,
            "tracking_id": self.tracking_id,
            "address": self.address,
            "clock_skew": self.clock_skew,
            "retry_after": self.retry_after,
            "remedy": self.remedy or None,
        }
        return {name: value for name, value in known.items() if value is not None}

    def __str__(self) -> str:
        facts = [
            self.address and f"address {self.address}",
            self.status and f"status {self.status}",
            self.close_code and f"close code {self.close_code}",
            self.tracking_id and f"tracking id {self.tracking_id}",
            self.clock_skew is not None
            and abs(self.clock_skew) >= 1
            and f"our clock is {clock_words(self.clock_skew)} theirs",
            self.retry_after and f"asks to wait {self.retry_after:g} s",
        ]
        known = ", ".join(fact for fact in facts if fact)
        text = (f"{self.phase}: " if self.phase else "") + self.message + (f" ({known})" if known else "")
        return f"{text}. {self.remedy}" if self.remedy else text


class ConfigurationError(RelayError, ValueError):
    """A path, an option or an address that cannot be used. Ours to mend."""

    default_code = "configuration"


class ConnectionStringError(ConfigurationError):
    """The connection string lacks a part, holds one twice, or cannot be read."""

    default_code = "connection_string"


class DialError(RelayError):
    """No connection came about. ``phase`` tells how far it got: token, dns, tcp, proxy, tls or upgrade."""

    default_code = "dial_failed"

    @property
    def connection_failed(self) -> bool:
        """Always true: nothing was said, and nothing can be said for now."""
        return True


class ChannelError(RelayError):
    """The open control channel ended, or carried something unreadable."""

    default_code = "control_channel"


class ControlMessageError(ChannelError):
    """A frame on the control channel that is none of the protocol guide's messages."""

    default_code = "control_message"

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            phase=Phase.CONTROL,
            remedy="It is passed over; if it comes again, look at what stands between this machine and the relay.",
        )


class RendezvousError(RelayError):
    """The rendezvous was opened, or asked for, and the other side fell short of the conversation."""

    default_code = "rendezvous"


class TokenRejected(RelayError):
    """The emulator refuses a token; ``status`` is 401 (not valid) or 403 (valid, but the right is missing)."""

    default_code = "token_rejected"
