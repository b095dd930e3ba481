"""Anchors leave the machine: into the service's log, into every health reply, and into a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.application import Gateway
from gateway.errors import GatewayError
from gateway.eventstore import anchors, chain
from gateway.eventstore.chain import Anchor
from gateway.log import get_logger

log = get_logger(__name__)


class Anchoring:
    """Takes anchors of a running gateway's log. Blocking: call it off the event loop."""

    def __init__(self, gateway: Gateway, path: Path) -> None:
        self._gateway = gateway
        self._path = path
        self.failure: str | None = None
        """Why the last anchor could not be put into the file."""

    def take(self, occasion: str) -> None:
        """Note the log's head, if there is any: in our log, and once in the file. A failure is told, not raised."""
        try:
            anchor = _newest(self._gateway)
            if anchor is None:
                return
            log.info("anchor", occasion=occasion, **shown(anchor))
            anchors.keep(self._path, anchor)
            self.failure = None
        except GatewayError as error:
            log.error("anchor_not_kept", code=error.code, error=str(error))
            self.failure = str(error)

    def present(self) -> dict[str, Any] | None:
        """The log's head for a health reply; None in an empty log, or while the log can't be read."""
        try:
            anchor = _newest(self._gateway)
        except GatewayError:
            return None  # the check of the store says why
        return shown(anchor) if anchor else None

    def warnings(self) -> list[str]:
        """What a person should know."""
        return [f"anchors: {self.failure}"] if self.failure else []


def shown(anchor: Anchor) -> dict[str, Any]:
    """For JSON; `position:hash` is what `gateway events verify --anchor` takes."""
    return {"position": anchor.position, "hash": anchor.link.hex(), "committed_at": anchor.committed_at or None}


def _newest(gateway: Gateway) -> Anchor | None:
    with gateway.reading() as connection:
        return chain.newest(connection)
