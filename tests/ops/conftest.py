"""A gateway on a real file, and settings that nothing outside the test has a say in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings


@pytest.fixture
def own_settings(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of a service on free ports."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def made(**changes: Any) -> Settings:
        return Settings(
            **{
                "worklist_db_path": database,
                "gateway_dicom_host": "127.0.0.1",
                "gateway_dicom_port": 0,
                "gateway_ops_port": 0,
            }
            | changes
        )

    return made
