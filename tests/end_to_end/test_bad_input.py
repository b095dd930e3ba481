"""Bad input at each door of the real process: a clear answer, nothing lost, the service unharmed, nobody named."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import re
import socket
import sqlite3
import struct
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_FIND, N_CREATE, N_SET
from pynetdicom.sop_class import ModalityPerformedProcedureStep, ModalityWorklistInformationFind, Verification
from websockets.exceptions import ConnectionClosed

from gateway.rehearsal.requestor import associate
from relay import RelayError, Sender
from tests.end_to_end.harness import (
    AE_TITLE,
    GATEWAY,
    KEY,
    GatewayProcess,
    LocalRelay,
    action,
    ask,
    create_item,
    environment,
    free_port,
    today,
)
from tests.end_to_end.unit import NoAssociation, Unit, finished, new_uid, started
from tests.end_to_end.web_app import settled, web_app

pytestmark = pytest.mark.slow

NAME = "ZWINGENBERGER^XANTHIPPE"
NHS_NUMBER = "9998877661"
BIRTH_DATE = "19430217"
PERSONAL = ("ZWINGENBERGER", "XANTHIPPE", "Zwingenberger", NHS_NUMBER, BIRTH_DATE, "1943-02-17")
PERSON = {"nhs_number": NHS_NUMBER, "name": NAME, "birth_date": BIRTH_DATE, "sex": "F"}
KNOWN_ERRORS = {"thread_failed", "Exception in ASGI application"}
"""What pynetdicom and uvicorn make of half a conversation; it ends with it."""
SECRETS = (KEY, "SharedAccessSignature", "sig=", "SharedAccessKey=")


@pytest.fixture(autouse=True)
def _unharmed_and_discreet(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: the process that served is well, answers as before, and has named nobody."""
    gateway: GatewayProcess | None = request.getfixturevalue("gateway") if "gateway" in request.fixturenames else None
    yield
    if gateway is None:
        return
    assert gateway.running
    answer = gateway.health()
    assert answer is not None
    assert answer[0] == 200, answer
    assert gateway.ask(create_item("AFTERWARDS", participant=PERSON))["status"] == "created"
    assert Unit(gateway.dicom_port).numbers(AccessionNumber="AFTERWARDS") == ["AFTERWARDS"]
    gateway.assert_sound()
    assert_discreet(gateway.output() + json.dumps(answer[1]))
    assert {line["event"].strip() for line in gateway.lines() if line["level"] == "error"} <= KNOWN_ERRORS


def assert_discreet(text: str) -> None:
    """No personal data and no secret; the lines that hold some are named."""
    telling = [line for line in text.splitlines() if any(word in line for word in (*PERSONAL, *SECRETS))]
    assert not telling, telling


# --- the actions hybrid connection


MALFORMED: dict[str, str | bytes] = {
    "text": f"schedule {NAME}, born {BIRTH_DATE}",
    "nothing": "",
    "half an object": json.dumps(create_item("HALF", participant=PERSON))[:-9],
    "a list": json.dumps([create_item("LIST", participant=PERSON)]),
    "a number": NHS_NUMBER,
    "not a number": '{"action_type": "echo", "value": NaN}',
    "binary JSON": json.dumps(create_item("BINARY", participant=PERSON)).encode(),
    "binary": bytes(range(256)) + NAME.encode(),
    "above 64 KiB": json.dumps(create_item("LARGE", participant=PERSON) | {"padding": "x" * 65_536}),
    "above 64 KiB, few characters": json.dumps(create_item("LARGE") | {"padding": "é" * 32_768}, ensure_ascii=False),
    "nested beyond reason": "[" * 60_000,
}


def test_what_is_no_json_object_of_a_good_size_is_answered_malformed_and_kept(gateway: GatewayProcess) -> None:
    for name, frame in MALFORMED.items():
        reply = gateway.ask(frame)
        assert (reply["status"], reply["code"], reply["retryable"]) == ("error", "malformed", False), name
        assert reply["action_id"] is None, name
        assert {"message", "field", "received_at", "gateway_version"} <= reply.keys(), name
        assert_discreet(json.dumps(reply))
    assert gateway.kinds("") == ["RelayAction.Rejected"] * len(MALFORMED)


