"""Orthanc as a service of docker-compose.yml: who may look, what it takes, and that it is closed without a password."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import running, tool, until
from tests.packaging.composed_orthanc import COMPOSE, MOUNTED, SERVICE, ComposedOrthanc, mammogram, sent

pytestmark = pytest.mark.slow


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[ComposedOrthanc]:
    process = ComposedOrthanc(tmp_path / "orthanc", "synthetic-1")
    with running(process):
        yield process.start()


def test_the_file_that_is_mounted_is_the_one_in_the_repository_and_cannot_be_written() -> None:
    assert MOUNTED["source"] == "${ORTHANC_CONFIG_FILE:-./docs/orthanc/orthanc.json}"
    assert MOUNTED["read_only"]
    assert "orthanc-images:/var/lib/orthanc/db" in SERVICE["volumes"]
    assert "orthanc-images" in COMPOSE["volumes"]


def test_its_image_is_pinned_and_its_web_page_is_for_this_machine_only() -> None:
    _, _, tag = SERVICE["image"].partition(":")
    assert tag
    assert tag != "latest"
    assert "${ORTHANC_HTTP_HOST:-127.0.0.1}:${ORTHANC_HTTP_PORT:-8042}:8042" in SERVICE["ports"]


def test_the_gateway_and_orthanc_are_given_the_same_user() -> None:
    gateway = COMPOSE["services"]["gateway"]["environment"]
    for name in ("GATEWAY_ORTHANC_USER", "GATEWAY_ORTHANC_PASSWORD"):
        assert gateway[name] == SERVICE["environment"][name]


def test_only_who_has_the_password_of_env_may_look(orthanc: ComposedOrthanc) -> None:
    answer = orthanc.get("/system")
    assert answer is not None
    assert (answer[0], answer[1]["DicomAet"]) == (200, "ORTHANC")
    for stranger in (None, ("gateway", ""), ("gateway", "guessed"), ("orthanc", "orthanc")):
        orthanc.user = stranger
        answer = orthanc.get("/system")
        assert answer is not None
        assert answer[0] == 401


def test_it_takes_images_and_gives_none_to_strangers(orthanc: ComposedOrthanc, tmp_path: Path) -> None:
    sent(orthanc, mammogram(tmp_path))
    answer = orthanc.get("/studies?expand")
    assert answer is not None
    [study] = answer[1]
    assert study["MainDicomTags"]["AccessionNumber"] == "ACC1"
    find = [tool("findscu", "/usr/bin/findscu"), "-S", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=STUDY"]
    find += ["-k", "AccessionNumber", "127.0.0.1", str(orthanc.dicom_port)]
    asked = subprocess.run(find, capture_output=True, text=True, timeout=30, check=False)
    assert "ACC1" not in asked.stdout + asked.stderr


def test_without_a_password_nobody_can_sign_in_and_images_are_taken_all_the_same(tmp_path: Path) -> None:
    orthanc = ComposedOrthanc(tmp_path / "orthanc", "")
    with running(orthanc):
        orthanc.start()
        for user in (None, ("gateway", ""), ("", "")):
            orthanc.user = user
            answer = orthanc.get("/system")
            assert answer is not None
            assert answer[0] == 401
        sent(orthanc, mammogram(tmp_path))
        assert until(lambda: list((tmp_path / "orthanc" / "images").glob("??/??/*")), "the image is on the disk")
        assert "GATEWAY_ORTHANC_PASSWORD" in orthanc.output()
        assert orthanc.stop(seconds=30) == 0
