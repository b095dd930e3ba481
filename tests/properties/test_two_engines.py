"""The same bytes to both engines, over real sockets: what they decode to is the same, but for what is listed."""

from __future__ import annotations

import itertools
import re
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode
from pynetdicom.pdu import A_ASSOCIATE_AC

from gateway.dicom.association import PERFORMED_STEP, RETRIEVE, VERIFICATION, WORKLIST, AcceptorOptions
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.engines import EngineName, engine
from gateway.dicom.responder import Responder
from tests.dicom import raw_peer
from tests.dicom.dicom_samples import InMemory, changed, created, query, samples, to_bytes
from tests.dicom.raw_peer import FINDING, RETRIEVING, STEPPING
from tests.known_differences import SESSIONS

pytestmark = pytest.mark.slow

ENGINES: tuple[EngineName, ...] = ("asyncio", "pynetdicom")
PATIENCE = 20.0
LONG_ENOUGH = 10.0
PENDING, NONE = 0xFF00, 0x0101
C_FIND, C_ECHO = 0x0020, 0x0030
N_GET, N_SET, N_ACTION, N_CREATE, N_DELETE = 0x0110, 0x0120, 0x0130, 0x0140, 0x0150
ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RP, ABORT = 2, 3, 4, 6, 7


@dataclass(frozen=True)
class Step:
    """Bytes to send, then what to wait for: the final response to a request, the end of the association, or nothing."""

    sent: bytes
    awaits: str = "response"


@dataclass
class Told:
    """What one engine made of a session, decoded."""

    events: list[Any] = field(default_factory=list)
    is_over: bool = False


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[EngineName, int]]:
    with ExitStack() as running:
        found: dict[EngineName, int] = {}
        for name in ENGINES:
            server = engine(name)(Responder(InMemory(samples())), AcceptorOptions(host="127.0.0.1", port=0))
            server.start()
            running.callback(server.stop, 5)
            found[name] = server.port
        yield found


# --- talking and decoding


