"""What the web app sends, as models: parsing, DICOM's limits and the path of what is wrong in one place.

Unknown keys are ignored. In an update an absent key leaves the value as it is and null clears it where it is optional.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.domain import values
from gateway.domain.lifecycle import Status, status_of


def _checked(check: Callable[[str, str], str], field: str) -> AfterValidator:
    return AfterValidator(lambda value: check(value, field))


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _one_or_many(value: object) -> object:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else value


def _with_offset(value: object) -> datetime:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError("starts_at: must be ISO 8601 with an offset, such as 2026-04-24T11:00:00+01:00")
    return instant


AccessionNumber = Annotated[str, AfterValidator(values.accession_number)]
PatientId = Annotated[str, AfterValidator(values.patient_id)]
PersonName = Annotated[str, AfterValidator(values.person_name)]
BirthDate = Annotated[str, _checked(values.date_of, "patient_birth_date")]
ScheduledDate = Annotated[str, _checked(values.date_of, "scheduled_date")]
ScheduledTime = Annotated[str, _checked(values.time_of, "scheduled_time")]
Modality = Annotated[str, _checked(values.code_string, "modality")]
StartsAt = Annotated[datetime, BeforeValidator(_with_offset)]
StationAETitles = Annotated[list[Annotated[str, AfterValidator(values.ae_title)]], BeforeValidator(_one_or_many)]
Sex = Annotated[Annotated[str, AfterValidator(values.sex)] | None, BeforeValidator(_empty_is_none)]


Description = Annotated[
    Annotated[str, _checked(values.long_string, "study_description")] | None, BeforeValidator(_empty_is_none)
]
Code = Annotated[
    Annotated[str, _checked(values.short_string, "procedure_code")] | None, BeforeValidator(_empty_is_none)
]
CodeScheme = Annotated[
    Annotated[str, _checked(values.short_string, "procedure_code_scheme")] | None, BeforeValidator(_empty_is_none)
]
CodeMeaning = Annotated[
    Annotated[str, _checked(values.long_string, "procedure_code_meaning")] | None, BeforeValidator(_empty_is_none)
]
Location = Annotated[Annotated[str, _checked(values.short_string, "location")] | None, BeforeValidator(_empty_is_none)]
Physician = Annotated[
    Annotated[str, _checked(values.person_name, "performing_physician")] | None, BeforeValidator(_empty_is_none)
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Participant(_Message):
    """Who comes."""

    nhs_number: PatientId
    name: PersonName
    birth_date: BirthDate
    sex: Sex = None


class Scheduled(_Message):
    """When and where. `starts_at` wins over `date` and `time`, and can stand for them."""

    date: ScheduledDate | None = None
    time: ScheduledTime | None = None
    starts_at: StartsAt | None = None
    station_ae_title: StationAETitles = Field(default_factory=list)
    location: Location = None
    performing_physician: Physician = None

    @model_validator(mode="after")
    def _is_complete(self) -> Scheduled:
        if self.starts_at is None and (self.date is None or self.time is None):
            missing = "date" if self.date is None else "time"
            raise ValueError(f"scheduled_{missing}: give date and time, or starts_at")
        return self


class Procedure(_Message):
    """What is to be done."""

    modality: Modality
    study_description: Description = None
    code: Code = None
    code_scheme: CodeScheme = None
    code_meaning: CodeMeaning = None


class ItemToCreate(_Message):
    """The worklist item of a create action."""

    accession_number: AccessionNumber
    participant: Participant
    scheduled: Scheduled
    procedure: Procedure


class ParticipantChanges(_Message):
    """What changes about who comes."""

    nhs_number: PatientId = ""
    name: PersonName = ""
    birth_date: BirthDate = ""
    sex: Sex = None


class ScheduledChanges(_Message):
    """What changes about when and where."""

    date: ScheduledDate = ""
    time: ScheduledTime = ""
    starts_at: StartsAt | None = None
    station_ae_title: StationAETitles = Field(default_factory=list)
    location: Location = None
    performing_physician: Physician = None


class ProcedureChanges(_Message):
    """What changes about what is to be done."""

    modality: Modality = ""
    study_description: Description = None
    code: Code = None
    code_scheme: CodeScheme = None
    code_meaning: CodeMeaning = None


class ItemToUpdate(_Message):
    """The worklist item of an update action: any subset of the item's fields."""

    accession_number: AccessionNumber
    participant: ParticipantChanges = Field(default_factory=ParticipantChanges)
    scheduled: ScheduledChanges = Field(default_factory=ScheduledChanges)
    procedure: ProcedureChanges = Field(default_factory=ProcedureChanges)


