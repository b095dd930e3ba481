"""A certificate authority of the emulator's own, so that clients which insist on TLS can be pointed at it.

Microsoft's helpers for node dial ``wss://HOST:443``, and their .NET and Java clients never speak plain ``ws``.
Needs the package ``trustme``.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay.errors import ConfigurationError

if TYPE_CHECKING:
    from trustme import CA

AUTHORITY: Final = "ca.pem"
"""What clients must trust: ``NODE_EXTRA_CA_CERTS``, a ``--cacert``, an operating system's store."""

_AUTHORITY_KEY: Final = "ca-key.pem"


def self_made(folder: Path, *names: str) -> ssl.SSLContext:
    """TLS settings for a server that is called ``localhost``, 127.0.0.1, ::1, or one of ``names``.

    The authority is made at the first call and kept in ``folder`` (``ca.pem``, ``ca-key.pem``), so that whoever trusts
    it need not be told again; the server's certificate is made anew each time.

    Raises:
        ConfigurationError: if trustme is not installed, or the folder cannot be used.
    """
    try:
        import trustme
    except ImportError:
        raise ConfigurationError(
            "the emulator cannot make a certificate without the package trustme",
            code="no_trustme",
            remedy="pip install trustme",
        ) from None
    try:
        authority = _authority(folder)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the folder for certificates cannot be used ({type(error).__name__})",
            code="bad_folder",
            remedy=f"It must be writable; without its {AUTHORITY} and {_AUTHORITY_KEY} new ones are made.",
        ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identities = dict.fromkeys(["localhost", "127.0.0.1", "::1", *names])
    certificate: trustme.LeafCert = authority.issue_cert(*identities)
    certificate.configure_cert(context)
    return context


def _authority(folder: Path) -> CA:
    import trustme

    certificate, key = folder / AUTHORITY, folder / _AUTHORITY_KEY
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="relay emulator, for tests only")
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(authority.private_key_pem.bytes())
    authority.cert_pem.write_to_path(certificate)
    return authority
