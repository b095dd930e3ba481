"""What the soak reads in the processes' output."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.end_to_end.harness import KEY
from tests.soak.logs import complaints_about, leaks_in, refused_dials

FINE = '{"event": "action_answered", "level": "info"}\n'


def line(**entry: Any) -> str:
    return json.dumps(entry) + "\n"


def test_a_log_of_well_behaved_lines_is_acquitted_also_with_a_line_cut_by_a_death() -> None:
    assert complaints_about(FINE + line(event="echo_missed", level="warning"), deaths=0) == []
    assert complaints_about(FINE + '{"event": "act' + "\n" + FINE, deaths=1) == []
    assert leaks_in(FINE) == []


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        (line(event="part_ended", level="error"), "tells of an error"),
        (line(event="handler_failed", level="warning", exception="KeyError"), "tells of an error"),
        ("plain words\n", "1 lines of the log are not JSON"),
        ("[]\n", "1 lines of the log are not JSON"),
    ],
)
def test_errors_and_lines_nobody_can_read_are_complained_of(log: str, complaint: str) -> None:
    assert complaint in complaints_about(FINE + log, deaths=0)[0]


@pytest.mark.parametrize(
    "leak", [KEY, "SharedAccessSignature sr=x", "ws://x/?a=b&sig=abc", "SMITH^JANE", "Traceback (most"]
)
def test_secrets_names_and_tracebacks_are_complained_of_and_not_repeated(leak: str) -> None:
    complaints = leaks_in(FINE + leak)
    assert len(complaints) == 1
    assert leak not in complaints[0]


def test_a_dial_that_found_no_relay_is_told_with_its_time() -> None:
    now = datetime.now(UTC).isoformat()
    log = line(event="listener_cannot_connect", phase="tcp", timestamp=now)
    log += line(event="listener_cannot_connect", phase="upgrade", timestamp=now)
    [at] = refused_dials(log)
    assert at == pytest.approx(time.monotonic(), abs=5)