def test_a_message_of_exactly_64_kib_is_taken(gateway: GatewayProcess) -> None:
    message = create_item("EXACT")
    message["padding"] = "x" * (65_536 - len(json.dumps(message | {"padding": ""})))
    assert len(json.dumps(message)) == 65_536
    assert gateway.ask(message)["status"] == "created"
    assert gateway.ask(message | {"padding": message["padding"] + "x"})["code"] == "malformed"


def test_a_message_above_4_mib_ends_its_rendezvous_with_1009_and_nothing_else(
    relay: LocalRelay, gateway: GatewayProcess
) -> None:
    async def send(frame: str | bytes) -> int | None:
        websocket = await Sender(relay.connection("actions")).open()
        try:
            with contextlib.suppress(ConnectionClosed):
                await websocket.send(frame)
                await websocket.recv()
        finally:
            await websocket.close()
        return websocket.close_code

    assert asyncio.run(send("x" * (4 * 1024 * 1024 + 1))) == 1009
    assert asyncio.run(send(NAME.encode() * 300_000)) == 1009
    assert gateway.ask("y" * (4 * 1024 * 1024))["code"] == "malformed"
    assert gateway.item_count() == 0


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "no nhs_number": ({"participant": {"nhs_number": None}}, "participant.nhs_number"),
    "nhs_number of 65": ({"participant": {"nhs_number": NHS_NUMBER * 7}}, "participant.nhs_number"),
    "a number as nhs_number": ({"participant": {"nhs_number": int(NHS_NUMBER)}}, "participant.nhs_number"),
    "a name with a line break": ({"participant": {"name": f"{NAME}\r\n"}}, "participant.name"),
    "a name of 65": ({"participant": {"name": NAME * 3}}, "participant.name"),
    "a birth date that never was": ({"participant": {"birth_date": "19430230"}}, "participant.birth_date"),
    "a birth date with dashes": ({"participant": {"birth_date": "1943-02-17"}}, "participant.birth_date"),
    "a name for a sex": ({"participant": {"sex": NAME}}, "participant.sex"),
    "a participant that is a text": ({"participant": NAME}, "participant"),
    "no date": ({"scheduled": {"date": None}}, "scheduled.date"),
    "25 o'clock": ({"scheduled": {"time": "250000"}}, "scheduled.time"),
    "starts_at without offset": ({"scheduled": {"starts_at": "2026-04-24T11:00:00"}}, "scheduled.starts_at"),
    "a person as station": ({"scheduled": {"station_ae_title": f"{NAME}{NAME}"}}, "scheduled.station_ae_title"),
    "a name as modality": ({"procedure": {"modality": NAME}}, "procedure.modality"),
    "a description with a backslash": (
        {"procedure": {"study_description": f"{NAME}\\"}},
        "procedure.study_description",
    ),
}


def test_an_invalid_value_is_refused_with_its_field_and_never_repeated(gateway: GatewayProcess) -> None:
    for name, (changes, field) in INVALID.items():
        item = create_item("INVALID2", participant=PERSON)["parameters"]["worklist_item"]
        for section, values in changes.items():
            item[section] = item[section] | values if isinstance(values, dict) else values
        reply = gateway.ask(action("worklist.create_item", item))
        assert (reply["status"], reply["code"], reply["retryable"]) == ("error", "validation", False), (name, reply)
        assert reply["field"].startswith(f"parameters.worklist_item.{field}"), (name, reply["field"])
        assert_discreet(json.dumps(reply))
    assert gateway.kinds("INVALID2") == ["RelayAction.Rejected"] * len(INVALID)


