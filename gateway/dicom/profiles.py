"""How each modality is served: whether it may call, and what its machine needs.

A profile holds what a site decides; everything has a default that suits a unit nobody has described. The site writes
them into one TOML file (`GATEWAY_MODALITIES_FILE`): `[default]` for everybody, one `[[modality]]` for each unit.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydicom.datadict import tag_for_keyword

from gateway import toml_file
from gateway.dicom.character_sets import SPECIFIC_CHARACTER_SET, CharacterSet
from gateway.domain import values
from gateway.errors import InvalidValue, SettingsInvalid

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one modality is served."""

    ae_title: str = ""
    """Its own AE title; "" in the profile of those that have none."""
    addresses: tuple[Network, ...] = ()
    """Where it may call from; none: anywhere."""
    admitted: bool = True
    stations: tuple[str, ...] = ()
    """Station AE titles that stand for its own: a key that names one of the group finds the items of all."""
    only_own_stations: bool = False
    """A query that leaves the station open is shown the items of its group only."""
    items_without_station: bool = True
    """Whether an item without a station is for this unit too (design §3.15)."""
    character_set: str = ""
    """The Specific Character Set of queries that declare none, such as `ISO_IR 100`; "" is ASCII."""
    reads_utf8: bool = False
    """Whether it is known to read ISO_IR 192 although it asks in another set."""
    answer_limit: int | None = None
    """At most so many answers to one query."""
    limit_status: Literal["out-of-resources", "success"] = "out-of-resources"
    """How a list that was cut ends: 0xA700, or 0x0000 for units that drop the list otherwise."""
    omit_keys: tuple[int, ...] = ()
    """Tags that it can't stand in an answer, even if it asks for them."""

    @property
    def group(self) -> tuple[str, ...]:
        """The station AE titles that stand for one another: its own, and `stations`."""
        own = (self.ae_title,) if self.ae_title else ()
        return tuple(dict.fromkeys((*own, *self.stations)))


DEFAULT = Profile()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an association is not accepted: `source` and `reason` of the A-ASSOCIATE-RJ (PS3.8 9.3.4); it is permanent.

    `why` and `remedy` are for the site's people.
    """

    why: str
    remedy: str
    source: int = 1
    """The service user."""
    reason: int = 3
    """Calling AE title not recognized."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """The profiles of a site. `default` is for those that have no entry, `strangers`; without a file everybody is."""

    default: Profile = DEFAULT
    modalities: tuple[Profile, ...] = ()
    strangers_admitted: bool = True

    def of(self, ae_title: str) -> Profile:
        """The profile of a calling AE title."""
        return self._entry(ae_title) or replace(self.default, ae_title=ae_title)

    def rejection(self, ae_title: str, address: str) -> Rejection | None:
        """Why an association from there is not accepted; None when it is."""
        profile = self._entry(ae_title)
        if profile is None and not self.strangers_admitted:
            return Rejection(
                "the calling AE title is not in the list of modalities",
                f"{ae_title} is not in GATEWAY_MODALITIES_FILE: add it there if it is one of yours",
            )
        profile = profile or self.default
        if not profile.admitted:
            return Rejection(
                "the list of modalities does not admit the calling AE title",
                f"{ae_title} has admitted = false in GATEWAY_MODALITIES_FILE",
            )
        if profile.addresses and not _within(address, profile.addresses):
            return Rejection(
                "the calling AE title may not call from this address",
                f"{ae_title} may not call from {address}: see addresses in GATEWAY_MODALITIES_FILE",
            )
        return None

    def _entry(self, ae_title: str) -> Profile | None:
        return next((profile for profile in self.modalities if profile.ae_title == ae_title), None)


EVERYBODY = Profiles()
"""Without a file: all are admitted and served alike."""


def _within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks; what is no address is in none."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped:  # how a socket for both shows an IPv4 peer
        found = found.ipv4_mapped
    return any(found in network for network in networks)


# --- the file


class ModalitiesInvalid(SettingsInvalid):
    """The file of modalities can't be used; `problems` tells each place with what is wrong there."""

    def __init__(self, problems: Sequence[str], path: Path) -> None:
        super().__init__(
            f"GATEWAY_MODALITIES_FILE: {path}: {'; '.join(problems)}",
            remedy="correct it; gateway config modalities checks it",
        )
        self.problems = tuple(problems)


def load(path: Path | None) -> Profiles:
    """The profiles that a file holds; without one everybody is admitted.

    Raises `ModalitiesInvalid` with all problems at once.
    """
    if path is None:
        return EVERYBODY
    try:
        content = toml_file.read(path)
    except ValueError as error:
        raise ModalitiesInvalid([str(error)], path) from None
    problems: list[str] = []
    file = None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        problems += [_problem(found, content) for found in error.errors()]
    problems += _twice(content)
    if problems or file is None:
        raise ModalitiesInvalid(problems, path)
    return file.profiles()


