"""Health for people: a line for each part, what is doubtful, and what to do. Monitors read the same as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from gateway.audit import story_words
from gateway.ops.health import Check
from gateway.ops.window.page import Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One check: `state` is `ok`, `warning` or `failed`; `told` says what is wrong and what to do."""

    name: str
    state: str
    told: str
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPage:
    """The report of `gateway.ops.health.Health`, in lines."""

    healthy: bool
    version: str
    running_for: str
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    restored_from: dict[str, Any] | None
    anchor: dict[str, Any] | None

    @property
    def http_status(self) -> int:
        """As monitors are answered: 503 when restarting or calling somebody can help."""
        return 200 if self.healthy else 503


def look(sources: Sources, _: Visit, __: Request) -> HealthPage:
    """Each part is asked anew."""
    report = sources.health.report()
    told_apart = tuple(f"{name}: {check['warning']}" for name, check in report["checks"].items() if "warning" in check)
    return HealthPage(
        healthy=report["healthy"],
        version=report["version"],
        running_for=story_words.length(report["listener_uptime_seconds"]),
        parts=tuple(_part(name, check) for name, check in report["checks"].items()),
        warnings=tuple(warning for warning in report["warnings"] if warning not in told_apart),
        restored_from=report["restored_from"],
        anchor=report["anchor"],
    )


def _part(name: str, check: Check) -> Part:
    state = "warning" if check["ok"] and "warning" in check else "ok" if check["ok"] else "failed"
    left_out = ("ok", "error", "warning")
    details = {key: value for key, value in check.items() if key not in left_out and value is not None}
    return Part(
        name=name,
        state=state,
        told=str(check.get("error") or check.get("warning") or ""),
        details=tuple((key.replace("_", " "), str(value)) for key, value in details.items()),
    )


PAGES = (Page("/health", "health.html", "Health", look),)
