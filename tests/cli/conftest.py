"""A folder of its own for each verb, a database with a story in it, and a worklist provider to ask."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_support import Command

from bench.synthetic import appointment, change, completed, examine, naming, schedule, start, step_uid
from gateway import log
from gateway.application import Gateway, opened
from gateway.delivery.attempts import AttemptBook
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.settings import Settings
from tests.serving import serving


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from outside: no variables of ours, no .env, the default database in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Verbs configure the log of the process; here it is put back."""
    root, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook, threading.excepthook)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the verbs look by default."""
    return tmp_path / "data" / "gateway.db"


@pytest.fixture
def gateway(database: Path) -> Iterator[Gateway]:
    """The application over that database, as the running service has it."""
    database.parent.mkdir()
    with opened(database) as opened_gateway:
        yield opened_gateway


@pytest.fixture
def story(gateway: Gateway) -> Gateway:
    """ACC001 examined and told; ACC002 examined, refused by the web app and tried; ACC003 scheduled; one test item."""
    schedule(gateway, "ACC001")
    start(gateway, step_uid(1), naming("ACC001"))
    change(gateway, completed(step_uid(1)))
    for update in gateway.find_updates(accession_number="ACC001"):
        gateway.acknowledge_update(update.event_id, answer="updated", attempts=1)
    schedule(gateway, "ACC002", scheduled_time="110000")
    start(gateway, step_uid(2), naming("ACC002"))
    change(gateway, completed(step_uid(2)))
    first, second = gateway.find_updates(accession_number="ACC002")
    gateway.park_update(first.event_id, reason="unknown_status", attempts=1)
    book = AttemptBook(gateway)
    book.begin(second.event_id)
    book.note_failure(second.event_id, "ack: no answer came")
    schedule(gateway, "ACC003", scheduled_time="120000", station_ae_titles=("MAMMO1",))
    gateway.schedule(appointment("TEST001"), is_test=True)
    return gateway


@pytest.fixture
def provider(story: Gateway) -> Iterator[AssociationServer]:
    """A worklist provider over the story; what it logs is not the verbs' business."""
    log.configure("json")
    logging.getLogger().handlers[0].setStream(io.StringIO())
    with serving(Responder(story)) as server:
        yield server


@pytest.fixture
def port(provider: AssociationServer) -> str:
    return str(provider.port)


@pytest.fixture
def examined(gateway: Gateway) -> Callable[[int], None]:
    return lambda number: examine(gateway, number)
