"""Studies that Orthanc tells of: linked safely, told once, sealed, erased; without an Orthanc."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import (
    PERSON,
    RECEIVED,
    change,
    completed,
    naming,
    orthanc_id,
    place,
    schedule,
    start,
    step_uid,
    study,
    study_uid,
)
from gateway.application import Gateway, StudyOutcome, opened
from gateway.audit import activities, audit_messages, erasure, story, trail
from gateway.audit.activities import Activity
from gateway.domain import received_study
from gateway.domain.received_study import ReceivedStudy, Route
from gateway.errors import IllegalTransition, NotFound
from gateway.eventstore import replay

JANE = PERSON["patient_id"]


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Gateway]:
    with opened(tmp_path / "sealed.db", sealing=True) as gateway:
        yield gateway


def receive(gateway: Gateway, report: Any, change: int = 1, **how: Any) -> StudyOutcome:
    if gateway.image_feed() is None:
        gateway.begin_feed(reason="the first that is followed", database="")
    return gateway.receive_study(report, place(change), received_at=RECEIVED, **how)


def images_events(gateway: Gateway) -> list[Any]:
    with gateway.reading() as connection:
        found = [event.domain_event for event in replay.read(connection, gateway.mapper)]
    return [event for event in found if event.TOPIC == "WorklistItem.ImagesReceived"]


def test_the_position_is_saved_with_what_it_caused_or_neither_is(gateway: Gateway) -> None:
    schedule(gateway)
    receive(gateway, study(), change=7)
    before = gateway.image_feed()
    assert before
    assert before.resume_after == 7
    assert receive(gateway, study(), change=17) == StudyOutcome("ACC001", is_new=False)
    assert gateway.image_feed() == before  # nothing happened: a restart reads the change again, and so does no harm


def test_the_news_of_images_wait_for_the_statuses_before_them(gateway: Gateway) -> None:
    """In one order for each accession number (design §3.8)."""
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    receive(gateway, study(), tell_web_app=True)
    change(gateway, completed(step_uid(1)))
    updates = gateway.find_updates()
    assert [(row.sequence, row.event_type, row.status) for row in updates] == [
        (1, "mpps.status_update", "IN PROGRESS"),
        (2, "study.images_received", ""),
        (3, "mpps.status_update", "COMPLETED"),
    ]
    assert [row.sequence for row in gateway.due_updates()] == [1]


def test_a_parked_status_may_be_sent_again_after_news_of_images_were_acknowledged(gateway: Gateway) -> None:
    """They put no status back."""
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    receive(gateway, study(), tell_web_app=True)
    status, images = gateway.find_updates()
    gateway.park_update(status.event_id, reason="unknown_status", attempts=1)
    gateway.acknowledge_update(images.event_id, answer="updated", attempts=1)
    gateway.requeue_update(status.event_id, reason="it knows now")
    assert [row.event_id for row in gateway.due_updates()] == [status.event_id]


def test_the_same_arrival_is_told_once_also_when_its_link_was_lost_and_found(gateway: Gateway) -> None:
    schedule(gateway)
    receive(gateway, study(), tell_web_app=True)
    gateway.amend("ACC001", lambda _: {"patient_id": "9990000026"})
    assert receive(gateway, study(), 2, tell_web_app=True).accession_number == ""
    gateway.amend("ACC001", lambda _: {"patient_id": JANE})
    assert receive(gateway, study(), 3, tell_web_app=True).accession_number == "ACC001"
    assert len(gateway.find_updates()) == 1
    assert [event.update_sequence for event in images_events(gateway)] == [1, None]


def test_images_of_a_cancelled_appointment_are_its_own_and_alerted(gateway: Gateway) -> None:
    """As a step that is performed all the same (design §3.16)."""
    schedule(gateway)
    gateway.cancel("ACC001")
    outcome = receive(gateway, study())
    assert (outcome.accession_number, outcome.alert) == (
        "ACC001",
        "images of item ACC001 came although it is CANCELLED",
    )


def of_two_patients() -> tuple[Any, Any]:
    """What the wrong patient's entry led to, and what was sent after it was corrected, under the same UIDs."""
    wrong = study(1, orthanc_id=orthanc_id(7), patient_id="9990000026", patient_name="OTHER^PERSON")
    return wrong, study(1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1)])
