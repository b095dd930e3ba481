"""Who may see and do what, each signed in with a browser of their own, and what is kept of a look at names."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser import visiting
from tests.browser.conftest import Enter
from tests.browser.visiting import Hospital, Visitor, without_reload

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser-visitors")]

TOKENS = {
    "viewer": "a-viewer-may-look-only",
    "operator": "an-operator-may-act-too",
    "auditor": "an-auditor-may-see-names",
}
NAME = "MUSTERFRAU^ERIKA"


@pytest.fixture(scope="module")
def hospital() -> Iterator[Hospital]:
    """One whose window asks for a token, with one appointment."""
    tokens = {f"gateway_ops_{role}_token": token for role, token in TOKENS.items()}
    with tempfile.TemporaryDirectory() as folder, visiting.hospital(Path(folder), **tokens) as everything:
        everything.schedule("ACC010", "0900", name=NAME)
        yield everything


def signed_in(enter: Enter, role: str, name: str = "E. Example", path: str = "/clinic") -> Page:
    return sign_in(enter(), role, name, path)


def sign_in(visitor: Visitor, role: str, name: str = "E. Example", path: str = "/clinic") -> Page:
    return visiting.sign_in(visitor, TOKENS[role], name, path)


def participant(page: Page) -> Locator:
    return page.locator("#item-ACC010 td[data-heading=Participant]")


def reveal(page: Page, reason: str) -> None:
    page.get_by_text("Reveal names").click()
    page.get_by_label("Why do you need the names?").fill(reason)
    page.get_by_role("button", name="Reveal for five minutes").click()


def looks(hospital: Hospital) -> str:
    """What the record tells of looks at the one on the list."""
    return json.dumps(hospital.gateway.look("audit", "list", "--accession", "ACC010"))


# --- coming in and going out


def test_who_has_not_signed_in_does_so_and_comes_to_where_they_wanted(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "viewer", path="/clinic?day=2026-02-03")
    expect(page).to_have_url(re.compile(r"/clinic\?day=2026-02-03$"))
    expect(page.get_by_text("3 February 2026")).to_be_visible()


def test_a_wrong_token_is_refused_in_words_and_opens_nothing(hospital: Hospital, enter: Enter) -> None:
    visitor = enter()
    page = visitor.open()
    page.get_by_label("Your name or initials").fill("E. Example")
    page.get_by_label("Token").fill("nobody-gave-me-this")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("this token is not known")
    page.goto(f"{hospital.address}/clinic")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    visitor.forgive("401")


def test_the_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(enter: Enter) -> None:
    page = signed_in(enter, "viewer")
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""


def test_who_signed_out_is_out(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "operator")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{hospital.address}/clinic")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


# --- names


def test_names_are_masked_for_everybody_and_stay_so_for_a_viewer(enter: Enter) -> None:
    page = signed_in(enter, "viewer")
    expect(participant(page)).to_contain_text("M•")
    expect(page.get_by_text("Reveal names")).to_have_count(0)
    assert "MUSTERFRAU" not in page.content()


@pytest.mark.parametrize("role", ["operator", "auditor"])
def test_a_name_is_shown_for_a_reason_to_who_gave_it_and_masked_again_by_hide(enter: Enter, role: str) -> None:
    page, other = signed_in(enter, role), signed_in(enter, role, "N. Other")
    reveal(page, "she asks at the desk when she is on")
    expect(participant(page)).to_contain_text("MUSTERFRAU ERIKA")
    expect(page.get_by_role("alert").filter(has_text="kept")).to_be_visible()
    other.reload()
    expect(participant(other)).not_to_contain_text("MUSTERFRAU")
    page.get_by_role("button", name="Hide names").click()
    expect(participant(page)).to_contain_text("M•")
    assert "MUSTERFRAU" not in page.content()


def test_names_that_came_to_another_tab_leave_it_in_time_too(enter: Enter) -> None:
    visitor = enter()
    visitor.context.clock.install()
    page = sign_in(visitor, "operator")
    other = visitor.open()
    reveal(page, "she asks at the desk when she is on")
    slider = other.get_by_role("slider", name="Moment")
    slider.press("Home")
    slider.press("End")
    expect(participant(other)).to_contain_text("MUSTERFRAU ERIKA")
    with other.expect_response("**/clinic"):
        visitor.context.clock.fast_forward("05:01")


def test_a_look_at_names_is_kept_with_the_reason_and_who_looked(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "auditor", "A. Auditor")
    reveal(page, "yearly sample of the record")
    expect(participant(page)).to_contain_text("MUSTERFRAU")
    kept = looks(hospital)
    assert "A. Auditor" in kept
    assert "yearly sample of the record" in kept


def test_a_reason_that_names_the_participant_is_refused(hospital: Hospital, enter: Enter) -> None:
    visitor = enter()
    page = sign_in(visitor, "operator")
    reveal(page, "Erika is waiting")
    expect(page.get_by_role("alert").filter(has_text="without naming")).to_be_visible()
    assert "Erika" not in looks(hospital)
    visitor.forgive("400")


def test_a_row_that_changes_keeps_its_name_for_who_sees_names_and_its_mask_for_others(
    hospital: Hospital, enter: Enter
) -> None:
    page, other = signed_in(enter, "operator"), signed_in(enter, "viewer")
    reveal(page, "checking who is in the room")
    expect(participant(page)).to_contain_text("MUSTERFRAU")
    with without_reload(page), without_reload(other):
        hospital.unit.start("ACC010")
        for each in (page, other):
            expect(each.locator("#item-ACC010")).to_contain_text("In progress")
        expect(participant(page)).to_contain_text("MUSTERFRAU ERIKA")
        expect(participant(other)).to_contain_text("M•")


# --- last: it ends all sessions


def test_a_page_left_open_over_a_restart_asks_to_sign_in_again(hospital: Hospital, enter: Enter) -> None:
    visitor = enter()
    page = sign_in(visitor, "viewer")
    hospital.gateway.restart()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=20_000)
    visitor.forgive("401|ERR_")
