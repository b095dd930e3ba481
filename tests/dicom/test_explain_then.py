"""A recorded query against the worklist of an earlier moment: which query is taken, and what is said of the two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dicom_samples import InMemory, row
from test_explain import SITE, SITE_WIDE, asked, item, keep, refusal_of

from bench.synthetic import schedule
from gateway.application import Gateway, opened
from gateway.dicom.explain import Explanation, Then, explain
from gateway.dicom.record import Query
from gateway.errors import NotFound
from projections.worklist import WorklistRow

LONG_BEFORE = "2026-11-20T09:00:00.000000+00:00"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """ACC001 is in the table as it is now: what is looked at is another one."""
    with opened(tmp_path / "gateway.db") as gateway:
        schedule(gateway, "ACC001")
        yield gateway


def clock(time: str) -> str:
    return f"2026-11-23T{time}.000000+00:00"


def stood(*items: WorklistRow, until: str = "10:42:00") -> Then:
    return Then(clock(until), InMemory(list(items)))


def item_of(**values: str) -> WorklistRow:
    return row(**{"created_at": LONG_BEFORE, "updated_at": LONG_BEFORE, **values})


def polled(*times: str, answered: tuple[WorklistRow, ...] = (), title: str = "MAMMO1") -> list[Query]:
    """The same query at each of these times, answered alike."""
    recorded = replace(asked(list(answered), SITE_WIDE), calling_ae_title=title)
    return [replace(recorded, at=f"2026-11-23T{time}.000+00:00") for time in times]


def explained(gateway: Gateway, then: Then, **options: str | int) -> Explanation:
    return explain(gateway, SITE, then=then, **({"from_ae_title": "MAMMO1"} | options))  # type: ignore[arg-type]


def test_it_is_the_latest_query_of_that_title_at_the_moment_or_before(gateway: Gateway) -> None:
    keep(gateway, *polled("09:00:00", "10:00:00", "11:00:00"), *polled("10:30:00", title="MAMMO2"))
    assert explained(gateway, stood()).query.at == "2026-11-23T10:00:00.000+00:00"
    assert explained(gateway, stood(until="10:00:00")).query.at == "2026-11-23T10:00:00.000+00:00"
    assert explained(gateway, stood(until="09:59:59")).query.at == "2026-11-23T09:00:00.000+00:00"
    assert explained(gateway, stood(until="23:00:00")).query.at == "2026-11-23T11:00:00.000+00:00"


def test_a_row_of_polls_that_went_on_beyond_the_moment_is_nearer_to_it_than_one_that_ended(gateway: Gateway) -> None:
    keep(gateway, *polled("10:40:00"))
    other = replace(polled("10:41:00")[0], address="192.0.2.8")
    keep(gateway, other)
    keep(gateway, *polled("10:39:00", "10:43:00"))
    assert (found := explained(gateway, stood()).query).times == 2
    assert found.at == "2026-11-23T10:39:00.000+00:00"


def test_the_items_are_those_of_the_moment_and_today_is_its_day(gateway: Gateway) -> None:
    then = item_of(accession_number="THEN")
    keep(gateway, *polled("10:00:00", answered=(then,)))
    found = explained(gateway, stood(then))
    assert found.days == ("20261123", "20261123")
    assert [one.accession_number for one in found.items] == ["THEN"]
    assert (found.items[0].listed, found.items[0].answered) == (True, True)


def test_what_came_between_the_query_and_the_moment_is_told(gateway: Gateway) -> None:
    late = item_of(created_at=clock("10:41:00"), updated_at=clock("10:41:00"))
    keep(gateway, *polled("10:40:00"))
    found = item(explained(gateway, stood(late)))
    assert (found.listed, found.answered) == (True, False)
    assert found.since_then == "it came in after that query, at 2026-11-23 10:41:00"


def test_of_polls_that_went_on_beyond_the_moment_only_the_first_is_known_to_have_been_before(gateway: Gateway) -> None:
    """What changed between the first poll and the moment may have changed after the last poll before it."""
    changed = item_of(status="CANCELLED", updated_at=clock("10:41:00"))
    keep(gateway, *polled("10:40:00", "10:44:00", answered=(item_of(),)))
    found = item(explained(gateway, stood(changed)))
    assert (found.listed, found.answered) == (False, True)
    assert found.since_then == "it was changed after that query, at 2026-11-23 10:41:00"


def test_a_query_that_came_later_may_be_asked_of_the_moment_and_that_is_told(gateway: Gateway) -> None:
    keep(gateway, *polled("11:00:00", answered=(item_of(),)))
    found = item(explained(gateway, stood(item_of(status="IN PROGRESS")), from_ae_title="", query_id=1))
    assert (found.listed, found.answered) == (False, True)
    assert found.since_then == "that query came later, at 2026-11-23 11:00:00"


def test_refusals_until_the_moment_are_told_and_no_later_ones(gateway: Gateway) -> None:
    keep(gateway, *polled("10:00:00"))
    keep(gateway, refusal_of("MAMMO1", "2026-11-23T10:10:00.000+00:00"))
    keep(gateway, refusal_of("MAMMO1", "2026-11-23T11:10:00.000+00:00"))
    assert [one.at for one in explained(gateway, stood()).refused_since] == ["2026-11-23T10:10:00.000+00:00"]


def test_a_title_that_only_asked_later_is_told_so(gateway: Gateway) -> None:
    keep(gateway, *polled("11:00:00"))
    with pytest.raises(NotFound, match="no query of MAMMO1 until 2026-11-23 10:42:00 is recorded, only later ones"):
        explained(gateway, stood())
    with pytest.raises(NotFound, match="nobody has asked as MAMMO9"):
        explained(gateway, stood(), from_ae_title="MAMMO9")


def test_an_item_that_was_not_there_then_is_told_so(gateway: Gateway) -> None:
    keep(gateway, *polled("10:00:00"))
    with pytest.raises(NotFound, match="there is no item ACC001 at 2026-11-23 10:42:00"):
        explained(gateway, stood(), accession_number="ACC001")
