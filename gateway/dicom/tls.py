"""Associations within TLS, by the BCP 195 RFC 8996, 9325 profile (PS3.15 B.12): TLS 1.2 and newer, forward secrecy.

Whoever has the authority's certificate configured requires callers to prove themselves by a certificate it signed.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from gateway.errors import CertificateUnusable

_CERT = "GATEWAY_DICOM_TLS_CERT"
_KEY = "GATEWAY_DICOM_TLS_KEY"
_CA = "GATEWAY_DICOM_TLS_CA"

_CIPHERS = "ECDHE+AESGCM"
"""The four suites that PS3.15 B.12 (by RFC 9325 4.2) names for TLS 1.2; those of TLS 1.3 are OpenSSL's default."""

_FAILURES = {
    "UNSUPPORTED_PROTOCOL": "the caller offers no TLS 1.2 or newer",
    "VERSION_TOO_LOW": "the caller offers no TLS 1.2 or newer",
    "NO_SHARED_CIPHER": "the caller offers no cipher suite of PS3.15 B.12",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the caller shows no certificate",
    "WRONG_VERSION_NUMBER": "the caller does not speak TLS: it may have the port of plain associations in mind",
    "HTTP_REQUEST": "the caller speaks HTTP",
    "TLSV1_ALERT_UNKNOWN_CA": "the caller does not know the authority of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the caller does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the caller does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the caller does not accept our certificate: it has ended",
}
"""OpenSSL's reasons, as a person says them."""


class TlsPortUnusable(OSError):
    """The port for TLS can't be had; `errno` and `strerror` are the system's."""


@dataclass(frozen=True, slots=True)
class TlsDoor:
    """The port at which associations are taken within TLS; port 0 takes any free one."""

    port: int
    context: ssl.SSLContext
    valid_until: datetime
    """When the certificate shown to callers ends. One that has ended is shown all the same: many units do not look."""

    @property
    def callers_authenticated(self) -> bool:
        """Whether a caller without a certificate of the configured authority is turned away."""
        return self.context.verify_mode is ssl.CERT_REQUIRED


def tls_door(port: int, certificate: Path, key: Path | None = None, authority: Path | None = None) -> TlsDoor:
    """The door with our certificate (PEM, its chain after it), its private key, and the callers' authority.

    Without `key` it stands in the certificate's file; without `authority` callers are not authenticated. Raises
    `CertificateUnusable`, which names the setting and the file, never their content.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    valid_until = ends_at(_CERT, certificate)
    _load_pair(context, certificate, key)
    if authority:
        _load_authority(context, authority)
    return TlsDoor(port, context, valid_until)


def handshake_failure(error: OSError) -> str:
    """Why a caller's handshake failed, in the words of the record and the log; "" when it just left, as probes do."""
    if isinstance(error, TimeoutError):
        why = "the caller did not finish it in time"
    elif isinstance(error, ssl.SSLCertVerificationError):
        why = f"the caller's certificate is not accepted: {error.verify_message}"
    elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        why = _FAILURES.get(error.reason or "", _reason(error))
    else:
        return ""
    return f"TLS handshake failed: {why}"


def ends_at(setting: str, file: Path) -> datetime:
    """When the first certificate of a PEM file, ours or an authority's, ends. Raises `CertificateUnusable`."""
    from cryptography import x509  # only who serves TLS waits for it to load

    text = _text(setting, file)
    try:
        first = x509.load_pem_x509_certificates(text)[0]
    except ValueError:
        raise _unusable(setting, file, "holds no certificate", "give a PEM file, our certificate first") from None
    return first.not_valid_after_utc


def shown_at(host: str, port: int, certificate: Path, key: Path | None, *, seconds: float) -> bool:
    """Whether a TLS port shows the certificate of this file; ours is shown to it, in case callers must show one.

    Raises OSError when there is no handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is compared, byte for byte
    _load_pair(context, certificate, key)
    with (
        socket.create_connection((host, port), timeout=seconds) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    own = _text(_CERT, certificate).decode("ascii", "replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = own[own.index(begin) : own.index(end) + len(end)]
    return shown == ssl.PEM_cert_to_DER_cert(first)


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    setting, file = (_KEY, key) if key else (_CERT, certificate)
    if b"PRIVATE KEY" not in _text(setting, file):
        remedy = "give the PEM file of the certificate's private key" if key else f"set {_KEY} too"
        raise _unusable(setting, file, "holds no private key", remedy)

    def ask_nobody() -> NoReturn:
        """OpenSSL would ask at the terminal."""
        raise _unusable(setting, file, "is locked by a passphrase", "store the key without one, readable by us only")

    try:
        context.load_cert_chain(certificate, key, password=ask_nobody)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"holds the key of another certificate than {certificate}"
            raise _unusable(setting, file, what, "give the two that were made together") from None
        raise _unusable(setting, file, f"can't be used: {_reason(error)}", "have the pair issued anew") from None


def _load_authority(context: ssl.SSLContext, authority: Path) -> None:
    _text(_CA, authority)
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        what = f"holds no certificate authority: {_reason(error)}"
        raise _unusable(_CA, authority, what, "give a PEM file with the authority of the modalities") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _text(setting: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        what = f"can't be read: {error.strerror or error}"
        raise _unusable(setting, file, what, "correct the path or the file's permissions") from None


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's word for it; the whole text would name its source lines."""
    return (error.reason or "unknown").replace("_", " ").lower()


def _unusable(setting: str, file: Path, what: str, remedy: str) -> CertificateUnusable:
    return CertificateUnusable(f"{setting}: {file} {what}", remedy=remedy)