def test_unknown_actions_versions_ids_and_accession_numbers_are_refused_by_their_code(gateway: GatewayProcess) -> None:
    good = create_item("GOOD", participant=PERSON)
    refusals: list[tuple[dict[str, Any], str, str | None]] = [
        (good | {"action_type": "worklist.delete_item"}, "unsupported_action", "action_type"),
        (good | {"action_type": None}, "unsupported_action", "action_type"),
        (good | {"action_type": {"participant": PERSON}}, "unsupported_action", "action_type"),
        (good | {"action_type": f"worklist.create {NAME}"}, "unsupported_action", "action_type"),
        (good | {"schema_version": 2}, "unsupported_version", "schema_version"),
        (good | {"schema_version": PERSON}, "unsupported_version", "schema_version"),
        ({**good, "action_id": None}, "validation", "action_id"),
        ({**good, "action_id": ""}, "validation", "action_id"),
        ({**good, "action_id": PERSON}, "validation", "action_id"),
        ({**good, "action_id": "x" * 129}, "validation", "action_id"),
        ({**good, "parameters": NAME}, "validation", "parameters"),
        ({**good, "parameters": {}}, "validation", "parameters.worklist_item"),
        (create_item("X" * 17), "validation", "parameters.worklist_item.accession_number"),
        (create_item("A\\B"), "validation", "parameters.worklist_item.accession_number"),
        ({**create_item("NONE"), "action_type": "worklist.cancel_item"}, "not_found",
         "parameters.worklist_item.accession_number"),
        (action("worklist.update_status", {"accession_number": "NONE", "status": NAME}), "validation",
         "parameters.worklist_item.status"),
    ]  # fmt: skip
    for message, code, field in refusals:
        fresh = message if "action_id" in message and message["action_id"] != good["action_id"] else (
            message | {"action_id": new_uid()}
        )  # fmt: skip
        reply = gateway.ask(fresh)
        assert (reply["status"], reply["code"], reply["field"]) == ("error", code, field), (message, reply)
        assert_discreet(json.dumps(reply))


def test_other_content_under_a_known_action_id_is_a_conflict_and_changes_nothing(gateway: GatewayProcess) -> None:
    first = create_item("ONE", participant=PERSON)
    assert gateway.ask(first)["status"] == "created"
    other = create_item("TWO", action_id=first["action_id"])
    reply = gateway.ask(other)
    assert (reply["code"], reply["action_id"]) == ("action_id_conflict", first["action_id"])
    assert gateway.ask(first)["duplicate"] is True
    assert gateway.item_count() == 1
    reply = gateway.ask(create_item("ONE"))
    assert (reply["code"], reply["field"]) == ("accession_conflict", "parameters.worklist_item.participant.nhs_number")
    assert gateway.item("ONE").patient_id == NHS_NUMBER


def test_a_sender_with_a_wrong_key_gets_nowhere(relay: LocalRelay, gateway: GatewayProcess) -> None:
    from relay import ConnectionString, Namespace, SharedAccessKey

    wrong = ConnectionString(Namespace("127.0.0.1", relay.port, secure=False), SharedAccessKey("end-to-end", "no key"))
    with pytest.raises(RelayError) as refused:
        ask(wrong.hybrid_connection("actions"), create_item("WRONG"))
    assert refused.value.status == 401


# --- the web app's answers


def test_answers_that_name_somebody_are_retried_and_not_repeated_to_anybody(
    gateway: GatewayProcess, relay: LocalRelay
) -> None:
    answers = iter(
        [
            json.dumps({"status": NAME}),
            f"{NAME} {NHS_NUMBER}",
            json.dumps({"status": "error", "error": f"no {NAME}"}),
        ]
    )
    with web_app(relay.connection("events"), lambda event: next(answers, None) or settled(event)) as listener:
        gateway.ask(create_item("ANSWERS", participant=PERSON))
        unit = Unit(gateway.dicom_port)
        unit.start("ANSWERS")
        listener.until_told("ANSWERS", *["IN PROGRESS"] * 4, seconds=30)
    gateway.until_settled()
    with gateway.store() as store:
        assert_discreet(json.dumps([row.details for row in store.timeline("ANSWERS")]))
    assert [event["attempt"] for event in listener.of("ANSWERS")] == [1, 2, 3, 4]


# --- the DICOM port


