"""A real Orthanc on free ports with a storage of its own, and DICOM files that DCMTK sends to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from bench.synthetic import PERSON
from tests.end_to_end import harness
from tests.end_to_end.harness import free_port

ORTHANC, STORESCU, STORESCP = (
    shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("Orthanc", "storescu", "storescp")
)
MISSING = [name for name, found in (("orthanc", ORTHANC), ("dcmtk", STORESCU), ("dcmtk", STORESCP)) if found is None]
"""Debian packages that these tests need and that are not here."""

PATIENCE = 20.0


def require_tools() -> None:
    """Skip the test where they are missing; in CI it fails."""
    if not MISSING:
        return
    reason = f"needs the Debian package {MISSING[0]}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def until(what: str, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What the condition gives as soon as it is something; it is asked again and again, and the wait has an end."""
    return harness.until(condition, what, seconds, every=0.05)


@dataclass
class RealOrthanc:
    """Debian's Orthanc. `stable_age` is its StableAge, in seconds."""

    folder: Path
    name: str = "ORTHANC"
    stable_age: int = 1
    modalities: dict[str, list[Any]] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.http, self.dicom = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def configuration(self) -> dict[str, Any]:
        storage = str(self.folder / "storage")
        return {
            "Name": self.name,
            "StorageDirectory": storage,
            "IndexDirectory": storage,
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": self.name,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "StableAge": self.stable_age,
            "AuthenticationEnabled": bool(self.users),
            "RegisteredUsers": self.users,
            "RemoteAccessAllowed": False,
            "Plugins": [],
            "DicomModalities": self.modalities,
            "DicomScuTimeout": 5,
            "OverwriteInstances": True,
        }

    def start(self) -> None:
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self.configuration()))
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen([str(ORTHANC), str(configuration)], stdout=log, stderr=log)
        until("Orthanc answers", self._answers)

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "orthanc.log").read_text()[-2000:]
        try:
            auth = next(iter(self.users.items()), None)
            return httpx.get(f"{self.url}/system", auth=auth, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(30)
        self.process = None

    def wipe(self) -> None:
        """Away with all that it has; it is stopped."""
        assert self.process is None
        shutil.rmtree(self.folder / "storage")

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, trust_env=False).raise_for_status().json()

    def delete(self, path: str) -> None:
        httpx.delete(self.url + path, trust_env=False).raise_for_status()

    def studies(self) -> list[str]:
        found: list[str] = self.get("/studies")
        return found

    def is_stable(self) -> bool:
        """Whether the last change says that a patient's images are complete."""
        last = self.get("/changes?last")["Changes"]
        return bool(last) and last[0]["ChangeType"] == "StablePatient"

    def instances(self) -> int:
        count: int = self.get("/statistics")["CountInstances"]
        return count


@dataclass
class Images:
    """A synthetic mammogram: one study whose images are made one by one."""

    folder: Path
    accession_number: str = "ACC001"
    study_instance_uid: str = field(default_factory=generate_uid)
    patient_id: str = PERSON["patient_id"]
    patient_name: str = PERSON["patient_name"]
    description: str = "Bilateral Mammography"
    modality: str = "MG"
    series_instance_uid: str = field(default_factory=generate_uid)

    def make(self, count: int = 1, *, new_series: bool = False) -> list[Path]:
        """So many files more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if new_series:
            self.series_instance_uid = generate_uid()
        return [self._file() for _ in range(count)]

    def _file(self) -> Path:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
        image.SOPInstanceUID = generate_uid()
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_instance_uid, self.series_instance_uid
        image.AccessionNumber, image.StudyDescription = self.accession_number, self.description
        image.PatientID, image.PatientName = self.patient_id, self.patient_name
        image.PatientBirthDate, image.PatientSex = PERSON["patient_birth_date"], "F"
        image.Modality = self.modality
        image.Rows = image.Columns = 2
        image.BitsAllocated = image.BitsStored = 8
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 7, 0, 1
        image.PhotometricInterpretation, image.PixelData = "MONOCHROME2", b"\0" * 4
        path = self.folder / f"{image.SOPInstanceUID}.dcm"
        image.save_as(path, enforce_file_format=True)
        return path


def send(files: Sequence[Path], orthanc: RealOrthanc, *, calling: str = "MAMMO1") -> None:
    """As a modality would, by DCMTK's storescu."""
    peer = ["127.0.0.1", str(orthanc.dicom)]
    done = subprocess.run(
        [str(STORESCU), "-aet", calling, "-aec", orthanc.name, *peer, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
