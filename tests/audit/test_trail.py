"""Who saw whom: by person, by item, by unit and by time, from all records in one order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.synthetic import change, completed, naming, participant, request, schedule, start, step_uid, wrong_entry
from gateway.application import Gateway
from gateway.audit import activities, trail
from gateway.audit.trail import Trace, Wanted
from gateway.dicom import record
from gateway.dicom.data_set import IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT
from gateway.dicom.record import Query, QueryRecord, RefusedAssociation, Retrieval
from gateway.domain.lifecycle import Status

HERS = "9990000018"
OTHER = participant(2)


def key(group: int, element: int, value: bytes) -> bytes:
    return group.to_bytes(2, "little") + element.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value


def by_patient_id(value: str) -> bytes:
    """An identifier that asks for the name and has a Patient ID, Implicit VR Little Endian."""
    return key(0x0010, 0x0010, b"") + key(0x0010, 0x0020, value.encode())


def now(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def a_query(*numbers: str, at: str = "", **values: Any) -> Query:
    details: dict[str, Any] = {
        "at": at or now(),
        "calling_ae_title": "MAMMO1",
        "called_ae_title": "ORTHANC_MWL",
        "address": "192.0.2.7",
        "keys": ("Modality",),
        "identifier": key(0x0008, 0x0060, b"MG"),
        "transfer_syntax": IMPLICIT,
        "status": 0,
        "error_comment": "",
        "answers": len(numbers),
        "accession_numbers": numbers,
        "milliseconds": 1.0,
    }
    return Query(**{**details, **values})


def a_refusal(at: str = "") -> RefusedAssociation:
    return RefusedAssociation(
        at=at or now(),
        calling_ae_title="MAMO1",
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.9",
        reason="Calling AE title not recognised",
    )


def a_retrieval(uid: str) -> Retrieval:
    return Retrieval(
        at=now(),
        calling_ae_title="WORKSTATION",
        called_ae_title="ORTHANC_MWL",
        address="192.0.2.8",
        sop_instance_uid=uid,
    )


def recorded(gateway: Gateway, *records: record.Record) -> None:
    book = QueryRecord(gateway, kept_days=36500)
    for one in records:
        book.add(one)
    book.start()
    book.close()


def traces(gateway: Gateway, **wanted: str) -> list[Trace]:
    asked = Wanted(**wanted)
    person = trail.person_of(gateway, asked)
    return [trail.told(act, person) for act in trail.search(gateway, asked)]


def told(gateway: Gateway, **wanted: str) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(trace.act, trace.who, trace.about) for trace in traces(gateway, **wanted)]


@pytest.fixture
def story(gateway: Gateway) -> Gateway:
    """Two women with an item each; a unit lists both, performs hers; an operator sets the other's status and looks."""
    schedule(gateway, "ACC001")
    schedule(gateway, "ACC002", **OTHER)
    recorded(gateway, a_query("ACC001", "ACC002"), a_query("ACC002", calling_ae_title="MAMMO2"), a_refusal())
    start(gateway, step_uid(1), naming("ACC001"))
    change(gateway, completed(step_uid(1)))
    gateway.correct_status("ACC002", Status.COMPLETED, reason="on paper", operator="night shift")
    activities.looked(gateway, "night shift", "worklist list", ["ACC002"])
    return gateway


# --- by person and item


def test_of_a_patient_it_is_told_who_was_shown_reported_and_decided_and_nothing_of_others(story: Gateway) -> None:
    assert told(story, patient_id=HERS) == [
        ("was shown", "MAMMO1", ("ACC001",)),
        ("started", "MAMMO1", ("ACC001",)),
        ("completed", "MAMMO1", ("ACC001",)),
    ]


