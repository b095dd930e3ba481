"""A token that the gateway makes for itself, so that a window open to a network is never open to everybody."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gateway.errors import SettingsInvalid
from gateway.log import get_logger
from gateway.ops.access import is_loopback
from gateway.settings import Settings

log = get_logger(__name__)


def own_token(settings: Settings) -> str | None:
    """The operator's token from the file beside the database, made at the first time; None where it is not needed.

    It is needed where the ops port can be reached from elsewhere and neither a token nor a proxy's header is set.
    Raises `SettingsInvalid` when the file can't be read or written.
    """
    given = (
        settings.gateway_ops_viewer_token,
        settings.gateway_ops_operator_token,
        settings.gateway_ops_auditor_token,
        settings.gateway_ops_identity_header,
    )
    if any(given) or settings.gateway_ops_host == "localhost" or is_loopback(settings.gateway_ops_host):
        return None
    path = settings.worklist_db_path.with_name(settings.worklist_db_path.name + ".ops-token")
    try:
        token = _read(path) or _made(path)
    except OSError as error:
        raise SettingsInvalid(
            f"the window's token can't be kept in {path}: {error.strerror}", remedy="set GATEWAY_OPS_OPERATOR_TOKEN"
        ) from error
    log.info("window_token", path=str(path), remedy="sign in with what it holds, or set GATEWAY_OPS_OPERATOR_TOKEN")
    return token


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def _made(path: Path) -> str:
    token = secrets.token_urlsafe(24)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token + "\n")
    return token