def test_images_of_another_patient_under_the_same_uids_are_a_study_of_their_own(
    gateway: Gateway, order: tuple[int, ...]
) -> None:
    """As Orthanc has it: the right patient's keep their item, are told once and sent on."""
    schedule(gateway)
    for change_number, which in enumerate(order, 1):
        routes = [Route(rule="all", target="PACS")]
        receive(gateway, of_two_patients()[which], change_number, routes=routes, tell_web_app=True)
    [hers] = gateway.studies_of("ACC001")
    [other] = gateway.unmatched_studies()
    assert (hers.orthanc_id, hers.patient_id) == (orthanc_id(1), JANE)
    assert (other.orthanc_id, other.patient_name) == (orthanc_id(7), "OTHER^PERSON")
    assert other.unmatched == "the study is of another patient than item ACC001"
    assert sorted(route.orthanc_id for route in gateway.open_routes()) == [orthanc_id(1), orthanc_id(7)]
    assert len(gateway.find_updates()) == 1


def test_what_is_said_of_one_of_two_studies_with_one_uid_names_it_by_its_orthanc_id(gateway: Gateway) -> None:
    for change_number, report in enumerate(of_two_patients(), 1):
        receive(gateway, report, change_number)
    with pytest.raises(IllegalTransition, match=f"2 studies have this UID.*{orthanc_id(7)}"):
        gateway.study_called(study_uid(1))
    assert gateway.study_called(orthanc_id(7)).patient_name == "OTHER^PERSON"
    with pytest.raises(NotFound):
        gateway.study_called("1.2.3")


def test_why_a_study_is_nobodys_is_said_anew_when_it_is_another_reason(gateway: Gateway) -> None:
    receive(gateway, study())
    assert gateway.linkable_studies(10) == []
    schedule(gateway, patient_id="9990000026")
    assert gateway.linkable_studies(10) == [orthanc_id(1)]
    receive(gateway, study(), 2)
    [row] = gateway.unmatched_studies()
    assert row.unmatched == "the study is of another patient than item ACC001"
    assert gateway.linkable_studies(10) == []


def test_an_appointment_that_comes_after_its_images_gets_them_when_they_are_told_of_again(gateway: Gateway) -> None:
    assert receive(gateway, study()).accession_number == ""
    schedule(gateway)
    assert receive(gateway, study(), 2) == StudyOutcome("ACC001")
    assert gateway.unmatched_studies() == []
    [row] = gateway.studies_of("ACC001")
    assert (row.unmatched, row.named, row.arrivals) == ("", "", 1)


def test_images_alone_of_a_known_study_are_not_routed_again_when_only_its_item_is_another(gateway: Gateway) -> None:
    routes = [Route(rule="all", target="PACS")]
    receive(gateway, study(), routes=routes)
    gateway.route_succeeded(orthanc_id(1), "PACS", arrival=1, job="job-1", instances=4)
    schedule(gateway)
    receive(gateway, study(), 2, routes=routes)
    [route] = gateway.routes_of(orthanc_id(1))
    assert (route.state, route.accession_number) == ("routed", "ACC001")


def test_a_job_that_sent_an_earlier_content_settles_nothing(gateway: Gateway) -> None:
    routes = [Route(rule="all", target="PACS")]
    receive(gateway, study(images=2), routes=routes)
    receive(gateway, study(images=4), 2, routes=routes)
    gateway.route_succeeded(orthanc_id(1), "PACS", arrival=1, job="job-1", instances=2)
    assert [row.state for row in gateway.open_routes()] == ["waiting"]
    gateway.route_succeeded(orthanc_id(1), "PACS", arrival=2, job="job-2", instances=4)
    assert gateway.open_routes() == []


def test_more_images_that_fit_no_rule_leave_an_open_route_as_it_was(gateway: Gateway) -> None:
    receive(gateway, study(images=2), routes=[Route(rule="all", target="PACS")])
    receive(gateway, study(images=4), 2)
    [route] = gateway.open_routes()
    gateway.route_succeeded(orthanc_id(1), "PACS", arrival=route.arrival, job="job-1", instances=4)
    assert gateway.open_routes() == []


def test_a_study_that_can_be_read_again_is_parked_no_more(gateway: Gateway) -> None:
    schedule(gateway)
    receive(gateway, study())
    gateway.park_study(study().orthanc_id, "study: Orthanc answers 500", place(2))
    assert receive(gateway, study(), 3, tell_web_app=True).is_new is False
    assert (gateway.parked_studies(), gateway.find_updates(), len(images_events(gateway))) == ([], [], 1)


