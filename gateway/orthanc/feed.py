"""Follows Orthanc's feed of changes: each study that is whole, and each that grew, is told to the application once.

* A study is whole when Orthanc says `StableStudy`. An Orthanc that was killed before it could say so never does; so
  an image that no stable study has explained for long is asked after (`overdue`).
* How far the feed was followed is saved with what it caused. Nothing up to there is awaited any more, so a restart
  reads some changes again, and the same content again changes nothing.
* Each look begins with the last change that is known. When that is another one now, or the feed is shorter than it
  was, Orthanc's database was wiped or replaced: it is followed anew from its first change.
* A study of nobody on the list is looked at again when its appointment has come, or was corrected.
* A study that can't be read is parked after a few tries, and the others go on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from tenacity import RetryCallState, Retrying, wait_random_exponential

from gateway.application import Gateway
from gateway.domain.received_study import FeedPlace, Route, StudyReport
from gateway.errors import GatewayError
from gateway.log import get_logger
from gateway.orthanc.client import Change, Changes, Content, NotInOrthanc, OrthancError, Study, System
from gateway.orthanc.threads import to_the_end

log = get_logger(__name__)

_NEW_INSTANCE, _STABLE_STUDY = "NewInstance", "StableStudy"
_TRIES = 3
_MOST_TRIES = 10
"""So often a study is tried to be read before it is parked."""
_ASKED_AFTER = 20
"""Overdue images that one look asks after."""
_RELINKED = 200
"""Unmatched studies, the newest, that are looked at again."""


class ImageSource(Protocol):
    """What is asked: `gateway.orthanc.client.Orthanc`."""

    def system(self) -> System:
        """Which Orthanc it is."""

    def changes(self, since: int, limit: int) -> Changes:
        """The changes after `since`, the oldest first."""

    def content(self, orthanc_id: str) -> Content:
        """A study and all that is in it."""

    def study_of(self, instance_id: str) -> Study:
        """The study that an image belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """Times in seconds. `tell_web_app`: news of images are owed to the web app."""

    poll: float = 2.0
    """Between two looks."""
    longest_wait: float = 60.0
    """Ceiling of the random waits while Orthanc can't be asked; they double from `poll`."""
    overdue: float = 90.0
    """After this an image whose study is not said to be stable is asked after; above Orthanc's usual StableAge (60)."""
    relink: float = 60.0
    """Between two looks whether an unmatched study has an item by now."""
    page: int = 100
    """Changes of one request."""
    stride: int = 1000
    """After so many changes without a study the position is saved by itself."""
    tell_web_app: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """For people: how the feed is. Instants are ISO 8601 in UTC.

    `state` is `starting`, `following` or `failing`; then `error`, `code` and `failing_since` say what is wrong.
    """

    state: str = "starting"
    orthanc: str = ""
    feed: int = 0
    change: int = 0
    """The last change that was read."""
    awaited: int = 0
    """Images whose study is not whole yet."""
    studies: int = 0
    """Studies that were new or had grown, since the start of this process."""
    last_look_at: str | None = None
    last_study_at: str | None = None
    error: str | None = None
    code: str | None = None
    failing_since: str | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """Which change told of something: its sequence number, and the resource it is of."""

    sequence: int
    resource: str


@dataclass
class _Reading:
    """How far this process is. `awaited`: images without a stable study yet, by the change that told of them."""

    feed: int
    change: int
    changed: str
    saved: int
    awaited: dict[int, tuple[str, float]] = field(default_factory=dict)


