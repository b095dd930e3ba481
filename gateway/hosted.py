"""The gateway inside another program, Orthanc: a service in a thread of its own, which never takes its host down.

A service that can't start, or whose part died, is told of with its code and its remedy, and is started again after a
while, as a supervisor would start a process of its own. Until then the host's people are shown what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gateway import __version__
from gateway.domain.lifecycle import status_of
from gateway.domain.masking import masked_id, masked_name
from gateway.domain.values import date_of
from gateway.errors import GatewayError, InvalidValue, SettingsInvalid
from gateway.log import get_logger
from gateway.service import Service, make_room_for_files
from gateway.settings import Settings, load
from projections.worklist import WorklistFilter, WorklistRow

_FIRST_WAIT = 5.0
_LONGEST_WAIT = 60.0
"""Seconds between a failure and the next try; they double from the one to the other."""

_STOP_SECONDS = 20.0
"""A service ends within 15 s, whatever hangs."""

_SECTION = "WorklistGateway"
_NOT_SETTINGS = frozenset({"VirtualEnvironment"})
"""What else may stand in that section: `gateway.orthanc_plugin` has used it before we were loaded."""

_SHOWN = (
    *("accession_number", "scheduled_date", "scheduled_time", "modality", "status"),
    *("study_description", "station_ae_titles", "study_instance_uid", "updated_at"),
)

log = get_logger(__name__)

_POC_WORDS = {"MPPSAet": "gateway_ae_title", "DicomPortMPPS": "gateway_dicom_port"}
"""The proof of concept's words for two settings."""

Answer = tuple[int, Mapping[str, Any]]
"""An HTTP status, and what becomes JSON."""


