"""The service serves modalities by the file that its setting names."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from gateway.dicom.caller import Caller
from gateway.errors import SettingsInvalid
from gateway.service import Service
from gateway.settings import load


def caller(ae_title: str) -> Caller:
    return Caller(ae_title, "ORTHANC_MWL", "192.0.2.7", 50000)


def test_the_file_of_modalities_is_in_force(tmp_path: Path) -> None:
    file = tmp_path / "modalities.toml"
    file.write_text('[[modality]]\nae_title = "MAMMO1"\n', encoding="utf-8")
    made = Service(load(worklist_db_path=tmp_path / "gateway.db", gateway_modalities_file=file))
    try:
        with closing(made.gateway):
            assert made.dicom.responder.rejection(caller("MAMMO1")) is None
            assert made.dicom.responder.rejection(caller("MAMMO2"))
    finally:
        made._ownership.release()


def test_a_service_with_a_file_that_can_t_be_used_does_not_start_and_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "modalities.toml"
    file.write_text("answer_limit = 0\n", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match=r"GATEWAY_MODALITIES_FILE: .*answer_limit: belongs under"):
        Service(load(worklist_db_path=tmp_path / "data" / "gateway.db", gateway_modalities_file=file))
    assert not (tmp_path / "data").exists()
