"""What the processes said: no error of ours, no traceback, no secret and nobody's name."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.end_to_end.harness import KEY

_SECRETS = re.compile(rf"{re.escape(KEY)}|SharedAccessSignature|[?&]sig=|SMITH|9990000018|19650315")


def entries_in(log: str) -> Iterator[dict[str, Any] | None]:
    """The lines of a gateway's log; None for each that is no JSON object."""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        yield entry if isinstance(entry, dict) else None


def complaints_about(log: str, *, deaths: int) -> list[str]:
    """What a gateway's log must not tell. Each death may have cut its last line."""
    entries = list(entries_in(log))
    broken = entries.count(None)
    complaints = [f"{broken} lines of the log are not JSON, and it died {deaths} times"] if broken > deaths else []
    for entry in entries:
        if entry is not None and (entry.get("level") in ("error", "critical") or "exception" in entry):
            complaints.append(f"the log tells of an error: {json.dumps(entry)}")
    return complaints


def leaks_in(output: str) -> list[str]:
    """Secrets, names and tracebacks in whatever a process said. What was found is not repeated whole."""
    complaints = [f"the output holds a secret: {found[:4]}…" for found in sorted({*_SECRETS.findall(output)})]
    if "Traceback" in output or "never retrieved" in output:
        complaints.append("the output holds a traceback")
    return complaints


def refused_dials(log: str) -> list[float]:
    """When a gateway dialled and found no relay at all, on this machine's monotonic clock."""
    ahead = time.time() - time.monotonic()
    return [
        datetime.fromisoformat(entry["timestamp"]).timestamp() - ahead
        for entry in entries_in(log)
        if entry and (entry.get("event"), entry.get("phase")) == ("listener_cannot_connect", "tcp")
    ]
