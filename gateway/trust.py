"""Which certificate authorities are believed when the gateway connects to somebody."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.errors import SettingsInvalid


def trusted(path: Path | None, setting: str) -> ssl.SSLContext | None:
    """The system's certificate authorities and those of a file in PEM form; None without a file: the system's alone.

    Raises `SettingsInvalid`, naming the setting that the path is from.
    """
    if path is None:
        return None
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # on from Python 3.13: many a hospital's own authority is older
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise SettingsInvalid(
            f"{setting}: {path} holds no certificate in PEM form",
            remedy="it begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der` turns a DER file into one",
        ) from None
    except OSError as error:
        raise SettingsInvalid(
            f"{setting}: {path} can't be read: {error.strerror}",
            remedy="give the path of a file that the service's user may read",
        ) from None
    return context