def test_an_unmatched_study_may_be_dismissed_and_a_matched_one_not(gateway: Gateway) -> None:
    schedule(gateway)
    receive(gateway, study(1))
    receive(gateway, study(2, "ACC999"), 2)
    gateway.dismiss_study(orthanc_id(2), reason="a phantom", operator="night shift")
    assert gateway.unmatched_studies() == []
    with pytest.raises(IllegalTransition):
        gateway.dismiss_study(orthanc_id(1), reason="a phantom", operator="night shift")
    with pytest.raises(NotFound):
        gateway.dismiss_study("1.2.3", reason="a phantom", operator="night shift")


def test_the_span_from_the_end_of_the_step_to_its_images_is_told(gateway: Gateway) -> None:
    schedule(gateway)
    start(gateway, step_uid(1), naming())
    change(gateway, completed(step_uid(1)))
    receive(gateway, study())
    hops = story.of_accession(gateway, "ACC001")
    assert [hop.hop for hop in hops[-2:]] == ["study received", "images"]
    assert story.spans_of(hops)["completed_to_images"] > 0


# --- persons


def test_a_linked_study_has_the_key_of_its_patient_and_an_unmatched_one_its_own(sealed: Gateway) -> None:
    schedule(sealed)
    receive(sealed, study(1))
    receive(sealed, study(2, "ACC999"), 2)
    with sealed.reading() as connection:
        events = [event.domain_event for event in replay.read(connection, sealed.mapper)]
    [scheduled] = [event for event in events if event.TOPIC == "WorklistItem.Scheduled"]
    linked, apart = [event for event in events if event.TOPIC == "ReceivedStudy.Received"]
    assert linked.seal.key_id == scheduled.seal.key_id
    assert (apart.seal.is_apart, apart.seal.key_id != linked.seal.key_id) == (True, True)


@pytest.mark.parametrize(
    "report",
    [study(), study(patient_id=""), study(accession_number="ACC999"), study(accession_number="ACC999", patient_id="")],
    ids=["of the item", "without Patient ID", "of no item", "of no item, without Patient ID"],
)
def test_erasing_a_person_takes_the_studies_too(sealed: Gateway, report: Any) -> None:
    """One without Patient ID is theirs by name and birth date, as a performed step is."""
    schedule(sealed)
    sealed.cancel("ACC001")
    receive(sealed, report)
    erased = erase(sealed)
    assert (erased.received_studies, erased.remaining) == (1, ())
    [row] = sealed.latest_studies(9)
    assert (row.patient_id, row.patient_name, row.study_description, row.waits_for_person) == ("", "", "", False)
    assert sealed.verify_projections() == []
    assert [path.name for path in sealed.path.parent.iterdir() if b"SMITH" in path.read_bytes()] == []


def test_a_study_without_patient_id_that_is_linked_later_is_erased_with_the_item_s_patient(sealed: Gateway) -> None:
    """Its own key then is hers, too."""
    receive(sealed, study(patient_id="", patient_name="PHANTOM"))
    schedule(sealed)
    receive(sealed, study(patient_id="", patient_name="PHANTOM"), 2)
    sealed.cancel("ACC001")
    assert erase(sealed).received_studies == 1
    [row] = sealed.latest_studies(9)
    assert row.patient_name == ""


def test_images_of_somebody_erased_touch_no_item(sealed: Gateway) -> None:
    schedule(sealed)
    sealed.cancel("ACC001")
    erase(sealed)
    outcome = receive(sealed, study(patient_id=""))
    assert (outcome.accession_number, outcome.unmatched) == ("", "the person of item ACC001 was erased")


def test_what_people_wrote_about_an_erased_study_is_erased_too(sealed: Gateway) -> None:
    schedule(sealed)
    sealed.cancel("ACC001")
    receive(sealed, study(2, "ACC999"), routes=[Route(rule="all", target="PACS")])
    sealed.abandon_route(orthanc_id(2), "PACS", reason="Mrs. Smith rang", operator="night shift")
    sealed.dismiss_study(orthanc_id(2), reason="Mrs. Smith rang", operator="night shift")
    erase(sealed)
    assert [row.details.get("reason") for row in sealed.timeline("ACC999")].count("Mrs. Smith rang") == 0
    assert sealed.verify_projections() == []
    images = sealed.load(ReceivedStudy, ReceivedStudy.create_id(orthanc_id(2)))
    assert images
    assert images.is_erased