def exchange(association: Any, primitive: Any, abstract_syntax: str) -> Any:
    """Send a primitive whose data set pynetdicom would not send, and return the response."""
    context = next(c for c in association.accepted_contexts if c.abstract_syntax == abstract_syntax)
    association._reactor_checkpoint.clear()
    association.dimse.send_msg(primitive, context.context_id)
    _, response = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return response


def malformed_data_sets() -> list[bytes]:
    """Explicit VR little endian, and each of them wrong in its own way; all of them name somebody."""
    name = b"\x10\x00\x10\x00PN" + struct.pack("<H", len(NAME)) + NAME.encode()
    number = b"\x10\x00\x20\x00LO" + struct.pack("<H", 500) + NHS_NUMBER.encode()
    return [
        name[:-3],
        name + number,
        name + name,
        NAME.encode() * 20,
        name.replace(b"PN", b"\x00\x00"),
        name + b"\xfe\xff\x0d\xe0\x00\x00\x00\x00",
        name + b"\x40\x00\x00\x01SQ\x00\x00\xff\xff\xff\xff" + NAME.encode(),
        bytes(range(256)) * 40,
    ]


def test_malformed_identifiers_are_answered_with_a900_and_match_nothing(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("LISTED", participant=PERSON))
    unit = Unit(gateway.dicom_port)
    with unit.association() as association:
        for number, data in enumerate(malformed_data_sets(), 1):
            request = C_FIND()
            request.MessageID = number
            request.AffectedSOPClassUID = ModalityWorklistInformationFind
            request.Priority = 2
            request.Identifier = BytesIO(data)
            response = exchange(association, request, ModalityWorklistInformationFind)
            assert response.Status == 0xA900, (number, hex(response.Status))
            assert_discreet(str(response.ErrorComment))
        assert association.send_c_echo().Status == 0
    queries = [line for line in gateway.lines() if line["event"] == "query_answered"]
    assert [line["status"] for line in queries] == ["0xA900"] * len(malformed_data_sets())


def test_malformed_attribute_lists_are_refused_and_begin_nothing(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("LISTED", participant=PERSON))
    unit = Unit(gateway.dicom_port)
    uid = unit.start("LISTED")
    with unit.association() as association:
        for number, data in enumerate(malformed_data_sets(), 1):
            create = N_CREATE()
            create.MessageID = number
            create.AffectedSOPClassUID = ModalityPerformedProcedureStep
            create.AffectedSOPInstanceUID = new_uid()
            create.AttributeList = BytesIO(data)
            response = exchange(association, create, ModalityPerformedProcedureStep)
            assert response.Status == 0x0110, (number, hex(response.Status))
            change = N_SET()
            change.MessageID = 100 + number
            change.RequestedSOPClassUID = ModalityPerformedProcedureStep
            change.RequestedSOPInstanceUID = uid
            change.ModificationList = BytesIO(data)
            response = exchange(association, change, ModalityPerformedProcedureStep)
            assert response.Status == 0x0110, (number, hex(response.Status))
    assert gateway.status("LISTED") == "IN PROGRESS"
    unit.finish(uid)
    assert gateway.status("LISTED") == "COMPLETED"


def test_steps_with_missing_and_wrong_values_are_refused_by_their_status(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("LISTED", participant=PERSON))
    unit = Unit(gateway.dicom_port)
    [entry] = unit.find(AccessionNumber="LISTED")
    nobody = started(entry)
    del nobody.Modality
    cases = [
        (nobody, 0x0120),
        (started(entry, Modality=""), 0x0121),
        (started(entry, PerformedProcedureStepStatus=NAME[:13]), 0x0106),
        (started(entry, PerformedProcedureStepStatus="COMPLETED"), 0x0106),
        (started(entry, ScheduledStepAttributesSequence=[Dataset()], PatientName=NAME), 0x0120),
    ]
    for attributes, status in cases:
        assert unit.create(new_uid(), attributes) == status
    assert unit.set(new_uid(), finished()) == 0x0112
    assert gateway.status("LISTED") == "SCHEDULED"
    uid = new_uid()
    assert unit.create(uid, started(entry)) == 0
    assert unit.create(uid, started(entry)) == 0x0111
    assert unit.set(uid, finished(NAME[:13])) == 0x0106
    assert unit.set(uid, finished()) == 0
    assert unit.set(uid, finished("DISCONTINUED")) == 0x0110
    assert gateway.status("LISTED") == "COMPLETED"