def test_of_an_item_the_operators_acts_and_looks_are_told_with_reasons(story: Gateway) -> None:
    found = traces(story, accession_number="ACC002")
    assert [(trace.act, trace.who) for trace in found] == [
        ("was shown", "MAMMO1"),
        ("was shown", "MAMMO2"),
        ("corrected", "night shift"),
        ("looked", "night shift"),
    ]
    assert found[2].outcome == "on paper"
    assert found[3].outcome == "by gateway worklist list, 1 shown"


def test_why_names_were_looked_at_is_told_with_the_look(story: Gateway) -> None:
    activities.looked(story, "E. Example", "window step ACC002", ["ACC002"], reason="she rang")
    assert traces(story, accession_number="ACC002")[-1].outcome == "by gateway window step ACC002, 1 shown: she rang"


def test_patient_and_item_together_must_belong_together(story: Gateway) -> None:
    assert told(story, patient_id=HERS, accession_number="ACC001") == told(story, patient_id=HERS)
    assert told(story, patient_id=HERS, accession_number="ACC002") == []


def test_an_accession_number_is_found_whole_only(gateway: Gateway) -> None:
    schedule(gateway, "ACC1")
    recorded(gateway, a_query("ACC10"), a_query("XACC1"), a_query("ACC2", "ACC1", "ACC3"))
    assert told(gateway, accession_number="ACC1") == [("was shown", "MAMMO1", ("ACC1",))]


def test_who_asked_for_a_patient_by_id_is_told_though_nothing_was_shown(gateway: Gateway) -> None:
    schedule(gateway)
    hers, another = by_patient_id(HERS), by_patient_id("9990000026")
    recorded(
        gateway,
        a_query(identifier=hers, keys=("PatientID",)),
        a_query(identifier=another, keys=("PatientID",)),
        a_query(identifier=None, keys=("PatientID",)),
    )
    [trace] = traces(gateway, patient_id=HERS)
    assert (trace.act, trace.about) == ("asked", ())
    assert [(one.keyword, one.value) for one in trace.keys] == [("PatientID", HERS)]
    assert trace.attributes == ("PatientName", "PatientID")


def test_a_step_that_named_her_id_is_hers_though_it_is_linked_to_no_item_or_names_another_s(gateway: Gateway) -> None:
    schedule(gateway, "ACC002", **OTHER)
    start(gateway, step_uid(1))
    start(gateway, step_uid(2), naming("ACC002"))
    start(gateway, step_uid(3), patient_id=OTHER["patient_id"])
    gateway.dismiss_step(step_uid(1), reason="a phantom", operator="night shift")
    assert told(gateway, patient_id=HERS) == [
        ("started", "MAMMO1", (step_uid(1),)),
        ("started", "MAMMO1", ("ACC002",)),
        ("dismissed", "night shift", (step_uid(1),)),
    ]


def test_a_look_at_everything_in_a_range_is_a_look_at_her(gateway: Gateway) -> None:
    schedule(gateway)
    activities.looked(gateway, "auditor", "audit export", [activities.EVERYTHING])
    assert told(gateway, patient_id=HERS) == [("looked", "auditor", (activities.EVERYTHING,))]


@pytest.mark.parametrize("wanted", [{"patient_id": HERS}, {"accession_number": "ACC001"}, {"ae_title": "WORKSTATION"}])
def test_who_retrieved_a_step_of_hers_was_shown_her(story: Gateway, wanted: dict[str, str]) -> None:
    start(story, step_uid(2), naming("ACC001"), patient_id=OTHER["patient_id"])  # named hers, and is another's
    recorded(story, a_retrieval(step_uid(1)), a_retrieval(step_uid(1)))
    if "ae_title" not in wanted:
        recorded(story, a_retrieval(step_uid(2)))
    [trace] = [trace for trace in traces(story, **wanted) if trace.act == "retrieved"]
    assert (trace.who, trace.about, trace.times) == ("WORKSTATION", (step_uid(1),), 2)


def test_of_an_unknown_patient_nothing_is_known(story: Gateway) -> None:
    person = trail.person_of(story, Wanted(patient_id="9990000099"))
    assert person is not None
    assert not person.is_known
    assert told(story, patient_id="9990000099") == []


