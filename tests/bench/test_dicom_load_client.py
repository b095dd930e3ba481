"""The client of `python -m bench dicom` tells a right answer from a wrong one: nobody wins by answering wrongly."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice, repeat

import pytest

from bench import dicom_messages
from bench.dicom_items import accession_number, data_set, item, study_uid
from bench.dicom_load import Load, Query, Refused, WrongAnswer, drive, pair_task, query_task, timed_visit
from bench.floor import Floor
from tests.loop_in_a_thread import served

LISTED = (0, 1, 2)
SUCCESS, OUT_OF_RESOURCES = (b"\x00\x00\x00\x09\x02\x00\x00\x00" + status for status in (b"\x00\x00", b"\x00\xa7"))
"""Status elements (PS3.7 E.1)."""


def found(*numbers: int) -> bytes:
    return dicom_messages.found(data_set(item(number, size=10), study_uid(number)) for number in numbers)


def asked() -> Query:
    return Query(dicom_messages.find(), [accession_number(number) for number in LISTED])


@contextmanager
def answering(answer: bytes, protocol: Callable[..., asyncio.Protocol] = Floor) -> Iterator[int]:
    """The port of a provider that answers every query with these bytes."""
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as log:
        log.execute("CREATE TABLE kept (pdu BLOB)")
        answers = {dicom_messages.WORKLIST_CONTEXT: answer, dicom_messages.STEP_CONTEXT: dicom_messages.changed()}

        def start() -> Awaitable[asyncio.Server]:
            return asyncio.get_running_loop().create_server(lambda: protocol(answers, log), "127.0.0.1", 0)

        with served(start) as port:
            yield port


WRONG = {
    "an item is missing": found(0, 1),
    "an item is listed twice": found(0, 1, 1),
    "one item too many": found(0, 1, 2, 3),
    "another item": found(0, 1, 7),
    "a failure after the items": found(*LISTED).replace(SUCCESS, OUT_OF_RESOURCES),
    "more after the final response": found(*LISTED) + found(),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_answer_is_no_answer(answer: bytes) -> None:
    with answering(answer) as port:
        with pytest.raises(WrongAnswer):
            timed_visit(port, query_task(asked())[0])
        with pytest.raises(WrongAnswer):
            drive(port, repeat(query_task(asked())), clients=2, seconds=0.1)


def test_the_same_items_in_another_order_are_right() -> None:
    with answering(found(2, 0, 1)) as port:
        assert timed_visit(port, query_task(asked())[0]) > 0


def test_an_answer_that_is_not_the_one_already_checked_is_checked_anew() -> None:
    query = asked()
    assert query.is_complete(bytearray(found(*LISTED)))
    assert query.is_complete(bytearray(found(*reversed(LISTED))))
    with pytest.raises(WrongAnswer):
        query.is_complete(bytearray(found(0, 1, 7)))


@pytest.mark.parametrize("is_known", [False, True], ids=["never seen", "already checked"])
def test_an_answer_is_complete_with_its_last_byte_and_not_before(is_known: bool) -> None:
    query, answer = asked(), found(*LISTED)
    if is_known:
        query.is_complete(bytearray(answer))
    assert [length for length in range(len(answer) + 1) if query.is_complete(bytearray(answer[:length]))] == [
        len(answer)
    ]


def test_every_task_of_many_clients_is_done_once() -> None:
    with answering(found(*LISTED)) as port:
        queries = drive(port, islice(repeat(query_task(asked())), 50), clients=8, seconds=60)
        pairs = drive(port, map(pair_task, range(20)), clients=4, seconds=60)
    assert (queries.done, len(queries.visits), queries.refused, queries.timed_out) == (50, 50, 0, 0)
    assert (pairs.done, len(pairs.visits)) == (20, 40)


class Rejecting(asyncio.Protocol):
    """Rejects every association: transient, by the service provider, local limit exceeded (PS3.8 9.3.4)."""

    def __init__(self, *_: object) -> None: ...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(b"\x03\x00\x00\x00\x00\x04\x00\x02\x03\x02")  # type: ignore[attr-defined]


class Silent(asyncio.Protocol):
    """Takes connections and says nothing."""

    def __init__(self, *_: object) -> None: ...


def test_refusals_and_silence_are_counted_and_no_rate_comes_of_them() -> None:
    def failures(protocol: Callable[..., asyncio.Protocol]) -> Load:
        with answering(b"", protocol) as port:
            return drive(port, repeat(query_task(asked())), clients=3, seconds=0.1, patience=0.15)

    rejected, ignored = failures(Rejecting), failures(Silent)
    assert (rejected.done, rejected.rate, rejected.timed_out) == (0, 0, 0)
    assert rejected.refused >= 3
    assert (ignored.done, ignored.refused, ignored.timed_out) == (0, 0, 3)
    with answering(b"", Rejecting) as port, pytest.raises(Refused, match="result 2, source 3, reason 2"):
        timed_visit(port, query_task(asked())[0])