class ItemWithStatus(_Message):
    """The worklist item of a status action; `status` in any case, with space or underscore."""

    accession_number: AccessionNumber
    status: Annotated[str, AfterValidator(status_of)]

    def wanted(self) -> Status:
        """The status."""
        return Status(self.status)


class ItemToCancel(_Message):
    """The worklist item of a cancel action."""

    accession_number: AccessionNumber
    reason: Annotated[str, Field(max_length=1024)] | None = None


class _CreateParameters(_Message):
    worklist_item: ItemToCreate


class _UpdateParameters(_Message):
    worklist_item: ItemToUpdate


class _StatusParameters(_Message):
    worklist_item: ItemWithStatus


class _CancelParameters(_Message):
    worklist_item: ItemToCancel


class CreateItem(_Message):
    """`worklist.create_item`, and `worklist.create_test_item` for a rehearsal."""

    action_type: Literal["worklist.create_item", "worklist.create_test_item"]
    parameters: _CreateParameters


class UpdateItem(_Message):
    """`worklist.update_item`."""

    action_type: Literal["worklist.update_item"]
    parameters: _UpdateParameters


class UpdateStatus(_Message):
    """`worklist.update_status`."""

    action_type: Literal["worklist.update_status"]
    parameters: _StatusParameters


class CancelItem(_Message):
    """`worklist.cancel_item`."""

    action_type: Literal["worklist.cancel_item"]
    parameters: _CancelParameters


WorklistMessage = CreateItem | UpdateItem | UpdateStatus | CancelItem

MODELS: dict[str, type[WorklistMessage]] = {
    "worklist.create_item": CreateItem,
    "worklist.create_test_item": CreateItem,
    "worklist.update_item": UpdateItem,
    "worklist.update_status": UpdateStatus,
    "worklist.cancel_item": CancelItem,
}
"""The actions that change something, by their type."""

_ITEM = "parameters.worklist_item"

PATHS = {
    "accession_number": f"{_ITEM}.accession_number",
    "patient_id": f"{_ITEM}.participant.nhs_number",
    "patient_name": f"{_ITEM}.participant.name",
    "patient_birth_date": f"{_ITEM}.participant.birth_date",
    "patient_sex": f"{_ITEM}.participant.sex",
    "scheduled_date": f"{_ITEM}.scheduled.date",
    "scheduled_time": f"{_ITEM}.scheduled.time",
    "station_ae_titles": f"{_ITEM}.scheduled.station_ae_title",
    "location": f"{_ITEM}.scheduled.location",
    "performing_physician": f"{_ITEM}.scheduled.performing_physician",
    "modality": f"{_ITEM}.procedure.modality",
    "study_description": f"{_ITEM}.procedure.study_description",
    "procedure_code": f"{_ITEM}.procedure.code",
    "procedure_code_scheme": f"{_ITEM}.procedure.code_scheme",
    "procedure_code_meaning": f"{_ITEM}.procedure.code_meaning",
}
"""The domain's names of values → their place in a message."""


def path_of(field: str, action_type: str) -> str:
    """Where the message says it; an item's status is said by `worklist.update_status` only."""
    if field == "status" and action_type == "worklist.update_status":
        return f"{_ITEM}.status"
    return PATHS.get(field, field)
