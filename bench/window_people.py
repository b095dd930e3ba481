"""Who is at the window of `bench.window`, in a process of its own: fifty who watch, one who loads, a unit at work."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from bench.dicom_client import Client as Unit
from bench.dicom_items import step_uid
from bench.synthetic import participant

HOST = "127.0.0.1"
CHANGES_PER_SECOND = 2
_PATIENCE = 30.0
_SOON = 1.0
"""Seconds within which whoever watches should have a change."""
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Told:
    """What they saw: seconds from a change's answer until all had its row, seconds of each load, and a page's size."""

    until_seen: list[float] = field(default_factory=list)
    missed: int = 0
    """Changes that not everybody who watched had within a second."""
    loads: list[float] = field(default_factory=list)
    page_bytes: int = 0


def number_of(item: int) -> str:
    """The accession number of the n-th item of today."""
    return f"TODAY{item:05}"


def study_uid_of(item: int) -> str:
    """Its Study Instance UID."""
    return f"1.2.826.0.1.3680043.8.498.3.{item}"


class People:
    """Those at the window, as the bench commands them."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def watch(self, watchers: int) -> None:
        """Begin to watch; back when all of them do."""
        self._say("watch", watchers)

    def load(self, path: str, pause: float = 0.0) -> None:
        """Begin to load a page again and again, on one connection, with so many seconds in between."""
        self._say("load", path, pause)

    def leave(self) -> Told:
        """Stop it; what was seen."""
        told = self._say("leave")
        assert isinstance(told, Told)
        return told

    def _say(self, *words: str | float) -> object:
        self._pipe.send(words)
        if not self._pipe.poll(_PATIENCE):
            raise RuntimeError(f"nobody answers {words}")
        return self._pipe.recv()


@contextmanager
def people(dicom: int, ops: int) -> Iterator[People]:
    """They come, and the unit begins to work; until the block ends."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_live, args=(dicom, ops, theirs), daemon=True)
    process.start()
    try:
        yield People(ours)
    finally:
        process.kill()
        process.join()


def _live(dicom: int, ops: int, pipe: Connection) -> None:
    unit = _UnitAtWork(dicom)
    threading.Thread(target=unit.work, daemon=True).start()
    while True:
        wanted, *details = pipe.recv()
        told = Told()
        if wanted == "watch":
            _watch(ops, pipe, unit, told, *details)
        else:
            _load(ops, pipe, told, *details)
        pipe.recv()  # leave
        pipe.send(told)


class _UnitAtWork:
    """Begins the steps of today's items, one after the other; when each was answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered: dict[str, float] = {}

    def work(self) -> None:
        """A few changes in each second. Ends when the day's items do."""
        unit, number, due = Unit(self._port), 0, time.perf_counter()
        while True:
            due += 1 / CHANGES_PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            status = unit.create(step_uid(500_000 + number), _begun(number))
            assert status == 0, f"the day's items are used up, or: {status:#06x}"
            self.answered[number_of(number)] = time.perf_counter()
            number += 1


def _begun(number: int) -> bytes:
    """The attribute list of an N-CREATE for the n-th item of today."""
    who, reference, step = participant(number), Dataset(), Dataset()
    reference.StudyInstanceUID = study_uid_of(number)
    reference.AccessionNumber = reference.ScheduledProcedureStepID = number_of(number)
    reference.RequestedProcedureID = number_of(number)
    step.ScheduledStepAttributesSequence = [reference]
    step.PatientID, step.PatientName = who["patient_id"], who["patient_name"]
    step.PatientBirthDate, step.PatientSex = who["patient_birth_date"], who["patient_sex"]
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "PPS1", "MAMMO1"
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20261123", "100500"
    step.PerformedProcedureStepStatus, step.Modality = "IN PROGRESS", "MG"
    step.PerformedSeriesSequence = []
    encoded = encode(step, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


# --- those who watch


class _Watcher:
    """One browser's live connection: what it was told, by when."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=_PATIENCE)
        asked = ("GET /clinic/live HTTP/1.1", f"Host: {HOST}:{port}", "Accept: text/event-stream", "", "")
        self.socket.sendall("\r\n".join(asked).encode())
        self._rest = b""

    def read(self) -> list[dict[str, object]]:
        """The changes that have come. Raises `ConnectionResetError` when it was let go."""
        chunk = self.socket.recv(1 << 20)
        if not chunk:
            raise ConnectionResetError("the window let a watcher go")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
        return [change for event in events for change in event["changes"]]

    def until_welcome(self) -> None:
        """Read until the list's version has come."""
        while b"event: version" not in self._rest:
            self._rest += self.socket.recv(1 << 16)


def _watch(ops: int, pipe: Connection, unit: _UnitAtWork, told: Told, watchers: int) -> None:
    _Loader(ops).load("/clinic")  # nobody watches who has not loaded the page
    everybody = [_Watcher(ops) for _ in range(watchers)]
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for watcher in everybody:
            stack.callback(watcher.socket.close)
            watcher.until_welcome()
            selector.register(watcher.socket, selectors.EVENT_READ, watcher)
        selector.register(pipe, selectors.EVENT_READ, None)
        began = time.perf_counter()
        pipe.send("all watch")
        seen: dict[str, list[float]] = {}
        while not pipe.poll():
            for key, _ in selector.select():
                for change in key.data.read() if key.data else ():
                    seen.setdefault(str(change["accession_number"]), []).append(time.perf_counter())
    end = time.perf_counter()
    for number, answered in list(unit.answered.items()):
        if began < answered < end - _SOON:
            times = seen.get(number, [])
            if len(times) >= watchers:
                told.until_seen.append(max(0.0, times[watchers - 1] - answered))
            else:
                told.missed += 1


# --- who loads


class _Loader:
    """One browser that loads the clinic, on one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=_PATIENCE)
        self._headers = {"Accept": "text/html"}

    def load(self, path: str) -> int:
        """The bytes of the page."""
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        page = answer.read()
        assert answer.status == 200, answer.status
        if cookie := answer.headers["set-cookie"]:
            self._headers["Cookie"] = cookie.partition(";")[0]
        return len(page)


def _load(ops: int, pipe: Connection, told: Told, path: str, pause: float) -> None:
    loader = _Loader(ops)
    pipe.send("loads")
    while not pipe.poll(pause):
        began = time.perf_counter()
        told.page_bytes = loader.load(path)
        told.loads.append(time.perf_counter() - began)
