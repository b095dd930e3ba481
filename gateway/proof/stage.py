"""From the settings to where a rehearsal takes place, and its way through the relay."""

from __future__ import annotations

import asyncio

from gateway.application import Gateway
from gateway.audit.activities import this_user
from gateway.ops.rehearsal import GATEWAY, HERE, RELAY, SendFailed, Stage
from gateway.rehearsal.modality import Modality
from gateway.relay_connections import RelayConnections, relay_connections
from gateway.settings import Settings
from relay import DialOptions, HybridConnection, Phase, RelayError, Sender, SenderOptions

_CONNECT_SECONDS = 12.0
"""For the relay to answer: it waits longer for a listener that does not come, and we know enough by then."""
_ANSWER_SECONDS = 10.0
_NOT_FOUND = 404


def stage(settings: Settings, gateway: Gateway, *, port: int | None = None, patience: float = 15.0) -> Stage:
    """Where `gateway rehearse` takes place: the service that these settings are of. Raises `SettingsInvalid`.

    `port` is its DICOM port, where that is not the configured one.
    """
    connections = relay_connections(settings)
    return Stage(
        gateway=gateway,
        unit=rehearsal_unit(settings, port),
        send=RelaySender(connections) if connections else None,
        delivers=bool(connections and connections.events),
        zone=settings.zone,
        operator=this_user(),
        patience=patience,
    )


def at_the_door(settings: Settings, gateway: Gateway, port: int) -> Stage:
    """Where a running service performs test items that came over the relay already: its own port."""
    unit = rehearsal_unit(settings, port)
    return Stage(gateway=gateway, unit=unit, send=None, delivers=False, zone=settings.zone, operator=this_user())


def rehearsal_unit(settings: Settings, port: int | None = None) -> Modality:
    """An emulated modality at our own port, calling as the first of the test callers."""
    title = next(iter(settings.gateway_test_ae_titles), "REHEARSAL")
    host = reached_at(settings.gateway_dicom_host)
    return Modality(host, port or settings.gateway_dicom_port, settings.gateway_ae_title, title, timeout=5.0)


def reached_at(host: str) -> str:
    """Where this machine reaches a service that listens there."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  a name to compare with


class RelaySender:
    """Sends an action as the web app does: by a real rendezvous over the actions hybrid connection."""

    def __init__(self, connections: RelayConnections) -> None:
        self._sender = sender_to(connections.actions, connections.dialling)

    def __call__(self, text: str) -> str:
        """The reply. Raises `SendFailed`."""
        try:
            return asyncio.run(self._sender.send(text))
        except RelayError as error:
            raise SendFailed(
                said(error), remedy=remedy_of(error), fault=fault_of(error), unreachable=error.connection_failed
            ) from error


def sender_to(connection: HybridConnection, dialling: DialOptions) -> Sender:
    """A sender that does not wait longer than a person would."""
    options = SenderOptions(dial=dialling, connect=_CONNECT_SECONDS, send=_ANSWER_SECONDS, ack=_ANSWER_SECONDS)
    return Sender(connection, options)


def said(error: RelayError) -> str:
    """What happened, with its phase and where; the remedy is told apart."""
    return str(error).removesuffix(f". {error.remedy}")


def remedy_of(error: RelayError) -> str:
    """What to do."""
    if error.status == _NOT_FOUND:
        return "is gateway serve running, and with this hybrid connection? gateway relay status tells its state"
    if _nobody_came(error):
        return "it is deaf, most likely: gateway relay status; it mends itself within 90 s, a restart does at once"
    return error.remedy


def fault_of(error: RelayError) -> str:
    """Whose move it is."""
    if error.phase in (Phase.ACK, Phase.FIRST_MESSAGE, Phase.REPLY) or _nobody_came(error):
        return GATEWAY
    if error.phase == Phase.TOKEN or error.status in (401, 403):
        return HERE
    return RELAY


def _nobody_came(error: RelayError) -> bool:
    """Nobody listens, or the listener was not told or did not come in time."""
    if error.phase != Phase.UPGRADE:
        return False
    return error.status in (_NOT_FOUND, 504) or (error.status is None and error.code == "timeout")
