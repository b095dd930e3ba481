"""docker-compose.yml says what compose understands, and names only verbs that the command line has."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.testing
import yaml

from gateway.cli import app
from gateway.settings import Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SCHEMA = json.loads(Path(__file__).with_name("compose").joinpath("compose-spec.json").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "worklist-gateway"}
DEMO = {name: service for name, service in SERVICES.items() if "demo" in service.get("profiles", [])}


def options_of(command: list[str]) -> set[str]:
    return {word for word in command if word.startswith("--")}


def verbs_of(command: list[str]) -> list[str]:
    """The words before the first option or argument in capitals, digits or other values."""
    first = next((n for n, word in enumerate(command) if not re.fullmatch(r"[a-z][a-z-]*", word)), len(command))
    return command[:first]


def test_the_file_is_valid_by_the_compose_schema() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(COMPOSE)


def test_the_schema_would_notice_a_misspelling() -> None:
    broken = {"services": {"gateway": {"image": "x", "restrat": "always"}}}
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        jsonschema.Draft202012Validator(SCHEMA).validate(broken)


@pytest.mark.parametrize("name", [name for name in sorted(SERVICES) if "command" in SERVICES[name]])
def test_each_command_is_one_that_the_command_line_has(name: str) -> None:
    command = [str(word) for word in SERVICES[name]["command"]]
    told = typer.testing.CliRunner().invoke(app, [*verbs_of(command), "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert told.exit_code == 0, told.output
    assert "Usage:" in told.output
    shown = set(re.findall(r"--[a-z-]+", told.output))
    assert options_of(command) <= shown, f"gateway {shlex.join(command)}"


def test_a_service_without_a_command_runs_the_image_s_own() -> None:
    assert {name for name, service in OURS.items() if "command" not in service} == {"gateway", "demo-gateway"}


def test_only_the_gateway_and_orthanc_run_unless_the_demo_is_asked_for() -> None:
    assert set(SERVICES) - set(DEMO) == {"gateway", "orthanc"}
    assert {"relay", "web-app", "modality"} <= set(DEMO)


def test_the_site_s_database_is_on_a_named_volume_and_the_demo_never_touches_it() -> None:
    assert SERVICES["gateway"]["volumes"][0] == "gateway-data:/data"
    assert "gateway-data" in COMPOSE["volumes"]
    assert not any("volumes" in service or "env_file" in service for service in DEMO.values())


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_service_may_do_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_variable_that_is_set_is_a_setting(name: str) -> None:
    known = {field.upper() for field in Settings.model_fields}
    assert set(SERVICES[name].get("environment", {})) <= known


def test_env_example_has_each_setting_once() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    named = [match[1] for line in lines if (match := re.fullmatch(r"#?([A-Z_]+)=.*", line))]
    assert sorted(named) == sorted(field.upper() for field in Settings.model_fields)


def test_env_example_as_it_stands_is_a_working_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    settings = load(ROOT / ".env.example")
    unset = load(None)
    assert settings.model_dump() == unset.model_dump() | {"gateway_scheduled_times": "local"}


def test_the_defaults_that_env_example_shows_are_the_defaults() -> None:
    shown = re.findall(r"^#([A-Z_]+)=(.+)$", (ROOT / ".env.example").read_text(encoding="utf-8"), flags=re.MULTILINE)
    values = {name: value for name, value in shown if not name.startswith("AZURE_RELAY_")}
    told = load(None, **{name.lower(): value for name, value in values.items()}).model_dump()
    assert told == load(None).model_dump()


@pytest.mark.parametrize(
    "variable",
    [
        "GATEWAY_RELAY_CA_FILE",
        "GATEWAY_MODALITIES_FILE",
        "GATEWAY_ROUTES_FILE",
        "GATEWAY_DICOM_TLS_CERT",
        "GATEWAY_DICOM_TLS_KEY",
        "GATEWAY_DICOM_TLS_CA",
    ],
)
def test_a_file_of_the_host_s_can_be_read_and_not_written_in_the_container(variable: str) -> None:
    gateway = SERVICES["gateway"]
    source = "${" + variable + ":-/dev/null}"
    [mount] = [each for each in gateway["volumes"] if isinstance(each, dict) and each["source"] == source]
    assert mount["read_only"]
    assert gateway["environment"][variable] == "${" + variable + ":+" + mount["target"] + "}"


def test_a_file_of_authorities_that_is_set_to_nothing_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_RELAY_CA_FILE", "")
    assert load(None).gateway_relay_ca_file is None