def test_a_step_of_somebody_else_touches_nobodys_item_and_is_alerted_without_a_name(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("HERS"))
    unit = Unit(gateway.dicom_port)
    [entry] = unit.find(AccessionNumber="HERS")
    stranger = started(entry, PatientID=NHS_NUMBER, PatientName=NAME, PatientBirthDate=BIRTH_DATE)
    assert unit.create(new_uid(), stranger) == 0
    assert gateway.status("HERS") == "SCHEDULED"
    assert gateway.said("step_alert", alert="the step is of another patient than item HERS")
    assert gateway.owed() == []


def test_queries_by_name_number_and_birth_date_leave_no_trace_of_them(gateway: GatewayProcess) -> None:
    gateway.ask(create_item("LISTED", participant=PERSON))
    unit = Unit(gateway.dicom_port)
    assert unit.numbers(PatientName="Zwingenberger*") == ["LISTED"]
    assert unit.numbers(PatientID=NHS_NUMBER) == ["LISTED"]
    assert unit.numbers(date=f"{today()}-", PatientName=NAME, PatientID=NHS_NUMBER) == ["LISTED"]
    assert unit.numbers(PatientName="NOBODY") == []
    uid = unit.start("LISTED", PatientBirthDate=BIRTH_DATE, PerformedProcedureStepDescription=f"of {NAME}")
    unit.finish(uid, "DISCONTINUED", CommentsOnThePerformedProcedureStep=f"{NAME} left, {NHS_NUMBER}")
    assert gateway.status("LISTED") == "DISCONTINUED"


def test_an_association_for_another_ae_title_is_rejected_and_says_whom_it_called(gateway: GatewayProcess) -> None:
    with pytest.raises(NoAssociation, match="rejected"):
        Unit(gateway.dicom_port, called="SOMEBODY").echo()
    line = gateway.until_said("association_refused")
    assert (line["called_ae"], line["calling_ae"]) == ("SOMEBODY", "MAMMO1")
    assert line["reason"] == "Called AE title not recognised"


def association_request(gateway: GatewayProcess) -> bytes:
    """The bytes of an A-ASSOCIATE-RQ that this gateway accepts."""
    sent: list[bytes] = []
    entity = AE(ae_title="RAW")
    for service in (Verification, ModalityWorklistInformationFind, ModalityPerformedProcedureStep):
        entity.add_requested_context(service)
    association = associate(
        entity,
        "127.0.0.1",
        gateway.dicom_port,
        ae_title=AE_TITLE,
        evt_handlers=[(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))],
    )
    association.release()
    return sent[0]


def test_garbage_and_half_pdus_on_the_dicom_port_harm_nobody(gateway: GatewayProcess) -> None:
    request = association_request(gateway)
    said = NAME.encode() * 50
    greetings = [
        b"GET / HTTP/1.1\r\nHost: worklist\r\n\r\n",
        said,
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"\x99\x00" + struct.pack(">I", 10) + said[:10],
        b"\x01\x00" + struct.pack(">I", 4) + said[:4],
        b"\x01\x00" + struct.pack(">I", 0xFFFFFFFF) + said,
        b"\x04\x00" + struct.pack(">I", len(said)) + said,
        b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00",
        request[:3],
        request[:-7],
        request + said,
        request + b"\x04\x00" + struct.pack(">I", 12) + struct.pack(">IBB", 8, 1, 3) + said[:6],
        request + b"\x04\x00" + struct.pack(">I", 6) + struct.pack(">IBB", 0xFFFFFFF0, 1, 3),
        request + request,
    ]
    with contextlib.ExitStack() as left_open:
        for greeting in greetings:
            for closes in (True, False):
                raw = left_open.enter_context(socket.create_connection(("127.0.0.1", gateway.dicom_port), timeout=10))
                with contextlib.suppress(ConnectionError):
                    raw.sendall(greeting)
                    if closes:
                        raw.shutdown(socket.SHUT_WR)
        unit = Unit(gateway.dicom_port)
        assert unit.echo() == 0
        gateway.ask(create_item("LISTED", participant=PERSON))
        unit.perform("LISTED")
        assert gateway.status("LISTED") == "COMPLETED"
    assert gateway.until_said("connection_broken")
    assert unit.echo() == 0


