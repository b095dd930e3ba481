"""One hospital and one browser for a module; a visitor for each test, who must have seen no error at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import visiting
from tests.browser.visiting import PATIENCE, Hospital, Visitor

expect.set_options(timeout=PATIENCE)

Enter = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, visiting.chromium(playwright) as launched:
        yield launched


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with visiting.hospital(tmp_path_factory.mktemp("hospital")) as everything:
        yield everything


@pytest.fixture
def enter(browser: Browser, hospital: Hospital) -> Iterator[Enter]:
    """Lets a visitor in, with Playwright's options for a browser context."""
    visitors: list[Visitor] = []

    def enter(**options: Any) -> Visitor:
        visitors.append(Visitor(hospital, browser.new_context(**options)))
        return visitors[-1]

    yield enter
    for visitor in visitors:
        visitor.leave()
    for visitor in visitors:
        visitor.assert_content()


@pytest.fixture
def visitor(enter: Enter) -> Visitor:
    return enter()


@pytest.fixture
def page(visitor: Visitor) -> Page:
    """A tab at the clinic."""
    return visitor.open()
