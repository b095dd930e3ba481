"""Settings that can't be meant are refused at start, by their names."""

from __future__ import annotations

import pytest

from gateway.errors import SettingsInvalid
from gateway.relay_connections import relay_connections
from gateway.settings import load

EMULATOR = "Endpoint=sb://localhost:9080/;SharedAccessKeyName=k;SharedAccessKey=v;UseDevelopmentEmulator=true"


def test_status_events_do_not_travel_on_the_hybrid_connection_that_brings_actions() -> None:
    settings = load(
        azure_relay_connection_string=EMULATOR,
        azure_relay_hybrid_connection="actions",
        azure_relay_events_hybrid_connection="Actions",
    )
    with pytest.raises(SettingsInvalid, match="AZURE_RELAY_EVENTS_HYBRID_CONNECTION"):
        relay_connections(settings)


def test_days_that_no_calendar_holds_are_refused() -> None:
    with pytest.raises(SettingsInvalid, match="GATEWAY_EXPIRE_AFTER_DAYS"):
        load(gateway_expire_after_days=999_999)


def test_an_expiry_time_is_the_sites_wall_clock() -> None:
    with pytest.raises(SettingsInvalid, match="GATEWAY_EXPIRE_AT"):
        load(gateway_expire_at="04:00+01:00")
