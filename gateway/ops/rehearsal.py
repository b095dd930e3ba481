"""A rehearsal: a participant who does not exist goes the way of a real one, and each hop is judged.

She is marked as a test: only callers in `GATEWAY_TEST_AE_TITLES` see her, and no list and no count of the clinic holds
her. In the end her item is completed; where a hop failed it is cancelled or discontinued, and what the web app was
still owed of it is withdrawn, so that rehearsals leave nothing behind that waits for somebody.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4
from zoneinfo import ZoneInfo

from gateway.actions.door import REHEARSAL
from gateway.application import Gateway
from gateway.delivery.attempts import attempts_of
from gateway.domain.lifecycle import Status
from gateway.domain.status_update import StatusUpdate
from gateway.domain.worklist_item import Appointment
from gateway.errors import GatewayError
from gateway.ops.doctor.finding import Check, Finding, Outcome, carried_out, failed, ok, skipped
from gateway.rehearsal.modality import (
    AssociationRejected,
    Examination,
    Modality,
    ModalityError,
    Unreachable,
    WorklistEntry,
)
from projections.outbox import OutboxRow
from projections.worklist import TextFilter, WorklistFilter, WorklistRow

_PREFIX = "REHEARSAL"
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_PATIENT_ID = "9997770005"
"""Of the 999 range, which is given to nobody."""
_HEARD = frozenset({"action_not_found", "appointment_not_found", "no_appointment_id"})
"""The web app's words for an item that it did not make: it has heard, and answered."""
_LOOK_EVERY = 0.05
_ABANDONED_AFTER = timedelta(minutes=15)

GATEWAY, RELAY, WEB_APP, HERE = "the gateway", "the relay, or the way to it", "the web app", "these settings"
"""Whose move it is."""


