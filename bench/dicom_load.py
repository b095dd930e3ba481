"""A load client on raw sockets: it sends bytes prepared beforehand, times the answers, and lets no wrong one pass.

One client is a blocking socket, many are one loop over non-blocking ones. An answer is read in full when it comes for
the first time; one that is the same byte by byte as an answer already checked takes a comparison and no more, so that
the client costs a tenth of a millisecond for a query.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from bench import dicom_messages
from bench.dicom_messages import Answer, read_answer

HOST = "127.0.0.1"
PATIENCE = 5.0
"""Seconds a modality waits before it gives up."""

_RETRY = 0.05
"""Seconds a client that was refused waits before it asks again."""

_LOOK = 0.02
"""Seconds between looks at who has waited too long."""

_CHUNK = 262_144
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
"""Linux only: do not delay acknowledgements."""
_ASSOCIATE_AC, _ASSOCIATE_RJ, _RELEASE_RP = 0x02, 0x03, 0x06


class WrongAnswer(Exception):
    """A provider answered, and not what was right: its speed counts for nothing."""


class Refused(Exception):
    """A provider rejected or aborted the association, or took no connection."""


# --- what is exchanged


@dataclass(frozen=True, slots=True)
class Exchange:
    """Bytes to send, and whether what has come back is all of the answer.

    `is_complete` raises `WrongAnswer`, or `Refused` when the association is.
    """

    request: bytes
    is_complete: Callable[[bytearray], bool]


@dataclass(frozen=True, slots=True)
class Visit:
    """What is done on one association; timed from connecting until the last exchange but one, the release, begins."""

    exchanges: tuple[Exchange, ...]


Task = tuple[Visit, ...]
"""Visits that belong together; when one of them fails the others are left out."""


class Query:
    """A C-FIND whose right answer is known: these items, in whichever order."""

    def __init__(self, request: bytes, accession_numbers: Collection[str]) -> None:
        self.request = request
        self.expected = sorted(accession_numbers)
        self._checked = b""

    def is_complete(self, received: bytearray) -> bool:
        """Whether the final response has come. Raises `WrongAnswer`."""
        if len(received) < len(self._checked) and self._checked[: len(received)] == received:
            return False
        if received and self._checked == received:
            return True
        answer = _read(received)
        if answer is None:
            return False
        self.check(answer)
        self._checked = bytes(received)
        return True

    def check(self, answer: Answer) -> None:
        """Raise `WrongAnswer` unless it ends in success and lists exactly the expected items."""
        if answer.status != 0x0000:
            raise WrongAnswer(f"a query ended in status 0x{answer.status:04X}")
        if len(answer.data_sets) != len(self.expected):
            raise WrongAnswer(f"{len(answer.data_sets)} items were listed instead of {len(self.expected)}")
        if sorted(answer.accession_numbers()) != self.expected:
            raise WrongAnswer("other items were listed than match")


def is_success(received: bytearray) -> bool:
    """Whether the response to an MPPS message or an echo has come. Raises `WrongAnswer` when it is no success."""
    answer = _read(received)
    if answer is None:
        return False
    if answer.status != 0x0000:
        raise WrongAnswer(f"a request was answered with status 0x{answer.status:04X}")
    return True


def is_accepted(received: bytearray) -> bool:
    """Whether the A-ASSOCIATE-AC has come (PS3.8 9.3.3). Raises `Refused` for anything else."""
    return _is_pdu(received, _ASSOCIATE_AC)


def is_released(received: bytearray) -> bool:
    """Whether the A-RELEASE-RP has come."""
    return _is_pdu(received, _RELEASE_RP)


def _is_pdu(received: bytearray, wanted: int) -> bool:
    if len(received) < 6:
        return False
    kind, length = struct.unpack_from(">BxI", received)
    if kind == _ASSOCIATE_RJ and len(received) >= 10:
        result, source, reason = received[7:10]
        raise Refused(f"rejected: result {result}, source {source}, reason {reason}")
    if kind not in (wanted, _ASSOCIATE_RJ):
        raise Refused(f"PDU of type 0x{kind:02X}")
    return bool(kind == wanted and len(received) >= 6 + length)


def _read(received: bytearray) -> Answer | None:
    if received and received[0] != 0x04:
        raise Refused(f"PDU of type 0x{received[0]:02X}")
    try:
        return read_answer(received)
    except (ValueError, struct.error) as error:
        raise WrongAnswer(str(error)) from error


ASSOCIATE = Exchange(dicom_messages.association(), is_accepted)
RELEASE = Exchange(dicom_messages.release(), is_released)
ECHO = Exchange(dicom_messages.echo(), is_success)


def visit(*exchanges: Exchange) -> Visit:
    """An association for these exchanges."""
    return Visit((ASSOCIATE, *exchanges, RELEASE))


def query_task(query: Query) -> Task:
    """One query on an association of its own."""
    return (visit(Exchange(query.request, query.is_complete)),)


def pair_task(number: int) -> Task:
    """The start and the end of a step for the n-th item, each on an association of its own."""
    return tuple(visit(Exchange(request, is_success)) for request in dicom_messages.performed(number))


# --- one client


class Client:
    """One blocking connection. Raises `OSError`, `Refused` and `WrongAnswer`, whatever it does."""

    def __init__(self, port: int, *, quick_ack: bool = False, patience: float = PATIENCE) -> None:
        self._quick_ack = quick_ack and _QUICK_ACK is not None
        self._socket = socket.create_connection((HOST, port), timeout=patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, exchange: Exchange) -> None:
        """Send, and read all of the answer."""
        self._socket.sendall(exchange.request)
        received = bytearray()
        while not exchange.is_complete(received):
            if self._quick_ack:
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                raise Refused("the connection was closed")
            received += chunk

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()


def timed_visit(port: int, wanted: Visit, *, quick_ack: bool = False, patience: float = PATIENCE) -> float:
    """Seconds from connecting to the final response of one visit."""
    began = time.perf_counter()
    client = Client(port, quick_ack=quick_ack, patience=patience)
    try:
        for exchange in wanted.exchanges[:-1]:
            client.exchange(exchange)
        elapsed = time.perf_counter() - began
        client.exchange(wanted.exchanges[-1])
    finally:
        client.close()
    return elapsed


def is_up(port: int) -> bool:
    """Whether somebody answers a C-ECHO there."""
    try:
        timed_visit(port, visit(ECHO))
    except (OSError, Refused):
        return False
    return True


# --- many clients


@dataclass(slots=True)
class Load:
    """What many clients saw: tasks done, the seconds of each visit, and what failed."""

    seconds: float = 0.0
    """Until the last task was done: those under way when the time is over still end, and no new ones begin."""

    done: int = 0
    visits: list[float] = field(default_factory=list)
    refused: int = 0
    timed_out: int = 0
    client_share: float = 0.0
    """Of one core, what the client itself computed: near 1 it was the client that could do no more."""
    computed: float = 0.0
    """Seconds of processor time that the provider took, where somebody looked."""

    @property
    def rate(self) -> float:
        """Tasks per second."""
        return self.done / self.seconds if self.done else 0.0


def drive(
    port: int,
    tasks: Iterator[Task],
    *,
    clients: int,
    seconds: float,
    quick_ack: bool = False,
    patience: float = PATIENCE,
) -> Load:
    """So many clients take task after task for so long; what is under way then may still end.

    Raises `WrongAnswer`.
    """
    return _Drive(port, tasks, quick_ack=quick_ack, patience=patience).run(clients, seconds)


@dataclass(slots=True)
class _Session:
    """Where one client is: in which exchange of which visit."""

    task: Task
    visit: int
    socket: socket.socket
    began: float
    exchange: int = -1
    """-1 while it connects."""
    received: bytearray = field(default_factory=bytearray)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return self.task[self.visit].exchanges


class _Drive:
    """The loop over all clients."""

    def __init__(self, port: int, tasks: Iterator[Task], *, quick_ack: bool, patience: float) -> None:
        self._port = port
        self._tasks = tasks
        self._quick_ack = quick_ack and _QUICK_ACK is not None
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._open: dict[int, _Session] = {}
        self._waiting: list[float] = []
        """When each client that was refused asks again."""
        self._began = self._end = 0.0

    def run(self, clients: int, seconds: float) -> Load:
        load = Load()
        computed, self._began = time.process_time(), time.perf_counter()
        self._end = self._began + seconds
        for _ in range(clients):
            self._next_task()
        looked = self._began
        while self._open or self._waiting:
            for key, _ in self._selector.select(_LOOK):
                self._step(key.data, load)
            now = time.perf_counter()
            if now < self._end:
                load.client_share = (time.process_time() - computed) / (now - self._began)
            if now - looked >= _LOOK:
                self._look_at_clocks(now, load)
                looked = now
        self._selector.close()
        return load

    def _next_task(self) -> None:
        if time.perf_counter() < self._end and (task := next(self._tasks, None)):
            self._connect(task, 0)

    def _connect(self, task: Task, number: int) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = _Session(task, number, connection, time.perf_counter())
        connection.connect_ex((HOST, self._port))
        self._open[connection.fileno()] = session
        self._selector.register(connection, selectors.EVENT_WRITE, session)

    def _step(self, session: _Session, load: Load) -> None:
        try:
            if session.exchange < 0:
                self._connected(session)
            else:
                self._received(session, load)
        except (OSError, Refused):
            load.refused += 1
            self._close(session)
            self._waiting.append(time.perf_counter() + _RETRY)

    def _connected(self, session: _Session) -> None:
        if failed := session.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ConnectionRefusedError(failed, "not connected")
        self._selector.modify(session.socket, selectors.EVENT_READ, session)
        self._send(session)

    def _send(self, session: _Session) -> None:
        """The next request; it is smaller than any socket's buffer."""
        session.exchange += 1
        session.received.clear()
        session.socket.send(session.exchanges[session.exchange].request)

    def _received(self, session: _Session, load: Load) -> None:
        if self._quick_ack:
            session.socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        chunk = session.socket.recv(_CHUNK)
        if not chunk:
            raise Refused("the connection was closed")
        session.received += chunk
        if not session.exchanges[session.exchange].is_complete(session.received):
            return
        last = len(session.exchanges) - 1
        if session.exchange == last - 1:
            load.visits.append(time.perf_counter() - session.began)
        if session.exchange < last:
            self._send(session)
        else:
            self._visited(session, load)

    def _visited(self, session: _Session, load: Load) -> None:
        self._close(session)
        if session.visit + 1 < len(session.task):
            self._connect(session.task, session.visit + 1)
            return
        load.done += 1
        load.seconds = time.perf_counter() - self._began
        self._next_task()

    def _look_at_clocks(self, now: float, load: Load) -> None:
        """Give up what takes too long; let those that were refused ask again."""
        for session in [each for each in self._open.values() if now - each.began > self._patience]:
            load.timed_out += 1
            self._close(session)
            self._next_task()
        for _ in [due for due in self._waiting if due <= now]:
            self._next_task()
        self._waiting = [due for due in self._waiting if due > now]

    def _close(self, session: _Session) -> None:
        del self._open[session.socket.fileno()]
        self._selector.unregister(session.socket)
        session.socket.close()


# --- idle ones


def open_associations(port: int, wanted: int, *, seconds: float) -> list[Client]:
    """Up to so many associations that stay open, within so long; a provider that takes fewer refuses the rest."""
    clients: list[Client] = []
    end = time.perf_counter() + seconds
    while len(clients) < wanted and time.perf_counter() < end:
        try:
            client = Client(port, patience=max(0.1, end - time.perf_counter()))
        except OSError:
            break
        try:
            client.exchange(ASSOCIATE)
        except (OSError, Refused):
            client.close()
            break
        clients.append(client)
    return clients
