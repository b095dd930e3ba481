"""Associations within TLS (PS3.15 B.12), by either engine: who gets in, by which TLS, whom a silent client blocks."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from dicom_samples import AE_TITLE, InMemory, captured_logs, query, samples
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind
from raw_peer import associate_rq
from tls_certificates import Hospital, Pair

from gateway.dicom.engines import AssociationServer
from gateway.dicom.responder import Responder
from gateway.dicom.tls import TlsPortUnusable, tls_door
from gateway.errors import CertificateUnusable
from gateway.rehearsal.requestor import associate
from tests.serving import association_server, serving

OPENSSL = Path("/usr/bin/openssl")
MINUTE = 60.0
LOGGED_WITHIN = 10.0

Logs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("another"), "another")


class Told(Responder):
    """Says when a connection broke: that is after the caller knows of it."""

    def __init__(self) -> None:
        super().__init__(InMemory(samples()))
        self.reasons: list[str] = []
        self.broken = threading.Semaphore(0)

    def connection_broken(self, address: str, *, reason: str) -> None:
        super().connection_broken(address, reason=reason)
        self.reasons.append(reason)
        self.broken.release()

    def reason(self) -> str:
        """Of the next one that broke."""
        assert self.broken.acquire(timeout=LOGGED_WITHIN), "nobody was told"
        return self.reasons[-1]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def server(told: Told, hospital: Hospital) -> Iterator[AssociationServer]:
    """One that asks its callers for a certificate of the hospital's."""
    with serving(told, tls=hospital.door(callers=hospital)) as server:
        yield server


def answers(port: int | None, context: ssl.SSLContext | None) -> list[str]:
    """The accession numbers that a query there brings."""
    entity = AE(ae_title="MAMMO1")
    entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = 10
    entity.add_requested_context(ModalityWorklistInformationFind)
    peer = associate(entity, "127.0.0.1", port, ae_title=AE_TITLE, tls_args=(context, "localhost") if context else None)
    assert peer.is_established
    found = [
        answer.AccessionNumber
        for _, answer in peer.send_c_find(
            query({"Modality": "MG"}, AccessionNumber=""), ModalityWorklistInformationFind
        )
        if answer
    ]
    peer.release()
    return found


@contextmanager
def connected(server: AssociationServer) -> Iterator[socket.socket]:
    assert server.tls_port
    with socket.create_connection(("127.0.0.1", server.tls_port), timeout=MINUTE) as connection:
        yield connection


def refused(server: AssociationServer, context: ssl.SSLContext) -> bool:
    """Whether the handshake fails; with TLS 1.3 a client is told when it first reads."""
    try:
        with connected(server) as connection, context.wrap_socket(connection, server_hostname="localhost") as secured:
            return not secured.recv(1)
    except OSError:
        return True


def test_the_same_is_answered_at_both_doors(server: AssociationServer, hospital: Hospital) -> None:
    assert server.tls_port != server.port
    plainly = answers(server.port, None)
    assert plainly == ["ACC000", "ACC001", "ACC002"]
    assert answers(server.tls_port, hospital.trusting(hospital.modality)) == plainly


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server: AssociationServer, hospital: Hospital, version: ssl.TLSVersion) -> None:
    context = hospital.trusting(hospital.modality)
    context.minimum_version = context.maximum_version = version
    assert answers(server.tls_port, context) == ["ACC000", "ACC001", "ACC002"]


def test_a_request_in_one_segment_with_the_end_of_the_handshake_is_heard(
    server: AssociationServer, hospital: Hospital
) -> None:
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside = hospital.trusting(hospital.modality).wrap_bio(received, sent, server_hostname="localhost")
    with connected(server) as connection:

        def once_it_came(attempt: Callable[[], Any]) -> Any:
            while True:
                with suppress(ssl.SSLWantReadError):
                    return attempt()
                connection.sendall(sent.read())
                received.write(connection.recv(65536))

        once_it_came(inside.do_handshake)
        inside.write(associate_rq())
        assert once_it_came(lambda: inside.read(1)) == b"\x02"