class SendFailed(GatewayError):
    """The action did not come through the relay; `fault` is whose move it is."""

    code = "send_failed"

    def __init__(self, message: str, *, remedy: str, fault: str, unreachable: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.fault = fault
        if unreachable:
            self.code = "unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a rehearsal takes place.

    `gateway` is the running service's database, looked into from outside; `unit` an emulated modality that calls as a
    test caller; `send` brings an action through the relay and gives the reply (raises `SendFailed`), None: no relay is
    configured; `delivers` whether status events have a hybrid connection. `patience` is how long one hop may take.
    """

    gateway: Gateway
    unit: Modality
    send: Callable[[str], str] | None
    delivers: bool
    zone: ZoneInfo
    operator: str
    patience: float = 15.0


def new_accession_number() -> str:
    """One that no web app makes, and no rehearsal before."""
    return _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(16 - len(_PREFIX)))


@dataclass(frozen=True, slots=True)
class _Hop:
    """A stretch of the way; those after one that `is_needed` are not tried when it fails."""

    name: str
    go: Callable[[], Finding]
    is_needed: bool = True


@dataclass
class Rehearsal:
    """One of them."""

    stage: Stage
    accession_number: str = field(default_factory=new_accession_number)

    def __post_init__(self) -> None:
        self._entries: list[WorklistEntry] = []
        self._begun_steps: list[Examination] = []

    def rehearsed(self) -> Iterator[Finding]:
        """The whole way, each hop's finding as soon as it is judged; what builds upon a failed one is not tried."""
        way = (
            _Hop("relay", self._scheduled),
            _Hop("store", self._stored),
            _Hop("worklist", self._listed),
            _Hop("begun", self._begun),
            _Hop("told begun", lambda: self._told(Status.IN_PROGRESS), is_needed=False),
            _Hop("completed", self._completed),
            _Hop("told completed", lambda: self._told(Status.COMPLETED), is_needed=False),
            _Hop("apart", self._kept_apart),
        )
        self._end_abandoned()
        try:
            yield from self._in_order(way)
        finally:
            self._end_step()
            self._end_item(self.accession_number)

    def performed(self) -> Iterator[Finding]:
        """The modality's part of the way alone, for a test item that somebody else has made and is told of."""
        way = (_Hop("worklist", self._listed), _Hop("begun", self._begun), _Hop("completed", self._completed))
        try:
            yield from self._in_order(way)
        finally:
            self._end_step()

    def _in_order(self, way: Sequence[_Hop]) -> Iterator[Finding]:
        broken = ""
        for hop in way:
            if broken:
                yield self._judged(_Hop(hop.name, partial(skipped, f"not tried: {broken} failed")))
                continue
            finding = self._judged(hop)
            yield finding
            if finding.outcome is Outcome.FAILED and hop.is_needed:
                broken = hop.name

    def _judged(self, hop: _Hop) -> Finding:
        def ask() -> Finding:
            try:
                return hop.go()
            except SendFailed as error:
                return failed(error.message, _SENT, error.remedy, error.fault, code=error.code)
            except ModalityError as error:
                return failed(error.message, "an emulated modality", error.remedy, _at_the_door(error), code=error.code)

        return carried_out(Check(hop.name, ask))[0]

    # --- the hops

    def _scheduled(self) -> Finding:
        if self.stage.send is None:
            self._schedule_here()
            return skipped("no relay is configured: the item is put into the store by hand", "set AZURE_RELAY_…")
        began = time.perf_counter()
        reply = _read(self.stage.send(json.dumps(self._action())))
        if reply.get("status") != "created":
            code = reply.get("code") or "no word of the contract"
            return failed(f"the gateway refused the test item: {code}", _SENT, "look at its log", GATEWAY)
        return ok("the gateway answered created", _SENT, seconds=time.perf_counter() - began)

    def _stored(self) -> Finding:
        began = time.perf_counter()
        how = f"a look into {self.stage.gateway.path.name}"
        rows = self.stage.gateway.timeline(self.accession_number)
        if self._row(self.accession_number) is None or not rows:
            return failed(
                "the item that was answered created is not in this database",
                how,
                "another gateway listens at this hybrid connection, or WORKLIST_DB_PATH is not the service's",
                HERE,
            )
        return ok(f"appended as event {rows[0].position}, marked as a test", how, seconds=time.perf_counter() - began)

    def _listed(self) -> Finding:
        began = time.perf_counter()
        unit = self.stage.unit
        entries = unit.find(accession_number=self.accession_number)
        if not entries:
            return failed(
                f"{unit.calling_ae_title} is not shown the test item",
                "C-FIND",
                f"put {unit.calling_ae_title} into GATEWAY_TEST_AE_TITLES, and see gateway worklist explain "
                f"--from {unit.calling_ae_title}",
                HERE,
            )
        self._entries = entries
        shown = f"{unit.calling_ae_title} is shown the item"
        return ok(shown, f"C-FIND at port {unit.port}", seconds=time.perf_counter() - began)

    def _begun(self) -> Finding:
        began = time.perf_counter()
        [entry] = self._entries
        self._begun_steps.append(self.stage.unit.start(entry))
        return self._became(Status.IN_PROGRESS, "MPPS N-CREATE", began)

    def _completed(self) -> Finding:
        began = time.perf_counter()
        [step] = self._begun_steps
        self.stage.unit.finish(step)
        self._begun_steps.clear()
        return self._became(Status.COMPLETED, "MPPS N-SET", began)

    def _became(self, status: Status, how: str, began: float) -> Finding:
        row = self._row(self.accession_number)
        if row is None or row.status != status:
            found = row.status if row else "gone"
            return failed(f"the item is {found}, not {status}", how, "look at the service's log", GATEWAY)
        return ok(f"the item is {status}", how, seconds=time.perf_counter() - began)

    def _told(self, status: Status) -> Finding:
        if not self.stage.delivers:
            return skipped("no events hybrid connection is configured", "set AZURE_RELAY_EVENTS_HYBRID_CONNECTION")
        how = "the status event over the events hybrid connection"
        updates = self._updates(self.accession_number)
        if any(update.state == "waiting" and update.status != status for update in updates):
            return skipped(f"{status} waits behind the one before it, which the web app has not acknowledged")
        began = time.perf_counter()
        update = self._settled(status)
        seconds = time.perf_counter() - began
        if update is None:
            return failed(f"no status event {status} was requested", how, "look at the service's log", GATEWAY)
        if update.state == "acknowledged":
            return ok(f"the web app acknowledged {status}", how, seconds=seconds)
        if update.state == "parked" and update.answer in _HEARD:
            return ok(f"the web app heard {status} and does not know the item, as it should", how, seconds=seconds)
        if update.state == "parked":
            return failed(f"the web app refused {status}: {update.answer}", how, "tell its team", WEB_APP)
        return self._not_told(status, update, how)

    def _not_told(self, status: Status, update: OutboxRow, how: str) -> Finding:
        epoch = self.stage.gateway.restored()
        if epoch and not epoch.resumed_at:
            remedy = "look at gateway backup lost, then gateway outbox resume --after-restore"
            return failed("status events wait since a backup was restored", how, remedy, HERE)
        waited = f"{status} was not acknowledged within {self.stage.patience:g} s"
        error = self._delivery_error(update)
        if error is None:
            return failed(f"{waited}, and not sent", how, "is gateway serve running?", GATEWAY)
        return failed(f"{waited}: {error}", how, *_whose_move(error))

    def _delivery_error(self, update: OutboxRow) -> str | None:
        """Why it was not delivered, or another: while the connection fails, one event probes for all."""
        with self.stage.gateway.reading() as connection:
            tries = attempts_of(connection)
        waiting = [update, *self.stage.gateway.find_updates(state="waiting", is_test=None)]
        tried = [tries[row.event_id] for row in waiting if row.event_id in tries]
        errors = [one.last_error for one in tried if one.last_error]
        return errors[0] if errors else "no answer came" if tried else None

    def _kept_apart(self) -> Finding:
        number, gateway = self.accession_number, self.stage.gateway
        how = "a look into the lists"
        if gateway.find_items(WorklistFilter(accession_number=number, is_test=False)):
            return failed("the test item is on the clinic's list", how, "report it, with the log", GATEWAY)
        if gateway.find_updates(accession_number=number):
            return failed("the test item's status events count as real ones", how, "report it, with the log", GATEWAY)
        return ok("the item is marked as a test and on no list of the clinic", how)

    # --- what they are made of

    def _row(self, accession_number: str) -> WorklistRow | None:
        wanted = WorklistFilter(accession_number=accession_number, is_test=True)
        return next(iter(self.stage.gateway.find_items(wanted)), None)

    def _settled(self, status: Status) -> OutboxRow | None:
        """The update of this status once it is settled, or as it is when patience ends."""
        deadline = time.monotonic() + self.stage.patience
        while True:
            found = [update for update in self._updates(self.accession_number) if update.status == status]
            if (found and found[0].state != "waiting") or time.monotonic() > deadline:
                return found[0] if found else None
            time.sleep(_LOOK_EVERY)

    def _updates(self, accession_number: str) -> list[OutboxRow]:
        """The status events of an item in their order; by their ids, for this is asked again and again."""
        gateway = self.stage.gateway
        requested = (row for row in gateway.timeline(accession_number) if row.kind == StatusUpdate.Requested.TOPIC)
        return [gateway.status_update(row.details["event_id"]) for row in requested]

    def _appointment(self) -> Appointment:
        now = datetime.now(self.stage.zone)
        return Appointment(
            accession_number=self.accession_number,
            patient_id=_PATIENT_ID,
            patient_name="REHEARSAL^TEST",
            patient_birth_date="19700101",
            patient_sex="O",
            scheduled_date=now.strftime("%Y%m%d"),
            scheduled_time=now.strftime("%H%M%S"),
            modality="MG",
            study_description="Rehearsal, no patient",
        )

    def _action(self) -> dict[str, object]:
        wanted = self._appointment()
        return {
            "schema_version": 1,
            "action_id": str(uuid4()),
            "action_type": "worklist.create_test_item",
            "timestamp": datetime.now(UTC).isoformat(),
            "source_system": REHEARSAL,
            "parameters": {
                "worklist_item": {
                    "accession_number": wanted.accession_number,
                    "participant": {
                        "nhs_number": wanted.patient_id,
                        "name": wanted.patient_name,
                        "birth_date": wanted.patient_birth_date,
                        "sex": wanted.patient_sex,
                    },
                    "scheduled": {"date": wanted.scheduled_date, "time": wanted.scheduled_time},
                    "procedure": {"modality": wanted.modality, "study_description": wanted.study_description},
                }
            },
        }

    def _schedule_here(self) -> None:
        self.stage.gateway.schedule(self._appointment(), is_test=True, operator=self.stage.operator)

    # --- afterwards

    def _end_step(self) -> None:
        """Give up a step that was begun; what can't be done now is no unfinished step of a real modality."""
        with suppress(GatewayError):
            for step in self._begun_steps:
                self.stage.unit.finish(step, discontinue=True)

    def _end_abandoned(self) -> None:
        """What rehearsals that were killed have left; one that goes on just now is younger."""
        begun_before = (datetime.now(UTC) - _ABANDONED_AFTER).isoformat()
        wanted = WorklistFilter(
            texts=(TextFilter("accession_number", (f"{_PREFIX}*",)),),
            statuses=(Status.SCHEDULED, Status.IN_PROGRESS),
            is_test=True,
        )
        with suppress(GatewayError):
            for row in self.stage.gateway.find_items(wanted):
                if row.created_at < begun_before:
                    self._end_item(row.accession_number)

    def _end_item(self, accession_number: str) -> None:
        """Bring an item to an end, and withdraw what the web app is still owed of it; what can't be done expires."""
        gateway, operator = self.stage.gateway, self.stage.operator
        with suppress(GatewayError):
            row = self._row(accession_number)
            if row is not None and row.status == Status.SCHEDULED:
                gateway.cancel(accession_number, _ENDED)
            elif row is not None and row.status == Status.IN_PROGRESS:
                gateway.correct_status(accession_number, Status.DISCONTINUED, reason=_ENDED, operator=operator)
        with suppress(GatewayError):
            for update in self._updates(accession_number):
                if update.state == "waiting":
                    gateway.withdraw_update(update.event_id, reason=_ENDED, operator=operator)


_SENT = "worklist.create_test_item through the relay"
_ENDED = "the rehearsal has ended"


def _read(reply: str) -> dict[str, object]:
    try:
        found = json.loads(reply)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _whose_move(error: str) -> tuple[str, str]:
    """(remedy, fault) of a delivery that failed: the error begins with its phase."""
    phase = error.partition(":")[0]
    if phase in ("token", "dns", "tcp", "proxy", "tls") or "status 401" in error or "status 403" in error:
        return "gateway doctor looks at the way to the relay", RELAY
    return "does the web app listen at the events hybrid connection, and answer?", WEB_APP


def _at_the_door(error: ModalityError) -> str:
    return HERE if isinstance(error, Unreachable | AssociationRejected) else GATEWAY
