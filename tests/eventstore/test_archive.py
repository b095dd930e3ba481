"""Archives copy the log's rows as they are, and prove themselves: by their own links, and where they join."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.application import Gateway, opened
from gateway.eventstore import archive, chain
from gateway.eventstore.archive import ArchiveUnusable, Checked, Part
from gateway.eventstore.chain import Anchor
from tests.eventstore.everything import everything_happened

Lines = list[str]


@pytest.fixture
def eventful(gateway: Gateway) -> Gateway:
    everything_happened(gateway)
    return gateway


def part(gateway: Gateway, last: int, after: Part | None = None) -> Part:
    with gateway.reading() as connection:
        found = archive.part_of(connection, last, after=after)
    assert found is not None
    return found


def copied(gateway: Gateway, wanted: Part, **facts: Any) -> Lines:
    with gateway.reading() as connection:
        return list(archive.lines(connection, wanted, facts))


def head(gateway: Gateway) -> int:
    with gateway.reading() as connection:
        return chain.head(connection)[0]


@pytest.fixture
def whole(eventful: Gateway) -> Lines:
    return copied(eventful, part(eventful, head(eventful)), until="2026-11-23")


def check(*archives: Lines) -> Checked:
    return archive.verify(archives)


def test_position_time_state_and_link_are_copied_exactly(whole: Lines, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        stored = connection.execute(
            "SELECT position, committed_at, originator_id, originator_version, topic, CAST(state AS TEXT),"
            " lower(hex(link)) FROM stored_events e JOIN event_chain ON position = e.rowid ORDER BY position"
        ).fetchall()
    assert [tuple(json.loads(line).values()) for line in whole[1:]] == stored


def test_the_log_is_left_as_it_is(eventful: Gateway) -> None:
    before = eventful.verify_chain()
    copied(eventful, part(eventful, head(eventful)))
    assert eventful.verify_chain() == before


def test_a_whole_archive_is_intact(whole: Lines, eventful: Gateway) -> None:
    found = check(whole)
    assert (found.intact, found.events, found.archives) == (True, head(eventful), 1)
    assert found.part == part(eventful, head(eventful))
    assert found.part
    assert found.part.after == eventful.verify_chain().head


def test_whoever_reads_the_header_can_check_it_without_us(whole: Lines) -> None:
    told = json.loads(whole[0])
    assert told["how"].startswith("link = SHA-256(the previous link, 32 bytes; then position, stream, version, topic,")
    assert told["until"] == "2026-11-23"
    link = bytes.fromhex(told["link_before"])
    assert link == bytes(32)
    for line in whole[1:]:
        event = json.loads(line)
        parts = [
            str(event[name]).encode() for name in ("position", "stream", "version", "topic", "committed_at", "state")
        ]
        link = hashlib.sha256(link + b"".join(len(one).to_bytes(4, "big") + one for one in parts)).digest()
        assert link.hex() == event["link"]
    assert link.hex() == told["last_link"]


def test_archives_join_from_position_to_position(eventful: Gateway) -> None:
    first = part(eventful, 10)
    second = part(eventful, 25, after=first)
    third = part(eventful, head(eventful), after=second)
    assert [(one.first, one.last) for one in (first, second, third)] == [(1, 10), (11, 25), (26, head(eventful))]
    archives = [copied(eventful, one) for one in (first, second, third)]
    assert check(*archives).events == head(eventful)
    assert check(archives[1]).intact
    for others in ([0, 2], [1, 0], [0, 1, 1]):
        found = check(*(archives[number] for number in others))
        assert (found.intact, found.archives, found.line) == (False, len(others), 1)
        assert found.finding == "the archive does not go on from the one before it"


def test_an_archive_of_another_log_does_not_join_although_its_positions_do(eventful: Gateway, tmp_path: Path) -> None:
    with opened(tmp_path / "other.db") as other:
        everything_happened(other)
        second = copied(other, part(other, 25, after=part(other, 10)))
    assert check(second).intact
    found = check(copied(eventful, part(eventful, 10)), second)
    assert (found.intact, found.archives, found.line) == (False, 2, 1)


def test_an_archive_knows_where_it_ends_from_its_first_line(eventful: Gateway) -> None:
    first = part(eventful, 10)
    assert archive.header_of(copied(eventful, first)[0]) == first


def test_nothing_new_is_no_archive(eventful: Gateway) -> None:
    with eventful.reading() as connection:
        assert archive.part_of(connection, 10, after=part(eventful, 10)) is None
        assert archive.part_of(connection, 0) is None


def test_another_log_is_not_gone_on_from(eventful: Gateway) -> None:
    other = Part(first=1, last=10, before=chain.GENESIS, after=bytes(32))
    beyond = Part(first=1, last=1000, before=chain.GENESIS, after=bytes(32))
    for one in (other, beyond):
        with eventful.reading() as connection, pytest.raises(ArchiveUnusable, match="does not go on from that archive"):
            archive.part_of(connection, head(eventful), after=one)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE stored_events SET state = replace(CAST(state AS TEXT), 'ACC', 'ACD') WHERE rowid = 7",
        "UPDATE stored_events SET state = CAST(state AS TEXT) || ' ' WHERE rowid = 7",
        "UPDATE stored_events SET state = CAST(state AS TEXT) WHERE rowid = 7",
        "DELETE FROM stored_events WHERE rowid = 7",
        "DELETE FROM event_chain WHERE position = 7",
        "UPDATE event_chain SET committed_at = '2020' WHERE position = 7",
    ],
)
def test_a_log_that_is_not_as_it_was_written_is_not_archived(eventful: Gateway, path: Path, harm: str) -> None:
    with sqlite3.connect(path) as prompt:
        prompt.execute(harm)
    with pytest.raises(ArchiveUnusable, match="not as it was written at position 7: nothing is archived"):
        copied(eventful, part(eventful, head(eventful)))
    assert check(copied(eventful, part(eventful, 6))).intact


def altered(line: str, **values: Any) -> str:
    return json.dumps({**json.loads(line), **values})


@pytest.mark.parametrize("name", ["position", "committed_at", "stream", "version", "topic", "state", "link"])
def test_an_altered_event_is_named_by_line_and_position(whole: Lines, name: str) -> None:
    value = json.loads(whole[9])[name]
    harmed = [
        *whole[:9],
        altered(whole[9], **{name: value + 1 if isinstance(value, int) else value + " "}),
        *whole[10:],
    ]
    if name == "link":
        harmed[9] = altered(whole[9], link=json.loads(whole[8])["link"])
    found = check(harmed)
    assert (found.intact, found.line, found.position, found.events) == (False, 10, 9, 8)
    assert found.finding == "the event is missing, or was altered or inserted"


def test_removed_inserted_swapped_and_unreadable_lines_are_named(whole: Lines) -> None:
    for harmed in (
        [*whole[:9], *whole[10:]],
        [*whole[:9], whole[8], *whole[9:]],
        [*whole[:9], whole[10], whole[9], *whole[11:]],
        [*whole[:9], "{", *whole[10:]],
        [*whole[:9], "[]", *whole[10:]],
        [*whole[:9], "", *whole[10:]],
    ):
        found = check(harmed)
        assert (found.intact, found.line, found.position) == (False, 10, 9)


def test_half_a_character_and_a_number_without_end_are_named_too(whole: Lines) -> None:
    for harmed in (altered(whole[9], topic="\ud800"), altered(whole[9], position=float("inf"))):
        assert check([*whole[:9], harmed, *whole[10:]]).line == 10
    with pytest.raises(ArchiveUnusable, match="the header of the archive can't be read"):
        check([altered(whole[0], first_position=float("inf"))])


def test_each_of_two_anchors_at_one_position_is_compared(whole: Lines) -> None:
    link = bytes.fromhex(json.loads(whole[9])["link"])
    good, bad, worse = (Anchor(9, one) for one in (link, bytes(32), b"x" * 32))
    assert archive.verify([whole], anchors=[good, good]).anchors == (9,)
    for anchors in ([good, bad], [bad, good], [bad, worse]):
        found = archive.verify([whole], anchors=anchors)
        assert (found.intact, found.line, found.position, found.anchors) == (False, 10, 9, ())
        assert ("contradict each other" in found.finding) == (good in anchors)


def test_a_cut_tail_and_a_header_that_hides_it_are_seen(whole: Lines) -> None:
    found = check(whole[:-1])
    assert (found.intact, found.finding) == (False, "the archive ends too early")
    shorter = [altered(whole[0], last_position=json.loads(whole[-2])["position"]), *whole[:-1][1:]]
    assert check(shorter).finding == "the last event is not the one that the header names"
    longer = [*whole, whole[-1]]
    assert check(longer).finding == "there is more than the header says"


def test_a_beginning_that_is_made_up_is_seen(whole: Lines) -> None:
    assert check([altered(whole[0], link_before="ab" * 32), *whole[1:]]).finding == "the header was altered"


@pytest.mark.parametrize("first", ["", "{}", "x", '{"format": "worklist-gateway events"}'])
def test_what_is_no_archive_is_said_to_be_none(first: str) -> None:
    with pytest.raises(ArchiveUnusable, match="the file is no archive of a gateway"):
        check([first])
    with pytest.raises(ArchiveUnusable, match="no archive"):
        check([])


def test_a_header_that_can_not_be_read_is_said_so(whole: Lines) -> None:
    with pytest.raises(ArchiveUnusable, match="of version 2"):
        check([altered(whole[0], version=2)])
    for spoilt in ({"first_position": "x"}, {"link_before": "zz"}, {"last_link": None}):
        with pytest.raises(ArchiveUnusable, match="the header of the archive can't be read"):
            check([altered(whole[0], **spoilt)])


def test_a_state_that_is_no_text_is_kept_byte_for_byte(eventful: Gateway, path: Path) -> None:
    with sqlite3.connect(path) as prompt:  # as a later release might store it
        rows = prompt.execute(
            "SELECT position, originator_id, originator_version, topic, committed_at, state FROM stored_events e"
            " JOIN event_chain ON position = e.rowid ORDER BY position"
        ).fetchall()
        previous = chain.GENESIS
        for position, stream, version, topic, committed_at, state in rows:
            state = b"\xff\x00" if position == 5 else state
            previous = chain.link(previous, position, stream, version, topic, committed_at, state)
            prompt.execute("UPDATE stored_events SET state = ? WHERE rowid = ?", (state, position))
            prompt.execute("UPDATE event_chain SET link = ? WHERE position = ?", (previous, position))
    copy = copied(eventful, part(eventful, head(eventful)))
    assert json.loads(copy[5])["state_base64"] == "/wA="
    assert check(copy).intact
