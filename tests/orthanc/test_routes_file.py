"""The file of routes: which studies fit a rule, and what is said of a file that can't be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.synthetic import study
from gateway.domain.received_study import Route, Series
from gateway.errors import SettingsInvalid
from gateway.orthanc import routes
from gateway.orthanc.routes import RoutesInvalid

SAMPLE = Path(__file__).parents[2] / "docs" / "routes.sample.toml"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(text: str) -> routes.Rules:
        file = tmp_path / "routes.toml"
        file.write_text(text, encoding="utf-8")
        return routes.load(file)

    return load


def test_the_sample_in_the_documentation_is_a_file_that_can_be_used() -> None:
    assert [rule.name for rule in routes.load(SAMPLE).rules] == ["mammograms to the PACS", "second reading"]


def test_without_a_file_nothing_is_sent_on() -> None:
    assert routes.load(None).routes_of(study()) == []


def test_a_rule_that_asks_nothing_fits_every_study(load: Any) -> None:
    assert load('[[route]]\nto = "PACS"\n').routes_of(study()) == [Route(rule="route 1", target="PACS")]


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ('modality = "MG"', True),
        ('modality = ["CT", "US"]', False),
        ('station = "MAMMO1"', True),
        ('station = "MAMMO2"', False),
        ('description = "*MAMMO*"', True),
        ('description = "bilateral mammograph?"', True),
        ('description = "mammo"', False),
        ('modality = "MG"\nstation = "MAMMO2"', False),
    ],
)
def test_a_study_fits_when_it_fits_all_that_the_rule_asks(load: Any, asked: str, *, fits: bool) -> None:
    assert bool(load(f'[[route]]\nto = "PACS"\n{asked}\n').routes_of(study())) is fits


def test_one_series_of_the_modality_is_enough(load: Any) -> None:
    series = [Series(series_instance_uid=f"1.2.{n}", modality=m, instances=1) for n, m in enumerate(("SR", "MG"))]
    mixed = study(series=tuple(series))
    assert load('[[route]]\nto = "PACS"\nmodality = "MG"\n').routes_of(mixed)


def test_a_study_goes_once_to_each_modality_of_all_rules_that_it_fits(load: Any) -> None:
    rules = load('[[route]]\nname = "a"\nto = ["PACS", "X"]\n[[route]]\nname = "b"\nto = ["X", "Y"]\n')
    found = [(route.rule, route.target) for route in rules.routes_of(study())]
    assert found == [("a", "PACS"), ("a", "X"), ("b", "Y")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[route]]\n", "[[route]] 1 to: is missing: where is the study to be sent?"),
        ('[[route]]\nname = "a"\nto = []\n', "[[route]] 1 (a) to: must name a modality that Orthanc knows"),
        ('[[route]]\nto = "my pacs"\n', "[[route]] 1 to: 'my pacs' is no name of a modality in Orthanc"),
        ('[[route]]\nto = "PACS"\nmodality = "mg"\n', "[[route]] 1 modality: 'mg' is no modality such as MG"),
        ('[[route]]\nto = "PACS"\nstation = "A\\\\B"\n', "[[route]] 1 station: 'A\\\\B' is no AE title"),
        ('[[route]]\nto = "PACS"\nstations = "A"\n', "[[route]] 1 stations: there is no such key; is station meant?"),
        ('[[route]]\nto = "PACS"\nx = 1\n', "[[route]] 1 x: there is no such key; a rule has to, name, modality,"),
        ("[[route]]\nto = 7\n", "[[route]] 1 to: must be a text in quotes, or a list of such in [brackets]"),
        ('[[route]]\nto = "P"\ndescription = ""\n', "[[route]] 1 description: must not be empty: leave the key out"),
        ('[[routes]]\nto = "P"\n', "routes: there is no such table; [[route]] is meant?"),
        ('[route]\nto = "P"\n', "route: is written [[route]], once for each rule"),
        ('[[route]]\nto = "P"\n[[route]]\n', "[[route]] 2 to: is missing"),
        ('[[route]]\nname = "a"\nto = "P"\n' * 2, "[[route]] a: 2 rules have this name"),
        ("to = \n", "is no TOML: Invalid value (at line 1, column 6)"),
    ],
)
def test_what_is_wrong_is_said_by_rule_and_key_with_what_to_write(load: Any, text: str, said: str) -> None:
    with pytest.raises(RoutesInvalid) as refused:
        load(text)
    assert said in str(refused.value)
    assert isinstance(refused.value, SettingsInvalid)
    assert "gateway routes check FILE" in refused.value.remedy


def test_all_problems_are_said_at_once(load: Any) -> None:
    with pytest.raises(RoutesInvalid) as refused:
        load('[[route]]\nto = "my pacs"\nmodality = "mg"\n[[route]]\n')
    assert len(refused.value.problems) == 3


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RoutesInvalid, match="can't be read: No such file"):
        routes.load(tmp_path / "routes.toml")
