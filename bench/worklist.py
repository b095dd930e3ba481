"""The worklist over DICOM: does a query slow down with the number of items, or beside a query that no index serves?

`python -m bench.worklist [--quick]`. Each server is a process of its own: the gateway's application behind pynetdicom.
Method and results: `bench/README.md`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

import projections.worklist
from bench.dicom_client import Client
from bench.figures import Figure, table
from bench.synthetic import RECEIVED, appointment, participant, schedule, step_uid
from gateway import log
from gateway.application import opened
from gateway.dicom.association import AcceptorOptions
from gateway.dicom.caller import Caller
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN
from gateway.dicom.record import QueryRecord
from gateway.dicom.responder import Responder
from gateway.dicom.server_asyncio import AsyncioServer
from gateway.domain.events import circumstances
from gateway.domain.worklist_item import WorklistItem
from gateway.eventstore.projection import RecordedEvent

SIZES = (10, 1_000, 100_000)
ROUNDS = 15
PER_ROUND = 40
MATCHES = 8
_ANSWERS = 40
"""Matches of the queries that are asked without a network."""
_PER_DAY = 100
_DAY = "20361124"
_PATIENT = "9998000018"
_FIRST_DAY = date(2037, 1, 1)
_FAMILIES = ("JONES", "PATEL", "BROWN", "TAYLOR", "WILSON", "EVANS", "THOMAS", "O'BRIEN", "MÜLLER", "ÅKERMAN")
_STARTED = 400
"""Items that steps are performed for, one each."""

_SPAWN = multiprocessing.get_context("spawn")


def run(*, quick: bool = False) -> list[Figure]:
    """All figures of the worklist."""
    rounds, per_round = (2, 10) if quick else (ROUNDS, PER_ROUND)
    sizes = SIZES[:2] if quick else SIZES
    with tempfile.TemporaryDirectory(prefix="bench-worklist-") as folder, ExitStack() as stack:
        ports = {
            size: stack.enter_context(_server(Path(folder) / f"{size}.db", size, _STARTED if size == sizes[-1] else 0))
            for size in sizes
        }
        figures = _by_size(ports, rounds, per_round) + _beside(ports[sizes[-1]], sizes[-1], rounds, per_round)
    return figures + _in_process(sizes[1:], rounds, per_round)


# --- by the number of items


def queries() -> dict[str, bytes]:
    """What is asked; databases of all sizes hold the same matches."""
    return {
        "date and modality": _identifier(ScheduledProcedureStepStartDate=_DAY, Modality="MG"),
        "accession number": _identifier(AccessionNumber="TARGET3"),
        "Patient ID": _identifier(PatientID=_PATIENT),
        "folded name prefix": _identifier(PatientName="smythe^zoe*"),
    }


def _by_size(ports: dict[int, int], rounds: int, per_round: int) -> list[Figure]:
    """All sizes and queries take turns, query by query; the ratio of each round is to that of the smallest size."""
    with ExitStack() as stack:
        clients = {size: stack.enter_context(closing(Client(port))) for size, port in ports.items()}
        taken: dict[tuple[str, int], list[float]] = {}
        for number in range(rounds + 1):
            seconds: dict[tuple[str, int], list[float]] = {}
            for _ in range(per_round):
                for what, identifier in queries().items():
                    for size, client in clients.items():
                        seconds.setdefault((what, size), []).append(_timed(client, identifier))
            if number:  # the first is a warm-up
                for key, values in seconds.items():
                    taken.setdefault(key, []).append(statistics.median(values))
    return [_figure(what, size, taken) for what in queries() for size in ports]


def _timed(client: Client, identifier: bytes) -> float:
    began = time.perf_counter()
    answers, status = client.find(identifier)
    elapsed = time.perf_counter() - began
    assert (answers in (1, MATCHES), status) == (True, 0), (answers, status)
    return elapsed


def _figure(what: str, size: int, taken: dict[tuple[str, int], list[float]]) -> Figure:
    medians, smallest = taken[what, size], taken[what, SIZES[0]]
    ratio = statistics.median(ours / floor for ours, floor in zip(medians, smallest, strict=True))
    note = f"×{ratio:.2f} of {SIZES[0]} items" if size != SIZES[0] else "the floor"
    return Figure(f"C-FIND by {what}, {size:,} items", f"p50 {statistics.median(medians) * 1e3:.2f} ms", note)


# --- without a network


def _in_process(sizes: tuple[int, ...], rounds: int, per_round: int) -> list[Figure]:
    """What an answer of 40 costs the responder, log line and query record included; nothing is sent."""
    with _SPAWN.Pool(1) as pool:
        taken = pool.apply(_answer, (sizes, rounds, per_round))
    figures = []
    for what in _WAYS:
        for size in sizes:
            ratio = statistics.median(x / y for x, y in zip(taken[what, size], taken[what, sizes[0]], strict=True))
            note = f"×{ratio:.2f} of {sizes[0]:,} items" if size != sizes[0] else "40 responses, log line and record"
            value = f"p50 {statistics.median(taken[what, size]) * 1e6:,.0f} µs"
            figures.append(Figure(f"{what}, {size:,} items, no network", value, note))
    return figures


_WAYS = ("the query asked before", "a query never asked, items prepared", "nothing prepared")
_CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)


def _answer(sizes: tuple[int, ...], rounds: int, per_round: int) -> dict[tuple[str, int], list[float]]:
    """The medians of each round, in seconds; sizes and ways take turns query by query."""
    taken: dict[tuple[str, int], list[float]] = {(what, size): [] for what in _WAYS for size in sizes}
    news = (_identifier(ScheduledProcedureStepStartDate=_DAY, Modality=f"MG\\NEW{n}") for n in itertools.count())
    asked_before = queries()["date and modality"]
    log.configure("json")
    with tempfile.TemporaryDirectory(prefix="bench-worklist-") as folder, ExitStack() as stack:
        stream = stack.enter_context(Path(os.devnull).open("w"))
        logging.getLogger().handlers[0].setStream(stream)  # type: ignore[attr-defined]  it is a StreamHandler
        gateways = {}
        for size in sizes:
            seed(Path(folder) / f"{size}.db", size, 0, matches=_ANSWERS)
            gateways[size] = stack.enter_context(opened(Path(folder) / f"{size}.db"))
        warm = {size: Responder(gateway, record=QueryRecord(gateway)) for size, gateway in gateways.items()}
        gc.freeze()
        for number in range(rounds + 1):
            seconds: dict[tuple[str, int], list[float]] = {key: [] for key in taken}
            for _ in range(per_round):
                for size, gateway in gateways.items():
                    cold = Responder(gateway, record=QueryRecord(gateway))
                    ways = ((warm[size], asked_before), (warm[size], next(news)), (cold, asked_before))
                    for what, (responder, identifier) in zip(_WAYS, ways, strict=True):
                        seconds[what, size].append(_seconds(responder, identifier))
            if number:  # the first is a warm-up
                for key, values in seconds.items():
                    taken[key].append(statistics.median(values))
    return taken


def _seconds(responder: Responder, identifier: bytes) -> float:
    began = time.perf_counter()
    responses = list(responder.find(_CALLER, identifier, IMPLICIT_VR_LITTLE_ENDIAN, lambda: False))
    elapsed = time.perf_counter() - began
    assert len(responses) == _ANSWERS + 1, len(responses)
    return elapsed


# --- beside a query that no index serves


@dataclass(frozen=True, slots=True)
class _Broad:
    """What another association asks all the time, on how many associations."""

    what: str
    identifier: bytes
    associations: int = 1


def _beside(port: int, size: int, rounds: int, per_round: int) -> list[Figure]:
    """An indexed query and an MPPS commit, alone and beside each broad query, in turns round by round."""
    broad = (
        _Broad("`*smythe*`", _identifier(PatientName="*smythe*")),
        _Broad("`*smythe*` on 4 associations", _identifier(PatientName="*smythe*"), 4),
        _Broad("all items", _identifier()),
        _Broad("all items on 4 associations", _identifier(), 4),
    )
    figures, steps = [], iter(range(_STARTED))
    for other in broad:
        alone: list[tuple[float, float]] = []
        beside: list[tuple[float, float]] = []
        for _ in range(max(2, rounds // 3)):
            alone.append(_look(port, per_round, steps))
            with _asking(port, other):
                beside.append(_look(port, per_round, steps))
        figures += _compared(f"{size:,} items, beside {other.what}", alone, beside)
    return figures


def _look(port: int, per_round: int, steps: Iterator[int]) -> tuple[float, float]:
    """The median seconds of an indexed query and of an N-CREATE that starts an item."""
    with closing(Client(port)) as client:
        found = [_timed(client, queries()["date and modality"]) for _ in range(per_round)]
        created = []
        for _ in range(per_round // 5):
            number = next(steps)
            began = time.perf_counter()
            assert client.create(step_uid(number), _started(number)) == 0
            created.append(time.perf_counter() - began)
    return statistics.median(found), statistics.median(created)


def _compared(what: str, alone: list[tuple[float, float]], beside: list[tuple[float, float]]) -> list[Figure]:
    figures = []
    for number, operation in enumerate(("C-FIND by date and modality", "N-CREATE, kept")):
        floor, ours = [look[number] for look in alone], [look[number] for look in beside]
        ratio = statistics.median(one / other for one, other in zip(ours, floor, strict=True))
        value = f"p50 {statistics.median(ours) * 1e3:.2f} ms"
        figures.append(
            Figure(f"{operation}, {what}", value, f"×{ratio:.2f} of {statistics.median(floor) * 1e3:.2f} ms")
        )
    return figures


@contextmanager
def _asking(port: int, broad: _Broad) -> Iterator[None]:
    """Another process asks this all the time; it has had its first answer when this begins."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_ask_until_told, args=(port, broad, theirs), daemon=True)
    process.start()
    try:
        ours.recv()
        yield
    finally:
        process.kill()
        process.join()


