"""What is kept of the tries to deliver an event, and shown to people."""

from __future__ import annotations

from collections.abc import Callable

from gateway.application import Gateway
from gateway.delivery.attempts import AttemptBook, Attempts, attempts_of

Begin = Callable[[int], None]


def shown(gateway: Gateway, event_id: str) -> Attempts:
    with gateway.reading() as connection:
        return attempts_of(connection)[event_id]


def test_what_was_never_sent_has_no_time_of_sending_but_the_error_of_the_dial(gateway: Gateway, begin: Begin) -> None:
    begin(1)
    [row] = gateway.due_updates()
    book = AttemptBook(gateway)
    for _ in range(2):
        book.begin(row.event_id)
        book.take_back(row.event_id)
        book.note_failure(row.event_id, "tcp: nobody answers")
    assert shown(gateway, row.event_id) == Attempts(0, None, None, "tcp: nobody answers")


def test_a_dial_that_found_no_connection_leaves_the_time_when_it_was_last_sent(gateway: Gateway, begin: Begin) -> None:
    begin(1)
    [row] = gateway.due_updates()
    book = AttemptBook(gateway)
    book.begin(row.event_id)
    book.begin(row.event_id)
    sent = shown(gateway, row.event_id)
    for _ in range(2):
        book.begin(row.event_id)
        book.take_back(row.event_id)
    assert shown(gateway, row.event_id) == sent
    assert sent.attempts == 2


def test_a_database_from_before_keeps_its_attempts(gateway: Gateway, begin: Begin) -> None:
    begin(1)
    [row] = gateway.due_updates()
    AttemptBook(gateway).begin(row.event_id)
    sent = shown(gateway, row.event_id)
    with gateway.datastore.writer.transaction() as cursor:
        cursor.execute("ALTER TABLE delivery_attempts DROP COLUMN sent_before_at")
    book = AttemptBook(gateway)
    book.begin(row.event_id)
    book.take_back(row.event_id)
    assert shown(gateway, row.event_id) == sent
