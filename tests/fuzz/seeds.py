"""What the fuzzer starts from: proper sessions, command sets and data sets, none of them written by what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from tests.dicom import raw_peer
from tests.dicom.dicom_samples import changed, created, query, series, to_bytes

UID = "1.2.3.4.5"
SYNTAXES = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN)

QUERIES = (
    query({"Modality": "MG", "ScheduledProcedureStepStartDate": "20261123"}, AccessionNumber="", PatientName=""),
    query(
        {"ScheduledStationAETitle": "MAMMO1", "ScheduledProcedureStepStartTime": "0900-1200"},
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Smith*",
        PatientID="999000003?",
        StudyInstanceUID="",
    ),
    query({}, SpecificCharacterSet=["", "ISO 2022 IR 87"], RequestedProcedureCodeSequence=[], AccessionNumber="ACC001"),
)
STEPS = (
    created(PerformedSeriesSequence=[series(2)], SpecificCharacterSet="ISO_IR 100"),
    changed(TotalNumberOfExposures=4, EntranceDoseInmGy="2.5", PerformedSeriesSequence=[series(1)]),
    changed("DISCONTINUED"),
)


def sessions() -> Iterator[bytes]:
    """Whole ones; the first byte says how the rest is cut."""
    for number, syntax in enumerate(SYNTAXES):
        asked = [raw_peer.proposed(context, uid, *SYNTAXES[number:]) for context, uid in raw_peer.CONTEXTS.items()]
        one = [raw_peer.associate_rq(contexts=asked), *_operations(syntax), raw_peer.RELEASE_RQ]
        yield bytes((number * 7,)) + b"".join(one)
        yield b"\x05" + one[0] + one[1] + raw_peer.ABORT
    yield b"\0" + raw_peer.associate_rq(called=b"NOBODY")
    yield b"\0" + raw_peer.associate_rq(maximum_length=4, more=raw_peer.item(0x66, b"unknown"))


def _operations(syntax: str) -> list[bytes]:
    """One of each, the query in small fragments."""
    query_, step, change = (to_bytes(each, syntax) for each in (QUERIES[0], STEPS[0], STEPS[1]))
    asking = raw_peer.command(0x20, 2, query_, AffectedSOPClassUID=raw_peer.CONTEXTS[raw_peer.FINDING], Priority=2)
    return [
        raw_peer.echo(),
        *_fragments(raw_peer.FINDING, 1, asking),
        *_fragments(raw_peer.FINDING, 0, query_),
        raw_peer.cancel(2),
        raw_peer.n_create(step, UID, 3),
        raw_peer.message(raw_peer.STEPPING, 0x120, 4, change, **_requested(raw_peer.STEPPING)),
        raw_peer.message(raw_peer.RETRIEVING, 0x110, 5, **_requested(raw_peer.RETRIEVING)),
    ]


def _requested(context: int) -> dict[str, str]:
    return {"RequestedSOPClassUID": raw_peer.CONTEXTS[context], "RequestedSOPInstanceUID": UID}


def _fragments(context: int, control: int, data: bytes) -> list[bytes]:
    """Each in a PDU of its own; the last one says so."""
    pieces = [data[at : at + 32] for at in range(0, len(data), 32)]
    last = len(pieces) - 1
    return [
        raw_peer.pdu(4, raw_peer.value(context, control | (2 if number == last else 0), piece))
        for number, piece in enumerate(pieces)
    ]


def command_sets() -> Iterator[bytes]:
    """One of each operation."""
    finding, stepping, retrieving = (
        raw_peer.CONTEXTS[context] for context in (raw_peer.FINDING, raw_peer.STEPPING, raw_peer.RETRIEVING)
    )
    yield raw_peer.command(0x30, 1, AffectedSOPClassUID=raw_peer.CONTEXTS[raw_peer.ECHOING])
    yield raw_peer.command(0x20, 2, b"", AffectedSOPClassUID=finding, Priority=2)
    yield raw_peer.command(0xFFF, 2)
    yield raw_peer.command(0x140, 3, b"", AffectedSOPClassUID=stepping, AffectedSOPInstanceUID=UID)
    yield raw_peer.command(0x120, 4, b"", RequestedSOPClassUID=stepping, RequestedSOPInstanceUID=UID)
    yield raw_peer.command(
        0x110,
        5,
        RequestedSOPClassUID=retrieving,
        RequestedSOPInstanceUID=UID,
        AttributeIdentifierList=[0x00400252, 0x00100010],
    )


def data_sets() -> Iterator[bytes]:
    """Identifiers and attribute lists; the first byte says in which transfer syntax."""
    for number, syntax in enumerate(SYNTAXES):
        for data_set in (*QUERIES, *STEPS):
            yield bytes((number,)) + to_bytes(data_set, syntax)


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "sessions": sessions,
    "command_sets": command_sets,
    "data_sets": data_sets,
}
