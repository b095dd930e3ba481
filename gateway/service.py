"""The composition root: settings in, a running gateway out, one process.

Started in the order in which parts need each other: store, DICOM, ops port, relay, courier. Stopped so that nothing is
lost, within a deadline: no new associations, actions and deliveries, what is in flight finishes, then the store closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import resource
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import __version__
from gateway.actions.door import ActionDoor
from gateway.actions.replies import UNANSWERED
from gateway.actions.times import SiteClock
from gateway.application import Gateway, is_missing, make_folder
from gateway.audit import activities
from gateway.audit.daily_backup import BackupPlan, DailyBackup
from gateway.audit.restore import note_restore
from gateway.delivery.courier import Courier, CourierOptions
from gateway.dicom import profiles
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Responder
from gateway.dicom.tls import TlsDoor, TlsPortUnusable
from gateway.dicom_door import dicom_door, within_tls
from gateway.errors import GatewayError, PortUnusable
from gateway.eventstore.backup import last_good
from gateway.eventstore.ownership import Ownership
from gateway.log import get_logger
from gateway.ops.access import Access
from gateway.ops.anchoring import Anchoring
from gateway.ops.emulated_unit import EmulatedUnit
from gateway.ops.health import Check, Health, disk_check, outbox_check, restored_from, steps_check, store_check
from gateway.ops.metrics import Counters, Metrics
from gateway.ops.own_token import own_token
from gateway.ops.server import OpsServer
from gateway.ops.telemetry import Destination, Telemetry
from gateway.ops.telemetry import destination as telemetry_destination
from gateway.orthanc.reception import reception
from gateway.relay_connections import relay_connections
from gateway.settings import Settings, unknown_variables
from projections.epochs import EpochRow
from projections.performed_steps import PerformedStepRow
from relay import (
    DialOptions,
    Listener,
    ListenerOptions,
    ListenerState,
    ListenerStatus,
    Message,
    RelayedReply,
    RelayedRequest,
    Sender,
    SenderOptions,
)

if TYPE_CHECKING:
    from gateway.ops.doctor.finding import Check as DoctorsCheck
    from gateway.ops.rehearsal import Stage
    from gateway.ops.window.app import Window

_STOP_SECONDS = 10.0
_STOP_MARGIN = 2.0
"""Seconds after that for whoever was cut off to leave."""

_OTHER_FILES = 2_000
"""Files besides the senders' and the associations': database, threads, connections to the web app, and those at the
modalities' door that have not asked for anything yet."""

_ACTION_THREADS = 16
"""Actions at once. They share a commit, so more of them than processors save syncs; what they compute takes turns."""
_LOOK_THREADS = 2
_EXPIRY_RETRY_SECONDS = 60.0
_STEP_WATCH_SECONDS = 60.0
_ENDED_BY_US = ("expiry", "steps", "backup", "anchors", "images", "delivery", "emulated unit", "telemetry")
"""Parts that are cancelled when the service stops."""

_SCHEDULED_TIMES_UNSET = (
    "GATEWAY_SCHEDULED_TIMES is not set: scheduled.date and time are read as the site's wall clock; "
    "set local or utc once the web app's team has said which they are"
)

_DEAFNESS_UNNOTICED = (
    "that actions arrive is not proven: no echo to ourselves is sent. Give the relay's policy Send beside Listen, and "
    "leave GATEWAY_RELAY_ECHO_SECONDS above 0"
)

log = get_logger(__name__)


