"""Health: what works, what does not, whose move it is.

`healthy` is false, and the ops port answers 503, only when the store or DICOM fails or a configured relay is not
hearing: restarting or calling somebody can help then. A backlog, a disk that looks full or a doubtful setting are
warnings.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.actions.replies import HealthReport
from gateway.application import Gateway
from gateway.errors import GatewayError
from gateway.log import get_logger

_BACKLOG_SECONDS = 120
_DISK_PERCENT = 5.0

log = get_logger(__name__)

Check = dict[str, Any]
"""At least `ok`; `error` says what is wrong, `warning` what is doubtful; the rest is detail."""


@dataclass
class Health:
    """Asks each part how it is. Blocking: call it off the event loop."""

    checks: dict[str, Callable[[], Check]]
    warnings: Callable[[], list[str]] = list
    restored: Callable[[], dict[str, Any] | None] = lambda: None
    anchor: Callable[[], dict[str, Any] | None] = lambda: None
    """The log's head (`gateway.ops.anchoring`)."""
    started: float = field(default_factory=time.monotonic)

    def report(self) -> HealthReport:
        """The whole state, as `contract/replies/health.json` has it; we only add keys."""
        results = {name: _asked(name, check) for name, check in self.checks.items()}
        told = [f"{name}: {result['warning']}" for name, result in results.items() if "warning" in result]
        restored = _restored(self.restored)
        if restored and restored["warning"]:
            told.append(f"restored: {restored['warning']}")
        return {
            "healthy": all(result["ok"] for result in results.values()),
            "version": __version__,
            "listener_uptime_seconds": int(time.monotonic() - self.started),
            "checks": results,
            "restored_from": restored,
            "warnings": [*told, *self.warnings()],
            "anchor": self.anchor(),
        }


def _asked(name: str, check: Callable[[], Check]) -> Check:
    """What the part says of itself; one that can't say anything is not well, and the others are still asked."""
    try:
        return check()
    except GatewayError as error:
        return {"ok": False, "error": str(error), "code": error.code}
    except Exception as error:
        log.exception("check_failed", check=name)
        return {"ok": False, "error": f"the check failed ({type(error).__name__}): look at the log", "code": "internal"}


def _restored(ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What `store_check` says of a database that can't be read is enough."""
    try:
        return ask()
    except GatewayError:
        return None


def restored_from(gateway: Gateway) -> dict[str, Any] | None:
    """The backup that began the present epoch of the log; a warning until a person has let the outbox go on."""
    epoch = gateway.restored()
    if epoch is None:
        return None
    lost = epoch.lost
    told = f"it is not known what was acknowledged between then and {epoch.restored_at}"
    if "actions" in lost:
        told = (
            f"possibly lost{'' if lost['known'] else ', at least'}: {lost['actions']} actions, "
            f"{lost['performed_steps']} performed steps, {lost['status_events']} settled status events, "
            f"changes of {lost['items']} appointments"
            f"{', {} erasures to be repeated'.format(lost['erasures']) if lost.get('erasures') else ''}"
        )
    waiting = gateway.count_updates().waiting
    warning = (
        f"a backup that ends at {epoch.backed_up_to} was restored; {told} (gateway backup lost); {waiting} status "
        "updates wait for gateway outbox resume --after-restore"
    )
    return {
        "backup": epoch.backup,
        "epoch": epoch.number,
        "position": epoch.position,
        "backed_up_to": epoch.backed_up_to,
        "restored_at": epoch.restored_at,
        "sequence_floor": epoch.sequence_floor,
        "resumed_at": epoch.resumed_at,
        "possibly_lost": {name: value for name, value in lost.items() if name not in ("accession_numbers", "earlier")},
        "warning": None if epoch.resumed_at else warning,
    }


def store_check(gateway: Gateway) -> Check:
    """The log can be read, and the last save succeeded."""
    return {"ok": True, "position": gateway.check_store()}


def outbox_check(gateway: Gateway, *, delivers: bool) -> Check:
    """How much the web app has not heard of yet. Never a failure of ours."""
    counts = gateway.count_updates()
    check: Check = {"ok": True, "waiting": counts.waiting, "parked": counts.parked}
    if counts.oldest:
        age = (datetime.now(UTC) - datetime.fromisoformat(counts.oldest)).total_seconds()
        check["oldest_seconds"] = int(age)
        if not delivers:
            check["warning"] = f"{counts.waiting} status updates wait: no events hybrid connection is configured"
        elif age > _BACKLOG_SECONDS:
            check["warning"] = f"{counts.waiting} status updates wait, the oldest for {int(age)} s"
    if counts.parked:
        parked = f"{counts.parked} status updates were refused: gateway outbox list shows them"
        check["warning"] = f"{check['warning']}; {parked}" if "warning" in check else parked
    return check


def steps_check(gateway: Gateway, *, unfinished_after: timedelta) -> Check:
    """Performed steps that a person should look at. Never a failure of ours."""
    unmatched = len(gateway.unmatched_steps())
    unfinished = len(gateway.unfinished_steps(datetime.now(UTC) - unfinished_after))
    check: Check = {"ok": True, "unmatched": unmatched, "unfinished": unfinished}
    told = []
    if unmatched:
        told.append(f"{unmatched} performed steps have no appointment: gateway steps unmatched lists them")
    if unfinished:
        hours = unfinished_after.total_seconds() / 3600
        told.append(f"{unfinished} steps are in progress for over {hours:g} h: gateway steps unfinished lists them")
    return check | ({"warning": "; ".join(told)} if told else {})


def disk_check(path: Path) -> Check:
    """Room on the disk of the database."""
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError as error:
        return {"ok": True, "warning": f"the disk can't be asked how full it is: {error.strerror}"}
    percent = round(100 * usage.free / usage.total, 1)
    check: Check = {"ok": True, "free_bytes": usage.free, "free_percent": percent}
    if percent < _DISK_PERCENT:
        check["warning"] = f"only {percent} % of the disk is free"
    return check
