"""WCAG 2.2 AA: by axe-core on every page and state, and by hand what no program checks: keyboard, width, targets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import axe, morning, visiting
from tests.browser.conftest import Enter
from tests.browser.visiting import Hospital, sign_in

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser-accessibility")]

TOKEN = "an-operator-may-act-too"


@pytest.fixture(scope="module")
def hospital() -> Iterator[Hospital]:
    """One after a morning, whose window asks for a token."""
    with (
        tempfile.TemporaryDirectory() as folder,
        visiting.hospital(Path(folder), gateway_ops_operator_token=TOKEN) as everything,
    ):
        morning.play(everything)
        yield everything


def _revealed(page: Page) -> None:
    page.get_by_text("Reveal names").click()
    page.get_by_label("Why do you need the names?").fill("to see that all is well")
    page.get_by_role("button", name="Reveal for five minutes").click()
    expect(page.get_by_role("button", name="Hide names")).to_be_visible()


def _opened(page: Page) -> None:
    """All that is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")


def _cut_off(page: Page) -> None:
    page.evaluate("document.getElementById('lost').hidden = false")


def _asked(page: Page) -> None:
    page.get_by_role("button", name="Ask everything now").click()
    expect(page.get_by_text("Everything was asked:")).to_be_visible(timeout=60_000)


STATES: dict[str, tuple[str, Callable[[Page], None] | None]] = {
    "clinic": ("/clinic", None),
    "clinic, all unfolded": ("/clinic", _opened),
    "clinic as it stood": ("/clinic?minute=1", None),
    "clinic of an empty day": ("/clinic?day=2026-02-03", None),
    "clinic, the connection lost": ("/clinic", _cut_off),
    "step": (f"/step/{morning.COMPLETED}", _opened),
    "step that ended otherwise": (f"/step/{morning.DISCONTINUED}", _opened),
    "modalities": ("/modalities", _opened),
    "modality": ("/modalities/MAMMO1", _opened),
    "modality that was refused": ("/modalities/MAMMO2", _opened),
    "relay": ("/relay", _opened),
    "outbox": ("/outbox", _opened),
    "checklist": ("/checklist", _opened),
    "checklist, asked": ("/checklist", _asked),
    "unmatched steps": ("/unmatched", _opened),
    "events": ("/events", _opened),
    "event": ("/events/1", _opened),
    "health": ("/health", _opened),
    "docs": ("/docs", _opened),
    "a document": ("/docs/for-the-modality-engineer", _opened),
    "no such page": ("/nowhere", None),
    "no such step": ("/step/NOBODY", None),
    "clinic, names revealed": ("/clinic", _revealed),
}
"""Every page, and what may become of it; the last one changes what the ones after it show."""


def states(hospital: Hospital, page: Page) -> Iterator[str]:
    """The page in each of them, by name."""
    for state, (path, reach) in STATES.items():
        page.goto(f"{hospital.address}{path}")
        if reach:
            reach(page)
        yield state
    page.get_by_role("button", name="Hide names").click()


_OTHERWISE_WHEN_NARROW = ("clinic", "step", "modality", "outbox", "clinic, names revealed")
"""What there is in these is laid out in another way on a small screen."""


@pytest.fixture(scope="module")
def script() -> Path:
    return axe.script()


def test_no_page_violates_a_rule_that_a_program_can_check(hospital: Hospital, enter: Enter, script: Path) -> None:
    visitor = enter(bypass_csp=True)
    page, found = sign_in(visitor, TOKEN), {}
    for state in states(hospital, page):
        for width in (320, 1280) if state in _OTHERWISE_WHEN_NARROW else (1280,):
            page.set_viewport_size({"width": width, "height": 800})
            found |= {f"{state}, {width} px wide": wrong for wrong in axe.violations(page, script)}
    visitor.forgive("404")
    assert found == {}


def test_neither_does_the_way_in(hospital: Hospital, enter: Enter, script: Path) -> None:
    visitor = enter(bypass_csp=True)
    page = visitor.open()
    assert axe.violations(page, script) == []
    page.get_by_label("Your name or initials").fill("E. Example")
    page.get_by_label("Token").fill("nobody-gave-me-this")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert axe.violations(page, script) == []
    visitor.forgive("401")


def test_nothing_has_to_be_scrolled_sideways_at_320_pixels_which_is_400_percent_of_1280(
    hospital: Hospital, enter: Enter
) -> None:
    """WCAG 1.4.10."""
    visitor = enter(viewport={"width": 320, "height": 640})
    page = sign_in(visitor, TOKEN)
    widths = {state: page.evaluate("document.scrollingElement.scrollWidth") for state in states(hospital, page)}
    visitor.forgive("404")
    assert {state: width for state, width in widths.items() if width > 320} == {}


_SMALL = """() => [...document.querySelectorAll('a, button, input:not([type=hidden]), summary')]
    .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.closest('.nhsuk-skip-link'))
    .map(one => [one, (one.labels?.[0]?.contains(one) ? one.labels[0] : one).getBoundingClientRect()])
    .filter(([one]) => one.parentElement.innerText.trim() === one.innerText.trim() || !one.closest('p, li, dd, td'))
    .filter(([one, box]) => box.width < 24 || box.height < 24)
    .map(([one, box]) => `${one.outerHTML.slice(0, 120)}: ${box.width} x ${box.height}`)"""


@pytest.mark.parametrize("width", [320, 1280])
def test_every_target_is_24_pixels_or_more_each_way(hospital: Hospital, enter: Enter, width: int) -> None:
    """WCAG 2.5.8, whose exception is a link within a sentence."""
    visitor = enter(viewport={"width": width, "height": 640})
    page = sign_in(visitor, TOKEN)
    found = {state: small for state in states(hospital, page) if (small := page.evaluate(_SMALL))}
    visitor.forgive("404")
    assert found == {}


_FOCUSABLE = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), summary')]
    .filter(one => one.checkVisibility({visibilityProperty: true})).length"""
_FOCUSED = """() => {
    const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
    window.seen ??= new Set();
    if (one === document.body || window.seen.has(one)) return null;
    window.seen.add(one);
    const isMarked = style.outlineStyle !== 'none' || style.boxShadow !== 'none' ||
        style.backgroundColor !== 'rgba(0, 0, 0, 0)';
    const isSeen = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight;
    return isMarked && isSeen ? '' : one.outerHTML.slice(0, 160);
}"""


def test_every_control_is_reached_by_the_keyboard_and_shows_that_it_is(hospital: Hospital, enter: Enter) -> None:
    """WCAG 2.1.1, 2.4.7 and 2.4.11."""
    page = sign_in(enter(), TOKEN)
    for path in ("/clinic", f"/step/{morning.BEGUN}", "/outbox"):
        page.goto(f"{hospital.address}{path}")
        _opened(page)
        wanted, reached = page.evaluate(_FOCUSABLE), 0
        for _ in range(wanted + 15):  # a date and a time are many stops
            page.keyboard.press("Tab")
            told = page.evaluate(_FOCUSED)
            assert not told, told
            reached += told == ""
        assert reached >= wanted, path


def test_the_whole_of_a_look_at_names_is_done_by_keyboard(hospital: Hospital, enter: Enter) -> None:
    """WCAG 2.1.1."""
    page = sign_in(enter(), TOKEN)
    page.locator("summary", has_text="Reveal names").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("looking for her at the desk")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Hide names")).to_be_visible()
