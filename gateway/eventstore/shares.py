"""Shares of a rebuild: each is some of the projections, built aside. A long log has two, and a process for each.

Projections know nothing of each other, so each share reads the log for itself, without the events that none of its
projections is concerned with. What is built stays where it is built: the process that rebuilds asks the second one for
what differs, over a pipe, and alone writes into the served tables. The second one ends with the first, also when that
is killed, and leaves nothing behind.
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from eventsourcing.persistence import JSONTranscoder, Mapper, Transcoding
from eventsourcing.utils import get_topic

from gateway.errors import GatewayError, StoreUnusable
from gateway.eventstore import aside, positions, replay
from gateway.eventstore.aside import Aside, Correction, Difference
from gateway.eventstore.connections import Readers
from gateway.eventstore.mapper import EnvelopeMapper
from gateway.eventstore.projection import Projection
from gateway.eventstore.replay import Progress
from gateway.eventstore.sealing import Sealing

_LONG = 20_000
"""Events from which on a second process is worth its start (0.2 s)."""

_FEW = 20
"""Events that may be left to take while saves wait: a millisecond."""

_TRIES = 5

_POLITE = 5
"""By how much the second process is nicer than others: a service that wants both processors comes first."""


def _say_nothing(_done: int, _all: int) -> None:
    pass


class Share:
    """Some projections, built aside. What it is asked it answers with things one after the other."""

    def __init__(self, built: Aside, mapper: Mapper[UUID], leave_out: Sequence[str] = ()) -> None:
        self.built = built
        self._mapper = mapper
        self._leave_out = leave_out
        self._opened = replay.opened_by(built.projections)

    def build(self, until: int, progress: Progress = _say_nothing) -> Iterable[None]:
        """Apply the log up to a position.

        It is done page by page: no snapshot is held for long, nor the log's log kept from reuse.
        """
        built, cursor = self.built, self.built.connection.cursor()
        while built.position < until:
            page = min(built.position + replay.PAGE, until)
            with built.snapshot():
                events = replay.read(
                    built.connection,
                    self._mapper,
                    after=built.position,
                    until=page,
                    leave_out=self._leave_out,
                    opened=self._opened,
                )
                replay.project_all(built.projections, cursor, events)
            built.position = page
            progress(page, until)
        return ()

    def approach(self) -> Iterable[None]:
        """Take what was appended meanwhile, until it is little."""
        for _ in range(_TRIES):
            head = self.built.head()
            self.build(head)
            if self.built.head() - head <= _FEW:
                break
        return ()

    def differing(self) -> Iterable[str]:
        """The projections whose served tables, or noted positions, are not what the events up to one commit say."""
        self.approach()
        with self.built.snapshot():
            self.build(self.built.head())
            return [projection.NAME for projection in self.built.projections if self._differs(projection)]

    def _differs(self, projection: Projection) -> bool:
        built = self.built
        found = [built.is_altered(table) or built.note_differences(table) for table in projection.TABLES]
        return any(found) or positions.position_of(built.connection, projection) != built.position

    def corrections(self, names: Sequence[str]) -> Iterator[Correction]:
        """What makes the served tables of these projections what they should be, for whom nobody else writes by now."""
        built = self.built
        self.build(built.head())
        for projection in built.projections:
            if projection.NAME in names:
                anew = any(built.is_altered(table) for table in projection.TABLES)
                if anew:
                    yield from (Correction(statement) for statement in replay.anew(projection))
                for table in projection.TABLES:
                    yield from built.whole(table) if anew else built.corrections(table)

    def first_differences(self) -> Iterable[Difference]:
        """The first difference of each projection at one commit."""
        self.approach()
        with self.built.snapshot():
            self.build(self.built.head())
            found = (self.built.first_difference(projection) for projection in self.built.projections)
            return [difference for difference in found if difference]


class Shares:
    """One share in this process, and where it is worth it another one in a second process."""

    def __init__(self, here: Share, there: Second | None) -> None:
        self._here = here
        self._there = there

    @property
    def position(self) -> int:
        """Up to where they are built; those of the second process too, while nobody else writes."""
        return self._here.built.position

    def build(self, progress: Progress) -> None:
        """Apply the log up to its present head."""
        self.ask("build", self._here.built.head(), then=(progress,))

    def ask(self, what: str, *arguments: object, then: tuple[object, ...] = ()) -> list[Any]:
        """Let both do what a share can do, at the same time; `then` are arguments for the one here alone."""
        if self._there:
            self._there.ask(what, *arguments)
        found = list(getattr(self._here, what)(*arguments, *then))
        return [*found, *self._there.answers()] if self._there else found

    def corrections(self, names: Sequence[str]) -> Iterator[Correction]:
        """What makes the served tables what they should be; the second process reads ahead meanwhile."""
        if self._there:
            self._there.ask("corrections", names)
        return chain(self._here.corrections(names), self._there.answers() if self._there else ())


@contextmanager
def opened(
    path: Path, mapper: Mapper[UUID], projections: Sequence[Projection], apart: Sequence[Projection]
) -> Iterator[Shares]:
    """A place for building these projections; those apart in a second process, when the log is long.

    Raises `StoreUnusable` when there is no room for it, or the database can't be read.
    """
    if not apart or (os.cpu_count() or 1) == 1 or _length(path) < _LONG:
        with aside.opened(path, projections) as built:
            yield Shares(Share(built, mapper), None)
        return
    here = [projection for projection in projections if projection not in apart]
    order = Order.of(path, mapper, apart, _unconcerned(apart, projections))
    with _second(order) as second, aside.opened(path, here) as built:
        yield Shares(Share(built, mapper, _unconcerned(here, projections)), second)


def _length(path: Path) -> int:
    with aside.opened(path, ()) as log:
        return log.head()


def _unconcerned(some: Sequence[Projection], projections: Sequence[Projection]) -> list[str]:
    """The topics that others do something about, and these do not. An unknown one is read by all: it is damage."""
    ours, all_ = _concerned(some), _concerned(projections)
    return sorted(get_topic(event) for event in all_ - ours)


def _concerned(projections: Sequence[Projection]) -> set[type]:
    return {event for projection in projections for event in projection.CONCERNED}


# --- the second process


@dataclass(frozen=True, slots=True)
class Order:
    """What the second process is told. All of it can be sent."""

    path: Path
    modules: list[str]
    leave_out: list[str]
    transcodings: list[Transcoding]
    keys: Path | None

    @staticmethod
    def of(path: Path, mapper: Mapper[UUID], projections: Sequence[Projection], leave_out: list[str]) -> Order:
        """An order to build these projections of a database."""
        transcoder = cast("JSONTranscoder", mapper.transcoder)
        sealing = cast("EnvelopeMapper", mapper).sealing
        keys = sealing.path if sealing else None
        modules = [cast("Any", projection).__name__ for projection in projections]
        return Order(path, modules, leave_out, list(transcoder.types.values()), keys)

    @contextmanager
    def opened(self) -> Iterator[Share]:
        """The share that is ordered."""
        projections = [cast("Projection", importlib.import_module(module)) for module in self.modules]
        transcoder = JSONTranscoder()
        for transcoding in self.transcodings:
            transcoder.register(transcoding)
        readers = Readers(self.path)
        sealing = Sealing.for_reading(self.keys, readers.connection) if self.keys else None
        with aside.opened(self.path, projections) as built:
            yield Share(built, EnvelopeMapper(transcoder, sealing), self.leave_out)


class Second:
    """The second process, as the first sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, what: str, *arguments: object) -> None:
        """Let it do what a share can do."""
        try:
            self._pipe.send((what, arguments))
        except OSError as error:
            raise _lost() from error

    def answers(self) -> Iterator[Any]:
        """What it answers, one after the other. Raises what it failed with."""
        while True:
            try:
                answer = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise _lost() from error
            if isinstance(answer, GatewayError):
                raise answer
            if answer is None:
                return
            yield answer


def _lost() -> StoreUnusable:
    return StoreUnusable(
        "the second process of the rebuild has ended",
        remedy="look whether this machine ran out of memory, then try again: nothing was changed",
    )


@contextmanager
def _second(order: Order) -> Iterator[Second]:
    ours, theirs = Pipe()
    command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
    with subprocess.Popen(  # noqa: S603  ourselves
        command, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()], start_new_session=True
    ) as process:
        theirs.close()
        try:
            ours.send(order)
            yield Second(ours)
        finally:
            process.kill()
            ours.close()


def _end_with_the_first() -> None:
    """Its end of our standard input closes however it ends."""
    sys.stdin.buffer.read()
    os._exit(1)


def _serve(pipe: Connection) -> None:
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    os.nice(_POLITE)
    gc.disable()  # what is built here holds no cycles
    with suppress(EOFError, BrokenPipeError):  # the first has ended
        _answer(pipe)


def _answer(pipe: Connection) -> None:
    order: Order = pipe.recv()
    try:
        with order.opened() as share:
            while True:
                what, arguments = pipe.recv()
                for answer in getattr(share, what)(*arguments):
                    pipe.send(answer)
                pipe.send(None)
    except GatewayError as error:
        pipe.send(error)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