class Service:
    """A gateway that runs. `run()` returns when it was asked to stop; it raises when a part of it dies."""

    def __init__(self, settings: Settings) -> None:
        """Open the database and take the ports. Raises `StoreUnusable`, `SettingsInvalid`, `CertificateUnusable`."""
        self.settings = settings
        self.relay = relay_connections(settings)
        self.profiles = profiles.load(settings.gateway_modalities_file)
        tls, azure_monitor = within_tls(settings), telemetry_destination(settings)
        is_new = is_missing(settings.worklist_db_path)
        make_folder(settings.worklist_db_path)
        self.gateway = Gateway(
            settings.worklist_db_path,
            report_wrong_entry=settings.gateway_report_wrong_entry,
            sealing=settings.gateway_sealing,
            keys_path=settings.gateway_keys_path,
        )
        with contextlib.ExitStack() as undo:  # a program that hosts us lives on, and tries again
            undo.callback(self.gateway.close)
            self._ownership = Ownership(settings.worklist_db_path)
            undo.callback(self._ownership.release)
            self._assemble(settings, tls, azure_monitor, is_new=is_new)
            undo.pop_all()

    def _assemble(
        self, settings: Settings, tls: TlsDoor | None, azure_monitor: Destination | None, *, is_new: bool
    ) -> None:
        """Make the parts over the database that is ours now."""
        self.gateway.sealing.make_ready()
        self.gateway.keep_sequence_mark()
        self.backups = _daily_backup(settings)
        self._say_what_is_there(is_new=is_new)
        self._stop = asyncio.Event()
        self._threads = ThreadPoolExecutor(_ACTION_THREADS, thread_name_prefix="action")
        self._look_threads = ThreadPoolExecutor(_LOOK_THREADS, thread_name_prefix="look")
        self.record = QueryRecord(self.gateway, kept_days=settings.gateway_queries_kept_days)
        self.responder = Responder(
            self.gateway,
            listed_statuses=settings.gateway_listed_statuses,
            test_ae_titles=settings.gateway_test_ae_titles,
            record=self.record,
            profiles=self.profiles,
            zone=settings.zone,
        )
        self.dicom_door = dicom_door(settings, self.responder, tls)
        self.dicom = self.dicom_door.server
        self.emulated_unit = EmulatedUnit(self._stage) if settings.gateway_perform_test_items else None
        self.images = reception(settings, self.gateway)
        self.anchoring = Anchoring(self.gateway, settings.anchors_path)
        self.health = Health(
            self._checks(), self._warnings, lambda: restored_from(self.gateway), self.anchoring.present
        )
        self.access = Access(settings, own_token(settings))
        self.door = ActionDoor(
            self.gateway,
            SiteClock(settings.zone, settings.scheduled_times_are_utc),
            self.health.report,
            self.emulated_unit.take if self.emulated_unit else lambda _: None,
        )
        self.metrics = Metrics(
            gateway=self.gateway,
            health=self.health.report,
            counters=Counters(
                actions=self.door.answered,
                queries=self.record.queries,
                refused_associations=self.record.refused_associations,
                step_messages=self.responder.step_messages,
            ),
            zone=settings.zone,
            last_backup=lambda: last_good(settings.worklist_db_path, settings.backup_folder),
            test_ae_titles=settings.gateway_test_ae_titles,
        )
        self.telemetry = Telemetry(azure_monitor, self.metrics.families) if azure_monitor else None
        self.hearing = asyncio.Event()
        """Set once the relay has been heard for the first time."""
        self.ops_port = settings.gateway_ops_port
        """Where the window is, once all doors are open."""
        self.on_relay_state: Callable[[ListenerStatus], None] = lambda _: None
        """Told of each change of the control channel's state."""
        self.listener: Listener | None = None
        self.courier: Courier | None = None
        if self.relay:
            options = self._listener_options(self.relay.dialling)
            self.listener = Listener(self.relay.actions, self._answer_frame, options=options)
            if self.relay.events:
                sender = Sender(self.relay.events, self._sender_options(self.relay.dialling))
                self.courier = Courier(self.gateway, sender, self._courier_options())

    def ask_to_stop(self) -> None:
        """Begin a clean stop. Call it from the event loop."""
        self._stop.set()

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until asked to stop; `started` is called when all doors are open. Raises `PortUnusable`."""
        try:
            ops = self._open_doors()
        except GatewayError:
            self._give_back()
            raise
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._record_start)
        parts = [
            asyncio.create_task(ops.run_until_stopped(), name="ops"),
            asyncio.create_task(self._expire_daily(), name="expiry"),
            asyncio.create_task(self._watch_steps(), name="steps"),
            asyncio.create_task(self._anchor_daily(), name="anchors"),
        ]
        if self.backups:
            parts.append(asyncio.create_task(self.backups.run(), name="backup"))
        if self.telemetry:
            parts.append(asyncio.create_task(self.telemetry.run(), name="telemetry"))
        if self.emulated_unit:
            parts.append(asyncio.create_task(self.emulated_unit.run(), name="emulated unit"))
        if self.images:
            parts.append(asyncio.create_task(self.images.run(), name="images"))
        if self.listener:
            parts.append(asyncio.create_task(self.listener.run(), name="relay"))
        if self.courier:
            self.gateway.on_commit(lambda: _safely(loop, self.courier))
            parts.append(asyncio.create_task(self.courier.run(), name="delivery"))
        log.info(
            "gateway_started",
            version=__version__,
            dicom=f"{self.settings.gateway_dicom_host}:{self.dicom.port}",
            dicom_tls=self.dicom.tls_port or "not configured",
            engine=self.settings.gateway_dicom_engine,
            ae_title=self.settings.gateway_ae_title,
            ops=f"{self.settings.gateway_ops_host}:{ops.port}",
            relay=str(self.relay.actions.namespace.authority) if self.relay else "not configured: DICOM only",
        )
        started()
        try:
            await self._until_stopped(parts)
        finally:
            await self._close(ops, parts)

    def _open_doors(self) -> OpsServer:
        """Take both ports, the modalities' last: nobody comes in before all is well."""
        try:
            ops = OpsServer(
                self.health,
                self.access,
                self._window,
                host=self.settings.gateway_ops_host,
                port=self.settings.gateway_ops_port,
                metrics=self.metrics,
            )
        except OSError as error:
            raise _port_unusable("OPS", self.settings.gateway_ops_port, error) from error
        try:
            self.dicom.start()
        except TlsPortUnusable as error:
            ops.close()
            raise _port_unusable("DICOM_TLS", self.settings.gateway_dicom_tls_port, error) from error
        except OSError as error:
            ops.close()
            raise _port_unusable("DICOM", self.settings.gateway_dicom_port, error) from error
        self.record.start()
        self.ops_port = ops.port
        return ops

    def _give_back(self) -> None:
        """Let the database go, of a service that does not come to serve."""
        self._end_threads()
        self.gateway.close()
        self._ownership.release()

    def _window(self) -> Window:
        """The pages for people: their libraries are loaded when somebody first comes."""
        from gateway.dicom.explain import Site
        from gateway.ops.doctor.checklist import Checklist
        from gateway.ops.window.app import Window
        from gateway.ops.window.sources import Sources

        settings = self.settings
        site = Site(
            zone=settings.zone,
            listed_statuses=settings.gateway_listed_statuses,
            test_ae_titles=settings.gateway_test_ae_titles,
            profiles=self.profiles,
        )
        sources = Sources(
            gateway=self.gateway,
            site=site,
            zone=settings.zone,
            health=self.health,
            relay=self._relay_state,
            delivery=self._delivery_state,
            images=self.images.state if self.images else lambda: {"state": "not configured"},
            checklist=Checklist(self._checklist),
            unfinished_after=self._unfinished_after,
        )
        return Window(sources, self.access)

    def _checklist(self) -> list[DoctorsCheck]:
        """What the doctor asks before a clinic, but for the ops port: whoever asks has come through it."""
        from gateway.proof.doctor import checks

        return checks(self.settings, self.gateway, port=self.dicom.port, asks_service=False, for_clinic=True)

    def _record_start(self) -> None:
        """For the auditor: when we served, and that the one before was cut off."""
        try:
            latest = activities.service_started(
                self.gateway, activities.this_user(), version=__version__, ae_title=self.settings.gateway_ae_title
            )
        except GatewayError as error:  # modalities are served all the same
            log.warning("start_not_recorded", code=error.code, error=str(error))
            return
        if latest:
            log.warning("previous_ended_without_stop", latest_record=latest, remedy="it was killed, or the power went")

    def _record_stop(self) -> None:
        try:
            activities.service_stopped(self.gateway, activities.this_user())
        except GatewayError as error:
            log.warning("stop_not_recorded", code=error.code, error=str(error))

    async def _until_stopped(self, parts: list[asyncio.Task[None]]) -> None:
        asked = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([asked, *parts], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for part in done - {asked}:
            log.error("part_ended", part=part.get_name(), remedy="the service stops: its supervisor starts it again")
            part.result()
            raise RuntimeError(f"{part.get_name()} ended by itself")

    async def _close(self, ops: OpsServer, parts: list[asyncio.Task[None]]) -> None:
        """Let what is in flight finish, for at most `_STOP_SECONDS` in all; what outlasts that is cut off."""
        began = time.monotonic()
        log.info("gateway_stopping")
        stopping: list[asyncio.Task[None]] = [
            asyncio.create_task(asyncio.to_thread(self._stop_dicom)),
            *(part for part in parts if part.get_name() in _ENDED_BY_US),
        ]
        for part in stopping[1:]:
            part.cancel()
        if self.listener:
            stopping.append(asyncio.create_task(self.listener.stop(_STOP_SECONDS)))
        await asyncio.wait(stopping, timeout=_STOP_SECONDS)
        self.gateway.give_up_waiting()
        ops.stop()
        await asyncio.wait([*parts, *stopping], timeout=_STOP_MARGIN)
        for part in parts:
            part.cancel()
        await asyncio.to_thread(self._end_threads)
        await asyncio.to_thread(self._record_stop)
        await asyncio.to_thread(self.anchoring.take, "stop")
        await asyncio.to_thread(self.gateway.close)
        self._ownership.release()
        log.info("gateway_stopped", seconds=round(time.monotonic() - began, 2))

    def _stop_dicom(self) -> None:
        """The modalities leave; then what they asked is on disk."""
        self.dicom.stop(_STOP_SECONDS)
        self.record.close()

    def _end_threads(self) -> None:
        for threads in (self._threads, self._look_threads):
            threads.shutdown(wait=True, cancel_futures=True)

    def _stage(self) -> Stage:
        """Where test items are performed: at our own door."""
        from gateway.proof.stage import at_the_door  # brings pynetdicom's client side, for the first test item

        return at_the_door(self.settings, self.gateway, self.dicom.port)

    # --- the relay's door

    def _sender_options(self, dialling: DialOptions) -> SenderOptions:
        return SenderOptions(
            dial=dialling,
            connect=self.settings.gateway_relay_connect_seconds,
            send=self.settings.gateway_relay_reply_seconds,
            ack=self.settings.gateway_relay_ack_seconds,
        )

    def _courier_options(self) -> CourierOptions:
        return CourierOptions(
            first_wait=self.settings.gateway_relay_event_first_retry_seconds,
            longest_wait=self.settings.gateway_relay_event_longest_retry_seconds,
        )

    def _listener_options(self, dialling: DialOptions) -> ListenerOptions:
        settings = self.settings
        echo = settings.gateway_relay_echo_seconds
        return ListenerOptions(
            dial=dialling,
            allowed_suffixes=settings.gateway_relay_allowed_suffixes,
            max_rendezvous=settings.gateway_relay_max_rendezvous,
            max_open=settings.gateway_relay_max_open,
            accept_dial=settings.gateway_relay_accept_seconds,
            first_message=settings.gateway_relay_first_message_seconds,
            next_message=settings.gateway_relay_next_message_seconds,
            handle=settings.gateway_relay_handle_seconds,
            reply=settings.gateway_relay_reply_seconds,
            echo_interval=(echo / 2, echo) if echo else None,
            echo_timeout=settings.gateway_relay_echo_timeout_seconds,
            ping_interval=settings.gateway_relay_ping_seconds,
            ping_timeout=settings.gateway_relay_ping_timeout_seconds,
            token_lifetime=timedelta(seconds=settings.gateway_relay_token_seconds),
            token_margin=settings.gateway_relay_token_margin_seconds,
            first_retry=settings.gateway_relay_first_retry_seconds,
            longest_retry=settings.gateway_relay_longest_retry_seconds,
            healthy_after=settings.gateway_relay_healthy_after_seconds,
            on_state=self._relay_state_changed,
            handle_request=self._answer_request,
            failure_reply=json.dumps(UNANSWERED),
        )

    async def _answer_frame(self, message: Message) -> str:
        threads = self._look_threads if self.door.only_looks(message.data) else self._threads
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, self.door.answer, message.data, message.received_at)

    async def _answer_request(self, request: RelayedRequest) -> RelayedReply:
        """`GET /HC/echo` and `GET /HC/health` answer like the actions; all else is not implemented."""
        action_type = request.path.strip("/").lower()
        if request.method != "GET" or action_type not in ("echo", "health"):
            return RelayedReply(501, json.dumps({"status": "error", "code": "unsupported_action"}).encode())
        text = json.dumps({"action_type": action_type})
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._look_threads, self.door.answer, text)
        return RelayedReply(200, answer.encode())

    def _relay_state_changed(self, status: ListenerStatus) -> None:
        if status.state is ListenerState.HEARING:
            self.hearing.set()
        self.on_relay_state(status)

    # --- expiry

    async def _expire_daily(self) -> None:
        """Expire at the settled site time, and at start what should have expired while nobody served."""
        while True:
            now = datetime.now(self.settings.zone)
            due = datetime.combine(now.date(), self.settings.gateway_expire_at, self.settings.zone)
            last_due = due if now >= due else due - timedelta(days=1)
            try:
                expired = await asyncio.to_thread(
                    self.gateway.expire,
                    last_due.date(),
                    after_days=self.settings.gateway_expire_after_days,
                    due=last_due,
                )
            except GatewayError as error:
                log.error("expiry_failed", code=error.code, error=str(error), retry_in_seconds=_EXPIRY_RETRY_SECONDS)
                await asyncio.sleep(_EXPIRY_RETRY_SECONDS)
                continue
            if expired:
                log.info("items_expired", accession_numbers=expired)
            await self._sleep_until(due if now < due else due + timedelta(days=1))

    @property
    def _unfinished_after(self) -> timedelta:
        return timedelta(hours=self.settings.gateway_unfinished_step_hours)

    async def _watch_steps(self) -> None:
        """Tell of each step that a modality has begun and not finished; nothing changes by itself."""
        told: set[str] = set()
        while True:
            try:
                before = datetime.now(UTC) - self._unfinished_after
                rows = await asyncio.to_thread(self.gateway.unfinished_steps, before)
            except GatewayError as error:
                log.error("steps_unwatched", code=error.code, error=str(error), retry_in_seconds=_STEP_WATCH_SECONDS)
            else:
                for row in rows:
                    if row.sop_instance_uid not in told:
                        log.warning("step_unfinished", **_unfinished(row))
                told = {row.sop_instance_uid for row in rows}
            await asyncio.sleep(_STEP_WATCH_SECONDS)

    async def _anchor_daily(self) -> None:
        """At start, and when a day of the site has ended."""
        occasion = "start"
        while True:
            await asyncio.to_thread(self.anchoring.take, occasion)
            tomorrow = datetime.now(self.settings.zone).date() + timedelta(days=1)
            await self._sleep_until(datetime.combine(tomorrow, datetime.min.time(), self.settings.zone))
            occasion = "day"

    async def _sleep_until(self, moment: datetime) -> None:
        """In short naps: clocks are set, and machines sleep."""
        while (remaining := (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()) > 0:  # noqa: ASYNC110  no event tells the time
            await asyncio.sleep(min(remaining, 60.0))

    # --- what it says of itself

    def _say_what_is_there(self, *, is_new: bool) -> None:
        path = str(self.settings.worklist_db_path)
        if self.gateway.keys_destroyed:
            log.warning(
                "erasures_finished",
                keys=self.gateway.keys_destroyed,
                reason="an erasure was interrupted, or an older key file was put back",
            )
        if self.gateway.caught_up:
            log.info("projections_caught_up", events=self.gateway.caught_up)
        log.info(
            "database_created" if is_new else "database_opened", path=path, worklist=self.gateway.count_by_status()
        )
        if self.settings.gateway_modalities_file:
            log.info(
                "modalities_loaded",
                path=str(self.settings.gateway_modalities_file),
                modalities=len(self.profiles.modalities),
                strangers="admitted" if self.profiles.strangers_admitted else "refused",
            )
        epoch = self.gateway.restored()
        if epoch:
            self._note_restore(epoch)
        if epoch and not epoch.resumed_at:
            log.warning(
                "outbox_waits_after_restore",
                backup=epoch.backup,
                position=epoch.position,
                restored_at=epoch.restored_at,
                remedy="look at gateway backup lost and outbox list, then gateway outbox resume --after-restore",
            )
        for name in unknown_variables():
            log.warning("setting_unknown", variable=name, remedy="gateway config show lists the ones there are")

    def _note_restore(self, epoch: EpochRow) -> None:
        """Before any new anchor is taken: those after it are of another log."""
        try:
            note_restore(self.settings.anchors_path, epoch)
        except GatewayError as error:
            log.error("restore_not_noted", code=error.code, error=str(error))

    def _checks(self) -> dict[str, Callable[[], Check]]:
        backups = {"backup": self.backups.check} if self.backups else {}
        azure_monitor = (
            {"telemetry": self._telemetry_check} if self.settings.applicationinsights_connection_string else {}
        )
        unit = {"test_items": self.emulated_unit.check} if self.emulated_unit else {}
        images = {"images": self.images.check} if self.images else {}
        return {
            "store": lambda: store_check(self.gateway),
            "dicom": self.dicom_door.check,
            "relay": self._relay_check,
            "outbox": self._outbox_check,
            "steps": lambda: steps_check(self.gateway, unfinished_after=self._unfinished_after),
            "disk": lambda: disk_check(Path(self.settings.worklist_db_path).absolute()),
            **backups,
            **azure_monitor,
            **unit,
            **images,
        }

    def _relay_check(self) -> Check:
        if self.listener is None:
            return {"ok": True, "state": "not configured"}
        status = self.listener.status()
        check: Check = {
            "ok": status.state is ListenerState.HEARING,
            "state": status.state.value,
            "since": status.since.isoformat(),
            "connected_at": status.connected_at.isoformat() if status.connected_at else None,
            "last_proof": status.last_proof.isoformat() if status.last_proof else None,
            "round_trip_ms": status.round_trip_ms,
            "proven_by": status.proven_by,
            "reconnects": status.reconnects,
            "clock_skew_seconds": status.clock_skew,
            "token_expires_at": status.token_expires_at.isoformat() if status.token_expires_at else None,
        }
        if not check["ok"]:
            check["error"] = status.last_error or "not hearing yet"
        elif status.renewal_error:
            check["warning"] = f"the token could not be renewed yet: {status.renewal_error}"
        elif status.proven_by == "pings":
            check["warning"] = _DEAFNESS_UNNOTICED
        return check

    def _telemetry_check(self) -> Check:
        return self.telemetry.check() if self.telemetry else {"ok": True}

    def _relay_state(self) -> dict[str, Any]:
        """All that the listener knows of itself, in JSON values."""
        if self.listener is None:
            return {"state": "not configured"}
        state: dict[str, Any] = json.loads(json.dumps(asdict(self.listener.status()), default=datetime.isoformat))
        return state

    def _delivery_state(self) -> dict[str, Any]:
        """All that the courier knows of itself, in JSON values."""
        if self.courier is None:
            return {"state": "not configured"}
        status = self.courier.status
        acknowledged = datetime.fromtimestamp(status.last_acknowledged_at, UTC) if status.last_acknowledged_at else None
        return {
            "state": {None: "not tried yet", True: "connected", False: "failing"}[status.connected],
            "last_error": status.last_error,
            "last_acknowledged_at": acknowledged.isoformat() if acknowledged else None,
            "sending": status.sending,
        }

    def _outbox_check(self) -> Check:
        check = outbox_check(self.gateway, delivers=self.courier is not None)
        if self.courier and self.courier.status.last_error:
            check["last_error"] = self.courier.status.last_error
        return check

    def _warnings(self) -> list[str]:
        return [*self._setting_warnings(), *self.anchoring.warnings()]

    def _setting_warnings(self) -> list[str]:
        if self.relay is None or self.relay.is_emulator or self.settings.gateway_scheduled_times:
            return []
        return [_SCHEDULED_TIMES_UNSET]


def _daily_backup(settings: Settings) -> DailyBackup | None:
    if settings.gateway_backup_at is None:
        return None
    return DailyBackup(
        BackupPlan(
            database=settings.worklist_db_path,
            folder=settings.backup_folder,
            kept_days=settings.gateway_backups_kept_days,
            at=settings.gateway_backup_at,
            zone=settings.zone,
        )
    )


def _unfinished(row: PerformedStepRow) -> dict[str, object]:
    return {
        "sop_instance_uid": row.sop_instance_uid,
        "accession_numbers": row.accession_numbers,
        "ae_title": row.ae_title,
        "received_at": row.received_at,
        "remedy": "ask at the unit; gateway steps complete or cancel sets the item by hand",
    }


def _safely(loop: asyncio.AbstractEventLoop, courier: Courier | None) -> None:
    """Wake the courier from whichever thread has saved."""
    with contextlib.suppress(RuntimeError):  # the loop has closed: the next start looks for itself
        if courier:
            loop.call_soon_threadsafe(courier.wake)


def _port_unusable(door: str, port: int | None, error: OSError) -> PortUnusable:
    """A port that somebody holds, one we may not take, or an address that is not this machine's."""
    held = error.errno == errno.EADDRINUSE
    ours = held or error.errno in (errno.EACCES, errno.EPERM)
    remedy = "stop the program that holds it, or " if held else ""
    return PortUnusable(
        f"port {port} can't be listened at: {error.strerror or error}",
        remedy=f"{remedy}set GATEWAY_{door}_PORT"
        if ours
        else f"set GATEWAY_{door.removesuffix('_TLS')}_HOST to an address of this machine",
    )


def make_room_for_files(settings: Settings) -> None:
    """Let this process open more files, as far as the system lets it: each sender and each association takes one."""
    wanted = settings.gateway_relay_max_open + settings.gateway_dicom_max_associations + _OTHER_FILES
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed >= wanted or allowed == resource.RLIM_INFINITY:
        return
    granted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))
    if granted < wanted:
        log.warning(
            "few_files_allowed",
            allowed=granted,
            wanted=wanted,
            remedy="raise the limit of open files (LimitNOFILE, ulimits), or lower GATEWAY_RELAY_MAX_OPEN and "
            "GATEWAY_DICOM_MAX_ASSOCIATIONS",
        )


async def serve(settings: Settings, started: Callable[[], None] = lambda: None) -> None:
    """Run until SIGTERM or SIGINT; a second one ends at once. `started` is called when all doors are open."""
    make_room_for_files(settings)
    service = Service(settings)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        service.ask_to_stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # the next one has its ordinary effect

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await service.run(started)
