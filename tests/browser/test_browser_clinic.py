"""The clinic as somebody at the desk sees it: the list changes while they look, and stands as it stood at a moment."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Enter
from tests.browser.visiting import Hospital, Visitor, order, without_reload
from tests.end_to_end.harness import action, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser-clinic")]


@pytest.fixture(scope="module", autouse=True)
def morning(hospital: Hospital) -> None:
    """Three are expected."""
    for number, (accession_number, time) in enumerate((("ACC010", "0900"), ("ACC020", "0930"), ("ACC030", "1000"))):
        hospital.schedule(accession_number, time, who=number)


def row(page: Page, accession_number: str) -> Locator:
    return page.get_by_role("row").filter(has_text=accession_number)


def told(page: Page, accession_number: str) -> Locator:
    """What the web app was told of it."""
    return row(page, accession_number).locator("td[data-heading='Told web app']")


def test_a_status_changes_while_one_looks(hospital: Hospital, page: Page) -> None:
    expect(row(page, "ACC010")).to_contain_text("Scheduled")
    with without_reload(page):
        uid = hospital.unit.start("ACC010")
        expect(row(page, "ACC010")).to_contain_text("In progress")
        expect(told(page, "ACC010")).to_contain_text("acknowledged")
        expect(row(page, "ACC010").locator("td[data-heading='Sent to modality']")).to_contain_text("MAMMO1")
        expect(page.get_by_role("status").filter(has_text="ACC010")).to_have_text("ACC010: in progress")
        hospital.unit.finish(uid)
        expect(row(page, "ACC010")).to_contain_text("Completed")
        expect(told(page, "ACC010")).to_contain_text("completed")
        expect(page.locator("#counts")).to_contain_text("1 completed")
        expect(page.locator("#counts")).not_to_contain_text("in progress")


def test_a_new_appointment_arrives_in_its_place(hospital: Hospital, page: Page) -> None:
    with without_reload(page):
        hospital.schedule("ACC025", "0945", who=25)
        expect(row(page, "ACC025")).to_contain_text("09:45")
        assert order(page) == ["ACC010", "ACC020", "ACC025", "ACC030"]
        hospital.schedule("ACC040", "1030", who=40)
        expect(row(page, "ACC040")).to_be_visible()
        assert order(page)[-1] == "ACC040"


def test_an_accession_number_that_looks_like_a_path_leads_to_its_own_page_and_back_to_it(
    hospital: Hospital, visitor: Visitor
) -> None:
    """A browser resolves dots between slashes: the page of another participant would open."""
    for number, time in (("A/../ACC950", "1110"), ("ACC950", "1120"), ("..", "1130")):
        hospital.schedule(number, time, who=50)
    for number in ("A/../ACC950", ".."):
        page = visitor.open()
        page.get_by_role("link", name=number, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Step {number}")
        page.get_by_text("Cancel the appointment").first.click()
        page.locator("#cancel-reason").fill("she rang")
        page.get_by_role("button", name="Cancel the appointment").click()
        expect(page.get_by_role("alert").filter(has_text=number)).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Step {number}")
        data = page.get_by_role("link", name="This page as JSON").evaluate("link => link.href")
        assert visitor.context.request.get(data).json()["accession_number"] == number


def test_one_that_moves_to_another_time_moves_on_the_list_and_to_another_day_leaves_it(
    hospital: Hospital, page: Page
) -> None:
    hospital.schedule("ACC050", "0800", who=50)
    expect(row(page, "ACC050")).to_be_visible()
    with without_reload(page):
        for date, time in ((hospital.today(), "095000"), ("20991224", "095000")):
            scheduled = {"date": date, "time": time}
            changed = {"accession_number": "ACC050", "scheduled": scheduled}
            hospital.ask(action("worklist.update_item", changed), "updated")
            expect(row(page, "ACC050")).to_have_count(1 if date == hospital.today() else 0)
            expect(row(page, "ACC050").filter(has_text="08:00")).to_have_count(0)


def test_the_keyboard_stays_on_a_row_that_changes(hospital: Hospital, page: Page) -> None:
    page.get_by_role("link", name="ACC020").focus()
    with without_reload(page):
        hospital.unit.start("ACC020")
        expect(row(page, "ACC020")).to_contain_text("In progress")
        expect(page.get_by_role("link", name="ACC020")).to_be_focused()


def test_a_page_that_another_loads_at_the_same_time_takes_no_news_away(hospital: Hospital, enter: Enter) -> None:
    pages = [enter().open() for _ in range(3)]
    for number in range(60, 66):
        hospital.schedule(f"ACC{number:03}", "1130", who=number)
        pages[0].reload()
    for each in pages:
        expect(row(each, "ACC065")).to_be_visible()
        assert order(each) == order(pages[0])


def show(page: Page, *, visible: bool) -> None:
    """As when another tab is chosen: a browser without a screen shows all of them."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        not visible,
    )


