"""What a page is: a path, what it shows, and a template for it; and what an act is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from gateway.ops.window.sources import Sources
from gateway.ops.window.visits import Visit

Look = Callable[[Sources, Visit, Request], Any]
"""What a page shows: a dataclass or plain JSON values. Blocking: it is called off the event loop."""
Act = Callable[[Sources, Visit, dict[str, str]], str]
"""Does something with a form's fields; returns what to say about it. Blocking."""


@dataclass(frozen=True, slots=True)
class Page:
    """`look` answers both `path` (by the template, as `page`) and `path.json`."""

    path: str
    template: str
    title: str
    look: Look
