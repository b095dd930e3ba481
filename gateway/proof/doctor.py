"""`gateway doctor`: which checks there are, from the settings and, where it can be opened, the database.

A running service asks the same (`checks` with its own `Gateway` and port); another process adds whether it is up.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gateway.application import Gateway
from gateway.errors import GatewayError
from gateway.ops.doctor import clinic, door, images, keeping, traffic
from gateway.ops.doctor.finding import Check, Finding, failed
from gateway.ops.doctor.site import Site
from gateway.proof.relay import clock_agrees, echo_returns, require_web_address
from gateway.proof.stage import reached_at, rehearsal_unit, stage
from gateway.relay_connections import RelayConnections, relay_connections
from gateway.settings import Settings

_REHEARSAL_SECONDS = 90.0
_RELAY_SECONDS = 30.0


def checks(
    settings: Settings,
    gateway: Gateway | GatewayError,
    *,
    port: int | None = None,
    asks_service: bool = True,
    for_clinic: bool = False,
    rehearses: bool = False,
    clock_peer: str = "",
) -> list[Check]:
    """The checks in the order in which a person reads them; carry them out by `side_by_side`.

    `gateway` may be why the database can't be opened: the others are asked all the same. `port` is the DICOM port where
    it is not the configured one; `asks_service` adds the ops port's word; `clock_peer` is a web server to compare the
    clock with, where it is not to be the relay. Raises `SettingsInvalid`, `InvalidValue`.
    """
    if clock_peer:
        require_web_address(clock_peer)
    connections = relay_connections(settings)
    opened = None if isinstance(gateway, GatewayError) else gateway
    found = [*_outer(settings, opened, connections, port, clock_peer, asks_service=asks_service)]
    if isinstance(gateway, GatewayError):
        found.append(Check("store", partial(_unopened, gateway)))
    else:
        site = Site(settings, gateway, rehearsal_unit(settings, port))
        found += _inner(site, connections)
        if for_clinic:
            found += _of_the_clinic(site)
        if rehearses:
            found.append(
                Check(
                    "rehearsal",
                    lambda: clinic.rehearsal_passes(stage(settings, gateway, port=port)),
                    _REHEARSAL_SECONDS,
                )
            )
    return [*found, *_kept(settings)]


def _outer(
    settings: Settings,
    gateway: Gateway | None,
    connections: RelayConnections | None,
    port: int | None,
    clock_peer: str,
    *,
    asks_service: bool,
) -> Iterator[Check]:
    if asks_service:
        host = reached_at(settings.gateway_ops_host)
        yield Check("service", lambda: door.service_answers(settings, host, gateway))
    yield Check("relay", lambda: echo_returns(connections), _RELAY_SECONDS)
    yield Check("clock", lambda: clock_agrees(connections, clock_peer), _RELAY_SECONDS)
    yield Check("dicom", lambda: door.echo_answers(rehearsal_unit(settings, port)))
    if settings.gateway_dicom_tls_port is not None:
        yield Check("dicom tls", lambda: door.tls_answers(settings, reached_at(settings.gateway_dicom_host)))


def _inner(site: Site, connections: RelayConnections | None) -> Iterator[Check]:
    delivers = bool(connections and connections.events)
    yield Check("worklist", lambda: door.worklist_answers(site))
    yield Check("store", lambda: keeping.store_takes_writes(site))
    yield Check("projections", lambda: keeping.projections_follow(site))
    yield Check("outbox", lambda: traffic.outbox_is_acknowledged(site, delivers=delivers))
    yield Check("modalities", lambda: traffic.modalities_ask(site))
    yield Check("orthanc", lambda: images.orthanc_is_followed(site), images.SECONDS)


def _of_the_clinic(site: Site) -> Iterator[Check]:
    yield Check("list", lambda: clinic.list_is_there(site))
    yield Check("items", lambda: clinic.items_are_sane(site))
    yield Check("units", lambda: clinic.units_are_awake(site))
    yield Check("steps", lambda: clinic.steps_are_settled(site))


def _kept(settings: Settings) -> Iterator[Check]:
    yield Check("disk", lambda: keeping.disk_has_room(settings))
    yield Check("backup", lambda: keeping.backup_is_fresh(settings))
    yield Check("certificates", lambda: keeping.certificates_last(settings))
    yield Check("telemetry", lambda: keeping.telemetry_arrives(settings))
    yield Check("settings", lambda: keeping.settings_are_whole(settings))


def _unopened(error: GatewayError) -> Finding:
    return failed(error.message, "opening the database", error.remedy, code=error.code)
