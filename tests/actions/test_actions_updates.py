"""An absent key leaves a value as it is; null clears it where it is optional and is refused where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from actions_support import action, ask, create, sample

from gateway.actions.door import ActionDoor
from gateway.application import Gateway
from projections.worklist import WorklistRow

Served = Callable[..., WorklistRow]
ITEM = "parameters.worklist_item"

FULL = create(
    scheduled={
        "station_ae_title": ["MAMMO1", "MAMMO2"],
        "location": "ROOM 2",
        "performing_physician": "PATEL^ANITA",
    },
    procedure={"code": "MAMMO", "code_scheme": "99BSS", "code_meaning": "Screening Mammography"},
)

COLUMNS = {
    ("participant", "nhs_number"): ("patient_id", "9990000026"),
    ("participant", "name"): ("patient_name", "SMITH^JANE^MARY"),
    ("participant", "birth_date"): ("patient_birth_date", "19650316"),
    ("participant", "sex"): ("patient_sex", "O"),
    ("scheduled", "date"): ("scheduled_date", "20260425"),
    ("scheduled", "time"): ("scheduled_time", "143000"),
    ("scheduled", "location"): ("location", "ROOM 3"),
    ("scheduled", "performing_physician"): ("performing_physician", "JONES^SAM"),
    ("procedure", "modality"): ("modality", "US"),
    ("procedure", "study_description"): ("study_description", "Ultrasound"),
    ("procedure", "code"): ("procedure_code", "US1"),
    ("procedure", "code_scheme"): ("procedure_code_scheme", "99X"),
    ("procedure", "code_meaning"): ("procedure_code_meaning", "Ultrasound of breast"),
}
"""Where a value is → its column and another value for it."""

OPTIONAL = {
    ("participant", "sex"): "patient_sex",
    ("scheduled", "location"): "location",
    ("scheduled", "performing_physician"): "performing_physician",
    ("procedure", "study_description"): "study_description",
    ("procedure", "code"): "procedure_code",
    ("procedure", "code_scheme"): "procedure_code_scheme",
    ("procedure", "code_meaning"): "procedure_code_meaning",
}

WRITTEN = ("updated_at", "row_version")


def values(row: WorklistRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__slots__ if name not in WRITTEN}


def named(place: tuple[str, str]) -> str:
    return ".".join(place)


def update(door: ActionDoor, **item: Any) -> dict[str, Any]:
    return ask(door, action("update", "update_item", **item))


@pytest.mark.parametrize("place", COLUMNS, ids=named)
def test_a_key_that_is_there_changes_its_value_and_no_other(
    door: ActionDoor, served: Served, place: tuple[str, str]
) -> None:
    ask(door, FULL)
    before = values(served())
    (section, key), (column, value) = place, COLUMNS[place]
    assert update(door, **{section: {key: value}})["status"] == "updated"
    assert values(served()) == before | {column: value}


@pytest.mark.parametrize("place", OPTIONAL, ids=named)
@pytest.mark.parametrize("value", [None, "", "  "], ids=["null", "empty", "blank"])
def test_null_clears_what_is_optional(
    door: ActionDoor, served: Served, place: tuple[str, str], value: str | None
) -> None:
    ask(door, FULL)
    before = values(served())
    section, key = place
    assert update(door, **{section: {key: value}})["status"] == "updated"
    assert values(served()) == before | {OPTIONAL[place]: None}


@pytest.mark.parametrize("place", sorted(COLUMNS.keys() - OPTIONAL.keys()), ids=named)
def test_null_is_refused_where_a_value_is_needed(door: ActionDoor, served: Served, place: tuple[str, str]) -> None:
    ask(door, FULL)
    before = values(served())
    section, key = place
    reply = update(door, **{section: {key: None}})
    assert (reply["code"], reply["field"]) == ("validation", f"{ITEM}.{section}.{key}")
    assert values(served()) == before


@pytest.mark.parametrize(
    ("stations", "served_for"),
    [("MAMMO3", ("MAMMO3",)), (["MAMMO3"], ("MAMMO3",)), ([], ()), (None, ()), ("", ())],
)
def test_stations_are_replaced_as_a_whole_and_none_is_any_station(
    door: ActionDoor, served: Served, stations: Any, served_for: tuple[str, ...]
) -> None:
    ask(door, FULL)
    update(door, scheduled={"station_ae_title": stations})
    assert served().station_ae_titles == served_for


def test_moving_an_appointment_leaves_its_stations_and_its_room(door: ActionDoor, served: Served) -> None:
    ask(door, FULL)
    before = values(served())
    update(door, scheduled={"time": "1515"})
    assert values(served()) == before | {"scheduled_time": "151500"}


@pytest.mark.parametrize("section", ["participant", "scheduled", "procedure"])
def test_a_section_without_keys_changes_nothing_and_a_section_of_null_is_refused(
    door: ActionDoor, served: Served, section: str
) -> None:
    ask(door, FULL)
    before = values(served())
    assert ask(door, action("u1", "update_item", **{section: {}}))["status"] == "updated"
    reply = ask(door, action("u2", "update_item", **{section: None}))
    assert (reply["code"], reply["field"]) == ("validation", f"{ITEM}.{section}")
    assert values(served()) == before


def test_an_update_with_the_values_that_are_there_is_answered_updated_and_changes_nothing(
    door: ActionDoor, gateway: Gateway, served: Served
) -> None:
    ask(door, FULL)
    before = served()
    assert update(door, participant={"name": "SMITH^JANE"}, scheduled={"time": "1000"})["status"] == "updated"
    assert served() == before
    assert [row.kind for row in gateway.timeline("ACC001")][-1] == "RelayAction.Accepted"


def test_the_accession_number_itself_and_the_study_instance_uid_stay(door: ActionDoor, served: Served) -> None:
    ask(door, FULL)
    uid = served().study_instance_uid
    for place, (_, value) in COLUMNS.items():
        ask(door, action(f"update {place}", "update_item", **{place[0]: {place[1]: value}}))
    assert (served().accession_number, served().study_instance_uid) == ("ACC001", uid)


def test_the_sample_moves_the_appointment_and_adds_the_middle_name(door: ActionDoor, served: Served) -> None:
    ask(door, sample("actions/worklist.create_item.json"))
    ask(door, sample("actions/worklist.update_item.json"))
    row = served("ACC20260424A1B2")
    assert (row.scheduled_time, row.patient_name, row.patient_birth_date) == ("143000", "SMITH^JANE^MARY", "19650315")


def test_a_wrong_value_in_an_update_changes_nothing_at_all(door: ActionDoor, served: Served) -> None:
    ask(door, FULL)
    before = served()
    reply = update(door, participant={"name": "SMITH^MARY"}, scheduled={"date": "20260231"})
    assert (reply["code"], reply["field"]) == ("validation", f"{ITEM}.scheduled.date")
    assert served() == before
