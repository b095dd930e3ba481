"""A database built from an export: the same tables, a chain of its own, and nothing left of one that could not be."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from audit_support import TABLES, events, exported, header, replayed, rows, tables, without_persons
from eventsourcing.persistence import StoredEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.synthetic import change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.audit import erasure
from gateway.audit.replay import ExportUnreadable, replay
from gateway.errors import DiskFull, StoreUnusable
from gateway.eventstore import archive, chain
from gateway.eventstore.loading import Loader
from projections.worklist import WorklistFilter
from tests.eventstore.everything import everything_happened


@pytest.fixture
def eventful(gateway: Gateway) -> Gateway:
    everything_happened(gateway)
    return gateway


def test_a_whole_export_builds_identical_projections_row_by_row(
    eventful: Gateway, database: Path, tmp_path: Path
) -> None:
    built = replayed(exported(eventful), tmp_path)
    assert (built.positions_kept, built.headless, built.events) == (True, 0, eventful.verify_chain().events)
    with opened(built.database) as copy:
        assert copy.caught_up == {}
        assert copy.verify_projections() == []
    assert all(rows(database, table) for table in ("worklist_items", "outbox", "timeline", "performed_steps"))
    assert tables(built.database) == tables(database)


def test_times_positions_and_states_are_kept_and_the_chain_is_its_own(
    eventful: Gateway, database: Path, tmp_path: Path
) -> None:
    built = replayed(exported(eventful), tmp_path)
    for table in ("stored_events", "event_chain"):
        assert rows(built.database, table) == rows(database, table)
    with opened(built.database) as copy:
        assert copy.verify_chain() == eventful.verify_chain()


def test_a_copy_goes_on_like_the_original(eventful: Gateway, tmp_path: Path) -> None:
    built = replayed(exported(eventful), tmp_path)
    with opened(built.database) as copy:
        schedule(copy, "ACC042")
        start(copy, step_uid(42), naming("ACC042"))
        change(copy, completed(step_uid(42)))
        assert copy.count_by_status()["COMPLETED"] == eventful.count_by_status()["COMPLETED"] + 1
        assert copy.verify_chain().intact
        assert copy.verify_projections() == []


def test_a_redacted_export_builds_the_same_rows_but_for_the_persons(
    eventful: Gateway, database: Path, tmp_path: Path
) -> None:
    built = replayed(exported(eventful, redact=True), tmp_path)
    assert without_persons(built.database) == without_persons(database)
    with opened(built.database) as copy:
        assert copy.verify_projections() == []
        assert copy.verify_chain().intact


def test_a_part_of_the_log_is_numbered_anew(eventful: Gateway, tmp_path: Path) -> None:
    built = replayed(exported(eventful, accession_number="ACC006"), tmp_path)
    assert (built.events, built.positions_kept, built.headless) == (6, False, 0)
    with opened(built.database) as copy:
        [item] = rows(built.database, "worklist_items")
        assert item[0] == "ACC006"
        assert copy.verify_chain().intact
        assert copy.verify_projections() == []
        assert [row.position for row in copy.timeline("ACC006")] == [1, 2, 4, 5, 6]


def test_streams_whose_beginning_is_not_there_are_counted(eventful: Gateway, tmp_path: Path) -> None:
    built = replayed(exported(eventful, from_position=30), tmp_path)
    assert built.headless > 0
    with opened(built.database) as copy:
        assert copy.verify_projections() == []


def test_what_would_be_sent_is_counted(eventful: Gateway, tmp_path: Path) -> None:
    assert replayed(exported(eventful), tmp_path).waiting_updates == eventful.count_updates().waiting > 0


def test_an_empty_log_is_an_empty_database(gateway: Gateway, tmp_path: Path) -> None:
    built = replayed(exported(gateway), tmp_path)
    with opened(built.database) as copy:
        assert copy.verify_chain().events == 0


def test_the_database_is_its_owner_s_alone(eventful: Gateway, tmp_path: Path) -> None:
    built = replayed(exported(eventful), tmp_path)
    assert stat.S_IMODE(built.database.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(built.database.stat().st_mode) == 0o600
    assert {file.name for file in built.database.parent.iterdir()} == {"gateway.db", "gateway.db.use"}


def test_an_empty_folder_is_taken_and_one_with_something_in_it_is_left_alone(eventful: Gateway, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert replayed(exported(eventful), tmp_path, "empty").database.exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note").touch()
    (tmp_path / "file").touch()
    for name in ("taken", "file", "empty"):
        with pytest.raises(StoreUnusable, match="is there already and not an empty folder"):
            replayed(exported(eventful), tmp_path, name)
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["note"]


def test_archives_one_after_the_other_are_the_log_again(eventful: Gateway, database: Path, tmp_path: Path) -> None:
    with eventful.reading() as connection:
        first = archive.part_of(connection, 20)
        second = archive.part_of(connection, eventful.check_store(), after=first)
        lines = [line for part in (first, second) if part for line in archive.lines(connection, part, {})]
    built = replayed(lines, tmp_path)
    assert built.positions_kept
    for table in ("stored_events", "event_chain", *TABLES):
        assert rows(built.database, table) == rows(database, table)
    with pytest.raises(ExportUnreadable, match="the file is not whole"):
        replayed([*lines[:10], *lines[21:]], tmp_path, "again")


def archived(gateway: Gateway, last: int | None = None) -> list[str]:
    with gateway.reading() as connection:
        part = archive.part_of(connection, last or chain.head(connection)[0])
        assert part
        return list(archive.lines(connection, part, {}))


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "sealed.db", sealing=True) as gateway:
        everything_happened(gateway)
        yield gateway


def test_a_sealed_archive_is_opened_with_the_keys_of_its_source_and_is_like_the_export_then(
    sealed: Gateway, tmp_path: Path
) -> None:
    lines = archived(sealed)
    assert "SMITH" not in "".join(lines)
    built = replay(lines, tmp_path / "archived", keys_path=sealed.sealing.path)
    exports = replayed(exported(sealed), tmp_path, "exported")
    assert tables(built.database) == tables(exports.database)
    assert rows(built.database, "stored_events") == rows(exports.database, "stored_events")
    with opened(built.database) as copy:  # it needs no key
        assert not copy.sealing.is_used
        assert copy.verify_chain().intact
        assert copy.verify_projections() == []
        assert any(row.patient_name == "SMITH^JANE" for row in copy.find_items(WorklistFilter()))


def test_who_was_erased_is_erased_in_what_is_built_from_an_earlier_archive(sealed: Gateway, tmp_path: Path) -> None:
    schedule(sealed, "ACC777", patient_id="9990000034", patient_name="JONES^ANNA")
    lines = archived(sealed)
    sealed.cancel("ACC777")
    erasure.erase(sealed, "9990000034", erasure.find(sealed, "9990000034"), reason="request 7", operator="dpo")
    built = replay(lines, tmp_path / "archived", keys_path=sealed.sealing.path)
    with opened(built.database) as copy:
        [item] = copy.find_items(WorklistFilter(accession_number="ACC777"))
        assert (item.patient_id, item.patient_name) == ("", "")
    assert b"JONES" not in built.database.read_bytes()


def test_a_sealed_line_whose_key_is_not_at_hand_is_named_and_where_to_look_for_it(
    sealed: Gateway, tmp_path: Path
) -> None:
    with opened(tmp_path / "other.db", sealing=True) as other:
        schedule(other, "ACC001")
        others = other.sealing.path
    for keys_path in (None, tmp_path / "nowhere", others):
        with pytest.raises(ExportUnreadable, match=r"^line 2: the event is sealed, and can't be opened") as error:
            replay(archived(sealed), tmp_path / "archived", keys_path=keys_path)
        assert "GATEWAY_KEYS_PATH" in error.value.remedy
    assert not (tmp_path / "archived").exists()


@pytest.mark.parametrize("key_id", [[], {}, 7, "", True, "0123456789abcdef", "\ud800"])
@pytest.mark.parametrize("with_keys", [False, True])
def test_an_export_s_line_that_names_a_key_is_named(
    sealed: Gateway, tmp_path: Path, key_id: Any, with_keys: bool
) -> None:
    lines = exported(sealed)
    event = json.loads(lines[1])
    event["state"]["envelope"]["key_id"] = key_id
    with pytest.raises(ExportUnreadable, match=r"^line 2: "):
        replay(
            [lines[0], json.dumps(event), *lines[2:]],
            tmp_path / "elsewhere",
            keys_path=sealed.sealing.path if with_keys else None,
        )


def test_an_altered_archive_is_not_replayed(eventful: Gateway, tmp_path: Path) -> None:
    lines = archived(eventful)
    altered = {**json.loads(lines[6]), "state": json.loads(lines[6])["state"].replace("ACC", "ACD")}
    head = json.loads(lines[0])
    for harmed, finding in (
        ([*lines[:6], json.dumps(altered), *lines[7:]], "^line 7: the event is missing, or was altered or inserted"),
        ([json.dumps({**head, "last_link": "ab" * 32}), *lines[1:]], "^the last event is not the one that the header"),
        ([json.dumps({**head, "link_before": "ab" * 32}), *lines[1:]], "^line 1: the header was altered"),
        ([json.dumps({**head, "first_position": "x"}), *lines[1:]], "^line 1: the header of the archive can't be read"),
        ([*lines, *lines], f"^line {len(lines) + 1}: the archive does not go on from the one before it"),
    ):
        with pytest.raises(ExportUnreadable, match=finding):
            replayed(harmed, tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_an_archive_s_event_of_a_later_version_is_named(gateway: Gateway, tmp_path: Path) -> None:
    schedule(gateway, "ACC001")
    lines = archived(gateway)
    event = json.loads(lines[1])
    event["state"] = json.dumps(json.loads(event["state"]) | {"class_version": 99})
    link = chain.link(
        chain.GENESIS, *(event[name] for name in ("position", "stream", "version", "topic", "committed_at", "state"))
    ).hex()
    head = json.loads(lines[0]) | {"last_link": link}
    with pytest.raises(ExportUnreadable, match=r"^line 2: the event is of a later version than this gateway knows"):
        replayed([json.dumps(head), json.dumps(event | {"link": link})], tmp_path)


def test_a_number_that_no_table_can_hold_is_named(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful)
    number = next(n for n, line in enumerate(lines) if '"StatusUpdate.Requested"' in line)
    event = json.loads(lines[number])
    event["state"]["sequence"] = 2**70
    with pytest.raises(ExportUnreadable, match=rf"^line {number + 1}: the event can't be projected \(OverflowError\)"):
        replayed([*lines[:number], json.dumps(event), *lines[number + 1 :]], tmp_path)


def test_a_full_disk_is_not_blamed_on_the_export(eventful: Gateway) -> None:
    """What a projection writes does not fit any more."""

    def no_room(cursor: sqlite3.Cursor, event: object) -> None:
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        cursor.execute("CREATE TABLE filler AS SELECT zeroblob(1000000)")

    first = events(exported(eventful))[0]
    state = json.dumps(first["state"]).encode()
    projection = SimpleNamespace(apply=no_room)
    stored = StoredEvent(uuid4(), 1, first["topic"], state)
    with pytest.raises(DiskFull, match="full"), eventful.datastore.writer.transaction() as cursor:
        Loader(cursor, eventful.mapper, [projection]).add("2999-01-01", stored)  # type: ignore[list-item]


def test_progress_is_told(eventful: Gateway, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    lines = exported(eventful)
    replay(lines, tmp_path / "elsewhere", lambda done, total: told.append((done, total)))
    assert told[-1] == (len(lines) - 1, len(lines) - 1)


def changed(**values: Any) -> Any:
    return lambda event: json.dumps({**event, **values})


def without(name: str) -> Any:
    return lambda event: json.dumps({key: value for key, value in event.items() if key != name})


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (lambda _: "{", "it is no JSON object"),
        (lambda _: "[]", "it is no JSON object"),
        (lambda _: "", "it is no JSON object"),
        (lambda _: "[" * 100_000, "it is no JSON object"),
        (without("stream"), "stream is missing or not what it should be"),
        (changed(position="7"), "position is missing or not what it should be"),
        (changed(position=True), "position is missing or not what it should be"),
        (changed(position=5), "the event's position is not above the one before it"),
        (changed(version=0), "version is not above 0"),
        (changed(version=10**30), "version is not above 0, or far too high"),
        (changed(state="{"), r"event 1 of stream .* can't be read \(JSONDecodeError\)"),
        (changed(state={"class_version": 7}), "the event is of a later version than this gateway knows"),
        (changed(state={"x": "\ud800"}), "state can't be written in UTF-8"),
        (changed(stream="x"), "stream is no UUID"),
        (changed(committed_at="yesterday"), "committed_at is no instant with an offset"),
        (changed(committed_at="2026-11-23T10:42:00"), "committed_at is no instant with an offset"),
        (changed(committed_at="2020-01-01T00:00:00+00:00"), "the event was committed before the one that it follows"),
        (changed(topic="WorklistItem"), "topic is no kind of event that this gateway knows"),
        (changed(topic="antigravity:x"), "topic is no kind of event that this gateway knows"),
        (changed(state={"class_version": "2"}), r"event 1 of stream .* can't be read \(TypeError\)"),
        (changed(state=7), "state is missing or not what it should be"),
        (changed(state={}), r"the event can't be projected \(AttributeError\)"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_left_behind(
    eventful: Gateway, tmp_path: Path, spoil: Any, finding: str
) -> None:
    lines = exported(eventful)
    lines[6] = spoil(json.loads(lines[6]))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportUnreadable, match=f"^line 7: {finding}"):
        replayed(lines, tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_an_event_that_comes_twice_is_named(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful)
    last = json.loads(lines[-1])
    with pytest.raises(ExportUnreadable, match=f"^line {len(lines) + 1}: its stream has an event of that version"):
        replayed([*lines, json.dumps({**last, "position": last["position"] + 1})], tmp_path)


def test_a_cut_export_is_not_taken_for_a_whole_one(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful)
    count = len(lines) - 1
    with pytest.raises(ExportUnreadable, match=f"it holds {count - 1} events, and its header says {count}"):
        replayed(lines[:-1], tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_export_is_refused_by_its_first_line(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful)
    for first in ("", "{}", "SQLite format 3", lines[1]):
        with pytest.raises(ExportUnreadable, match="line 1 is no header of an export or an archive"):
            replayed([first, *lines[1:]], tmp_path)
    with pytest.raises(ExportUnreadable, match="line 1 is no header"):
        replayed([], tmp_path)
    with pytest.raises(ExportUnreadable, match="the file is of version 2, this gateway reads version 1"):
        replayed([json.dumps({**header(lines), "version": 2}), *lines[1:]], tmp_path)
    with pytest.raises(ExportUnreadable, match="line 1, the header, does not say how many events"):
        replayed([json.dumps({k: v for k, v in header(lines).items() if k != "events"}), *lines[1:]], tmp_path)


def test_no_message_tells_what_is_in_a_line(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful)
    for key in ("position", "committed_at", "stream", "version", "topic", "state"):
        spoilt = {**json.loads(lines[6]), key: "SMITH^JANE"}
        with pytest.raises(ExportUnreadable) as error:
            replayed([*lines[:6], json.dumps(spoilt), *lines[7:]], tmp_path)
        assert "SMITH" not in str(error.value)


def test_an_event_of_an_earlier_version_is_stored_as_it_was(eventful: Gateway, tmp_path: Path) -> None:
    lines = exported(eventful, kinds=("StatusUpdate.Requested",), limit=1)
    [event] = events(lines)
    del event["state"]["performed"], event["state"]["class_version"]
    built = replayed([lines[0], json.dumps(event)], tmp_path)
    with sqlite3.connect(built.database) as connection:
        [(state,)] = connection.execute("SELECT state FROM stored_events").fetchall()
    assert json.loads(state) == event["state"]
    assert len(rows(built.database, "outbox")) == 1


@pytest.fixture(scope="module")
def a_story(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    with opened(tmp_path_factory.mktemp("story") / "gateway.db") as gateway:
        everything_happened(gateway)
        return exported(gateway)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_whatever_a_line_holds_it_is_replayed_or_named(
    a_story: list[str], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = list(a_story)
    number = data.draw(st.integers(1, len(lines) - 1))
    event = json.loads(lines[number])
    holder = event
    name = data.draw(st.sampled_from(sorted(holder)))
    while isinstance(holder[name], dict) and holder[name] and data.draw(st.booleans()):
        holder = holder[name]
        name = data.draw(st.sampled_from(sorted(holder)))
    holder[name] = data.draw(VALUES)
    lines[number] = json.dumps(event)
    folder = tmp_path_factory.mktemp("fuzz")
    told = ""
    try:
        replay(lines, folder / "elsewhere")
    except ExportUnreadable as error:
        told = str(error)
    left = [file.name for file in folder.iterdir()]
    assert left == ([] if told else ["elsewhere"])
    assert told == "" or told.startswith("line ")
