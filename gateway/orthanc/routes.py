"""Which studies are sent on, and where to: rules that a site writes into one TOML file (`GATEWAY_ROUTES_FILE`).

One `[[route]]` for each rule. A study fits it when it fits all that the rule says; it is sent to the modalities of
every rule that it fits, to each once. Names in `to` are Orthanc's (`DicomModalities`).
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway import toml_file
from gateway.domain import values
from gateway.domain.received_study import Route, StudyReport
from gateway.errors import InvalidValue, SettingsInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. What is () or "" asks nothing.

    `modalities` are compared with each series' modality, `stations` with the AE title that sent the study, and
    `description`, a pattern with `*` and `?`, with the Study Description, whatever the case.
    """

    name: str
    to: tuple[str, ...]
    modalities: tuple[str, ...] = ()
    stations: tuple[str, ...] = ()
    description: str = ""

    def fits(self, study: StudyReport) -> bool:
        """Whether the study is to be sent by this rule."""
        return (
            (not self.modalities or not set(self.modalities).isdisjoint(study.modalities))
            and (not self.stations or study.station_ae_title in self.stations)
            and (not self.description or _is_like(study.study_description, self.description))
        )


def _is_like(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text.casefold(), pattern.casefold().replace("[", "[[]"))


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a site."""

    rules: tuple[Rule, ...] = ()

    def routes_of(self, study: StudyReport) -> list[Route]:
        """Where a study is to be sent, each modality once, by the first rule that names it."""
        found: dict[str, Route] = {}
        for rule in self.rules:
            for target in rule.to if rule.fits(study) else ():
                found.setdefault(target, Route(rule=rule.name, target=target))
        return list(found.values())

    @property
    def targets(self) -> tuple[str, ...]:
        """Every modality that a rule names."""
        return tuple(dict.fromkeys(target for rule in self.rules for target in rule.to))


NOWHERE = Rules()
"""Without a file nothing is sent on."""


class RoutesInvalid(SettingsInvalid):
    """The file of routes can't be used; `problems` tells each place with what is wrong there."""

    def __init__(self, problems: Sequence[str], path: Path) -> None:
        super().__init__(
            f"GATEWAY_ROUTES_FILE: {path}: {'; '.join(problems)}",
            remedy="correct it; gateway routes check FILE checks it",
        )
        self.problems = tuple(problems)


def load(path: Path | None) -> Rules:
    """The rules that a file holds; without one nothing is sent on. Raises `RoutesInvalid` with all problems at once."""
    if path is None:
        return NOWHERE
    try:
        content = toml_file.read(path)
    except ValueError as error:
        raise RoutesInvalid([str(error)], path) from None
    problems: list[str] = []
    file = None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        problems += [_problem(found, content) for found in error.errors()]
    problems += _twice(content)
    if problems or file is None:
        raise RoutesInvalid(problems, path)
    return Rules(tuple(entry.rule(number) for number, entry in enumerate(file.route, 1)))


def _ae_title(text: str) -> str:
    try:
        return values.ae_title(text)
    except InvalidValue:
        raise ValueError(f"{text!r} is no AE title: 1 to 16 ASCII characters without backslash") from None


def _modality(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", text):
        raise ValueError(f"{text!r} is no modality such as MG: capital letters (PS3.3 C.7.3.1.1.1)")
    return text


def _target(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise ValueError(f"{text!r} is no name of a modality in Orthanc: letters, digits, - and _")
    return text


class _Route(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    to: Annotated[list[Annotated[str, AfterValidator(_target)]], Field(min_length=1)]
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    modality: list[Annotated[str, AfterValidator(_modality)]] = []
    station: list[Annotated[str, AfterValidator(_ae_title)]] = []
    description: Annotated[str, Field(min_length=1, max_length=64)] = "*"

    @field_validator("to", "modality", "station", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        """One text stands for a list of one."""
        return [value] if isinstance(value, str) else value

    def rule(self, number: int) -> Rule:
        return Rule(
            name=self.name or f"route {number}",
            to=tuple(dict.fromkeys(self.to)),
            modalities=tuple(self.modality),
            stations=tuple(self.station),
            description="" if self.description == "*" else self.description,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    route: list[_Route] = []


_WORDS = {
    "missing": "is missing: where is the study to be sent?",
    "string_type": "must be a text in quotes",
    "list_type": "must be a text in quotes, or a list of such in [brackets]",
    "model_type": "must be a table",
    "too_short": "must name a modality that Orthanc knows (DicomModalities)",
    "string_too_short": "must not be empty: leave the key out",
    "string_too_long": "must have at most 64 characters",
}


def _problem(error: Any, content: dict[str, Any]) -> str:  # noqa: ANN401  pydantic's own type is a dictionary of its own
    """One sentence: which rule, which key, what is wrong and what to write."""
    table, *rest = (str(part) for part in error["loc"])
    if table != "route":
        near = " [[route]] is meant?" if difflib.get_close_matches(table, ["route", "routes"], n=1) else ""
        return f"{table}: there is no such table;{near or ' rules are written [[route]], once for each'}"
    if not rest:
        return "route: is written [[route]], once for each rule"
    number = int(rest[0])
    key = rest[1] if len(rest) > 1 else ""
    return f"{_rule_name(number, content['route'][number])}{f' {key}' if key else ''}: {_words(error, key)}"


def _rule_name(number: int, entry: object) -> str:
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"[[route]] {number + 1}{f' ({name})' if isinstance(name, str) else ''}"


def _words(error: Any, key: str) -> str:  # noqa: ANN401
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _Route.model_fields, n=1)
        meant = f"is {near[0]} meant?" if near else f"a rule has {', '.join(_Route.model_fields)}"
        return f"there is no such key; {meant}"
    return _WORDS.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")


def _twice(content: dict[str, Any]) -> Iterator[str]:
    """Names that more than one rule has: what became of a route is told by its rule's name."""
    entries = content.get("route")
    found = [entry.get("name") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    for name, times in Counter(name for name in found if isinstance(name, str)).items():
        if times > 1:
            yield f"[[route]] {name}: {times} rules have this name"