def test_only_the_suites_of_b_12_are_offered_for_tls_1_2(hospital: Hospital) -> None:
    offered = {suite["name"] for suite in hospital.door().context.get_ciphers() if suite["protocol"] != "TLSv1.3"}
    assert offered == {f"ECDHE-{key}-AES{bits}-GCM-SHA{hashed}" for key in ("ECDSA", "RSA") for bits, hashed in
                       (("128", "256"), ("256", "384"))}  # fmt: skip


def test_nobody_renegotiates(hospital: Hospital) -> None:
    assert hospital.door().context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "the caller offers no TLS 1.2 or newer"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], "the caller offers no cipher suite of PS3.15 B.12"),
    ],
    ids=["TLS 1.1", "CBC"],
)
def test_older_tls_and_weaker_suites_are_refused(
    server: AssociationServer, told: Told, hospital: Hospital, options: list[str], reason: str
) -> None:
    if not OPENSSL.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{OPENSSL} is missing (Debian package openssl)")
    shown = ["-cert", hospital.modality.certificate, "-key", hospital.modality.key]
    command = [OPENSSL, "s_client", "-connect", f"127.0.0.1:{server.tls_port}", *shown, *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=MINUTE, check=False)
    assert done.returncode != 0
    assert told.reason() == f"TLS handshake failed: {reason}"


def test_a_caller_without_a_certificate_is_refused_and_logged(
    server: AssociationServer, told: Told, hospital: Hospital
) -> None:
    with captured_logs() as logs:
        assert refused(server, hospital.trusting())
        assert told.reason() == "TLS handshake failed: the caller shows no certificate"
    assert [(line["event"], line["address"]) for line in logs] == [("connection_broken", "127.0.0.1")]


def test_a_certificate_of_another_authority_is_refused_and_logged(
    server: AssociationServer, told: Told, hospital: Hospital, another: Hospital
) -> None:
    assert refused(server, hospital.trusting(another.modality))
    assert told.reason().startswith("TLS handshake failed: the caller's certificate is not accepted: unable to get")


def test_a_caller_that_does_not_know_our_authority_is_logged(
    server: AssociationServer, told: Told, hospital: Hospital, another: Hospital
) -> None:
    assert refused(server, another.trusting(hospital.modality))
    assert told.reason() == "TLS handshake failed: the caller does not know the authority of our certificate"


def test_who_connects_and_leaves_is_not_told_of(server: AssociationServer, told: Told, hospital: Hospital) -> None:
    with connected(server):
        pass
    assert answers(server.tls_port, hospital.trusting(hospital.modality))
    assert told.reasons == []


def test_plain_dicom_at_the_tls_port_is_told_apart(server: AssociationServer, told: Told) -> None:
    with connected(server) as connection:
        connection.sendall(bytes.fromhex("010000000100") + bytes(256))
        assert told.reason() == (
            "TLS handshake failed: the caller does not speak TLS: it may have the port of plain associations in mind"
        )


def test_without_an_authority_any_caller_is_served(hospital: Hospital) -> None:
    with serving(Responder(InMemory(samples())), tls=hospital.door()) as server:
        assert answers(server.tls_port, hospital.trusting()) == ["ACC000", "ACC001", "ACC002"]


def test_clients_that_are_silent_in_the_handshake_block_nobody(server: AssociationServer, hospital: Hospital) -> None:
    with ExitStack() as silent:
        for _ in range(20):
            silent.enter_context(connected(server))
        assert answers(server.tls_port, hospital.trusting(hospital.modality)) == ["ACC000", "ACC001", "ACC002"]
        assert answers(server.port, None) == ["ACC000", "ACC001", "ACC002"]


