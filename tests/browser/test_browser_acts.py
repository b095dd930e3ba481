"""What an operator does about what went wrong, by hand and with a reason, and sees that it helped."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import morning, visiting
from tests.browser.conftest import Enter
from tests.browser.visiting import Hospital, without_reload
from tests.end_to_end.web_app import settled

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser-acts")]

TOKENS = {"gateway_ops_viewer_token": "a-viewer-may-look-only", "gateway_ops_operator_token": "an-operator-may-act-too"}
REASON = "the appointment was made again by hand"


@pytest.fixture(scope="module")
def hospital() -> Iterator[Hospital]:
    """One after a morning: two status events are parked, one step is of nobody."""
    with tempfile.TemporaryDirectory() as folder, visiting.hospital(Path(folder), **TOKENS) as everything:
        morning.play(everything)
        yield everything


def signed_in(enter: Enter, role: str, path: str = "/clinic", **options: object) -> Page:
    return visiting.sign_in(enter(**options), TOKENS[f"gateway_ops_{role}_token"], "O. Perator", path)


def test_the_clinic_leads_to_the_timeline_of_an_appointment(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "viewer")
    page.get_by_role("link", name=morning.COMPLETED).click()
    expect(page.get_by_role("heading", name=f"Step {morning.COMPLETED}")).to_be_visible()
    hops = page.locator("#timeline tbody tr")
    told = [text.split("\t")[2].strip() for text in hops.all_inner_texts()]
    assert told == [hop["hop"] for hop in hospital.gateway.look("timeline", morning.COMPLETED)]
    expect(page.locator("#performed")).to_contain_text("Screening mammography")


def test_a_viewer_is_offered_no_act(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "viewer")
    for path in ("/outbox", "/unmatched", f"/step/{morning.BEGUN}"):
        page.goto(f"{hospital.address}{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("main form")).to_have_count(0)


def test_an_act_without_a_reason_is_not_done(hospital: Hospital, enter: Enter) -> None:
    page = signed_in(enter, "operator", "/outbox")
    parked = page.locator("#parked tbody tr").first
    parked.locator("summary").click()
    parked.get_by_role("button", name="Send again").click()
    assert parked.get_by_label("Why?").evaluate("field => field.validity.valueMissing")
    expect(page.locator("#parked tbody tr")).to_have_count(2)


@pytest.mark.parametrize("scripts", [True, False], ids=["", "without JavaScript"])
def test_a_parked_event_is_sent_again_and_acknowledged(hospital: Hospital, enter: Enter, scripts: bool) -> None:
    hospital.web_app.answer = settled
    page = signed_in(enter, "operator", "/outbox", java_script_enabled=scripts)
    clinic = signed_in(enter, "viewer")
    parked = page.locator("#parked tbody tr")
    before = parked.count()
    with without_reload(clinic):
        parked.first.locator("summary").click()
        parked.first.get_by_label("Why?").fill(REASON)
        parked.first.get_by_label("Also if the web app has heard a later status").check()
        parked.first.get_by_role("button", name="Send again").click()
        expect(page.get_by_role("alert").filter(has_text="Done")).to_be_visible()
        expect(parked).to_have_count(before - 1)
        row = clinic.locator(f"#item-{morning.PARKED}")
        expect(row).to_contain_text("acknowledged" if before == 1 else "parked")
    assert REASON in json.dumps(hospital.gateway.look("timeline", morning.PARKED, "--reveal"))


def test_an_unmatched_step_is_linked_to_its_appointment(hospital: Hospital, enter: Enter) -> None:
    clinic = signed_in(enter, "viewer")
    page = signed_in(enter, "operator", "/unmatched")
    step = page.locator("#unmatched tbody tr").first
    expect(step).to_contain_text(morning.UNMATCHED)
    with without_reload(clinic):
        step.locator("summary", has_text="Link").click()
        step.get_by_label("Accession number of its appointment").fill(morning.EXPECTED[-1][0])
        step.get_by_label("Why?").first.fill("typed by hand at the unit")
        step.get_by_role("button", name="Link").click()
        expect(page.get_by_text("None: each performed step has its appointment.")).to_be_visible()
        expect(clinic.locator(f"#item-{morning.EXPECTED[-1][0]}")).to_contain_text("Completed")
        expect(clinic.locator("#strip")).to_contain_text("unmatched steps: 0")


def test_an_appointment_is_cancelled_by_hand_and_the_web_app_hears_of_it(hospital: Hospital, enter: Enter) -> None:
    number = morning.EXPECTED[5][0]
    page = signed_in(enter, "operator", f"/step/{number}")
    acts = page.locator("#acts details").filter(has_text="Cancel the appointment")
    acts.locator("summary").click()
    acts.get_by_label("Why?").fill("she rang and will not come")
    acts.get_by_role("button", name="Cancel the appointment").click()
    expect(page.locator("#summary")).to_contain_text("Cancelled")
    hospital.web_app.until_told(number, "CANCELLED")
