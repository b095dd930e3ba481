"""A certificate authority of one's own, as a hospital's network team has it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


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
    """An authority and a certificate it signed for localhost, 127.0.0.1 and these names."""
    folder.mkdir(parents=True, exist_ok=True)
    authority, server = folder / "authority.pem", folder / "server.pem"
    issuer = trustme.CA(organization_name="Hospital CA")
    issuer.cert_pem.write_to_path(authority)
    certificate = issuer.issue_cert("localhost", "127.0.0.1", *names)
    certificate.private_key_and_cert_chain_pem.write_to_path(server)
    return Certificates(authority, server)
