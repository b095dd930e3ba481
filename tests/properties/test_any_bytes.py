"""Any bytes as identifier of a C-FIND: one final documented status, and never more than what can be read warrants."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import ModalityWorklistInformationFind, Verification

from bench.synthetic import appointment
from gateway.application import Gateway, opened
from gateway.dicom.caller import Caller
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.rehearsal.requestor import associate
from projections.worklist import WorklistFilter, WorklistRow
from tests.dicom.dicom_samples import hold
from tests.properties import matching_oracle, plain_reader
from tests.properties.matching_oracle import Unreadable
from tests.properties.plain_reader import EXPLICIT, IMPLICIT, Elsewhere, Malformed
from tests.serving import serving

config.settings.reading_validation_mode = config.IGNORE  # what people type is not always valid
config.settings.writing_validation_mode = config.IGNORE

pytestmark = pytest.mark.slow

PENDING, SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, UNABLE = 0xFF00, 0x0000, 0xA700, 0xA900, range(0xC000, 0xD000)
SYNTAXES = (IMPLICIT, EXPLICIT)
CALLER = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
COUNT = 12


def is_documented(status: int) -> bool:
    """Whether a C-FIND may end so (PS3.4 Table K.4-1); without a cancel, 0xFE00 may not be."""
    return status in (SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH) or status in UNABLE


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    names = ["SMITH^JANE", "MÜLLER^ZOË", "JONES^MARY", "Yamada^Tarou=山田^太郎"]
    with opened(tmp_path_factory.mktemp("any-bytes") / "gateway.db") as gateway:
        for number in range(COUNT):
            gateway.schedule(
                appointment(
                    f"ACC{number:03}",
                    patient_id=f"99900000{number:02}",
                    patient_name=names[number % 4],
                    scheduled_date=f"202611{20 + number % 5}",
                    scheduled_time=["090000", "100000", "113000"][number % 3],
                    modality=["MG", "US"][number % 2],
                    station_ae_titles=[("MAMMO1",), ("MAMMO2",), ("MAMMO1", "MAMMO2")][number % 3],
                )
            )
        yield gateway


@pytest.fixture(scope="module")
def rows(gateway: Gateway) -> list[WorklistRow]:
    return gateway.find_items(WorklistFilter())


# --- the bytes


def request(step: dict[str, str] | None, **keys: str) -> Dataset:
    data_set = Dataset()
    for keyword, value in keys.items():
        setattr(data_set, keyword, value)
    if step is not None:
        item = Dataset()
        for keyword, value in step.items():
            setattr(item, keyword, value)
        data_set.ScheduledProcedureStepSequence = [item]
    return data_set


REQUESTS = [
    request({"Modality": "MG", "ScheduledProcedureStepStartDate": "20261123"}, AccessionNumber="", PatientName=""),
    request({"ScheduledStationAETitle": "MAMMO2", "ScheduledProcedureStepStartTime": "10-1130"}, PatientID="99900000*"),
    request({}, SpecificCharacterSet="ISO_IR 192", PatientName="Müller*", AccessionNumber=""),
    request(None, SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER^ZOË", StudyInstanceUID=""),
    request(
        {"ScheduledProcedureStepStartDate": "20261121-20261123", "ScheduledProcedureStepStartTime": "1000-"},
        AccessionNumber="ACC00?",
    ),
    request({"ScheduledProcedureStepStatus": "SCHEDULED", "Modality": "US"}, StudyInstanceUID="1.2.3"),
    request({"Modality": ""}, PatientBirthDate="19650315", PatientSex="F", RequestedProcedureID="ACC003"),
]


def encoded(data_set: Dataset, syntax: str) -> bytes:
    data = encode(data_set, syntax == IMPLICIT, True)
    assert data is not None
    return data


def delimited(data: bytes) -> bytes:
    """The step sequence, which comes last, with undefined lengths."""
    start = data.find(bytes.fromhex("40000001"))
    if start < 0 or data[start + 4 : start + 6] == b"SQ":
        return data
    item = data[start + 16 :]
    tag, ends = data[start : start + 4], bytes.fromhex("feff0de000000000feffdde000000000")
    return data[:start] + tag + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4 + item + ends


@st.composite
def mutated(draw: Any, syntax: str) -> bytes:
    """A proper identifier, spoilt in one to three places."""
    data = encoded(draw(st.sampled_from(REQUESTS)), syntax)
    if draw(st.booleans()):
        data = delimited(data)
    for _ in range(draw(st.integers(1, 3))):
        data = draw(spoilt(data))
    return data


LENGTHS = (0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([bytes.fromhex(tag) for tag in ("feff00e0", "feff0de0", "feffdde0", "10002000", "40000001")]),
)


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    place = st.integers(0, len(data))
    return st.one_of(
        st.builds(lambda at, byte: data[:at] + bytes([byte]) + data[at + 1 :], place, st.integers(0, 255)),
        st.builds(lambda at, bit: data[:at] + bytes(b ^ bit for b in data[at : at + 1]) + data[at + 1 :], place,
                  st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128])),
        st.builds(lambda at, length: data[:at] + struct.pack("<I", length) + data[at + 4 :], place,
                  st.sampled_from(LENGTHS)),
        st.builds(lambda at, piece: data[:at] + piece + data[at:], place, PIECES),
        st.builds(lambda at, length: data[:at] + data[at + length :], place, st.integers(1, 12)),
        st.builds(lambda at, length: data[:at] + data[at : at + length] + data[at:], place, st.integers(1, 40)),
        st.builds(lambda at: data[:at], place),
        st.builds(lambda at, vr: data[:at] + vr + data[at + 2 :], place, st.sampled_from([b"SQ", b"UN", b"ZZ", b"UT"])),
    )  # fmt: skip


def nested(depth: int, syntax: str) -> bytes:
    """Sequences in sequences, of undefined length."""
    header = bytes.fromhex("40000001") + (b"SQ\0\0" if syntax == EXPLICIT else b"")
    opening = header + b"\xff" * 4 + bytes.fromhex("feff00e0") + b"\xff" * 4
    closing = bytes.fromhex("feff0de000000000feffdde000000000")
    return opening * depth + closing * depth


# --- through the responder


def ask(responder: Responder, data: bytes, syntax: str) -> list[int]:
    responses = list(responder.find(CALLER, data, syntax, lambda: False))
    *pending, last = responses
    assert is_documented(last.status), hex(last.status)
    assert last.identifier is None
    assert len(last.error_comment) <= 64
    for response in pending:
        assert response.status == PENDING
        plain_reader.Reader(response.identifier or b"", syntax == EXPLICIT).elements(len(response.identifier or b""))
    return [response.status for response in responses]


def judge(statuses: list[int], data: bytes, syntax: str, rows: list[WorklistRow]) -> None:
    """A query that is answered can be read, and lists what the oracle lists for it."""
    if statuses[-1] != SUCCESS:
        assert len(statuses) == 1
        return
    try:
        query = plain_reader.asked_by(data, syntax)
        expected = [row for row in rows if matching_oracle.lists(query, row)]
    except Elsewhere:
        return
    except (Malformed, Unreadable) as error:
        raise AssertionError(f"answered although {error!r}: {data.hex()}") from error
    assert len(statuses) - 1 == len(expected), (query, data.hex())


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_spoilt_identifier_is_refused_or_lists_what_it_still_asks_for(
    gateway: Gateway, rows: list[WorklistRow], syntax: str
) -> None:
    responder, ends = Responder(gateway), set()

    @settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=mutated(syntax))
    def check(data: bytes) -> None:
        statuses = ask(responder, data, syntax)
        judge(statuses, data, syntax, rows)
        ends.add((statuses[-1], 0 < len(statuses) - 1 < COUNT))

    check()
    assert {(SUCCESS, True), (DOES_NOT_MATCH, False)} <= ends, "the bytes tell nothing"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_any_bytes_at_all_are_refused_or_list_what_they_ask_for(
    gateway: Gateway, rows: list[WorklistRow], syntax: str
) -> None:
    responder = Responder(gateway)

    @settings(max_examples=500, deadline=None)
    @given(data=st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=8).map(b"".join)))
    @example(data=b"\xff" * 64)
    @example(data=bytes(64))
    def check(data: bytes) -> None:
        judge(ask(responder, data, syntax), data, syntax, rows)

    check()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("depth", [2, 15, 16, 17, 100, 5000, 100_000])
def test_nesting_of_any_depth_gets_an_answer(
    gateway: Gateway, rows: list[WorklistRow], syntax: str, depth: int
) -> None:
    judge(ask(Responder(gateway), nested(depth, syntax), syntax), nested(depth, syntax), syntax, rows)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
def test_an_identifier_cut_anywhere_is_refused_unless_what_is_left_is_whole(
    gateway: Gateway, rows: list[WorklistRow], syntax: str, request_: Dataset
) -> None:
    responder, whole = Responder(gateway), encoded(request_, syntax)
    for data in (whole, delimited(whole)):
        for end in range(1, len(data) + 1):
            judge(ask(responder, data[:end], syntax), data[:end], syntax, rows)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("length", LENGTHS[3:])
def test_an_announced_length_beyond_the_data_is_refused(gateway: Gateway, syntax: str, length: int) -> None:
    vr = b"UT\0\0" if syntax == EXPLICIT else b""
    data = bytes.fromhex("10002000") + vr + struct.pack("<I", length) + b"9990000001"
    assert ask(Responder(gateway), data, syntax) == [DOES_NOT_MATCH]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("items", [b"", bytes.fromhex("feff00e000000000")], ids=["no item", "an item"])
def test_a_text_key_that_comes_as_a_sequence_of_items_is_never_universal(
    gateway: Gateway, rows: list[WorklistRow], syntax: str, items: bytes
) -> None:
    header = bytes.fromhex("10002000") + (b"SQ\0\0" if syntax == EXPLICIT else b"") + b"\xff" * 4
    data = header + items + bytes.fromhex("feffdde000000000")
    statuses = ask(Responder(gateway), data, syntax)
    assert statuses == ([DOES_NOT_MATCH] if items else [PENDING] * COUNT + [SUCCESS])


# --- over the wire


@contextmanager
def association(server: AssociationServer, syntax: str) -> Iterator[Any]:
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(ModalityWorklistInformationFind, syntax)
    entity.add_requested_context(Verification)
    peer = associate(entity, "127.0.0.1", server.port, ae_title="ORTHANC_MWL")
    assert peer.is_established
    try:
        yield peer
    finally:
        if peer.is_established:
            peer.release()


def send(peer: Any, data: bytes) -> list[int]:
    """The statuses of the responses to a C-FIND with these bytes."""
    message = C_FIND()
    message.MessageID, message.Priority = 7, 2
    message.AffectedSOPClassUID = ModalityWorklistInformationFind
    message.Identifier = BytesIO(data)
    (context,) = (c for c in peer.accepted_contexts if c.abstract_syntax == ModalityWorklistInformationFind)
    hold(peer)
    try:
        peer.dimse.send_msg(message, context.context_id)
        statuses = []
        while True:
            _, response = peer.dimse.get_msg(block=True)
            assert response is not None, "the association was cut"
            statuses.append(response.Status)
            if response.Status != PENDING:
                return statuses
    finally:
        peer._reactor_checkpoint.set()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_on_one_association_every_spoilt_query_is_answered_and_the_next_one_is_as_ever(
    gateway: Gateway, rows: list[WorklistRow], syntax: str
) -> None:
    proper = encoded(REQUESTS[0], syntax)
    with serving(Responder(gateway)) as server, association(server, syntax) as peer:
        before = send(peer, proper)
        assert 1 < len(before) < COUNT

        @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(data=st.one_of(mutated(syntax), st.binary(min_size=1, max_size=60)))
        def check(data: bytes) -> None:
            statuses = send(peer, data or b"\0")
            assert is_documented(statuses[-1])
            judge(statuses, data or b"\0", syntax, rows)

        check()
        assert send(peer, nested(2000, syntax)) == [DOES_NOT_MATCH]
        assert send(peer, proper) == before
        assert peer.send_c_echo().Status == SUCCESS
        assert server.listening
