"""What the web app sends, as models: parsing, DICOM's limits and the path of what is wrong in one place.

Unknown keys are ignored. In an update an absent key leaves the value as it is and null clears it where it is optional.

The published contract is written from these models (`gateway.contract`). What a validator of `gateway.domain.values`
says by code, the schema beside it says in JSON Schema; whatever the schema takes, the door takes, but for days and
times that the calendar does not have. Blanks around a text are cut off by the door, and counted by the schema.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from gateway.domain import values
from gateway.domain.lifecycle import Status, status_of


def _checked(check: Callable[[str, str], str], field: str) -> AfterValidator:
    return AfterValidator(lambda value: check(value, field))


def _empty_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _one_or_many(value: object) -> object:
    if _empty_is_none(value) is None:
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


MAXIMUM_SIZE = 64 * 1024
"""Bytes of a message; larger ones are answered `malformed`."""

DEEPEST = 100
"""Objects and lists inside each other; far below what the interpreter can take, so that a reply can repeat it."""

ACTION_ID_LIMIT = 128
"""Characters of an action_id."""

_REASON_LIMIT = 1024

_TEXT = r"[^\\\u0000-\u001f\u007f-\u009f]"
"""No backslash and no control characters (PS3.5 6.2)."""
_PN_GROUP = r"(?![^=]*(\^[^=]*){5})[^=\\\u0000-\u001f\u007f-\u009f]{0,64}"
"""64 characters in five components (PS3.5 6.2.1)."""


def _schema(**keywords: Any) -> WithJsonSchema:  # noqa: ANN401  any JSON Schema keyword
    return WithJsonSchema({"type": "string", **keywords})


def _text(limit: int, description: str) -> WithJsonSchema:
    return _schema(minLength=1, maxLength=limit, pattern=rf"^(?=.*[^ ]){_TEXT}+$", description=description)


def _maybe(limit: int, description: str) -> WithJsonSchema:
    """An optional text: null and the empty text say that there is none."""
    return WithJsonSchema(
        {"type": ["string", "null"], "maxLength": limit, "pattern": f"^{_TEXT}*$", "description": description}
    )


def _person_name(description: str, *types: str, filled: bool) -> WithJsonSchema:
    pattern = rf"^{r'(?=.*[^ ^=])' if filled else ''}{_PN_GROUP}(={_PN_GROUP}){{0,2}}$"
    return WithJsonSchema(
        {"type": [*types] if len(types) > 1 else types[0], "pattern": pattern, "description": description}
    )


def _station(description: str) -> WithJsonSchema:
    title = {"type": "string", "maxLength": 16, "pattern": r"^(?=.*[^ ])[\x20-\x5b\x5d-\x7e]+$"}
    one = title | {"pattern": r"^[\x20-\x5b\x5d-\x7e]*$"}
    return WithJsonSchema(
        {"anyOf": [one, {"type": "array", "items": title}, {"type": "null"}], "description": description}
    )


AccessionNumber = Annotated[
    str,
    AfterValidator(values.accession_number),
    _text(16, "Accession Number (DICOM SH): one scheduled step, for ever."),
]
PatientId = Annotated[
    str,
    AfterValidator(values.patient_id),
    _text(64, "Patient ID (DICOM LO). Not ten digits, or a wrong check digit, is logged as a warning and taken."),
]
PersonName = Annotated[
    str,
    AfterValidator(values.person_name),
    _person_name("FAMILY^GIVEN^MIDDLE^PREFIX^SUFFIX (DICOM PN).", "string", filled=True),
]
_DATE = _schema(pattern=r"^[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])$", description="YYYYMMDD (DICOM DA).")
_TIME = _schema(
    pattern=r"^([01][0-9]|2[0-3])[0-5][0-9]([0-5][0-9])?$",
    description="HHMM or HHMMSS (DICOM TM): the site's wall clock, or UTC where the gateway's setting says so.",
)
BirthDate = Annotated[str, _checked(values.date_of, "patient_birth_date"), _DATE]
ScheduledDate = Annotated[str, _checked(values.date_of, "scheduled_date"), _DATE]
ScheduledTime = Annotated[str, _checked(values.time_of, "scheduled_time"), _TIME]
Modality = Annotated[
    str,
    _checked(values.code_string, "modality"),
    _schema(maxLength=16, pattern="^(?=.*[^ ])[A-Za-z0-9 _]+$", description="Modality (DICOM CS), such as MG."),
]
StartsAt = Annotated[
    datetime,
    BeforeValidator(_with_offset),
    _schema(
        format="date-time",
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$",
        description="ISO 8601 with an offset; wins over date and time, and can stand for them.",
    ),
]
StationAETitles = Annotated[
    list[Annotated[str, AfterValidator(values.ae_title)]],
    BeforeValidator(_one_or_many),
    _station("The stations it is for, one or a list; none: any station."),
]
Sex = Annotated[
    Annotated[str, AfterValidator(values.sex)] | None,
    BeforeValidator(_empty_is_none),
    WithJsonSchema({"enum": ["M", "F", "O", "m", "f", "o", "", None], "description": "Patient's Sex (DICOM CS)."}),
]
Description = Annotated[
    Annotated[str, _checked(values.long_string, "study_description")] | None,
    BeforeValidator(_empty_is_none),
    _maybe(64, "Requested Procedure Description (DICOM LO)."),
]
Code = Annotated[
    Annotated[str, _checked(values.short_string, "procedure_code")] | None,
    BeforeValidator(_empty_is_none),
    _maybe(16, "Code Value (DICOM SH)."),
]
CodeScheme = Annotated[
    Annotated[str, _checked(values.short_string, "procedure_code_scheme")] | None,
    BeforeValidator(_empty_is_none),
    _maybe(16, "Coding Scheme Designator (DICOM SH); without it a code is not shown to modalities."),
]
CodeMeaning = Annotated[
    Annotated[str, _checked(values.long_string, "procedure_code_meaning")] | None,
    BeforeValidator(_empty_is_none),
    _maybe(64, "Code Meaning (DICOM LO)."),
]
Location = Annotated[
    Annotated[str, _checked(values.short_string, "location")] | None,
    BeforeValidator(_empty_is_none),
    _maybe(16, "Scheduled Procedure Step Location (DICOM SH)."),
]
Physician = Annotated[
    Annotated[str, _checked(values.person_name, "performing_physician")] | None,
    BeforeValidator(_empty_is_none),
    _person_name("Scheduled Performing Physician's Name (DICOM PN).", "string", "null", filled=False),
]
_STATUS_WORDS = "|".join(
    "".join(f"[{sign}{sign.lower()}]" if sign.isalpha() else "[ _]" for sign in status) for status in Status
)
StatusWord = Annotated[
    str,
    AfterValidator(status_of),
    _schema(pattern=f"^({_STATUS_WORDS})$", description="In any case, with a blank or an underscore."),
]
ActionId = Annotated[
    str,
    _schema(
        minLength=1,
        maxLength=ACTION_ID_LIMIT,
        pattern=r"^(?=.*[^ ])[\x20-\x7e]+$",
        description="Yours, and new for each action; the same again only to repeat it. A UUID is best.",
    ),
]
SchemaVersion = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["number", "string"],
            "minimum": 1,
            "exclusiveMaximum": 2,
            "pattern": r"^1(\.|$)",
            "description": "1, or 1 with a minor number; absent: 1.",
        }
    ),
]


def _unread(description: str) -> WithJsonSchema:
    return WithJsonSchema({"description": f"{description} Kept with the message; the gateway does not read it."})


def _given(*names: str) -> JsonDict:
    return {"required": [*names], "properties": {name: {"type": "string"} for name in names}}


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Action(_Message):
    """What every worklist action has around its item."""

    schema_version: SchemaVersion = 1
    action_id: ActionId
    timestamp: Annotated[Any, _unread("When it was sent.")] = None
    source_system: Annotated[Any, WithJsonSchema({"description": "Who sent it. Kept with the message."})] = None
    source_reference: Annotated[Any, _unread("Your own keys, such as appointment_id.")] = None


class Participant(_Message):
    """Who comes."""

    nhs_number: PatientId
    name: PersonName
    birth_date: BirthDate
    sex: Sex = None


class Scheduled(_Message):
    """When and where. `starts_at` wins over `date` and `time`, and can stand for them."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_given("date", "time"), _given("starts_at")]})

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
    status: StatusWord

    def wanted(self) -> Status:
        """The status."""
        return Status(self.status)


