"""Checks are carried out side by side, each within its time, and what they find is told in their order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest

from gateway.cli import doctor
from gateway.errors import StoreUnusable
from gateway.ops.doctor.finding import Check, Finding, Outcome, carried_out, failed, ok, side_by_side, skipped


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opens at the end, so that nobody waits for ever."""
    opened = threading.Event()
    yield opened
    opened.set()


def well() -> Finding:
    return ok("it works", "a try")


def broken() -> Finding:
    raise StoreUnusable("the disk is full", remedy="make room")


def unexpected() -> Finding:
    raise RuntimeError("SMITH^JANE")


def test_a_finding_has_the_name_of_its_check_and_the_moment_it_was_made() -> None:
    [found] = carried_out(Check("store", well))
    assert (found.name, found.outcome, found.proven, found.how) == ("store", Outcome.OK, "it works", "a try")
    assert datetime.fromisoformat(found.at).tzinfo


def test_an_error_of_ours_is_a_failure_with_its_remedy_and_code() -> None:
    [found] = carried_out(Check("store", broken))
    assert (found.outcome, found.proven, found.remedy) == (Outcome.FAILED, "the disk is full", "make room")
    assert found.code == "store_unusable"


def test_an_unexpected_error_is_a_failure_and_its_words_stay_inside() -> None:
    [found] = carried_out(Check("store", unexpected))
    assert (found.outcome, found.proven) == (Outcome.FAILED, "the check failed (RuntimeError)")


def test_a_check_may_find_one_thing_for_each_of_several() -> None:
    found = carried_out(Check("disk", lambda: [ok("a", ""), failed("b", "", "c")]))
    assert [(one.name, one.proven) for one in found] == [("disk", "a"), ("disk", "b")]


def test_they_are_told_in_their_order_however_they_end(gate: threading.Event) -> None:
    def first() -> Finding:
        assert gate.wait(10)
        return well()

    def second() -> Finding:
        gate.set()
        return skipped("not configured")

    told: list[str] = []
    waiting: list[list[str]] = []
    found = side_by_side(
        [Check("first", first), Check("second", second)],
        lambda some: told.extend(one.name for one in some),
        waiting.append,
    )
    assert told == [one.name for one in found] == ["first", "second"]
    assert waiting[0] == ["first", "second"]


def test_one_that_does_not_end_in_time_has_failed_and_holds_up_nobody(gate: threading.Event) -> None:
    def never() -> Finding:
        gate.wait(30)
        return well()

    began = time.monotonic()
    late, fine = side_by_side([Check("relay", never, seconds=0.2), Check("store", well)])
    assert time.monotonic() - began < 10
    assert (late.name, late.outcome, late.proven) == ("relay", Outcome.FAILED, "no answer within 0.2 s")
    assert fine.outcome is Outcome.OK


def test_of_no_checks_nothing_is_found() -> None:
    assert side_by_side([]) == []


@pytest.mark.parametrize(
    ("unreachable", "code"),
    [
        ((), 0),
        (("orthanc",), 1),
        (("service",), 1),
        (("dicom", "worklist"), 1),
        (("service", "dicom", "worklist"), 3),
        (("service", "dicom", "worklist", "orthanc"), 3),
    ],
)
def test_the_exit_code_says_that_nothing_runs_only_where_none_of_the_services_doors_answers(
    unreachable: tuple[str, ...], code: int
) -> None:
    nobody = failed("nobody answers", "a call", "start it", code="unreachable")
    found = [
        replace(nobody if name in unreachable else well(), name=name)
        for name in ("service", "dicom", "worklist", "store", "orthanc")
    ]
    assert doctor.exit_code(found) == code


def test_where_there_is_no_database_the_other_doors_tell_that_nothing_runs() -> None:
    nobody = failed("nobody answers", "a call", "start it", code="unreachable")
    none = failed("there is no database", "opening it", "create it", code="store_unusable")
    found = [replace(nobody, name="service"), replace(nobody, name="dicom"), replace(none, name="store")]
    assert doctor.exit_code(found) == 3