# --- an item that became another's


def amended(gateway: Gateway, number: str, **changes: str) -> str:
    """Amend an item, as the web app does; returns the instant of the commit."""
    gateway.amend(number, lambda _: changes, request=request(f"amend-{changes}", "worklist.update_item"))
    return gateway.timeline(number)[-1].committed_at


def at(instant: str, seconds: float) -> str:
    """So many seconds after an instant, as the record of queries writes it."""
    return (datetime.fromisoformat(instant) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def test_what_was_shown_of_an_item_was_the_person_s_whose_it_was_then(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    changed = amended(gateway, "X2", patient_id="9990000034")
    recorded(
        gateway,
        a_query("X2", at=at(changed, -60)),
        a_query("X2", at=at(changed, 60), calling_ae_title="MAMMO2"),
    )
    assert told(gateway, patient_id="9990000026") == [("was shown", "MAMMO1", ("X2",))]
    assert told(gateway, patient_id="9990000034") == [("was shown", "MAMMO2", ("X2",))]
    assert len(told(gateway, accession_number="X2")) == 2
    assert told(gateway, patient_id="9990000026", accession_number="X2") == [("was shown", "MAMMO1", ("X2",))]


def test_a_patient_whose_only_item_became_another_s_is_still_known(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    amended(gateway, "X2", patient_id="9990000034")
    person = trail.person_of(gateway, Wanted(patient_id="9990000026"))
    assert person is not None
    assert person.is_known


def test_an_item_that_was_given_back_is_hers_before_and_after_and_not_between(gateway: Gateway) -> None:
    schedule(gateway, "X2")
    away = amended(gateway, "X2", patient_id="9990000034")
    back = amended(gateway, "X2", patient_id=HERS)
    person = trail.person_of(gateway, Wanted(patient_id=HERS))
    other = trail.person_of(gateway, Wanted(patient_id="9990000034"))
    assert person is not None
    assert other is not None
    assert [person.has_within("X2", at(when, far), at(when, far)) for when, far in ((away, -9), (back, 9))] == [
        True
    ] * 2
    assert [other.has_within("X2", at(when, far), at(when, far)) for when, far in ((away, -9), (back, 9))] == [
        False
    ] * 2
    positions = [row.position for row in gateway.timeline("X2") if row.kind.startswith("WorklistItem.")]
    assert [person.has_at("X2", position) for position in positions] == [True, True, True]
    assert [other.has_at("X2", position) for position in positions] == [False, True, True]
    assert not other.has_at("X2", positions[-1] + 1)


def test_equal_queries_before_and_after_the_amendment_share_a_row_that_is_told_of_both(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    changed = amended(gateway, "X2", patient_id="9990000034")
    recorded(gateway, a_query("X2", at=at(changed, -60)), a_query("X2", at=at(changed, 60)))
    for patient_id in ("9990000026", "9990000034"):
        [trace] = traces(gateway, patient_id=patient_id)
        assert (trace.act, trace.times) == ("was shown", 2)


def test_an_answer_that_was_read_before_the_amendment_and_sent_after_it_showed_the_first_person(
    gateway: Gateway,
) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    changed = amended(gateway, "X2", patient_id="9990000034")
    recorded(gateway, a_query("X2", at=at(changed, 2), milliseconds=5000.0))
    assert [act for act, *_ in told(gateway, patient_id="9990000026")] == ["was shown"]


def test_another_name_alone_leaves_the_item_hers(gateway: Gateway) -> None:
    schedule(gateway, "X2")
    changed = amended(gateway, "X2", patient_name="JONES^JANE")
    recorded(gateway, a_query("X2", at=at(changed, -60)), a_query("X2", at=at(changed, 600)))
    assert len(told(gateway, patient_id=HERS)) == 2


def test_a_step_withdrawn_before_the_amendment_is_not_told_of_the_next_person(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    start(gateway, step_uid(1), naming("X2"), patient_id="9990000026")
    change(gateway, wrong_entry(step_uid(1)))
    amended(gateway, "X2", patient_id="9990000034")
    recorded(gateway, a_retrieval(step_uid(1)))
    assert [act for act, *_ in told(gateway, patient_id="9990000026")] == ["started", "discontinued", "retrieved"]
    assert told(gateway, patient_id="9990000034") == []


def test_a_look_is_told_of_whom_it_showed(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    amended(gateway, "X2", patient_id="9990000034")
    activities.looked(gateway, "present", "worklist list", ["X2"])
    activities.looked(gateway, "historian", "timeline", ["X2"])
    assert [who for _, who, _ in told(gateway, patient_id="9990000026")] == ["historian"]
    assert [who for _, who, _ in told(gateway, patient_id="9990000034")] == ["present", "historian"]


def test_a_look_at_an_earlier_moment_is_told_of_the_person_of_then(gateway: Gateway) -> None:
    schedule(gateway, "X2", patient_id="9990000026")
    then = gateway.timeline("X2")[-1].committed_at
    amended(gateway, "X2", patient_id="9990000034")
    activities.looked(gateway, "auditor", "worklist list", ["X2"], as_of=then)
    assert [who for _, who, _ in told(gateway, patient_id="9990000026")] == ["auditor"]


# --- by unit and time


def test_of_a_unit_all_that_it_asked_reported_and_was_refused_is_told(story: Gateway) -> None:
    assert [act for act, *_ in told(story, ae_title="MAMMO1")] == ["was shown", "started", "completed"]
    [trace] = traces(story, ae_title="MAMO1")
    assert (trace.act, trace.address, trace.outcome) == (
        "was refused",
        "192.0.2.9",
        "Calling AE title not recognised",
    )
    assert told(story, ae_title="MAMMO2", accession_number="ACC001") == []


def test_everything_since_a_moment_stands_in_the_order_of_time_starts_and_refusals_too(story: Gateway) -> None:
    activities.service_started(story, "gateway")
    found = traces(story, since="2026-01-01T00:00:00+00:00")
    instants = [datetime.fromisoformat(trace.at) for trace in found]
    assert instants == sorted(instants)
    assert {trace.act for trace in found} == {
        "was shown",
        "was refused",
        "started",
        "completed",
        "corrected",
        "looked",
        "service started",
    }
    assert {trace.source[0] for trace in found} == {"queries", "refused_associations", "events", "activities"}


def test_a_span_begins_with_its_first_moment_and_leaves_out_its_last(gateway: Gateway) -> None:
    recorded(gateway, *(a_query(f"ACC{second}", at=f"2026-11-23T09:00:0{second}.000+00:00") for second in range(4)))
    span = {"since": "2026-11-23T09:00:01.000000+00:00", "until": "2026-11-23T09:00:03.000000+00:00"}
    assert [about for _, _, about in told(gateway, **span)] == [("ACC1",), ("ACC2",)]


def test_a_run_of_polls_is_found_by_any_of_its_moments(gateway: Gateway) -> None:
    at = [f"2026-11-23T09:0{minute}:00.000+00:00" for minute in range(4)]
    recorded(gateway, *(a_query("ACC001", at=one) for one in at))
    [trace] = traces(gateway, since="2026-11-23T09:02:30+00:00")
    assert (trace.at, trace.last_at, trace.times) == (at[0], at[3], 4)


def test_a_database_that_no_service_ever_served_has_no_queries_and_says_so(gateway: Gateway) -> None:
    schedule(gateway)
    assert told(gateway, accession_number="ACC001") == []
    with gateway.reading() as connection:
        assert record.reaches_back_to(connection) is None
    recorded(gateway, a_query(at="2026-11-23T09:00:00.000+00:00"))
    with gateway.reading() as connection:
        assert record.reaches_back_to(connection) == "2026-11-23T09:00:00.000+00:00"
