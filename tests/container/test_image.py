"""The image is built from its Dockerfile and run: it does what the service does anywhere, as nobody special."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.settings import Settings, load
from tests.container.building import Image
from tests.container.running import Container, new_volume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Start = Callable[..., Container]
ADD = (
    *("gateway", "worklist", "add", "KEPT1", "--patient-id", "9990000018", "--patient-name", "VOLUME^VERA"),
    *("--patient-birth-date", "19700101", "--scheduled-time", "101500"),
)
ELSEWHERE = "127.0.0.2"  # answers only if the service listens at every address, not just at 127.0.0.1


@pytest.fixture
def volume(image: Image, tmp_path: Path) -> Path:
    return new_volume(image, "/data", tmp_path / "volume")


@pytest.fixture
def gateway(start: Start, volume: Path) -> Container:
    container = start("gateway", volumes={"/data": volume})
    container.until_healthy()
    return container


def echo(container: Container, title: str = "ORTHANC_MWL") -> bool:
    return container.from_outside("/usr/bin/echoscu", "-aec", title, ELSEWHERE, "4243").returncode == 0


def health(container: Container) -> tuple[int, dict[str, object]]:
    script = (
        "import urllib.request as r; a = r.build_opener(r.ProxyHandler({})).open('http://"
        f"{ELSEWHERE}:8080/health', timeout=5); print(a.status); print(a.read().decode())"
    )
    told = container.from_outside("python3", "-c", script)
    assert told.returncode == 0, told.stderr
    status, _, body = told.stdout.partition("\n")
    return int(status), json.loads(body)


def status_of(container: Container) -> dict[str, str]:
    lines = Path(f"/proc/{container.pid}/status").read_text().splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


def test_it_answers_echo_and_health(gateway: Container) -> None:
    assert echo(gateway)
    assert not echo(gateway, "SOMEBODY_ELSE")
    status, body = health(gateway)
    assert status == 200
    assert body


def test_it_runs_as_nobody_special(gateway: Container) -> None:
    told = status_of(gateway)
    assert set(told["Uid"].split()) == {str(gateway.user)}
    assert gateway.user >= 10000
    assert set(told["Gid"].split()) != {"0"}
    assert int(told["CapEff"], 16) == 0
    assert told["NSpid"].split()[-1] == "1"
    assert gateway.execute("sh", "-c", "touch /opt/gateway/x").returncode != 0


def test_sigterm_ends_it_cleanly_within_seconds(gateway: Container) -> None:
    began = time.monotonic()
    assert gateway.stop(seconds=10) == 0, gateway.log
    assert time.monotonic() - began < 5


def test_the_volume_keeps_the_worklist_over_a_new_container(start: Start, gateway: Container, volume: Path) -> None:
    added = gateway.execute(*ADD)
    assert added.returncode == 0, added.stdout + added.stderr
    assert gateway.stop() == 0
    again = start("gateway-again", volumes={"/data": volume})
    again.until_healthy()
    found = again.from_outside(
        *("/usr/bin/findscu", "-W", "-aec", "ORTHANC_MWL", "-k", "AccessionNumber", "-k", "PatientName"),
        *("-k", "ScheduledProcedureStepSequence[0].Modality=MG", ELSEWHERE, "4243"),
    )
    assert "KEPT1" in found.stdout + found.stderr, found.stdout + found.stderr
    assert "KEPT1" in again.execute("gateway", "worklist", "list", "--json").stdout


def test_a_kill_loses_nothing_either(start: Start, gateway: Container, volume: Path) -> None:
    assert gateway.execute(*ADD).returncode == 0
    gateway.crun("kill", gateway.name, "KILL")
    assert gateway.wait(seconds=10) == 137
    again = start("gateway-again", volumes={"/data": volume})
    again.until_healthy()
    assert "KEPT1" in again.execute("gateway", "worklist", "list", "--json").stdout
    assert again.execute("gateway", "projections", "verify").returncode == 0


def test_the_health_check_fails_when_nobody_answers(gateway: Container) -> None:
    assert gateway.is_healthy()
    assert not gateway.is_healthy(environment={"GATEWAY_OPS_PORT": "9"})


def test_a_volume_that_cannot_be_written_is_told(start: Start, image: Image, tmp_path: Path) -> None:
    folder = new_volume(image, "/data", tmp_path / "foreign")
    folder.chmod(0o755)
    os.chown(folder, 0, 0)
    container = start("gateway", volumes={"/data": folder})
    assert container.wait(seconds=10) == 1
    assert "/data/gateway.db" in container.log
    assert "Traceback" not in container.log


def test_it_starts_fast_enough_to_be_restarted_without_a_thought(start: Start, volume: Path) -> None:
    began = time.monotonic()
    container = start("gateway", volumes={"/data": volume})
    container.until_healthy()
    assert time.monotonic() - began < 5


def test_the_image_says_what_it_is(image: Image) -> None:
    config = image.config
    labels = {name.rsplit(".", 1)[-1]: value for name, value in config["Labels"].items() if "opencontainers" in name}
    assert labels["title"] == "worklist-gateway"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == "0.0.0+test"
    assert config["Entrypoint"] == ["gateway"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", config["User"])
    assert set(config["Volumes"]) == {"/data"}


def test_its_ports_and_variables_are_the_settings(image: Image) -> None:
    defaults = load(None)
    within_tls = 2762  # the registered one; the gateway has none by default
    ports = {f"{port}/tcp" for port in (defaults.gateway_dicom_port, within_tls, defaults.gateway_ops_port)}
    assert set(image.config["ExposedPorts"]) == ports
    ours = {
        name
        for name in (pair.split("=")[0] for pair in image.config["Env"])
        if re.match("GATEWAY|WORKLIST|AZURE", name)
    }
    assert ours <= {field.upper() for field in Settings.model_fields}


def test_it_holds_the_service_and_neither_its_tests_nor_the_tools_that_made_it(image: Image) -> None:
    library = next((image.files / "opt/gateway/lib").glob("python3.*/site-packages"))
    present = {path.name.split("-")[0].lower() for path in library.iterdir()}
    assert {"gateway", "relay", "projections", "pynetdicom", "worklist_gateway"} <= present
    assert not {"tests", "bench", "pip", "setuptools", "hatchling", "pytest"} & present
    assert not (image.files / "src").exists()
    assert not (image.files / "dist").exists()
    settings = image.files / "etc/pip.conf"
    assert not settings.exists() or settings.stat().st_size == 0, "the builder's pip configuration went into the image"


def test_every_module_is_compiled_so_that_a_read_only_start_compiles_nothing(gateway: Container) -> None:
    script = (
        "import sys, gateway.service, os; print([m.__name__ for m in list(sys.modules.values()) if "
        "getattr(m, '__cached__', None) and not os.path.exists(m.__cached__)])"
    )
    assert gateway.execute("python", "-c", script).stdout.strip() == "[]"
