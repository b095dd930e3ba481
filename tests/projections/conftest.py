"""A gateway on a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import Gateway, opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def gateway(path: Path) -> Iterator[Gateway]:
    with opened(path) as opened_gateway:
        yield opened_gateway