def test_who_looked_at_an_unmatched_study_is_found_by_its_patient(gateway: Gateway) -> None:
    schedule(gateway, patient_id="9990000026")
    receive(gateway, study(1, "ACC001"))
    receive(gateway, study(2, "ACC999", patient_id="9990000034"), 2)
    activities.looked(gateway, "anna", "images unmatched", [study_uid(1), study_uid(2)])
    acts = [trail.told(act) for act in trail.search(gateway, trail.Wanted(patient_id=JANE))]
    assert [(act.act, act.who, act.about[0]) for act in acts] == [("looked", "anna", study_uid(1))]
    gateway.dismiss_study(orthanc_id(1), reason="a phantom", operator="night shift")
    acts = [trail.told(act) for act in trail.search(gateway, trail.Wanted(patient_id=JANE))]
    assert [act.act for act in acts] == ["looked", "images dismissed"]
    [look] = [act for act in trail.search(gateway, trail.Wanted(patient_id=JANE)) if isinstance(act, Activity)]
    told = list(audit_messages.messages(gateway, look, audit_messages.Reporter(ae_title="ORTHANC_MWL")))
    assert [json.dumps(message).count(JANE) for message in told] == [1, 0]


def erase(gateway: Gateway) -> erasure.Erased:
    return erasure.erase(gateway, JANE, erasure.find(gateway, JANE), reason="request 114", operator="dpo")


def test_a_dismissed_study_that_grows_is_asked_about_again_and_can_be_dismissed_again(gateway: Gateway) -> None:
    receive(gateway, study(2, "ACC999"))
    gateway.dismiss_study(orthanc_id(2), reason="a phantom", operator="night shift")
    receive(gateway, study(2, "ACC999", images=5), 2)
    assert [row.study_instance_uid for row in gateway.unmatched_studies()] == [study_uid(2)]
    gateway.dismiss_study(orthanc_id(2), reason="still a phantom", operator="night shift")
    assert gateway.unmatched_studies() == []


def test_a_route_lost_with_its_study_is_chosen_again_when_that_comes_back_and_one_a_person_gave_up_is_not(
    gateway: Gateway,
) -> None:
    schedule(gateway)
    routes = [Route(rule="mammograms", target="PACS"), Route(rule="mammograms", target="ARCHIVE")]
    receive(gateway, study(1), routes=routes)
    gateway.abandon_route(orthanc_id(1), "PACS", reason="the study is no longer in Orthanc")
    gateway.abandon_route(orthanc_id(1), "ARCHIVE", reason="sent by hand", operator="night shift")
    receive(gateway, study(1), 2, routes=routes)
    assert {row.target: row.state for row in gateway.routes_of(orthanc_id(1))} == {
        "PACS": "waiting",
        "ARCHIVE": "abandoned",
    }
    receive(gateway, study(1), 3, routes=routes)
    assert gateway.verify_projections() == []


def _failing(gateway: Gateway, *errors: str) -> tuple[str, int]:
    """What the route's row says after these failures, and how many were told."""
    schedule(gateway)
    receive(gateway, study(1), routes=[Route(rule="mammograms", target="PACS")])
    for error in errors:
        gateway.route_failed(orthanc_id(1), "PACS", error=error)
    [row] = gateway.routes_of(orthanc_id(1))
    kinds = [row.kind for row in gateway.timeline("ACC001")]
    return row.error, kinds.count("ReceivedStudy.RouteFailed")


def test_a_failing_route_is_told_when_its_cause_changes_not_at_each_try(gateway: Gateway) -> None:
    assert _failing(gateway, "connection refused", "connection refused", "AE title rejected") == (
        "AE title rejected",
        2,
    )


def test_causes_that_take_turns_do_not_fill_the_log(gateway: Gateway) -> None:
    assert _failing(gateway, *["connection refused", "AE title rejected"] * 5)[1] == 2


def test_a_cause_that_returns_is_the_one_that_is_shown_within_an_hour(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received_study, "_TOLD_AGAIN_AFTER", timedelta(0))
    causes = ("connection refused", "AE title rejected", "connection refused", "connection refused")
    assert _failing(gateway, *causes) == ("connection refused", 3)
