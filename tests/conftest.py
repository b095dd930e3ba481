"""What most tests of the doors stand on: the real application over a database of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.application import Gateway, opened


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
def gateway(database: Path) -> Iterator[Gateway]:
    with opened(database) as opened_gateway:
        yield opened_gateway
