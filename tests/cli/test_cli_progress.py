"""Long work says how far it is, how fast, and how long it takes yet; to a person, not into a file."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

import pytest

from gateway.application import Gateway
from gateway.cli import output
from tests.cli.cli_support import Command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[Terminal]:
    watched = Terminal()
    with redirect_stderr(watched):
        yield watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, first and last; it stays at the last."""
    says = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: says[-1])
    return says


def test_percent_rate_and_remaining_time_are_shown_and_wiped_away(clock: list[float]) -> None:
    with terminal() as shown, output.progress("rebuilding") as advance:
        clock.append(100.5)
        advance(25_000, 100_000)
        clock.append(102.0)
        advance(100_000, 100_000)
    assert shown.getvalue().replace("\033[K", "").split("\r") == [
        "",
        "rebuilding: 25,000 of 100,000 events [#####···············] 25%, 50,000/s, 2 s left",
        "rebuilding: 100,000 of 100,000 events [####################] 100%, 50,000/s, 0 s left",
        "",
    ]


def test_minutes_are_minutes(clock: list[float]) -> None:
    with terminal() as shown, output.progress("rebuilding") as advance:
        clock.append(110.0)
        advance(100_000, 1_000_000)
    assert "10,000/s, 1 min 30 s left" in shown.getvalue()


def test_where_the_end_is_not_known_the_rate_is_shown(clock: list[float]) -> None:
    with terminal() as shown, output.progress("verifying") as advance:
        clock.append(101.0)
        advance(2_000, None)
    assert "verifying: 2,000 events, 2,000/s" in shown.getvalue()


def test_nothing_is_divided_by_no_time_and_no_events(clock: list[float]) -> None:
    with terminal() as shown, output.progress("rebuilding") as advance:
        advance(0, 10)
        clock.append(101.0)
        advance(0, 10)
        advance(0, 0)
    assert "0 of 10 events [····················] 0%, 0/s" in shown.getvalue()


def test_a_file_gets_no_bar(story: Gateway, run: Command) -> None:
    outcome = run("projections", "rebuild")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"rebuilt from {story.check_store()} events in ")
