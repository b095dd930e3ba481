"""What keeps the record: store, projections, disk, backups, certificates, settings."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from gateway.dicom.tls import ends_at
from gateway.errors import StoreUnusable
from gateway.eventstore.backup import listed, newest_sound, origin, taken_until
from gateway.ops import telemetry
from gateway.ops.doctor.finding import Finding, failed, ok, skipped, warning
from gateway.ops.doctor.site import Site, now
from gateway.ops.doctor.words import counted, duration, few
from gateway.settings import Settings, unknown_variables

_LITTLE_PERCENT, _NOTHING_PERCENT = 5.0, 1.0
_RENEWAL = timedelta(days=30)
_BACKUP_TOO_OLD = timedelta(hours=26)


def store_takes_writes(site: Site) -> Finding:
    """A row of its own is appended, synced and read back by another connection, beside the log.

    An event for each look would litter the record that the look is about; the rehearsal appends real ones.
    """
    how = "a row appended, synced to the disk and read back; the log's head"
    began = time.perf_counter()
    try:
        site.gateway.append_and_read_back()
        position = site.gateway.check_store()
    except StoreUnusable as error:
        return failed(error.message, how, error.remedy, code=error.code)
    return ok(f"{counted(position, 'event')} in the log, writes are kept", how, seconds=time.perf_counter() - began)


def projections_follow(site: Site) -> Finding:
    """Every table that is served has taken every event."""
    how = "positions beside the log's head"
    behind = site.gateway.projections_behind()
    if behind:
        return failed(f"behind the log: {', '.join(behind)}", how, "gateway projections rebuild")
    return ok("every table has taken every event", how)


def disk_has_room(settings: Settings) -> list[Finding]:
    """Room for the database, and for its backups."""
    folders = {"database": settings.worklist_db_path.absolute().parent}
    if settings.backup_folder.is_dir():
        folders["backups"] = settings.backup_folder.absolute()
    disks = {folder.stat().st_dev: (name, folder) for name, folder in reversed(folders.items()) if folder.is_dir()}
    return [_room(name, folder) for name, folder in reversed(disks.values())]


def backup_is_fresh(settings: Settings) -> Finding:
    """There is a sound backup of this log, not older than a day and a little."""
    database, folder = settings.worklist_db_path, settings.backup_folder
    how = f"the files in {folder}"
    try:
        backups = taken_until(listed(folder, database.stem, origin(database)), now())
    except StoreUnusable:
        return skipped("of which log a backup must be is not known: the database can't be read")
    newest = newest_sound(backups)
    if newest is None:
        remedy = "gateway backup now; GATEWAY_BACKUP_AT=02:30 has one taken each day"
        return warning("there is no backup of this log", how, remedy)
    age = now() - newest.taken_at
    told = f"{newest.file.name} is {duration(age.total_seconds())} old"
    if backups[-1].taken_at > newest.taken_at:
        return warning(f"the last backup is not sound; {told}", how, "gateway backup verify FILE says why")
    if age > _BACKUP_TOO_OLD:
        return warning(told, how, "gateway backup now; see why the daily one failed in the service's log")
    return ok(told, how)


def certificates_last(settings: Settings) -> list[Finding]:
    """No certificate of the settings ends within a month."""
    files = (
        ("GATEWAY_DICOM_TLS_CERT", settings.gateway_dicom_tls_cert),
        ("GATEWAY_DICOM_TLS_CA", settings.gateway_dicom_tls_ca),
        ("GATEWAY_RELAY_CA_FILE", settings.gateway_relay_ca_file),
        ("GATEWAY_ORTHANC_CA_FILE", settings.gateway_orthanc_ca_file),
    )
    given = [_lasts(setting, file) for setting, file in files if file]
    return given or [skipped("no certificate is configured")]


def telemetry_arrives(settings: Settings) -> Finding:
    """One figure is sent to Azure Monitor, and the endpoint accepts it."""
    export = telemetry.verify(settings)
    if export is None:
        return skipped("no Azure Monitor is configured", "APPLICATIONINSIGHTS_CONNECTION_STRING sends metrics there")
    how = f"one figure sent to {export.endpoint}"
    return warning(export.error, how, export.remedy) if export.error else ok("Azure Monitor accepts what we send", how)


def settings_are_whole(settings: Settings) -> list[Finding]:
    """Nothing is misspelt, and nothing is left open that a site in earnest decides."""
    doubts = [warning(doubt, "the settings in force", remedy) for doubt, remedy in _doubts(settings)]
    return doubts or [ok("nothing is misspelt or left open", "the settings in force")]


def _doubts(settings: Settings) -> Iterator[tuple[str, str]]:
    unknown = unknown_variables()
    if unknown:
        yield f"not a setting of ours: {few(unknown)}", "gateway config show lists those there are"
    if settings.relay_configured and settings.gateway_scheduled_times is None:
        yield (
            "GATEWAY_SCHEDULED_TIMES is not set",
            "set local or utc, as the web app's team says: else a summer clinic may read an hour early",
        )
    if settings.relay_configured and not settings.gateway_relay_echo_seconds:
        yield "deafness goes unnoticed", "leave GATEWAY_RELAY_ECHO_SECONDS above 0"
    if settings.gateway_dicom_tls_port is not None and settings.gateway_dicom_tls_ca is None:
        yield "whoever reaches the TLS port may ask for the worklist", "set GATEWAY_DICOM_TLS_CA"
    if not settings.gateway_test_ae_titles:
        yield "nobody is shown test items: no rehearsal", "set GATEWAY_TEST_AE_TITLES=REHEARSAL"


def _room(name: str, folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    percent = 100 * usage.free / usage.total
    told = f"{name}: {usage.free / 2**30:.1f} GiB free, {percent:.0f} %"
    how = f"the disk of {folder}"
    if percent < _NOTHING_PERCENT:
        return failed(told, how, "make room now: without it nothing is saved, and so nothing is answered")
    return warning(told, how, "make room, or move backups") if percent < _LITTLE_PERCENT else ok(told, how)


def _lasts(setting: str, file: Path) -> Finding:
    end = ends_at(setting, file)
    left = end - now()
    how = f"{file.name} of {setting}"
    told = f"{file.name} ends on {_day(end)}, in {duration(left.total_seconds())}"
    remedy = "put a new one in its place, and restart the service"
    if left <= timedelta():
        return failed(f"{file.name} ended on {_day(end)}", how, remedy)
    return warning(told, how, remedy) if left < _RENEWAL else ok(told, how)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")