def _ask_until_told(port: int, broad: _Broad, told: Connection) -> None:
    asking = [threading.Thread(target=_ask, args=(port, broad.identifier)) for _ in range(broad.associations)]
    for thread in asking:
        thread.start()
    time.sleep(1.0)
    told.send("asking")
    for thread in asking:
        thread.join()


def _ask(port: int, identifier: bytes) -> None:
    with closing(Client(port, calling="BROAD")) as client:
        while True:
            client.find(identifier)


# --- what is asked and what there is


def _identifier(**keys: str) -> bytes:
    """A query with the return keys that a mammography unit asks for."""
    step = Dataset()
    for keyword in ("ScheduledStationAETitle", "ScheduledProcedureStepStartTime", "ScheduledProcedureStepID"):
        setattr(step, keyword, "")
    for keyword in ("Modality", "ScheduledProcedureStepStartDate"):
        setattr(step, keyword, keys.pop(keyword, ""))
    asked = Dataset()
    for keyword in ("AccessionNumber", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(asked, keyword, keys.get(keyword, ""))
    asked.SpecificCharacterSet = "ISO_IR 100"
    asked.StudyInstanceUID = asked.RequestedProcedureID = asked.RequestedProcedureDescription = ""
    asked.ScheduledProcedureStepSequence = [step]
    return _encoded(asked)


def _started(number: int) -> bytes:
    """The attribute list of an N-CREATE for the n-th item that a step is performed for."""
    accession_number, who = _number_of(number), participant(number)
    reference = Dataset()
    reference.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.9"
    reference.AccessionNumber = reference.ScheduledProcedureStepID = reference.RequestedProcedureID = accession_number
    step = Dataset()
    step.ScheduledStepAttributesSequence = [reference]
    step.PatientID, step.PatientName = who["patient_id"], who["patient_name"]
    step.PatientBirthDate, step.PatientSex = who["patient_birth_date"], who["patient_sex"]
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "PPS1", "MAMMO1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = _DAY, "100500"
    step.PerformedProcedureStepStatus, step.Modality = "IN PROGRESS", "MG"
    step.PerformedSeriesSequence = []
    return _encoded(step)


def _encoded(data_set: Dataset) -> bytes:
    encoded = encode(data_set, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


def _number_of(started: int) -> str:
    return f"STARTED{started:06d}"


def seed(path: Path, size: int, started: int, *, matches: int = MATCHES) -> None:
    """The matches, other items of other days and people, and the items that steps are performed for.

    The first two are written by the projection's own `apply`, without their events, which no query reads.
    """
    now = RECEIVED.isoformat()
    with opened(path) as gateway:
        with circumstances(source="relay"), gateway.datastore.writer.transaction() as cursor:
            for number in range(size):
                for event in _scheduled(number, now, matches).collect_events():
                    projections.worklist.apply(cursor, RecordedEvent(number + 1, now, event))
        for number in range(started):
            schedule(gateway, _number_of(number), **participant(number), scheduled_date="20361225")


def _scheduled(number: int, now: str, matches: int) -> WorklistItem:
    if number < matches:
        wanted = appointment(
            f"TARGET{number}",
            patient_id=_PATIENT,
            patient_name="SMYTHE^ZOË",
            scheduled_date=_DAY,
            scheduled_time=f"{9 + number % 8:02}{number // 8:02}00",
        )
    else:
        day = (_FIRST_DAY + timedelta(days=number // _PER_DAY)).strftime("%Y%m%d")
        who = {**participant(number), "patient_name": f"{_FAMILIES[number % len(_FAMILIES)]}^JANE^{number}"}
        wanted = appointment(f"ACC{number:09d}", **who, scheduled_date=day, scheduled_time=f"{8 + number % 9:02}3000")
    return WorklistItem(
        accession_number=wanted.accession_number,
        person=wanted.person(),
        step=wanted.step(),
        study_instance_uid=f"1.2.826.0.1.3680043.8.498.1.{number}",
        is_test=False,
        action_id=None,
        received_at=now,
    )


# --- the servers


@contextmanager
def _server(path: Path, size: int, started: int) -> Iterator[int]:
    """A process that serves so many items; the port. It ends when its end of the pipe does."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(path, size, started, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(path: Path, size: int, started: int, told: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    log.configure("json")
    seed(path, size, started)
    gc.collect()
    with opened(path) as gateway:
        server = AsyncioServer(Responder(gateway), AcceptorOptions(host="127.0.0.1", port=0))
        server.start()
        told.send(server.port)
        threading.Event().wait()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.worklist", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: does it still run?")
    print(table(run(quick=parser.parse_args().quick)))


if __name__ == "__main__":
    main()
