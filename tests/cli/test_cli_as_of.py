"""`gateway worklist list|explain --as-of`: the list as it stood, on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cli_support import Command
from test_cli_json import is_documented

from bench.synthetic import schedule
from gateway.application import Gateway
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Responder
from gateway.domain.lifecycle import Status
from gateway.rehearsal.modality import Modality
from tests.serving import serving

DAY = "20261123"


def now() -> str:
    """This instant on the site's wall clock, as somebody may write it."""
    return f"{datetime.now(ZoneInfo('Europe/London')):%Y-%m-%d %H:%M:%S.%f%z}"


@pytest.fixture
def then(gateway: Gateway) -> str:
    """A moment at which ACC001 and ACC002 were scheduled; since then one was withdrawn and one more came in."""
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002", scheduled_time="110000")
    moment = now()
    gateway.correct_status("ACC001", Status.CANCELLED, reason="withdrawn", operator="tester")
    schedule(gateway, "ACC003")
    return moment


def numbers(out: str) -> list[str]:
    return [line.split()[0] for line in out.splitlines() if line.startswith("ACC0")]


def test_the_list_is_shown_as_it_stood_and_which_place_was_taken(then: str, run: Command) -> None:
    outcome = run("worklist", "list", "--as-of", then)
    assert outcome.code == 0
    assert numbers(outcome.out) == ["ACC001", "ACC002"]
    assert outcome.out.count("SCHEDULED") == 2
    assert "SMITH" not in outcome.out
    moment = datetime.fromisoformat(then).astimezone(ZoneInfo("Europe/London")).isoformat(" ", "microseconds")
    assert f"2 items\nas it stood at {moment}, after position 4, committed 20" in outcome.err
    assert "SMITH^JANE" in run("worklist", "list", "--as-of", then, "--reveal").out
    assert numbers(run("worklist", "list").out) == ["ACC001", "ACC003", "ACC002"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--date", DAY), ["ACC001", "ACC002"]),
        (("--date", "20261124"), []),
        (("--accession", "ACC002"), ["ACC002"]),
        (("--status", "CANCELLED"), []),
        (("--patient-id", "9990000018"), ["ACC001", "ACC002"]),
        (("--modality", "ct"), []),
        (("--test",), []),
    ],
)
def test_every_option_means_what_it_means_now(
    then: str, run: Command, options: tuple[str, ...], found: list[str]
) -> None:
    for place in (("--as-of", then), ("--position", "4")):
        assert numbers(run("worklist", "list", *options, *place).out) == found


def test_a_position_is_another_way_to_say_it(then: str, run: Command) -> None:
    assert numbers(run("worklist", "list", "--position", "2").out) == ["ACC001"]
    end = run("worklist", "list", "--position", "999")
    assert (numbers(end.out), "the record ends at position 8: taken is that" in end.err) == (
        ["ACC001", "ACC003", "ACC002"],
        True,
    )


def test_json_says_which_moment_and_position_were_taken(then: str, run: Command) -> None:
    outcome = run("worklist", "list", "--as-of", then, "--json")
    assert outcome.err == ""
    is_documented(outcome.json, "worklist list")
    assert [row["accession_number"] for row in outcome.json["items"]] == ["ACC001", "ACC002"]
    assert outcome.json["as_of"]["position"] == 4
    moment = datetime.fromisoformat(then).astimezone(UTC).isoformat(timespec="microseconds")
    assert outcome.json["as_of"]["instant"] == moment
    assert outcome.json["as_of"]["committed_at"] < moment


def test_a_moment_before_all_and_one_to_come_are_answered_and_said(then: str, run: Command) -> None:
    before = run("worklist", "list", "--as-of", "2020-01-01")
    assert (before.code, numbers(before.out)) == (0, [])
    assert "that is before the first event: the list was empty" in before.err
    assert before.err.endswith("as it stood at 2020-01-01 00:00:00.000000+00:00, before the first event\n")
    to_come = run("worklist", "list", "--as-of", "2999-01-01 10:42")
    assert (to_come.code, len(numbers(to_come.out))) == (0, 3)
    assert "that moment is still to come: taken is what stands now" in to_come.err