@dataclass
class ImageFeed:
    """The feed of `orthanc`, told to `gateway`. `routes_of` says where a study is to be sent."""

    gateway: Gateway
    orthanc: ImageSource
    options: FeedOptions = field(default_factory=FeedOptions)
    routes_of: Callable[[StudyReport], Sequence[Route]] = lambda _: ()
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.status = FeedStatus()
        self._reading: _Reading | None = None
        self._failures: dict[str, int] = {}
        self._parked: set[str] = set()
        self._gone: set[str] = set()
        self._ending = threading.Event()
        self._relink_at = self.clock() + self.options.relink

    async def run(self) -> None:
        """Follow until cancelled."""
        waits = _waits(self.options)
        while True:
            try:
                more = await to_the_end(self.look, self._ending.set)
                waits.attempt_number = 0
                pause = 0.0 if more else self.options.poll
            except GatewayError as error:
                pause = self._failed(waits, error.code, str(error))
            except Exception as error:  # nobody foresaw it: images wait, and modalities are served all the same
                log.exception("image_feed_broken")
                pause = self._failed(waits, "internal", f"unexpected {type(error).__name__}: look at the log")
            await asyncio.sleep(pause)

    def look(self) -> bool:
        """Read one page; returns whether there is more. Raises `OrthancError`, and what a save raises."""
        reading = self._reading or self._begin()
        page = self.orthanc.changes(max(0, reading.change - 1), self.options.page)
        why = self._is_another(reading, page)
        if why:
            self._begin_anew(why)
            return True
        for change in page.changes:
            if self._ending.is_set():
                return False
            if change.sequence > reading.change:
                self._take(reading, change)
            elif change.sequence == reading.change:
                reading.changed = change.resource
        self._ask_after_overdue(reading)
        if page.is_all:
            self._relink(reading)
        self._save_stride(reading)
        self._well(reading)
        return not page.is_all

    # --- which Orthanc

    def _begin(self) -> _Reading:
        """At start, and after Orthanc could not be asked: is it the one that was followed?"""
        system = self.orthanc.system()
        self.status = replace(self.status, orthanc=f"{system.name} {system.version}".strip())
        known = self.gateway.image_feed()
        self._parked = {row.orthanc_id for row in self.gateway.parked_studies()}
        if known is None:
            return self._begin_anew("the first that is followed", system)
        if known.database and system.database and known.database != system.database:
            return self._begin_anew("Orthanc's database is another one", system)
        anchor = _Reading(known.number, known.change, known.changed, known.resume_after)
        why = self._is_another(anchor, self.orthanc.changes(max(0, known.change - 1), 1))
        if why:
            return self._begin_anew(why, system)
        self._reading = replace(anchor, change=known.resume_after, changed="", awaited={})
        return self._reading

    def _is_another(self, reading: _Reading, page: Changes) -> str:
        """Why the feed is not the one that was read before; "" when it is, or when nothing is known to tell by.

        A change is gone when its resource was deleted: that tells nothing. `Last` is never less than it was; where
        Orthanc does not know it, it says `since` instead, so it is asked twice.
        """
        if page.last < reading.change and self.orthanc.changes(reading.change, 1).last < reading.change:
            return "Orthanc has fewer changes than before: its database was wiped or replaced"
        first = next(iter(page.changes), None)
        if first and reading.changed and first.sequence == reading.change and first.resource != reading.changed:
            return "Orthanc's changes are others than before: its database was replaced"
        return ""

    def _begin_anew(self, why: str, system: System | None = None) -> _Reading:
        database = (system or self.orthanc.system()).database
        number = self.gateway.begin_feed(reason=why, database=database)
        told = {"feed": number, "reason": why}
        if number == 1:
            log.info("image_feed_begun", **told)
        else:
            log.warning("image_feed_begun", **told, remedy="nothing to do: studies that are known change nothing")
        self._reading = _Reading(number, 0, "", 0)
        return self._reading

    # --- changes

    def _take(self, reading: _Reading, change: Change) -> None:
        if change.kind == _STABLE_STUDY:
            self._receive(reading, change.resource, _Told(change.sequence, change.resource))
        elif change.kind == _NEW_INSTANCE:
            reading.awaited[change.sequence] = (change.resource, self.clock())
        reading.change, reading.changed = change.sequence, change.resource

    def _receive(self, reading: _Reading, orthanc_id: str, change: _Told) -> None:
        """Tell the application of a study; what can't be read is parked after a few tries."""
        try:
            content = self.orthanc.content(orthanc_id)
        except NotInOrthanc:
            log.info("study_gone", orthanc_id=orthanc_id, change=change.sequence)
            self._gone.add(orthanc_id)
            return
        except Exception as error:  # Orthanc's no or silence, or an answer that nobody foresaw
            if not self._is_its_own_fault(orthanc_id):
                raise
            self._park(reading, orthanc_id, _said(error), change)
            return
        for sequence in [s for s, (instance, _) in reading.awaited.items() if instance in content.instances]:
            del reading.awaited[sequence]
        try:
            self._tell(reading, content, change)
        except GatewayError:
            raise  # the store's: the same study is tried again, and none is passed over
        except Exception as error:
            log.exception("study_not_taken", orthanc_id=orthanc_id, change=change.sequence)
            self._park(reading, orthanc_id, _said(error), change)

    def _is_its_own_fault(self, orthanc_id: str) -> bool:
        """Whether this study can't be read, again and again, though Orthanc answers else.

        One that takes Orthanc down with it each time is passed over in the end, too: the others have to go on.
        """
        tries = self._failures[orthanc_id] = self._failures.get(orthanc_id, 0) + 1
        if orthanc_id in self._parked or tries >= _MOST_TRIES:
            return True
        return tries >= _TRIES and self._answers()

    def _answers(self) -> bool:
        try:
            self.orthanc.system()
        except OrthancError:
            return False
        return True

    def _tell(self, reading: _Reading, content: Content, change: _Told) -> None:
        report, place = content.report, _place(reading, change)
        outcome = self.gateway.receive_study(
            report,
            place,
            received_at=datetime.now(UTC),
            routes=self.routes_of(report),
            tell_web_app=self.options.tell_web_app,
        )
        self._failures.pop(report.orthanc_id, None)
        self._parked.discard(report.orthanc_id)
        self._gone.discard(report.orthanc_id)
        if not outcome.is_new:
            return
        reading.saved = place.resume_after
        self.status = replace(self.status, studies=self.status.studies + 1, last_study_at=_now())
        told = {
            "study_instance_uid": report.study_instance_uid,
            "orthanc_id": report.orthanc_id,
            "instances": report.instances,
        }
        if outcome.accession_number:
            log.info("images_received", accession_number=outcome.accession_number, **told)
            if outcome.alert:
                log.warning("images_alert", alert=outcome.alert, remedy="a person finds out who was examined", **told)
        else:
            log.warning("images_unmatched", reason=outcome.unmatched, remedy="gateway images unmatched", **told)

    def _park(self, reading: _Reading, orthanc_id: str, why: str, change: _Told) -> None:
        """Told and saved once; a restart that reads the same change again says nothing."""
        self._failures.pop(orthanc_id, None)
        if orthanc_id in self._parked:
            return
        place = _place(reading, change)
        self.gateway.park_study(orthanc_id, why, place)
        self._parked.add(orthanc_id)
        reading.saved = place.resume_after
        log.error(
            "study_parked", orthanc_id=orthanc_id, error=why, remedy="look at it in Orthanc; gateway images retry"
        )

    def _ask_after_overdue(self, reading: _Reading) -> None:
        """Images whose study nobody said to be stable: Orthanc was stopped meanwhile, or they are no longer there."""
        late = self.clock() - self.options.overdue
        overdue = [(sequence, instance) for sequence, (instance, since) in reading.awaited.items() if since <= late]
        for sequence, instance in overdue[:_ASKED_AFTER]:
            if sequence in reading.awaited:
                self._ask_after(reading, sequence, instance)

    def _ask_after(self, reading: _Reading, sequence: int, instance: str) -> None:
        try:
            study = self.orthanc.study_of(instance)
        except NotInOrthanc:
            del reading.awaited[sequence]
            return
        except OrthancError as error:
            if not self._is_its_own_fault(instance):
                raise
            log.error("image_not_read", orthanc_id=instance, error=str(error), remedy="look at it in Orthanc")
            reading.awaited[sequence] = (instance, self.clock())
            return
        if not study.is_stable:
            reading.awaited[sequence] = (instance, self.clock())
            return
        del reading.awaited[sequence]
        self._receive(reading, study.orthanc_id, _Told(sequence, instance))

    def _relink(self, reading: _Reading) -> None:
        """Studies that came before their appointment, or before it was right."""
        if self.clock() < self._relink_at:
            return
        self._relink_at = self.clock() + self.options.relink
        for orthanc_id in self.gateway.linkable_studies(_RELINKED):
            if orthanc_id not in self._gone:
                self._receive(reading, orthanc_id, _Told(reading.change, reading.changed))

    def _save_stride(self, reading: _Reading) -> None:
        place = _place(reading, _Told(reading.change, reading.changed))
        if reading.changed and place.resume_after - reading.saved >= self.options.stride:
            self.gateway.advance_feed(place)
            reading.saved = place.resume_after

    # --- for people

    def _well(self, reading: _Reading) -> None:
        if self.status.state != "following":
            log.info("image_feed_following", orthanc=self.status.orthanc, feed=reading.feed, change=reading.change)
        self.status = replace(
            self.status,
            state="following",
            feed=reading.feed,
            change=reading.change,
            awaited=len(reading.awaited),
            last_look_at=_now(),
            error=None,
            code=None,
            failing_since=None,
        )

    def _failed(self, waits: RetryCallState, code: str, told: str) -> float:
        """Seconds to wait. Told when it begins, and when it becomes another failure; unsaved changes are read anew."""
        self._reading = None
        waits.attempt_number += 1
        wait: float = waits.retry_object.wait(waits)
        if self.status.error != told:
            log.warning("image_feed_failing", code=code, error=told, retry_in_seconds=round(wait, 1))
        since = self.status.failing_since or _now()
        self.status = replace(self.status, state="failing", error=told, code=code, failing_since=since)
        return wait


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, GatewayError) else f"unexpected {type(error).__name__}: look at the log"


def _place(reading: _Reading, change: _Told) -> FeedPlace:
    """Where a change stands; reading goes on before the first image that is still awaited."""
    done = max(reading.change, change.sequence)
    return FeedPlace(
        feed=reading.feed,
        change=change.sequence,
        changed=change.resource,
        resume_after=min([done, *(sequence - 1 for sequence in reading.awaited)]),
    )


def _waits(options: FeedOptions) -> RetryCallState:
    """tenacity's random waits, without its loop: what is retried here goes on for ever."""
    state = RetryCallState(
        Retrying(wait=wait_random_exponential(multiplier=options.poll, max=options.longest_wait, min=options.poll / 2)),
        None,
        (),
        {},
    )
    state.attempt_number = 0
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat()
