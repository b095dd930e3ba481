"""The relay: whether it is heard and by which proof, how the token stands, what failed in which phase, the way back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from gateway.audit import story_words
from gateway.ops.window.page import Page
from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPage:
    """Both ways. `token_left_percent` is what is left of the present token's life; the words are for the eye."""

    state: str
    listener: dict[str, Any]
    delivery: dict[str, Any]
    waiting: int
    parked: int
    token_left_seconds: float | None
    token_left_percent: int | None
    token_left: str
    proven_ago: str


def look(sources: Sources, _: Visit, __: Request) -> RelayPage:
    """As the listener and the courier say."""
    listener, counts, now = sources.relay(), sources.gateway.count_updates(), datetime.now(UTC)
    left, percent = _token_life(listener, now)
    return RelayPage(
        state=str(listener["state"]),
        listener=listener,
        delivery=sources.delivery(),
        waiting=counts.waiting,
        parked=counts.parked,
        token_left_seconds=left,
        token_left_percent=percent,
        token_left="" if left is None else story_words.length(left),
        proven_ago=_ago(listener.get("last_proof"), now),
    )


def _token_life(listener: dict[str, Any], now: datetime) -> tuple[float | None, int | None]:
    """Seconds of it that are left, and how many percent of the whole that is; None where it is not known."""
    since, until = listener.get("token_since"), listener.get("token_expires_at")
    if not since or not until:
        return None, None
    begin, end = datetime.fromisoformat(since), datetime.fromisoformat(until)
    left = max(0.0, (end - now).total_seconds())
    return left, round(100 * left / max(1.0, (end - begin).total_seconds()))


def _ago(instant: str | None, now: datetime) -> str:
    return f"{story_words.length((now - datetime.fromisoformat(instant)).total_seconds())} ago" if instant else ""


PAGES = (Page("/relay", "relay.html", "Relay", look),)