def test_many_silent_connections_leave_room_for_modalities(gateway: GatewayProcess) -> None:
    with contextlib.ExitStack() as left_open:
        for _ in range(100):
            left_open.enter_context(socket.create_connection(("127.0.0.1", gateway.dicom_port), timeout=10))
        assert Unit(gateway.dicom_port).echo() == 0


# --- the ops port


def test_garbage_on_the_ops_port_harms_nobody(gateway: GatewayProcess) -> None:
    said = NAME.encode()
    greetings = [
        said * 100,
        b"\x00" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + said,
        b"GET /" + said + b"?nhs=" + NHS_NUMBER.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Name: " + said * 20_000 + b"\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n" + said,
        b"POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n" + said,
        b"GET /health HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /health",
    ]
    with contextlib.ExitStack() as left_open:
        for greeting in greetings:
            raw = left_open.enter_context(socket.create_connection(("127.0.0.1", gateway.ops_port), timeout=10))
            with contextlib.suppress(ConnectionError):
                raw.sendall(greeting)
        answer = gateway.health()
        assert answer is not None
        assert answer[0] == 200
    for path, status in ((f"/{NAME}", 404), ("/", 303), ("/health/", None)):
        with socket.create_connection(("127.0.0.1", gateway.ops_port), timeout=10) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            first = raw.makefile("rb").readline()
        assert status is None or f" {status} ".encode() in first, (path, first)


# --- the database and the settings


