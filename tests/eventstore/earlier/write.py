"""Write a database as this release writes it, into this folder as compressed SQL: `README.md` says when and how."""

from __future__ import annotations

import gzip
import importlib.util
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from bench.synthetic import naming, schedule, start, step_uid
from gateway.application import Gateway, opened
from gateway.delivery.attempts import AttemptBook
from tests.eventstore.everything import everything_happened

HERE = Path(__file__).parent


def main(name: str) -> None:
    """Write `NAME.sql.gz`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.db"
        with opened(path) as gateway:
            _live(gateway)
        sql = _dump(path)
    file = HERE / f"{name}.sql.gz"
    with file.open("xb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write(sql.encode("utf-8"))
    print("written:", file)


def _live(gateway: Gateway) -> None:
    """All events, one examination that goes on, a status event that was tried, and a query where those are kept."""
    everything_happened(gateway)
    schedule(gateway, "ACC007", patient_name="MÜLLER^ÄNNE", patient_id="9990000042")
    start(gateway, step_uid(7), naming("ACC007"), patient_id="9990000042", patient_name="MÜLLER^ÄNNE")
    book = AttemptBook(gateway)
    [update] = gateway.find_updates(accession_number="ACC007")
    book.begin(update.event_id)
    book.note_failure(update.event_id, "ack: no answer came")
    if importlib.util.find_spec("gateway.dicom.record"):
        _ask(gateway)


def _ask(gateway: Gateway) -> None:
    from gateway.dicom.record import Query, QueryRecord, now

    record = QueryRecord(gateway)
    record.start()
    record.add(
        Query(
            at=now(),
            calling_ae_title="MAMMO1",
            called_ae_title="ORTHANC_MWL",
            address="192.0.2.7",
            keys=("PatientID",),
            identifier=bytes.fromhex("100020000a000000") + b"9990000042",
            transfer_syntax="1.2.840.10008.1.2",
            status=0,
            error_comment="",
            answers=1,
            accession_numbers=("ACC007",),
            milliseconds=1.5,
        )
    )
    record.close()


def _dump(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        return "\n".join([f"PRAGMA application_id={owner};", *connection.iterdump()]) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