class Talk:
    """One session with one engine: sends in the given pieces, decodes what comes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")
        self._command, self._data = bytearray(), bytearray()
        self._whole: Dataset | None = None
        self.told = Told()

    def run(self, steps: Sequence[Step], cuts: Sequence[int]) -> Told:
        sizes = itertools.cycle(cuts or [1 << 20])
        try:
            for step in steps:
                if self.told.is_over:
                    break
                self._send(step.sent, sizes)
                while step.awaits != "nothing" and not self.told.is_over and not self._step(step.awaits):
                    pass
        finally:
            self._file.close()
            self.socket.close()
        return self.told

    def _send(self, sent: bytes, sizes: Iterator[int]) -> None:
        try:
            while sent:
                size = next(sizes)
                self.socket.sendall(sent[:size])
                sent = sent[size:]
        except ConnectionError:
            pass  # what it has said before is still to be read

    def _step(self, awaited: str) -> bool:
        """Take one PDU; whether what was awaited has come."""
        try:
            header = self._file.read(6)
            kind, length = struct.unpack(">BxI", header) if len(header) == 6 else (0, 0)
            body = self._file.read(length)
        except ConnectionError:
            kind, body = 0, b""
        if kind == P_DATA:
            return self._values(body) and awaited == "response"
        self.told.events.append(decoded(kind, header + body if kind else b""))
        self.told.is_over = kind != ASSOCIATE_AC
        return awaited == "association"

    def _values(self, body: bytes) -> bool:
        """Whether a final response is whole."""
        is_final = False
        while body:
            length, context, control = struct.unpack_from(">IBB", body)
            fragment, body = body[6 : 4 + length], body[4 + length :]
            (self._command if control & 1 else self._data).extend(fragment)
            if control & 2 and control & 1:
                self._whole = decode(BytesIO(bytes(self._command)), True, True)
                self._command.clear()
            if (
                self._whole is not None
                and control & 2
                and (not control & 1 or self._whole.CommandDataSetType == 0x0101)
            ):
                is_final = self._whole.Status != PENDING
                self.told.events.append((context, command(self._whole), bytes(self._data).hex()))
                self._whole = None
                self._data.clear()
        return is_final


def decoded(kind: int, pdu: bytes) -> Any:
    if kind == ASSOCIATE_AC:
        accepted = A_ASSOCIATE_AC()
        accepted.decode(pdu)
        contexts = [
            (c.context_id, c.result, c.transfer_syntax if not c.result else None) for c in accepted.presentation_context
        ]
        items = sorted(str(type(item).__name__) for item in accepted.user_information.user_data)
        return "accepted", contexts, accepted.user_information.maximum_length, items
    if kind == ASSOCIATE_RJ:
        return "rejected", tuple(pdu[7:10])
    return {RELEASE_RP: "released", ABORT: "ended", 0: "ended"}.get(kind, kind)


def command(elements: Dataset) -> dict[str, str]:
    """The elements of a command set; a UID that the engine has minted is like any other such."""
    return {
        element.keyword: re.sub(r"2\.25\.\d+", "minted", str(element.value))
        for element in elements
        if element.keyword != "CommandGroupLength"
    }


def both(ports: dict[EngineName, int], steps: Sequence[Step], cuts: Sequence[int] = ()) -> list[list[Any]]:
    return [Talk(ports[name]).run(steps, cuts).events for name in ENGINES]


# --- sessions written by hand

REQUEST = Step(raw_peer.associate_rq(), "association")
RELEASE = Step(raw_peer.RELEASE_RQ, "end")
ECHO = Step(raw_peer.echo())
FIND = Step(raw_peer.find(to_bytes(query({"Modality": "MG"}, AccessionNumber="", PatientName=""))))
SMALL = raw_peer.item(0x51, struct.pack(">I", 64))
WINDOW = raw_peer.item(0x53, struct.pack(">HH", 5, 5))
ROLES = raw_peer.item(0x54, struct.pack(">H", 17) + VERIFICATION.uid.encode() + b"\x01\x01")
UNKNOWN_ITEM = raw_peer.item(0x5B, b"\x00\x01\x02\x03")


def associating(**request: Any) -> Step:
    return Step(raw_peer.associate_rq(**request), "association")


def of_step(operation: int, data_set: Dataset | None, uid: str | None, *, context: int = STEPPING, **more: int) -> Step:
    """A request about a performed step."""
    role = "Affected" if operation == N_CREATE else "Requested"
    named: dict[str, Any] = more | {f"{role}SOPClassUID": RETRIEVE.uid if context == RETRIEVING else PERFORMED_STEP.uid}
    if uid:
        named[f"{role}SOPInstanceUID"] = uid
    return Step(raw_peer.message(context, operation, 1, None if data_set is None else to_bytes(data_set), **named))


def worklist_query(data_set: bytes | None, named: str = WORKLIST.uid) -> Step:
    return Step(raw_peer.message(FINDING, C_FIND, 1, data_set, AffectedSOPClassUID=named, Priority=2))


def echo_in(context: int) -> Step:
    return Step(raw_peer.message(context, C_ECHO, 1, AffectedSOPClassUID=VERIFICATION.uid))


HAND_WRITTEN: dict[str, list[Step]] = {
    "an echo": [REQUEST, ECHO, RELEASE],
    "a query": [REQUEST, FIND, RELEASE],
    "several operations": [REQUEST, ECHO, FIND, ECHO, FIND, RELEASE],
    "a maximum length of 64": [associating(maximum_length=64), FIND, RELEASE],
    "no maximum length": [associating(maximum_length=None), FIND, RELEASE],
    "an unlimited maximum length": [associating(maximum_length=0), FIND, RELEASE],
    "another called AE title": [associating(called=b"NOBODY")],
    "an empty calling AE title": [associating(calling=b"")],
    "a context of unknown syntax only": [
        associating(contexts=[raw_peer.proposed(1, VERIFICATION.uid, "1.2.840.10008.1.2.2")]),
        RELEASE,
    ],
    "an unknown abstract syntax": [associating(contexts=[raw_peer.proposed(1, "1.2.3", IMPLICIT)]), RELEASE],
    "the same abstract syntax twice": [
        associating(contexts=[raw_peer.proposed(n, VERIFICATION.uid, s) for n, s in ((1, EXPLICIT), (3, IMPLICIT))]),
        ECHO,
        RELEASE,
    ],
    "an asynchronous operations window": [associating(user=WINDOW), ECHO, RELEASE],
    "a role selection": [associating(user=ROLES), ECHO, RELEASE],
    "an unknown item of user information": [associating(user=UNKNOWN_ITEM), ECHO, RELEASE],
    "an unknown application context": [associating(application_context="1.2.3"), ECHO, RELEASE],
    "protocol versions 1 and 2": [associating(version=3), ECHO, RELEASE],
    "an abort": [REQUEST, ECHO, Step(raw_peer.ABORT, "end")],
    "a release before anything": [REQUEST, RELEASE],
    "a second association request": [REQUEST, Step(raw_peer.associate_rq(), "end")],
    "data before the association": [Step(raw_peer.echo(), "end")],
    "no PDU": [Step(b"GET / HTTP/1.1\r\n\r\n", "end")],
    "no PDU within an association": [REQUEST, Step(b"\xff" * 12, "end")],
    "a PDU of gigabytes": [Step(struct.pack(">BBI", 1, 0, 0xFFFFFFF0), "end")],
    "a query without a data set": [REQUEST, worklist_query(None), RELEASE],
    "a query of another SOP class": [REQUEST, worklist_query(b"", "1.2.3"), RELEASE],
    "a cancel of nothing": [REQUEST, Step(raw_peer.cancel(9), "nothing"), ECHO, RELEASE],
    "a cancel of what is over": [REQUEST, FIND, Step(raw_peer.cancel(1), "nothing"), FIND, RELEASE],
    "a context that was not accepted": [REQUEST, echo_in(99)],
    "an echo in the context of the worklist": [REQUEST, echo_in(FINDING), RELEASE],
    "N-ACTION": [REQUEST, of_step(N_ACTION, None, "1.2", ActionTypeID=1), ECHO, RELEASE],
    "N-DELETE": [REQUEST, of_step(N_DELETE, None, "1.2"), ECHO, RELEASE],
    "an N-GET of no step": [REQUEST, of_step(N_GET, None, "1.2.3", context=RETRIEVING), RELEASE],
    "an N-CREATE without an instance": [REQUEST, of_step(N_CREATE, created(), None), RELEASE],
}


@pytest.mark.parametrize("session", HAND_WRITTEN)
def test_a_session_is_answered_alike_unless_it_is_a_listed_difference(
    ports: dict[EngineName, int], session: str
) -> None:
    ours, theirs = both(ports, HAND_WRITTEN[session])
    assert (ours == theirs) is (session not in SESSIONS), f"asyncio: {ours}\npynetdicom: {theirs}"


def test_the_list_names_sessions_that_there_are() -> None:
    assert set(SESSIONS) <= set(HAND_WRITTEN)


# --- sessions of any kind

numbers = itertools.count()
keys = st.fixed_dictionaries(
    {},
    optional={
        "AccessionNumber": st.sampled_from(["", "ACC001", "ACC00?", "*", "NONE"]),
        "PatientName": st.sampled_from(["", "SMITH*", "smith^j?ne", "MÜLLER"]),
        "PatientID": st.sampled_from(["", "9990000034"]),
        "SpecificCharacterSet": st.sampled_from(["ISO_IR 100", "ISO_IR 192"]),
        "RequestedProcedureDescription": st.just(""),
    },
)
step_keys = st.fixed_dictionaries(
    {},
    optional={
        "Modality": st.sampled_from(["MG", "US", ""]),
        "ScheduledProcedureStepStartDate": st.sampled_from(["20261123", "20261101-", "20260230", ""]),
        "ScheduledStationAETitle": st.sampled_from(["", "MAMMO1"]),
    },
)
identifiers = st.one_of(
    st.builds(lambda step, root: to_bytes(query(step, **root)), step_keys, keys), st.binary(min_size=1, max_size=40)
)
instances = st.sampled_from([1, 2])
attributes = st.sampled_from(
    [created(), created(Modality=None), created(PerformedProcedureStepStatus="COMPLETED"), created(PatientName="")]
)
modifications = st.sampled_from([changed(), changed(None, PerformedSeriesSequence=None), changed("FINISHED")])
operations = st.one_of(
    st.tuples(st.just("find"), identifiers, st.none()),
    st.tuples(st.just("find"), identifiers, st.none()),
    st.tuples(st.just("echo"), st.none(), st.none()),
    st.tuples(st.just("create"), attributes, instances),
    st.tuples(st.just("set"), modifications, instances),
    st.tuples(st.just("get"), st.none(), instances),
    st.tuples(st.just("cancel"), st.none(), st.none()),
)
contexts = st.fixed_dictionaries(
    {
        number: st.lists(st.sampled_from([IMPLICIT, "1.2.840.10008.1.2.2", "1.2.3"]), max_size=2, unique=True).map(
            lambda others: [IMPLICIT, *(other for other in others if other != IMPLICIT)]
        )
        for number in raw_peer.CONTEXTS
    }
)
lengths = st.sampled_from([0, 32, 128, 4096, 16384, 0xFFFFFFFF])
ends = st.sampled_from([RELEASE, RELEASE, Step(raw_peer.ABORT, "end")])
pieces = st.lists(st.integers(1, 400), max_size=4)


def steps_of(operation: tuple[str, Any, int | None], example: int) -> Step:
    kind, content, instance = operation
    uid = f"1.2.3.{example}.{instance}"
    match kind:
        case "find":
            return worklist_query(content)
        case "create":
            return of_step(N_CREATE, content, uid)
        case "set":
            return of_step(N_SET, content, uid)
        case "get":
            return of_step(N_GET, None, uid, context=RETRIEVING)
        case "cancel":
            return Step(raw_peer.cancel(1), "nothing")
    return ECHO


def test_any_session_in_any_pieces_is_answered_alike(ports: dict[EngineName, int]) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        offered=contexts,
        length=lengths,
        asked=st.lists(operations, min_size=1, max_size=5),
        end=ends,
        cuts=pieces,
    )
    def check(
        offered: dict[int, list[str]], length: int, asked: list[tuple[str, Any, int | None]], end: Step, cuts: list[int]
    ) -> None:
        if time.monotonic() > until:  # on a busy machine fewer sessions have to do
            return
        example = next(numbers)
        proposed = [raw_peer.proposed(n, raw_peer.CONTEXTS[n], *syntaxes) for n, syntaxes in offered.items()]
        request = associating(contexts=proposed, maximum_length=length)
        ours, theirs = both(ports, [request, *(steps_of(each, example) for each in asked), end], cuts)
        assert ours == theirs
        seen.update(int(answer[1]["Status"]) for answer in ours if len(answer) == 3 and isinstance(answer[1], dict))

    seen: set[int] = set()
    until = time.monotonic() + LONG_ENOUGH
    check()
    assert {0x0000, 0x0112, PENDING, 0xA900} <= seen, "the sessions tell nothing"