def refused(folder: Path, *, code: int, **settings: object) -> str:
    """The one line that `gateway serve` says before it gives up, on ports nobody wants."""
    needed = {"gateway_dicom_port": free_port(), "gateway_ops_port": free_port(), "gateway_dicom_host": "127.0.0.1"}
    done = subprocess.run(
        [GATEWAY, "serve"],
        cwd=folder,
        env=environment(**needed | {"worklist_db_path": folder / "data" / "gateway.db"} | settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=_respect_permissions,
    )
    assert done.returncode == code, done
    assert done.stdout == ""
    talk = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(talk) == 1, done.stderr
    assert re.fullmatch(r"gateway: [a-z_]+: .+ → .+", talk[0]), talk
    assert "TOPSECRET" not in done.stderr
    return talk[0]


def _respect_permissions() -> None:
    """Even root heeds a file's mode without CAP_DAC_OVERRIDE (1); prctl 24 is PR_CAPBSET_DROP."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_a_database_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    line = refused(tmp_path, code=1, worklist_db_path=tmp_path)
    assert line.startswith("gateway: store_unusable: ")
    assert "it is a folder: set WORKLIST_DB_PATH to a file" in line


def test_a_database_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "gateway.db").touch(0o444)
    folder.chmod(0o555)
    line = refused(tmp_path, code=1, worklist_db_path=folder / "gateway.db")
    assert line.startswith("gateway: store_unusable: ")
    assert "check that this user may write" in line


def test_a_folder_that_may_not_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir(0o555)
    line = refused(tmp_path, code=1, worklist_db_path=folder / "data" / "gateway.db")
    assert line.startswith("gateway: store_unusable: ")
    assert "WORKLIST_DB_PATH" in line
    (tmp_path / "file").touch()
    line = refused(tmp_path, code=1, worklist_db_path=tmp_path / "file" / "gateway.db")
    assert line.startswith("gateway: store_unusable: ")
    assert "WORKLIST_DB_PATH" in line


def test_another_programs_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "worklist.db"
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE worklist_items (accession_number TEXT PRIMARY KEY)")
        other.execute("INSERT INTO worklist_items VALUES ('ACC001')")
    before = path.read_bytes()
    assert "belongs to another program" in refused(tmp_path, code=1, worklist_db_path=path)
    assert path.read_bytes() == before


def test_a_text_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f"{NAME},{NHS_NUMBER}\n" * 100)
    line = refused(tmp_path, code=1, worklist_db_path=path)
    assert "file is not a database" in line
    assert_discreet(line)
    assert path.read_text() == f"{NAME},{NHS_NUMBER}\n" * 100


@pytest.mark.parametrize("variable", ["GATEWAY_DICOM_PORT", "GATEWAY_OPS_PORT"])
def test_a_port_in_use_is_refused_by_the_name_of_its_setting(tmp_path: Path, variable: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = refused(tmp_path, code=1, **{variable.lower(): port})
    assert line.startswith(f"gateway: port_unusable: port {port} ")
    assert variable in line


@pytest.mark.parametrize("variable", ["GATEWAY_DICOM_HOST", "GATEWAY_OPS_HOST"])
def test_an_address_that_is_not_ours_is_refused_by_the_name_of_its_setting(tmp_path: Path, variable: str) -> None:
    assert variable in refused(tmp_path, code=1, **{variable.lower(): "192.0.2.1"})


STRING = "Endpoint=sb://127.0.0.1:1/;SharedAccessKeyName=a;SharedAccessKey=TOPSECRET="


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"gateway_dicom_port": "eleven"}, "GATEWAY_DICOM_PORT"),
        ({"gateway_ops_port": "65536"}, "GATEWAY_OPS_PORT"),
        ({"gateway_ae_title": "A" * 17}, "GATEWAY_AE_TITLE"),
        ({"gateway_time_zone": "Mars/Phobos"}, "GATEWAY_TIME_ZONE"),
        ({"gateway_scheduled_times": "zulu"}, "GATEWAY_SCHEDULED_TIMES"),
        ({"gateway_expire_at": "25:00"}, "GATEWAY_EXPIRE_AT"),
        ({"gateway_expire_after_days": "-1"}, "GATEWAY_EXPIRE_AFTER_DAYS"),
        ({"gateway_listed_statuses": "LOST"}, "GATEWAY_LISTED_STATUSES"),
        ({"gateway_log_format": "xml"}, "GATEWAY_LOG_FORMAT"),
        ({"gateway_accept_any_called_ae": "perhaps"}, "GATEWAY_ACCEPT_ANY_CALLED_AE"),
        ({"azure_relay_namespace": "a", "azure_relay_shared_access_key": "TOPSECRET"}, "AZURE_RELAY_KEY_NAME"),
        ({"azure_relay_connection_string": STRING + ";TOPSECRET"}, "AZURE_RELAY_CONNECTION_STRING"),
        ({"azure_relay_connection_string": "sb://TOPSECRET"}, "AZURE_RELAY_CONNECTION_STRING"),
        ({"azure_relay_connection_string": STRING}, "AZURE_RELAY_HYBRID_CONNECTION"),
        (
            {
                "azure_relay_connection_string": STRING,
                "azure_relay_hybrid_connection": "actions",
                "azure_relay_events_connection_string": "Endpoint=TOPSECRET",
            },
            "AZURE_RELAY_EVENTS_CONNECTION_STRING",
        ),
        (
            {
                "azure_relay_connection_string": STRING,
                "azure_relay_hybrid_connection": "actions",
                "azure_relay_events_connection_string": STRING,
            },
            "AZURE_RELAY_EVENTS_HYBRID_CONNECTION",
        ),
        ({"gateway_modalities_file": "nowhere.toml"}, "GATEWAY_MODALITIES_FILE: nowhere.toml: can't be read"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_setting_that_cannot_be_used_is_named_and_its_value_is_not(
    tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    line = refused(tmp_path, code=2, **settings)
    assert line.startswith("gateway: settings_invalid: ")
    assert named in line
    assert not (tmp_path / "data").exists()


def test_a_misspelt_variable_is_warned_of(lonely: GatewayProcess) -> None:
    lonely.settings["gateway_dcom_port"] = 1
    lonely.start()
    assert lonely.said("setting_unknown", variable="GATEWAY_DCOM_PORT")
