"""What we write with code extensions, read by DCMTK: beside pydicom another codec that is not ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gateway.dicom import data_set
from gateway.dicom.character_sets import SPECIFIC_CHARACTER_SET, CharacterSet, sets_of
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN, Element

DCMDUMP = Path("/usr/bin/dcmdump")
PATIENT_NAME = 0x00100010


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东a东"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪a吉^吉洞"),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", "Müller^Люaю ü"),
        ("ISO 2022 IR 144\\ISO 2022 IR 100\\ISO 2022 IR 149", "Лü洪Л^洪"),
        ("ISO_IR 166", "สมชาย"),
        ("GB18030", "王^小东ü"),
    ],
)
def test_dcmtk_reads_the_same_name(tmp_path: Path, asked: str, name: str) -> None:
    if not DCMDUMP.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{DCMDUMP} is missing (Debian package dcmtk)")
    written = sets_of(CharacterSet.of(asked))[-1]
    elements = [
        Element(SPECIFIC_CHARACTER_SET, "CS", str(written).encode("ascii")),
        Element(PATIENT_NAME, "PN", written.encode(name, "PN")),
    ]
    file = tmp_path / "answer.dcm"
    file.write_bytes(data_set.encode(elements, IMPLICIT_VR_LITTLE_ENDIAN))
    shown = subprocess.run([DCMDUMP, "-f", "-ti", "+U8", file], capture_output=True, timeout=60, check=True)
    assert f"PN [{name}]" in shown.stdout.decode("utf-8")