def test_as_many_tabs_as_one_likes_are_open_and_the_one_that_is_looked_at_is_right(
    hospital: Hospital, enter: Enter
) -> None:
    """HTTP/1.1: a browser has six connections to a host, and a live tab takes one."""
    visitor = enter()
    tabs = []
    for _ in range(8):
        tabs.append(visitor.open())
        show(tabs[-1], visible=False)
    hospital.schedule("ACC067", "1135", who=67)
    show(tabs[0], visible=True)
    expect(row(tabs[0], "ACC067")).to_be_visible()
    expect(row(tabs[1], "ACC067")).to_have_count(0)


# --- as it stood


def test_a_script_that_is_not_ours_is_not_run(enter: Enter) -> None:
    visitor = enter()
    page = visitor.open()
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))")
    assert page.evaluate("window.ran") is None
    visitor.forgive("Content Security Policy")


def test_the_slider_shows_the_list_as_it_stood_and_goes_back_to_now(hospital: Hospital, page: Page) -> None:
    with without_reload(page):
        slider = page.get_by_role("slider", name="Moment")
        expect(page.get_by_role("heading", name="As it is now")).to_be_visible()
        slider.focus()
        slider.press("Home")
        expect(page.get_by_role("heading", name=re.compile("As it stood at .* 00:00:00"))).to_be_visible()
        expect(page.get_by_text("Nobody is on the list of this day.")).to_be_visible()
        assert order(page) == []
        assert "minute=0" in page.url
        expect(slider).to_have_attribute("aria-valuetext", "00:00")
        slider.press("End")
        expect(page.get_by_role("heading", name="As it is now")).to_be_visible()
        expect(row(page, "ACC030")).to_be_visible()
        hospital.schedule("ACC070", "1140", who=70)
        expect(row(page, "ACC070")).to_be_visible()


def test_the_slider_ends_at_now_however_long_the_page_is_open(hospital: Hospital, enter: Enter) -> None:
    visitor = enter()
    visitor.context.clock.install()
    page = visitor.open()
    slider = page.get_by_role("slider", name="Moment")
    end = int(slider.get_attribute("max") or "")
    visitor.context.clock.fast_forward("01:00:00")
    expect(slider).to_have_attribute("max", str(end + 60))
    expect(slider).to_have_value(str(end + 60))
    slider.press("ArrowLeft")
    visitor.context.clock.fast_forward("01:00:00")
    expect(slider).to_have_attribute("max", str(end + 120))
    expect(slider).to_have_value(str(end + 59))


def test_a_list_of_another_day_than_the_page_around_it_loads_the_page(hospital: Hospital, page: Page) -> None:
    """As after midnight: the page says which day's clinic it is, and its slider is of that day."""
    yesterday = f"{hospital.now() - timedelta(days=1):%Y%m%d}"
    with page.expect_navigation():
        page.evaluate("day => { byId('list').dataset.day = day; again(); }", yesterday)
    expect(page.locator("#list")).to_have_attribute("data-day", hospital.today())