def _ae_title(text: str) -> str:
    try:
        title = values.ae_title(text)
    except InvalidValue:
        raise ValueError("must be an AE title: 1 to 16 ASCII characters without backslash") from None
    if title != text:
        raise ValueError("must not begin or end with a space")
    return title


def _network(text: object) -> object:
    if not isinstance(text, str):
        raise ValueError("must be addresses in quotes")  # noqa: TRY004  pydantic takes ValueError
    try:
        return ip_network(text)
    except ValueError:
        hint = "; its bits beyond the network must be 0" if re.fullmatch(r"[0-9a-fA-F.:]+/[0-9]+", text) else ""
        raise ValueError(f"{text} is no address such as 10.1.2.3, and no network such as 10.1.2.0/24{hint}") from None


def _character_set(text: str) -> str:
    if text and not CharacterSet.of(text).is_known:
        raise ValueError(f"{text} is no Specific Character Set, such as ISO_IR 100 or ISO_IR 192")
    return text


def _tag(text: object) -> object:
    """A tag by its keyword, as `(gggg,eeee)` or `gggg,eeee`."""
    if not isinstance(text, str):
        raise ValueError("must be keywords or tags in quotes")  # noqa: TRY004  pydantic takes ValueError
    numbers = re.fullmatch(r"\(?([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)?", text)
    tag = int(numbers[1] + numbers[2], 16) if numbers else tag_for_keyword(text)
    if tag is None:
        raise ValueError(f"{text} is no keyword of DICOM and no tag such as 0040,0008")
    if tag == SPECIFIC_CHARACTER_SET:
        raise ValueError("SpecificCharacterSet can't be left out: it tells how to read the answer")
    return tag


_AETitle = Annotated[str, AfterValidator(_ae_title)]


class _Table(BaseModel):
    """What `[default]` may say, and each `[[modality]]` too. None: not said."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    addresses: list[Annotated[Network, BeforeValidator(_network)]] | None = None
    stations: list[_AETitle] | None = None
    only_own_stations: bool | None = None
    items_without_station: bool | None = None
    character_set: Annotated[str, AfterValidator(_character_set)] | None = None
    reads_utf8: bool | None = None
    answer_limit: Annotated[int, Field(ge=1)] | None = None
    limit_status: Literal["out-of-resources", "success"] | None = None
    omit_keys: list[Annotated[int, BeforeValidator(_tag)]] | None = None

    def over(self, inherited: Profile) -> Profile:
        """The profile with what this table says."""
        said: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self if value is not None
        }
        return replace(inherited, **said)


class _Modality(_Table):
    ae_title: _AETitle
    admitted: bool | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    strangers: Literal["admitted", "refused"] | None = None
    default: _Table = _Table()
    modality: list[_Modality] = []

    def profiles(self) -> Profiles:
        default = self.default.over(DEFAULT)
        strangers = self.strangers or ("refused" if self.modality else "admitted")
        modalities = tuple(entry.over(default) for entry in self.modality)
        return Profiles(default, modalities, strangers == "admitted")


_KEYS: dict[str, type[BaseModel]] = {"": _File, "default": _Table, "modality": _Modality}
_WORDS = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "string_type": "must be a text in quotes",
    "list_type": "must be a list in [brackets]",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "greater_than_equal": "must be at least 1",
}


def _problem(error: Any, content: dict[str, Any]) -> str:  # noqa: ANN401  pydantic's own type is a dictionary of its own
    """One sentence: table or entry, key, what is wrong."""
    table, *rest = (str(part) for part in error["loc"])
    if table not in ("default", "modality"):
        return f"{table}: {_words(error, table, '')}"
    place = f"[{table}]"
    if table == "modality" and rest:
        number = int(rest.pop(0))
        place = _entry_name(number, content["modality"][number])
    key = rest[0] if rest else ""
    return f"{place}{f' {key}' if key else ''}: {_words(error, key, table)}"


def _entry_name(number: int, entry: object) -> str:
    title = entry.get("ae_title") if isinstance(entry, dict) else None
    return f"[[modality]] {number + 1}{f' ({title})' if isinstance(title, str) else ''}"


def _words(error: Any, key: str, table: str) -> str:  # noqa: ANN401
    kind = error["type"]
    if kind == "extra_forbidden" and not table and key in _Table.model_fields:
        return "belongs under [default] or a [[modality]]"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, _KEYS[table].model_fields, n=1)
        return f"there is no such key{f'; is {near[0]} meant?' if near else ''}"
    if kind == "list_type" and not key:
        return "is written [[modality]], once for each unit"
    if kind == "literal_error":
        return f"must be {error['ctx']['expected']}"
    return _WORDS.get(kind) or str(error["msg"]).removeprefix("Value error, ")


def _twice(content: dict[str, Any]) -> Iterator[str]:
    """AE titles that have more than one entry."""
    entries = content.get("modality")
    found = [entry.get("ae_title") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    for title, times in Counter(title for title in found if isinstance(title, str)).items():
        if times > 1:
            yield f"[[modality]] {title}: has {times} entries"
