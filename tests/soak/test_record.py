"""The figures of a soak follow from what happened, and each bound can be exceeded."""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.evidence import Span
from tests.soak.record import Entry, Record, Round, absences_in, longest_silence, most_in_any


def quiet() -> Record:
    """Two rounds of trouble in a minute, an answer each second, one listener at a time."""
    return Record(
        rounds=[Round(Span(0, 0), 0, 0, 0), Round(Span(0, 10), 12, 11, 30), Round(Span(30, 40), 41, 42, 60)],
        lives=[Span(0, 35), Span(35, 60)],
        relay_lives=[Span(0, 60)],
        entries=[
            Entry(0.5, "listen", "actions", 101),
            Entry(0.5, "listen", "events", 101),
            Entry(35, "listener gone", "actions", 1006),
            Entry(36, "listen", "actions", 101),
        ],
        answers=[float(second) for second in range(61)],
    )


def test_a_quiet_record_has_no_complaint_and_these_figures() -> None:
    record = quiet()
    assert record.complaints() == []
    assert (record.recoveries(), record.web_app_recoveries()) == ([2, 1], [1, 2])
    assert (record.longest_deafness(), record.longest_pause()) == (1, 1)
    assert record.longest_without_listener("actions", calm=False) == 1
    assert record.longest_without_listener("actions", calm=True) == 0
    assert (record.most_dials("actions", 1), record.most_dials("events", 10)) == (1, 1)


def dialled(path: str, *times: float, took: float = 0.0) -> list[Entry]:
    return [Entry(at + took, "listen", path, 503, took) for at in times]


def changed(**changes: Any) -> Record:
    record = quiet()
    for name, value in changes.items():
        setattr(record, name, value)
    return record


WRONG = {
    "the gateway was healthy 15.5 s after round 1": changed(rounds=[Round(Span(0, 10), 25.5, 11, 30)]),
    "the web app was healthy 15.5 s after round 1": changed(rounds=[Round(Span(0, 10), 11, 25.5, 30)]),
    "no action was answered for 20.0 s without trouble": changed(answers=[1.0, 2.0, 10.0, 30.0, *range(30, 61)]),
    "no action was answered for 7.0 s while all was well": changed(
        answers=[each for each in range(61) if not 15 < each < 22]
    ),
    "4 dials on actions in 1 s": changed(entries=dialled("actions", 1, 1.1, 1.2, 1.3)),
    "4 dials on events in 1 s": changed(entries=dialled("events", 1, 1.1, 1.2, 1.3)),
    "9 dials on actions in 10 s": changed(entries=dialled("actions", *range(9))),
    "9 dials on events in 10 s": changed(entries=dialled("events", *range(31, 40))),
    "1 senders were told 404 while all was well": changed(entries=[Entry(20, "connect", "actions", 404)]),
}


@pytest.mark.parametrize("complaint", WRONG)
def test_what_exceeds_its_bound_is_complained_of(complaint: str) -> None:
    complaints = WRONG[complaint].complaints()
    assert [each for each in complaints if complaint in each], complaints


def test_dials_of_two_lives_are_not_counted_together() -> None:
    times = [34.7, 34.8, 34.9, 35.1, 35.2, 35.3]
    assert changed(entries=dialled("actions", *times)).most_dials("actions", 1) == 3
    assert changed(entries=dialled("events", *times)).most_dials("events", 1) == 6


def test_dials_that_found_no_relay_count_too_and_a_handshake_counts_when_it_was_asked_for() -> None:
    assert changed(refused=[2.0, 2.1, 2.2, 2.3]).most_dials("actions", 1) == 4
    held_up = changed(entries=[*dialled("actions", 1, took=3), *dialled("actions", 4)])
    assert held_up.most_dials("actions", 1) == 1


def test_the_404_of_a_time_that_was_not_well_is_no_complaint() -> None:
    entries = [Entry(at, "connect", "actions", 404) for at in (5, 11.5)]
    assert changed(entries=[*entries, Entry(13, "connect", "actions", 404, took=2)]).turned_away() == 0


def test_most_in_any_window() -> None:
    assert most_in_any([], 1) == 0
    assert most_in_any([0, 0.5, 0.99, 1.0, 1.2], 1) == 4
    assert most_in_any([0, 1, 2], 1) == 1


def test_the_longest_silence_is_looked_for_within_spans_only() -> None:
    assert longest_silence([1, 2, 9], [Span(0, 4)]) == 2
    assert longest_silence([], [Span(0, 4), Span(10, 15)]) == 5
    assert longest_silence([1], []) == 0


def test_nobody_listens_from_the_relay_s_birth_to_the_first_and_from_the_last_to_the_next() -> None:
    entries = [
        Entry(2, "listen", "actions", 101),
        Entry(3, "listen", "actions", 401),
        Entry(4, "listen", "actions", 101),
        Entry(5, "listener gone", "actions", 1000),
        Entry(6, "listener gone", "actions", 1000),
        Entry(7, "listen", "events", 101),
    ]
    assert absences_in(entries, "actions", Span(1, 9)) == [Span(1, 2), Span(6, 9)]