def test_slid_back_to_now_today_s_page_names_no_day_and_so_goes_on_tomorrow(hospital: Hospital, page: Page) -> None:
    slider = page.get_by_role("slider", name="Moment")
    slider.press("Home")
    expect(page.get_by_role("heading", name=re.compile("As it stood at"))).to_be_visible()
    slider.press("End")
    expect(page.get_by_role("heading", name="As it is now")).to_be_visible()
    assert page.url.endswith("/clinic")


def test_what_happens_now_does_not_disturb_who_looks_at_another_moment(hospital: Hospital, page: Page) -> None:
    slider = page.get_by_role("slider")
    slider.press("Home")
    expect(page.get_by_text("Nobody is on the list of this day.")).to_be_visible()
    hospital.schedule("ACC071", "1141", who=71)
    with page.expect_response("**/clinic?**"):
        slider.press("ArrowRight")
    expect(page.get_by_text("Nobody is on the list of this day.")).to_be_visible()
    assert order(page) == []


@pytest.fixture(scope="module")
def moment(hospital: Hospital) -> datetime:
    """A whole second, before which there was one more on the list, and after which another one."""
    hospital.schedule("ACC080", "1200", who=80)
    then = hospital.now().replace(microsecond=0) + timedelta(seconds=1)
    until(lambda: hospital.now() > then, "the second has passed", every=0.01)
    hospital.schedule("ACC081", "1201", who=81)
    return then


@pytest.mark.parametrize("scripts", [True, False], ids=["", "without JavaScript"])
def test_a_moment_is_shown_to_the_second(hospital: Hospital, enter: Enter, moment: datetime, scripts: bool) -> None:
    page = enter(java_script_enabled=scripts).open()
    page.get_by_text("Another day, or a moment to the second").click()
    page.get_by_label("As it stood at (empty: now)").fill(f"{moment:%Y-%m-%dT%H:%M:%S}")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("heading", name=f"As it stood at {moment:%Y-%m-%d %H:%M:%S}")).to_be_visible()
    assert order(page)[-1] == "ACC080"
    page.get_by_role("link", name="Back to now").click()
    expect(row(page, "ACC081")).to_be_visible()


# --- without scripts


def test_without_javascript_the_slider_is_a_form(hospital: Hospital, enter: Enter) -> None:
    page = enter(java_script_enabled=False).open()
    expect(row(page, "ACC030")).to_contain_text("Scheduled")
    page.get_by_role("slider").press("Home")
    page.get_by_role("button", name="Show that moment").click()
    expect(page.get_by_text("Nobody is on the list of this day.")).to_be_visible()
    page.get_by_role("link", name="Back to now").click()
    expect(row(page, "ACC030")).to_be_visible()


def test_without_javascript_the_page_says_that_it_has_to_be_loaded_again(hospital: Hospital, enter: Enter) -> None:
    page = enter(java_script_enabled=False).open()
    hospital.schedule("ACC090", "1300", who=90)
    page.get_by_role("link", name="Load it again").click()
    expect(row(page, "ACC090")).to_be_visible()


# --- when the line breaks


def test_a_page_whose_gateway_went_away_says_so_and_is_right_again_afterwards(hospital: Hospital, enter: Enter) -> None:
    visitor = enter()
    page = visitor.open()
    lost = page.get_by_text("The connection to the gateway is lost")
    expect(lost).to_be_hidden()
    with without_reload(page):
        hospital.gateway.stop()
        expect(lost).to_be_visible()
        hospital.gateway.start()
        hospital.schedule("ACC100", "1400", who=100)
        expect(row(page, "ACC100")).to_be_visible()
        expect(lost).to_be_hidden()
    visitor.bear("ERR_CONNECTION_REFUSED")
