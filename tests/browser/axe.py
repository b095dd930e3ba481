"""axe-core, the rules of WCAG that a program can check, run within a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.interop import npm

HERE = Path(__file__).parent
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""WCAG 2.2 A and AA, and what axe's authors hold to be good besides."""

_RUN = "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})"


def script() -> Path:
    """The script, installed from npm when it is not there."""
    npm.installed(HERE, "axe-core")
    return HERE / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page, axe: Path) -> list[str]:
    """What is wrong with the page as it stands, one line each. Its context has to bypass the page's own policy."""
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=axe)
    found: list[dict[str, Any]] = page.evaluate(_RUN, list(RULES))["violations"]
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
