"""An Orthanc behind HTTPS, with a certificate that a hospital's own authority has signed.

A proxy ends the TLS, as hospitals have it: Debian's Orthanc 1.10 itself crashes at the first handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from orthanc_support import RealOrthanc

from gateway.application import Gateway
from gateway.errors import SettingsInvalid
from gateway.orthanc.client import OrthancUnreachable
from gateway.orthanc.reception import client, reception
from gateway.settings import Settings
from tests.loop_in_a_thread import served

pytestmark = pytest.mark.slow


@pytest.fixture
def hospital() -> trustme.CA:
    return trustme.CA(organization_name="A hospital's own authority")


@pytest.fixture
def authority(tmp_path: Path, hospital: trustme.CA) -> Path:
    file = tmp_path / "hospital.pem"
    hospital.cert_pem.write_to_path(file)
    return file


@pytest.fixture
def address(orthanc: RealOrthanc, hospital: trustme.CA) -> Iterator[str]:
    """Where Orthanc is reached by HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    hospital.issue_cert("127.0.0.1").configure_cert(context)
    with proxied(orthanc.http, context) as port:
        yield f"https://127.0.0.1:{port}"


@contextlib.contextmanager
def proxied(to: int, context: ssl.SSLContext) -> Iterator[int]:
    """A port that takes TLS and hands the bytes on."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(copy(reader, ours), copy(theirs, writer), return_exceptions=True)

    with served(lambda: asyncio.start_server(came, "127.0.0.1", 0, ssl=context)) as port:
        yield port


def asked(url: str, **settings: Any) -> str:
    """The name of the Orthanc that these settings reach."""
    asking = client(Settings(gateway_orthanc_url=url, **settings))
    try:
        return asking.system().name
    finally:
        asking.close()


def test_it_is_believed_when_its_authority_is_named(address: str, authority: Path) -> None:
    assert asked(address, gateway_orthanc_ca_file=authority) == "ORTHANC"


def test_it_is_not_otherwise_and_the_error_names_the_setting(address: str) -> None:
    with pytest.raises(OrthancUnreachable, match=r"certificate is not believed.*GATEWAY_ORTHANC_CA_FILE"):
        asked(address)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_holds_no_authority_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "authority.pem"
    if content:
        file.write_text(content)
    settings = Settings(gateway_orthanc_url="https://localhost:1", gateway_orthanc_ca_file=file)
    with pytest.raises(SettingsInvalid, match="GATEWAY_ORTHANC_CA_FILE"):
        client(settings)


def test_the_service_is_told_before_its_doors_open(tmp_path: Path, gateway: Gateway) -> None:
    settings = Settings(gateway_orthanc_url="https://localhost:1", gateway_orthanc_ca_file=tmp_path / "missing.pem")
    with pytest.raises(SettingsInvalid, match="GATEWAY_ORTHANC_CA_FILE"):
        reception(settings, gateway)
