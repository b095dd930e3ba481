"""The faster ways from and to JSON give what the library and `json.dumps` give, whatever the values."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any

import pytest
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder
from hypothesis import given
from hypothesis import strategies as st

from gateway.eventstore.collecting import CollectingCursor
from gateway.eventstore.decoding import decoder
from gateway.eventstore.json_text import as_text, as_unicode
from gateway.eventstore.mapper import EnvelopeMapper, register_transcodings

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
typed = st.binary() | st.datetimes(timezones=st.just(UTC))
names = st.sampled_from(["timestamp", "metadata", "_type_", "_data_", "envelope", "patient", "x"])
states = st.dictionaries(
    names,
    plain | typed | st.lists(typed, max_size=2) | st.dictionaries(names, plain | typed, max_size=3),
    max_size=5,
) | st.builds(
    lambda state, sealed: {**state, "envelope": {"key_id": None, "sealed": sealed}},
    st.dictionaries(names, plain | typed, max_size=3),
    st.dictionaries(names, plain | typed, max_size=3) | st.text(),
)


@pytest.fixture(scope="module")
def transcoder() -> JSONTranscoder:
    made = JSONTranscoder()
    made.register(DatetimeAsISO())
    register_transcodings(made)
    return made


def outcome(decode: Any, text: Any) -> Any:
    try:
        return repr(decode(text))
    except Exception as error:  # noqa: BLE001  they must be the same
        return type(error)


@given(state=states)
def test_a_state_is_encoded_byte_by_byte_as_the_library_encodes_it(
    transcoder: JSONTranscoder, state: dict[str, Any]
) -> None:
    assert outcome(EnvelopeMapper(transcoder).encode, state) == outcome(transcoder.encode, state)


@given(state=states)
def test_a_text_is_decoded_as_the_library_decodes_it(transcoder: JSONTranscoder, state: dict[str, Any]) -> None:
    text = transcoder.encode(state)
    assert outcome(decoder(transcoder), text) == outcome(transcoder.decode, text)


@given(text=st.binary() | st.text().map(lambda text: json.dumps({"a": text}).encode()))
def test_what_is_no_text_of_ours_fails_or_not_as_in_the_library(transcoder: JSONTranscoder, text: bytes) -> None:
    """Surrogates that stand alone, too: JSON may escape them."""
    assert outcome(decoder(transcoder), text) == outcome(transcoder.decode, text)


@pytest.mark.parametrize("text", [b'{"a": "\\ud800"}', b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[1]", b'"x"', b""])
def test_corners_of_json_are_read_as_the_library_reads_them(transcoder: JSONTranscoder, text: bytes) -> None:
    assert outcome(decoder(transcoder), text) == outcome(transcoder.decode, text)


def test_the_fast_way_is_taken_for_what_our_events_hold(transcoder: JSONTranscoder) -> None:
    state = {
        "timestamp": datetime(2026, 11, 23, tzinfo=UTC),
        "envelope": {"key_id": None, "sealed": {"attribute_list": b"\x00", "patient": {"patient_id": "9990000018"}}},
    }
    text, refusing = transcoder.encode(state), JSONTranscoder()
    for transcoding in transcoder.types.values():
        refusing.register(transcoding)
    refusing.decode = pytest.fail  # type: ignore[method-assign, assignment]
    assert decoder(refusing)(text) == state


@given(value=plain)
def test_json_is_written_as_json_dumps_writes_it(value: Any) -> None:
    assert as_text(value) == json.dumps(value)
    assert as_unicode(value) == json.dumps(value, ensure_ascii=False)


# --- insertions that wait for each other


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_insertions_that_waited_are_all_written_in_their_order(count: int) -> None:
    table = sqlite3.connect(":memory:", isolation_level=None)
    table.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, value TEXT)")
    collecting = CollectingCursor(table.cursor())
    for number in range(count):
        collecting.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (number // 2, str(number)))
    collecting.flush()
    expected = {number // 2: str(number) for number in range(count)}
    assert dict(table.execute("SELECT * FROM t")) == expected


def test_whatever_is_no_insertion_comes_after_those_that_waited() -> None:
    table = sqlite3.connect(":memory:", isolation_level=None)
    table.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, value TEXT)")
    collecting = CollectingCursor(table.cursor())
    collecting.execute("INSERT INTO t VALUES (?, ?)", (1, "a"))
    assert collecting.execute("SELECT value FROM t").fetchall() == [("a",)]
    collecting.execute("INSERT INTO t VALUES (?, ?)", (2, "b"))
    collecting.execute("UPDATE t SET value = 'c' WHERE key = ?", (2,))
    collecting.execute("INSERT INTO t VALUES (?, ?)", (3, "d"))
    assert collecting.connection.execute("SELECT value FROM t").fetchall() == [("a",), ("c",), ("d",)]


@pytest.mark.parametrize("count", [5, 100, 150])
@pytest.mark.parametrize("refused", [0, 3, 4])
def test_a_refused_row_is_known_by_the_position_of_its_event(count: int, refused: int) -> None:
    table = sqlite3.connect(":memory:", isolation_level=None)
    table.execute("CREATE TABLE t (key INTEGER PRIMARY KEY, value TEXT NOT NULL)")
    collecting = CollectingCursor(table.cursor())

    def insert() -> None:
        for number in range(count):
            collecting.position = 1000 + number
            collecting.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (number, None if number == refused else "x"))
        collecting.position = 5000
        collecting.flush()

    with pytest.raises(sqlite3.IntegrityError):
        insert()
    assert collecting.position == 1000 + refused
