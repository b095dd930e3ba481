"""Orthanc as docker-compose.yml starts it: the very command and the very configuration, run by Debian's Orthanc."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.end_to_end.harness import tool
from tests.end_to_end.unit import new_uid
from tests.plugin.orthanc_server import OrthancProcess

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICE: dict[str, Any] = COMPOSE["services"]["orthanc"]
CONFIGURATION = ROOT / "docs" / "orthanc" / "orthanc.json"
[MOUNTED] = [each for each in SERVICE["volumes"] if isinstance(each, dict)]


class ComposedOrthanc(OrthancProcess):
    """The service's command; of its configuration only the places and the ports are the test's."""

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder, {}, gateway_orthanc_user="gateway", gateway_orthanc_password=password)
        self.user = ("gateway", password)

    def command_line(self) -> list[str]:
        written, text = self.folder / "orthanc.json", CONFIGURATION.read_text(encoding="utf-8")
        for theirs, ours, times in (
            ("/var/lib/orthanc/db", str(self.folder / "images"), 2),
            ('"HttpPort" : 8042', f'"HttpPort" : {self.http_port}', 1),
            ('"DicomPort" : 4242', f'"DicomPort" : {self.dicom_port}', 1),
        ):
            assert text.count(theirs) == times
            text = text.replace(theirs, ours)
        written.write_text(text, encoding="utf-8")
        shell, options, script = SERVICE["entrypoint"]
        started = f"exec Orthanc {MOUNTED['target']}"
        assert started in script
        return [shell, options, script.replace("$$", "$").replace(started, f"exec {self.program} {written}")]


def mammogram(folder: Path) -> Path:
    """An image of nobody, small and complete enough to be stored."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = new_uid(), new_uid(), new_uid()
    image.PatientID, image.PatientName, image.AccessionNumber, image.Modality = "9990000018", "SMITH^JANE", "ACC1", "MG"
    image.save_as(folder / "image.dcm", enforce_file_format=True)
    return folder / "image.dcm"


def sent(orthanc: ComposedOrthanc, image: Path) -> None:
    command = [tool("storescu", "/usr/bin/storescu"), "-aec", "ORTHANC", "127.0.0.1", str(orthanc.dicom_port), image]
    subprocess.run(command, check=True, timeout=30)
