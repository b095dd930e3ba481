"""A certificate authority of one's own, as a hospital's network team has it."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Certificates:
    """`authority`: what clients trust; `server`: certificate and key of the server, both PEM."""

    authority: Path
    server: Path

    def serving(self) -> ssl.SSLContext:
        """For the server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context

    def trusting(self) -> ssl.SSLContext:
        """For clients: this authority and no other."""
        return ssl.create_default_context(cafile=self.authority)


def make_certificates(folder: Path, *names: str) -> Certificates:
    """An authority and a certificate it signed for localhost, 127.0.0.1 and these names; skips without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        reason = "openssl is not installed: no certificate to test TLS with"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    request, key, server = folder / "server.csr", folder / "server.key", folder / "server.pem"
    extensions = folder / "server.ext"
    alternatives = ",".join(["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{name}" for name in names)])
    extensions.write_text(f"subjectAltName={alternatives}\nauthorityKeyIdentifier=keyid\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for arguments in (
        ["req", "-x509", *new_key, "-keyout", authority_key, "-out", authority, "-days", "2",
         "-subj", "/CN=Hospital CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        ["req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=relay"],
        ["x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-set_serial", "1", "-days", "2",
         "-extfile", extensions, "-out", server],
    ):  # fmt: skip
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True)
    server.write_bytes(server.read_bytes() + key.read_bytes())
    return Certificates(authority, server)
