"""What the fuzzer starts from: proper sessions, command sets and data sets, each by the library and not by us."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.dicom import message
from gateway.dicom.data_set import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from tests.dicom import unit_bytes
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
        one = [
            unit_bytes.associate(syntaxes=SYNTAXES[number:]),
            unit_bytes.echo(),
            unit_bytes.find(QUERIES[number], syntax=syntax, pdu=64),
            unit_bytes.cancel(),
            unit_bytes.create(UID, STEPS[0], syntax=syntax),
            unit_bytes.change(UID, STEPS[1], syntax=syntax),
            unit_bytes.get(UID, (0x00400252,)),
            unit_bytes.RELEASE,
        ]
        yield bytes((number * 7,)) + b"".join(one)
        yield b"\x05" + one[0] + one[1] + unit_bytes.ABORT
    yield b"\0" + unit_bytes.associate(called="NOBODY")
    yield b"\0" + unit_bytes.associate(maximum_length=4)


def command_sets() -> Iterator[bytes]:
    """One of each operation."""
    for pdu in (
        unit_bytes.echo(),
        unit_bytes.find(QUERIES[0]),
        unit_bytes.cancel(),
        unit_bytes.create(UID, STEPS[0]),
        unit_bytes.change(UID, STEPS[1]),
        unit_bytes.get(UID, (0x00400252, 0x00100010)),
    ):
        length = int.from_bytes(pdu[2:6], "big")
        _, _, fragment = next(message.values(pdu[6 : 6 + length]))
        yield fragment


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
