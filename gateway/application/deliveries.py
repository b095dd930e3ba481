"""The outbox: status events on their way to the web app, and what a person does about those that do not arrive."""

from __future__ import annotations

from collections.abc import Callable

import projections.epochs
import projections.outbox
from gateway.application.deciding import Deciding, Decision
from gateway.domain.epoch import Epoch
from gateway.domain.events import circumstances
from gateway.domain.status_update import StatusUpdate
from gateway.errors import IllegalTransition, NotFound
from projections.outbox import OutboxCounts, OutboxRow


class Deliveries(Deciding):
    """What delivery reports, and what is asked of the outbox."""

    def acknowledge_update(self, event_id: str, *, answer: str, attempts: int) -> None:
        """The web app has it."""
        self._settle(event_id, lambda update: update.acknowledge(answer, attempts))

    def park_update(self, event_id: str, *, reason: str, attempts: int) -> None:
        """The web app refuses it for good; it waits for a person."""
        self._settle(event_id, lambda update: update.park(reason, attempts))

    def _settle(
        self,
        event_id: str,
        command: Callable[[StatusUpdate], None],
        *,
        source: str = "gateway",
        asker: str | None = None,
    ) -> None:
        def decide() -> Decision[None]:
            update = self._load(StatusUpdate, StatusUpdate.create_id(event_id))
            if update is None:
                raise NotFound("there is no such status update", field="event_id")
            command(update)
            return None, [update]

        with circumstances(source=source, correlation_id=asker or event_id, causation_id=event_id):
            self._retry(decide)

    # --- what people do

    def requeue_update(self, event_id: str, *, reason: str, operator: str | None = None, force: bool = False) -> None:
        """A person wants a parked one tried again.

        Raises `NotFound`; `IllegalTransition` when it is not parked, or when the web app has heard a later status of
        that item, which this one would put back (unless `force`).
        """
        row = self.status_update(event_id)
        if row.state != "parked":
            raise IllegalTransition(f"the status event is {row.state}, not parked", field="event_id")
        later = self.find_updates(state="acknowledged", accession_number=row.accession_number, is_test=None)
        of_its_kind = (other for other in later if other.event_type == row.event_type)
        if not force and any(other.sequence > row.sequence for other in of_its_kind):
            raise IllegalTransition(
                f"the web app has heard a later status of {row.accession_number}",
                field="event_id",
                remedy="--force, or its tick in the window, sends it all the same",
            )
        self._settle(event_id, lambda update: update.requeue(reason), source="operator", asker=operator)

    def withdraw_update(self, event_id: str, *, reason: str, operator: str | None = None) -> None:
        """A person takes a waiting one out of the queue. Raises `NotFound`, `IllegalTransition`."""
        row = self.status_update(event_id)
        if row.state != "waiting":
            raise IllegalTransition(f"the status event is {row.state}, not waiting", field="event_id")
        self._settle(event_id, lambda update: update.park(reason, 0), source="operator", asker=operator)

    def resume_delivery(self, *, operator: str, reason: str = "") -> int:
        """A person lets the outbox go on after a restore, perhaps saying why; returns how many status events it holds.

        Raises `IllegalTransition` when it does not wait.
        """

        def decide() -> Decision[int]:
            epoch = self.restored()
            found = self._load(Epoch, Epoch.create_id(epoch.number)) if epoch else None
            if found is None:
                raise IllegalTransition("the outbox does not wait: no backup was restored")
            waiting = self.count_updates().waiting
            found.resume(waiting, reason)
            return waiting, [found]

        with circumstances(source="operator", correlation_id=operator):
            return self._retry(decide)

    # --- what is asked without changing anything

    def status_update(self, event_id: str) -> OutboxRow:
        """A status update by its event_id. Raises `NotFound`."""
        with self.reading() as connection:
            row = projections.outbox.get(connection, event_id)
        if row is None:
            raise NotFound("there is no status event with this event_id", field="event_id")
        return row

    def due_updates(self) -> list[OutboxRow]:
        """The next status update of each accession number; none while deliveries wait after a restore."""
        with self.reading() as connection:
            epoch = projections.epochs.present(connection)
            return projections.outbox.next_due(connection) if epoch is None or epoch.resumed_at else []

    def find_updates(
        self, *, state: str | None = None, accession_number: str = "", is_test: bool | None = False
    ) -> list[OutboxRow]:
        """Status updates in the order they were requested; without a state: the unsettled ones.

        `is_test` None: those of real and of test items.
        """
        with self.reading() as connection:
            return projections.outbox.find(connection, state=state, accession_number=accession_number, is_test=is_test)

    def last_acknowledged(self) -> str | None:
        """When the web app last acknowledged a status update; None when it never did."""
        with self.reading() as connection:
            return projections.outbox.last_acknowledged(connection)

    def count_updates(self) -> OutboxCounts:
        """The outbox in three figures, test items left out."""
        with self.reading() as connection:
            return projections.outbox.count(connection)
