"""Azure Relay Hybrid Connections for Python: listener, sender, and a local emulator of the relay.

::

    from relay import ConnectionString, Listener, Message, Sender

    async def handle(message: Message) -> str:
        return f"heard {len(message.data)} characters"

    async def main() -> None:
        connection = ConnectionString.parse(os.environ["RELAY"]).hybrid_connection("actions")
        listening = asyncio.create_task(Listener(connection, handle).run())  # reconnects and renews its token for ever
        print(await Sender(connection).send("hello"))
        listening.cancel()

Credentials of Microsoft Entra, in place of a key, are made by `relay.entra`. The emulator lives in `relay.emulator` and
is not imported here.
"""

from __future__ import annotations

from relay.connection_string import ConnectionString, HybridConnection, Namespace
from relay.dial import DialOptions, PhaseTimeouts
from relay.errors import (
    ChannelError,
    ConfigurationError,
    ConnectionStringError,
    ControlMessageError,
    DialError,
    Phase,
    RelayError,
    RendezvousError,
    TokenRejected,
)
from relay.failures import Failure
from relay.listener import Listener, ListenerOptions, ListenerState, ListenerStatus
from relay.pace import Limit
from relay.rendezvous import Message, RelayedReply, RelayedRequest
from relay.sender import Sender, SenderOptions
from relay.tokens import SharedAccessKey, SharedAccessSignature, Token, TokenSource

__all__ = [
    "ChannelError",
    "ConfigurationError",
    "ConnectionString",
    "ConnectionStringError",
    "ControlMessageError",
    "DialError",
    "DialOptions",
    "Failure",
    "HybridConnection",
    "Limit",
    "Listener",
    "ListenerOptions",
    "ListenerState",
    "ListenerStatus",
    "Message",
    "Namespace",
    "Phase",
    "PhaseTimeouts",
    "RelayError",
    "RelayedReply",
    "RelayedRequest",
    "RendezvousError",
    "Sender",
    "SenderOptions",
    "SharedAccessKey",
    "SharedAccessSignature",
    "Token",
    "TokenRejected",
    "TokenSource",
]
