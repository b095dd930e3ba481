"""DCMTK's findscu asks by every key of Table K.6-1 (PS3.4), in every way of C.2.2.2, and from files of dump2dcm's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from bench.synthetic import appointment
from gateway.application import Gateway, opened
from gateway.dicom.caller import Caller
from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.domain.lifecycle import Status
from projections.worklist import WorklistFilter
from tests.interop.awaiting_cancel import AwaitingCancel
from tests.serving import serving

FINDSCU, DUMP2DCM = Path("/usr/bin/findscu"), Path("/usr/bin/dump2dcm")
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

STEP = "ScheduledProcedureStepSequence[0]."
DATE, TIME = f"{STEP}ScheduledProcedureStepStartDate", f"{STEP}ScheduledProcedureStepStartTime"
STATION, STATUS = f"{STEP}ScheduledStationAETitle", f"{STEP}ScheduledProcedureStepStatus"
PHYSICIAN = f"{STEP}ScheduledPerformingPhysicianName"

ITEMS = [
    appointment(
        "ACC0",
        patient_name="SMITH^JOHN",
        patient_id="9990000026",
        patient_sex="M",
        patient_birth_date="19500101",
        station_ae_titles=("MAMMO1",),
        performing_physician="DOE^JOHN",
        location="VAN 1",
    ),
    appointment(
        "ACC1",
        patient_id="9990000034",
        scheduled_time="220000",
        station_ae_titles=("MAMMO1", "MAMMO2"),
        study_description="50%_[A] view",
    ),
    appointment(
        "ACC2",
        patient_name="MÜLLER^ZOË",
        patient_id="9990000042",
        scheduled_date="20261124",
        scheduled_time="090000",
        modality="US",
        station_ae_titles=("MAMMO2",),
    ),
    appointment(
        "ACC3",
        patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう",
        patient_id="A%_[1]",
        scheduled_date="20261125",
        scheduled_time="103000",
    ),
    appointment("ACC4", patient_name="JONES^MARY", patient_id="9990000069"),
]
"""In the order of date and time; the last one is completed."""


@pytest.fixture(scope="module", autouse=True)
def _dcmtk() -> None:
    for tool in (FINDSCU, DUMP2DCM):
        if not tool.exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{tool} is missing (Debian package dcmtk)")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with opened(tmp_path_factory.mktemp("dcmtk-keys") / "gateway.db") as gateway:
        for item in ITEMS:
            gateway.schedule(item)
        gateway.correct_status("ACC4", Status.COMPLETED, reason="for the test", operator="tester")
        yield gateway


@pytest.fixture(scope="module")
def server(gateway: Gateway) -> Iterator[AssociationServer]:
    with serving(Responder(gateway)) as server:
        yield server


def findscu(server: AssociationServer, *arguments: str | bytes | Path, file: Path | None = None) -> str:
    """What it says; arguments of bytes go out as they are."""
    command = [FINDSCU, "-v", "-W", "-aec", "ORTHANC_MWL", *arguments, "127.0.0.1", str(server.port)]
    command += [file] if file else []
    result = subprocess.run([os.fsencode(word) for word in command], capture_output=True, timeout=60, check=False)
    return (result.stdout + result.stderr).decode("latin-1")


def keyed(*keys: str | bytes) -> list[str | bytes]:
    return [word for key in keys for word in ("-k", key)]


def listed(output: str) -> list[int]:
    """Which of `ITEMS`, in the order of the answers."""
    assert "Received Final Find Response (Success)" in output, output
    _, _, answers = output.partition("Find Response: 1")
    return [int(number) for number in re.findall(r"\(0008,0050\) SH \[ACC(\d)", answers)]


def find(server: AssociationServer, *keys: str | bytes) -> list[int]:
    return listed(findscu(server, *keyed("AccessionNumber", *keys)))


# --- every key


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("AccessionNumber=ACC1", [1]),
        ("RequestedProcedureID=ACC2", [2]),
        ("PatientID=9990000042", [2]),
        ("PatientID= 9990000042 ", [2]),
        ("PatientName=SMITH^JANE", [1]),
        ("PatientSex=M", [0]),
        ("PatientBirthDate=19500101", [0]),
        ("PatientBirthDate=-19600101", [0]),
        ("RequestedProcedureDescription=Bilateral Mammography", [0, 2, 3]),
        (f"{STEP}Modality=US", [2]),
        (f"{STEP}ScheduledProcedureStepID=ACC3", [3]),
        (f"{STEP}ScheduledProcedureStepDescription=Bilateral*", [0, 2, 3]),
        (f"{STEP}ScheduledProcedureStepLocation=VAN 1", [0]),
        (f"{PHYSICIAN}=DOE^JOHN", [0]),
        (f"{PHYSICIAN}=doe*", [0]),
    ],
)
def test_each_matching_key_of_table_k_6_1(server: AssociationServer, key: str, found: list[int]) -> None:
    assert find(server, key) == found


@pytest.mark.parametrize(
    "key", ["IssuerOfPatientID=NHS", "ReferringPhysicianName=NOBODY", "AdmissionID=7", f"{STEP}PreMedication=NONE"]
)
def test_an_optional_key_that_is_not_held_hides_nothing_k_2_2_1_1_2(server: AssociationServer, key: str) -> None:
    assert find(server, key) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "key", ["PatientName", "PatientName=*", f"{STATION}=*", f"{PHYSICIAN}=*", f"{DATE}", STEP[:-4]]
)
def test_universal_in_all_its_forms_c_2_2_2_3(server: AssociationServer, key: str) -> None:
    assert find(server, key) == [0, 1, 2, 3]


def test_an_unknown_value_matches_only_what_is_universal_k_2_2_1_1_1(server: AssociationServer) -> None:
    assert find(server, f"{PHYSICIAN}=?*") == [0]


def test_a_list_of_uid_finds_each_of_them_c_2_2_2_2(server: AssociationServer, gateway: Gateway) -> None:
    uids = {row.accession_number: row.study_instance_uid for row in gateway.find_items(WorklistFilter())}
    assert find(server, f"StudyInstanceUID={uids['ACC0']}") == [0]
    assert find(server, f"StudyInstanceUID={uids['ACC0']}\\{uids['ACC3']}\\1.2.3") == [0, 3]
    assert find(server, "StudyInstanceUID=1.2.3") == []


@pytest.mark.parametrize(
    ("title", "found"),
    [("MAMMO1", [0, 1, 3]), ("MAMMO2", [1, 2, 3]), ("MAMMO9", [3]), (" MAMMO2 ", [1, 2, 3]), ("mammo1", [3])],
)
def test_any_of_an_items_stations_and_one_without_for_all(
    server: AssociationServer, title: str, found: list[int]
) -> None:
    assert find(server, f"{STATION}={title}") == found


@pytest.mark.parametrize(
    ("status", "found"),
    [("", [0, 1, 2, 3]), ("SCHEDULED", [0, 1, 2, 3]), ("COMPLETED", [4]), ("IN PROGRESS", []), ("STARTED", [])],
)
def test_other_statuses_are_listed_when_they_are_asked_for(
    server: AssociationServer, status: str, found: list[int]
) -> None:
    assert find(server, f"{STATUS}={status}") == found


# --- dates and times


@pytest.mark.parametrize(
    ("date", "time", "found"),
    [
        ("20261123", "", [0, 1]),
        ("20261124-", "", [2, 3]),
        ("-20261123", "", [0, 1]),
        ("20261123-20261124", "", [0, 1, 2]),
        ("20261126-", "", []),
        ("2026.11.24", "", [2]),
        ("", "10", [0, 3]),
        ("", "1030", [3]),
        ("", "103000.000000", [3]),
        ("", "-0900", [2]),
        ("", "1030-2200", [1, 3]),
        ("20261123", "2100-", [1]),
        ("20261123-20261125", "2100-1000", [1, 2]),
        ("20261123-20261125", "1000-1030", [0, 1, 2, 3]),
        ("20261123-20261125", "1001-1029", [1, 2]),
        ("20261124-", "1000-", [3]),
    ],
)
def test_dates_times_and_both_as_one_period_c_2_2_2_5_and_table_k_6_1(
    server: AssociationServer, date: str, time: str, found: list[int]
) -> None:
    assert find(server, f"{DATE}={date}", f"{TIME}={time}") == found


# --- wildcards and names


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("PatientName=SM?TH*", [0, 1]),
        ("PatientName=*^JANE", [1]),
        ("PatientName=smith^jane^^^", [1]),
        ("PatientName=SMITH^JANE==", [1]),
        ("PatientName=muller^zoe", [2]),
        ("PatientName=yamada*", [3]),
        ("PatientName=%", []),
        ("PatientName=SMITH_JANE", []),
        ("PatientName=[A-Z]*", []),
        ("PatientID=A%_[1]", [3]),
        ("PatientID=A%*", [3]),
        ("PatientID=999000002?", [0]),
        ("PatientID=999000002_", []),
        ("RequestedProcedureDescription=50%_[[]*", []),
        ("RequestedProcedureDescription=50%_[A]*", [1]),
        ("AccessionNumber=ACC[01]", []),
        ("AccessionNumber=ACC?", [0, 1, 2, 3]),
    ],
)
def test_wildcards_are_two_and_all_else_is_plain_c_2_2_2_4(
    server: AssociationServer, key: str, found: list[int]
) -> None:
    assert find(server, key) == found


# --- character sets


@pytest.mark.parametrize(
    ("declared", "name", "found"),
    [
        ("ISO_IR 100", "MÜLLER*".encode("latin-1"), [2]),
        ("ISO_IR 100", "müller^zoë".encode("latin-1"), [2]),
        ("ISO_IR 192", "MÜLLER*".encode(), [2]),
        ("ISO_IR 192", "=山田*".encode(), [3]),
        ("ISO_IR 192", b"M??LLER*", []),
        ("ISO 2022 IR 100", "MÜLLER*".encode("latin-1"), [2]),
        ("\\ISO 2022 IR 87", b"=" + "山田^太郎".encode("iso2022_jp"), [3]),
        ("\\ISO 2022 IR 87", b"SMITH*", [0, 1]),
        ("ISO_IR 13", b"SMITH*", [0, 1]),
        ("NO SUCH SET", b"SMITH*", [0, 1]),
    ],
)
def test_a_key_is_read_in_the_set_that_the_query_declares_c_12_1_1_2(
    server: AssociationServer, declared: str, name: bytes, found: list[int]
) -> None:
    assert find(server, f"SpecificCharacterSet={declared}", b"PatientName=" + name) == found


@pytest.mark.parametrize(
    ("declared", "patient_id", "name"),
    [
        ("ISO_IR 100", "9990000042", "MÜLLER^ZOË"),
        ("ISO_IR 192", "9990000042", "MÜLLER^ZOË"),
        ("ISO_IR 192", "A%_[1]", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 100", "9990000034", "SMITH^JANE"),
    ],
)
def test_a_name_comes_back_whole_in_the_askers_set(
    server: AssociationServer, tmp_path: Path, declared: str, patient_id: str, name: str
) -> None:
    keys = keyed(f"SpecificCharacterSet={declared}", f"PatientID={patient_id}", "PatientName")
    findscu(server, "-X", "-od", tmp_path, *keys)
    (file,) = tmp_path.iterdir()
    answer = dcmread(file)
    assert str(answer.PatientName) == name
    assert answer.get("SpecificCharacterSet", "") == ("" if name.isascii() else declared)


# --- query files


def query_file(folder: Path, dump: str, *options: str) -> Path:
    """The data set that dump2dcm makes of a dump, without meta information."""
    source, made = folder / "query.dump", folder / "query.dcm"
    source.write_text(dump)
    subprocess.run([DUMP2DCM, "-q", *options, "--write-dataset", source, made], timeout=60, check=True)
    return made


BROAD = """
(0008,0005) CS [ISO_IR 100]
(0008,0050) SH []
(0008,0090) PN []
(0008,1110) SQ
(fffe,e0dd) -
(0009,0010) LO [A UNIT]
(0009,1001) LO [PRIVATE]
(0010,0010) PN []
(0010,0020) LO []
(0010,0030) DA []
(0010,0040) CS []
(0010,1000) LO []
(0010,1030) DS []
(0010,2160) SH []
(0010,21c0) US
(0020,000d) UI []
(0032,1032) PN []
(0032,1060) LO []
(0032,1064) SQ
(fffe,e000) -
(0008,0100) SH []
(0008,0102) SH []
(0008,0103) SH []
(0008,0104) LO []
(fffe,e00d) -
(fffe,e0dd) -
(0038,0010) LO []
(0038,0050) LO []
(0038,0300) LO []
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MG]
(0040,0001) AE [MAMMO1]
(0040,0002) DA [20261123-20261123]
(0040,0003) TM []
(0040,0006) PN []
(0040,0007) LO []
(0040,0009) SH []
(0040,0010) SH []
(0040,0011) SH []
(fffe,e00d) -
(fffe,e0dd) -
(0040,1001) SH []
(0040,1003) SH []
"""


@pytest.mark.parametrize("lengths", ["-e", "+e"], ids=["undefined", "explicit"])
@pytest.mark.parametrize("groups", ["+g", "-g"], ids=["group lengths", "none"])
def test_the_broad_query_of_a_unit_from_a_file(
    server: AssociationServer, tmp_path: Path, lengths: str, groups: str
) -> None:
    output = findscu(server, "-xi", file=query_file(tmp_path, BROAD, lengths, groups, "+ti"))
    assert listed(output) == [0, 1]
    answers = output.partition("Find Response: 1")[2]
    for returned in (
        "(0010,21c0) US (no value available)",
        "(0008,1110) SQ",
        "(0040,0003) TM [100000]",
        "(0032,1064) SQ",
    ):
        assert returned in answers
    assert "(0009,1001)" not in answers


@pytest.mark.parametrize("syntax", [(IMPLICIT, "+ti"), (EXPLICIT, "+te")], ids=["implicit", "explicit"])
@pytest.mark.parametrize("lengths", ["-e", "+e"], ids=["undefined", "explicit"])
def test_the_bytes_that_dump2dcm_makes_are_read_7_5(
    gateway: Gateway, tmp_path: Path, lengths: str, syntax: tuple[str, str]
) -> None:
    """findscu itself sends no undefined lengths, so its own bytes are handed over as a unit would send them."""
    uid, option = syntax
    data = query_file(tmp_path, BROAD, lengths, "+g", option).read_bytes()
    assert (b"\xff\xff\xff\xff" in data) is (lengths == "-e")
    caller = Caller("MAMMO1", "ORTHANC_MWL", "192.0.2.7", 50000)
    *pending, last = Responder(gateway).find(caller, data, uid, lambda: False)
    assert last.status == 0x0000
    assert len(pending) == 2


# --- refusals and cancels


@pytest.mark.parametrize(
    ("keys", "element"),
    [
        ([f"{DATE}=20260230"], "(0040,0002)"),
        ([f"{DATE}=-"], "(0040,0002)"),
        ([f"{TIME}=2460"], "(0040,0003)"),
        (["PatientBirthDate=1965"], "(0010,0030)"),
        (["StudyInstanceUID=1.2.*"], "(0020,000d)"),
        ([f"{STEP}Modality=MG", "ScheduledProcedureStepSequence[1].Modality=US"], "(0040,0100)"),
        ([b"PatientName=M\xdcLLER*"], "(0010,0010)"),
        (["SpecificCharacterSet=ISO_IR 192", b"PatientName=M\xdcLLER*"], "(0010,0010)"),
    ],
    ids=str,
)
def test_an_identifier_that_can_not_be_read_is_refused_with_its_element_k_4_1_1_4(
    server: AssociationServer, keys: list[str | bytes], element: str
) -> None:
    output = findscu(server, "-d", *keyed("AccessionNumber", *keys))
    assert re.search(r"DIMSE Status +: 0xa900", output)
    assert "Find Response: 1" not in output
    assert re.search(rf"\(0000,0901\) AT {re.escape(element)}", output), output


def test_an_identifier_without_any_key_of_the_model_is_refused(server: AssociationServer) -> None:
    assert "DataSetDoesNotMatchSOPClass" in findscu(server, *keyed("QueryRetrieveLevel=WORKLIST"))


@pytest.mark.parametrize("answers", [1, 3])
def test_a_cancel_after_so_many_answers_ends_in_fe00(gateway: Gateway, answers: int) -> None:
    responder = AwaitingCancel(gateway)
    responder.answers = answers
    with serving(responder) as server:
        output = findscu(server, "--cancel", str(answers), *keyed("AccessionNumber"))
    assert "Received Final Find Response (Cancel: MatchingTerminatedDueToCancelRequest)" in output
    assert f"Find Response: {answers} (Pending)" in output
    assert f"Find Response: {answers + 1} " not in output