def test_who_watches_is_shown_how_far_it_is(then: str, run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reading the history" not in run("worklist", "list", "--as-of", then).err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "\rreading the history: 4 of 4 events" in run("worklist", "list", "--as-of", then).err
    assert "\rreading the history: 2 events" in run("worklist", "list", "--as-of", then, "--date", DAY).err


def test_the_repeated_hour_is_decided_and_said(then: str, run: Command) -> None:
    outcome = run("worklist", "list", "--as-of", "2025-10-26 01:30")
    assert "01:30 came twice that day; taken is the second, 2025-10-26 01:30:00+00:00" in outcome.err


def test_today_is_the_day_of_the_moment(then: str, gateway: Gateway, run: Command) -> None:
    today = datetime.now(ZoneInfo("Europe/London")).strftime("%Y%m%d")
    schedule(gateway, "ACC004", scheduled_date=today)
    schedule(gateway, "ACC005", scheduled_date="20200101")
    assert numbers(run("worklist", "list", "--date", "today", "--as-of", now()).out)[-1] == "ACC004"
    assert numbers(run("worklist", "list", "--date", "today", "--as-of", "2020-01-01 12:00").out) == []
    assert numbers(run("worklist", "list", "--date", "today", "--position", "12").out)[-1] == "ACC004"


MISUSE = [
    ("worklist", "list", "--as-of", "yesterday"),
    ("worklist", "list", "--as-of", "2026-02-30"),
    ("worklist", "list", "--as-of", "2026-11-23", "--position", "3"),
    ("worklist", "list", "--position", "-1"),
    ("worklist", "explain", "--from", "MAMMO1", "--as-of", "10:42"),
]


@pytest.mark.parametrize("words", MISUSE, ids=" ".join)
def test_a_moment_that_is_none_is_misuse_also_where_no_database_is(run: Command, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err


# --- as that modality would have seen it


@pytest.fixture
def unit(gateway: Gateway) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A unit that asks for its day, and how to have all of that written."""
    record = QueryRecord(gateway)
    with serving(Responder(gateway, record=record)) as server:
        record.start()
        modality = Modality("127.0.0.1", server.port, "ORTHANC_MWL", "MAMMO1")
        yield lambda: [*modality.find(date=DAY)] and None, record.close
    record.close()


def test_a_unit_s_list_is_explained_as_it_would_have_seen_it(
    unit: tuple[Callable[[], None], Callable[[], None]], gateway: Gateway, run: Command, database: Path
) -> None:
    asks, recorded = unit
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002", scheduled_time="110000")
    asks()
    gateway.cancel("ACC002")
    schedule(gateway, "ACC003", scheduled_time="120000")
    moment = now()
    gateway.cancel("ACC001")
    gateway.amend("ACC003", lambda _: {"scheduled_date": "20261130"})
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY, "--as-of", moment)
    assert outcome.code == 0
    lines = {line.split()[0]: line for line in outcome.out.splitlines() if line.startswith("ACC0")}
    assert "every key matches" in lines["ACC001"]
    assert "yes, then no" in lines["ACC002"]
    assert "the item has CANCELLED" in lines["ACC002"]
    assert "no, then yes" in lines["ACC003"]
    assert "it came in after that query, at 20" in lines["ACC003"]
    assert "as it stood at 20" in outcome.err
    assert "judged by the settings and profiles of now: earlier ones are not kept" in outcome.err
    as_json = run("worklist", "explain", "--from", "MAMMO1", "--as-of", moment, "--json")
    assert as_json.err == ""
    is_documented(as_json.json, "worklist explain")
    assert [item["listed"] for item in as_json.json["items"]] == [True, False, True]
    now_lines = run("worklist", "explain", "--from", "MAMMO1", "--date", DAY).out
    assert "yes, now no" in next(line for line in now_lines.splitlines() if line.startswith("ACC001"))
    assert "ACC003" not in now_lines


def test_a_unit_that_only_asked_later_is_told_so(
    unit: tuple[Callable[[], None], Callable[[], None]], gateway: Gateway, run: Command
) -> None:
    asks, recorded = unit
    schedule(gateway, "ACC001")
    asks()
    recorded()
    outcome = run("worklist", "explain", "--from", "MAMMO1", "--as-of", "2020-01-01 12:00")
    assert (outcome.code, outcome.out) == (1, "")
    assert "no query of MAMMO1 until 2020-01-01 12:00:00 is recorded, only later ones" in outcome.err


@pytest.mark.parametrize("moment", ["", " ", "0001-01-01"])
@pytest.mark.parametrize("words", [("worklist", "list"), ("worklist", "explain", "--from", "MAMMO1")], ids=" ".join)
def test_no_moment_and_one_before_1900_are_misuse(
    gateway: Gateway, run: Command, words: tuple[str, ...], moment: str
) -> None:
    outcome = run(*words, "--as-of", moment)
    assert (outcome.code, outcome.out) == (2, "")
