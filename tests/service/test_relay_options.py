"""Every time and bound of the relay that the operator sets arrives where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.service import Service
from gateway.settings import Settings, load

CONNECTION = {
    "azure_relay_connection_string": "Endpoint=sb://relay.invalid/;SharedAccessKeyName=k;SharedAccessKey=v",
    "azure_relay_hybrid_connection": "actions",
    "azure_relay_events_hybrid_connection": "events",
}
NUMBERS = [
    name
    for name, field in Settings.model_fields.items()
    if name.startswith("gateway_relay_") and field.annotation in (int, float)
]


@contextmanager
def service(folder: Path, **settings: Any) -> Iterator[Service]:
    """A service that is not started."""
    made = Service(load(worklist_db_path=folder / "gateway.db", **CONNECTION, **settings))
    try:
        with closing(made.gateway):
            yield made
    finally:
        made._ownership.release()


def options_of(made: Service) -> tuple[dict[str, Any], ...]:
    assert made.listener
    assert made.courier
    listener = asdict(replace(made.listener.options, on_state=None, handle_request=None, now=_no_clock))
    return listener, asdict(made.courier.sender.options), asdict(made.courier.options)  # type: ignore[attr-defined]


def _no_clock() -> Any:
    raise AssertionError


@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_is_without_effect_and_each_arrives_as_it_was_set(tmp_path: Path, name: str) -> None:
    default: Any = Settings.model_fields[name].get_default()
    value = default + 1
    with service(tmp_path) as made:
        before = options_of(made)
    with service(tmp_path, **{name: value}) as made:
        after = options_of(made)
    assert before != after
    assert repr(value) in repr(after) or f"seconds={value:g}" in repr(after)


def test_one_way_of_dialling_serves_control_channel_rendezvous_echo_and_events(tmp_path: Path) -> None:
    with service(tmp_path, gateway_relay_proxy="http://u:w@proxy:3128", gateway_relay_tls_seconds=3) as made:
        assert made.listener
        assert made.courier
        dialled = made.listener.options.dial
        assert (dialled.proxy, dialled.timeouts.tls) == ("http://u:w@proxy:3128", 3)
        assert made.courier.sender.options.dial is dialled  # type: ignore[attr-defined]


def test_the_handler_gives_up_before_the_web_app_does_by_default() -> None:
    assert load().gateway_relay_handle_seconds < 30