class ItemToCancel(_Message):
    """The worklist item of a cancel action."""

    accession_number: AccessionNumber
    reason: Annotated[str, Field(max_length=_REASON_LIMIT)] | None = None


class CreateParameters(_Message):
    """The parameters of a create action."""

    worklist_item: ItemToCreate


class UpdateParameters(_Message):
    """The parameters of an update action."""

    worklist_item: ItemToUpdate


class StatusParameters(_Message):
    """The parameters of a status action."""

    worklist_item: ItemWithStatus


class CancelParameters(_Message):
    """The parameters of a cancel action."""

    worklist_item: ItemToCancel


class CreateItem(_Action):
    """`worklist.create_item`: an appointment; `worklist.create_test_item`: one that only a rehearsal is shown."""

    action_type: Literal["worklist.create_item", "worklist.create_test_item"]
    parameters: CreateParameters


class UpdateItem(_Action):
    """`worklist.update_item`: amend or reschedule an item that is SCHEDULED; what is absent stays, null clears."""

    action_type: Literal["worklist.update_item"]
    parameters: UpdateParameters


class UpdateStatus(_Action):
    """`worklist.update_status`: the web app says what became of an item; it gets no status event of it."""

    action_type: Literal["worklist.update_status"]
    parameters: StatusParameters


class CancelItem(_Action):
    """`worklist.cancel_item`: withdraw an item that is SCHEDULED."""

    action_type: Literal["worklist.cancel_item"]
    parameters: CancelParameters


class Echo(_Message):
    """`echo`: proves the way to the gateway and back; touches nothing. Every key comes back."""

    action_type: Literal["echo"]


class AskHealth(_Message):
    """`health`: how the gateway is."""

    action_type: Literal["health"]
    action_id: Annotated[Any, WithJsonSchema({"description": "Comes back, where it is a text."})] = None


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
