"""Orthancs of Debian's, each with a folder of its own; they end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from orthanc_support import Images, RealOrthanc, require_tools

Start = Callable[..., RealOrthanc]


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[Start]:
    """Starts one; `name` is its folder and its AE title, too."""
    require_tools()
    started: list[RealOrthanc] = []

    def start(name: str = "ORTHANC", **settings: object) -> RealOrthanc:
        orthanc = RealOrthanc(tmp_path / name, name, **settings)  # type: ignore[arg-type]  # as the test says
        orthanc.start()
        started.append(orthanc)
        return orthanc

    yield start
    for orthanc in started:
        orthanc.stop()


@pytest.fixture
def orthanc(start_orthanc: Start) -> RealOrthanc:
    return start_orthanc()


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """Of Jane Smith's appointment ACC001."""
    return Images(tmp_path / "images")
