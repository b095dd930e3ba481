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
Table = Callable[[Any], list[tuple[object, ...]]]
"""The list of what `Look` returns: headings, then rows."""
Act = Callable[[Sources, Visit, dict[str, str]], str]
"""Does something with a form's fields; returns what to say about it. Blocking."""


@dataclass(frozen=True, slots=True)
class Page:
    """`look` answers `path` (by the template, as `page`), `path.json`, and where there is a table `path.csv`."""

    path: str
    template: str
    title: str
    look: Look
    table: Table | None = None
