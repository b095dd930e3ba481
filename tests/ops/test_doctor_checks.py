"""Each check of the doctor, seen well and seen failing: what was proven, whose move it is, and what to do."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ops_support import asynchronous
from ops_support import serving as ops_serving

from bench.synthetic import appointment, change, completed, naming, schedule, start, step_uid
from gateway.application import Gateway
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.profiles import Profile, Profiles
from gateway.dicom.record import Query, QueryRecord, Record, RefusedAssociation
from gateway.dicom.responder import Responder
from gateway.eventstore import proofs
from gateway.eventstore.backup import take
from gateway.ops.doctor import clinic, door, keeping, traffic
from gateway.ops.doctor.finding import Check, Outcome, carried_out
from gateway.ops.doctor.site import Site
from gateway.ops.health import Check as HealthCheck
from gateway.rehearsal.modality import Modality
from gateway.settings import Settings
from tests.dicom.tls_certificates import Hospital
from tests.eventstore.everything import restored
from tests.serving import serving

Make = Callable[..., Settings]
OK, WARNING, FAILED, SKIPPED = Outcome.OK, Outcome.WARNING, Outcome.FAILED, Outcome.SKIPPED


@pytest.fixture
def make(gateway: Gateway, own_settings: Make) -> Callable[..., Site]:
    """A site over the test's database; nobody listens at its port unless one is given."""

    def made(port: int = 1, **changes: Any) -> Site:
        unit = Modality("127.0.0.1", port, "ORTHANC_MWL", "REHEARSAL", timeout=5)
        return Site(own_settings(**changes), gateway, unit)

    return made


@pytest.fixture
def site(make: Callable[..., Site]) -> Site:
    return make()


@pytest.fixture
def port(gateway: Gateway) -> Iterator[int]:
    """A DICOM door over the same database."""
    with serving(Responder(gateway)) as server:
        yield server.port


def today(site: Site, number: int, time: str = "100000", **changes: Any) -> str:
    """An appointment of today, of somebody of her own."""
    accession_number = f"ACC{number:03}"
    who = {"patient_id": f"99900000{number:02}", "scheduled_date": site.today, "scheduled_time": time}
    site.gateway.schedule(appointment(accession_number, **who | changes))
    return accession_number


def recorded(gateway: Gateway, *records: Record) -> None:
    book = QueryRecord(gateway)
    for record in records:
        book.add(record)
    book.start()
    book.close()


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


def query(minutes: float, title: str = "MAMMO1") -> Query:
    return Query(
        at=ago(minutes), calling_ae_title=title, called_ae_title="ORTHANC_MWL", address="192.0.2.7", keys=(),
        identifier=str(minutes).encode(), transfer_syntax=IMPLICIT, status=0, error_comment="", answers=0,
        accession_numbers=(), milliseconds=1.0,
    )  # fmt: skip


def refusal(minutes: float, title: str = "MAMMO1") -> RefusedAssociation:
    return RefusedAssociation(
        at=ago(minutes), calling_ae_title=title, called_ae_title="GATEWAY", address="192.0.2.7",
        reason="Called AE title not recognised",
    )  # fmt: skip


