from __future__ import annotations

import re
from pathlib import Path

import relay
from relay import ConnectionStringError, DialError, Phase, RelayError, errors


def test_an_error_reads_as_phase_what_facts_and_what_to_do() -> None:
    error = DialError(
        "the token is invalid",
        phase=Phase.UPGRADE,
        status=401,
        tracking_id="1234_G1",
        address="host:443 [10.0.0.1]",
        clock_skew=-120.0,
        remedy="Check the key.",
    )
    assert str(error) == (
        "upgrade: the token is invalid (address host:443 [10.0.0.1], status 401, tracking id 1234_G1, "
        "our clock is 120 s behind theirs). Check the key."
    )
    assert error.details["phase"] == "upgrade"
    assert "close_code" not in error.details


def test_an_error_without_facts_is_just_its_message() -> None:
    assert str(ConnectionStringError("no Endpoint")) == "no Endpoint"
    assert str(ConnectionStringError("no Endpoint", remedy="Add one.")) == "no Endpoint. Add one."


def test_every_error_is_a_relay_error_drawn_in_the_tree() -> None:
    classes = {
        name
        for name, each in vars(errors).items()
        if isinstance(each, type) and issubclass(each, Exception) and each.__module__ == errors.__name__
    }
    assert set(re.findall(r"\b[A-Z]\w+(?:Error|Rejected)\b", (errors.__doc__ or "").split("No message")[0])) == classes
    assert all(issubclass(getattr(errors, name), RelayError) for name in classes)


def test_everything_public_exists_and_is_sorted() -> None:
    assert relay.__all__ == sorted(relay.__all__)
    assert all(hasattr(relay, name) for name in relay.__all__)


def test_the_package_imports_nothing_of_the_gateway() -> None:
    for path in Path(relay.__file__).parent.rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (gateway|projections)\b", path.read_text(), re.MULTILINE), path