def settings_of(configuration: Mapping[str, Any]) -> Settings:
    """The settings in force inside Orthanc. Raises `SettingsInvalid`.

    What Orthanc's own configuration says wins over the environment: the section `WorklistGateway` has settings by the
    names that they have there, `MPPSAet` and `DicomPortMPPS` are the proof of concept's words for two of them.
    """
    section = configuration.get(_SECTION, {})
    if not isinstance(section, Mapping):
        raise SettingsInvalid(f"{_SECTION}: must be an object", remedy="correct Orthanc's configuration")
    written = {name.lower(): value for name, value in section.items() if name not in _NOT_SETTINGS}
    unknown = sorted(name.upper() for name in set(written) - set(Settings.model_fields))
    if unknown:
        raise SettingsInvalid(
            f"{_SECTION}: {', '.join(unknown)}: there is no such setting",
            remedy="correct Orthanc's configuration; gateway config show lists the ones there are",
        )
    poc = {field: configuration.get(word) for word, field in _POC_WORDS.items()}
    try:
        return load(**{name: value for name, value in poc.items() if value is not None} | written)
    except SettingsInvalid as error:
        words = ", ".join(f"{field.upper()} is {word}" for word, field in _POC_WORDS.items())
        raise SettingsInvalid(
            error.message, remedy=f"correct Orthanc's configuration ({words} there), or the environment"
        ) from None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no service just now."""

    code: str
    error: str
    remedy: str


class HostedGateway:
    """A gateway that is started and stopped with its host; every method returns, whatever is wrong."""

    def __init__(self, settings: Callable[[], Settings], *, first_wait: float = _FIRST_WAIT) -> None:
        """`settings` is asked at each try; it may raise `SettingsInvalid`. `first_wait` is in seconds."""
        self._settings = settings
        self._first_wait = self._wait = first_wait
        self._stopping = threading.Event()
        self._ask_to_stop: Callable[[], object] = lambda: None
        self._service: Service | None = None
        self._failure: Failure | None = None
        self._thread = threading.Thread(target=self._keep_serving, name="gateway", daemon=True)

    def start(self) -> None:
        """Begin to serve; once."""
        self._thread.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> bool:
        """Stop cleanly: what is in flight finishes. Whether that was so within `seconds`."""
        self._stopping.set()
        self._ask_to_stop()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        if self._thread.is_alive():
            log.error("gateway_not_stopped", seconds=seconds, remedy="it is cut off: nothing that was saved is lost")
        return not self._thread.is_alive()

    def health(self) -> Answer:
        """What `GET /health` answers, 200 or 503; without a service what is wrong and what to do."""
        service = self._serving
        if service is None:
            return self._absence()
        report = service.health.report()
        return 200 if report["healthy"] else 503, report

    def worklist(self, asked: Mapping[str, str]) -> Answer:
        """A day's items, today's unless `date` is asked for, narrowed by `modality`, `status` and `accession`.

        Names and ids are masked: to see more takes a reason that is recorded (`gateway worklist list --reveal`), and
        Orthanc does not tell who asks.
        """
        service = self._serving
        if service is None:
            return self._absence()
        try:
            wanted = _wanted(asked, service.settings)
            rows = service.gateway.find_items(wanted)
        except InvalidValue as error:
            return 400, {"code": error.code, "error": str(error), "field": error.field}
        except GatewayError as error:
            return 503, {"code": error.code, "error": error.message, "remedy": error.remedy}
        return 200, {"date": wanted.dates[0], "items": [_shown(row) for row in rows]}

    @property
    def _serving(self) -> Service | None:
        """The service, unless it is about to close its database."""
        return None if self._stopping.is_set() else self._service

    def _absence(self) -> Answer:
        failure = self._failure
        state = "stopping" if self._stopping.is_set() else "failed" if failure else "starting"
        told = asdict(failure) if failure else {}
        return 503, {"healthy": False, "version": __version__, "state": state, **told}

    # --- the thread

    def _keep_serving(self) -> None:
        while not self._stopping.is_set():
            try:
                asyncio.run(self._serve())
            except GatewayError as error:
                self._failure = Failure(error.code, error.message, error.remedy)
                log.error("gateway_failed", **asdict(self._failure), retry_in_seconds=self._wait)
            except BaseException as error:  # a part that was cancelled, too: whatever it is ends here
                remedy = "the log says where; it is started again by itself"
                self._failure = Failure("internal", f"the gateway ended by itself ({type(error).__name__})", remedy)
                log.exception("gateway_failed", **asdict(self._failure), retry_in_seconds=self._wait)
            self._stopping.wait(self._wait)
            self._wait = min(2 * self._wait, _LONGEST_WAIT)

    async def _serve(self) -> None:
        """One service, from its start to its end."""
        settings = self._settings()
        make_room_for_files(settings)
        service = Service(settings)
        loop = asyncio.get_running_loop()

        def ask_to_stop() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed: it has stopped
                loop.call_soon_threadsafe(service.ask_to_stop)

        def started() -> None:
            self._service, self._failure, self._wait = service, None, self._first_wait

        self._ask_to_stop = ask_to_stop
        if self._stopping.is_set():  # asked before there was anybody to be told
            service.ask_to_stop()
        try:
            await service.run(started)
        finally:
            self._service = None


def _wanted(asked: Mapping[str, str], settings: Settings) -> WorklistFilter:
    text = asked.get("date", "today").strip()
    today = datetime.now(settings.zone).strftime("%Y%m%d")
    day = today if text.lower() == "today" else date_of(text.replace("-", ""), "date")
    return WorklistFilter(
        dates=(day, day),
        modalities=_word(asked, "modality"),
        statuses=tuple(status_of(word) for word in _word(asked, "status")),
        accession_number=asked.get("accession", "").strip(),
        is_test=False,
    )


def _word(asked: Mapping[str, str], name: str) -> tuple[str, ...]:
    word = asked.get(name, "").strip().upper()
    return (word,) if word else ()


def _shown(row: WorklistRow) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in _SHOWN}
    return told | {"patient_name": masked_name(row.patient_name), "patient_id": masked_id(row.patient_id)}