def test_a_handshake_has_a_deadline_however_its_bytes_drip_in(told: Told, hospital: Hospital) -> None:
    with serving(told, tls=hospital.door(), acse_timeout=0.3) as server, connected(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")  # the header of a ClientHello of 512 bytes
        while not told.broken.acquire(timeout=0.05):
            try:
                connection.sendall(b"\0")
            except ConnectionError:
                break
        assert told.reasons == ["TLS handshake failed: the caller did not finish it in time"]


def test_a_stop_waits_for_no_handshake(told: Told, hospital: Hospital) -> None:
    with serving(told, tls=hospital.door(), acse_timeout=10 * MINUTE) as server, connected(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00")
        assert answers(server.tls_port, hospital.trusting()) == ["ACC000", "ACC001", "ACC002"]  # it was taken before
        server.stop(deadline=MINUTE)
        assert connection.recv(1) == b""


def test_when_the_tls_port_is_taken_neither_door_opens(hospital: Hospital) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = int(holder.getsockname()[1])
        door = tls_door(taken, hospital.gateway.certificate, hospital.gateway.key)
        server = association_server(Responder(InMemory()), tls=door)
        with pytest.raises(TlsPortUnusable, match="in use"):
            server.start()
    assert not server.listening


# --- files that can't be used


def locked(key: Path, folder: Path) -> Path:
    encoded = load_pem_private_key(key.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
    )
    return written(folder, "locked.key", encoded)


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


UNUSABLE: dict[str, tuple[Callable[[Hospital, Path], tuple[Pair, Path | None]], str, str]] = {
    "no certificate file": (
        lambda h, folder: (Pair(folder / "none.pem", h.gateway.key), None),
        "GATEWAY_DICOM_TLS_CERT",
        "none.pem can't be read: No such file or directory",
    ),
    "no certificate in it": (
        lambda h, folder: (Pair(written(folder, "text.pem", b"hello"), h.gateway.key), None),
        "GATEWAY_DICOM_TLS_CERT",
        "text.pem holds no certificate",
    ),
    "no key in it": (
        lambda h, folder: (Pair(h.gateway.certificate, h.authority), None),
        "GATEWAY_DICOM_TLS_KEY",
        "authority.pem holds no private key",
    ),
    "a broken key": (
        lambda h, folder: (
            Pair(h.gateway.certificate, written(folder, "broken.key", h.gateway.key.read_bytes()[:90])),
            None,
        ),
        "GATEWAY_DICOM_TLS_KEY",
        "broken.key can't be used",
    ),
    "the key of another certificate": (
        lambda h, folder: (Pair(h.gateway.certificate, h.modality.key), None),
        "GATEWAY_DICOM_TLS_KEY",
        "modality.key holds the key of another certificate than",
    ),
    "a key with a passphrase": (
        lambda h, folder: (Pair(h.gateway.certificate, locked(h.gateway.key, folder)), None),
        "GATEWAY_DICOM_TLS_KEY",
        "locked.key is locked by a passphrase",
    ),
    "no authority": (
        lambda h, folder: (h.gateway, written(folder, "ca.pem", b"hello")),
        "GATEWAY_DICOM_TLS_CA",
        "ca.pem holds no certificate authority",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_file_that_can_t_be_used_is_named_with_its_setting_and_a_remedy(
    hospital: Hospital, tmp_path: Path, case: str
) -> None:
    make, setting, what = UNUSABLE[case]
    pair, authority = make(hospital, tmp_path)
    with pytest.raises(CertificateUnusable) as refused:
        tls_door(0, pair.certificate, pair.key, authority)
    assert refused.value.code == "certificate_unusable"
    assert refused.value.message.startswith(f"{setting}: /")
    assert what in refused.value.message
    assert refused.value.remedy
    assert not any(line in str(refused.value) for line in pair.key.read_text().splitlines())


def test_certificate_and_key_may_stand_in_one_file(hospital: Hospital, tmp_path: Path) -> None:
    both = written(tmp_path, "both.pem", hospital.gateway.certificate.read_bytes() + hospital.gateway.key.read_bytes())
    assert tls_door(0, both).valid_until == hospital.door().valid_until
    with pytest.raises(CertificateUnusable, match=r"holds no private key → set GATEWAY_DICOM_TLS_KEY too"):
        tls_door(0, hospital.gateway.certificate)
