"""A hospital's certificate authority, made anew: what the gateway shows, and what its modalities do."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

from gateway.dicom.tls import TlsDoor, tls_door


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, each in a file of its own (PEM)."""

    certificate: Path
    key: Path


class Hospital:
    """One authority, and what it has signed."""

    def __init__(self, folder: Path, name: str = "hospital") -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self._authority = trustme.CA(organization_name=name)
        self.authority = self.folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.authority)
        self.gateway = self.signed("gateway")
        self.modality = self.signed("modality")

    def signed(self, name: str, *, until: datetime | None = None) -> Pair:
        leaf = self._authority.issue_cert("localhost", "127.0.0.1", common_name=name, not_after=until)
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(pair.certificate)
        leaf.private_key_pem.write_to_path(pair.key)
        return pair

    def door(self, *, callers: Hospital | None = None) -> TlsDoor:
        """Any free port; `callers` is whose certificates are asked for, None: nobody's."""
        return tls_door(0, self.gateway.certificate, self.gateway.key, callers.authority if callers else None)

    def trusting(self, shown: Pair | None = None) -> ssl.SSLContext:
        """A client that trusts this authority, and shows a certificate, or none."""
        context = ssl.create_default_context(cafile=self.authority)
        if shown:
            context.load_cert_chain(shown.certificate, shown.key)
        return context
