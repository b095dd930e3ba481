"""The other side of an association, and what is told of a request of its that failed on our side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb

from gateway.errors import GatewayError
from gateway.log import get_logger

_log = get_logger(__name__)

_COMMENT_LIMIT = 64
"""Error Comment is LO (PS3.7 E.1)."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The other side of an association."""

    ae_title: str
    called_ae_title: str
    address: str
    port: int

    def logged(self) -> dict[str, object]:
        """The keys under which it appears in the log."""
        return {"calling_ae": self.ae_title, "called_ae": self.called_ae_title, "address": self.address}


def comment(text: str) -> str:
    """A text as Error Comment holds it."""
    return text if len(text) <= _COMMENT_LIMIT else text[: _COMMENT_LIMIT - 3] + "..."


def failed(phase: str, caller: Caller, error: BaseException) -> None:
    """Log our own failure. Only our errors are known to name nobody; of others, the type and the place are logged."""
    what = {"code": error.code, "message": str(error)} if isinstance(error, GatewayError) else {}
    where = place_of(error)
    _log.error("request_failed", phase=phase, **caller.logged(), error=type(error).__name__, where=where, **what)


def place_of(error: BaseException | None) -> str:
    """File and line where an exception was raised, "" when it never was: what may be told of one whose text may not."""
    frames = extract_tb(error.__traceback__) if error else []
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
