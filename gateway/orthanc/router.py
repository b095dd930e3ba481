"""Sends studies on by Orthanc's own jobs: begun, followed to their end, begun again with growing waits.

That a study is to be sent was saved with the study, and that it was sent is saved when the job says so. A kill between
them loses nothing: the next start begins a job again. Images that were sent already are then sent twice, which changes
nothing at the receiver: the same SOP Instance UID is the same image (PS3.5 9).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from tenacity import RetryCallState, Retrying, wait_random_exponential

from gateway.application import Gateway
from gateway.errors import GatewayError
from gateway.log import get_logger
from gateway.orthanc.client import Job, NotInOrthanc, OrthancError
from gateway.orthanc.threads import to_the_end
from projections.received_studies import RouteRow

log = get_logger(__name__)

_NO_LONGER_THERE = "the study is no longer in Orthanc"
_ENDED_BADLY = ("Failure", "Paused")
_Key = tuple[str, str]


class ImageSender(Protocol):
    """What is asked: `gateway.orthanc.client.Orthanc`."""

    def send(self, orthanc_id: str, target: str) -> str:
        """Begin a job that sends a study; returns its id."""

    def job(self, job_id: str) -> Job:
        """How far a job is."""

    def has_study(self, orthanc_id: str) -> bool:
        """Whether the study is still there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterOptions:
    """Times in seconds. Waits between tries of one route are jittered between `first_wait` and `longest_wait`."""

    poll: float = 1.0
    """Between two looks at jobs that run."""
    idle: float = 2.0
    """Between two looks at what is to be sent."""
    first_wait: float = 5.0
    longest_wait: float = 600.0
    parallel: int = 4
    """Jobs at once. Orthanc forgets all but its last ten (`JobsHistorySize`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStatus:
    """For people: what is on its way, and what went wrong last."""

    sending: int = 0
    sent: int = 0
    """Studies that were sent, each target counted, since the start of this process."""
    last_sent_at: str | None = None
    last_error: str | None = None


@dataclass
class _Trial:
    """One route's tries in this process: the job that runs, or when the next one begins (monotonic)."""

    waits: RetryCallState
    arrival: int
    job: str = ""
    not_before: float = 0.0


@dataclass
class Router:
    """Carries out the open routes of `gateway` by `orthanc`."""

    gateway: Gateway
    orthanc: ImageSender
    options: RouterOptions = field(default_factory=RouterOptions)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.status = RouterStatus()
        self._trials: dict[_Key, _Trial] = {}
        self._ending = threading.Event()

    async def run(self) -> None:
        """Send until cancelled; jobs that run then go on in Orthanc."""
        while True:
            try:
                running = await to_the_end(self.look, self._ending.set)
            except GatewayError as error:
                log.error("routes_not_looked_at", code=error.code, error=str(error))
                running = False
            except Exception as error:  # nobody foresaw it: studies wait, and modalities are served all the same
                log.exception("routing_failed")
                self.status = replace(self.status, last_error=f"unexpected {type(error).__name__}: look at the log")
                running = False
            await asyncio.sleep(self.options.poll if running else self.options.idle)

    def look(self) -> bool:
        """Look at each job that runs and begin those that are due; returns whether any runs."""
        rows = {(row.orthanc_id, row.target): row for row in self.gateway.open_routes()}
        for key in self._trials.keys() - rows.keys():
            del self._trials[key]
        for key, row in rows.items():
            if self._ending.is_set():
                break
            self._go_on(key, row)
        sending = sum(bool(trial.job) for trial in self._trials.values())
        self.status = replace(self.status, sending=sending)
        return sending > 0

    def _go_on(self, key: _Key, row: RouteRow) -> None:
        trial = self._trials.get(key)
        if trial is None or trial.arrival != row.arrival:  # other images have come: the job that runs lacks some
            trial = self._trials[key] = _Trial(_waits(self.options), row.arrival)
        try:
            if trial.job:
                self._follow(row, trial)
            elif trial.not_before <= self.clock() and self._has_room():
                trial.job = self.orthanc.send(row.orthanc_id, row.target)
                log.info("study_sending", study_instance_uid=row.study_instance_uid, target=row.target, job=trial.job)
        except NotInOrthanc as error:
            self._not_there(row, trial, error)
        except OrthancError as error:
            self._failed(row, trial, str(error))

    def _has_room(self) -> bool:
        return sum(bool(trial.job) for trial in self._trials.values()) < self.options.parallel

    def _follow(self, row: RouteRow, trial: _Trial) -> None:
        job = self.orthanc.job(trial.job)
        if job.state == "Success":
            self.gateway.route_succeeded(
                row.orthanc_id, row.target, arrival=row.arrival, job=job.job_id, instances=job.instances
            )
            trial.job = ""
            self.status = replace(self.status, sent=self.status.sent + 1, last_sent_at=_now(), last_error=None)
            told = {"accession_number": row.accession_number, "target": row.target, "instances": job.instances}
            log.info("study_routed", study_instance_uid=row.study_instance_uid, **told)
        elif job.state in _ENDED_BADLY:
            self._failed(row, trial, job.reason or f"Orthanc's job is {job.state}")

    def _not_there(self, row: RouteRow, trial: _Trial, error: NotInOrthanc) -> None:
        """The job is forgotten, the modality is not known, or the study is gone: only that is final."""
        if error.phase == "job":
            trial.job = ""  # Orthanc was restarted, or has done much since: whether it was sent nobody knows
        elif self.orthanc.has_study(row.orthanc_id):
            self._failed(row, trial, f"{error.message} → add it to Orthanc's DicomModalities, or correct the rule")
        else:
            self.gateway.abandon_route(row.orthanc_id, row.target, reason=_NO_LONGER_THERE)
            log.warning("route_abandoned", study_instance_uid=row.study_instance_uid, target=row.target)

    def _failed(self, row: RouteRow, trial: _Trial, error: str) -> None:
        trial.job = ""
        trial.waits.attempt_number += 1
        wait = trial.waits.retry_object.wait(trial.waits)
        trial.not_before = self.clock() + wait
        self.status = replace(self.status, last_error=f"{row.target}: {error}")
        self.gateway.route_failed(row.orthanc_id, row.target, error=error)
        log.warning(
            "study_not_routed",
            study_instance_uid=row.study_instance_uid,
            target=row.target,
            error=error,
            failures=trial.waits.attempt_number,
            retry_in_seconds=round(wait, 1),
            remedy="gateway routes list shows it",
        )


def _waits(options: RouterOptions) -> RetryCallState:
    first = options.first_wait
    wait = wait_random_exponential(multiplier=first, max=options.longest_wait, min=first / 2)
    state = RetryCallState(Retrying(wait=wait), None, (), {})
    state.attempt_number = 0
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat()
