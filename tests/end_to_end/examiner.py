"""Looks at the database of a gateway that is dead, on a copy, and judges it by what the witnesses know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.application import opened
from tests.end_to_end import judgement
from tests.end_to_end.books import Books, copied
from tests.end_to_end.evidence import Span
from tests.end_to_end.harness import GatewayProcess
from tests.end_to_end.judgement import Death, Deliveries
from tests.end_to_end.witnesses import DUPLICATE, FINAL, Witnesses


class Examiner:
    """Complaints go to the witnesses', which are told when `Witnesses.testify` is called.

    `losing` and `repeating`: when the relay may have lost an answer of the web app, or delivered its frame to it twice;
    `resending`: the same for actions. They may grow.
    """

    def __init__(self, witnesses: Witnesses, gateway: GatewayProcess, folder: Path) -> None:
        self.witnesses = witnesses
        self.gateway = gateway
        self.folder = folder
        self.deaths: list[Death] = []
        self.losing: Sequence[Span] = []
        self.repeating: Sequence[Span] = []
        self.resending: Sequence[Span] = []

    def look(self, *, everything: bool) -> Books:
        """After a death: what was acknowledged is there, once, and the outbox owes the rest."""
        known = self.witnesses.known.snapshot()
        copy = copied(self.gateway.database, self.folder)
        books = Books.read(copy)
        self.deaths.append(Death.of(books))
        self._complain(
            judgement.receipts(books, known)
            + judgement.items(books, known)
            + judgement.performed(books, known)
            + judgement.outbox(books, known)
            + judgement.duplicates(known, self.resending)
        )
        if everything:
            self._examine_log_and_projections(copy)
        return books

    def _examine_log_and_projections(self, copy: Path) -> None:
        with opened(copy) as store:
            if store.caught_up:
                self._complain([f"projections were behind the log: {store.caught_up}"])
            if not store.verify_chain().intact:
                self._complain(["the chain is broken"])
            self._complain([f"projections verify: {difference}" for difference in store.verify_projections()])

    def conclude(self) -> Books:
        """After everything: all is answered, all is delivered, in order, and both databases are sound."""
        self.gateway.assert_sound()
        self.gateway.kill()
        books = self.look(everything=True)
        known = self.witnesses.known.snapshot()
        deliveries = Deliveries(known.arrivals, self.deaths, books.settling_attempts(), self.losing, self.repeating)
        self._complain(judgement.the_end(books, known) + deliveries.complaints())
        return books

    def _complain(self, complaints: list[str]) -> None:
        self.witnesses.known.complaints.extend(complaints)

    def summary(self) -> str:
        """What there was of everything."""
        known = self.witnesses.known
        retried = sum(sent.tries > 1 for sent in known.sent)
        converged = sum(bool(sent.reply and sent.reply.get("duplicate")) for sent in known.sent)
        repeated = len(known.arrivals) - len({arrival.event_id for arrival in known.arrivals})
        done = sum(step.created[-1] == DUPLICATE for step in known.steps)
        final = sum(step.finished[-1] == FINAL for step in known.steps)
        with self.gateway.store() as store:
            events = store.verify_chain().events
        return (
            f"{len(known.sent)} actions ({retried} retried, {converged} of them had been done), "
            f"{len(known.steps)} steps ({done} N-CREATE and {final} N-SET had been done), "
            f"{len(known.arrivals)} deliveries ({repeated} repeats, {len(known.refused())} parked), "
            f"{known.queries} queries, {events} events"
        )