def clinic_is_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were the middle of today's clinic, whatever the test's hour is."""
    now = datetime.now(UTC)
    span = (now - timedelta(hours=3), now + timedelta(hours=1))
    monkeypatch.setattr(traffic, "clinic_hours", lambda *_: span)
    assert traffic.site_rhythms(site, now)[1] == span


# --- the doors


@asynchronous
async def test_a_service_that_is_well_says_its_version(own_settings: Make) -> None:
    async with ops_serving({"store": lambda: {"ok": True}}) as ops:
        found = await asyncio.to_thread(door.service_answers, own_settings(gateway_ops_port=ops), "127.0.0.1")
    assert (found.outcome, found.proven.endswith("healthy")) == (OK, True)


@asynchronous
async def test_a_service_that_is_not_well_says_what(own_settings: Make) -> None:
    def deaf() -> HealthCheck:
        return {"ok": False, "error": "no echo came back"}

    async with ops_serving({"relay": deaf}) as ops:
        found = await asyncio.to_thread(door.service_answers, own_settings(gateway_ops_port=ops), "127.0.0.1")
    assert (found.outcome, found.proven) == (FAILED, "relay: no echo came back")


def test_where_nothing_runs_the_check_says_start_it(own_settings: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = door.service_answers(own_settings(gateway_ops_port=free.getsockname()[1]), "127.0.0.1")
    assert (found.outcome, found.code) == (FAILED, "unreachable")
    assert found.remedy.startswith("start gateway serve")


def test_another_program_at_the_ops_port_is_no_gateway(own_settings: Make, port: int) -> None:
    found = door.service_answers(own_settings(gateway_ops_port=port), "127.0.0.1")
    assert (found.outcome, found.proven) == (FAILED, f"what answers at 127.0.0.1:{port} is not the gateway")


def test_c_echo_is_answered(make: Callable[..., Site], port: int) -> None:
    found = door.echo_answers(make(port).unit)
    assert (found.outcome, found.how) == (OK, "C-ECHO")
    assert found.seconds is not None


def test_nobody_at_the_dicom_port_is_unreachable(site: Site) -> None:
    found = door.echo_answers(site.unit)
    assert (found.outcome, found.code) == (FAILED, "unreachable")
    assert found.remedy == "check host, port and firewall, and that the gateway runs"


def test_a_list_of_modalities_that_lacks_the_test_caller_is_named(gateway: Gateway, make: Callable[..., Site]) -> None:
    with serving(Responder(gateway, profiles=Profiles(strangers_admitted=False))) as server:
        found = door.echo_answers(make(server.port).unit)
    assert (found.outcome, found.code) == (FAILED, "association_rejected")
    assert "GATEWAY_MODALITIES_FILE, if there is one, must have REHEARSAL" in found.remedy


def test_c_find_shows_all_that_is_scheduled_today(make: Callable[..., Site], port: int) -> None:
    site = make(port)
    for number in (1, 2):
        today(site, number)
    schedule(site.gateway, "ANOTHERDAY")
    found = door.worklist_answers(site)
    assert (found.outcome, found.proven) == (OK, "all of today's 2 scheduled items shown")


def test_an_item_that_the_store_has_and_c_find_does_not_show_is_named(
    gateway: Gateway, make: Callable[..., Site]
) -> None:
    narrow = Profiles(Profile(only_own_stations=True, items_without_station=False))
    with serving(Responder(gateway, profiles=narrow)) as server:
        site = make(server.port)
        today(site, 1)
        found = door.worklist_answers(site)
        today(site, 2, station_ae_titles=("REHEARSAL",))
        some = door.worklist_answers(site)
    assert (found.outcome, found.proven) == (FAILED, "1 of today's 1 item not shown to REHEARSAL: ACC001")
    assert (some.outcome, some.proven) == (WARNING, "1 of today's 2 items not shown to REHEARSAL: ACC001")
    assert found.remedy == "gateway worklist explain --from REHEARSAL says why"


def test_no_worklist_without_a_door(site: Site) -> None:
    assert door.worklist_answers(site).code == "unreachable"


def test_the_tls_port_shows_the_certificate_of_the_settings_until_it_is_renewed(
    gateway: Gateway, own_settings: Make, tmp_path: Path
) -> None:
    hospital = Hospital(tmp_path)
    with serving(Responder(gateway), tls=hospital.door(callers=hospital)) as server:
        pair = hospital.gateway
        settings = own_settings(
            gateway_dicom_tls_port=server.tls_port,
            gateway_dicom_tls_cert=pair.certificate,
            gateway_dicom_tls_key=pair.key,
        )
        assert door.tls_answers(settings, "127.0.0.1").outcome is OK
        hospital.signed("gateway")
        found = door.tls_answers(settings, "127.0.0.1")
    assert (found.outcome, found.remedy) == (WARNING, "restart the service after a renewal")


def test_a_port_that_speaks_no_tls_is_a_failure(own_settings: Make, port: int, tmp_path: Path) -> None:
    pair = Hospital(tmp_path).gateway
    settings = own_settings(
        gateway_dicom_tls_port=port, gateway_dicom_tls_cert=pair.certificate, gateway_dicom_tls_key=pair.key
    )
    found = door.tls_answers(settings, "127.0.0.1")
    assert (found.outcome, found.proven.startswith("no TLS handshake")) == (FAILED, True)


def test_a_certificate_that_cannot_be_read_is_the_line_certificates_move_and_no_failed_handshake(
    own_settings: Make, port: int, tmp_path: Path
) -> None:
    pair = Hospital(tmp_path).gateway
    settings = own_settings(
        gateway_dicom_tls_port=port, gateway_dicom_tls_cert=pair.certificate, gateway_dicom_tls_key=pair.key
    )
    pair.certificate.unlink()
    [tls] = carried_out(Check("dicom tls", lambda: door.tls_answers(settings, "127.0.0.1")))
    [lasts] = carried_out(Check("certificates", lambda: keeping.certificates_last(settings)))
    assert (tls.outcome, "not tried" in tls.proven, "certificates" in tls.remedy) == (SKIPPED, True, True)
    assert (lasts.outcome, "GATEWAY_DICOM_TLS_CERT" in lasts.proven) == (FAILED, True)


# --- what keeps the record


def test_what_is_appended_is_read_back_by_another_connection_and_the_latest_hundred_stay(site: Site) -> None:
    for _ in range(103):
        site.gateway.append_and_read_back()
    with closing(sqlite3.connect(site.gateway.path)) as connection:
        kept = connection.execute("SELECT COUNT(*), MAX(id) FROM proofs").fetchone()
    assert kept == (100, 103)


def test_what_was_appended_and_is_gone_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "append", lambda _: 0)
    with site.gateway.datastore.writer.transaction() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS proofs (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL)")
    found = keeping.store_takes_writes(site)
    assert (found.outcome, found.proven) == (FAILED, "what was appended can't be read back")


def test_where_azure_monitor_is_configured_a_figure_is_sent_and_its_answer_judged(own_settings: Make) -> None:
    here = "InstrumentationKey=00000000-0000-4000-8000-000000000001;IngestionEndpoint=http://127.0.0.1:9/"
    silent = keeping.telemetry_arrives(own_settings(applicationinsights_connection_string=here))
    assert (silent.outcome, silent.how) == (WARNING, "one figure sent to http://127.0.0.1:9")
    assert silent.remedy
    assert keeping.telemetry_arrives(own_settings()).outcome is SKIPPED


def test_a_write_is_kept_and_changes_nothing(site: Site) -> None:
    schedule(site.gateway)
    before = site.gateway.check_store()
    found = keeping.store_takes_writes(site)
    assert (found.outcome, found.proven) == (OK, "2 events in the log, writes are kept")
    assert site.gateway.check_store() == before
    assert site.gateway.verify_projections() == []


def test_projections_behind_the_log_are_named(site: Site) -> None:
    schedule(site.gateway)
    assert keeping.projections_follow(site).outcome is OK
    with site.gateway.datastore.writer.transaction() as cursor:
        cursor.execute("UPDATE projection_positions SET position = 0 WHERE name = 'timeline'")
    found = keeping.projections_follow(site)
    assert (found.outcome, found.proven) == (FAILED, "behind the log: timeline")
    assert found.remedy == "gateway projections rebuild"


def test_the_disk_tells_its_room_and_what_follows_when_it_has_none(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = keeping.disk_has_room(site.settings)
    assert found.proven.startswith("database: ")
    monkeypatch.setattr(keeping, "_LITTLE_PERCENT", 100.1)
    assert keeping.disk_has_room(site.settings)[0].remedy == "make room, or move backups"
    monkeypatch.setattr(keeping, "_NOTHING_PERCENT", 100.1)
    [found] = keeping.disk_has_room(site.settings)
    assert (found.outcome, found.remedy.startswith("make room now")) == (FAILED, True)


def test_backups_none_fresh_old_and_unsound(site: Site) -> None:
    schedule(site.gateway)
    found = keeping.backup_is_fresh(site.settings)
    assert (found.outcome, found.proven) == (WARNING, "there is no backup of this log")
    assert "GATEWAY_BACKUP_AT" in found.remedy

    file = take(site.settings.worklist_db_path, site.settings.backup_folder).file
    assert keeping.backup_is_fresh(site.settings).outcome is OK
    _, _, *rest = file.stem.split("-")
    later = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    unsound = file.with_name(f"gateway-{later}-{'-'.join(rest)}.unsound.db")
    old = (datetime.now(UTC) - timedelta(hours=50)).strftime("%Y%m%dT%H%M%SZ")
    aged = file.rename(file.with_name(f"gateway-{old}-{'-'.join(rest)}.db"))
    found = keeping.backup_is_fresh(site.settings)
    assert (found.outcome, found.proven) == (WARNING, f"{aged.name} is 2 days old")
    unsound.write_bytes(b"")
    assert keeping.backup_is_fresh(site.settings).remedy == "gateway backup verify FILE says why"


@pytest.mark.parametrize(
    ("days", "outcome", "words"), [(90, OK, "ends on"), (5, WARNING, "ends on"), (-1, FAILED, "ended on")]
)
def test_a_certificate_is_told_before_it_ends(
    own_settings: Make, tmp_path: Path, days: int, outcome: Outcome, words: str
) -> None:
    pair = Hospital(tmp_path).signed("ours", until=datetime.now(UTC) + timedelta(days=days, hours=1))
    [found] = keeping.certificates_last(own_settings(gateway_dicom_tls_port=0, gateway_dicom_tls_cert=pair.certificate))
    assert (found.outcome, words in found.proven) == (outcome, True)


def test_without_certificates_none_can_end(site: Site) -> None:
    [found] = keeping.certificates_last(site.settings)
    assert found.outcome is SKIPPED


def test_settings_that_are_misspelt_or_left_open_are_told(own_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [found.outcome for found in keeping.settings_are_whole(own_settings())] == [OK]
    monkeypatch.setenv("GATEWAY_AE_TITEL", "X")
    settings = own_settings(
        azure_relay_namespace="here",
        gateway_relay_echo_seconds=0,
        gateway_dicom_tls_port=2762,
        gateway_test_ae_titles=(),
    )
    told = [found.proven for found in keeping.settings_are_whole(settings)]
    assert told == [
        "not a setting of ours: GATEWAY_AE_TITEL",
        "GATEWAY_SCHEDULED_TIMES is not set",
        "deafness goes unnoticed",
        "whoever reaches the TLS port may ask for the worklist",
        "nobody is shown test items: no rehearsal",
    ]


# --- what comes and goes


def test_an_outbox_that_is_acknowledged_says_when(site: Site) -> None:
    schedule(site.gateway)
    start(site.gateway, step_uid(1), naming())
    [update] = site.gateway.find_updates()
    site.gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)
    found = traffic.outbox_is_acknowledged(site, delivers=True)
    assert (found.outcome, found.proven) == (OK, "0 waiting, 0 refused, last acknowledged 0 s ago")


def test_status_events_that_wait_too_long_are_the_web_apps_move(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(site.gateway)
    start(site.gateway, step_uid(1), naming())
    assert traffic.outbox_is_acknowledged(site, delivers=True).outcome is OK
    later = datetime.now(UTC) + timedelta(minutes=3)
    monkeypatch.setattr(traffic, "now", lambda: later)
    found = traffic.outbox_is_acknowledged(site, delivers=True)
    assert (found.outcome, found.fault) == (FAILED, "the web app")
    assert found.proven.startswith("1 waiting, 0 refused, never acknowledged one; it was not sent")


def test_refused_status_events_wait_for_a_person(site: Site) -> None:
    schedule(site.gateway)
    start(site.gateway, step_uid(1), naming())
    [update] = site.gateway.find_updates()
    site.gateway.park_update(update.event_id, reason="unknown_status", attempts=1)
    found = traffic.outbox_is_acknowledged(site, delivers=True)
    assert (found.outcome, found.remedy) == (WARNING, "gateway outbox list --state parked, then outbox retry")


def test_after_a_restore_nothing_leaves_until_a_person_says_so(site: Site) -> None:
    schedule(site.gateway)
    restored(site.gateway)
    found = traffic.outbox_is_acknowledged(site, delivers=True)
    assert (found.outcome, "gateway outbox resume --after-restore" in found.remedy) == (FAILED, True)


def test_without_an_events_connection_only_what_waits_is_told(site: Site) -> None:
    assert traffic.outbox_is_acknowledged(site, delivers=False).outcome is SKIPPED
    schedule(site.gateway)
    start(site.gateway, step_uid(1), naming())
    found = traffic.outbox_is_acknowledged(site, delivers=False)
    assert (found.outcome, found.remedy) == (WARNING, "set AZURE_RELAY_EVENTS_HYBRID_CONNECTION")


def test_a_unit_that_went_silent_in_the_clinic_is_named_with_its_rhythm(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    clinic_is_on(site, monkeypatch)
    recorded(site.gateway, *(query(minute) for minute in range(32, 25, -1)), query(0.5, "MAMMO2"))
    silent, fine = traffic.modalities_ask(site)
    assert (silent.name, silent.outcome, silent.fault) == ("modality MAMMO1", FAILED, "the unit")
    assert silent.proven == "last asked 26 min ago, usually every 60 s"
    assert silent.remedy == "check its power and network; it was not refused"
    assert (fine.name, fine.outcome) == ("modality MAMMO2", OK)


def test_a_unit_that_is_refused_is_named_with_the_reason(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    clinic_is_on(site, monkeypatch)
    recorded(site.gateway, *(query(minute) for minute in range(32, 25, -1)), refusal(9))
    recorded(site.gateway, refusal(2, "MAMMO2"), query(20, "CR"), refusal(8, "CR"))
    again, silent, never = traffic.modalities_ask(site)
    assert silent.remedy == "check its power and network; refused 1 time: Called AE title not recognised"
    assert (never.outcome, never.proven) == (WARNING, "refused 1 time: Called AE title not recognised")
    assert (again.outcome, again.remedy) == (WARNING, "gateway worklist queries")


def test_where_nobody_ever_asked_there_is_nothing_to_judge(site: Site) -> None:
    [found] = traffic.modalities_ask(site)
    assert found.outcome is SKIPPED


# --- the morning's


def test_todays_list_is_counted_without_tests_and_what_was_called_off(site: Site) -> None:
    today(site, 1, "091500")
    today(site, 2, "160000")
    site.gateway.cancel(today(site, 3))
    site.gateway.schedule(appointment("TEST", scheduled_date=site.today), is_test=True)
    found = clinic.list_is_there(site)
    assert (found.outcome, found.proven) == (OK, "2 appointments today, 09:15 to 16:00, 2 yet to be performed")


def test_an_empty_list_is_told(site: Site) -> None:
    found = clinic.list_is_there(site)
    assert (found.outcome, found.proven) == (WARNING, "nobody is on today's list")


def test_items_that_make_no_sense_are_named(site: Site) -> None:
    recorded(site.gateway, query(5))
    today(site, 1, station_ae_titles=("MAMMO1",))
    assert [found.outcome for found in clinic.items_are_sane(site)] == [OK]
    today(site, 2, "031500")
    today(site, 3, station_ae_titles=("MAMO1",))
    today(site, 4, patient_id="9990000001")
    told = [found.proven for found in clinic.items_are_sane(site)]
    assert told == [
        "at a time of day when nobody is examined: ACC002",
        "for a station that never asked: ACC003",
        "the same person more than once: ACC001, ACC004",
    ]


def test_units_awake_and_asleep(make: Callable[..., Site], tmp_path: Path) -> None:
    assert clinic.units_are_awake(make()).proven == "no unit has ever asked"
    file = tmp_path / "modalities.toml"
    file.write_text('[[modality]]\nae_title = "MAMMO1"\n\n[[modality]]\nae_title = "REHEARSAL"\n')
    site = make(gateway_modalities_file=file)
    found = clinic.units_are_awake(site)
    assert (found.outcome, found.proven) == (FAILED, "no unit has asked today; not yet: MAMMO1")
    recorded(site.gateway, query(3 * 24 * 60, "MAMMO2"), query(0))
    found = clinic.units_are_awake(site)
    assert (found.outcome, found.proven) == (WARNING, "asked today: MAMMO1; not yet: MAMMO2")
    recorded(site.gateway, query(0, "MAMMO2"))
    assert clinic.units_are_awake(site).proven == "asked today: MAMMO1, MAMMO2"


def test_steps_that_wait_for_a_person_are_counted(site: Site) -> None:
    assert clinic.steps_are_settled(site).outcome is OK
    schedule(site.gateway)
    start(site.gateway, step_uid(1))
    start(site.gateway, step_uid(2), naming("ACC001"))
    found = clinic.steps_are_settled(site)
    assert (found.outcome, found.proven.startswith("1 performed without an appointment")) == (WARNING, True)
    change(site.gateway, completed(step_uid(2)))


def test_a_folder_that_is_gone_is_no_crash(make: Callable[..., Site], tmp_path: Path) -> None:
    gone = make(worklist_db_path=tmp_path / "gone" / "gateway.db")
    assert keeping.disk_has_room(gone.settings) == []
    assert keeping.backup_is_fresh(gone.settings).outcome is WARNING
