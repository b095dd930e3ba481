"""The service as its operator meets it: starts, stops, says what it does, and what it does without being asked."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydicom.dataset import Dataset

from projections.worklist import WorklistFilter
from relay import RelayError
from tests.end_to_end.harness import (
    AE_TITLE,
    KEY,
    GatewayProcess,
    LocalRelay,
    action,
    ask,
    create_item,
    impatient,
    running,
    today,
    until,
)
from tests.end_to_end.unit import NoAnswer, NoAssociation, Unit, finished, new_uid, started
from tests.end_to_end.web_app import WebApp
from tests.patient_loop import PatientClock

pytestmark = pytest.mark.slow

_ALL = WorklistFilter()


# --- start


def test_it_answers_a_c_echo_soon_after_it_was_started(lonely: GatewayProcess) -> None:
    unit = Unit(lonely.dicom_port)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        lonely.launch()
        until(lambda: _answers(unit), "a C-ECHO is answered", 20, every=0.005)
        seconds.append(time.monotonic() - began)
        lonely.kill()
    print(f"from exec to C-ECHO answered: {', '.join(f'{each:.2f}' for each in seconds)} s")
    assert min(seconds) < 5


def _answers(unit: Unit) -> bool:
    with contextlib.suppress(NoAssociation, NoAnswer):
        return unit.echo() == 0
    return False


def test_the_first_start_creates_the_database_and_the_next_ones_tell_what_is_in_it(lonely: GatewayProcess) -> None:
    lonely.start()
    line = lonely.said("database_created")
    assert line is not None
    assert (line["path"], line["worklist"]) == (str(lonely.database), {})
    _add(lonely, "ACC1")
    assert lonely.stop() == 0
    lonely.start()
    opened = lonely.said("database_opened")
    assert opened is not None
    assert opened["worklist"] == {"SCHEDULED": 1}


def _add(gateway: GatewayProcess, accession_number: str, date: str = "today") -> None:
    gateway.command(
        "worklist", "add", accession_number, "--patient-id", "9990000018", "--patient-name", "SMITH^JANE",
        "--patient-birth-date", "19650315", "--scheduled-time", "1000", "--scheduled-date", date,
    )  # fmt: skip


def test_without_relay_settings_it_says_so_and_serves_dicom(lonely: GatewayProcess) -> None:
    lonely.start()
    line = lonely.said("gateway_started")
    assert line is not None
    assert line["relay"] == "not configured: DICOM only"
    assert line["dicom"] == f"127.0.0.1:{lonely.dicom_port}"
    answer = lonely.health()
    assert answer is not None
    assert (answer[0], answer[1]["checks"]["relay"]) == (200, {"ok": True, "state": "not configured"})
    _add(lonely, "ACC1")
    unit = Unit(lonely.dicom_port)
    assert unit.numbers(date=today(), modality="MG") == ["ACC1"]
    unit.perform("ACC1")
    assert lonely.status("ACC1") == "COMPLETED"


def test_settings_are_read_from_the_env_file_beside_it_and_the_environment_wins(lonely: GatewayProcess) -> None:
    (lonely.folder / ".env").write_text("GATEWAY_AE_TITLE=FROM_FILE\nGATEWAY_LOG_FORMAT=console\n")
    lonely.start()
    assert Unit(lonely.dicom_port, called="FROM_FILE").echo() == 0
    assert lonely.said("gateway_started", ae_title="FROM_FILE")


def test_another_called_ae_title_is_taken_where_that_is_set(lonely: GatewayProcess) -> None:
    lonely.settings["gateway_accept_any_called_ae"] = "true"
    lonely.start()
    assert Unit(lonely.dicom_port, called="WHOEVER").echo() == 0


def test_a_second_gateway_on_the_same_database_is_refused_and_the_first_goes_on(
    lonely: GatewayProcess, tmp_path: Path
) -> None:
    lonely.start()
    second = GatewayProcess(tmp_path / "second", worklist_db_path=lonely.database)
    with running(second):
        second.launch()
        assert second.wait_for_exit() == 1
    assert "store_unusable" in second.output()
    assert Unit(lonely.dicom_port).echo() == 0


# --- stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_with_connections_open(gateway: GatewayProcess, number: signal.Signals) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for port in (gateway.dicom_port, gateway.ops_port)]
    with PatientClock() as clock, Unit(gateway.dicom_port).association(), contextlib.ExitStack() as closing:
        for each in silent:
            closing.enter_context(each)
        began = clock.time()
        assert gateway.stop(number) == 0
        assert clock.time() - began < 5
    assert gateway.lines()[-1]["event"] == "gateway_stopped"
    assert not [line for line in gateway.lines() if line["level"] == "error"]
    gateway.start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_at_a_stop_is_done_and_answered_or_neither(
    gateway: GatewayProcess, relay: LocalRelay, number: signal.Signals
) -> None:
    """Units and senders work until nobody answers; then the log holds exactly what was answered."""
    for index in range(4):
        gateway.ask(create_item(f"ACC{index}"))
    entries = {index: Unit(gateway.dicom_port).find(AccessionNumber=f"ACC{index}")[0] for index in range(4)}
    created: set[str] = set()
    answered: set[str] = set()
    all_at_work = threading.Barrier(9, timeout=20)

    def modality(index: int) -> None:
        unit, first = Unit(gateway.dicom_port, f"MAMMO{index}", timeout=5), True
        with contextlib.suppress(NoAssociation, NoAnswer):
            while True:
                uid = new_uid()
                assert unit.create(uid, started(entries[index])) == 0
                created.add(uid)
                if first:
                    all_at_work.wait()
                first = False

    def sender(index: int) -> None:
        count = 0
        with contextlib.suppress(RelayError):
            while True:
                message = create_item(f"S{index}N{count}")
                assert ask(relay.connection("actions"), message, impatient(3))["status"] == "created"
                answered.add(message["action_id"])
                if not count:
                    all_at_work.wait()
                count += 1

    people = [threading.Thread(target=work, args=(index,)) for index in range(4) for work in (modality, sender)]
    for each in people:
        each.start()
    all_at_work.wait()
    assert gateway.stop(number) == 0
    for each in people:
        each.join(20)
    with gateway.store() as store:
        kept = [row for index in range(4) for row in store.timeline(f"ACC{index}")]
        actions = {row.source_message_id for row in store.find_items(_ALL) if row.accession_number.startswith("S")}
    begun = {row.details["mpps_instance_uid"] for row in kept if row.kind == "PerformedProcedureStep.Started"}
    assert begun == created
    assert actions == answered
    gateway.assert_sound()


# --- what it says


def test_every_line_of_its_log_is_a_json_object_with_event_level_and_time(
    gateway: GatewayProcess, listening: WebApp, unit: Unit
) -> None:
    gateway.ask(create_item("ACC1"))
    gateway.ask("nonsense")
    unit.perform("ACC1")
    with contextlib.suppress(NoAssociation):
        Unit(gateway.dicom_port, called="WRONG").echo()
    listening.until_told("ACC1", "IN PROGRESS", "COMPLETED")
    gateway.stop()
    assert gateway.out.read_text() == ""
    lines = gateway.lines()
    for line in lines:
        assert {"event", "level", "timestamp"} <= line.keys()
        assert datetime.fromisoformat(line["timestamp"]).tzinfo
    events = {line["event"] for line in lines}
    assert events >= {
        "database_created", "gateway_started", "listener_state", "association_accepted", "query_answered",
        "step_started",
        "step_completed", "status_update_acknowledged", "action_answered", "message_refused", "association_refused",
        "gateway_stopping", "gateway_stopped",
    }  # fmt: skip


def test_the_console_form_of_the_log_is_for_people(lonely: GatewayProcess) -> None:
    lonely.settings["gateway_log_format"] = "console"
    lonely.start()
    lonely.stop()
    assert "gateway_started" in lonely.output()
    assert not any(line.startswith("{") for line in lonely.err.read_text().splitlines())


def test_health_is_503_while_a_configured_relay_is_not_heard(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", LocalRelay())
    with running(gateway):
        gateway.start(healthy=False)
        answer = gateway.health()
        assert answer is not None
        status, report = answer
        assert (status, report["healthy"], report["checks"]["relay"]["ok"]) == (503, False, False)
        assert [name for name, check in report["checks"].items() if not check["ok"]] == ["relay"]
        until(lambda: "refused" in json.dumps((gateway.health() or (0, {}))[1]), "health says why")


def test_health_is_200_with_a_warning_while_status_events_cannot_be_delivered(
    tmp_path: Path, relay: LocalRelay
) -> None:
    gateway = GatewayProcess(tmp_path / "gateway", relay)
    del gateway.settings["azure_relay_events_hybrid_connection"]
    with running(gateway):
        gateway.start()
        gateway.ask(create_item("ACC1"))
        Unit(gateway.dicom_port).perform("ACC1")
        answer = gateway.health()
    assert answer is not None
    assert (answer[0], answer[1]["checks"]["outbox"]["waiting"]) == (200, 2)
    assert [warning for warning in answer[1]["warnings"] if "no events hybrid connection is configured" in warning]


@pytest.mark.parametrize(
    ("emulator", "setting", "warned"),
    [(False, None, True), (False, "local", False), (False, "utc", False), (True, None, False)],
)
def test_unset_scheduled_times_are_a_warning_only_with_a_real_relay(
    tmp_path: Path, relay: LocalRelay, emulator: bool, setting: str | None, warned: bool
) -> None:
    string = relay.connection_string
    gateway = GatewayProcess(
        tmp_path / "gateway",
        azure_relay_connection_string=string if emulator else string.replace(";UseDevelopmentEmulator=true", ""),
        azure_relay_hybrid_connection="actions",
        **{"gateway_scheduled_times": setting} if setting else {},
    )
    with running(gateway):
        gateway.start(healthy=emulator)
        answer = gateway.health()
    assert answer is not None
    assert any("GATEWAY_SCHEDULED_TIMES" in warning for warning in answer[1]["warnings"]) is warned


# --- what it does with time, by hand, and for rehearsals


def test_what_should_have_expired_while_it_was_down_expires_at_the_start(gateway: GatewayProcess, unit: Unit) -> None:
    old = (datetime.strptime(today(), "%Y%m%d") - timedelta(days=5)).strftime("%Y%m%d")  # noqa: DTZ007  a date
    for number, date in (("OLD", old), ("OLDBEGUN", old), ("TODAY", today())):
        gateway.ask(create_item(number, scheduled={"date": date}))
    unit.start("OLDBEGUN")
    gateway.restart()
    assert gateway.status("OLD") == "SCHEDULED"  # it came after the moment of the day's expiry
    assert gateway.stop() == 0
    gateway.settings["gateway_expire_at"] = datetime.now(ZoneInfo("Europe/London")).time().isoformat()
    gateway.start()
    gateway.until_said("items_expired", accession_numbers=["OLD"])
    assert [gateway.status(number) for number in ("OLD", "OLDBEGUN", "TODAY")] == [
        "EXPIRED",
        "IN PROGRESS",
        "SCHEDULED",
    ]
    assert unit.numbers() == ["TODAY"]
    assert gateway.kinds("OLD")[-1] == "WorklistItem.Expired"
    assert "OLD" not in [number for number, _, _ in gateway.owed()]


def test_a_status_from_the_web_app_is_not_told_back_and_one_set_by_hand_is(
    gateway: GatewayProcess, listening: WebApp, unit: Unit
) -> None:
    gateway.ask(create_item("ACC1"))
    reply = gateway.ask(action("worklist.update_status", {"accession_number": "ACC1", "status": "in_progress"}))
    assert reply["status"] == "updated"
    assert unit.numbers() == []
    done = gateway.command("worklist", "set-status", "ACC1", "COMPLETED", "--reason", "the unit has no MPPS")
    assert done.stdout == "ACC1 IN PROGRESS → COMPLETED\n"
    [event] = listening.until_told("ACC1", "COMPLETED")
    assert (event["sequence"], event["data"]["mpps_instance_uid"]) == (1, None)
    gateway.until_settled()
    refused = gateway.command("worklist", "set-status", "ACC1", "SCHEDULED", "--reason", "oops", code=1)
    assert refused.stderr.startswith("gateway: illegal_transition: ")
    assert gateway.kinds("ACC1") == [
        "WorklistItem.Scheduled", "RelayAction.Accepted", "WorklistItem.StatusReported", "RelayAction.Accepted",
        "WorklistItem.StatusCorrected", "StatusUpdate.Requested", "StatusUpdate.Acknowledged",
    ]  # fmt: skip
    gateway.assert_sound()


def test_test_items_are_shown_to_rehearsal_callers_only_and_counted_apart(gateway: GatewayProcess, unit: Unit) -> None:
    gateway.stop()
    gateway.settings["gateway_perform_test_items"] = "false"
    gateway.start()
    gateway.ask(create_item("REAL"))
    reply = gateway.ask({**create_item("TEST"), "action_type": "worklist.create_test_item"})
    assert reply["status"] == "created"
    rehearsal = Unit(gateway.dicom_port, "REHEARSAL")
    assert unit.numbers() == ["REAL"]
    assert unit.numbers(AccessionNumber="TEST") == []
    assert rehearsal.numbers() == ["REAL", "TEST"]
    assert gateway.look("worklist", "statistics") == {"items": {"SCHEDULED": 1}, "test_items": {"SCHEDULED": 1}}
    rehearsal.perform("TEST")
    assert gateway.look("worklist", "statistics")["test_items"] == {"COMPLETED": 1}


def test_in_progress_is_listed_where_that_is_set(gateway: GatewayProcess, unit: Unit) -> None:
    gateway.ask(create_item("ACC1"))
    unit.start("ACC1")
    assert unit.numbers() == []
    gateway.stop()
    gateway.settings["gateway_listed_statuses"] = "SCHEDULED, in_progress"
    gateway.start()
    assert unit.numbers() == ["ACC1"]


def test_a_wrong_worklist_entry_is_put_back_and_told_to_nobody(gateway: GatewayProcess, unit: Unit) -> None:
    wrong = Dataset()
    wrong.CodeValue, wrong.CodingSchemeDesignator, wrong.CodeMeaning = "110514", "DCM", "Wrong worklist entry"
    gateway.ask(create_item("ACC1"))
    uid = unit.start("ACC1")
    changes = finished("DISCONTINUED", PerformedProcedureStepDiscontinuationReasonCodeSequence=[wrong])
    assert unit.set(uid, changes) == 0
    assert gateway.status("ACC1") == "SCHEDULED"
    assert unit.numbers() == ["ACC1"]
    assert [(sequence, state) for _, sequence, state in gateway.owed()] == [(1, "waiting")]


def test_the_settings_it_has_are_shown_without_their_secrets(gateway: GatewayProcess) -> None:
    shown = gateway.command("config", "show").stdout
    assert "SharedAccessKey=***" in shown
    assert AE_TITLE in shown
    assert str(gateway.dicom_port) in shown
    assert KEY not in shown
